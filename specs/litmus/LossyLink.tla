----------------------------------------- MODULE LossyLink -----------------------------------------
\* A message may be lost again and again: Deliver is never enabled for ever, so only strong fairness delivers.
VARIABLE link
Init == link = "idle"
Send == link = "idle" /\ link' = "flying"
Lose == link = "flying" /\ link' = "idle"
Deliver == link = "flying" /\ link' = "done"
Next == Send \/ Lose \/ Deliver
Weak == Init /\ [][Next]_link /\ WF_link(Send) /\ WF_link(Deliver)
Strong == Init /\ [][Next]_link /\ WF_link(Send) /\ SF_link(Deliver)
StrongAlone == Init /\ [][Next]_link /\ SF_link(Deliver)
Delivered == (link = "flying") ~> (link = "done")
====================================================================================================
