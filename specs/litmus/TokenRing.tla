----------------------------------------- MODULE TokenRing -----------------------------------------
\* Three stations pass a token; each is enabled only while it holds it. Weak fairness of each suffices.
EXTENDS Naturals
VARIABLE token
Init == token \in 0..2
Pass(i) == token = i /\ token' = (i + 1) % 3
Next == \E i \in 0..2 : Pass(i)
All == Init /\ [][Next]_token /\ \A i \in 0..2 : WF_token(Pass(i))
NotLast == Init /\ [][Next]_token /\ \A i \in 0..1 : WF_token(Pass(i))
Comes == []<>(token = 0)
GoesAway == (token = 1) ~> (token = 2)
====================================================================================================
