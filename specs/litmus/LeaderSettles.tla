--------------------------------------- MODULE LeaderSettles ---------------------------------------
\* Candidates may depose one another while terms last; then the leader stays.
EXTENDS Naturals
VARIABLES term, leader
vars == <<term, leader>>
Init == term = 0 /\ leader = 0
Elect(c) == term < 3 /\ term' = term + 1 /\ leader' = c
Next == \E c \in 1..2 : Elect(c)
Spec == Init /\ [][Next]_vars /\ WF_vars(Next)
OneOnly == Spec /\ WF_vars(Elect(1))
HasLeader == <>[](leader # 0)
FirstWins == <>[](leader = 1)
TermsGrow == [][term' > term]_vars
LeaderStays == [][leader = 0 \/ leader' = leader]_vars
====================================================================================================
