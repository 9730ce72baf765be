---------------------------- MODULE MCSagaBroken ----------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take.                                              *)
EXTENDS Saga

\* A service acknowledges the compensation of a step that it never did, and
\* leaves no tombstone: the request that was on the way is then executed.
CompensateBlindly(i) ==
    /\ AtService("undo", i)
    /\ svc[i] = "none"
    /\ net' = (net \ {Msg("undo", i)}) \cup {Msg("undone", i)}
    /\ UNCHANGED <<phase, step, up, reply, svc, down, cut, seen, budget>>

\* The orchestrator does not wait for one compensation before the next.
RushBack ==
    /\ up /\ phase = "backward" /\ reply = "none" /\ step > 1
    /\ Msg("undo", step) \in net
    /\ step' = step - 1
    /\ UNCHANGED <<phase, up, reply, svc, down, cut, net, seen, budget>>

\* The pivot times out, and the orchestrator believes that it did not happen.
GiveUpPivot ==
    /\ up /\ phase = "forward" /\ reply = "none" /\ step = Pivot
    /\ phase' = "backward"
    /\ UNCHANGED <<step, up, reply, svc, down, cut, net, seen, budget>>

SpecCompensateBlindly == Init /\ [][Next \/ \E i \in Services : CompensateBlindly(i)]_vars
SpecRushBack == Init /\ [][Next \/ RushBack]_vars
SpecGiveUpPivot == Init /\ [][Next \/ GiveUpPivot]_vars
=============================================================================
