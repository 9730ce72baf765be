---------------------------------------- MODULE TestAndSet -----------------------------------------
\* A plain lock: the waiting process is enabled only while the lock is free. Weak fairness starves it, strong does not.
EXTENDS Naturals
VARIABLE holder
Init == holder = 0
Take(p) == holder = 0 /\ holder' = p
Release(p) == holder = p /\ holder' = 0
Next == \E p \in 1..2 : Take(p) \/ Release(p)
Weak == Init /\ [][Next]_holder /\ \A p \in 1..2 : WF_holder(Take(p)) /\ WF_holder(Release(p))
Strong == Init /\ [][Next]_holder /\ \A p \in 1..2 : SF_holder(Take(p)) /\ WF_holder(Release(p))
Turns == []<>(holder = 2)
Releases == (holder = 2) ~> (holder = 0)
====================================================================================================
