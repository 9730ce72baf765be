--------------------------- MODULE MCRaftLogBroken ---------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take.                                              *)
EXTENDS RaftLog

\* The vote was not on disk when it was sent: after the crash there is another.
CrashForgetsVote(i) ==
    /\ MayCrash(i)
    /\ Forget(i)
    /\ vote' = [vote EXCEPT ![i] = Nobody]
    /\ UNCHANGED <<term, log, net, cut, stable, history>>

\* The entry was not on disk when it was acknowledged.
CrashForgetsEntry(i) ==
    /\ MayCrash(i)
    /\ Len(log[i]) > 0
    /\ Forget(i)
    /\ log' = [log EXCEPT ![i] = SubSeq(@, 1, Len(@) - 1)]
    /\ UNCHANGED <<term, vote, net, cut, stable, history>>

\* The leader commits what only it has.
CommitAlone(i) ==
    /\ i \notin down /\ role[i] = "leader"
    /\ commit[i] < Len(log[i])
    /\ commit' = [commit EXCEPT ![i] = @ + 1]
    /\ chosen' = chosen \cup Prefix(log[i], commit[i] + 1)
    /\ UNCHANGED <<durable, role, granted, match, net, world, elected, tried, budget>>

SpecCrashForgetsVote == Init /\ [][Next \/ \E i \in Servers : CrashForgetsVote(i)]_vars
SpecCrashForgetsEntry == Init /\ [][Next \/ \E i \in Servers : CrashForgetsEntry(i)]_vars
SpecCommitAlone == Init /\ [][Next \/ \E i \in Servers : CommitAlone(i)]_vars
=============================================================================
