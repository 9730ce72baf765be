-------------------------- MODULE MCRaftDiskBroken --------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take.                                              *)
EXTENDS RaftDisk

\* Messages do not wait for the disk.
SpeakEarly(i) ==
    /\ i \notin down /\ outbox[i] # {}
    /\ net' = net \cup outbox[i]
    /\ outbox' = [outbox EXCEPT ![i] = {}]
    /\ UNCHANGED <<saved, volatile, down, history, budget>>

\* The leader counts what it has not flushed.
CountUnflushed(i) ==
    /\ i \notin down /\ role[i] = "leader"
    /\ commit[i] < Len(Log(i)) /\ Log(i)[commit[i] + 1] = Term(i)
    /\ Quorum({j \in Servers : i = j \/ match[i][j] > commit[i]})
    /\ commit' = [commit EXCEPT ![i] = @ + 1]
    /\ chosen' = chosen \cup Prefix(Log(i), commit[i] + 1)
    /\ UNCHANGED <<saved, outbox, role, granted, match, net, down, elected, budget>>

\* A vote for whoever asks first, without a look at the logs (section 5.4.1).
VoteBlindly(i) ==
    \E m \in net :
        /\ m.type = "ask" /\ m.to = i /\ i \notin down
        /\ m.term = Term(i) /\ Mem(i).vote \in {Nobody, m.from}
        /\ ~UpToDate(m.last, m.len, i)
        /\ IF Mem(i).vote = Nobody THEN Write(i, [Mem(i) EXCEPT !.vote = m.from]) ELSE saved' = saved
        /\ Say(i, [type |-> "vote", from |-> i, to |-> m.from, term |-> m.term])
        /\ UNCHANGED <<volatile, down, history, budget>>

SpecSpeakEarly == Init /\ [][Next \/ \E i \in Servers : SpeakEarly(i)]_vars
SpecCountUnflushed == Init /\ [][Next \/ \E i \in Servers : CountUnflushed(i)]_vars
SpecVoteBlindly ==
    InitSuccession /\ [][NextSuccession \/ \E i \in Servers : VoteBlindly(i)]_vars
=============================================================================
