---------------------------- MODULE MCRampBroken ----------------------------
(* Deliberately broken variants: each adds one step that a careless        *)
(* implementation might take, and TLC must find the disaster.              *)
EXTENDS Ramp

\* The reader is content with what it has got in the first round.
SkipSecondRound ==
    /\ round = 1 /\ asked = {}
    /\ round' = 2
    /\ UNCHANGED <<writes, acked, decided, version, down, asked, got, budget, need>>

\* The second round asks for the latest version again, and names no timestamp.
FetchLatest(i) ==
    /\ round = 2 /\ i \in asked /\ i \notin down
    /\ got' = [got EXCEPT ![i] = Latest(i)]
    /\ asked' = asked \ {i}
    /\ UNCHANGED <<writes, acked, decided, version, down, round, budget, need>>

\* The first round takes a version that is prepared.
GetPrepared(t, i) ==
    /\ round = 1 /\ i \in asked /\ i \notin down
    /\ version[t][i] = "prepared" /\ t > Latest(i)
    /\ got' = [got EXCEPT ![i] = t]
    /\ asked' = asked \ {i}
    /\ UNCHANGED <<writes, acked, decided, version, down, round, budget, need>>

\* The coordinator commits at each server as soon as that one has prepared.
CommitEarly(t, i) ==
    /\ i \in acked[t] /\ i \notin down
    /\ version[t][i] = "prepared"
    /\ Becomes(t, i, "committed")
    /\ UNCHANGED <<writes, acked, decided, down, round, asked, got, budget, need>>

\* A server in doubt loses patience.
GiveUpInDoubt(t, i) ==
    /\ i \notin down
    /\ version[t][i] = "prepared"
    /\ Becomes(t, i, "barred")
    /\ UNCHANGED <<writes, acked, decided, down, round, asked, got, budget, need>>

\* A server says that it will never prepare, and prepares.
PrepareBarred(t, i) ==
    /\ i \in writes[t] /\ i \notin down
    /\ version[t][i] = "barred"
    /\ Becomes(t, i, "prepared")
    /\ acked' = [acked EXCEPT ![t] = @ \cup {i}]
    /\ UNCHANGED <<writes, decided, down, round, asked, got, budget, need>>

\* A crash takes a prepared version with it: the answer left before the flush.
CrashForgets(t, i) ==
    /\ i \notin down /\ budget > 0
    /\ version[t][i] = "prepared"
    /\ Becomes(t, i, "none")
    /\ down' = down \cup {i}
    /\ budget' = budget - 1
    /\ UNCHANGED <<writes, acked, decided, round, asked, got, need>>

SpecSkipSecondRound == Init /\ [][Next \/ SkipSecondRound]_vars
SpecFetchLatest == Init /\ [][Next \/ \E i \in Items : FetchLatest(i)]_vars
SpecGetPrepared == Init /\ [][Next \/ \E t \in Txns, i \in Items : GetPrepared(t, i)]_vars
SpecCommitEarly == Init /\ [][Next \/ \E t \in Txns, i \in Items : CommitEarly(t, i)]_vars
SpecGiveUpInDoubt == Init /\ [][Next \/ \E t \in Txns, i \in Items : GiveUpInDoubt(t, i)]_vars
SpecPrepareBarred == Init /\ [][Next \/ \E t \in Txns, i \in Items : PrepareBarred(t, i)]_vars
SpecCrashForgets == Init /\ [][Next \/ \E t \in Txns, i \in Items : CrashForgets(t, i)]_vars
=============================================================================
