-------------------------------------- MODULE PassingRequest ---------------------------------------
\* P holds only for a moment; the obligation outlives it, through states in which P is false.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Advance == x \in 0..1 /\ x' = x + 1
Idle == x = 2 /\ x' = 3
Serve == x = 3 /\ x' = 4
Back == x = 3 /\ x' = 2
Next == Advance \/ Idle \/ Serve \/ Back
Weak == Init /\ [][Next]_x /\ WF_x(Next)
Strong == Init /\ [][Next]_x /\ WF_x(Next) /\ SF_x(Serve)
Served == (x = 1) ~> (x = 4)
AlreadyThere == (x = 4) ~> (x >= 4)
NeverAsked == (x = 9) ~> FALSE
====================================================================================================
