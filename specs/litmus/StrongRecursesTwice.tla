------------------------------------ MODULE StrongRecursesTwice ------------------------------------
\* Deleting the A-enabled node 4 leaves {0, 1, 2, 3}, in which B becomes unmet; deleting 3 leaves the fair {0, 1, 2}.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Step == \/ x \in 0..3 /\ x' = x + 1
        \/ x \in 1..4 /\ x' = x - 1
A == x = 4 /\ x' = 5
B == (x = 3 /\ x' = 5) \/ (x = 4 /\ x' = 0)
Next == Step \/ A \/ B
Spec == Init /\ [][Next]_x /\ WF_x(Step) /\ SF_x(A) /\ SF_x(B)
ThreeStrong == Spec /\ SF_x(x = 1 /\ x' = 2)
Ends == <>(x = 5)
====================================================================================================
