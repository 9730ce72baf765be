------------------------------------- MODULE EventuallyStable --------------------------------------
\* The network goes up and down until it becomes stable, which is the assumption "eventually up".
VARIABLES up, stable, sent
vars == <<up, stable, sent>>
Init == up = TRUE /\ stable = FALSE /\ sent = "no"
Cut == up /\ ~stable /\ up' = FALSE /\ UNCHANGED <<stable, sent>>
Heal == ~up /\ up' = TRUE /\ UNCHANGED <<stable, sent>>
Stabilize == up /\ ~stable /\ stable' = TRUE /\ UNCHANGED <<up, sent>>
Send == sent = "no" /\ sent' = "flying" /\ UNCHANGED <<up, stable>>
Deliver == sent = "flying" /\ up /\ sent' = "there" /\ UNCHANGED <<up, stable>>
Next == Cut \/ Heal \/ Stabilize \/ Send \/ Deliver
Base == Init /\ [][Next]_vars /\ WF_vars(Heal) /\ WF_vars(Deliver)
MayFlap == Base
BecomesStable == Base /\ SF_vars(Stabilize)
WeaklyStable == Base /\ WF_vars(Stabilize)
Arrives == (sent = "flying") ~> (sent = "there")
Settles == <>[](up)
====================================================================================================
