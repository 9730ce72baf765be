---------------------------- MODULE LostInACycle ----------------------------
EXTENDS Naturals
VARIABLE x
Init == x = 0
Enter == x = 0 /\ x' = 1
Leave == x = 0 /\ x' = 3
Turn == x \in {1, 2} /\ x' = 3 - x
Next == Enter \/ Leave \/ Turn
Spec == Init /\ [][Next]_x /\ WF_x(Next)
Reaches == <>(x = 3)
Range == x \in 0..3
=============================================================================
