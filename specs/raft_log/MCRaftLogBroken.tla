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
    /\ chosen' = Choose(log[i], commit[i] + 1, term[i])
    /\ UNCHANGED <<durable, role, granted, match, net, world, elected, tried, budget>>

\* A vote for whoever asks first, without a look at the logs (section 5.4.1).
VoteBlindly(i) ==
    \E m \in net :
        /\ m.type = "ask" /\ m.to = i /\ Arrives(m)
        /\ m.term > term[i] \/ (m.term = term[i] /\ vote[i] \in {Nobody, m.from})
        /\ ~UpToDate(m.last, m.len, i)
        /\ net' = (net \ {m}) \cup {[type |-> "vote", from |-> i, to |-> m.from, term |-> m.term]}
        /\ vote' = [vote EXCEPT ![i] = m.from]
        /\ IF m.term > term[i]
           THEN StepDown(i, m.term)
           ELSE UNCHANGED <<term, role, granted, match>>
        /\ UNCHANGED <<log, commit, world, history, budget>>

\* An entry of an earlier term is committed because a majority has it (section 5.4.2).
CommitOldTerm(i, n) == n <= Len(log[i]) /\ log[i][n] < term[i] /\ Commits(i, n)

\* A follower keeps what contradicts its leader, and takes what goes beyond
\* (step 3 of AppendEntries in figure 2).
KeepConflict(i) ==
    \E m \in net :
        /\ m.type = "append" /\ m.to = i /\ Arrives(m)
        /\ m.term >= term[i] /\ m.prev <= Len(log[i])
        /\ LET theirs == m.prev + Len(m.entries)
               mine == Min(Len(log[i]), theirs)
               kept == log[i] \o SubSeq(m.entries, mine - m.prev + 1, Len(m.entries))
               known == Max(commit[i], Min(m.commit, theirs))
           IN  /\ SubSeq(log[i], m.prev + 1, mine) # SubSeq(m.entries, 1, mine - m.prev)
               /\ net' = (net \ {m}) \cup {[type |-> "ack", from |-> i, to |-> m.from,
                                             term |-> m.term, match |-> theirs]}
               /\ log' = [log EXCEPT ![i] = kept]
               /\ vote' = [vote EXCEPT ![i] = IF m.term > term[i] THEN Nobody ELSE @]
               /\ StepDown(i, m.term)
               /\ commit' = [commit EXCEPT ![i] = known]
               /\ chosen' = Choose(kept, known, m.term)
        /\ UNCHANGED <<world, elected, tried, budget>>

SpecCrashForgetsVote == Init /\ [][Next \/ \E i \in Servers : CrashForgetsVote(i)]_vars
SpecCrashForgetsEntry == Init /\ [][Next \/ \E i \in Servers : CrashForgetsEntry(i)]_vars
SpecCommitAlone == Init /\ [][Next \/ \E i \in Servers : CommitAlone(i)]_vars
SpecVoteBlindly == Init /\ [][Next \/ \E i \in Servers : VoteBlindly(i)]_vars
SpecCommitOldTerm ==
    InitFigure8 /\ [][Next \/ \E i \in Servers : \E n \in 1..MaxEntries : CommitOldTerm(i, n)]_vars
SpecKeepConflict == InitFigure8 /\ [][Next \/ \E i \in Servers : KeepConflict(i)]_vars
=============================================================================
