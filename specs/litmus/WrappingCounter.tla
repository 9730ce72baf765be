-------------------------------------- MODULE WrappingCounter --------------------------------------
\* Safety: a counter that wraps, reached by the longest path only; steps that break an action property.
EXTENDS Naturals
VARIABLE n
Init == n = 0
Tick == n' = (n + 1) % 5
Spec == Init /\ [][Tick]_n /\ WF_n(Tick)
BelowFour == n < 4
BelowFive == [](n < 5)
Grows == [][n' > n]_n
Wraps == (n = 4) ~> (n = 0)
====================================================================================================
