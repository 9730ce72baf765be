-------------------------------------- MODULE StutteringStep ---------------------------------------
\* Spin is always enabled and changes nothing: <<Spin>>_x is never enabled, so fairness on it asks for nothing, and a
\* behaviour of Spins alone is not fair to Next.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Spin == x' = x
Go == x = 0 /\ x' = 1
Next == Spin \/ Go
FairNext == Init /\ [][Next]_x /\ WF_x(Next)
FairSpin == Init /\ [][Next]_x /\ WF_x(Spin)
StrongSpin == Init /\ [][Next]_x /\ SF_x(Spin)
Starts == <>(x = 1)
====================================================================================================
