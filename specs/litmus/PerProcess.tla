---------------------------------------- MODULE PerProcess -----------------------------------------
\* Fairness to all processes together lets one of them starve the other.
EXTENDS Naturals
VARIABLE on
Init == on = [p \in 1..2 |-> FALSE]
Flip(p) == on' = [on EXCEPT ![p] = ~on[p]]
Next == \E p \in 1..2 : Flip(p)
Together == Init /\ [][Next]_on /\ WF_on(Next)
Each == Init /\ [][Next]_on /\ \A p \in 1..2 : WF_on(Flip(p))
FirstFlips == []<>(on[1])
SecondFlips == []<>(on[2])
====================================================================================================
