--------------------------------------- MODULE RetryUntilAck ---------------------------------------
\* Requests and acks are lost without limit, the server is idempotent: SF of both receipts ends it.
VARIABLES client, server, wire
vars == <<client, server, wire>>
Init == client = "new" /\ server = "new" /\ wire = "none"
Send == client # "done" /\ wire = "none" /\ wire' = "request" /\ client' = "waiting" /\ UNCHANGED server
Lose == wire # "none" /\ wire' = "none" /\ UNCHANGED <<client, server>>
Apply == wire = "request" /\ server' = "applied" /\ wire' = "ack" /\ UNCHANGED client
Finish == wire = "ack" /\ client' = "done" /\ wire' = "none" /\ UNCHANGED server
Next == Send \/ Lose \/ Apply \/ Finish
Weak == Init /\ [][Next]_vars /\ WF_vars(Send) /\ WF_vars(Apply) /\ WF_vars(Finish)
StrongApply == Init /\ [][Next]_vars /\ WF_vars(Send) /\ SF_vars(Apply) /\ WF_vars(Finish)
Strong == Init /\ [][Next]_vars /\ WF_vars(Send) /\ SF_vars(Apply) /\ SF_vars(Finish)
Applied == <>(server = "applied")
Done == (client = "waiting") ~> (client = "done")
AckedIsApplied == [](client = "done" => server = "applied")
====================================================================================================
