----------------------------------------- MODULE Peterson ------------------------------------------
\* Peterson's algorithm (1981): weak fairness to each process suffices, because a process that waits stays enabled.
EXTENDS Naturals
VARIABLES pc, flag, turn
vars == <<pc, flag, turn>>
Other(p) == 3 - p
Init == pc = [p \in 1..2 |-> "idle"] /\ flag = [p \in 1..2 |-> FALSE] /\ turn = 1
Try(p) == pc[p] = "idle" /\ pc' = [pc EXCEPT ![p] = "raise"] /\ flag' = [flag EXCEPT ![p] = TRUE] /\ UNCHANGED turn
Yield(p) == pc[p] = "raise" /\ pc' = [pc EXCEPT ![p] = "wait"] /\ turn' = Other(p) /\ UNCHANGED flag
Enter(p) == /\ pc[p] = "wait" /\ (~flag[Other(p)] \/ turn = p)
            /\ pc' = [pc EXCEPT ![p] = "in"] /\ UNCHANGED <<flag, turn>>
Leave(p) == pc[p] = "in" /\ pc' = [pc EXCEPT ![p] = "idle"] /\ flag' = [flag EXCEPT ![p] = FALSE] /\ UNCHANGED turn
Go(p) == Yield(p) \/ Enter(p) \/ Leave(p)
Next == \E p \in 1..2 : Try(p) \/ Go(p)
Fair == Init /\ [][Next]_vars /\ \A p \in 1..2 : WF_vars(Go(p))
Unfair == Init /\ [][Next]_vars /\ WF_vars(Go(1))
Exclusion == ~(pc[1] = "in" /\ pc[2] = "in")
Enters == (pc[1] = "raise") ~> (pc[1] = "in")
Tries == []<>(pc[1] = "in")
====================================================================================================
