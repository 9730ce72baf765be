----------------------------- MODULE MCHlcBroken -----------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take.                                              *)
EXTENDS Hlc

\* A node restarts from its wall clock alone.
RestartForgets(i) ==
    /\ i \in down
    /\ down' = down \ {i}
    /\ clock' = [clock EXCEPT ![i] = <<pt[i], 0>>]
    /\ UNCHANGED <<pt, floor, past, net, cut, budget>>

\* The stamp is the wall clock.
SendWallClock(i, j) == i # j /\ SendStamp(i, j, <<pt[i], 0>>)

\* A receiver takes over the sender's l, but not the sender's c.
ReceiveIgnoresCounter(i) ==
    \E m \in net :
        /\ Take(i, m)
        /\ clock' = [clock EXCEPT ![i] = Event(i, clock[i], <<m.stamp[1], 0>>)]

SpecRestartForgets == Init /\ [][Next \/ \E i \in Nodes : RestartForgets(i)]_vars
SpecSendWallClock == Init /\ [][Next \/ \E i, j \in Nodes : SendWallClock(i, j)]_vars
SpecReceiveIgnoresCounter ==
    Init /\ [][Next \/ \E i \in Nodes : ReceiveIgnoresCounter(i)]_vars
=============================================================================
