-------------------------------------- MODULE StrongRecurses ---------------------------------------
\* The component {0, 1, 2} fails SF(Exit), enabled in 2 and leading out of it. Its part {0, 1} never enables Exit: only a search
\* that deletes 2 and looks again finds the violation.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Loop == (x = 0 /\ x' = 1) \/ (x = 1 /\ x' = 0)
Detour == (x = 1 /\ x' = 2) \/ (x = 2 /\ x' = 0)
Exit == (x = 2 /\ x' = 3)
Back == x = 3 /\ x' = 0
Next == Loop \/ Detour \/ Exit \/ Back
Spec == Init /\ [][Next]_x /\ WF_x(Next) /\ SF_x(Exit)
Exits == []<>(x = 3)
====================================================================================================
