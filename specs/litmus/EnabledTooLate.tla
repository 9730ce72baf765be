-------------------------------------- MODULE EnabledTooLate ---------------------------------------
\* Exit is enabled only where the goal is already reached.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Swing == x \in {0, 1} /\ x' = 1 - x
Enter == x = 1 /\ x' = 2
Exit == x = 2 /\ x' = 3
Next == Swing \/ Enter \/ Exit
Spec == Init /\ [][Next]_x /\ SF_x(Exit)
WithEnter == Spec /\ SF_x(Enter) /\ WF_x(Swing)
Arrives == <>(x = 2)
Exits == (x = 2) ~> (x = 3)
====================================================================================================
