------------------------------- MODULE Calvin -------------------------------
(***************************************************************************)
(* Deterministic transactions in the manner of Calvin (Thomson, Diamond,   *)
(* Weng, Ren, Shao and Abadi, SIGMOD 2012): a sequencer appends            *)
(* transactions to one replicated log; every shard handles the log in      *)
(* order; each participant of a transaction pushes its local reads to the  *)
(* participant that writes (the active one), which executes as soon as it  *)
(* has them all.  Nobody votes and nobody aborts.                          *)
(*                                                                         *)
(* A shard owns one row, and every transaction that touches the row needs  *)
(* its lock; locks are granted in log order, so that a shard has one       *)
(* position that it works at.  Consensus is abstracted: the log survives   *)
(* everything (RaftLog says why), but the sequencer in front of it may be  *)
(* down.  A shard keeps everything in memory; after a crash it goes back   *)
(* to its checkpoint, or to nothing, and replays the log.                  *)
(*                                                                         *)
(* A version of a row is named by the log position that wrote it, never by *)
(* its value: two transactions may write the same value, and then a check  *)
(* that compares values takes a stale read for a fresh one.                *)
(*                                                                         *)
(* MCCalvinCode and MCCalvinCodeThree are the models that the running code *)
(* is held against (src/model/refine/calvin.rs): several participants      *)
(* write, or gather and write nothing, or read only (Mixed); what was sent *)
(* may arrive late, twice or not at all (Duplicates); and other regions    *)
(* execute the same log, so that their copies of a shard can stand in for  *)
(* it (Copies).                                                            *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Count,              \* how many transactions there are
    ShardCount,         \* how many shards there are
    Ring,               \* TRUE: transaction t touches two neighbours in a ring
                        \* of shards, FALSE: it reads all shards
    MaxDuplicates,      \* how many times a transaction may be appended again
    MaxCrashes,         \* how many crashes there may be, sequencer and shards
    MaxLosses,          \* how many messages may be lost on links that are not cut
    MaxCuts,            \* how many times a shard may be cut off
    Forever,            \* TRUE: losses and cuts may recur for ever, and cost nothing
    Checkpoints,        \* TRUE: shards take checkpoints
    Mixed,              \* TRUE: several participants may be active, and transactions
                        \* differ in who is and who writes
    Duplicates,         \* TRUE: what was sent is never used up, it may come again
    Copies              \* TRUE: other regions hold copies of the shards

Txns == 1..Count
Shards == 1..ShardCount

\* The active participant that answers the client.
Home(t) == ((t - 1) % ShardCount) + 1

\* The rows that a transaction reads.
Reads(t) == IF Ring THEN {Home(t), (Home(t) % ShardCount) + 1} ELSE Shards

\* The participants that gather all reads and execute.
Active(t) ==
    IF ~Mixed THEN {Home(t)}
    ELSE IF t % 3 = 2 THEN {Home(t), (Home(t) % ShardCount) + 1}
    ELSE Reads(t)

\* Those of them that write.  If Mixed, all do in the first transaction, the
\* home only answers in the second, and the third one's guards do not hold.
Writes(t) ==
    IF ~Mixed THEN {Home(t)}
    ELSE IF t % 3 = 1 THEN Reads(t)
    ELSE IF t % 3 = 2 THEN Active(t) \ {Home(t)}
    ELSE {}

VARIABLES
    client,     \* what the client of each transaction knows: idle, submitted, acked
    before,     \* history: which transactions were acked when this one was submitted
    log,        \* the replicated log
    seqUp,      \* whether the sequencer is up
    got,        \* how much of the log each shard has received
    next,       \* the position that each shard works at
    ver,        \* the version of each shard's row: the position that wrote it
    out,        \* what each shard read for others, by position
    inbox,      \* the remote reads that each shard has received
    disk,       \* each shard's checkpoint.  All else at a shard is volatile.
    net,        \* the remote reads in flight
    acks,       \* the transactions whose ack to the client is in flight
    done,       \* history: the reads with which each transaction was executed
    cut,        \* the shards that are cut off from everybody
    down,       \* the shards that are down
    budget      \* the faults that may still happen

shardVars == <<next, ver, out, inbox>>
vars == <<client, before, log, seqUp, got, shardVars, disk, net, acks, done, cut, down, budget>>

Positions == 1..(Count + MaxDuplicates)
Versions == 0..(Count + MaxDuplicates)
RemoteRead ==
    IF Mixed THEN [pos : Positions, from : Shards, ver : Versions, to : Shards]
    ELSE [pos : Positions, from : Shards, ver : Versions]
Remote(i, s, v, d) ==
    IF Mixed THEN [pos |-> i, from |-> s, ver |-> v, to |-> d]
    ELSE [pos |-> i, from |-> s, ver |-> v]
Nothing == [next |-> 1, ver |-> 0, out |-> <<>>]

TypeOK ==
    /\ client \in [Txns -> {"idle", "submitted", "acked"}]
    /\ before \in [Txns -> SUBSET Txns]
    /\ Len(log) <= Count + MaxDuplicates /\ \A i \in 1..Len(log) : log[i] \in Txns
    /\ seqUp \in BOOLEAN
    /\ \A s \in Shards :
        /\ got[s] \in 0..Len(log)
        /\ next[s] \in 1..(got[s] + 1)
        /\ ver[s] \in 0..(next[s] - 1)
        /\ DOMAIN out[s] \subseteq 1..(IF Mixed THEN next[s] ELSE next[s] - 1)
        /\ inbox[s] \subseteq RemoteRead
        /\ disk[s].next <= Len(log) + 1
    /\ net \subseteq RemoteRead
    /\ acks \subseteq Txns
    /\ cut \subseteq Shards
    /\ down \subseteq Shards
    /\ budget \in [dup : 0..MaxDuplicates, crash : 0..MaxCrashes,
                   loss : 0..MaxLosses, cut : 0..MaxCuts]

Init ==
    /\ client = [t \in Txns |-> "idle"]
    /\ before = [t \in Txns |-> {}]
    /\ log = <<>>
    /\ seqUp = TRUE
    /\ got = [s \in Shards |-> 0]
    /\ next = [s \in Shards |-> 1]
    /\ ver = [s \in Shards |-> 0]
    /\ out = [s \in Shards |-> <<>>]
    /\ inbox = [s \in Shards |-> {}]
    /\ disk = [s \in Shards |-> Nothing]
    /\ net = {}
    /\ acks = {}
    /\ done = [t \in Txns |-> {}]
    /\ cut = {}
    /\ down = {}
    /\ budget = [dup |-> MaxDuplicates, crash |-> MaxCrashes,
                 loss |-> MaxLosses, cut |-> MaxCuts]

InLog(t) == \E i \in 1..Len(log) : log[i] = t

\* A transaction counts where it stands first; elsewhere it is a duplicate.
First(i) == \A j \in 1..(i - 1) : log[j] # log[i]

Position(t) == CHOOSE i \in 1..Len(log) : log[i] = t /\ First(i)

\* To whom a remote read goes.
To(m) == IF Mixed THEN m.to ELSE Home(log[m.pos])

\* What the log says that row k holds before position i, and what t reads.
LogVersion(i, k) ==
    LET writers == {j \in 1..(i - 1) : First(j) /\ k \in Writes(log[j])}
    IN  IF writers = {} THEN 0
        ELSE CHOOSE j \in writers : \A h \in writers : h <= j
LogReads(t) == [k \in Reads(t) |-> LogVersion(Position(t), k)]

-----------------------------------------------------------------------------
(* Clients and the sequencer.                                              *)

Submit(t) ==
    /\ client[t] = "idle"
    /\ client' = [client EXCEPT ![t] = "submitted"]
    /\ before' = [before EXCEPT ![t] = {u \in Txns : client[u] = "acked"}]
    /\ UNCHANGED <<log, seqUp, got, shardVars, disk, net, acks, done, cut, down, budget>>

Sequence(t) ==
    /\ seqUp
    /\ client[t] = "submitted"
    /\ ~InLog(t)
    /\ log' = Append(log, t)
    /\ UNCHANGED <<client, before, seqUp, got, shardVars, disk, net, acks, done, cut, down, budget>>

\* The client lost patience and sent it again.
SequenceAgain(t) ==
    /\ seqUp
    /\ client[t] = "submitted"
    /\ InLog(t)
    /\ budget.dup > 0
    /\ log' = Append(log, t)
    /\ budget' = [budget EXCEPT !.dup = @ - 1]
    /\ UNCHANGED <<client, before, seqUp, got, shardVars, disk, net, acks, done, cut, down>>

ReceiveAck(t) ==
    /\ t \in acks
    /\ Home(t) \notin cut
    /\ acks' = acks \ {t}
    /\ client' = [client EXCEPT ![t] = "acked"]
    /\ UNCHANGED <<before, log, seqUp, got, shardVars, disk, net, done, cut, down, budget>>

-----------------------------------------------------------------------------
(* The shards.                                                             *)

Deliver(s) ==
    /\ s \notin cut /\ s \notin down
    /\ got[s] < Len(log)
    /\ got' = [got EXCEPT ![s] = @ + 1]
    /\ UNCHANGED <<client, before, log, seqUp, shardVars, disk, net, acks, done, cut, down, budget>>

\* The lock for the row of s is granted to the transaction at position i.
Turn(s, i) == s \notin down /\ next[s] = i /\ i <= got[s]

\* Nothing to do here: a duplicate, or a transaction of other shards.
Skip(s) ==
    \E i \in {next[s]} :
        /\ Turn(s, i)
        /\ ~(First(i) /\ s \in Reads(log[i]))
        /\ next' = [next EXCEPT ![s] = i + 1]
        /\ UNCHANGED <<client, before, log, seqUp, got, ver, out, inbox, disk, net, acks, done, cut, down, budget>>

\* A passive participant reads its row, keeps what it read, and is done.
ReadLocal(s) ==
    \E i \in {next[s]} :
        /\ Turn(s, i)
        /\ First(i) /\ s \in Reads(log[i]) \ Active(log[i])
        /\ out' = [out EXCEPT ![s] = [j \in DOMAIN @ \cup {i} |-> IF j = i THEN ver[s] ELSE @[j]]]
        /\ next' = [next EXCEPT ![s] = i + 1]
        /\ UNCHANGED <<client, before, log, seqUp, got, ver, inbox, disk, net, acks, done, cut, down, budget>>

\* One of several active participants reads for the others, and keeps its lock.
ReadActive(s) ==
    \E i \in {next[s]} :
        /\ Turn(s, i)
        /\ First(i) /\ s \in Active(log[i]) /\ Active(log[i]) # {s}
        /\ i \notin DOMAIN out[s]
        /\ out' = [out EXCEPT ![s] = [j \in DOMAIN @ \cup {i} |-> IF j = i THEN ver[s] ELSE @[j]]]
        /\ UNCHANGED <<client, before, log, seqUp, got, next, ver, inbox, disk, net, acks, done, cut, down, budget>>

\* Again and again, until it has arrived.  (How the sender learns that, by an
\* ack or by not being asked, is left out.)
SendRead(s, i) ==
    /\ s \notin down
    /\ i \in DOMAIN out[s]
    /\ \E to \in Active(log[i]) \ {s} :
        LET m == Remote(i, s, out[s][i], to)
        IN  /\ m \notin net
            /\ ~(~Duplicates /\ (m \in inbox[to] \/ next[to] > i))
            /\ net' = net \cup {m}
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, acks, done, cut, down, budget>>

\* It may come before the shard has come to that position, or after, or again.
ReceiveRead(s) ==
    \E m \in net :
        /\ s = To(m) /\ s \notin down
        /\ s \notin cut /\ m.from \notin cut
        /\ net' = IF Duplicates THEN net ELSE net \ {m}
        /\ inbox' = [inbox EXCEPT ![s] =
                        IF next[s] <= m.pos /\ ~\E o \in @ : o.pos = m.pos /\ o.from = m.from
                        THEN @ \cup {m} ELSE @]
        /\ UNCHANGED <<client, before, log, seqUp, got, next, ver, out, disk, acks, done, cut, down, budget>>

\* An active participant has all remote reads: it executes, writes its row if
\* that is to be written, and acks if the transaction is at home here.
Execute(s) ==
    \E i \in {next[s]} :
        /\ Turn(s, i)
        /\ First(i) /\ s \in Active(log[i])
        /\ ~(Active(log[i]) # {s} /\ i \notin DOMAIN out[s])
        /\ LET t == log[i]
               here == {m \in inbox[s] : m.pos = i}
               read == [k \in Reads(t) |->
                           IF k = s THEN ver[s] ELSE (CHOOSE m \in here : m.from = k).ver]
           IN  /\ {m.from : m \in here} = Reads(t) \ {s}
               /\ done' = [done EXCEPT ![t] = @ \cup {read}]
               /\ inbox' = [inbox EXCEPT ![s] = @ \ here]
               /\ acks' = IF s = Home(t) /\ client[t] = "submitted" THEN acks \cup {t} ELSE acks
        /\ ver' = [ver EXCEPT ![s] = IF s \in Writes(log[i]) THEN i ELSE @]
        /\ next' = [next EXCEPT ![s] = i + 1]
        /\ UNCHANGED <<client, before, log, seqUp, got, out, disk, net, cut, down, budget>>

\* A client that asks again for what was executed is answered again.
AckAgain(t) ==
    /\ client[t] = "submitted" /\ t \notin acks
    /\ Home(t) \notin down
    /\ t \in {log[i] : i \in 1..(next[Home(t)] - 1)}
    /\ acks' = acks \cup {t}
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, net, done, cut, down, budget>>

Checkpoint(s) ==
    /\ Checkpoints /\ s \notin down
    /\ LET now == [next |-> next[s], ver |-> ver[s], out |-> out[s]]
       IN  disk[s] # now /\ disk' = [disk EXCEPT ![s] = now]
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, net, acks, done, cut, down, budget>>

-----------------------------------------------------------------------------
(* Copies of the shards in other regions, which execute the same log, each *)
(* as far as it has come.  What they read and write is what the log says.  *)

\* A copy of s answers for it.
SendCopy(s, i) ==
    /\ Copies /\ i <= Len(log)
    /\ First(i) /\ s \in Reads(log[i])
    /\ \E to \in Active(log[i]) \ {s} :
        LET m == Remote(i, s, LogVersion(i, s), to)
        IN  m \notin net /\ net' = net \cup {m}
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, acks, done, cut, down, budget>>

\* A shard becomes what a copy is, or was, before position i: a checkpoint.
Install(s, i) ==
    /\ Copies /\ s \notin down /\ s \notin cut
    /\ next[s] < i /\ i <= Len(log) + 1
    /\ next' = [next EXCEPT ![s] = i]
    /\ got' = [got EXCEPT ![s] = i - 1]
    /\ ver' = [ver EXCEPT ![s] = LogVersion(i, s)]
    /\ out' = [out EXCEPT ![s] =
                [j \in {j \in 1..(i - 1) : /\ First(j) /\ s \in Reads(log[j])
                                          /\ Active(log[j]) # {s}} |-> LogVersion(j, s)]]
    /\ inbox' = [inbox EXCEPT ![s] = {m \in @ : m.pos >= i}]
    /\ done' = [t \in Txns |->
                IF s \in Active(t) /\ \E j \in 1..(i - 1) : log[j] = t
                THEN done[t] \cup {LogReads(t)} ELSE done[t]]
    /\ UNCHANGED <<client, before, log, seqUp, disk, net, acks, cut, down, budget>>

-----------------------------------------------------------------------------
(* Crashes and the network.                                                *)

CrashShard(s) ==
    /\ s \notin down
    /\ budget.crash > 0
    /\ down' = down \cup {s}
    /\ next' = [next EXCEPT ![s] = disk[s].next]
    /\ ver' = [ver EXCEPT ![s] = disk[s].ver]
    /\ out' = [out EXCEPT ![s] = disk[s].out]
    /\ inbox' = [inbox EXCEPT ![s] = {}]
    /\ got' = [got EXCEPT ![s] = disk[s].next - 1]
    /\ budget' = [budget EXCEPT !.crash = @ - 1]
    /\ UNCHANGED <<client, before, log, seqUp, disk, net, acks, done, cut>>

RestartShard(s) ==
    /\ s \in down
    /\ down' = down \ {s}
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, net, acks, done, cut, budget>>

CrashSequencer ==
    /\ seqUp
    /\ budget.crash > 0
    /\ seqUp' = FALSE
    /\ budget' = [budget EXCEPT !.crash = @ - 1]
    /\ UNCHANGED <<client, before, log, got, shardVars, disk, net, acks, done, cut, down>>

RestartSequencer ==
    /\ ~seqUp
    /\ seqUp' = TRUE
    /\ UNCHANGED <<client, before, log, got, shardVars, disk, net, acks, done, cut, down, budget>>

\* A cut link loses what it likes.
Pay(free) ==
    IF free \/ Forever
    THEN budget' = budget
    ELSE budget.loss > 0 /\ budget' = [budget EXCEPT !.loss = @ - 1]

LoseRead ==
    \E m \in net :
        /\ net' = net \ {m}
        /\ Pay(m.from \in cut \/ To(m) \in cut)
        /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, acks, done, cut, down>>

LoseAck(t) ==
    /\ t \in acks
    /\ acks' = acks \ {t}
    /\ Pay(Home(t) \in cut)
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, net, done, cut, down>>

Cut(s) ==
    /\ s \notin cut
    /\ budget.cut > 0
    /\ cut' = cut \cup {s}
    /\ budget' = IF Forever THEN budget ELSE [budget EXCEPT !.cut = @ - 1]
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, net, acks, done, down>>

Heal(s) ==
    /\ s \in cut
    /\ cut' = cut \ {s}
    /\ UNCHANGED <<client, before, log, seqUp, got, shardVars, disk, net, acks, done, down, budget>>

-----------------------------------------------------------------------------
Next ==
    \/ \E t \in Txns :
        \/ Submit(t) \/ Sequence(t) \/ SequenceAgain(t)
        \/ ReceiveAck(t) \/ AckAgain(t) \/ LoseAck(t)
    \/ \E s \in Shards :
        \/ Deliver(s) \/ Skip(s) \/ ReadLocal(s) \/ ReadActive(s) \/ ReceiveRead(s) \/ Execute(s)
        \/ \E i \in Positions : SendRead(s, i) \/ SendCopy(s, i)
        \/ \E i \in 2..(Count + MaxDuplicates + 1) : Install(s, i)
        \/ Checkpoint(s) \/ CrashShard(s) \/ RestartShard(s)
        \/ Cut(s) \/ Heal(s)
    \/ CrashSequencer \/ RestartSequencer
    \/ LoseRead

(***************************************************************************)
(* Fairness.  Submit is the client's choice; duplicates, checkpoints and   *)
(* faults are never fair.  Everything else stays enabled until it happens  *)
(* or becomes pointless, so weak fairness says it: by shard, because what  *)
(* a shard can do at a time is finite and does not come again.  Weak       *)
(* fairness of the deliveries means something only because losses and cuts *)
(* are paid from a budget; with Forever it takes strong fairness:          *)
(* MCCalvinForeverWeak fails, MCCalvinForeverStrong holds (losses only;    *)
(* TwoPhase says what cuts that recur for ever take).                      *)
(*                                                                         *)
(* Whether a cut heals is kept apart.  One slow or cut-off shard stalls    *)
(* every transaction that reads there: MCCalvinCutOff fails.               *)
(***************************************************************************)
Handle(s) == Deliver(s) \/ Skip(s) \/ ReadLocal(s) \/ ReadActive(s) \/ Execute(s)
SendReads(s) == \E i \in Positions : SendRead(s, i)

Progress ==
    /\ WF_vars(RestartSequencer)
    /\ \A t \in Txns : WF_vars(Sequence(t)) /\ WF_vars(AckAgain(t))
    /\ \A s \in Shards :
        WF_vars(Handle(s)) /\ WF_vars(SendReads(s)) /\ WF_vars(RestartShard(s))

WeakDelivery ==
    /\ \A s \in Shards : WF_vars(ReceiveRead(s))
    /\ \A t \in Txns : WF_vars(ReceiveAck(t))

StrongDelivery ==
    /\ \A s \in Shards : SF_vars(ReceiveRead(s))
    /\ \A t \in Txns : SF_vars(ReceiveAck(t))

Healing == \A s \in Shards : WF_vars(Heal(s))

Safe == Init /\ [][Next]_vars

\* A shard may stay cut off for ever.
SpecCutOff == Safe /\ Progress /\ WeakDelivery

Spec == SpecCutOff /\ Healing

SpecStrong == Safe /\ Progress /\ StrongDelivery /\ Healing

-----------------------------------------------------------------------------
(* Safety.                                                                 *)

Executed == {t \in Txns : done[t] # {}}

\* Replay gives what was given before: nobody ever reads anything else.
Deterministic == \A t \in Txns : Cardinality(done[t]) <= 1

\* Those whose writes somebody may have read: a copy elsewhere may have executed
\* what nobody has executed here.
Ordered == IF Copies THEN {t \in Txns : InLog(t)} ELSE Executed

\* Every way to put them into one order.
Orders ==
    {o \in [1..Cardinality(Ordered) -> Ordered] :
        \A a, b \in DOMAIN o : a # b => o[a] # o[b]}

\* In the order o, the last transaction before place a that writes row k.
LastWriter(o, a, k) ==
    LET writers == {b \in 1..(a - 1) : k \in Writes(o[b])}
    IN  IF writers = {} THEN 0
        ELSE o[CHOOSE b \in writers : \A c \in writers : c <= b]

\* Strict serializability, by what clients can know: one order in which each
\* transaction reads, of every row, the version that the last transaction
\* before it wrote, and in which nobody stands before a transaction that was
\* acked before he was submitted.  The versions are positions; the transaction
\* that wrote a version is the one at that position.  Knows nothing of the
\* log but that.
StrictlySerializable ==
    \E o \in Orders :
        /\ \A a \in DOMAIN o : \A read \in done[o[a]] : \A k \in DOMAIN read :
            (IF read[k] = 0 THEN 0 ELSE log[read[k]]) = LastWriter(o, a, k)
        /\ \A a, b \in DOMAIN o : o[a] \in before[o[b]] => a < b

\* ... and the log is such an order.
LogOrder ==
    \A t \in Txns : \A read \in done[t] : read = LogReads(t)

\* What a client was told happened.
Durable == \A t \in Txns : client[t] = "acked" => t \in Executed /\ InLog(t)

-----------------------------------------------------------------------------
(* Liveness.                                                               *)

\* Every submitted transaction commits: there is no other end.
Termination == \A t \in Txns : (client[t] = "submitted") ~> (client[t] = "acked")
=============================================================================
