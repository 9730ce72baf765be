//! The log's own code in small worlds: two replicas. Each proposes its number once, when it becomes leader. (Three
//! replicas have 673,685 states without any fault.)
//!
//! A monitor holds the properties of figure 3 (Ongaro and Ousterhout, USENIX ATC 2014) against what replicas state, and
//! never looks into them. Election timers fire a limited number of times: a term is a counter, and without a limit the
//! graph is infinite. So liveness is asked only where one campaign is enough.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

use std::net::SocketAddr;

use super::stack;
use super::{BAD_DISK, CRASH, CUT, Code, DUPLICATE, Examined, NONE, Setting, SmallWorld, TORN};
use crate::base::observation::{LogEvent, Observation};
use crate::base::process::{Addr, Effects, FileId, Input, NodeId, Process, WallTime};
use crate::consensus::{Config, Delivery, Log, LogMessage, LogTimer, Options, ReplicaTimer};
use crate::model::checker::leads_to::FairChecker;
use crate::model::explorer::Asked;
use crate::model::refine::raft::{KeepsLogs, Logs};
use crate::model::spec::CheckError;
use crate::model::worlds::world::{Budget, Host, Monitor};

/// A process that keeps a log and proposes its own number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    log: Log<u64>,
    number: u64,
    has_proposed: bool,
    applied: Vec<u64>,
}

/// The log's name.
const GROUP: u16 = 0;

/// Nodes 0 and 1.
const SERVERS: std::ops::Range<u16> = 0..2;

fn server(node: u16) -> Addr {
    Addr {
        node: NodeId(node),
        port: 0,
    }
}

impl Replica {
    fn new(node: u16) -> Self {
        let config = Config {
            group: GROUP,
            me: server(node),
            members: SERVERS.map(server).collect(),
            file: FileId(0),
            flush_owner: 0,
            options: Options::default(),
        };
        Self {
            log: Log::new(config),
            number: u64::from(node) + 1,
            has_proposed: false,
            applied: Vec::new(),
        }
    }
}

impl Process for Replica {
    type Message = LogMessage<u64>;
    type Timer = LogTimer;

    fn step(
        &mut self,
        now: WallTime,
        input: Input<LogMessage<u64>, LogTimer>,
        out: &mut Effects<LogMessage<u64>, LogTimer>,
    ) {
        self.log.step(now, input, out);
        if self.log.is_leader() && !self.has_proposed {
            self.has_proposed = true;
            self.log.propose(self.number, out).expect("it leads");
        }
        for delivery in self.log.take_deliveries() {
            if let Delivery::Entry { command, .. } = delivery {
                self.applied.push(command);
            }
        }
    }
}

impl KeepsLogs for Replica {
    type Command = u64;

    fn logs(&self) -> impl Iterator<Item = &Log<u64>> {
        std::iter::once(&self.log)
    }

    fn log_message(message: &LogMessage<u64>) -> Option<(u16, &LogMessage<u64>)> {
        Some((GROUP, message))
    }

    fn log_timer(_: &LogTimer) -> Option<u16> {
        Some(GROUP)
    }
}

/// An entry as replicas state it: term and digest.
type Entry = (u64, u64);

/// What the monitor remembers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stated {
    leaders: BTreeMap<u64, Addr>,
    /// Each replica's log, from index 1.
    logs: BTreeMap<Addr, Vec<Entry>>,
    committed: Vec<Entry>,
    two_leaders_in_a_term: bool,
    leader_lacked_committed: bool,
    committed_differently: bool,
}

impl Stated {
    /// Takes in an observation.
    pub fn note(&mut self, at: Addr, observation: &Observation) {
        let Observation::Log { event, .. } = observation else {
            return;
        };
        let log = self.logs.entry(at).or_default();
        match event {
            LogEvent::Restarted { .. } => log.clear(),
            LogEvent::Appended { term, content, .. } => log.push((*term, *content)),
            LogEvent::Truncated { from } => log.truncate(*from as usize - 1),
            LogEvent::Compacted { .. } => unreachable!("nobody asks for it"),
            LogEvent::WonBallot { .. } => unreachable!("the log is Raft's"),
            LogEvent::BecameLeader { term } => {
                self.two_leaders_in_a_term |= *self.leaders.entry(*term).or_insert(at) != at;
                self.leader_lacked_committed |= !log.starts_with(&self.committed);
            }
            LogEvent::Committed { index } => {
                let mine = &log[..*index as usize];
                let both = mine.len().min(self.committed.len());
                self.committed_differently |= mine[..both] != self.committed[..both];
                if mine.len() > self.committed.len() {
                    self.committed = mine.to_vec();
                }
            }
        }
    }

    /// Two logs with the same term at an index are the same up to there.
    fn logs_match(&self) -> bool {
        let alike = |a: &[Entry], b: &[Entry]| {
            let last_common = a.iter().zip(b).rposition(|(a, b)| a.0 == b.0);
            last_common.is_none_or(|last| a[..=last] == b[..=last])
        };
        let logs: Vec<_> = self.logs.values().collect();
        let pairs = logs.iter().enumerate();
        { pairs }.all(|(at, a)| logs[at + 1..].iter().all(|b| alike(a, b)))
    }

    /// The no-op of a term and a command.
    fn has_committed(&self) -> bool {
        self.committed.len() >= 2
    }
}

/// The replicas, one on each node.
pub fn replicas() -> Vec<Vec<Replica>> {
    SERVERS.map(|node| vec![Replica::new(node)]).collect()
}

/// The replicas with a monitor; how often the election timer of each fires. With one campaign, that of the second never does.
pub fn cluster<G>(budget: Budget, campaigns: u8, start: G, note: Monitor<G>) -> Host<Replica, G>
where
    G: Clone + Eq + Hash + Debug,
{
    limited(Host::new(replicas(), budget, start, note), campaigns)
}

/// The same world with the timers of [`cluster`], whatever its processes are.
pub fn limited<P, G>(host: Host<P, G>, campaigns: u8) -> Host<P, G>
where
    P: Process<Timer = LogTimer>,
    G: Clone + Eq + Hash + Debug,
{
    host.limit_timers(move |at, timer| match timer {
        LogTimer::Raft(ReplicaTimer::Election) if campaigns == 1 => Some(u8::from(at.node.0 == 0)),
        LogTimer::Raft(ReplicaTimer::Election) => Some(campaigns),
        LogTimer::Raft(ReplicaTimer::Heartbeat) | LogTimer::Paxos(_) => Some(0),
    })
}

/// Figure 3. With more than one campaign also: several replicas become leader, and one commits.
pub fn safety(lively: bool) -> Asked<Replica, Stated> {
    let mut asked: Asked<Replica, Stated> = Asked {
        always: vec![
            ("election safety", |world| !world.seen.two_leaders_in_a_term),
            ("log matching", |world| world.seen.logs_match()),
            ("leader completeness", |world| {
                !world.seen.leader_lacked_committed
            }),
            ("state-machine safety", |world| {
                !world.seen.committed_differently
            }),
        ],
        sometimes: Vec::new(),
    };
    if !lively {
        asked.sometimes = vec![
            ("two leaders", |world| world.seen.leaders.len() >= 2),
            ("commits", |world| world.seen.has_committed()),
        ];
    }
    asked
}

/// Figure 3. Where liveness is asked also: a leader commits. Otherwise: several replicas become leader.
pub fn ask(
    checker: FairChecker<'_, Host<Replica, Stated>>,
    lively: bool,
) -> FairChecker<'_, Host<Replica, Stated>> {
    let checker = safety(lively).of(checker);
    match lively {
        true => checker.leads_to(
            "commits",
            |world| !world.seen.has_committed(),
            |world| world.seen.has_committed(),
        ),
        false => checker,
    }
}

/// Timers that fire too early, twice.
const COLLIDE: Budget = Budget {
    early_timeouts: 2,
    ..NONE
};

/// A timer that fires too early, and a lost message.
const LATE_LOSS: Budget = Budget {
    early_timeouts: 1,
    losses: 1,
    ..NONE
};

/// The replicas; how often the election timer of each fires.
struct Cluster {
    campaigns: u8,
}

impl Code for Cluster {
    fn check(&self, setting: &Setting, limit: u32) -> Result<Examined, CheckError> {
        let world = cluster(
            setting.budget,
            self.campaigns,
            Stated::default(),
            Stated::note,
        );
        let asked = ask(world.fair(setting.restarts, limit)?, setting.lively);
        let mut outcome = stack::outcome(setting, asked.check()?);
        let shadow = cluster(setting.budget, self.campaigns, Logs::whole(), stack::ignore);
        let checked = stack::held(shadow, limit)?;
        outcome.properties.push(stack::refinement(&checked));
        Ok(Examined {
            outcome,
            edges: Some(checked.tally),
        })
    }

    fn serve(&self, setting: &Setting, address: SocketAddr) -> Result<(), &'static str> {
        let world = cluster(
            setting.budget,
            self.campaigns,
            Stated::default(),
            Stated::note,
        );
        let shadow = cluster(setting.budget, self.campaigns, Logs::whole(), stack::ignore);
        stack::serve(world, shadow, safety(setting.lively), address);
        Ok(())
    }
}

/// Two replicas of a log in small worlds.
#[rustfmt::skip]
pub fn worlds() -> Vec<SmallWorld> {
    let world = |name, campaigns, budget, about| {
        SmallWorld::new(name, Cluster { campaigns }, budget, about)
    };
    vec![
        world("raft", 1, NONE, "Raft's code without faults: one campaign is enough to commit."),
        world("raft-duplicate", 1, DUPLICATE, "One message arrives twice."),
        world("raft-crash", 2, CRASH, "A replica crashes, and both campaign twice: safety only.").safety_only(),
        world("raft-collide", 2, COLLIDE, "Election timers fire too early: safety only.").safety_only(),
        world("raft-loss", 3, LATE_LOSS, "A message is lost and a timer fires too early: safety only.").safety_only(),
        world("raft-cut", 1, CUT, "The replicas are cut off from one another, and find one another again."),
        world("raft-partition", 2, CUT, "They are cut off, both campaign, and what was said before the cut arrives after it: safety only.").safety_only(),
        world("raft-disk", 2, BAD_DISK, "One flush fails, and both campaign twice: safety only.").safety_only(),
        world("raft-torn", 2, TORN, "A crash tears what was being written, and both campaign twice: safety only.").safety_only(),
    ]
}
