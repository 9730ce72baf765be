--------------------------------- MODULE Hlc ---------------------------------
(***************************************************************************)
(* Hybrid logical clocks (Kulkarni, Demirbas, Madeppa, Avva and Leone,     *)
(* "Logical physical clocks", OPODIS 2014, figure 5) over skewed wall      *)
(* clocks, with crashes, lost messages and cut-off nodes.                  *)
(*                                                                         *)
(* A stamp is a pair <<l, c>>: the largest wall-clock reading heard of,    *)
(* and a counter for what shares it.  A node forces every stamp that it    *)
(* sends to disk before the message leaves (in practice the stamp stands   *)
(* in the log record that the message speaks of), and raises its clock to  *)
(* it when it restarts.  What it only received is lost in a crash, and     *)
(* with it whatever could have depended on it.                             *)
(***************************************************************************)
EXTENDS Naturals

CONSTANTS
    Count,          \* how many nodes there are
    MaxTime,        \* the last reading of a wall clock
    Skew,           \* how far the wall clocks really run apart
    Eps,            \* how far they are said to run apart, at most
    MaxSends,       \* how many messages a behaviour contains
    MaxStepsBack,   \* how often a wall clock may be set back
    MaxCrashes,     \* how many crashes there may be
    MaxLosses,      \* how many messages may be lost on links that are not cut
    MaxCuts         \* how many times a node may be cut off

VARIABLES
    pt,         \* the wall clocks
    clock,      \* the hybrid clocks: the last stamp made.  Volatile.
    floor,      \* durable: the last stamp sent
    past,       \* history: the largest stamp in the causal past of each node
    net,        \* the messages in flight
    down,       \* the nodes that are down
    cut,        \* the nodes that are cut off
    budget      \* what may still happen

vars == <<pt, clock, floor, past, net, down, cut, budget>>

Nodes == 1..Count
Max(a, b) == IF a > b THEN a ELSE b

\* The lexicographic order of stamps.
Less(a, b) == a[1] < b[1] \/ (a[1] = b[1] /\ a[2] < b[2])
Later(a, b) == IF Less(a, b) THEN b ELSE a

\* Every event makes a counter grow by one at most.
Stamps == (0..MaxTime) \X (0..(2 * MaxSends))

TypeOK ==
    /\ pt \in [Nodes -> 0..MaxTime]
    /\ clock \in [Nodes -> Stamps]
    /\ floor \in [Nodes -> Stamps]
    /\ past \in [Nodes -> Stamps]
    /\ net \subseteq [from : Nodes, to : Nodes, stamp : Stamps]
    /\ down \subseteq Nodes
    /\ cut \subseteq Nodes
    /\ budget \in [send : 0..MaxSends, back : 0..MaxStepsBack, crash : 0..MaxCrashes,
                   loss : 0..MaxLosses, cut : 0..MaxCuts]

Init ==
    /\ pt = [i \in Nodes |-> 0]
    /\ clock = [i \in Nodes |-> <<0, 0>>]
    /\ floor = [i \in Nodes |-> <<0, 0>>]
    /\ past = [i \in Nodes |-> <<0, 0>>]
    /\ net = {}
    /\ down = {}
    /\ cut = {}
    /\ budget = [send |-> MaxSends, back |-> MaxStepsBack, crash |-> MaxCrashes,
                 loss |-> MaxLosses, cut |-> MaxCuts]

-----------------------------------------------------------------------------
(* Wall clocks: they run while a node is down, and no two of them are ever *)
(* further apart than Skew.                                                *)

Tick(i) ==
    /\ pt[i] < MaxTime
    /\ \A j \in Nodes : pt[i] + 1 <= pt[j] + Skew
    /\ pt' = [pt EXCEPT ![i] = @ + 1]
    /\ UNCHANGED <<clock, floor, past, net, down, cut, budget>>

SetBack(i) ==
    /\ pt[i] > 0
    /\ \A j \in Nodes : pt[j] <= pt[i] - 1 + Skew
    /\ pt' = [pt EXCEPT ![i] = @ - 1]
    /\ UNCHANGED <<clock, floor, past, net, down, cut>>

StepBack(i) ==
    /\ budget.back > 0
    /\ SetBack(i)
    /\ budget' = [budget EXCEPT !.back = @ - 1]

\* Again and again: a clock that never gets anywhere.
StepBackForever(i) == SetBack(i) /\ budget' = budget

-----------------------------------------------------------------------------
(* Figure 5.                                                               *)

\* The stamp of an event at node i that knows the stamps mine and other.
Event(i, mine, other) ==
    LET l == Max(Max(mine[1], other[1]), pt[i])
    IN  CASE l = mine[1] /\ l = other[1] -> <<l, Max(mine[2], other[2]) + 1>>
          [] l = mine[1] /\ l # other[1] -> <<l, mine[2] + 1>>
          [] l # mine[1] /\ l = other[1] -> <<l, other[2] + 1>>
          [] OTHER -> <<l, 0>>

\* Send or local event: there is no other stamp, which is as if it were our own.
Own(i) == Event(i, clock[i], clock[i])

\* Sends with whatever stamp it is given.
SendStamp(i, j, stamp) ==
    /\ i # j /\ i \notin down
    /\ budget.send > 0
    /\ clock' = [clock EXCEPT ![i] = stamp]
    /\ floor' = [floor EXCEPT ![i] = stamp]
    /\ past' = [past EXCEPT ![i] = Later(@, stamp)]
    /\ net' = net \cup {[from |-> i, to |-> j, stamp |-> stamp]}
    /\ budget' = [budget EXCEPT !.send = @ - 1]
    /\ UNCHANGED <<pt, down, cut>>

Send(i, j) == i # j /\ SendStamp(i, j, Own(i))

Take(i, m) ==
    /\ m.to = i /\ i \notin down
    /\ i \notin cut /\ m.from \notin cut
    /\ net' = net \ {m}
    /\ past' = [past EXCEPT ![i] = Later(@, m.stamp)]
    /\ UNCHANGED <<pt, floor, down, cut, budget>>

Receive(i) ==
    \E m \in net :
        /\ Take(i, m)
        /\ clock' = [clock EXCEPT ![i] = Event(i, clock[i], m.stamp)]

-----------------------------------------------------------------------------
(* Crashes and the network.                                                *)

Crash(i) ==
    /\ i \notin down
    /\ budget.crash > 0
    /\ down' = down \cup {i}
    /\ clock' = [clock EXCEPT ![i] = <<0, 0>>]
    /\ past' = [past EXCEPT ![i] = floor[i]]
    /\ budget' = [budget EXCEPT !.crash = @ - 1]
    /\ UNCHANGED <<pt, floor, net, cut>>

Restart(i) ==
    /\ i \in down
    /\ down' = down \ {i}
    /\ clock' = [clock EXCEPT ![i] = floor[i]]
    /\ UNCHANGED <<pt, floor, past, net, cut, budget>>

Lose ==
    \E m \in net :
        /\ net' = net \ {m}
        /\ IF m.from \in cut \/ m.to \in cut
           THEN budget' = budget
           ELSE /\ budget.loss > 0
                /\ budget' = [budget EXCEPT !.loss = @ - 1]
        /\ UNCHANGED <<pt, clock, floor, past, down, cut>>

Cut(i) ==
    /\ i \notin cut
    /\ budget.cut > 0
    /\ cut' = cut \cup {i}
    /\ budget' = [budget EXCEPT !.cut = @ - 1]
    /\ UNCHANGED <<pt, clock, floor, past, net, down>>

Heal(i) ==
    /\ i \in cut
    /\ cut' = cut \ {i}
    /\ UNCHANGED <<pt, clock, floor, past, net, down, budget>>

-----------------------------------------------------------------------------
Next ==
    \/ \E i \in Nodes :
        \/ Tick(i) \/ StepBack(i)
        \/ \E j \in Nodes : Send(i, j)
        \/ Receive(i)
        \/ Crash(i) \/ Restart(i)
        \/ Cut(i) \/ Heal(i)
    \/ Lose

(***************************************************************************)
(* Fairness.  Only that time passes and that nodes come back: a stamp is   *)
(* overtaken by every wall clock in the end, whether or not messages are   *)
(* delivered, so no assumption on the network is needed.  Tick of the      *)
(* slowest clock is never disabled by the others, so weak fairness says    *)
(* it; setting clocks back is paid from a budget, because a clock that is  *)
(* set back for ever need never get anywhere (MCHlcForeverBack).  Without  *)
(* fair clocks (MCHlcStopped) a node may stay in the past for ever.        *)
(***************************************************************************)
Safe == Init /\ [][Next]_vars

Back == \A i \in Nodes : WF_vars(Restart(i))

\* A wall clock may stop.
SpecStopped == Safe /\ Back

Running == \A i \in Nodes : WF_vars(Tick(i))

Spec == SpecStopped /\ Running

\* A wall clock may be set back for ever.
SpecForeverBack ==
    /\ Init /\ [][Next \/ \E i \in Nodes : StepBackForever(i)]_vars
    /\ Back /\ Running

-----------------------------------------------------------------------------
(* Safety.                                                                 *)

\* Theorem 1 (e hb f => stamp(e) < stamp(f)) for what others can see: a stamp
\* that is sent is larger than all in its causal past, its own sends included.
Causal ==
    [][\A i \in Nodes : budget'.send < budget.send /\ floor'[i] # floor[i]
           => Less(past[i], floor'[i])]_vars

\* ... and every send makes a new one.
Fresh ==
    [][budget'.send < budget.send => \E i \in Nodes : Less(floor[i], floor'[i])]_vars

\* A clock never goes backwards while its node is up, whatever its wall clock does.
Monotone ==
    [][\A i \in Nodes : i \notin down \cup down' => ~Less(clock'[i], clock[i])]_vars

\* Theorem 3, if no clock is set back: a stamp is never further ahead of the
\* wall clock than the clocks are said to run apart.
WithinEps == \A i \in Nodes : clock[i][1] <= pt[i] + Eps

-----------------------------------------------------------------------------
(* Liveness.                                                               *)

\* What the next stamp of a node would be, at least.
Now(i) == IF i \in down THEN 0 ELSE Max(clock[i][1], pt[i])

\* Every stamp that was sent is in the past of every node in the end: a
\* snapshot at it can be read anywhere.
Overtaken ==
    \A i \in Nodes : \A x \in 1..MaxTime :
        (floor[i][1] = x) ~> (\A j \in Nodes : Now(j) >= x)
=============================================================================
