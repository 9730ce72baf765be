-------------------------- MODULE MCTwoPhaseBroken --------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take, and TLC must find the disaster.              *)
EXTENDS TwoPhase

\* The coordinator forgets a committed transaction before all acks are in.
\* Who asks later is told that no record means abort.
EndEarly ==
    /\ coord = "committed"
    /\ await # {}
    /\ coord' = "ended"
    /\ record' = "end"
    /\ await' = {}
    /\ UNCHANGED <<part, down, cut, net, budget>>

\* The coordinator acts on the decision before the commit record is forced.
DecideUnlogged ==
    /\ coord = "waiting"
    /\ await = {}
    /\ coord' = "committed"
    /\ await' = Participants
    /\ UNCHANGED <<record, part, down, cut, net, budget>>

\* A crash takes the prepared record with it: the vote left before the flush.
CrashForgetsVote(p) ==
    /\ p \notin down
    /\ part[p] = "prepared"
    /\ budget.part > 0
    /\ down' = down \cup {p}
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ budget' = [budget EXCEPT !.part = @ - 1]
    /\ UNCHANGED <<coord, await, record, cut, net>>

\* A participant in doubt loses patience.
GiveUpInDoubt(p) ==
    /\ p \notin down
    /\ part[p] = "prepared"
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ UNCHANGED <<coord, await, record, down, cut, net, budget>>

\* A peer that is in doubt itself answers that it does not know of a commit.
TellInDoubt(q, p) ==
    /\ q # p /\ Msg("ask", p) \in net /\ q \notin down
    /\ part[q] = "prepared"
    /\ Msg("tellabort", p) \notin net
    /\ net' = net \cup {Msg("tellabort", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* A peer that has not voted answers abort, and votes yes all the same.
TellUnbound(q, p) ==
    /\ q # p /\ Msg("ask", p) \in net /\ q \notin down
    /\ part[q] = "working"
    /\ Msg("tellabort", p) \notin net
    /\ net' = net \cup {Msg("tellabort", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* A participant with something to write votes as if it had only read.
LeaveWithWrites(p) ==
    /\ AtParticipant("prepare", p)
    /\ part[p] = "working" /\ p \notin Readers
    /\ part' = [part EXCEPT ![p] = "left"]
    /\ net' = Without("prepare", p) \cup {Msg("read", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

\* A reader that has left answers like one that never voted.
TellLeft(q, p) ==
    /\ q # p /\ Msg("ask", p) \in net /\ q \notin down
    /\ part[q] = "left"
    /\ Msg("tellabort", p) \notin net
    /\ net' = net \cup {Msg("tellabort", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* Who decided alone acknowledges a commit that it has not heard of, to be rid
\* of it: the coordinator forgets, and presumes abort.
AckAlone(p) ==
    /\ p \notin down
    /\ part[p] \in Alone
    /\ Msg("ack", p) \notin net
    /\ net' = net \cup {Msg("ack", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

SpecAckAlone == Init /\ [][Next \/ \E p \in Participants : AckAlone(p)]_vars
SpecLeaveWithWrites == Init /\ [][Next \/ \E p \in Participants : LeaveWithWrites(p)]_vars
SpecTellLeft == Init /\ [][Next \/ \E p, q \in Participants : TellLeft(q, p)]_vars
SpecTellInDoubt == Init /\ [][Next \/ \E p, q \in Participants : TellInDoubt(q, p)]_vars
SpecTellUnbound == Init /\ [][Next \/ \E p, q \in Participants : TellUnbound(q, p)]_vars
SpecEndEarly == Init /\ [][Next \/ EndEarly]_vars
SpecDecideUnlogged == Init /\ [][Next \/ DecideUnlogged]_vars
SpecCrashForgetsVote == Init /\ [][Next \/ \E p \in Participants : CrashForgetsVote(p)]_vars
SpecGiveUpInDoubt == Init /\ [][Next \/ \E p \in Participants : GiveUpInDoubt(p)]_vars
=============================================================================
