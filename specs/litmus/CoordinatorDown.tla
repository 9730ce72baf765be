-------------------------------------- MODULE CoordinatorDown --------------------------------------
\* The smallest blocking commit: one participant that has voted waits for a coordinator that may crash once.
VARIABLES coordinator, participant
vars == <<coordinator, participant>>
Init == coordinator = "up" /\ participant = "working"
Vote == participant = "working" /\ participant' = "prepared" /\ UNCHANGED coordinator
Decide == coordinator = "up" /\ participant = "prepared" /\ participant' = "committed" /\ UNCHANGED coordinator
Crash == coordinator = "up" /\ coordinator' = "down" /\ UNCHANGED participant
Recover == coordinator = "down" /\ coordinator' = "recovered" /\ UNCHANGED participant
DecideLate == coordinator = "recovered" /\ participant = "prepared" /\ participant' = "aborted" /\ UNCHANGED coordinator
Next == Vote \/ Decide \/ Crash \/ Recover \/ DecideLate
Base == Init /\ [][Next]_vars /\ WF_vars(Vote) /\ WF_vars(Decide) /\ WF_vars(DecideLate)
MayStayDown == Base
MustComeBack == Base /\ WF_vars(Recover)
Ends == (participant = "prepared") ~> (participant \in {"committed", "aborted"})
====================================================================================================
