---------------------------------- MODULE DeletionTakesTheWitness ----------------------------------
\* In {0, 1, 2} B has a step inside, so SF(B) is met; SF(A) is not, and deleting 2 takes B's only step away while B stays
\* enabled in 1. Whoever judges B before deleting for A calls the rest fair.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Swing == x \in {0, 1} /\ x' = 1 - x
B == x = 1 /\ x' = 2
Home == x = 2 /\ x' = 0
A == x = 2 /\ x' = 3
Next == Swing \/ B \/ Home \/ A
Spec == Init /\ [][Next]_x /\ WF_x(Swing) /\ SF_x(A) /\ SF_x(B)
Ends == <>(x = 3)
====================================================================================================
