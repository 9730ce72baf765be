--------------------------------------- MODULE ParallelSteps ---------------------------------------
\* A and B lead from the same state to the same state. A lasso that is fair to both needs two laps.
EXTENDS Naturals
VARIABLE x
Init == x = 0
A == x = 0 /\ x' = 1
B == x = 0 /\ x' = 1
Back == x = 1 /\ x' = 0
Leave == x = 1 /\ x' = 2
Next == A \/ B \/ Back \/ Leave
Spec == Init /\ [][Next]_x /\ SF_x(A) /\ SF_x(B) /\ SF_x(Back)
Leaves == <>(x = 2)
====================================================================================================
