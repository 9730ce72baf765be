//! Refinement of Raft's log: the running code takes no step that `specs/raft_disk` does not allow, in every schedule of small
//! worlds and in simulated runs of Calvin; and code that skips a flush, forgets its vote, answers early or hears what was
//! not said is caught.

use ordain::base::process::{Disk, Effect, FileId, Input, Process};
use ordain::consensus::raft::RaftMessage;
use ordain::consensus::{Log, LogMessage, LogTimer, Position};
use ordain::model::refine::raft::{KeepsLogs, Logs};
use ordain::model::refine::{self, Checked, Tally};
use ordain::model::worlds::replicas::{self, Replica};
use ordain::model::worlds::world::{Budget, Host};
use ordain::model::worlds::{BAD_DISK, CRASH, CUT, NONE, SINGLE_FAULTS, TORN};
use ordain::protocol::calvin::{self, Calvin};
use ordain::shard::wal::{Tail, recover};

use crate::interferer::*;

impl<N: KeepsLogs> KeepsLogs for Meddled<N> {
    type Command = N::Command;

    fn logs(&self) -> impl Iterator<Item = &Log<N::Command>> {
        use ordain::model::refine::Shows;
        self.shown().logs()
    }

    fn log_message(message: &N::Message) -> Option<(u16, &LogMessage<N::Command>)> {
        N::log_message(message)
    }

    fn log_timer(timer: &N::Timer) -> Option<u16> {
        N::log_timer(timer)
    }
}

/// Two replicas, whose election timers fire so often.
fn replicas(
    budget: Budget,
    campaigns: u8,
    inputs: Inspector<Replica>,
    effects: Meddler<Replica>,
) -> Checked {
    let processes = meddled(replicas::replicas(), inputs, effects);
    let host = Host::new(processes, budget, Logs::whole(), |_, _, _| {});
    let host = replicas::limited(host, campaigns);
    refine::check_edges(&refine::shadow(host), LIMIT).expect("small")
}

const COLLIDE: Budget = Budget {
    early_timeouts: 1,
    ..NONE
};

#[test]
fn every_edge_of_raft_is_allowed_by_its_spec() {
    let mut tally = Tally::default();
    for budget in [NONE, TORN].into_iter().chain(SINGLE_FAULTS) {
        let checked = replicas(budget, 2, all, honest);
        assert_refines(&checked, &mut tally, &format!("{budget:?}"));
    }
    assert_taken(
        &tally,
        &[
            "Timeout",
            "AskVote",
            "HearTerm",
            "Resign",
            "ReceiveAsk",
            "ReceiveVote",
            "BecomeLeader",
            "Request",
            "SendAppend",
            "ReceiveAppend",
            "LearnCommit",
            "Acknowledge",
            "ReceiveAck",
            "Commit",
            "Flush",
            "Crash",
            "Restart",
        ],
    );
}

// Mutants.

fn skips_flushes(_: &Replica, effects: EffectsOf<Replica>) -> EffectsOf<Replica> {
    unflushed(effects)
}

/// A replica comes back without what its disk kept: its vote, its log.
fn forgets_its_disk<N: Process>(_: &N, input: InputOf<N>) -> Option<InputOf<N>> {
    Some(match input {
        Input::Boot(_) => Input::Boot(Disk::default()),
        input => input,
    })
}

/// A follower acknowledges entries as soon as it has them in memory.
fn acknowledges_early(replica: &Replica, mut effects: EffectsOf<Replica>) -> EffectsOf<Replica> {
    let Some(Log::Raft(raft)) = replica.logs().next() else {
        return effects;
    };
    let writes = { effects.iter() }.any(|effect| matches!(effect, Effect::Append { .. }));
    if let Some(to) = raft.leader().filter(|_| writes && !raft.is_leader()) {
        let reply = RaftMessage::AppendReply {
            term: raft.term(),
            round: 0,
            result: Ok(raft.last().index),
        };
        let message = LogMessage::Raft(reply);
        effects.push(Effect::Send { to, message });
    }
    effects
}

/// What a replica hears from another is replaced.
fn misheard(
    input: InputOf<Replica>,
    instead: fn(RaftMessage<u64>) -> RaftMessage<u64>,
) -> Option<InputOf<Replica>> {
    Some(match input {
        Input::Message {
            from,
            message: LogMessage::Raft(message),
        } => Input::Message {
            from,
            message: LogMessage::Raft(instead(message)),
        },
        input => input,
    })
}

/// A voter takes every candidate's log for the most complete one.
fn votes_blindly(_: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    misheard(input, |message| match message {
        RaftMessage::RequestVote { term, pre, .. } => {
            let last = Position {
                term: u64::MAX,
                index: u64::MAX,
            };
            RaftMessage::RequestVote { term, pre, last }
        }
        message => message,
    })
}

/// A candidate takes a refusal for a vote.
fn hears_no_refusal(_: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    misheard(input, |message| match message {
        RaftMessage::Vote { term, pre, .. } => {
            let granted = true;
            RaftMessage::Vote { term, pre, granted }
        }
        message => message,
    })
}

/// A leader takes an acknowledgement for one entry more than it names.
fn counts_one_more(_: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    misheard(input, |message| match message {
        RaftMessage::AppendReply {
            term,
            round,
            result: Ok(index),
        } if index > 0 => RaftMessage::AppendReply {
            term,
            round,
            result: Ok(index + 1),
        },
        message => message,
    })
}

/// A follower takes everything that it is sent for committed.
fn commits_what_it_hears(_: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    misheard(input, |message| match message {
        RaftMessage::AppendEntries {
            term,
            prev,
            entries,
            round,
            ..
        } => RaftMessage::AppendEntries {
            commit: prev.index + entries.len() as u64,
            term,
            prev,
            entries,
            round,
        },
        message => message,
    })
}

#[test]
fn mutants_of_raft_leave_the_spec() {
    type Mutant = (&'static str, Budget, Inspector<Replica>, Meddler<Replica>);
    let mutants: [Mutant; 7] = [
        ("a replica skips its flushes", NONE, all, skips_flushes),
        (
            "a replica comes back without its disk",
            CRASH,
            forgets_its_disk,
            honest,
        ),
        (
            "a follower acknowledges before its flush",
            NONE,
            all,
            acknowledges_early,
        ),
        (
            "a voter does not look at the log",
            CRASH,
            votes_blindly,
            honest,
        ),
        (
            "a refusal is taken for a vote",
            COLLIDE,
            hears_no_refusal,
            honest,
        ),
        (
            "an acknowledgement counts for one entry more",
            NONE,
            counts_one_more,
            honest,
        ),
        (
            "a follower commits what its leader has not",
            NONE,
            commits_what_it_hears,
            honest,
        ),
    ];
    for (name, budget, inputs, effects) in mutants {
        assert_refused(name, replicas(budget, 2, inputs, effects));
    }
}

/// A flush that failed is taken for done.
fn takes_failures_for_success<N: Process>(_: &N, input: InputOf<N>) -> Option<InputOf<N>> {
    Some(match input {
        Input::FlushFailed(flush) => Input::Flushed(flush),
        input => input,
    })
}

/// A replica whose log ends in the middle of a record starts with an empty one.
fn gives_up_a_torn_disk<N: Process>(_: &N, input: InputOf<N>) -> Option<InputOf<N>> {
    let is_torn = |disk: &Disk| {
        let file = recover::<()>(disk.file(FileId(0))).expect("nothing damages a disk here");
        file.tail != Tail::Clean
    };
    Some(match input {
        Input::Boot(disk) if is_torn(&disk) => Input::Boot(Disk::default()),
        input => input,
    })
}

/// A vote of an earlier term counts in this one.
fn counts_late_votes(replica: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    let Some(Log::Raft(raft)) = replica.logs().next() else {
        return Some(input);
    };
    Some(match input {
        Input::Message {
            from,
            message:
                LogMessage::Raft(RaftMessage::Vote {
                    pre: false,
                    granted: true,
                    ..
                }),
        } => Input::Message {
            from,
            message: LogMessage::Raft(RaftMessage::Vote {
                term: raft.term(),
                pre: false,
                granted: true,
            }),
        },
        input => input,
    })
}

#[test]
fn failed_flushes_torn_writes_and_cuts_uncover_mutants_that_a_world_without_faults_does_not() {
    /// With the world that catches it, and those that do not.
    type Mutant = (&'static str, Budget, &'static [Budget], Inspector<Replica>);
    let mutants: [Mutant; 3] = [
        (
            "a failed flush is taken for done",
            BAD_DISK,
            &[NONE, CRASH, CUT, TORN],
            takes_failures_for_success,
        ),
        (
            "a torn log is given up",
            TORN,
            &[NONE, CRASH, CUT, BAD_DISK],
            gives_up_a_torn_disk,
        ),
        // A crash delays votes too.
        ("a late vote counts", CUT, &[NONE], counts_late_votes),
    ];
    for (name, budget, others, inputs) in mutants {
        assert_refused(name, replicas(budget, 2, inputs, honest));
        for other in others {
            let broken = replicas(*other, 2, inputs, honest).broken;
            assert!(broken.is_none(), "{name}: {other:?}");
        }
    }
}

// The log that Calvin's sequencer keeps, in small worlds of Calvin.

#[test]
fn every_edge_of_a_sequencers_log_is_allowed_by_its_spec() {
    let mut tally = Tally::default();
    for budget in [BAD_DISK, TORN] {
        let checked = sequencer(Logs::whole(), budget, all, honest);
        assert_refines(&checked, &mut tally, &format!("{budget:?}"));
    }
    let actions = [
        "Timeout",
        "BecomeLeader",
        "Request",
        "Commit",
        "Flush",
        "Crash",
        "Restart",
    ];
    assert_taken(&tally, &actions);
}

#[test]
fn a_failing_disk_and_a_restart_uncover_mutants_of_a_sequencer() {
    type Mutant = (&'static str, Budget, Inspector<calvin::Node>);
    let mutants: [Mutant; 2] = [
        (
            "a failed flush is taken for done",
            BAD_DISK,
            takes_failures_for_success,
        ),
        ("a torn log is given up", TORN, gives_up_a_torn_disk),
    ];
    for (name, budget, inputs) in mutants {
        assert_refused(name, sequencer(Logs::whole(), budget, inputs, honest));
        assert!(
            sequencer(Logs::whole(), NONE, inputs, honest)
                .broken
                .is_none(),
            "{name}: without faults it is honest"
        );
    }
}

// Near misses: odd, and allowed.

/// A follower acknowledges less than it has.
fn acknowledges_less(_: &Replica, effects: EffectsOf<Replica>) -> EffectsOf<Replica> {
    let less = |effect| match effect {
        Effect::Send {
            to,
            message:
                LogMessage::Raft(RaftMessage::AppendReply {
                    term,
                    round,
                    result: Ok(index),
                }),
        } => {
            let result = Ok(index.saturating_sub(1));
            let reply = RaftMessage::AppendReply {
                term,
                round,
                result,
            };
            let message = LogMessage::Raft(reply);
            Effect::Send { to, message }
        }
        effect => effect,
    };
    effects.into_iter().map(less).collect()
}

/// A replica hears no votes.
fn hears_no_votes(_: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    let is_vote = matches!(
        input,
        Input::Message {
            message: LogMessage::Raft(RaftMessage::Vote { pre: false, .. }),
            ..
        }
    );
    (!is_vote).then_some(input)
}

/// A replica hears everything twice.
fn says_everything_twice(_: &Replica, effects: EffectsOf<Replica>) -> EffectsOf<Replica> {
    let twice = |effect: EffectOf<Replica>| match effect {
        Effect::Send { .. } => vec![effect.clone(), effect],
        effect => vec![effect],
    };
    effects.into_iter().flat_map(twice).collect()
}

/// A timer that fires is forgotten once in a while: here, every heartbeat.
fn sends_no_heartbeats(_: &Replica, input: InputOf<Replica>) -> Option<InputOf<Replica>> {
    let is_heartbeat = matches!(
        input,
        Input::Timer(LogTimer::Raft(ordain::consensus::ReplicaTimer::Heartbeat))
    );
    (!is_heartbeat).then_some(input)
}

#[test]
fn what_is_odd_and_harmless_stays_within_the_spec() {
    type Oddity = (&'static str, Inspector<Replica>, Meddler<Replica>);
    let oddities: [Oddity; 4] = [
        ("acknowledges less", all, acknowledges_less),
        ("hears no votes", hears_no_votes, honest),
        ("says everything twice", all, says_everything_twice),
        ("sends no heartbeats", sends_no_heartbeats, honest),
    ];
    for (name, inputs, effects) in oddities {
        let checked = replicas(CRASH, 2, inputs, effects);
        assert!(checked.tally.moves > 0, "{name}");
        if let Some((steps, refusal)) = checked.broken {
            panic!("{name}: {}: {refusal}", steps.join(", "));
        }
    }
}

// Simulated runs of Calvin, whose sequencers keep logs.

fn run(
    seed: u64,
    inputs: Inspector<calvin::Node>,
    effects: Meddler<calvin::Node>,
) -> (Tally, Vec<String>) {
    simulated::<Calvin, _>(seed, Logs::windowed(), inputs, effects)
}

fn fronts_skip_flushes(
    node: &calvin::Node,
    effects: EffectsOf<calvin::Node>,
) -> EffectsOf<calvin::Node> {
    match node {
        calvin::Node::Coordinator(_) => unflushed(effects),
        _ => effects,
    }
}

#[test]
fn logs_in_stormy_runs_refine_the_spec() {
    let actions = [
        "AskVote",
        "BecomeLeader",
        "Commit",
        "Crash",
        "Flush",
        "HearTerm",
        "LearnCommit",
        "ReceiveAppend",
        "Resign",
        "Restart",
        "Timeout",
    ];
    assert_storms_refine::<Calvin, _>(6, Logs::windowed, &actions);
}

#[test]
fn logs_of_mutants_in_stormy_runs_leave_the_spec() {
    let breaks = |inputs: Inspector<_>, effects: Meddler<_>| {
        (0..6).any(|seed| !run(seed, inputs, effects).1.is_empty())
    };
    assert!(breaks(all, fronts_skip_flushes));
    assert!(breaks(forgets_its_disk, honest));
}
