------------------------------- MODULE RaftLog -------------------------------
(***************************************************************************)
(* Raft (Ongaro and Ousterhout, USENIX ATC 2014, figure 2), bounded:       *)
(* elections, replication, persistence, restart.  No snapshots and no      *)
(* change of membership.                                                   *)
(*                                                                         *)
(* An entry is the term of the leader that made it: a leader makes at most *)
(* one entry at an index, so that says which entry it is.  Term, vote and  *)
(* log are forced to disk before anybody hears of them; all else is lost   *)
(* in a crash.                                                             *)
(*                                                                         *)
(* Two simplifications, neither of which a follower can tell.  A leader    *)
(* sends from the last index that it knows to match, not from a guess that *)
(* is then corrected.  And it sends only what would tell the follower      *)
(* something: heartbeats keep timers quiet, and there are no clocks here.  *)
(*                                                                         *)
(* A request is sent again as often as messages were lost, MaxRepeats      *)
(* times more, and at will once the network is stable: so duplicates need  *)
(* no action of their own.                                                 *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Count,          \* how many servers there are
    MaxTerm,        \* the last term
    MaxEntries,     \* how many entries clients ask for
    MaxRepeats,     \* how many requests are sent again although nothing was lost
    MaxCrashes,     \* how many crashes there may be
    MaxLosses,      \* how many messages may be lost on links that are not cut
    MaxCuts,        \* how many times a server may be cut off
    Stability,      \* TRUE: the network may become stable for good
    Patience,       \* TRUE: and then election timers no longer collide
    Turns           \* how many servers take turns as candidates, 0: anybody may stand

VARIABLES
    term,       \* durable: the latest term that each server has seen
    vote,       \* durable: for whom it voted in that term, 0 for nobody
    log,        \* durable: its log
    role,       \* follower, candidate, leader.  Volatile, like the following:
    granted,    \* a candidate's votes
    match,      \* what a leader knows of each server's log
    commit,     \* how much of its log each server knows to be committed
    net,        \* the messages in flight
    down,       \* the servers that are down
    cut,        \* the servers that are cut off
    stable,     \* whether the network has become stable
    elected,    \* history: who was elected, as <<term, server>>
    chosen,     \* history: what was ever committed, as <<index, term, term in which
                \* it was first committed>>
    tried,      \* the requests that were ever sent
    budget      \* what may still happen

durable == <<term, vote, log>>
volatile == <<role, granted, match, commit>>
world == <<down, cut, stable>>
history == <<elected, chosen, tried>>
vars == <<durable, volatile, net, world, history, budget>>

Servers == 1..Count
Nobody == 0
Quorum(S) == 2 * Cardinality(S) > Count
Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b
TermAt(l, n) == IF n = 0 THEN 0 ELSE l[n]
LastTerm(i) == TermAt(log[i], Len(log[i]))

\* Section 5.4.1: whether a log that ends like this is at least as up to date.
UpToDate(lastTerm, len, i) ==
    lastTerm > LastTerm(i) \/ (lastTerm = LastTerm(i) /\ len >= Len(log[i]))

TypeOK ==
    /\ term \in [Servers -> 0..MaxTerm]
    /\ vote \in [Servers -> {Nobody} \cup Servers]
    /\ \A i \in Servers :
        /\ Len(log[i]) <= MaxEntries /\ \A n \in 1..Len(log[i]) : log[i][n] \in 1..term[i]
        /\ commit[i] \in 0..Len(log[i])
        /\ granted[i] \subseteq Servers
    /\ role \in [Servers -> {"follower", "candidate", "leader"}]
    /\ match \in [Servers -> [Servers -> 0..MaxEntries]]
    /\ \A m \in net : m.from \in Servers /\ m.to \in Servers /\ m.term \in 1..MaxTerm
    /\ down \subseteq Servers
    /\ cut \subseteq Servers
    /\ stable \in BOOLEAN
    /\ budget \in [entry : 0..MaxEntries, repeat : Nat, crash : 0..MaxCrashes,
                   loss : 0..MaxLosses, cut : 0..MaxCuts]

Nowhere == [i \in Servers |-> 0]

Init ==
    /\ term = Nowhere
    /\ vote = [i \in Servers |-> Nobody]
    /\ log = [i \in Servers |-> <<>>]
    /\ role = [i \in Servers |-> "follower"]
    /\ granted = [i \in Servers |-> {}]
    /\ match = [i \in Servers |-> Nowhere]
    /\ commit = Nowhere
    /\ net = {}
    /\ down = {}
    /\ cut = {}
    /\ stable = FALSE
    /\ elected = {}
    /\ chosen = {}
    /\ tried = {}
    /\ budget = [entry |-> MaxEntries, repeat |-> MaxRepeats, crash |-> MaxCrashes,
                 loss |-> MaxLosses, cut |-> MaxCuts]

\* Figure 8c, with as few servers as show it.  In term 1 server 1 was elected by
\* server 3, appended an entry and crashed before it sent it; in term 2 the same
\* befell server 2, and both came back.  Server 1 was asked late for a vote in
\* term 2, refused it, and stood in term 3: server 3 voted for it, and server 2,
\* whose log is the later one, refused.  Server 1 sent server 3 the old entry and
\* then appended one of its own (if MaxEntries is 1, it has not yet).  So this is a state of Raft, but for the budgets
\* and for what was tried in terms 1 and 2, whose leaders are gone, so that nobody
\* tries it again.
OldEntry == [type |-> "append", from |-> 1, to |-> 3, term |-> 3,
             prev |-> 0, prevTerm |-> 0, entries |-> <<1>>, commit |-> 0]

FirstLog == IF MaxEntries = 1 THEN <<1>> ELSE <<1, 3>>

InitFigure8 ==
    /\ term = [i \in Servers |-> 3]
    /\ vote = [i \in Servers |-> IF i = 2 THEN Nobody ELSE 1]
    /\ log = [i \in Servers |-> CASE i = 1 -> FirstLog [] i = 2 -> <<2>> [] OTHER -> <<>>]
    /\ role = [i \in Servers |-> IF i = 1 THEN "leader" ELSE "follower"]
    /\ granted = [i \in Servers |-> {}]
    /\ match = [i \in Servers |-> IF i = 1 THEN [Nowhere EXCEPT ![1] = Len(FirstLog)] ELSE Nowhere]
    /\ commit = Nowhere
    /\ net = {OldEntry}
    /\ down = {}
    /\ cut = {}
    /\ stable = FALSE
    /\ elected = {<<1, 1>>, <<2, 2>>, <<3, 1>>}
    /\ chosen = {}
    /\ tried = {OldEntry}
    /\ budget = [entry |-> MaxEntries - Len(FirstLog), repeat |-> MaxRepeats, crash |-> MaxCrashes,
                 loss |-> MaxLosses, cut |-> MaxCuts]

SendRequest(m) ==
    /\ m \notin net
    /\ net' = net \cup {m}
    /\ tried' = tried \cup {m}
    /\ IF m \notin tried \/ stable
       THEN budget' = budget
       ELSE budget.repeat > 0 /\ budget' = [budget EXCEPT !.repeat = @ - 1]

Arrives(m) == m.to \notin down /\ m.to \notin cut /\ m.from \notin cut

\* Whoever hears of a later term follows (section 5.1).
StepDown(i, t) ==
    /\ role' = [role EXCEPT ![i] = "follower"]
    /\ granted' = [granted EXCEPT ![i] = {}]
    /\ match' = [match EXCEPT ![i] = Nowhere]
    /\ term' = [term EXCEPT ![i] = t]

-----------------------------------------------------------------------------
(* Elections (section 5.2).                                                *)

Live == Servers \ (down \cup cut)

\* Whether a server's log lets it win among those that can answer.
CanWin(i) ==
    /\ i \in Live /\ role[i] # "leader"
    /\ Quorum({j \in Live : UpToDate(LastTerm(i), Len(log[i]), j)})

HasLeader == \E i \in Live : role[i] = "leader" /\ \A j \in Live : term[j] <= term[i]

\* Before the network is stable anybody may time out, but in the last term:
\* that is kept for the stable network, so that the bound on terms is not what
\* ends the last election.  With Patience, only one server does afterwards.
MayTimeOut(i) ==
    IF ~stable THEN term[i] < (IF Stability THEN MaxTerm - 1 ELSE MaxTerm)
    ELSE /\ ~HasLeader
         /\ IF Patience THEN CanWin(i) /\ \A j \in Servers : CanWin(j) => i <= j ELSE TRUE

\* With Turns = 2, server 1 may stand in the odd terms and server 2 in the even
\* ones.  That keeps models of several terms small, and hides no loss of what
\* was committed.  A term has one leader at most, which MCRaftLogThree shows with
\* all candidates, and servers can be renamed, so that the two whose logs are in
\* conflict may be 1 and 2, and a leader that succeeds itself has its own log.
\* Who stands and is not elected leaves no entry: it only takes votes and time
\* from others.
MayStand(i, t) == IF Turns = 0 THEN TRUE ELSE i = ((t - 1) % Turns) + 1

Timeout(i) ==
    /\ i \notin down /\ role[i] # "leader"
    /\ term[i] < MaxTerm
    /\ MayTimeOut(i) /\ MayStand(i, term[i] + 1)
    /\ term' = [term EXCEPT ![i] = @ + 1]
    /\ vote' = [vote EXCEPT ![i] = i]
    /\ role' = [role EXCEPT ![i] = "candidate"]
    /\ granted' = [granted EXCEPT ![i] = {i}]
    /\ UNCHANGED <<log, match, commit, net, world, history, budget>>

AskVote(i, j) ==
    /\ i \notin down /\ role[i] = "candidate" /\ j \notin granted[i]
    /\ SendRequest([type |-> "ask", from |-> i, to |-> j, term |-> term[i],
                    len |-> Len(log[i]), last |-> LastTerm(i)])
    /\ UNCHANGED <<durable, volatile, world, elected, chosen>>

\* A refusal is silent.
ReceiveAsk(i) ==
    \E m \in net :
        /\ m.type = "ask" /\ m.to = i /\ Arrives(m)
        /\ LET free == m.term > term[i] \/ (m.term = term[i] /\ vote[i] \in {Nobody, m.from})
               grant == free /\ UpToDate(m.last, m.len, i)
               reply == [type |-> "vote", from |-> i, to |-> m.from, term |-> m.term]
           IN  /\ net' = (net \ {m}) \cup (IF grant THEN {reply} ELSE {})
               /\ vote' = [vote EXCEPT ![i] = IF grant THEN m.from
                                              ELSE IF m.term > term[i] THEN Nobody ELSE @]
               /\ IF m.term > term[i]
                  THEN StepDown(i, m.term)
                  ELSE UNCHANGED <<term, role, granted, match>>
        /\ UNCHANGED <<log, commit, world, history, budget>>

ReceiveVote(i) ==
    \E m \in net :
        /\ m.type = "vote" /\ m.to = i /\ Arrives(m)
        /\ net' = net \ {m}
        /\ granted' = [granted EXCEPT ![i] = IF role[i] = "candidate" /\ m.term = term[i]
                                             THEN @ \cup {m.from} ELSE @]
        /\ UNCHANGED <<durable, role, match, commit, world, history, budget>>

BecomeLeader(i) ==
    /\ i \notin down /\ role[i] = "candidate" /\ Quorum(granted[i])
    /\ role' = [role EXCEPT ![i] = "leader"]
    /\ granted' = [granted EXCEPT ![i] = {}]
    /\ match' = [match EXCEPT ![i] = [Nowhere EXCEPT ![i] = Len(log[i])]]
    /\ elected' = elected \cup {<<term[i], i>>}
    /\ UNCHANGED <<durable, commit, net, world, chosen, tried, budget>>

-----------------------------------------------------------------------------
(* Replication (section 5.3).                                              *)

\* Clients ask again until an entry is committed, and only finitely many requests
\* fit the model: so the last one is kept for the leader that lasts.
Request(i) ==
    /\ i \notin down /\ role[i] = "leader"
    /\ budget.entry > (IF Stability /\ ~stable THEN 1 ELSE 0)
    /\ IF stable THEN \A j \in Servers : term[j] <= term[i] ELSE TRUE
    /\ log' = [log EXCEPT ![i] = Append(@, term[i])]
    /\ match' = [match EXCEPT ![i][i] = Len(log[i]) + 1]
    /\ budget' = [budget EXCEPT !.entry = @ - 1]
    /\ UNCHANGED <<term, vote, role, granted, commit, net, world, history>>

SendAppend(i, j) ==
    /\ i \notin down /\ role[i] = "leader" /\ i # j
    /\ ~(match[i][j] = Len(log[i]) /\ commit[j] >= commit[i])
    /\ LET prev == match[i][j]
       IN  SendRequest([type |-> "append", from |-> i, to |-> j, term |-> term[i],
                        prev |-> prev, prevTerm |-> TermAt(log[i], prev),
                        entries |-> SubSeq(log[i], prev + 1, Len(log[i])), commit |-> commit[i]])
    /\ UNCHANGED <<durable, volatile, world, elected, chosen>>

\* What the follower's log becomes: cut back only where it contradicts.
Merged(l, prev, entries) ==
    IF Len(l) >= prev + Len(entries) /\ SubSeq(l, prev + 1, prev + Len(entries)) = entries
    THEN l
    ELSE SubSeq(l, 1, prev) \o entries

\* History, once the first n entries of a log are committed in term t.
Choose(l, n, t) ==
    chosen \cup {<<k, l[k], t>> :
        k \in {k \in 1..n : \A e \in chosen : e[1] # k \/ e[2] # l[k]}}

ReceiveAppend(i) ==
    \E m \in net :
        /\ m.type = "append" /\ m.to = i /\ Arrives(m)
        /\ LET fits == m.prev = 0 \/ (Len(log[i]) >= m.prev /\ log[i][m.prev] = m.prevTerm)
               upTo == m.prev + Len(m.entries)
               merged == Merged(log[i], m.prev, m.entries)
               known == Max(commit[i], Min(m.commit, upTo))
               ack == [type |-> "ack", from |-> i, to |-> m.from, term |-> m.term, match |-> upTo]
           IN  IF m.term < term[i] \/ ~fits
               THEN /\ net' = net \ {m}
                    /\ UNCHANGED <<durable, volatile, chosen>>
               ELSE /\ net' = (net \ {m}) \cup {ack}
                    /\ log' = [log EXCEPT ![i] = merged]
                    /\ vote' = [vote EXCEPT ![i] = IF m.term > term[i] THEN Nobody ELSE @]
                    /\ StepDown(i, m.term)
                    /\ commit' = [commit EXCEPT ![i] = known]
                    /\ chosen' = Choose(merged, known, m.term)
        /\ UNCHANGED <<world, elected, tried, budget>>

ReceiveAck(i) ==
    \E m \in net :
        /\ m.type = "ack" /\ m.to = i /\ Arrives(m)
        /\ net' = net \ {m}
        /\ match' = IF role[i] = "leader" /\ m.term = term[i]
                    THEN [match EXCEPT ![i][m.from] = Max(@, m.match)]
                    ELSE match
        /\ UNCHANGED <<durable, role, granted, commit, world, history, budget>>

\* An entry of an earlier term is committed only together with one of the
\* leader's own (section 5.4.2).
Commits(i, n) ==
    /\ i \notin down /\ role[i] = "leader"
    /\ n > commit[i] /\ n <= Len(log[i])
    /\ Quorum({j \in Servers : match[i][j] >= n})
    /\ commit' = [commit EXCEPT ![i] = n]
    /\ chosen' = Choose(log[i], n, term[i])
    /\ UNCHANGED <<durable, role, granted, match, net, world, elected, tried, budget>>

Commit(i, n) == n <= Len(log[i]) /\ log[i][n] = term[i] /\ Commits(i, n)

-----------------------------------------------------------------------------
(* Crashes and the network.                                                *)

Forget(i) ==
    /\ down' = down \cup {i}
    /\ role' = [role EXCEPT ![i] = "follower"]
    /\ granted' = [granted EXCEPT ![i] = {}]
    /\ match' = [match EXCEPT ![i] = Nowhere]
    /\ commit' = [commit EXCEPT ![i] = 0]
    /\ budget' = [budget EXCEPT !.crash = @ - 1]

MayCrash(i) == i \notin down /\ ~stable /\ budget.crash > 0

Crash(i) ==
    /\ MayCrash(i)
    /\ Forget(i)
    /\ UNCHANGED <<durable, net, cut, stable, history>>

Restart(i) ==
    /\ i \in down
    /\ down' = down \ {i}
    /\ UNCHANGED <<durable, volatile, net, cut, stable, history, budget>>

\* A cut link loses what it likes.
Lose ==
    \E m \in net :
        /\ net' = net \ {m}
        /\ IF m.from \in cut \/ m.to \in cut
           THEN budget' = [budget EXCEPT !.repeat = @ + 1]
           ELSE /\ ~stable /\ budget.loss > 0
                /\ budget' = [budget EXCEPT !.loss = @ - 1, !.repeat = @ + 1]
        /\ UNCHANGED <<durable, volatile, world, history>>

Cut(i) ==
    /\ ~stable /\ i \notin cut
    /\ budget.cut > 0
    /\ cut' = cut \cup {i}
    /\ budget' = [budget EXCEPT !.cut = @ - 1]
    /\ UNCHANGED <<durable, volatile, net, down, stable, history>>

Heal(i) ==
    /\ i \in cut
    /\ cut' = cut \ {i}
    /\ UNCHANGED <<durable, volatile, net, down, stable, history, budget>>

\* From now on nothing breaks, everything is sent again until it arrives, and what was in flight before is gone.
Stabilise ==
    /\ Stability /\ ~stable
    /\ net = {} /\ cut = {} /\ down = {}
    /\ stable' = TRUE
    /\ UNCHANGED <<durable, volatile, net, down, cut, history, budget>>

-----------------------------------------------------------------------------
Next ==
    \/ \E i \in Servers :
        \/ Timeout(i) \/ BecomeLeader(i) \/ Request(i)
        \/ \E j \in Servers : AskVote(i, j) \/ SendAppend(i, j)
        \/ ReceiveAsk(i) \/ ReceiveVote(i) \/ ReceiveAppend(i) \/ ReceiveAck(i)
        \/ \E n \in 1..MaxEntries : Commit(i, n)
        \/ Crash(i) \/ Restart(i) \/ Cut(i) \/ Heal(i)
    \/ Lose
    \/ Stabilise

(***************************************************************************)
(* Fairness.  Consensus cannot be live in an asynchronous network (Fischer,*)
(* Lynch and Paterson 1985), however fair: candidates may collide for ever.*)
(* So liveness assumes that the network becomes stable for good and that   *)
(* afterwards only one server loses patience at a time, which in practice  *)
(* random timers see to.  After that weak fairness is enough, because      *)
(* nothing that is enabled is disabled but by progress.                    *)
(*                                                                         *)
(* Without patience (MCRaftLogCollide) the election may fail again and     *)
(* again; in the bounded model that shows as terms that run out, the last  *)
(* of them with split votes.  Stabilise itself is not fair: the property   *)
(* says what follows from it.                                              *)
(***************************************************************************)
Safe == Init /\ [][Next]_vars
SafeFigure8 == InitFigure8 /\ [][Next]_vars

Spec ==
    /\ Safe
    /\ \A i \in Servers :
        /\ WF_vars(Timeout(i))
        /\ WF_vars(BecomeLeader(i))
        /\ WF_vars(Request(i))
        /\ WF_vars(\E j \in Servers : AskVote(i, j))
        /\ WF_vars(\E j \in Servers : SendAppend(i, j))
        /\ WF_vars(ReceiveAsk(i))
        /\ WF_vars(ReceiveVote(i))
        /\ WF_vars(ReceiveAppend(i))
        /\ WF_vars(ReceiveAck(i))
        /\ WF_vars(\E n \in 1..MaxEntries : Commit(i, n))

-----------------------------------------------------------------------------
(* Safety (figure 3).                                                      *)

ElectionSafety == \A a, b \in elected : a[1] = b[1] => a = b

LogMatching ==
    \A i, j \in Servers : \A n \in 1..Min(Len(log[i]), Len(log[j])) :
        log[i][n] = log[j][n] => SubSeq(log[i], 1, n) = SubSeq(log[j], 1, n)

Has(i, e) == e[1] <= Len(log[i]) /\ log[i][e[1]] = e[2]

\* What was committed in a term stands in the log of every leader of a later
\* term, for ever.  Later than the entry itself would be too much: in figure 8e
\* an entry of term 2 is committed in term 4, while a leader of term 3 that has
\* not heard of it lacks it.
LeaderCompleteness ==
    \A i \in Servers : role[i] = "leader" => \A e \in chosen : e[3] < term[i] => Has(i, e)

\* What was committed is on the disks of a majority, for ever.
ChosenIsDurable ==
    \A e \in chosen : Quorum({i \in Servers : Has(i, e)})

StateMachineSafety == \A a, b \in chosen : a[1] = b[1] => a[2] = b[2]

-----------------------------------------------------------------------------
(* Liveness.                                                               *)

\* Once the network is stable, an entry is committed, and everybody knows.
Progress == stable ~> (\E n \in 1..MaxEntries : \A i \in Servers : commit[i] >= n)
=============================================================================
