------------------------------------- MODULE CutAndHealForEver -------------------------------------
\* Partitions may recur without limit: weak fairness of Deliver promises nothing, strong fairness does.
VARIABLES up, sent
vars == <<up, sent>>
Init == up = TRUE /\ sent = FALSE
Cut == up /\ up' = FALSE /\ UNCHANGED sent
Heal == ~up /\ up' = TRUE /\ UNCHANGED sent
Deliver == up /\ ~sent /\ sent' = TRUE /\ UNCHANGED up
Next == Cut \/ Heal \/ Deliver
Weak == Init /\ [][Next]_vars /\ WF_vars(Heal) /\ WF_vars(Deliver)
Strong == Init /\ [][Next]_vars /\ WF_vars(Heal) /\ SF_vars(Deliver)
NoHealing == Init /\ [][Next]_vars /\ SF_vars(Deliver)
Arrives == <>(sent)
====================================================================================================
