------------------------------------ MODULE JoinHidesTheCulprit ------------------------------------
\* Two paths join in 3; only the upper one passes 1. stateright's `eventually` remembers the first path to 3 and misses the
\* other.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Upper == (x = 0 /\ x' = 1) \/ (x = 1 /\ x' = 3)
Lower == (x = 0 /\ x' = 2) \/ (x = 2 /\ x' = 3)
Next == Upper \/ Lower
Spec == Init /\ [][Next]_x /\ WF_x(Next)
PassesOne == <>(x = 1)
Ends == <>[](x = 3)
====================================================================================================
