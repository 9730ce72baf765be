------------------------------------- MODULE SubscriptMatters --------------------------------------
\* Tick changes only y. WF_x(Work) is about steps that change x; WF_<<x, y>>(Work) is satisfied by ticking.
EXTENDS Naturals
VARIABLES x, y
Init == x = 0 /\ y = 0
Tick == x = 0 /\ y' = 1 - y /\ UNCHANGED x
Finish == x = 0 /\ x' = 1 /\ UNCHANGED y
Work == Tick \/ Finish
OnX == Init /\ [][Work]_<<x, y>> /\ WF_x(Work)
OnBoth == Init /\ [][Work]_<<x, y>> /\ WF_<<x, y>>(Work)
Finishes == <>(x = 1)
====================================================================================================
