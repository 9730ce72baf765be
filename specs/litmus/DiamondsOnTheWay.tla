------------------------------------- MODULE DiamondsOnTheWay --------------------------------------
\* Many joins, one dead end deep inside: every path but one reaches the goal.
EXTENDS Naturals
VARIABLES a, b
vars == <<a, b>>
Init == a = 0 /\ b = 0
Right == a < 3 /\ a' = a + 1 /\ UNCHANGED b /\ ~(a = 1 /\ b = 2)
Down == b < 3 /\ b' = b + 1 /\ UNCHANGED a /\ ~(a = 1 /\ b = 2)
Next == Right \/ Down
Spec == Init /\ [][Next]_vars /\ WF_vars(Next)
Corner == <>(a = 3 /\ b = 3)
Diagonal == <>(a = b /\ a > 0)
Edge == <>(a = 3 \/ b = 3 \/ (a = 1 /\ b = 2))
====================================================================================================
