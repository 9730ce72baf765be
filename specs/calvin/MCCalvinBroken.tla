--------------------------- MODULE MCCalvinBroken ---------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take.                                              *)
EXTENDS Calvin

\* A passive participant reads for a later position before its turn: without
\* the lock, the row may still be written by what stands in between.
ReadAhead(s) ==
    \E i \in {next[s] + 1} :
        /\ s \notin down /\ i <= got[s]
        /\ First(i) /\ s \in Reads(log[i]) \ {Home(log[i])}
        /\ [pos |-> i, from |-> s, ver |-> ver[s]] \notin net
        /\ net' = net \cup {[pos |-> i, from |-> s, ver |-> ver[s]]}
        /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, acks, done, cut, down, budget>>

\* A duplicate is executed again.
ExecuteAgain(s) ==
    \E i \in {next[s]} :
        /\ Turn(s, i)
        /\ ~First(i) /\ s = Home(log[i]) /\ Reads(log[i]) = {s}
        /\ done' = [done EXCEPT ![log[i]] = @ \cup {[k \in {s} |-> ver[s]]}]
        /\ ver' = [ver EXCEPT ![s] = i]
        /\ next' = [next EXCEPT ![s] = i + 1]
        /\ UNCHANGED <<client, before, log, seqUp, got, out, inbox, disk, net, acks, cut, down, budget>>

\* The checkpoint forgets what was read for others.
CrashForgetsReads(s) ==
    /\ s \notin down
    /\ budget.crash > 0
    /\ down' = down \cup {s}
    /\ out' = [out EXCEPT ![s] = <<>>]
    /\ inbox' = [inbox EXCEPT ![s] = {}]
    /\ budget' = [budget EXCEPT !.crash = @ - 1]
    /\ UNCHANGED <<client, before, log, seqUp, got, next, ver, disk, net, acks, done, cut>>

SpecReadAhead == Init /\ [][Next \/ \E s \in Shards : ReadAhead(s)]_vars
SpecExecuteAgain == Init /\ [][Next \/ \E s \in Shards : ExecuteAgain(s)]_vars
SpecCrashForgetsReads ==
    /\ Init /\ [][Next \/ \E s \in Shards : CrashForgetsReads(s)]_vars
    /\ Progress /\ WeakDelivery /\ Healing
=============================================================================
