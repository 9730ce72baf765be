---------------------------------- MODULE EnabledLeavesTheRegion -----------------------------------
\* Exit is enabled all along the cycle {0, 1}, and each of its steps leaves the states searched (those without x = 2).
EXTENDS Naturals
VARIABLE x
Init == x = 0
Swing == x \in {0, 1} /\ x' = 1 - x
Exit == x \in {0, 1} /\ x' = 2
Next == Swing \/ Exit
Spec == Init /\ [][Next]_x /\ WF_x(Exit)
Exits == (x = 1) ~> (x = 2)
====================================================================================================
