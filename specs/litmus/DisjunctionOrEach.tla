------------------------------------- MODULE DisjunctionOrEach -------------------------------------
\* WF(A \/ B) is met by A alone; WF(A) /\ WF(B) is not.
EXTENDS Naturals
VARIABLE x
Init == x = 0
A == x \in {0, 1} /\ x' = 1 - x
B == x \in {0, 1} /\ x' = 2
Next == A \/ B
Either == Init /\ [][Next]_x /\ WF_x(A \/ B)
Each == Init /\ [][Next]_x /\ WF_x(A) /\ WF_x(B)
Ends == <>(x = 2)
====================================================================================================
