------------------------- MODULE MCThreePhaseBroken -------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take, and TLC must find the disaster.              *)
EXTENDS ThreePhase

\* The coordinator commits when it has sent PreCommit, without the acks: that
\* is two-phase commit with an idle message.
CommitUnacked ==
    /\ coord = "precommitting"
    /\ coord' = "committed"
    /\ net' = net \cup ToAll("commit", 0)
    /\ UNCHANGED <<part, down, fallen, suspected, apart, follows, budget>>

\* A restarted participant leads as if it had been there all the time.
LeadFallen(p) ==
    /\ p \in fallen \ down
    /\ part[p] = "prepared"
    /\ Nodes \ {p} \subseteq Suspects(p)
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* An elected coordinator goes by its own state only.
AbortUncertain(p) ==
    /\ Leads(p)
    /\ part[p] = "prepared"
    /\ Others(p) \subseteq From("uncertain", p) \cup From("committable", p) \cup Suspects(p)
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* An elected coordinator that is pre-committed commits at once: the others
\* are left uncertain.
CommitAtOnce(p) ==
    /\ Leads(p)
    /\ part[p] = "precommitted"
    /\ part' = [part EXCEPT ![p] = "committed"]
    /\ net' = net \cup ToAll("commit", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* A participant still obeys the coordinator that was replaced.
ObeyReplaced(p, x) ==
    /\ Survives(p)
    /\ part[p] = "prepared"
    /\ x \in From("precommit", p)
    /\ x < follows[p]
    /\ part' = [part EXCEPT ![p] = "precommitted"]
    /\ net' = net \cup {Msg("ack", p, x)}
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* PreCommit was acknowledged before it was forced, and the crash took it.
CrashForgetsPreCommit(p) ==
    /\ p \notin down
    /\ part[p] = "precommitted"
    /\ budget.part > 0
    /\ down' = down \cup {p}
    /\ fallen' = fallen \cup {p}
    /\ part' = [part EXCEPT ![p] = "prepared"]
    /\ budget' = [budget EXCEPT !.part = @ - 1]
    /\ UNCHANGED <<coord, suspected, apart, follows, net>>

SpecCommitUnacked == Init /\ [][Next \/ CommitUnacked]_vars
SpecLeadFallen == Init /\ [][Next \/ \E p \in Participants : LeadFallen(p)]_vars
SpecAbortUncertain == Init /\ [][Next \/ \E p \in Participants : AbortUncertain(p)]_vars
SpecCommitAtOnce == Init /\ [][Next \/ \E p \in Participants : CommitAtOnce(p)]_vars
SpecObeyReplaced ==
    Init /\ [][Next \/ \E p \in Participants, x \in Nodes : ObeyReplaced(p, x)]_vars
SpecCrashForgetsPreCommit ==
    Init /\ [][Next \/ \E p \in Participants : CrashForgetsPreCommit(p)]_vars
=============================================================================
