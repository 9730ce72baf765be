---------------------------------------- MODULE SharedStep -----------------------------------------
\* One step belongs to two classes, so that it is fair to both.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Red == x \in 0..2 /\ x' = (x + 1) % 3
Blue == (x = 0 /\ x' = 1) \/ (x = 1 /\ x' = 9)
Next == Red \/ Blue
Both == Init /\ [][Next]_x /\ SF_x(Red) /\ SF_x(Blue)
Ends == <>(x = 9)
====================================================================================================
