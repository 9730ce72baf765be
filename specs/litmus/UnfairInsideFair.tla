------------------------------------- MODULE UnfairInsideFair --------------------------------------
\* The whole graph is one fair component, but the part of it without 2 is not: Up is enabled in 0 and in 1 for ever.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Swing == x \in {0, 1} /\ x' = 1 - x
Up == x \in {0, 1} /\ x' = 2
Down == x = 2 /\ x' = 0
Next == Swing \/ Up \/ Down
Spec == Init /\ [][Next]_x /\ WF_x(Up) /\ WF_x(Down)
Visits == []<>(x = 2)
Leaves == <>[](x # 2)
Returns == (x = 2) ~> (x = 0)
====================================================================================================
