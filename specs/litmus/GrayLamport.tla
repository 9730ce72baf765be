---------------------------------------- MODULE GrayLamport ----------------------------------------
\* Two-phase commit as in Gray and Lamport, "Consensus on Transaction Commit" (2006), section 3: messages are never
\* lost and the transaction manager never fails. Its size for 3, 5 and 7 participants is known from elsewhere: 288, 8,832
\* and 296,448 distinct states.
CONSTANT RM
VARIABLES rmState, tmState, tmPrepared, msgs
vars == <<rmState, tmState, tmPrepared, msgs>>

Prepared(r) == [type |-> "Prepared", rm |-> r]
Commit == [type |-> "Commit"]
Abort == [type |-> "Abort"]

Init == /\ rmState = [r \in RM |-> "working"]
        /\ tmState = "init"
        /\ tmPrepared = {}
        /\ msgs = {}

TMReceivePrepared(r) == /\ tmState = "init"
                        /\ Prepared(r) \in msgs
                        /\ tmPrepared' = tmPrepared \union {r}
                        /\ UNCHANGED <<rmState, tmState, msgs>>

TMCommit == /\ tmState = "init"
            /\ tmPrepared = RM
            /\ tmState' = "committed"
            /\ msgs' = msgs \union {Commit}
            /\ UNCHANGED <<rmState, tmPrepared>>

TMAbort == /\ tmState = "init"
           /\ tmState' = "aborted"
           /\ msgs' = msgs \union {Abort}
           /\ UNCHANGED <<rmState, tmPrepared>>

RMPrepare(r) == /\ rmState[r] = "working"
                /\ rmState' = [rmState EXCEPT ![r] = "prepared"]
                /\ msgs' = msgs \union {Prepared(r)}
                /\ UNCHANGED <<tmState, tmPrepared>>

RMChooseToAbort(r) == /\ rmState[r] = "working"
                      /\ rmState' = [rmState EXCEPT ![r] = "aborted"]
                      /\ UNCHANGED <<tmState, tmPrepared, msgs>>

RMReceiveCommit(r) == /\ Commit \in msgs
                      /\ rmState' = [rmState EXCEPT ![r] = "committed"]
                      /\ UNCHANGED <<tmState, tmPrepared, msgs>>

RMReceiveAbort(r) == /\ Abort \in msgs
                     /\ rmState' = [rmState EXCEPT ![r] = "aborted"]
                     /\ UNCHANGED <<tmState, tmPrepared, msgs>>

Next == \/ TMCommit \/ TMAbort
        \/ \E r \in RM : \/ TMReceivePrepared(r) \/ RMPrepare(r) \/ RMChooseToAbort(r)
                         \/ RMReceiveCommit(r) \/ RMReceiveAbort(r)

Safe == Init /\ [][Next]_vars
Receipt == \A r \in RM : WF_vars(RMReceiveCommit(r)) /\ WF_vars(RMReceiveAbort(r))
Spec == Safe /\ WF_vars(TMCommit) /\ WF_vars(TMAbort) /\ Receipt
\* The manager may wait for a vote for ever: participants stay in doubt.
Undecided == Safe /\ WF_vars(TMCommit) /\ Receipt

Consistent == \A r, s \in RM : ~(rmState[r] = "committed" /\ rmState[s] = "aborted")
Ends == (\E r \in RM : rmState[r] = "prepared") ~> (\A r \in RM : rmState[r] \in {"committed", "aborted"})
====================================================================================================
