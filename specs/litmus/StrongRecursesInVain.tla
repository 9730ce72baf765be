----------------------------------- MODULE StrongRecursesInVain ------------------------------------
\* As StrongRecurses, but what is left after deleting 2 cannot go on: Detour is the only way out of 1, and it is fair.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Loop == x = 0 /\ x' = 1
Detour == (x = 1 /\ x' = 2) \/ (x = 2 /\ x' = 0)
Exit == x = 2 /\ x' = 3
Back == x = 3 /\ x' = 0
Next == Loop \/ Detour \/ Exit \/ Back
Spec == Init /\ [][Next]_x /\ WF_x(Next) /\ SF_x(Exit)
Exits == []<>(x = 3)
====================================================================================================
