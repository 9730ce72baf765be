------------------------------------- MODULE TwoInitialStates --------------------------------------
\* One initial state is on the good side, the other is not.
EXTENDS Naturals
VARIABLE x
Init == x \in {1, 5}
Down == x \in 1..4 /\ x' = x - 1
Round == x \in {5, 6} /\ x' = 11 - x
Next == Down \/ Round
Spec == Init /\ [][Next]_x /\ WF_x(Next)
Zero == <>(x = 0)
SixAgain == (x = 5) ~> (x = 6)
====================================================================================================
