------------------------------------ MODULE StuttersAtTheStart -------------------------------------
\* Without fairness nothing has to happen.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Go == x = 0 /\ x' = 1
Unfair == Init /\ [][Go]_x
Fair == Unfair /\ WF_x(Go)
Starts == <>(x = 1)
LeadsOn == (x = 0) ~> (x = 1)
====================================================================================================
