-------------------------------- MODULE Ramp --------------------------------
(***************************************************************************)
(* RAMP-Fast (Bailis, Fekete, Hellerstein, Ghodsi and Stoica, "Scalable    *)
(* Atomic Visibility with RAMP Transactions", SIGMOD 2014, algorithm 1;    *)
(* TODS 41(3), 2016): transactions that write several items, and a reader  *)
(* who reads all of them, without locks.                                   *)
(*                                                                         *)
(* Every item has a server.  A transaction's number is its timestamp.  A   *)
(* version is prepared at every server of the write set, and only then     *)
(* committed at each.  It carries its write set.  A reader takes the       *)
(* latest committed version of every item, sees from the write sets what   *)
(* it has missed, and fetches that by timestamp.  What it fetches may      *)
(* still be in doubt where it lies: it has committed elsewhere, so that it *)
(* is prepared everywhere.                                                 *)
(*                                                                         *)
(* A coordinator that crashes is one that takes no further step: nothing   *)
(* says that it must.  Servers in doubt ask one another (the cooperative   *)
(* termination protocol of section 4.3): one that has not prepared bars    *)
(* the version for ever, and says so.  If all have prepared, the version   *)
(* commits.  The question and its answers are one step here: each answer   *)
(* stays true.                                                             *)
(*                                                                         *)
(* Servers crash and restart; versions and their states are durable.       *)
(***************************************************************************)
EXTENDS Naturals

CONSTANTS
    Items,          \* the items, each on a server of its own
    Count,          \* how many transactions write
    MaxCrashes      \* how many crashes of servers there may be

VARIABLES
    writes,     \* the write set of each transaction, which its versions carry
    acked,      \* the servers that its coordinator knows to have prepared
    decided,    \* the transactions whose coordinators have begun to commit
    version,    \* each transaction's version of each item: none, prepared,
                \* committed, or barred for ever.  Durable.
    down,       \* the servers that are down
    round,      \* the reader's: 1, then 2
    asked,      \* the items that it waits for in this round
    got,        \* the timestamps that it has read; 0 is the initial state
    need,       \* the timestamps that it needs, from what it has read in round 1
    budget      \* the crashes that may still happen

vars == <<writes, acked, decided, version, down, round, asked, got, need, budget>>

Txns == 1..Count

TypeOK ==
    /\ writes \in [Txns -> SUBSET Items]
    /\ acked \in [Txns -> SUBSET Items]
    /\ decided \subseteq Txns
    /\ version \in [Txns -> [Items -> {"none", "prepared", "committed", "barred"}]]
    /\ down \subseteq Items
    /\ round \in 1..2
    /\ asked \subseteq Items
    /\ got \in [Items -> 0..Count]
    /\ need \in [Items -> 0..Count]
    /\ budget \in 0..MaxCrashes

\* Whatever the write sets are.
Init ==
    /\ writes \in [Txns -> (SUBSET Items) \ {{}}]
    /\ acked = [t \in Txns |-> {}]
    /\ decided = {}
    /\ version = [t \in Txns |-> [i \in Items |-> "none"]]
    /\ down = {}
    /\ round = 1
    /\ asked = Items
    /\ got = [i \in Items |-> 0]
    /\ need = [i \in Items |-> 0]
    /\ budget = MaxCrashes

Largest(numbers) == CHOOSE n \in numbers : \A m \in numbers : m <= n

\* The server's answer to a reader who names no timestamp.
Latest(i) == Largest({t \in Txns : version[t][i] = "committed"} \cup {0})

Becomes(t, i, state) == version' = [version EXCEPT ![t][i] = state]

-----------------------------------------------------------------------------
(* PUT_ALL.                                                                *)

Prepare(t, i) ==
    /\ i \in writes[t] /\ i \notin down
    /\ version[t][i] = "none"
    /\ Becomes(t, i, "prepared")
    /\ acked' = [acked EXCEPT ![t] = @ \cup {i}]
    /\ UNCHANGED <<writes, decided, down, round, asked, got, budget, need>>

Decide(t) ==
    /\ t \notin decided
    /\ acked[t] = writes[t]
    /\ decided' = decided \cup {t}
    /\ UNCHANGED <<writes, acked, version, down, round, asked, got, budget, need>>

Commit(t, i) ==
    /\ t \in decided /\ i \notin down
    /\ version[t][i] = "prepared"
    /\ Becomes(t, i, "committed")
    /\ UNCHANGED <<writes, acked, decided, down, round, asked, got, budget, need>>

-----------------------------------------------------------------------------
(* GET_ALL.                                                                *)

\* The first round.
Get(i) ==
    /\ round = 1 /\ i \in asked /\ i \notin down
    /\ got' = [got EXCEPT ![i] = Latest(i)]
    /\ asked' = asked \ {i}
    /\ UNCHANGED <<writes, acked, decided, version, down, round, budget, need>>

\* What the versions that were read say of an item.
Missed(i) == Largest({t \in {got[j] : j \in Items} \ {0} : i \in writes[t]} \cup {0})

Compare ==
    /\ round = 1 /\ asked = {}
    /\ round' = 2
    /\ need' = [i \in Items |-> Missed(i)]
    /\ asked' = {i \in Items : got[i] < Missed(i)}
    /\ UNCHANGED <<writes, acked, decided, version, down, got, budget>>

\* The second round.
Fetch(i) ==
    /\ round = 2 /\ i \in asked /\ i \notin down
    /\ version[need[i]][i] \in {"prepared", "committed"}
    /\ got' = [got EXCEPT ![i] = need[i]]
    /\ asked' = asked \ {i}
    /\ UNCHANGED <<writes, acked, decided, version, down, round, budget, need>>

Done == round = 2 /\ asked = {}

-----------------------------------------------------------------------------
(* Cooperative termination.                                                *)

\* What the servers of the write set say.
Answers(t) == {version[t][i] : i \in writes[t]}

\* One that has not prepared is asked by one that has.
Bar(t, i) ==
    /\ i \in writes[t] /\ i \notin down
    /\ version[t][i] = "none"
    /\ "prepared" \in Answers(t)
    /\ Becomes(t, i, "barred")
    /\ UNCHANGED <<writes, acked, decided, down, round, asked, got, budget, need>>

TerminateCommit(t, i) ==
    /\ i \notin down
    /\ version[t][i] = "prepared"
    /\ IF "committed" \in Answers(t) THEN TRUE ELSE Answers(t) = {"prepared"}
    /\ Becomes(t, i, "committed")
    /\ UNCHANGED <<writes, acked, decided, down, round, asked, got, budget, need>>

TerminateAbort(t, i) ==
    /\ i \notin down
    /\ version[t][i] = "prepared"
    /\ "barred" \in Answers(t)
    /\ Becomes(t, i, "barred")
    /\ UNCHANGED <<writes, acked, decided, down, round, asked, got, budget, need>>

-----------------------------------------------------------------------------
(* Crashes.                                                                *)

Crash(i) ==
    /\ i \notin down /\ budget > 0
    /\ down' = down \cup {i}
    /\ budget' = budget - 1
    /\ UNCHANGED <<writes, acked, decided, version, round, asked, got, need>>

Restart(i) ==
    /\ i \in down
    /\ down' = down \ {i}
    /\ UNCHANGED <<writes, acked, decided, version, round, asked, got, budget, need>>

Next ==
    \/ \E t \in Txns : Decide(t)
    \/ \E t \in Txns, i \in Items :
        Prepare(t, i) \/ Commit(t, i) \/ Bar(t, i) \/ TerminateCommit(t, i) \/ TerminateAbort(t, i)
    \/ \E i \in Items : Get(i) \/ Fetch(i) \/ Crash(i) \/ Restart(i)
    \/ Compare

Safe == Init /\ [][Next]_vars

Readers == WF_vars(Compare) /\ \A i \in Items : WF_vars(Get(i)) /\ WF_vars(Fetch(i))
Restarts == \A i \in Items : WF_vars(Restart(i))
Terminating ==
    \A t \in Txns, i \in Items :
        WF_vars(Bar(t, i)) /\ WF_vars(TerminateCommit(t, i)) /\ WF_vars(TerminateAbort(t, i))

\* Coordinators owe nothing.  Servers come back, and ask when they are in doubt.
Spec == Safe /\ Restarts /\ Readers /\ Terminating

\* Nobody asks: versions stay in doubt for ever.
SpecAlone == Safe /\ Restarts /\ Readers

-----------------------------------------------------------------------------
(* Safety.                                                                 *)

\* Read atomicity: no fractured reads.  Who has read a transaction's version
\* of an item has read no older version of another item that it wrote.
ReadAtomicity ==
    Done => \A i, j \in Items :
        (got[i] # 0 /\ j \in writes[got[i]]) => got[j] >= got[i]

\* Nothing is read that may yet be barred anywhere.
NoDirtyReads ==
    \A i \in Items : got[i] # 0 => Answers(got[i]) \subseteq {"prepared", "committed"}

\* All of a transaction's versions commit, or none does.
Atomicity == \A t \in Txns : ~ ({"committed", "barred"} \subseteq Answers(t))

\* What is decided stands: its client may be told.
Durability == \A t \in decided : Answers(t) \subseteq {"prepared", "committed"}

\* Fates are final.
Stable ==
    [][\A t \in Txns, i \in Items :
        version[t][i] \in {"committed", "barred"} => version'[t][i] = version[t][i]]_vars

(* Liveness.                                                               *)

\* Nobody stays in doubt.
Terminates == \A t \in Txns, i \in Items : version[t][i] = "prepared" ~> version[t][i] # "prepared"

\* Readers wait for nobody but the servers that they read from.
ReadersEnd == <>Done
=============================================================================
