-------------------------------------- MODULE NothingHappens ---------------------------------------
\* No step at all: every behaviour stutters in the initial state.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Never == FALSE /\ x' = 1
Spec == Init /\ [][Never]_x /\ SF_x(Never)
Stays == [](x = 0)
Always == []<>(x = 0)
Moves == <>(x = 1)
====================================================================================================
