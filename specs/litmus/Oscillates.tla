---------------------------------------- MODULE Oscillates -----------------------------------------
\* <>[]P fails because P is lost again and again, though []<>P holds.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Step == x' = (x + 1) % 4
Spec == Init /\ [][Step]_x /\ WF_x(Step)
Lazy == Init /\ [][Step]_x
Settles == <>[](x < 3)
Low == []<>(x < 3)
High == []<>(x = 3)
====================================================================================================
