--------------------------------------- MODULE SwingDisables ---------------------------------------
\* As UnfairInsideFair, but Up is enabled in 1 only: swinging disables it each time.
EXTENDS Naturals
VARIABLE x
Init == x = 0
Swing == x \in {0, 1} /\ x' = 1 - x
Up == x = 1 /\ x' = 2
Down == x = 2 /\ x' = 0
Next == Swing \/ Up \/ Down
Weak == Init /\ [][Next]_x /\ WF_x(Swing) /\ WF_x(Up) /\ WF_x(Down)
Strong == Init /\ [][Next]_x /\ WF_x(Swing) /\ SF_x(Up) /\ WF_x(Down)
StrongIdle == Init /\ [][Next]_x /\ SF_x(Up) /\ WF_x(Down)
Visits == []<>(x = 2)
====================================================================================================
