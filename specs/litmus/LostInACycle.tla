--------------------------------------- MODULE LostInACycle ----------------------------------------
\* The only way to miss x = 3 is to turn for ever between 1 and 2: stateright's `eventually` does not see it.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Enter == x = 0 /\ x' = 1
Leave == x = 0 /\ x' = 3
Turn == x \in {1, 2} /\ x' = 3 - x
Next == Enter \/ Leave \/ Turn
Spec == Init /\ [][Next]_x /\ WF_x(Next)
Range == x \in 0..3
Reaches == <>(x = 3)
====================================================================================================
