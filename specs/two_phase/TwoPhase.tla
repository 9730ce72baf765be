------------------------------ MODULE TwoPhase ------------------------------
(***************************************************************************)
(* Two-phase commit with presumed abort (Mohan, Lindsay and Obermarck,     *)
(* "Transaction management in the R* distributed database management       *)
(* system", TODS 1986): one transaction, one coordinator, a fixed set of   *)
(* participants.  Messages are lost, overtake one another and arrive late; *)
(* links to single participants are cut; every node crashes and restarts.  *)
(*                                                                         *)
(* What is forced to disk before anybody hears of it:                      *)
(*   - a participant's prepared record, before its yes vote leaves;        *)
(*   - the coordinator's commit record, before the first commit message;   *)
(*   - a participant's commit record, before its ack leaves.               *)
(* Aborts are not forced: whoever finds no record presumes abort.          *)
(*                                                                         *)
(* Duplicates need no action of their own: whatever may be sent again      *)
(* (prepare, commit, inquiry) is sent again at any time, and so its        *)
(* answers (yes, no, ack, commit, abort) come again too.  That argument    *)
(* can be checked: with Duplicates, messages are never used up.            *)
(*                                                                         *)
(* With Cooperative, participants in doubt ask one another as well         *)
(* (Bernstein, Hadzilacos and Goodman, section 7.4).  That ends the doubt  *)
(* wherever somebody knows the decision or has not voted, and nowhere      *)
(* else: MCTwoPhasePeers still blocks when all have voted.                 *)
(*                                                                         *)
(* Readers have nothing to write, and nothing to lose: they vote "read",   *)
(* force nothing, give up their locks and leave, and the second phase is   *)
(* without them (section 3.1 of the same paper).  Who has left knows       *)
(* nothing of the transaction, and votes no if it is asked again.  An      *)
(* abort may be told to them as well: until their vote is in they may      *)
(* hold locks.                                                             *)
(*                                                                         *)
(* With HeuristicCommits or HeuristicAborts a participant in doubt may     *)
(* decide alone (XA, section 2.3; R* leaves it to the operator), by a      *)
(* forced record, and is in doubt no more.  It still owes its report: it   *)
(* asks for the decision, records that too, and only then acknowledges, so *)
(* that the coordinator does not forget a transaction before everybody     *)
(* knows whether anything was lost.  Atomicity is then promised to those   *)
(* who waited (AtomicityUnlessAlone), and nobody's locks wait for a        *)
(* coordinator that stays down (Released).                                 *)
(*                                                                         *)
(* MCTwoPhaseCode is the model that the running code is held against       *)
(* (src/model/refine): Duplicates and LazyAborts; MCTwoPhaseCodePeers the  *)
(* one with Cooperative, MCTwoPhaseCodeReaders the one with Readers, and   *)
(* MCTwoPhaseCodeAlone the one with heuristic decisions.                   *)
(***************************************************************************)
EXTENDS Naturals

CONSTANTS
    Participants,       \* the resource managers
    Readers,            \* those of them that only read, and leave after their vote
    MaxCoordCrashes,    \* how often the coordinator may crash
    MaxPartCrashes,     \* how many crashes of participants there may be
    MaxLosses,          \* how many messages may be lost on links that are not cut
    MaxCuts,            \* how many times a link may be cut
    Forever,            \* TRUE: losses and cuts may recur for ever, and cost nothing
    Duplicates,         \* TRUE: what was delivered may be delivered again, at any time
    Cooperative,        \* TRUE: participants in doubt also ask one another
    HeuristicCommits,   \* TRUE: a participant in doubt may commit alone
    HeuristicAborts,    \* TRUE: a participant in doubt may abort alone
    LazyAborts          \* TRUE: a crash may take the record of an abort, which is not
                        \* forced: the participant is in doubt again, and asks again.
                        \* part is then what it is bound to learn

VARIABLES
    coord,      \* the coordinator: idle, waiting, committed, aborted, ended; or down
    await,      \* whom it waits for: a vote (waiting), an ack (committed);
                \* or still has to tell, once (aborted).  Volatile.
    record,     \* its durable log: none, commit, end
    part,       \* a participant's state.  All but working and left is on its disk.
    down,       \* the participants that are down
    cut,        \* the participants whose link to the coordinator is cut
    net,        \* the messages in flight
    budget      \* the faults that may still happen

vars == <<coord, await, record, part, down, cut, net, budget>>

ASSUME Readers \subseteq Participants

\* The participants of the second phase.
Stayers == Participants \ Readers

\* What one has done alone, and does not know yet to be right; what is known
\* to have been wrong.  Who was right has committed or aborted like all others.
Alone == {"alonecommitted", "aloneaborted"}
Mixed == {"mixedcommitted", "mixedaborted"}

\* What a participant in this state has done with its effects.
Done(state) ==
    CASE state \in {"committed", "alonecommitted", "mixedcommitted"} -> "commit"
      [] state \in {"aborted", "aloneaborted", "mixedaborted"} -> "abort"
      [] OTHER -> "nothing"

\* What a participant in this state knows to have been decided.
Knows(state) ==
    CASE state \in {"committed", "mixedaborted"} -> "commit"
      [] state \in {"aborted", "mixedcommitted"} -> "abort"
      [] OTHER -> "nothing"

Msg(type, p) == [type |-> type, rm |-> p]

ToParticipant == {"prepare", "commit", "abort"}
ToCoordinator == {"yes", "read", "no", "ack", "inquiry"}
AmongParticipants == {"ask", "tellcommit", "tellabort"}    \* from or to the one that asked

TypeOK ==
    /\ coord \in {"idle", "waiting", "committed", "aborted", "ended", "down"}
    /\ await \subseteq Participants
    /\ record \in {"none", "commit", "end"}
    /\ part \in [Participants ->
                {"working", "prepared", "committed", "aborted", "left"} \cup Alone \cup Mixed]
    /\ down \subseteq Participants
    /\ cut \subseteq Participants
    /\ net \subseteq [type : ToParticipant \cup ToCoordinator \cup AmongParticipants,
                   rm : Participants]
    /\ budget \in [coord : 0..MaxCoordCrashes, part : 0..MaxPartCrashes,
                   loss : 0..MaxLosses, cut : 0..MaxCuts]

Init ==
    /\ coord = "idle"
    /\ await = {}
    /\ record = "none"
    /\ part = [p \in Participants |-> "working"]
    /\ down = {}
    /\ cut = {}
    /\ net = {}
    /\ budget = [coord |-> MaxCoordCrashes, part |-> MaxPartCrashes,
                 loss |-> MaxLosses, cut |-> MaxCuts]

-----------------------------------------------------------------------------
(* The network carries a message to a node that is up, over a link that is *)
(* not cut.                                                                *)

AtParticipant(type, p) ==
    Msg(type, p) \in net /\ p \notin cut /\ p \notin down

AtCoordinator(type, p) ==
    Msg(type, p) \in net /\ p \notin cut /\ coord # "down"

\* What a delivery leaves in flight.
Without(type, p) == IF Duplicates THEN net ELSE net \ {Msg(type, p)}

-----------------------------------------------------------------------------
(* The coordinator.                                                        *)

Begin ==
    /\ coord = "idle"
    /\ coord' = "waiting"
    /\ await' = Participants
    /\ UNCHANGED <<record, part, down, cut, net, budget>>

SendPrepare(p) ==
    /\ coord = "waiting"
    /\ p \in await
    /\ Msg("prepare", p) \notin net
    /\ net' = net \cup {Msg("prepare", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* A vote that comes after the decision is ignored.
ReceiveYes(p) ==
    /\ AtCoordinator("yes", p)
    /\ net' = Without("yes", p)
    /\ await' = IF coord = "waiting" THEN await \ {p} ELSE await
    /\ UNCHANGED <<coord, record, part, down, cut, budget>>

\* A yes vote of one that does not wait for the decision.
ReceiveRead(p) ==
    /\ AtCoordinator("read", p)
    /\ net' = Without("read", p)
    /\ await' = IF coord = "waiting" THEN await \ {p} ELSE await
    /\ UNCHANGED <<coord, record, part, down, cut, budget>>

\* Nobody has to tell the participant that voted no.
ReceiveNo(p) ==
    /\ AtCoordinator("no", p)
    /\ net' = Without("no", p)
    /\ coord' = IF coord = "waiting" THEN "aborted" ELSE coord
    /\ await' = IF coord = "waiting" THEN Participants \ {p} ELSE await
    /\ UNCHANGED <<record, part, down, cut, budget>>

\* The commit point: the forced write of the commit record.
DecideCommit ==
    /\ coord = "waiting"
    /\ await = {}
    /\ coord' = "committed"
    /\ record' = "commit"
    /\ await' = Stayers
    /\ UNCHANGED <<part, down, cut, net, budget>>

\* The vote timer fires.
DecideAbort ==
    /\ coord = "waiting"
    /\ await # {}
    /\ coord' = "aborted"
    /\ await' = Participants
    /\ UNCHANGED <<record, part, down, cut, net, budget>>

\* Again and again, until the ack is in.
SendCommit(p) ==
    /\ coord = "committed"
    /\ p \in await
    /\ Msg("commit", p) \notin net
    /\ net' = net \cup {Msg("commit", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* Once: aborts are not acknowledged.
SendAbort(p) ==
    /\ coord = "aborted"
    /\ p \in await
    /\ net' = net \cup {Msg("abort", p)}
    /\ await' = await \ {p}
    /\ UNCHANGED <<coord, record, part, down, cut, budget>>

ReceiveAck(p) ==
    /\ AtCoordinator("ack", p)
    /\ net' = Without("ack", p)
    /\ await' = IF coord = "committed" THEN await \ {p} ELSE await
    /\ UNCHANGED <<coord, record, part, down, cut, budget>>

\* Every participant holds a commit record: the transaction can be forgotten.
End ==
    /\ coord = "committed"
    /\ await = {}
    /\ coord' = "ended"
    /\ record' = "end"
    /\ UNCHANGED <<await, part, down, cut, net, budget>>

\* What the coordinator knows of the transaction is the answer; if it has
\* forgotten it ("ended"), or never wrote a record, it presumes abort.
AnswerInquiry(p) ==
    /\ AtCoordinator("inquiry", p)
    /\ net' = Without("inquiry", p) \cup
              CASE coord = "committed" -> {Msg("commit", p)}
                [] coord \in {"aborted", "ended"} -> {Msg("abort", p)}
                [] OTHER -> {}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* It may still know of what it may forget.  Whoever acknowledged was sent a
\* commit before, so this is only a repetition; not so with Cooperative, where
\* a participant acknowledges what another has told it.
AnswerFromMemory(p) ==
    /\ Cooperative
    /\ AtCoordinator("inquiry", p)
    /\ coord = "ended"
    /\ net' = Without("inquiry", p) \cup {Msg("commit", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

CrashCoordinator ==
    /\ coord \notin {"idle", "down"}
    /\ budget.coord > 0
    /\ coord' = "down"
    /\ await' = {}
    /\ budget' = [budget EXCEPT !.coord = @ - 1]
    /\ UNCHANGED <<record, part, down, cut, net>>

RestartCoordinator ==
    /\ coord = "down"
    /\ coord' = CASE record = "none" -> "aborted"
                  [] record = "commit" -> "committed"
                  [] record = "end" -> "ended"
    /\ await' = IF record = "commit" THEN Stayers ELSE {}
    /\ UNCHANGED <<record, part, down, cut, net, budget>>

-----------------------------------------------------------------------------
(* The participants.                                                       *)

VoteYes(p) ==
    /\ AtParticipant("prepare", p)
    /\ part[p] = "working" /\ p \notin Readers
    /\ part' = [part EXCEPT ![p] = "prepared"]
    /\ net' = Without("prepare", p) \cup {Msg("yes", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

\* Nothing is forced, and nothing is left to be told.
VoteRead(p) ==
    /\ AtParticipant("prepare", p)
    /\ part[p] = "working" /\ p \in Readers
    /\ part' = [part EXCEPT ![p] = "left"]
    /\ net' = Without("prepare", p) \cup {Msg("read", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

VoteNo(p) ==
    /\ AtParticipant("prepare", p)
    /\ part[p] = "working"
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ net' = Without("prepare", p) \cup {Msg("no", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

\* A prepare that comes again.
Revote(p) ==
    /\ AtParticipant("prepare", p)
    /\ part[p] # "working"
    /\ net' = Without("prepare", p) \cup
              CASE part[p] \in {"prepared"} \cup Alone -> {Msg("yes", p)}
                [] part[p] = "left" \/ Knows(part[p]) = "abort" -> {Msg("no", p)}
                [] OTHER -> {}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* Before its vote, and only then, a participant may abort alone.
GiveUp(p) ==
    /\ p \notin down
    /\ part[p] = "working"
    /\ part' = [part EXCEPT ![p] = "aborted"]
    /\ UNCHANGED <<coord, await, record, down, cut, net, budget>>

\* What becomes of a participant that is told.
ToldCommit(state) ==
    CASE state \in {"prepared", "alonecommitted"} -> "committed"
      [] state = "aloneaborted" -> "mixedaborted"
      [] OTHER -> state

ToldAbort(state) ==
    CASE state \in {"working", "prepared", "aloneaborted"} -> "aborted"
      [] state = "alonecommitted" -> "mixedcommitted"
      [] OTHER -> state

LearnCommit(p) ==
    /\ AtParticipant("commit", p)
    /\ part' = [part EXCEPT ![p] = ToldCommit(@)]
    /\ net' = Without("commit", p) \cup {Msg("ack", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

\* An abort at a committed participant answers an inquiry that it sent before
\* it heard of the commit, and that arrived after the coordinator had
\* forgotten the transaction.  It means nothing.
LearnAbort(p) ==
    /\ AtParticipant("abort", p)
    /\ part' = [part EXCEPT ![p] = ToldAbort(@)]
    /\ net' = Without("abort", p)
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

\* Whoever has not heard the decision asks.
Asks(p) == part[p] \in {"prepared"} \cup Alone \/ (LazyAborts /\ part[p] = "aborted")

\* In doubt: the participant holds its locks, and can only ask.
Inquire(p) ==
    /\ p \notin down
    /\ Asks(p)
    /\ Msg("inquiry", p) \notin net
    /\ net' = net \cup {Msg("inquiry", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* ... or decide alone, for better or worse.  The record is forced.  Also one
\* that has aborted and lost the record: it is in doubt again, and does not
\* know what it is bound to learn.
DecideAlone(p, state) ==
    /\ p \notin down
    /\ part[p] \in {"prepared"} \cup (IF LazyAborts THEN {"aborted"} ELSE {})
    /\ part' = [part EXCEPT ![p] = state]
    /\ UNCHANGED <<coord, await, record, down, cut, net, budget>>

HeuristicCommit(p) == HeuristicCommits /\ DecideAlone(p, "alonecommitted")
HeuristicAbort(p) == HeuristicAborts /\ DecideAlone(p, "aloneaborted")

(* Cooperative termination.  Links between participants are never cut.     *)

\* To all the others at once.  The answers do not use it up.
AskPeers(p) ==
    /\ Cooperative
    /\ p \notin down
    /\ Asks(p)
    /\ Msg("ask", p) \notin net
    /\ net' = net \cup {Msg("ask", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* It has been told of the commit; its own record may still be on the way to
\* the disk, which shows only where delivery leaves the message.
KnowsCommit(q) ==
    IF Knows(part[q]) = "commit" THEN TRUE
    ELSE /\ Duplicates
         /\ part[q] = "prepared"
         /\ {Msg("commit", q), Msg("tellcommit", q)} \cap net # {}

TellCommit(q, p) ==
    /\ q # p /\ Msg("ask", p) \in net /\ q \notin down
    /\ KnowsCommit(q)
    /\ Msg("tellcommit", p) \notin net
    /\ net' = net \cup {Msg("tellcommit", p)}
    /\ UNCHANGED <<coord, await, record, part, down, cut, budget>>

\* Who has not voted yet gives up, and can say so.  Who is in doubt is silent,
\* and so is who has decided alone, and who has left: a reader's own end says
\* nothing of the others'.
TellAbort(q, p) ==
    /\ q # p /\ Msg("ask", p) \in net /\ q \notin down
    /\ part[q] \in {"working", "aborted", "mixedcommitted"}
    /\ Msg("tellabort", p) \notin net
    /\ part' = [part EXCEPT ![q] = IF @ = "working" THEN "aborted" ELSE @]
    /\ net' = net \cup {Msg("tellabort", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

HearCommit(p) ==
    /\ Msg("tellcommit", p) \in net /\ p \notin down
    /\ part' = [part EXCEPT ![p] = ToldCommit(@)]
    /\ net' = Without("tellcommit", p) \cup {Msg("ack", p)}
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

HearAbort(p) ==
    /\ Msg("tellabort", p) \in net /\ p \notin down
    /\ part' = [part EXCEPT ![p] = ToldAbort(@)]
    /\ net' = Without("tellabort", p)
    /\ UNCHANGED <<coord, await, record, down, cut, budget>>

\* What was not forced is gone, and the participant will vote no.
CrashParticipant(p) ==
    /\ p \notin down
    /\ budget.part > 0
    /\ down' = down \cup {p}
    /\ part' = [part EXCEPT ![p] = IF @ = "working" THEN "aborted" ELSE @]
    /\ budget' = [budget EXCEPT !.part = @ - 1]
    /\ UNCHANGED <<coord, await, record, cut, net>>

RestartParticipant(p) ==
    /\ p \in down
    /\ down' = down \ {p}
    /\ UNCHANGED <<coord, await, record, part, cut, net, budget>>

-----------------------------------------------------------------------------
(* The network.                                                            *)

\* A cut link loses what it likes.
Lose ==
    \E m \in net :
        /\ net' = net \ {m}
        /\ IF m.rm \in cut \/ Forever
           THEN budget' = budget
           ELSE /\ budget.loss > 0
                /\ budget' = [budget EXCEPT !.loss = @ - 1]
        /\ UNCHANGED <<coord, await, record, part, down, cut>>

Cut(p) ==
    /\ p \notin cut
    /\ budget.cut > 0
    /\ cut' = cut \cup {p}
    /\ budget' = IF Forever THEN budget ELSE [budget EXCEPT !.cut = @ - 1]
    /\ UNCHANGED <<coord, await, record, part, down, net>>

Heal(p) ==
    /\ p \in cut
    /\ cut' = cut \ {p}
    /\ UNCHANGED <<coord, await, record, part, down, net, budget>>

-----------------------------------------------------------------------------
Next ==
    \/ Begin \/ DecideCommit \/ DecideAbort \/ End
    \/ CrashCoordinator \/ RestartCoordinator
    \/ Lose
    \/ \E p \in Participants :
        \/ SendPrepare(p) \/ SendCommit(p) \/ SendAbort(p)
        \/ ReceiveYes(p) \/ ReceiveRead(p) \/ ReceiveNo(p) \/ ReceiveAck(p)
        \/ AnswerInquiry(p) \/ AnswerFromMemory(p)
        \/ VoteYes(p) \/ VoteRead(p) \/ VoteNo(p) \/ Revote(p) \/ GiveUp(p)
        \/ LearnCommit(p) \/ LearnAbort(p) \/ Inquire(p)
        \/ HeuristicCommit(p) \/ HeuristicAbort(p)
        \/ AskPeers(p) \/ HearCommit(p) \/ HearAbort(p)
        \/ \E q \in Participants : TellCommit(q, p) \/ TellAbort(q, p)
        \/ CrashParticipant(p) \/ RestartParticipant(p)
        \/ Cut(p) \/ Heal(p)

(***************************************************************************)
(* Fairness: no more than the properties need.  Begin is the client's      *)
(* choice and faults are never fair.  Neither are votes: if none comes the *)
(* vote timer fires.  What is left are timers (DecideAbort, GiveUp,        *)
(* Inquire, SendCommit), the coordinator's own next step, recovery, and    *)
(* delivery.  Timers, steps and recovery stay enabled until they happen,   *)
(* so weak fairness says it.                                               *)
(*                                                                         *)
(* Weak fairness of the deliveries means something only because losses and *)
(* cuts are paid from a budget: after the last one a message in flight     *)
(* stays deliverable until it is delivered.  With Forever, the network may *)
(* lose every single message before its delivery was enabled long enough:  *)
(* then the deliveries that end the doubt need strong fairness ("a message *)
(* sent again and again gets through in the end").  That alone is not      *)
(* enough (MCTwoPhaseForeverTimed fails): the link may be cut just before  *)
(* each message is sent, lose it, and heal, so that no delivery is ever    *)
(* enabled.  What is sent again must also, infinitely often, be sent while *)
(* the link is up.  MCTwoPhaseForeverWeak fails, MCTwoPhaseForeverStrong   *)
(* holds.                                                                  *)
(*                                                                         *)
(* Whether the coordinator comes back is kept apart: that is the question  *)
(* of blocking.  MCTwoPhaseBlocking fails, MCTwoPhaseSmall holds.          *)
(***************************************************************************)
Progress ==
    /\ WF_vars(DecideCommit)
    /\ WF_vars(DecideAbort)
    /\ WF_vars(End)
    /\ \A p \in Participants :
        /\ WF_vars(SendCommit(p))
        /\ WF_vars(GiveUp(p))
        /\ WF_vars(Inquire(p))
        /\ WF_vars(RestartParticipant(p))
        /\ WF_vars(Heal(p))

WeakDelivery ==
    \A p \in Participants :
        /\ WF_vars(AnswerInquiry(p))
        /\ WF_vars(LearnCommit(p))
        /\ WF_vars(LearnAbort(p))
        /\ WF_vars(ReceiveAck(p))

StrongDelivery ==
    \A p \in Participants :
        /\ SF_vars(AnswerInquiry(p))
        /\ SF_vars(LearnCommit(p))
        /\ SF_vars(LearnAbort(p))
        /\ SF_vars(ReceiveAck(p))

\* Sending is not slaved to the cuts.
StrongSending ==
    \A p \in Participants :
        /\ SF_vars(p \notin cut /\ Inquire(p))
        /\ SF_vars(p \notin cut /\ SendCommit(p))

Safe == Init /\ [][Next]_vars

\* The coordinator may stay down for ever.
Spec == Safe /\ Progress /\ WeakDelivery

\* ... and participants do ask and answer one another.
SpecPeers ==
    /\ Spec
    /\ \A p \in Participants :
        /\ WF_vars(AskPeers(p))
        /\ WF_vars(HearCommit(p))
        /\ WF_vars(HearAbort(p))
        /\ \A q \in Participants : WF_vars(TellCommit(q, p)) /\ WF_vars(TellAbort(q, p))

\* ... and participants lose patience.
SpecAlone ==
    Spec /\ \A p \in Participants : WF_vars(HeuristicCommit(p) \/ HeuristicAbort(p))

\* The coordinator must come back.
SpecReturns == Spec /\ WF_vars(RestartCoordinator)

\* ... and of messages that are sent for ever, some are delivered if they
\* could be for ever.
SpecTimed ==
    Safe /\ Progress /\ StrongDelivery /\ WF_vars(RestartCoordinator)

\* ... and of those sent for ever, some are sent while the link is up.
SpecStrong == SpecTimed /\ StrongSending

-----------------------------------------------------------------------------
(* Safety.                                                                 *)

\* Without its effects.  Who leaves with writes has lost them.
Undone(p) == Done(part[p]) = "abort" \/ (part[p] = "left" /\ p \notin Readers)

\* Atomicity: AC1 of Bernstein, Hadzilacos and Goodman, chapter 7.
Atomicity ==
    \A p, q \in Participants : ~(Done(part[p]) = "commit" /\ Undone(q))

\* What is left of it with heuristic decisions: among those who did not decide
\* alone, or were right.
AtomicityUnlessAlone ==
    \A p, q \in Participants : ~(part[p] = "committed" /\ part[q] = "aborted")

\* A damage is reported where there is one, and nowhere else.
MixedIsTrue ==
    \A p \in Participants :
        /\ part[p] = "mixedaborted" => record # "none"
        /\ part[p] = "mixedcommitted" => record = "none"

\* A commit needs the commit record, and the record needs every yes vote.
CommitIsLogged ==
    /\ (\E p \in Participants : part[p] = "committed") => record # "none"
    /\ record # "none" =>
        /\ \A p \in Stayers : part[p] \in {"prepared", "committed", "mixedaborted"} \cup Alone
        /\ \A p \in Readers : part[p] = "left"

\* What makes it safe to presume abort of a forgotten transaction.
EndIsFinal ==
    record = "end" => \A p \in Stayers : Knows(part[p]) = "commit"

\* What the optimisation is for: readers are not told of a commit, and nobody
\* waits for them to acknowledge it.
OnePhaseForReaders ==
    \A p \in Readers :
        /\ {Msg("commit", p), Msg("ack", p)} \cap net = {}
        /\ coord = "committed" => p \notin await

Final == {"committed", "aborted", "left"} \cup Mixed

\* No decision is ever reversed, nor what was done alone, but for an abort
\* whose record is lost before somebody decides alone.
Stable ==
    [][\A p \in Participants :
        /\ part[p] \in Final =>
            \/ part'[p] = part[p]
            \/ LazyAborts /\ part[p] = "aborted" /\ part'[p] \in Alone
        /\ part[p] \in Alone => Done(part'[p]) = Done(part[p])]_vars

-----------------------------------------------------------------------------
(* Liveness.                                                               *)

Initiated == coord # "idle"
Ended == \A p \in Participants : part[p] \in Final

\* Every initiated transaction ends, one way or the other, everywhere.
Termination == Initiated ~> Ended

\* Nobody waits for the coordinator with locks held.  MCTwoPhaseAlone holds it
\* without Termination: what was decided may never be known.
Released ==
    Initiated ~> \A p \in Participants : part[p] \in Final \cup Alone

\* What one participant knows all learn.  Without the coordinator, only
\* cooperative termination makes it so: MCTwoPhaseBlocking fails it,
\* MCTwoPhasePeers does not.
Spreads == (\E p \in Participants : part[p] \in {"committed", "aborted"}) ~> Ended

\* The coordinator can forget every transaction that it committed.
Forgotten == (record = "commit") ~> (record = "end")
=============================================================================
