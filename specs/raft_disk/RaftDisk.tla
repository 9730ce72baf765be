------------------------------ MODULE RaftDisk ------------------------------
(***************************************************************************)
(* Raft as code runs it: what RaftLog.tla does in one step, with a disk    *)
(* that is slower than memory and a network that uses up nothing.  This is *)
(* what the running code is held against.                                  *)
(*                                                                         *)
(* A server's state is what it has in memory; the disk follows.  Every     *)
(* change is written at once and durable at the next Flush.  A crash       *)
(* leaves what was flushed and a prefix of what was written after it, the  *)
(* last write of entries perhaps in part.  Three rules make that as good   *)
(* as "updated on stable storage before responding" (figure 2):            *)
(*   1. nothing is said before the term and vote under which it is said    *)
(*      are on disk (the outbox);                                          *)
(*   2. only entries on disk are acknowledged, or counted by the leader    *)
(*      for itself;                                                        *)
(*   3. an election is won once the candidate's own vote is on disk.       *)
(* A leader does send entries that it has not flushed (Ongaro's thesis,    *)
(* section 10.2.1).                                                        *)
(*                                                                         *)
(* A leader sends any part of its log, from a guess where the follower's   *)
(* departs from it; or a snapshot, which here is all of the log that it    *)
(* covers.  What is acknowledged need not answer a message: it says how    *)
(* much of the leader's log is known to be here, and on this disk.         *)
(*                                                                         *)
(* Messages stay in net for ever, and need not be received: so they may be *)
(* late, doubled, overtaken or lost.  What carries nothing but a term (a   *)
(* refusal, a heartbeat from the log's start) is left out: a server may    *)
(* hear of any term that somebody has on disk.  Pre-votes change nothing   *)
(* and are left out.                                                       *)
(*                                                                         *)
(* As in RaftLog.tla an entry is the term of the leader that made it.      *)
(*                                                                         *)
(* MCRaftDiskSuccession has three servers and two terms, and shows what    *)
(* UpToDate (section 5.4.1) is for: with a step that votes without it,     *)
(* MCRaftDiskVoteBlindly, it fails.  None of the models here would notice  *)
(* if Commit took entries of earlier terms (5.4.2).  That rule reads as in *)
(* RaftLog.tla, whose MCRaftLogFigure8 holds and whose                     *)
(* MCRaftLogCommitOldTerm does not.                                        *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Count,          \* how many servers there are
    MaxTerm,        \* the last term
    MaxEntries,     \* how many entries clients ask for
    MaxCrashes      \* how many crashes there may be

VARIABLES
    saved,      \* what each server wrote since its disk was last known to hold
                \* it: the first is durable, the last is what it has in memory.
                \* Each is [term, vote, log, snap]; snap is how much of the log
                \* a snapshot covers, which is known to be committed
    outbox,     \* what waits until term and vote are on disk
    role,       \* follower, candidate, leader
    granted,    \* a candidate's votes
    match,      \* what a leader knows of each other server's log
    commit,     \* how much of its log each server knows to be committed
    net,        \* the messages that were ever sent
    down,       \* the servers that are down
    elected,    \* history: who was elected, as <<term, server>>
    chosen,     \* history: what was ever committed, as <<index, term>>
    budget      \* what may still happen

volatile == <<role, granted, match, commit>>
history == <<elected, chosen>>
vars == <<saved, outbox, volatile, net, down, history, budget>>

Servers == 1..Count
Nobody == 0
Quorum(S) == 2 * Cardinality(S) > Count
Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b
Greatest(S) == CHOOSE a \in S : \A b \in S : a >= b
TermAt(l, n) == IF n = 0 THEN 0 ELSE l[n]
LastTerm(l) == TermAt(l, Len(l))

Last(s) == s[Len(s)]
Mem(i) == Last(saved[i])
Term(i) == Mem(i).term
Log(i) == Mem(i).log

\* Whether term and vote are on disk.
Sure(s) == s[1].term = Last(s).term /\ s[1].vote = Last(s).vote

\* How much of two logs is the same.
Common(a, b) ==
    Greatest({n \in 0..Min(Len(a), Len(b)) : SubSeq(a, 1, n) = SubSeq(b, 1, n)})

\* How much of a server's log survives any crash.
Synced(i) == Greatest({n \in 0..Len(Log(i)) :
                \A k \in 1..Len(saved[i]) : Common(saved[i][k].log, Log(i)) >= n})

\* Section 5.4.1: whether a log that ends like this is at least as up to date.
UpToDate(lastTerm, len, i) ==
    lastTerm > LastTerm(Log(i)) \/ (lastTerm = LastTerm(Log(i)) /\ len >= Len(Log(i)))

Nowhere == [i \in Servers |-> 0]

TypeOK ==
    /\ \A i \in Servers :
        /\ Len(saved[i]) >= 1
        /\ \A k \in 1..Len(saved[i]) : LET s == saved[i][k] IN
            /\ s.term \in 0..MaxTerm /\ s.vote \in {Nobody} \cup Servers
            /\ Len(s.log) <= MaxEntries /\ \A n \in 1..Len(s.log) : s.log[n] \in 1..s.term
            /\ s.snap \in 0..Len(s.log)
        /\ commit[i] \in Mem(i).snap..Len(Log(i))
        /\ granted[i] \subseteq Servers
        /\ Sure(saved[i]) => outbox[i] = {}
        /\ role[i] = "leader" => Sure(saved[i])
        /\ \A m \in outbox[i] : m.from = i
    /\ role \in [Servers -> {"follower", "candidate", "leader"}]
    /\ match \in [Servers -> [Servers -> 0..MaxEntries]]
    /\ \A m \in net : m.from \in Servers /\ m.to \in Servers /\ m.term \in 1..MaxTerm
    /\ down \subseteq Servers
    /\ budget \in [entry : 0..MaxEntries, crash : 0..MaxCrashes]

Init ==
    /\ saved = [i \in Servers |-> <<[term |-> 0, vote |-> Nobody, log |-> <<>>, snap |-> 0]>>]
    /\ outbox = [i \in Servers |-> {}]
    /\ role = [i \in Servers |-> "follower"]
    /\ granted = [i \in Servers |-> {}]
    /\ match = [i \in Servers |-> Nowhere]
    /\ commit = Nowhere
    /\ net = {}
    /\ down = {}
    /\ elected = {}
    /\ chosen = {}
    /\ budget = [entry |-> MaxEntries, crash |-> MaxCrashes]

\* A server writes what it has in memory from now on.
Write(i, state) == saved' = [saved EXCEPT ![i] = Append(@, state)]

\* It says something, now or once it may.
Say(i, m) ==
    /\ m \notin net /\ m \notin outbox[i]
    /\ IF Sure(saved'[i])
       THEN net' = net \cup {m} /\ outbox' = outbox
       ELSE outbox' = [outbox EXCEPT ![i] = @ \cup {m}] /\ net' = net

Follow(i) ==
    /\ role' = [role EXCEPT ![i] = "follower"]
    /\ granted' = [granted EXCEPT ![i] = {}]
    /\ match' = [match EXCEPT ![i] = Nowhere]

-----------------------------------------------------------------------------
(* Elections (section 5.2).                                                *)

Timeout(i) ==
    /\ i \notin down /\ role[i] # "leader"
    /\ Term(i) < MaxTerm
    /\ Write(i, [Mem(i) EXCEPT !.term = @ + 1, !.vote = i])
    /\ role' = [role EXCEPT ![i] = "candidate"]
    /\ granted' = [granted EXCEPT ![i] = {i}]
    /\ UNCHANGED <<outbox, match, commit, net, down, history, budget>>

AskVote(i, j) ==
    /\ i \notin down /\ role[i] = "candidate" /\ i # j
    /\ saved' = saved
    /\ Say(i, [type |-> "ask", from |-> i, to |-> j, term |-> Term(i),
               len |-> Len(Log(i)), last |-> LastTerm(Log(i))])
    /\ UNCHANGED <<volatile, down, history, budget>>

\* Whoever hears of a later term follows (section 5.1).
HearTerm(i) ==
    /\ i \notin down
    /\ \E t \in (Term(i) + 1)..Greatest({saved[j][1].term : j \in Servers}) :
        Write(i, [Mem(i) EXCEPT !.term = t, !.vote = Nobody])
    /\ Follow(i)
    /\ UNCHANGED <<outbox, commit, net, down, history, budget>>

\* It gives up what it was: nobody answers, or a leader of its term is heard of.
Resign(i) ==
    /\ i \notin down /\ role[i] # "follower"
    /\ Follow(i)
    /\ UNCHANGED <<saved, outbox, commit, net, down, history, budget>>

\* A refusal is silent.
ReceiveAsk(i) ==
    \E m \in net :
        /\ m.type = "ask" /\ m.to = i /\ i \notin down
        /\ m.term = Term(i) /\ Mem(i).vote \in {Nobody, m.from}
        /\ UpToDate(m.last, m.len, i)
        /\ IF Mem(i).vote = Nobody THEN Write(i, [Mem(i) EXCEPT !.vote = m.from]) ELSE saved' = saved
        /\ Say(i, [type |-> "vote", from |-> i, to |-> m.from, term |-> m.term])
        /\ UNCHANGED <<volatile, down, history, budget>>

ReceiveVote(i) ==
    \E m \in net :
        /\ m.type = "vote" /\ m.to = i /\ i \notin down
        /\ role[i] = "candidate" /\ m.term = Term(i) /\ m.from \notin granted[i]
        /\ granted' = [granted EXCEPT ![i] = @ \cup {m.from}]
        /\ UNCHANGED <<saved, outbox, role, match, commit, net, down, history, budget>>

BecomeLeader(i) ==
    /\ i \notin down /\ role[i] = "candidate" /\ Quorum(granted[i])
    /\ Sure(saved[i])
    /\ role' = [role EXCEPT ![i] = "leader"]
    /\ granted' = [granted EXCEPT ![i] = {}]
    /\ elected' = elected \cup {<<Term(i), i>>}
    /\ UNCHANGED <<saved, outbox, match, commit, net, down, chosen, budget>>

-----------------------------------------------------------------------------
(* Replication (section 5.3).                                              *)

Request(i) ==
    /\ i \notin down /\ role[i] = "leader"
    /\ budget.entry > 0
    /\ Write(i, [Mem(i) EXCEPT !.log = Append(@, Term(i))])
    /\ budget' = [budget EXCEPT !.entry = @ - 1]
    /\ UNCHANGED <<outbox, volatile, net, down, history>>

\* Entries prev + 1 to n, possibly none.
Entries(i, j, prev, n, known) ==
    [type |-> "append", from |-> i, to |-> j, term |-> Term(i), prev |-> prev,
     prevTerm |-> TermAt(Log(i), prev), entries |-> SubSeq(Log(i), prev + 1, n), commit |-> known]

SendAppend(i, j) ==
    /\ i \notin down /\ role[i] = "leader" /\ i # j
    /\ \E n \in 0..Len(Log(i)) : \E prev \in 0..n :
        /\ Max(n, commit[i]) > 0
        /\ saved' = saved
        /\ Say(i, Entries(i, j, prev, n, commit[i]))
    /\ UNCHANGED <<volatile, down, history, budget>>

SendSnapshot(i, j) ==
    /\ i \notin down /\ role[i] = "leader" /\ i # j
    /\ Mem(i).snap > 0
    /\ saved' = saved
    /\ Say(i, Entries(i, j, 0, Mem(i).snap, Mem(i).snap))
    /\ UNCHANGED <<volatile, down, history, budget>>

Holds(l, m) == IF m.prev = 0 THEN TRUE ELSE Len(l) >= m.prev /\ l[m.prev] = m.prevTerm
UpTo(m) == m.prev + Len(m.entries)
HoldsAll(l, m) == Holds(l, m) /\ Len(l) >= UpTo(m) /\ SubSeq(l, m.prev + 1, UpTo(m)) = m.entries

\* What the follower's log becomes: cut back only where it contradicts.
Merged(l, m) == IF HoldsAll(l, m) THEN l ELSE SubSeq(l, 1, m.prev) \o m.entries

\* What the leader of its term has told a server.
Told(i) == {m \in net : m.type = "append" /\ m.to = i /\ m.term = Term(i)}

ReceiveAppend(i) ==
    \E m \in Told(i) :
        /\ i \notin down /\ Holds(Log(i), m)
        /\ ~HoldsAll(Log(i), m)
        /\ Write(i, [Mem(i) EXCEPT !.log = Merged(@, m)])
        /\ Follow(i)
        /\ UNCHANGED <<outbox, commit, net, down, history, budget>>

\* How much of a server's log is known to be the leader's.
Verified(i) == Greatest({commit[i]} \cup {UpTo(m) : m \in {o \in Told(i) : HoldsAll(Log(i), o)}})

Prefix(l, n) == {<<k, l[k]>> : k \in 1..n}

LearnCommit(i) ==
    /\ i \notin down /\ role[i] = "follower"
    /\ \E n \in (commit[i] + 1)..Min(Verified(i), Greatest({0} \cup {m.commit : m \in Told(i)})) :
        /\ commit' = [commit EXCEPT ![i] = n]
        /\ chosen' = chosen \cup Prefix(Log(i), n)
    /\ UNCHANGED <<saved, outbox, role, granted, match, net, down, elected, budget>>

\* To the leader of the term: there is only one (ElectionSafety).
Acknowledge(i) ==
    /\ i \notin down /\ role[i] = "follower"
    /\ \E j \in {m.from : m \in Told(i)} : \E n \in 1..Min(Verified(i), Synced(i)) :
        /\ saved' = saved
        /\ Say(i, [type |-> "ack", from |-> i, to |-> j, term |-> Term(i), match |-> n])
    /\ UNCHANGED <<volatile, down, history, budget>>

ReceiveAck(i) ==
    \E m \in net :
        /\ m.type = "ack" /\ m.to = i /\ i \notin down
        /\ role[i] = "leader" /\ m.term = Term(i) /\ m.match > match[i][m.from]
        /\ match' = [match EXCEPT ![i][m.from] = m.match]
        /\ UNCHANGED <<saved, outbox, role, granted, commit, net, down, history, budget>>

\* An entry of an earlier term is committed only together with one of the
\* leader's own (section 5.4.2).
Commit(i, n) ==
    /\ i \notin down /\ role[i] = "leader"
    /\ n > commit[i] /\ n <= Len(Log(i))
    /\ Log(i)[n] = Term(i)
    /\ Quorum({j \in Servers : IF j = i THEN Synced(i) >= n ELSE match[i][j] >= n})
    /\ commit' = [commit EXCEPT ![i] = n]
    /\ chosen' = chosen \cup Prefix(Log(i), n)
    /\ UNCHANGED <<saved, outbox, role, granted, match, net, down, elected, budget>>

\* Section 7.
Compact(i, n) ==
    /\ i \notin down
    /\ n > Mem(i).snap /\ n <= commit[i]
    /\ Write(i, [Mem(i) EXCEPT !.snap = n])
    /\ UNCHANGED <<outbox, volatile, net, down, history, budget>>

-----------------------------------------------------------------------------
(* The disk, and crashes.                                                  *)

\* Everything up to some write is on disk.
Flush(i) ==
    /\ i \notin down
    /\ \E k \in 2..Len(saved[i]) : saved' = [saved EXCEPT ![i] = SubSeq(@, k, Len(@))]
    /\ IF Sure(saved'[i])
       THEN net' = net \cup outbox[i] /\ outbox' = [outbox EXCEPT ![i] = {}]
       ELSE UNCHANGED <<net, outbox>>
    /\ UNCHANGED <<volatile, down, history, budget>>

\* The k-th write and a part of the next, if that is one of entries.
Torn(s, k) ==
    IF k = Len(s) THEN {} ELSE
    {[s[k + 1] EXCEPT !.log = SubSeq(@, 1, n)] :
        n \in (Common(s[k].log, s[k + 1].log) + 1)..Len(s[k + 1].log)}
Survivors(s) == {s[k] : k \in 1..Len(s)} \cup UNION {Torn(s, k) : k \in 1..Len(s)}

MayCrash(i) == i \notin down /\ budget.crash > 0

CrashTo(i, state) ==
    /\ saved' = [saved EXCEPT ![i] = <<state>>]
    /\ outbox' = [outbox EXCEPT ![i] = {}]
    /\ Follow(i)
    /\ commit' = [commit EXCEPT ![i] = state.snap]
    /\ down' = down \cup {i}
    /\ budget' = [budget EXCEPT !.crash = @ - 1]
    /\ UNCHANGED <<net, history>>

Crash(i) == MayCrash(i) /\ \E state \in Survivors(saved[i]) : CrashTo(i, state)

Restart(i) ==
    /\ i \in down
    /\ down' = down \ {i}
    /\ UNCHANGED <<saved, outbox, volatile, net, history, budget>>

-----------------------------------------------------------------------------
Next ==
    \E i \in Servers :
        \/ Timeout(i) \/ HearTerm(i) \/ Resign(i) \/ BecomeLeader(i) \/ Request(i)
        \/ \E j \in Servers : AskVote(i, j) \/ SendAppend(i, j) \/ SendSnapshot(i, j)
        \/ ReceiveAsk(i) \/ ReceiveVote(i) \/ ReceiveAppend(i) \/ ReceiveAck(i)
        \/ LearnCommit(i) \/ Acknowledge(i)
        \/ \E n \in 1..MaxEntries : Commit(i, n) \/ Compact(i, n)
        \/ Flush(i) \/ Crash(i) \/ Restart(i)

Safe == Init /\ [][Next]_vars

(***************************************************************************)
(* One succession with three servers, small enough to be explored: server  *)
(* 1 leads term 1 with the votes of 1 and 2, and has an entry that is on   *)
(* no disk yet; only server 3 campaigns, in term 2.  Nobody else sends     *)
(* entries, every message carries the log from its start, nobody gives up, *)
(* and there are no snapshots.                                             *)
(***************************************************************************)
InTermOne(v, l) == [term |-> 1, vote |-> v, log |-> l, snap |-> 0]

InitSuccession ==
    /\ saved = [i \in Servers |->
                  CASE i = 1 -> <<InTermOne(1, <<>>), InTermOne(1, <<1>>)>>
                    [] i = 2 -> <<InTermOne(1, <<>>)>>
                    [] OTHER -> <<InTermOne(Nobody, <<>>)>>]
    /\ outbox = [i \in Servers |-> {}]
    /\ role = [i \in Servers |-> IF i = 1 THEN "leader" ELSE "follower"]
    /\ granted = [i \in Servers |-> {}]
    /\ match = [i \in Servers |-> Nowhere]
    /\ commit = Nowhere
    /\ net = {}
    /\ down = {}
    /\ elected = {<<1, 1>>}
    /\ chosen = {}
    /\ budget = [entry |-> 0, crash |-> MaxCrashes]

SendWhole(j) == SendAppend(1, j) /\ \A m \in net' : m.type = "append" => m.prev = 0

NextSuccession ==
    \/ Timeout(3)
    \/ \E j \in Servers : AskVote(3, j) \/ SendWhole(j)
    \/ \E i \in Servers :
        \/ HearTerm(i) \/ BecomeLeader(i)
        \/ ReceiveAsk(i) \/ ReceiveVote(i) \/ ReceiveAppend(i) \/ ReceiveAck(i)
        \/ LearnCommit(i) \/ Acknowledge(i)
        \/ \E n \in 1..MaxEntries : Commit(i, n)
        \/ Flush(i) \/ Crash(i) \/ Restart(i)

SafeSuccession == InitSuccession /\ [][NextSuccession]_vars

-----------------------------------------------------------------------------
(* Safety (figure 3).  There is no liveness here: that is RaftLog.tla's.   *)

ElectionSafety == \A a, b \in elected : a[1] = b[1] => a = b

LogMatching ==
    \A i, j \in Servers : \A n \in 1..Min(Len(Log(i)), Len(Log(j))) :
        Log(i)[n] = Log(j)[n] => SubSeq(Log(i), 1, n) = SubSeq(Log(j), 1, n)

\* What was committed stands in the log of every leader of a later term, for ever.
\* Later than the entry is later than its commitment while there are two terms
\* only; RaftLog.tla has the general form.
LeaderCompleteness ==
    \A i \in Servers : role[i] = "leader" =>
        \A e \in chosen : e[2] < Term(i) => e[1] <= Len(Log(i)) /\ Log(i)[e[1]] = e[2]

\* What was committed is on the disks of a majority, for ever, whatever a crash leaves.
ChosenIsDurable ==
    \A e \in chosen : Quorum({i \in Servers : \A k \in 1..Len(saved[i]) :
        e[1] <= Len(saved[i][k].log) /\ saved[i][k].log[e[1]] = e[2]})

StateMachineSafety == \A a, b \in chosen : a[1] = b[1] => a = b
=============================================================================
