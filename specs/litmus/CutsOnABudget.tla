--------------------------------------- MODULE CutsOnABudget ---------------------------------------
\* As CutAndHealForEver with at most two cuts: weak fairness suffices.
EXTENDS Naturals
VARIABLES up, sent, cuts
vars == <<up, sent, cuts>>
Init == up = TRUE /\ sent = FALSE /\ cuts = 0
Cut == up /\ cuts < 2 /\ up' = FALSE /\ cuts' = cuts + 1 /\ UNCHANGED sent
Heal == ~up /\ up' = TRUE /\ UNCHANGED <<sent, cuts>>
Deliver == up /\ ~sent /\ sent' = TRUE /\ UNCHANGED <<up, cuts>>
Next == Cut \/ Heal \/ Deliver
Weak == Init /\ [][Next]_vars /\ WF_vars(Heal) /\ WF_vars(Deliver)
OnlyDeliver == Init /\ [][Next]_vars /\ WF_vars(Deliver)
Arrives == <>(sent)
Monotone == [][cuts' >= cuts /\ (sent => sent')]_vars
====================================================================================================
