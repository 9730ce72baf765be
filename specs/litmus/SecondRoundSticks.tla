------------------------------------- MODULE SecondRoundSticks -------------------------------------
\* P ~> Q is met the first time; the second request is never served.
EXTENDS Naturals
VARIABLES round, asked
vars == <<round, asked>>
Init == round = 1 /\ asked = FALSE
Ask == ~asked /\ asked' = TRUE /\ UNCHANGED round
Serve == asked /\ round = 1 /\ asked' = FALSE /\ round' = 2
Next == Ask \/ Serve
Spec == Init /\ [][Next]_vars /\ WF_vars(Ask) /\ WF_vars(Serve)
Served == asked ~> ~asked
ServedOnce == <>(round = 2)
====================================================================================================
