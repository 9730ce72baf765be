-------------------------------- MODULE Saga --------------------------------
(***************************************************************************)
(* An orchestrated saga (Garcia-Molina and Salem, "Sagas", SIGMOD 1987)    *)
(* with a pivot (Mehrotra, Rastogi, Korth and Silberschatz, 1992): the     *)
(* steps before the pivot can be compensated, the pivot decides, the steps *)
(* after it can be retried until they succeed.  Backward recovery          *)
(* compensates in reverse order; after the pivot only forward is left.     *)
(*                                                                         *)
(* The orchestrator forces its position to disk before it acts on it; what *)
(* a service answered is volatile until then.  Services do each step and   *)
(* each compensation at most once, however often they are asked.           *)
(*                                                                         *)
(* The hard case is a request whose outcome is not known: the orchestrator *)
(* times out, compensates, and the request arrives after its own           *)
(* compensation.  A compensation of something that never happened leaves a *)
(* tombstone ("undone"), and the late request finds it.                    *)
(*                                                                         *)
(* Requests are sent again at any time, so duplicates need no action of    *)
(* their own.  That can be checked: with Duplicates, messages are never    *)
(* used up.                                                                *)
(*                                                                         *)
(* MCSagaCode is the model that the running code is held against           *)
(* (src/model/refine): Duplicates and LazyLog.  With semantic locks it is  *)
(* MCSagaCodeLocks: whoever reads waits for the end of the saga, and a     *)
(* step that meets the lock of another saga is one that may refuse.        *)
(***************************************************************************)
EXTENDS Naturals

CONSTANTS
    Steps,              \* how many steps the saga has
    Pivot,              \* which of them is the pivot
    Refusers,           \* TRUE: also steps after the pivot may refuse, which they must not
    MaxOrchCrashes,     \* how often the orchestrator may crash
    MaxServiceCrashes,  \* how many crashes of services there may be
    MaxLosses,          \* how many messages may be lost on links that are not cut
    MaxCuts,            \* how many times a link may be cut
    Forever,            \* TRUE: losses and cuts may recur for ever, and cost nothing
    Readers,            \* TRUE: clients read what the services hold
    SemanticLocks,      \* TRUE: they wait for the end of a saga whose effect they meet
    Duplicates,         \* TRUE: what was delivered may be delivered again, at any time
    LazyLog             \* TRUE: only the beginning, the pivot and the turn are forced;
                        \* a crash takes the position back to the last of them

VARIABLES
    phase,      \* durable: idle, forward, backward, completed, compensated
    step,       \* durable: the step that is being done or compensated
    up,         \* whether the orchestrator is up
    reply,      \* what it has heard about that step: none, ok, no.  Volatile.
    svc,        \* durable, what each service did: none, done, refused, undone
    down,       \* the services that are down
    cut,        \* the services whose link to the orchestrator is cut
    net,        \* the messages in flight
    seen,       \* the steps whose effects a client has read
    budget      \* the faults that may still happen

vars == <<phase, step, up, reply, svc, down, cut, net, seen, budget>>

Services == 1..Steps
Compensatable == 1..(Pivot - 1)
MayRefuse(i) == i <= (IF Refusers THEN Steps ELSE Pivot)
Msg(type, i) == [type |-> type, step |-> i]

TypeOK ==
    /\ phase \in {"idle", "forward", "backward", "completed", "compensated"}
    /\ step \in Services
    /\ up \in BOOLEAN
    /\ reply \in {"none", "ok", "no"}
    /\ svc \in [Services -> {"none", "done", "refused", "undone"}]
    /\ down \subseteq Services
    /\ cut \subseteq Services
    /\ net \subseteq [type : {"do", "undo", "done", "refused", "undone"}, step : Services]
    /\ seen \subseteq Services
    /\ budget \in [orch : 0..MaxOrchCrashes, service : 0..MaxServiceCrashes,
                   loss : 0..MaxLosses, cut : 0..MaxCuts]

Init ==
    /\ phase = "idle"
    /\ step = 1
    /\ up = TRUE
    /\ reply = "none"
    /\ svc = [i \in Services |-> "none"]
    /\ down = {}
    /\ cut = {}
    /\ net = {}
    /\ seen = {}
    /\ budget = [orch |-> MaxOrchCrashes, service |-> MaxServiceCrashes,
                 loss |-> MaxLosses, cut |-> MaxCuts]

AtService(type, i) == Msg(type, i) \in net /\ i \notin cut /\ i \notin down
AtOrchestrator(type, i) == Msg(type, i) \in net /\ i \notin cut /\ up

\* What a delivery leaves in flight.
Without(type, i) == IF Duplicates THEN net ELSE net \ {Msg(type, i)}

-----------------------------------------------------------------------------
(* The orchestrator.                                                       *)

Begin ==
    /\ phase = "idle"
    /\ phase' = "forward"
    /\ UNCHANGED <<step, up, reply, svc, down, cut, net, seen, budget>>

\* Again and again, until there is an answer.
Ask ==
    /\ up /\ phase = "forward" /\ reply = "none"
    /\ Msg("do", step) \notin net
    /\ net' = net \cup {Msg("do", step)}
    /\ UNCHANGED <<phase, step, up, reply, svc, down, cut, seen, budget>>

AskUndo ==
    /\ up /\ phase = "backward" /\ reply = "none"
    /\ Msg("undo", step) \notin net
    /\ net' = net \cup {Msg("undo", step)}
    /\ UNCHANGED <<phase, step, up, reply, svc, down, cut, seen, budget>>

\* Answers to anything but the present question are ignored.
Hear(type, i, during, what) ==
    /\ net' = Without(type, i)
    /\ reply' = IF phase = during /\ step = i /\ reply = "none" THEN what ELSE reply
    /\ UNCHANGED <<phase, step, up, svc, down, cut, seen, budget>>

ReceiveDone(i) == AtOrchestrator("done", i) /\ Hear("done", i, "forward", "ok")
ReceiveRefused(i) == AtOrchestrator("refused", i) /\ Hear("refused", i, "forward", "no")
ReceiveUndone(i) == AtOrchestrator("undone", i) /\ Hear("undone", i, "backward", "ok")

\* Each of the following forces the log.
Advance ==
    /\ up /\ phase = "forward" /\ reply = "ok"
    /\ phase' = IF step = Steps THEN "completed" ELSE "forward"
    /\ step' = IF step = Steps THEN step ELSE step + 1
    /\ reply' = "none"
    /\ UNCHANGED <<up, svc, down, cut, net, seen, budget>>

\* A step refused and did nothing: compensate what came before it.
Retreat ==
    /\ up /\ phase = "forward" /\ reply = "no" /\ step <= Pivot
    /\ phase' = IF step = 1 THEN "compensated" ELSE "backward"
    /\ step' = IF step = 1 THEN step ELSE step - 1
    /\ reply' = "none"
    /\ UNCHANGED <<up, svc, down, cut, net, seen, budget>>

\* A step timed out.  Whether it happened is not known, so it is compensated
\* with the others.  The pivot and what follows it cannot be.
GiveUp ==
    /\ up /\ phase = "forward" /\ reply = "none" /\ step \in Compensatable
    /\ phase' = "backward"
    /\ UNCHANGED <<step, up, reply, svc, down, cut, net, seen, budget>>

\* After the pivot there is no way back: ask again.
Insist ==
    /\ up /\ phase = "forward" /\ reply = "no" /\ step > Pivot
    /\ reply' = "none"
    /\ UNCHANGED <<phase, step, up, svc, down, cut, net, seen, budget>>

BackUp ==
    /\ up /\ phase = "backward" /\ reply = "ok"
    /\ phase' = IF step = 1 THEN "compensated" ELSE "backward"
    /\ step' = IF step = 1 THEN step ELSE step - 1
    /\ reply' = "none"
    /\ UNCHANGED <<up, svc, down, cut, net, seen, budget>>

CrashOrchestrator ==
    /\ up /\ phase \in {"forward", "backward"}
    /\ budget.orch > 0
    /\ up' = FALSE
    /\ reply' = "none"
    /\ budget' = [budget EXCEPT !.orch = @ - 1]
    /\ UNCHANGED <<phase, step, svc, down, cut, net, seen>>

RestartOrchestrator ==
    /\ ~up
    /\ up' = TRUE
    /\ UNCHANGED <<phase, step, reply, svc, down, cut, net, seen, budget>>

\* Before the pivot an orchestrator that has forgotten its position goes back
\* from the last step that it may have come to, after the pivot it goes on from
\* there, and on the way back it undoes some steps again.
RecoverFromLog ==
    /\ ~up /\ LazyLog
    /\ up' = TRUE
    /\ \/ /\ phase = "forward" /\ step < Pivot
          /\ phase' = "backward" /\ step' = Pivot - 1
       \/ /\ phase = "forward" /\ step >= Pivot
          /\ phase' = phase /\ step' = Pivot
       \/ /\ phase = "backward"
          /\ phase' = phase /\ step' \in step..(Pivot - 1)
    /\ UNCHANGED <<reply, svc, down, cut, net, seen, budget>>

-----------------------------------------------------------------------------
(* The services.                                                           *)

Answer(i, request, becomes, answer) ==
    /\ svc' = [svc EXCEPT ![i] = becomes]
    /\ net' = Without(request, i) \cup {Msg(answer, i)}
    /\ UNCHANGED <<phase, step, up, reply, down, cut, seen, budget>>

Execute(i) ==
    /\ AtService("do", i) /\ svc[i] = "none"
    /\ Answer(i, "do", "done", "done")

Refuse(i) ==
    /\ AtService("do", i) /\ svc[i] = "none" /\ MayRefuse(i)
    /\ Answer(i, "do", "refused", "refused")

\* The request came before.  What was undone will not be done again.
Repeat(i) ==
    /\ AtService("do", i) /\ svc[i] # "none"
    /\ Answer(i, "do", svc[i], IF svc[i] = "done" THEN "done" ELSE "refused")

\* Also a step that did not happen is undone from now on: the tombstone.
Compensate(i) ==
    /\ AtService("undo", i)
    /\ Answer(i, "undo", IF svc[i] = "refused" THEN "refused" ELSE "undone", "undone")

CrashService(i) ==
    /\ i \notin down
    /\ budget.service > 0
    /\ down' = down \cup {i}
    /\ budget' = [budget EXCEPT !.service = @ - 1]
    /\ UNCHANGED <<phase, step, up, reply, svc, cut, net, seen>>

RestartService(i) ==
    /\ i \in down
    /\ down' = down \ {i}
    /\ UNCHANGED <<phase, step, up, reply, svc, cut, net, seen, budget>>

-----------------------------------------------------------------------------
(* Clients that read.  Every step commits locally, so its effect is there  *)
(* for all to see, unless they honour the saga's semantic lock.            *)

Finished == phase \in {"completed", "compensated"}

Read(i) ==
    /\ Readers
    /\ svc[i] = "done"
    /\ SemanticLocks => Finished
    /\ i \notin seen
    /\ seen' = seen \cup {i}
    /\ UNCHANGED <<phase, step, up, reply, svc, down, cut, net, budget>>

-----------------------------------------------------------------------------
(* The network.                                                            *)

\* A cut link loses what it likes.
Lose ==
    \E m \in net :
        /\ net' = net \ {m}
        /\ IF m.step \in cut \/ Forever
           THEN budget' = budget
           ELSE /\ budget.loss > 0
                /\ budget' = [budget EXCEPT !.loss = @ - 1]
        /\ UNCHANGED <<phase, step, up, reply, svc, down, cut, seen>>

Cut(i) ==
    /\ i \notin cut
    /\ budget.cut > 0
    /\ cut' = cut \cup {i}
    /\ budget' = IF Forever THEN budget ELSE [budget EXCEPT !.cut = @ - 1]
    /\ UNCHANGED <<phase, step, up, reply, svc, down, net, seen>>

Heal(i) ==
    /\ i \in cut
    /\ cut' = cut \ {i}
    /\ UNCHANGED <<phase, step, up, reply, svc, down, net, seen, budget>>

-----------------------------------------------------------------------------
Next ==
    \/ Begin \/ Ask \/ AskUndo \/ Advance \/ Retreat \/ GiveUp \/ Insist \/ BackUp
    \/ CrashOrchestrator \/ RestartOrchestrator \/ RecoverFromLog
    \/ Lose
    \/ \E i \in Services :
        \/ ReceiveDone(i) \/ ReceiveRefused(i) \/ ReceiveUndone(i)
        \/ Execute(i) \/ Refuse(i) \/ Repeat(i) \/ Compensate(i)
        \/ CrashService(i) \/ RestartService(i)
        \/ Read(i)
        \/ Cut(i) \/ Heal(i)

(***************************************************************************)
(* Fairness.  GiveUp is not fair: a saga that never loses patience ends    *)
(* too, as long as everybody comes back.  Deliveries are fair by service   *)
(* and direction: what is in flight besides the present question and its   *)
(* answer is never sent again, so it cannot take all the turns.  How a     *)
(* service answers is its own business.  Weak fairness is enough while     *)
(* losses and cuts are paid from a budget.  If messages may be lost for    *)
(* ever (Forever), the deliveries need strong fairness:                    *)
(* MCSagaForeverWeak fails, MCSagaForeverStrong holds.  (With cuts that    *)
(* recur for ever also the sending would need it: see TwoPhase.)  Whether  *)
(* the orchestrator comes back is kept apart: MCSagaOrphan fails.          *)
(***************************************************************************)
Serve(i) == Execute(i) \/ Refuse(i) \/ Repeat(i) \/ Compensate(i)
HearFrom(i) == ReceiveDone(i) \/ ReceiveRefused(i) \/ ReceiveUndone(i)

Progress ==
    /\ WF_vars(Ask)
    /\ WF_vars(AskUndo)
    /\ WF_vars(Advance)
    /\ WF_vars(Retreat)
    /\ WF_vars(Insist)
    /\ WF_vars(BackUp)
    /\ \A i \in Services : WF_vars(RestartService(i)) /\ WF_vars(Heal(i))

WeakDelivery == \A i \in Services : WF_vars(Serve(i)) /\ WF_vars(HearFrom(i))

StrongDelivery == \A i \in Services : SF_vars(Serve(i)) /\ SF_vars(HearFrom(i))

Safe == Init /\ [][Next]_vars

\* The orchestrator may stay down for ever.
SpecOrphan == Safe /\ Progress /\ WeakDelivery

Spec == SpecOrphan /\ WF_vars(RestartOrchestrator)

SpecStrong == Safe /\ Progress /\ StrongDelivery /\ WF_vars(RestartOrchestrator)

-----------------------------------------------------------------------------
(* Safety.                                                                 *)

\* A saga ends all done or all compensated, and stays so: a request that
\* arrives after the end changes nothing.
AllOrNothing ==
    /\ phase = "completed" => \A i \in Services : svc[i] = "done"
    /\ phase = "compensated" => \A i \in Services : svc[i] # "done"

\* What came last is compensated first.
ReverseOrder ==
    \A i, j \in Services : i < j => ~(svc[i] = "undone" /\ svc[j] = "done")

\* The pivot decides.
ForwardAfterPivot ==
    svc[Pivot] = "done" => phase # "backward" /\ \A i \in Services : svc[i] # "undone"

\* What a saga does not promise: that nobody reads what is later undone.
NoDirtyRead == \A i \in seen : svc[i] # "undone"

-----------------------------------------------------------------------------
(* Liveness.                                                               *)

\* Every saga that began ends.
Termination == (phase # "idle") ~> Finished
=============================================================================
