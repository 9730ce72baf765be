----------------------------- MODULE ThreePhase -----------------------------
(***************************************************************************)
(* Three-phase commit (Skeen, "Nonblocking commit protocols", SIGMOD 1981; *)
(* Skeen and Stonebraker, "A formal model of crash recovery in a           *)
(* distributed system", TSE 9(3), 1983): one transaction, the coordinator  *)
(* 0, participants 1 to N.                                                 *)
(*                                                                         *)
(*     canCommit, yes or no      the votes                                 *)
(*     preCommit, ack            everybody knows that all have voted yes   *)
(*     commit                    the decision                              *)
(*                                                                         *)
(* The extra phase keeps apart what must never be found side by side: no   *)
(* participant is uncertain (prepared) while another one has committed     *)
(* (NoneUncertain; Skeen's condition for a protocol that does not block).  *)
(*                                                                         *)
(* Termination (Bernstein, Hadzilacos and Goodman, section 7.5): when the  *)
(* coordinator is suspected, the first participant that is not takes its   *)
(* place.  It asks the others for their states.  If anybody whom it hears  *)
(* is pre-committed it brings all to PreCommit and then commits, else it   *)
(* aborts.  A participant obeys the latest coordinator that it has         *)
(* answered, and no earlier one.                                           *)
(*                                                                         *)
(* A participant that has crashed may have missed what the others did: it  *)
(* leads no more, its state does not count, and it waits to be told.       *)
(* Where all have crashed nobody is left to tell.  Then their states on    *)
(* disk decide, and those of all are needed.                               *)
(*                                                                         *)
(* What is forced to disk before anybody hears of it: a yes vote, a        *)
(* participant's PreCommit, its commit, and the abort of an elected        *)
(* coordinator.  The coordinator 0 has no disk: once it has crashed it has *)
(* left the transaction to the participants.                               *)
(*                                                                         *)
(* The assumption: who is suspected has crashed.  With MaxWrong one may be *)
(* suspected that has not (it was slow), and with MaxCuts a node may be    *)
(* cut off, which looks the same from both sides.  Then atomicity fails    *)
(* (MCThreePhaseSuspicion, MCThreePhasePartition).  It fails after a       *)
(* single crash if each participant decides alone when its own timer fires *)
(* (MCThreePhaseOwnTimeout).                                               *)
(*                                                                         *)
(* The network is a set of all messages that were ever sent: they are      *)
(* received late, again, or never.  A receipt has no action of its own;    *)
(* what follows from messages names them in its guard.  Whoever knows the  *)
(* decision tells it to everybody, at once; the code tells those who ask.  *)
(***************************************************************************)
EXTENDS Naturals

CONSTANTS
    N,                  \* how many participants
    MaxCoordCrashes,    \* how often the coordinator may crash: 0 or 1
    MaxPartCrashes,     \* how many crashes of participants there may be
    MaxWrong,           \* how many nodes may be suspected that have not crashed
    MaxCuts,            \* how many nodes may be cut off from the others
    OwnTimeouts         \* TRUE: nobody is elected, each decides by its own timeout

VARIABLES
    coord,      \* the coordinator: idle, waiting (for votes), precommitting,
                \* committed, aborted; or left, once it has crashed
    part,       \* a participant's state.  All but working is on its disk.
    down,       \* the participants that are down
    fallen,     \* the nodes that have crashed at some time
    suspected,  \* the nodes that are suspected to have crashed
    apart,      \* the nodes that are cut off from the others
    follows,    \* the latest coordinator that a participant has answered
    net,        \* the messages that were ever sent
    budget      \* the faults that may still happen

vars == <<coord, part, down, fallen, suspected, apart, follows, net, budget>>

ASSUME N \in 1..7

Participants == 1..N
Nodes == 0..N

InDoubt == {"prepared", "precommitted"}
Final == {"committed", "aborted"}

Msg(type, x, y) == [type |-> type, from |-> x, to |-> y]
ToAll(type, x) == {Msg(type, x, p) : p \in Participants \ {x}}

ByCoordinator == {"cancommit", "precommit", "ask"}
ByParticipant ==
    {"yes", "no", "ack", "uncertain", "committable", "wasprepared", "wasprecommitted"}

TypeOK ==
    /\ coord \in {"idle", "waiting", "precommitting", "committed", "aborted", "left"}
    /\ part \in [Participants ->
                {"working", "prepared", "precommitted", "committed", "aborted"}]
    /\ down \subseteq fallen \ {0}
    /\ fallen \subseteq Nodes
    /\ suspected \subseteq Nodes
    /\ apart \subseteq Nodes
    /\ follows \in [Participants -> Nodes]
    /\ net \subseteq [type : ByCoordinator \cup ByParticipant \cup {"commit", "abort"},
                      from : Nodes, to : Nodes]
    /\ budget \in [coord : 0..MaxCoordCrashes, part : 0..MaxPartCrashes,
                   wrong : 0..MaxWrong, cut : 0..MaxCuts]

Init ==
    /\ coord = "idle"
    /\ part = [p \in Participants |-> "working"]
    /\ down = {}
    /\ fallen = {}
    /\ suspected = {}
    /\ apart = {}
    /\ follows = [p \in Participants |-> 0]
    /\ net = {}
    /\ budget = [coord |-> MaxCoordCrashes, part |-> MaxPartCrashes,
                 wrong |-> MaxWrong, cut |-> MaxCuts]

\* The nodes that x cannot reach.
Far(x) == IF x \in apart THEN Nodes \ apart ELSE apart

\* The nodes whose message of this type may be received by x.
From(type, x) == {y \in Nodes : Msg(type, y, x) \in net} \ Far(x)

\* Whom x takes for crashed.
Suspects(x) == (suspected \cup Far(x)) \ {x}

\* Up, and has been since the transaction began.
Survives(p) == p \notin fallen

-----------------------------------------------------------------------------
(* The coordinator.                                                        *)

Begin ==
    /\ coord = "idle"
    /\ coord' = "waiting"
    /\ net' = net \cup ToAll("cancommit", 0)
    /\ UNCHANGED <<part, down, fallen, suspected, apart, follows, budget>>

PreCommit ==
    /\ coord = "waiting"
    /\ Participants \subseteq From("yes", 0)
    /\ coord' = "precommitting"
    /\ net' = net \cup ToAll("precommit", 0)
    /\ UNCHANGED <<part, down, fallen, suspected, apart, follows, budget>>

\* Every participant has acknowledged or crashed, and one holds the record.
DecideCommit ==
    /\ coord = "precommitting"
    /\ From("ack", 0) # {}
    /\ Participants \subseteq From("ack", 0) \cup Suspects(0)
    /\ coord' = "committed"
    /\ net' = net \cup ToAll("commit", 0)
    /\ UNCHANGED <<part, down, fallen, suspected, apart, follows, budget>>

\* A no has come, or the vote timer fires.
DecideAbort ==
    /\ coord = "waiting"
    /\ coord' = "aborted"
    /\ net' = net \cup ToAll("abort", 0)
    /\ UNCHANGED <<part, down, fallen, suspected, apart, follows, budget>>

\* It knows nothing when it is back.
CrashCoordinator ==
    /\ coord \notin {"idle", "left"}
    /\ budget.coord > 0
    /\ coord' = "left"
    /\ fallen' = fallen \cup {0}
    /\ budget' = [budget EXCEPT !.coord = @ - 1]
    /\ UNCHANGED <<part, down, suspected, apart, follows, net>>

-----------------------------------------------------------------------------
(* The participants.                                                       *)

VoteYes(p) ==
    /\ p \notin down
    /\ part[p] = "working"
    /\ 0 \in From("cancommit", p)
    /\ part' = [part EXCEPT ![p] = "prepared"]
    /\ net' = net \cup {Msg("yes", p, 0)}
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* Before its vote, and only then, a participant may abort alone.
VoteNo(p) ==
    /\ p \notin down
    /\ part[p] = "working"
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup {Msg("no", p, 0)} \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* It obeys x, which is the coordinator or was elected.
EnterPreCommit(p, x) ==
    /\ Survives(p)
    /\ part[p] \in InDoubt
    /\ x \in From("precommit", p)
    /\ follows[p] <= x
    /\ Msg("ack", p, x) \notin net
    /\ part' = [part EXCEPT ![p] = "precommitted"]
    /\ follows' = [follows EXCEPT ![p] = x]
    /\ net' = net \cup {Msg("ack", p, x)}
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, budget>>

LearnCommit(p) ==
    /\ p \notin down
    /\ part[p] \in InDoubt
    /\ From("commit", p) # {}
    /\ part' = [part EXCEPT ![p] = "committed"]
    /\ net' = net \cup ToAll("commit", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

LearnAbort(p) ==
    /\ p \notin down
    /\ part[p] \in InDoubt
    /\ From("abort", p) # {}
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* What was not forced is gone, and the participant will vote no.
CrashParticipant(p) ==
    /\ p \notin down
    /\ coord # "idle"
    /\ budget.part > 0
    /\ down' = down \cup {p}
    /\ fallen' = fallen \cup {p}
    /\ part' = [part EXCEPT ![p] = IF @ = "working" THEN "aborted" ELSE @]
    /\ budget' = [budget EXCEPT !.part = @ - 1]
    /\ UNCHANGED <<coord, suspected, apart, follows, net>>

\* It tells what its disk holds.
RestartParticipant(p) ==
    /\ p \in down
    /\ down' = down \ {p}
    /\ net' = net \cup
              CASE part[p] = "prepared" -> ToAll("wasprepared", p)
                [] part[p] = "precommitted" -> ToAll("wasprecommitted", p)
                [] part[p] = "committed" -> ToAll("commit", p)
                [] OTHER -> {Msg("no", p, 0)} \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, part, fallen, suspected, apart, follows, budget>>

-----------------------------------------------------------------------------
(* Termination.                                                            *)

\* The timer of those who wait for x fires.
Suspect(x) ==
    /\ coord # "idle"
    /\ x \notin suspected
    /\ IF x \in fallen
       THEN budget' = budget
       ELSE /\ budget.wrong > 0
            /\ budget' = [budget EXCEPT !.wrong = @ - 1]
    /\ suspected' = suspected \cup {x}
    /\ UNCHANGED <<coord, part, down, fallen, apart, follows, net>>

\* All who come before it have crashed: p is elected, and asks the others.
Lead(p) ==
    /\ ~OwnTimeouts
    /\ Survives(p)
    /\ part[p] \in InDoubt
    /\ follows[p] < p
    /\ 0..(p - 1) \subseteq Suspects(p)
    /\ follows' = [follows EXCEPT ![p] = p]
    /\ net' = net \cup ToAll("ask", p)
    /\ UNCHANGED <<coord, part, down, fallen, suspected, apart, budget>>

\* Who answers obeys no earlier coordinator any more.  One that has not voted
\* votes no instead, and one that knows the decision has told it.
Answer(p, x) ==
    /\ Survives(p)
    /\ part[p] \in InDoubt
    /\ x \in From("ask", p)
    /\ follows[p] < x
    /\ follows' = [follows EXCEPT ![p] = x]
    /\ net' = net \cup {Msg(IF part[p] = "prepared" THEN "uncertain" ELSE "committable", p, x)}
    /\ UNCHANGED <<coord, part, down, fallen, suspected, apart, budget>>

Others(p) == Participants \ {p}

Leads(p) == Survives(p) /\ follows[p] = p

\* All whom it hears are uncertain, and so is it.
LeadAbort(p) ==
    /\ Leads(p)
    /\ part[p] = "prepared"
    /\ Others(p) \subseteq From("uncertain", p) \cup Suspects(p)
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

\* Somebody is pre-committed: first it, then all others have to be.
LeadPreCommit(p) ==
    /\ Leads(p)
    /\ part[p] \in InDoubt
    /\ Others(p) \subseteq From("uncertain", p) \cup From("committable", p) \cup Suspects(p)
    /\ part[p] = "prepared" => From("committable", p) # {}
    /\ ~(ToAll("precommit", p) \subseteq net)
    /\ part' = [part EXCEPT ![p] = "precommitted"]
    /\ net' = net \cup ToAll("precommit", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

LeadCommit(p) ==
    /\ Leads(p)
    /\ part[p] = "precommitted"
    /\ ToAll("precommit", p) \subseteq net
    /\ Others(p) \subseteq From("ack", p) \cup Suspects(p)
    /\ part' = [part EXCEPT ![p] = "committed"]
    /\ net' = net \cup ToAll("commit", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

(* All have crashed, and p has heard from everybody that is back: nobody had *)
(* decided.  What all know then changes no more.                             *)

RecoverCommit(p) ==
    /\ p \in fallen \ down
    /\ part[p] \in InDoubt
    /\ Others(p) \subseteq From("wasprepared", p) \cup From("wasprecommitted", p)
    /\ part[p] = "prepared" => From("wasprecommitted", p) # {}
    /\ part' = [part EXCEPT ![p] = "committed"]
    /\ net' = net \cup ToAll("commit", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

RecoverAbort(p) ==
    /\ p \in fallen \ down
    /\ part[p] = "prepared"
    /\ Others(p) \subseteq From("wasprepared", p)
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

(* The variant without an election (Skeen 1981: timeout transitions, which   *)
(* are for two sites).                                                       *)

TimeoutAbort(p) ==
    /\ OwnTimeouts
    /\ Survives(p)
    /\ part[p] = "prepared"
    /\ 0 \in Suspects(p)
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = net \cup ToAll("abort", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

TimeoutCommit(p) ==
    /\ OwnTimeouts
    /\ Survives(p)
    /\ part[p] = "precommitted"
    /\ 0 \in Suspects(p)
    /\ part' = [part EXCEPT ![p] = "committed"]
    /\ net' = net \cup ToAll("commit", p)
    /\ UNCHANGED <<coord, down, fallen, suspected, apart, follows, budget>>

-----------------------------------------------------------------------------
\* The network loses what passes between this node and the others from now on.
CutOff(x) ==
    /\ coord # "idle"
    /\ x \notin apart
    /\ budget.cut > 0
    /\ apart' = apart \cup {x}
    /\ budget' = [budget EXCEPT !.cut = @ - 1]
    /\ UNCHANGED <<coord, part, down, fallen, suspected, follows, net>>

Next ==
    \/ Begin \/ PreCommit \/ DecideCommit \/ DecideAbort \/ CrashCoordinator
    \/ \E x \in Nodes : Suspect(x) \/ CutOff(x)
    \/ \E p \in Participants :
        \/ VoteYes(p) \/ VoteNo(p) \/ LearnCommit(p) \/ LearnAbort(p)
        \/ CrashParticipant(p) \/ RestartParticipant(p)
        \/ Lead(p) \/ LeadAbort(p) \/ LeadPreCommit(p) \/ LeadCommit(p)
        \/ RecoverCommit(p) \/ RecoverAbort(p)
        \/ TimeoutAbort(p) \/ TimeoutCommit(p)
        \/ \E x \in Nodes : EnterPreCommit(p, x) \/ Answer(p, x)

(***************************************************************************)
(* Fairness.  Begin is the client's choice, and faults are never fair.     *)
(* Timers fire (VoteNo, DecideAbort, Suspect of who has crashed, Lead),    *)
(* steps are taken, and of the messages those are delivered whose sender   *)
(* is up: one that crashed while it sent them may not have sent them all.  *)
(* Weak fairness says it, since messages stay.                             *)
(*                                                                         *)
(* Whether a participant comes back is kept apart.  Those that never       *)
(* crash end in any case (SurvivorsEnd), which 2PC cannot promise:         *)
(* specs/two_phase, MCTwoPhaseBlocking.  All of them end if all come back  *)
(* (Termination).                                                          *)
(***************************************************************************)
Alive(x) == IF x = 0 THEN coord # "left" ELSE x \notin down

Tells(type, p) == {x \in From(type, p) : Alive(x)} # {}

Progress ==
    /\ WF_vars(PreCommit)
    /\ WF_vars(DecideCommit)
    /\ WF_vars(DecideAbort)
    /\ \A x \in Nodes : WF_vars(x \in fallen /\ Suspect(x))
    /\ \A p \in Participants :
        /\ WF_vars(VoteNo(p))
        /\ WF_vars(Tells("commit", p) /\ LearnCommit(p))
        /\ WF_vars(Tells("abort", p) /\ LearnAbort(p))
        /\ WF_vars(Lead(p))
        /\ WF_vars(LeadAbort(p))
        /\ WF_vars(LeadPreCommit(p))
        /\ WF_vars(LeadCommit(p))
        /\ WF_vars(RecoverCommit(p))
        /\ WF_vars(RecoverAbort(p))
        /\ \A x \in Nodes :
            /\ WF_vars(Alive(x) /\ EnterPreCommit(p, x))
            /\ WF_vars(Alive(x) /\ Answer(p, x))

Safe == Init /\ [][Next]_vars

\* Who is down may stay down for ever.
Spec == Safe /\ Progress

\* Every participant comes back.
SpecReturns == Spec /\ \A p \in Participants : WF_vars(RestartParticipant(p))

-----------------------------------------------------------------------------
(* Safety.                                                                 *)

\* AC1 of Bernstein, Hadzilacos and Goodman, chapter 7; the coordinator's
\* decision, of which the client may have heard, included.
Atomicity ==
    \A p \in Participants :
        /\ part[p] = "aborted" => coord # "committed"
        /\ part[p] = "committed" => coord # "aborted"
        /\ part[p] = "committed" => \A q \in Participants : part[q] # "aborted"

\* A commit needs everybody's yes vote.
CommitNeedsVotes ==
    (coord = "committed" \/ \E p \in Participants : part[p] = "committed")
        => \A q \in Participants : Msg("yes", q, 0) \in net

\* Skeen's condition: who survives is not uncertain once anybody commits.
NoneUncertain ==
    (coord = "committed" \/ \E p \in Participants \ fallen : part[p] = "committed")
        => \A q \in Participants \ fallen : part[q] # "prepared"

\* No decision is ever reversed.
Stable ==
    [][\A p \in Participants : part[p] \in Final => part'[p] = part[p]]_vars

-----------------------------------------------------------------------------
(* Liveness.                                                               *)

Initiated == coord # "idle"
Ended == \A p \in Participants : part[p] \in Final

\* Every initiated transaction ends, one way or the other, everywhere.
Termination == Initiated ~> Ended

\* It ends wherever nobody has crashed, whoever else is down.
SurvivorsEnd == Initiated ~> \A p \in Participants \ fallen : part[p] \in Final
=============================================================================
