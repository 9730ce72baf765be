-------------------------------------- MODULE AlternatingBit ---------------------------------------
\* The alternating-bit protocol over lossy slots that hold one message: both deliveries need strong fairness.
EXTENDS Naturals
VARIABLES sbit, rbit, data, ack
vars == <<sbit, rbit, data, ack>>
None == 2
Init == sbit = 0 /\ rbit = 1 /\ data = None /\ ack = None
Send == data = None /\ data' = sbit /\ UNCHANGED <<sbit, rbit, ack>>
LoseData == data # None /\ data' = None /\ UNCHANGED <<sbit, rbit, ack>>
LoseAck == ack # None /\ ack' = None /\ UNCHANGED <<sbit, rbit, data>>
Receive == data # None /\ data' = None /\ rbit' = data /\ ack' = data /\ UNCHANGED sbit
Acked == ack # None /\ ack' = None /\ sbit' = (IF ack = sbit THEN 1 - sbit ELSE sbit) /\ UNCHANGED <<rbit, data>>
Next == Send \/ LoseData \/ LoseAck \/ Receive \/ Acked
Strong == Init /\ [][Next]_vars /\ WF_vars(Send) /\ SF_vars(Receive) /\ SF_vars(Acked)
HalfStrong == Init /\ [][Next]_vars /\ WF_vars(Send) /\ SF_vars(Receive) /\ WF_vars(Acked)
GoesOn == []<>(sbit = 0 /\ rbit = 0)
InStep == (rbit = sbit) ~> (rbit # sbit)
====================================================================================================
