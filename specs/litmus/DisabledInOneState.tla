------------------------------------ MODULE DisabledInOneState -------------------------------------
\* WF(Out) is met by a single state on the cycle in which Out is disabled; take that state away and it is not.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Turn == x \in 0..3 /\ x' = (x + 1) % 4
Short == x = 2 /\ x' = 0
OutA == x \in 0..2 /\ x' = 9
OutB == x \in 0..3 /\ x' = 9
Next == Turn \/ Short \/ OutA \/ OutB
A == Init /\ [][Next]_x /\ WF_x(Turn) /\ WF_x(OutA)
B == Init /\ [][Next]_x /\ WF_x(Turn) /\ WF_x(OutB)
Ends == <>(x = 9)
====================================================================================================
