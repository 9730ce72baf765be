//! The zoo: bugs planted on purpose, each of which the campaigns must find.
//!
//! A tool that finds nothing ran on correct code, or it is blind. Each bug here is a mistake that people
//! have made in real systems or that a paper warns of, planted in the protocol code by one line that asks
//! [`planted`]. Without the package's feature `zoo` that function is a constant `false` and the lines compile
//! to nothing; with it, [`with`] switches one bug on for the whole process.
//!
//! A bug that is not found is a gap in the faults or in the checks, and is closed there.

use serde::Serialize;

/// A planted bug, as the zoo lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Planted {
    /// Which switch.
    #[serde(skip)]
    pub bug: Bug,
    /// Its name: where it lives, and what is wrong.
    pub name: &'static str,
    /// The protocol under which it is hunted.
    pub protocol: &'static str,
    /// The shipped scenario in which it is hunted.
    pub scenario: &'static str,
    /// What is wrong, in one sentence.
    pub wrong: &'static str,
    /// The source: the paper that demands the right thing, or the system in which the mistake was made.
    pub source: &'static str,
}

macro_rules! bugs {
    ($($bug:ident $name:literal $protocol:literal in $scenario:literal $wrong:literal $source:literal;)*) => {
        /// The switch of a planted bug. [`ALL`] says what each does.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[allow(missing_docs)]
        pub enum Bug {
            $($bug),*
        }

        /// Every planted bug, by the component that it lives in.
        pub const ALL: &[Planted] = &[$(Planted {
            bug: Bug::$bug,
            name: $name,
            protocol: $protocol,
            scenario: $scenario,
            wrong: $wrong,
            source: $source,
        }),*];
    };
}

bugs! {
    // Two-phase commit.
    DecisionNotForced "2pc.decision-not-forced" "2pc" in "crossfire"
        "The coordinator tells everybody to commit before its commit record is on disk."
        "Mohan, Lindsay and Obermarck, TODS 11(4), 1986, section 2";
    DecisionSentOnce "2pc.decision-sent-once" "2pc" in "crossfire"
        "The coordinator sends its decision to commit once and never again."
        "Mohan, Lindsay and Obermarck 1986, section 2: it keeps on trying until all have acknowledged";
    EndAfterFirstAck "2pc.end-after-first-ack" "2pc" in "crossfire"
        "The coordinator forgets a commit at the first acknowledgement instead of at the last."
        "Mohan, Lindsay and Obermarck 1986, section 3: a commit is forgotten once all subordinates have acknowledged";
    NoRecordMeansCommit "2pc.no-record-means-commit" "2pc" in "crossfire"
        "A restarted coordinator answers commit where it has no record, with the log of presumed abort."
        "Mohan, Lindsay and Obermarck 1986, sections 3.1 and 3.2: two presumptions, two disciplines of logging";
    VoteNotForced "2pc.vote-not-forced" "2pc" in "crossfire"
        "A participant votes yes while its prepare record is still on the way to the disk."
        "Gray, Notes on Data Base Operating Systems, 1978, section 5.8.3";
    InDoubtAbortsAtRestart "2pc.in-doubt-aborts-at-restart" "2pc" in "crossfire"
        "A participant that restarts in doubt aborts what it has voted yes for."
        "Gray 1978, section 5.8.3: a vote is a promise across restarts";
    InDoubtTimesOut "2pc.in-doubt-times-out" "2pc" in "crossfire"
        "A participant that has been in doubt for a while aborts by itself."
        "Bernstein, Hadzilacos and Goodman 1987, section 7.4: who has voted yes cannot decide alone";
    LocksLostAtRestart "2pc.locks-lost-at-restart" "2pc" in "crossfire"
        "A participant that restarts in doubt does not take its locks again."
        "Bernstein, Hadzilacos and Goodman 1987, section 7.4";
    AckAtVote "2pc.ack-at-vote" "2pc" in "crossfire"
        "The initiator tells its client of success when it has voted, before the decision."
        "Gray and Lamport, TODS 31(1), 2006, section 2";
    PeerInDoubtAnswersAbort "2pc.peer-in-doubt-answers-abort" "2pc" in "crossfire"
        "In cooperative termination a peer that is in doubt itself answers abort instead of nothing."
        "Bernstein, Hadzilacos and Goodman 1987, section 7.4";
    WorkingPeerKeepsItsVote "2pc.working-peer-keeps-its-vote" "2pc" in "crossfire"
        "A peer that has not voted answers abort, and votes yes afterwards."
        "Bernstein, Hadzilacos and Goodman 1987, section 7.4: it has to abort first";
    NeverInquires "2pc.never-inquires" "2pc" in "crossfire"
        "A participant in doubt waits to be told instead of asking: under presumed abort nobody tells it again."
        "Mohan, Lindsay and Obermarck 1986, section 3.1";
    OrphansNotProbed "2pc.orphans-not-probed" "2pc" in "crossfire"
        "Nobody asks whether a transaction that holds locks and was never prepared is still running."
        "Gray 1978, section 5.8.3";
    FailedFlushIgnored "2pc.failed-flush-ignored" "2pc" in "crossfire"
        "A participant takes a failed flush for a completed one."
        "Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020; PostgreSQL's fsyncgate, 2018";
    CheckpointDropsVotes "2pc.checkpoint-drops-votes" "2pc" in "crossfire"
        "The checkpoint that shortens a participant's log leaves out the votes without a decision."
        "Mohan et al., ARIES, TODS 17(1), 1992, section 5.4: checkpoints hold the transaction table";

    // Paxos Commit.
    FreeInstancePrepared "paxos-commit.free-instance-prepared" "paxos-commit" in "crossfire"
        "A leader that takes over proposes Prepared in an instance for which no acceptor has a vote."
        "Gray and Lamport, TODS 31(1), 2006, section 4.2: it proposes Aborted in free instances";
    AcceptedNotForced "paxos-commit.accepted-not-forced" "paxos-commit" in "crossfire"
        "An acceptor says that it has accepted while the votes are still on the way to the disk."
        "Gray and Lamport 2006, section 4.2; Lamport, The Part-Time Parliament, TOCS 16(2), 1998";
    FewAcceptorsDecide "paxos-commit.few-acceptors-decide" "paxos-commit" in "crossfire"
        "A leader decides when F acceptors have accepted instead of F + 1."
        "Gray and Lamport 2006, section 4.1: a majority of the acceptors";
    LowestBallotTaken "paxos-commit.lowest-ballot-taken" "paxos-commit" in "crossfire"
        "A leader that takes over takes the vote of the lowest ballot instead of the highest."
        "Lamport 1998, section 2.3, condition B3";
    PaxosVoteNotForced "paxos-commit.vote-not-forced" "paxos-commit" in "crossfire"
        "A resource manager votes while its prepare record is still on the way to the disk."
        "Gray 1978, section 5.8.3; Gray and Lamport 2006, section 3";
    NobodyTakesOver "paxos-commit.nobody-takes-over" "paxos-commit" in "crossfire"
        "No acceptor takes over from a leader that is gone."
        "Gray and Lamport 2006, section 4.2";
    PaxosAckAtVote "paxos-commit.ack-at-vote" "paxos-commit" in "crossfire"
        "The initiator tells its client of success when it has voted, before the decision."
        "Gray and Lamport 2006, section 2";

    // Three-phase commit.
    ThreePhaseCommitUnacked "3pc.commit-unacked" "3pc" in "crash-storm"
        "The coordinator commits when it has sent PreCommit, without waiting for the acknowledgements."
        "Skeen, Nonblocking Commit Protocols, SIGMOD 1981, section 4: no committable state beside an uncertain one";
    ThreePhaseRestartedLeads "3pc.restarted-leads" "3pc" in "crash-storm"
        "A participant that restarted in doubt takes part in the termination as if it had never been away."
        "Bernstein, Hadzilacos and Goodman 1987, section 7.5: a recovering process asks, and does not decide";
    ThreePhaseElectedGoesByItself "3pc.elected-goes-by-itself" "3pc" in "crash-storm"
        "An elected coordinator that is uncertain aborts, although a participant has told it that it is pre-committed."
        "Bernstein, Hadzilacos and Goodman 1987, section 7.5, rule TR4";
    ThreePhaseElectedCommitsAtOnce "3pc.elected-commits-at-once" "3pc" in "crash-storm"
        "An elected coordinator that is pre-committed commits without bringing the others to PreCommit."
        "Skeen 1981, section 6, phase 1 of the backup coordinator";
    ThreePhaseObeysReplaced "3pc.obeys-replaced" "3pc" in "crash-storm"
        "A participant enters PreCommit by the word of a coordinator that was replaced."
        "Keidar and Dolev, Increasing the Resilience of Distributed and Replicated Database Systems, JCSS 57(3), 1998";
    ThreePhasePreCommitNotForced "3pc.pre-commit-not-forced" "3pc" in "crash-storm"
        "A participant acknowledges PreCommit while the record is still on the way to the disk."
        "Skeen and Stonebraker, TSE 9(3), 1983: recovery reads the state from the log";
    ThreePhaseVoteNotForced "3pc.vote-not-forced" "3pc" in "crash-storm"
        "A participant votes while its prepare record is still on the way to the disk."
        "Gray 1978, section 5.8.3; Skeen 1981, section 2";
    ThreePhaseNobodyElected "3pc.nobody-elected" "3pc" in "crash-storm"
        "Participants wait for their coordinator for ever."
        "Skeen 1981, section 6";
    ThreePhaseAckAtVote "3pc.ack-at-vote" "3pc" in "crash-storm"
        "The initiator tells its client of success when it has voted, before the decision."
        "Skeen 1981, section 2";

    // Locks.
    ReadersIgnoreWriters "locks.readers-ignore-writers" "2pc" in "crossfire"
        "A shared lock is granted beside an exclusive one."
        "Eswaran, Gray, Lorie and Traiger, CACM 19(11), 1976";
    ReaderOvertakes "locks.reader-overtakes-older-writer" "2pc" in "crossfire"
        "A reader joins other readers ahead of an older writer that waits, which then waits for a younger one."
        "Rosenkrantz, Stearns and Lewis, TODS 3(2), 1978: every wait is for an older transaction";
    NoWound "locks.younger-holder-not-wounded" "2pc" in "crossfire"
        "An older transaction waits for a younger one in possession without wounding it."
        "Rosenkrantz, Stearns and Lewis 1978, section 4";
    LostWakeUp "locks.lost-wake-up" "saga" in "crossfire"
        "Of several owners that a release makes ready only the first one is told."
        "Lampson and Redell, Experience with Processes and Monitors in Mesa, CACM 23(2), 1980";

    // The journal.
    FlushRetried "journal.flush-retried" "2pc" in "crossfire"
        "After a failed flush the journal asks for another, and takes its success for that of the first."
        "PostgreSQL's fsyncgate, 2018; Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020";
    FailedFlushWroteNothing "journal.failed-flush-wrote-nothing" "2pc" in "crossfire"
        "The journal takes it for certain that a failed flush wrote nothing, and goes on in the same file."
        "Rebello et al., ATC 2020, section 4: what a failed fsync leaves differs between file systems";

    // The write-ahead log.
    TornTailKept "wal.torn-tail-kept" "2pc" in "crossfire"
        "After a crash the log goes on behind a torn tail that is not cut off."
        "Pillai et al., All File Systems Are Not Created Equal, OSDI 2014";
    ChecksumIgnored "wal.checksum-ignored" "2pc" in "crossfire"
        "The checksum of a record's content is not compared."
        "Ganesan et al., Redundancy Does Not Imply Fault Tolerance, FAST 2017";
    DamageReadAsTear "wal.damage-read-as-tear" "2pc" in "crossfire"
        "A damaged record counts as the torn end of the log: everything from it on is dropped."
        "Alagappan et al., Protocol-Aware Recovery for Consensus-Based Storage, FAST 2018, section 3.3.2";

    // Sagas.
    CompensationInOrder "saga.compensation-in-order" "saga" in "crossfire"
        "Compensations run in the order of the steps instead of in reverse."
        "Garcia-Molina and Salem, SIGMOD 1987, section 2";
    CompensatedTwice "saga.compensated-twice" "saga" in "crossfire"
        "A repeated request to compensate compensates again."
        "Garcia-Molina and Salem 1987; Richardson, Microservices Patterns, 2018, section 3.3.6";
    StepAppliedTwice "saga.step-applied-twice" "saga" in "crossfire"
        "A repeated step takes effect again: no inbox."
        "Helland, Life beyond Distributed Transactions, CIDR 2007; Richardson 2018, section 3.3.6";
    LateStepNotBlocked "saga.late-step-not-blocked" "saga" in "crossfire"
        "A compensation that comes before its step does not block the step."
        "Seata TCC: empty rollback and suspension (seata.io, 2022)";
    PivotNotLogged "saga.pivot-not-logged" "saga" in "crossfire"
        "The pivot is sent without a record: a restarted orchestrator goes backward past it."
        "Richardson 2018, section 4.3.2";
    AckAtPivot "saga.ack-at-pivot" "saga" in "crossfire"
        "The client is told of success when the pivot is about to be sent, not when it has succeeded."
        "Richardson 2018, section 4.3.2";
    RestoresPreImage "saga.compensation-restores-pre-image" "saga" in "settlement"
        "A compensation puts the old value back instead of undoing its own change, over changes made since."
        "Garcia-Molina and Salem 1987, section 2: not the state before, a semantic undoing";
    CheckpointDropsFates "saga.checkpoint-drops-inbox" "saga" in "crossfire"
        "A shard's checkpoint leaves out which steps it has taken."
        "Ongaro, Consensus: Bridging Theory and Practice, 2014, section 6.3: sessions belong to the snapshot";
    NotRetried "saga.step-not-retried" "saga" in "crossfire"
        "From the pivot on a step is sent once and never again."
        "Richardson 2018, section 4.3.2: retriable transactions";
    AbortingForgotten "saga.compensations-forgotten" "saga" in "crossfire"
        "An orchestrator that restarts in the middle of compensating takes it for done."
        "Garcia-Molina and Salem 1987, section 5";
    LastStepForgotten "saga.last-step-not-compensated" "saga" in "crossfire"
        "A restarted orchestrator compensates what it knows was done, and not the step that was under way."
        "Garcia-Molina and Salem 1987, section 5";
    TimedOutStepForgotten "saga.timed-out-step-not-compensated" "saga" in "crossfire"
        "A step that has timed out is taken for one that was not taken."
        "Richardson 2018, section 4.3.2";

    // Calvin.
    GapIgnored "calvin.gap-in-log-ignored" "calvin" in "storm"
        "A shard goes on behind a gap in the log that it is fed."
        "Thomson et al., SIGMOD 2012, section 3.1";
    ReaderOvertakesInGraph "calvin.reads-granted-by-arrival" "calvin" in "storm"
        "A read lock is granted past a writer that is itself still waiting."
        "Thomson et al. 2012, section 3.2: locks in the order of the log";
    WritersIgnoreReaders "calvin.writers-ignore-readers" "calvin" in "storm"
        "A writer does not wait for the readers that come before it in the log."
        "Thomson et al. 2012, section 3.2";
    ReadersTakeNoLocks "calvin.readers-take-no-locks" "calvin" in "storm"
        "Rows that are only read are not locked."
        "Thomson et al. 2012, section 3.2";
    RemoteReadOfNow "calvin.remote-read-of-now" "calvin" in "storm"
        "A remote read that is asked for again answers with the row as it is now."
        "Thomson et al. 2012, section 3.2; Abadi, It's Time to Move on from Two Phase Commit, 2019";
    RemoteReadNotAskedAgain "calvin.remote-read-not-asked-again" "calvin" in "storm"
        "A remote read that was lost is waited for and never asked for again."
        "Thomson et al. 2012, section 3.2";
    DuplicateExecuted "calvin.duplicate-executed" "calvin" in "storm"
        "A transaction that is in the log twice is executed twice."
        "Ongaro 2014, section 6.3";
    SessionsNotInSnapshot "calvin.snapshot-without-sessions" "calvin" in "crossfire"
        "A copy that starts from a checkpoint has forgotten which transactions have ended."
        "Ongaro 2014, section 6.3: sessions belong to the snapshot";
    AckDependentAtAppend "calvin.ack-dependent-at-append" "calvin" in "crossfire"
        "A dependent transaction is acknowledged when it is in the log, before its reconnaissance is known to hold."
        "Thomson et al. 2012, section 3.2.1";
    FootprintNotRechecked "calvin.footprint-not-rechecked" "calvin" in "crossfire"
        "A dependent transaction runs although its reconnaissance was overtaken."
        "Thomson et al. 2012, section 3.2.1";
    WatermarkTooEarly "calvin.watermark-too-early" "calvin" in "crossfire"
        "Batches are merged when other groups are within 50 ms of them, as if clocks and network were bounded."
        "Thomson et al. 2012, section 3.1; Kulkarni et al., OPODIS 2014";
    FuzzyCheckpoint "calvin.fuzzy-checkpoint" "calvin" in "crossfire"
        "A checkpoint holds rows as later transactions have left them already."
        "Thomson et al. 2012, section 5.2";
    CheckpointNotFlushed "calvin.checkpoint-not-flushed" "calvin" in "crossfire"
        "A checkpoint is announced, and the log cut, without a flush."
        "Pillai et al. 2014; Thomson et al. 2012, section 5";

    // Raft.
    VoteWithoutLogCheck "raft.vote-without-log-check" "calvin" in "churn"
        "A voter does not compare the candidate's log with its own."
        "Ongaro and Ousterhout, USENIX ATC 2014, section 5.4.1";
    CommitsOldTerm "raft.commit-old-term-entry" "calvin" in "figure-eight"
        "A leader commits an entry of an earlier term by counting its replicas."
        "Ongaro and Ousterhout 2014, section 5.4.2 and figure 8";
    PreVoteCounts "raft.pre-vote-counts-as-vote" "calvin" in "churn"
        "An answer to the question before an election counts as a vote in it."
        "Ongaro 2014, section 9.6";
    VoteBeforeFlush "raft.vote-before-flush" "calvin" in "churn"
        "Votes leave before term and vote are on disk."
        "Ongaro and Ousterhout 2014, figure 2: persistent state before responding";
    CompactionDropsTerm "raft.compaction-drops-term-and-vote" "calvin" in "crossfire"
        "The file that replaces a compacted log begins without term and vote."
        "Ongaro and Ousterhout 2014, figure 2 and section 7";
    AckBeforeFlush "raft.ack-before-flush" "calvin" in "churn"
        "A follower acknowledges entries that it has not flushed."
        "Ongaro and Ousterhout 2014, figure 2: persistent state before responding";
    LeaderCountsUnflushed "raft.leader-counts-unflushed" "calvin" in "churn"
        "A leader counts itself for entries that it has not flushed."
        "Ongaro 2014, section 10.2.1";
    LogFlushFailureIgnored "raft.failed-flush-ignored" "calvin" in "churn"
        "A replica takes a failed flush for a completed one and goes on."
        "Rebello et al., ATC 2020; Alagappan et al., FAST 2018";
    StaleLeaderAccepted "raft.stale-leader-accepted" "calvin" in "churn"
        "A follower takes entries from a leader of an earlier term."
        "Ongaro and Ousterhout 2014, figure 2, AppendEntries, step 1";
    PrevTermIgnored "raft.previous-term-ignored" "calvin" in "churn"
        "A follower checks that it has an entry before the new ones, and not of which term."
        "Ongaro and Ousterhout 2014, figure 2, AppendEntries, step 2";
    TruncatesAlways "raft.truncates-without-conflict" "calvin" in "churn"
        "A follower removes what follows the entries that it is sent, also where nothing conflicts."
        "Ongaro and Ousterhout 2014, figure 2, AppendEntries, step 3: if an existing entry conflicts";
    CommitsUnverified "raft.commits-unverified" "calvin" in "churn"
        "A follower commits up to the leader's index what it has not compared with the leader's log."
        "Ongaro and Ousterhout 2014, figure 2, AppendEntries, step 5";
    HalfIsMajority "raft.half-is-a-majority" "calvin" in "crossfire"
        "Half of an even number of replicas counts as a majority."
        "Ongaro and Ousterhout 2014, section 5.2";
    RefusalIgnored "raft.refusal-ignored" "calvin" in "churn"
        "A leader does not go back when a follower refuses: what was lost once is never sent again."
        "Ongaro and Ousterhout 2014, section 5.3: decrement nextIndex and retry";

    // Percolator.
    OracleRepeatsAfterRestart "percolator.oracle-repeats-timestamps" "percolator" in "crossfire"
        "A restarted oracle hands out the timestamps of its last lease again."
        "Peng and Dabek, OSDI 2010, section 2.3: strictly increasing across restarts";
    CommitAtStartTimestamp "percolator.commit-below-later-readers" "percolator" in "crossfire"
        "The commit timestamp follows from the start timestamp and is not asked for after the locks are taken."
        "Peng and Dabek 2010, section 2.2: a reader with a larger timestamp has seen the locks";
    ReadIgnoresLocks "percolator.reads-ignore-locks" "percolator" in "crossfire"
        "A reader that meets a lock below its timestamp reads the version under it."
        "Peng and Dabek 2010, section 2.2: Get waits until the range is free of locks";
    WriteConflictIgnored "percolator.write-conflict-ignored" "percolator" in "crossfire"
        "A write whose row has a version above the start timestamp is not refused."
        "Kingsbury, Jepsen: TiDB 2.1.7, 2019: automatic retries wrote over what had been committed since";
    AckAtPrewrite "percolator.ack-at-prewrite" "percolator" in "crossfire"
        "The client is told of success when all rows are locked, before the primary is committed."
        "Peng and Dabek 2010, section 2.2: the primary's commit is the commit point";
    LiveLockRolledBack "percolator.live-lock-rolled-back" "percolator" in "crossfire"
        "A reader rolls a secondary's lock back although its owner is under way."
        "Peng and Dabek 2010, section 2.2: cleaning up has to begin at the primary";
    CommitWithoutLock "percolator.commit-without-lock" "percolator" in "crossfire"
        "The primary's shard confirms a commit although the primary's lock has been removed."
        "Peng and Dabek 2010, section 2.2: the commit checks that the lock is still there";
    RepeatedRequestRunsAgain "percolator.repeated-request-runs-again" "percolator" in "crossfire"
        "The primary's shard does not look whether a transaction has committed: a repeated request takes effect again."
        "Ongaro 2014, section 6.3; TiDB, error 8027 (Undetermined): clients that retried wrote twice";

    // The monolith.
    MonolithAckBeforeFlush "monolith.ack-before-flush" "monolith" in "crossfire"
        "The client is told of success when the commit record is queued, before it is on the disk."
        "Gray 1978, section 5.8; MySQL, innodb_flush_log_at_trx_commit = 2; MongoDB, write concern without journal";
    LocksReleasedBeforeFlush "monolith.locks-released-before-flush" "monolith" in "crossfire"
        "Locks are released when the commit record is queued, and who reads then is answered without waiting for it."
        "DeWitt et al., SIGMOD 1984, section 5.2: a transaction waits for the record of those that it depends on";
    LostCommitAnswered "monolith.lost-commit-answered" "monolith" in "crossfire"
        "A commit whose flush failed is answered as if it were on the disk."
        "Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020; PostgreSQL's fsyncgate, 2018";
    CommitsForgottenAtRestart "monolith.commits-forgotten-at-restart" "monolith" in "crossfire"
        "A restart forgets which requests have committed: one that is sent again is evaluated again, on its own effects."
        "Birrell and Nelson, TOCS 2(1), 1984, section 3.4; Ongaro 2014, section 6.3";
    CheckpointDropsRefusals "monolith.checkpoint-drops-refusals" "monolith" in "crossfire"
        "The checkpoint that shortens the log leaves out which requests were refused: a late duplicate takes effect."
        "Mohan et al., ARIES, TODS 17(1), 1992, section 5.4; Ongaro 2014, section 6.3: sessions belong to the snapshot";

    // RAMP.
    MetadataIgnored "ramp.metadata-ignored" "ramp" in "fractured-reads"
        "A reader does not look at the write sets of what it has read."
        "Bailis et al., SIGMOD 2014, algorithm 1, lines 18 to 21";
    SecondRoundOfLatest "ramp.second-round-of-latest" "ramp" in "fractured-reads"
        "The second round asks for the latest version again instead of naming a timestamp."
        "Bailis et al. 2014, section 4.1: a version that has not committed where it lies is fetched by timestamp";
    CommitBeforeAllPrepared "ramp.commit-before-all-prepared" "ramp" in "crossfire"
        "The coordinator commits at each server as soon as that one has prepared."
        "Bailis et al. 2014, section 4.1: commit once all have prepared";
    RampPrepareNotForced "ramp.prepare-not-forced" "ramp" in "crossfire"
        "A server says that it has prepared while the versions are still on the way to the disk."
        "Bailis et al. 2014, section 4.3; Gray 1978, section 5.8.3";
    ReadServesPrepared "ramp.read-serves-prepared" "ramp" in "fractured-reads"
        "A server answers a reader that names no timestamp with its newest version, committed or not."
        "Bailis et al. 2014, algorithm 1, line 9: the latest committed version";
    CheckpointDropsMetadata "ramp.checkpoint-drops-metadata" "ramp" in "crossfire"
        "The checkpoint that shortens a server's log keeps values and timestamps, and no write sets."
        "Bailis et al. 2014, section 4.1: versions are stored with their metadata; ARIES, section 5.4";
    TimestampsReused "ramp.timestamps-reused" "ramp" in "crossfire"
        "A restarted coordinator counts its timestamps from the beginning of its last lease again."
        "Bailis et al. 2014, section 4.1: timestamps are unique, a client id and a sequence number";
    TerminationAborts "ramp.termination-aborts-prepared" "ramp" in "crossfire"
        "A server in doubt that finds that all have prepared discards its versions, which may have committed elsewhere."
        "Bailis et al. 2014, section 4.3: if all have prepared, it can safely commit";
    PromiseNotKept "ramp.promise-not-kept" "ramp" in "crossfire"
        "A server that has promised never to prepare prepares when the request comes."
        "Bailis et al. 2014, section 4.3: it promises never to prepare or commit";
    RampRequestRunsAgain "ramp.repeated-request-runs-again" "ramp" in "crossfire"
        "The home of a transaction does not look whether another attempt has prepared or committed."
        "Birrell and Nelson, TOCS 2(1), 1984; Ongaro 2014, section 6.3";

    // Hybrid logical clocks.
    ReceiveNotMerged "hlc.receive-not-merged" "calvin" in "crossfire"
        "Stamps that a node hears of do not move its clock."
        "Kulkarni et al. 2014, figure 5, receive event";
    WallClockOnly "hlc.wall-clock-only" "calvin" in "crossfire"
        "A stamp is the wall clock's reading, and goes backwards with it."
        "Kulkarni et al. 2014, figure 5, send or local event";
}

impl Bug {
    /// What the zoo says of it.
    pub fn planted(self) -> &'static Planted {
        &ALL[self as usize]
    }
}

/// The bug of this name.
pub fn by_name(name: &str) -> Option<&'static Planted> {
    ALL.iter().find(|planted| planted.name == name)
}

/// Whether this bug is switched on: never, in an ordinary build.
#[cfg(not(feature = "zoo"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Whether any bug is switched on. Where one breaks an assertion of the protocol code itself, the assertion
/// stands aside, so that the checks have to find it: a real system has no such assertion.
#[cfg(not(feature = "zoo"))]
#[inline(always)]
pub const fn any() -> bool {
    false
}

// The compiler itself sees that in an ordinary build no bug can be switched on.
#[cfg(not(feature = "zoo"))]
const _: () = {
    assert!(!any());
    let mut at = 0;
    while at < ALL.len() {
        assert!(!planted(ALL[at].bug));
        at += 1;
    }
};

#[cfg(feature = "zoo")]
pub use switch::{any, planted, with};

/// One switch for the whole process: a run steps on threads of its own.
#[cfg(feature = "zoo")]
mod switch {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::Bug;

    /// Position of the bug that is on, from 1; 0 is none.
    static ON: AtomicU16 = AtomicU16::new(0);
    /// Held while a bug is on: hunts for different bugs come one after the other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// Whether this bug is switched on.
    pub fn planted(bug: Bug) -> bool {
        ON.load(Ordering::Relaxed) == bug as u16 + 1
    }

    /// Whether any bug is switched on. Where one breaks an assertion of the protocol code itself, the
    /// assertion stands aside, so that the checks have to find it: a real system has no such assertion.
    pub fn any() -> bool {
        ON.load(Ordering::Relaxed) != 0
    }

    struct Off;

    impl Drop for Off {
        fn drop(&mut self) {
            ON.store(0, Ordering::SeqCst);
        }
    }

    /// Calls `body` with the bug switched on, or with none. Waits while another caller has a bug switched on. Calls must
    /// not be nested.
    pub fn with<R>(bug: Option<Bug>, body: impl FnOnce() -> R) -> R {
        let _alone = ONE_AT_A_TIME
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let _off = Off;
        ON.store(bug.map_or(0, |bug| bug as u16 + 1), Ordering::SeqCst);
        body()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_switches_find_their_rows() {
        let names: BTreeSet<&str> = ALL.iter().map(|planted| planted.name).collect();
        assert_eq!(names.len(), ALL.len());
        for planted in ALL {
            assert_eq!(planted.bug.planted(), planted);
            assert_eq!(by_name(planted.name), Some(planted));
        }
    }
}
