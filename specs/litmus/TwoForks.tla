----------------------------------------- MODULE TwoForks ------------------------------------------
\* Two philosophers, each takes the left fork first: fairness does not help once both hold one.
EXTENDS Naturals
VARIABLE fork
Init == fork = [f \in 1..2 |-> 0]
Other(p) == 3 - p
TakeFirst(p) == fork[p] = 0 /\ fork[Other(p)] # p /\ fork' = [fork EXCEPT ![p] = p]
TakeSecond(p) == fork[p] = p /\ fork[Other(p)] = 0 /\ fork' = [fork EXCEPT ![Other(p)] = p]
PutBack(p) == fork[1] = p /\ fork[2] = p /\ fork' = [f \in 1..2 |-> 0]
Act(p) == TakeFirst(p) \/ TakeSecond(p) \/ PutBack(p)
Next == \E p \in 1..2 : Act(p)
Spec == Init /\ [][Next]_fork /\ \A p \in 1..2 : SF_fork(TakeFirst(p)) /\ SF_fork(TakeSecond(p)) /\ WF_fork(PutBack(p))
Eats == (fork[1] = 1) ~> (fork[1] = 1 /\ fork[2] = 1)
====================================================================================================
