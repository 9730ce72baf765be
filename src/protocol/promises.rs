//! What a protocol promises: a list of properties, each with its arguments and, where it hangs on one, its assumption.
//!
//! ```
//! use ordain::protocol::promises::{Assumption, Atomicity, Isolation, Progress, Promise, Promises};
//!
//! let promises = Promises::of([
//!     Promise::Isolation(Isolation::StrictSerializable),
//!     Promise::Atomicity(Atomicity::AllOrNothing),
//!     Promise::Durability,
//! ])
//! .assuming(Assumption::Synchrony { within_ns: 2_000_000_000 })
//! .and(Promise::Progress(Progress::AllBack));
//! assert_eq!(promises.atomicity(), Atomicity::AllOrNothing);
//! assert!(!promises.no_system_aborts(), "it is not in the list");
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::process::NodeId;
use crate::consensus::connectivity::Shape;
use crate::fault::{Fault, FaultKind, Latency};
use crate::plan::Plan;
use crate::plan::clocks::Lie;

/// The isolation that a protocol promises for the transactions that it acknowledges, from weak to strong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Nothing.
    None,
    /// Nothing is read of a transaction that aborts, of one that is unfinished, or in a circle (Adya 1999, PL-2).
    ReadCommitted,
    /// As read committed, and who sees one of a transaction's writes sees all of them (Bailis et al., SIGMOD 2014).
    ReadAtomic,
    /// Snapshot isolation (Berenson et al., SIGMOD 1995).
    SnapshotIsolation,
    /// Serializability.
    Serializable,
    /// Serializability in an order that respects real time.
    StrictSerializable,
}

impl Isolation {
    /// Whether a transaction that is as promised may overwrite what it has not seen: the update of another one is lost, and
    /// a row is not what its writes, one after the other, make of it (Bailis et al., TODS 41(3), 2016, section 3).
    pub fn allows_lost_updates(self) -> bool {
        matches!(self, Isolation::ReadCommitted | Isolation::ReadAtomic)
    }
}

/// The atomicity that a protocol promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Atomicity {
    /// Nothing.
    None,
    /// In the end either every effect of a transaction stands, or every one is compensated or never
    /// happened (Garcia-Molina and Salem, SIGMOD 1987).
    Saga,
    /// All effects or none, but for transactions that a participant decided alone (XA's heuristic decisions).
    UnlessAlone,
    /// All effects or none.
    AllOrNothing,
}

/// Where a protocol promises that requests return and that what it took charge of ends, within the settle phase, once
/// everything has healed that is not permanent. Machines *exchange messages* if both are up and messages pass both ways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nowhere.
    None,
    /// Where all machines that have to talk for the operation exchange messages ([`Protocol::needs`]), and no operation that needs
    /// more wants the same rows: until they are back, participants may stay in doubt, and others wait behind their locks.
    ///
    /// [`Protocol::needs`]: crate::protocol::Protocol::needs
    AllBack,
    /// As [`AllBack`](Progress::AllBack), and of those who decide only a quorum is needed ([`Protocol::quorums`]).
    ///
    /// [`Protocol::quorums`]: crate::protocol::Protocol::quorums
    Quorum,
    /// Where the log goes on, and whichever replica leads it, one that hears from it serves the client: its region has a copy of
    /// every shard, and these, the replica and the client exchange messages with one another. (Whoever reaches a majority may
    /// lead. "Any majority of the servers are operational and can communicate with each other and with clients", Ongaro and
    /// Ousterhout 2014, section 2.)
    Log {
        /// How the log's replicas have to reach one another, at least.
        needs: Shape,
        /// Whether several logs are merged. Then whoever may lead one of them has to hear of the others, too: a leader that
        /// does not know of another log's entry does not get its own log past it.
        merged: bool,
    },
}

/// One property that a protocol promises.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Isolation of acknowledged transactions.
    Isolation(Isolation),
    /// Atomicity of all transactions.
    Atomicity(Atomicity),
    /// Effects acknowledged to a client survive every fault of the scenario.
    Durability,
    /// Every initiated transaction ends, and its client is answered.
    Progress(Progress),
    /// A transaction aborts only by its own logic (its guards), never because of the system.
    NoSystemAborts,
}

impl Promise {
    /// What it is about: one promise of each kind is in a list.
    fn kind(&self) -> std::mem::Discriminant<Promise> {
        std::mem::discriminant(self)
    }

    fn is_empty(&self) -> bool {
        matches!(
            self,
            Promise::Isolation(Isolation::None)
                | Promise::Atomicity(Atomicity::None)
                | Promise::Progress(Progress::None)
        )
    }

    /// The properties of a verdict that it is judged by.
    pub fn properties(&self) -> &'static [&'static str] {
        match self {
            Promise::Isolation(_) => &["isolation", "no-intermediate-states"],
            Promise::Atomicity(_) => &[
                "atomicity",
                "no-phantom-effects",
                "invariant",
                "compensation-order",
            ],
            Promise::Durability => &["durability"],
            Promise::Progress(_) => &["progress", "recovery"],
            Promise::NoSystemAborts => &["no-system-aborts"],
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::Isolation(isolation) => match isolation {
                Isolation::None => "no isolation",
                Isolation::ReadCommitted => "read committed",
                Isolation::ReadAtomic => "read atomicity",
                Isolation::SnapshotIsolation => "snapshot isolation",
                Isolation::Serializable => "serializability",
                Isolation::StrictSerializable => "strict serializability",
            },
            Promise::Atomicity(atomicity) => match atomicity {
                Atomicity::None => "no atomicity",
                Atomicity::Saga => "all effects or all compensated",
                Atomicity::UnlessAlone => "all effects or none unless a participant decided alone",
                Atomicity::AllOrNothing => "all effects or none",
            },
            Promise::Durability => "acknowledged effects survive",
            Promise::Progress(progress) => match progress {
                Progress::None => "no progress",
                Progress::AllBack => "requests return once all machines that they need are back",
                Progress::Quorum => "requests return while participants and a quorum are connected",
                Progress::Log { .. } => "requests return while a majority is connected",
            },
            Promise::NoSystemAborts => "no system-induced aborts",
        })
    }
}

/// What a promise hangs on. A run in which it does not hold says nothing against the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assumption {
    /// A synchronous network and prompt machines: whoever is up answers within this time, in nanoseconds. Then silence for
    /// longer means a crash, and nobody is suspected falsely (Skeen 1981; Dwork, Lynch and Stockmeyer 1988). Crashes are no
    /// breach, nor is a client that is cut off. Cuts, loss, pauses and slow machines of others are.
    Synchrony {
        /// The bound.
        within_ns: u64,
    },
    /// Every wall clock keeps the scenario's declared bound (`machines.clock-bound`): only a `clock-liar` breaks it.
    BoundedClocks,
}

/// A delay is cut at so many times its mean jitter: see [`Latency`].
const JITTER_MAX: u64 = 10;

impl Assumption {
    /// How the plan breaks it, in words; nothing if it does not.
    pub fn broken_by(&self, plan: &Plan) -> Option<String> {
        match *self {
            // The run says it: see `in_force`.
            Assumption::BoundedClocks => None,
            Assumption::Synchrony { within_ns } => {
                let links = &plan.environment.link_classes;
                let usual = links.iter().find_map(|link| {
                    if link.loss_ppm > 0 {
                        return Some("links lose messages".to_owned());
                    }
                    is_slow(&link.latency, within_ns)
                        .then(|| "a link is slower than that".to_owned())
                });
                let faulty = |fault: &Fault| asynchrony(plan, fault, within_ns);
                usual.or_else(|| plan.faults.iter().find_map(faulty))
            }
        }
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Assumption::BoundedClocks => f.write_str("while every clock keeps its declared bound"),
            Assumption::Synchrony { within_ns } => {
                let ms = within_ns / 1_000_000;
                write!(f, "while whoever is up answers within {ms} ms")
            }
        }
    }
}

/// Whether an answer may take longer: there and back.
fn is_slow(latency: &Latency, within_ns: u64) -> bool {
    let one_way = (latency.base_ns).saturating_add(latency.jitter_ns.saturating_mul(JITTER_MAX));
    one_way.saturating_mul(2) > within_ns
}

/// How a fault lets somebody who is up stay silent for longer.
fn asynchrony(plan: &Plan, fault: &Fault, within_ns: u64) -> Option<String> {
    let name = |nodes: &[NodeId]| {
        let names = nodes.iter().take(2);
        let names = names.map(|node| plan.environment.machines[usize::from(node.0)].name.as_str());
        let more = if nodes.len() > 2 { ", ..." } else { "" };
        format!("{}{more}", names.collect::<Vec<_>>().join(", "))
    };
    // Nobody decides by the silence of a client.
    let of_clients = |nodes: &[NodeId]| {
        let mut nodes = nodes.iter();
        nodes.all(|node| plan.environment.machines[usize::from(node.0)].client)
    };
    let mut kind = fault.kind.clone();
    if kind.node_lists().iter().any(|nodes| of_clients(nodes)) {
        return None;
    }
    // What lasts for less than half of the bound leaves time for an answer.
    let is_short = fault.for_ns.is_some_and(|for_ns| for_ns <= within_ns / 2) && !fault.permanent;
    match &fault.kind {
        FaultKind::Cut { from, to, .. } | FaultKind::Flap { from, to, .. } => Some(format!(
            "{} and {} were cut from one another",
            name(from),
            name(to)
        )),
        FaultKind::Degrade {
            from,
            to,
            loss_ppm,
            latency,
            bandwidth,
            ..
        } => (*loss_ppm > 0 || *bandwidth > 0 || is_slow(latency, within_ns / 2)).then(|| {
            format!(
                "links between {} and {} were degraded",
                name(from),
                name(to)
            )
        }),
        FaultKind::Pause { nodes } => (!is_short).then(|| format!("{} paused", name(nodes))),
        FaultKind::Slow { nodes, percent } | FaultKind::SlowFlush { nodes, percent } => {
            (*percent > 100 && !is_short).then(|| format!("{} was slow", name(nodes)))
        }
        // Who crashes is silent for good: that is no breach. Clocks that are off fire timers early.
        FaultKind::ClockStep { nodes, .. } | FaultKind::ClockDrift { nodes, .. } => {
            Some(format!("the clock of {} was set wrong", name(nodes)))
        }
        FaultKind::Crash { .. } | FaultKind::FailFlush { .. } | FaultKind::CorruptRead { .. } => {
            None
        }
    }
}

/// A promise, and what it hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Promised {
    /// The property.
    pub promise: Promise,
    /// It holds while this does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assuming: Option<Assumption>,
}

impl fmt::Display for Promised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.assuming {
            None => self.promise.fmt(f),
            Some(assumption) => write!(f, "{} {assumption}", self.promise),
        }
    }
}

/// What a run of a protocol is judged against: less is a violation, a documented weakness is a measurement.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Promises(Vec<Promised>);

impl Promises {
    /// No promise at all.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These, without an assumption.
    pub fn of(promises: impl IntoIterator<Item = Promise>) -> Self {
        let all = promises.into_iter();
        all.fold(Self::nothing(), |list, promise| list.and(promise))
    }

    /// These and one more, in the place of one of its kind. A promise of nothing (`Isolation::None`) takes that out.
    #[must_use]
    pub fn and(mut self, promise: Promise) -> Self {
        self.0
            .retain(|promised| promised.promise.kind() != promise.kind());
        if !promise.is_empty() {
            let assuming = None;
            self.0.push(Promised { promise, assuming });
        }
        self
    }

    /// The same, each of them hanging on `assumption`.
    #[must_use]
    pub fn assuming(mut self, assumption: Assumption) -> Self {
        for promised in &mut self.0 {
            promised.assuming = Some(assumption);
        }
        self
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Promised> {
        self.0.iter()
    }

    /// Whether nothing is promised.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    fn find<T>(&self, of: impl Fn(&Promise) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|promised| of(&promised.promise))
    }

    /// Isolation of acknowledged transactions.
    pub fn isolation(&self) -> Isolation {
        let found = self.find(|promise| match promise {
            Promise::Isolation(isolation) => Some(*isolation),
            _ => None,
        });
        found.unwrap_or(Isolation::None)
    }

    /// Atomicity of all transactions.
    pub fn atomicity(&self) -> Atomicity {
        let found = self.find(|promise| match promise {
            Promise::Atomicity(atomicity) => Some(*atomicity),
            _ => None,
        });
        found.unwrap_or(Atomicity::None)
    }

    /// Whether effects acknowledged to a client survive every fault of the scenario.
    pub fn durability(&self) -> bool {
        self.find(|promise| matches!(promise, Promise::Durability).then_some(()))
            .is_some()
    }

    /// When every initiated transaction ends.
    pub fn progress(&self) -> Progress {
        let found = self.find(|promise| match promise {
            Promise::Progress(progress) => Some(*progress),
            _ => None,
        });
        found.unwrap_or(Progress::None)
    }

    /// Whether a transaction aborts only by its own logic, never because of the system.
    pub fn no_system_aborts(&self) -> bool {
        self.find(|promise| matches!(promise, Promise::NoSystemAborts).then_some(()))
            .is_some()
    }

    /// Those whose assumptions the plan keeps, and the others, each with how the plan breaks its assumption. `lies` are the
    /// clocks that left their bound in the run.
    pub fn in_force(&self, plan: &Plan, lies: &[Lie]) -> (Promises, Vec<(Promised, String)>) {
        let mut kept = Promises::nothing();
        let mut released = Vec::new();
        for promised in &self.0 {
            let broken = promised.assuming.and_then(|assumption| match assumption {
                Assumption::BoundedClocks => lies.first().map(|lie| {
                    let machine = &plan.environment.machines[usize::from(lie.node.0)];
                    format!("the clock of {} left it", machine.name)
                }),
                Assumption::Synchrony { .. } => assumption.broken_by(plan),
            });
            match broken {
                None => kept.0.push(*promised),
                Some(how) => released.push((*promised, how)),
            }
        }
        (kept, released)
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nothing() {
            return f.write_str("nothing");
        }
        let all: Vec<String> = self.0.iter().map(Promised::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{CrashLoss, OneWay, When};
    use crate::scenario::Scenario;

    const BOUND: Assumption = Assumption::Synchrony {
        within_ns: 2_000_000_000,
    };

    fn plan(kinds: &[(FaultKind, Option<u64>)]) -> Plan {
        let text = include_str!("../../scenarios/coordinator-dead.toml");
        let scenario = Scenario::read("dead", text, &["2pc", "3pc", "paxos-commit"], &[])
            .expect("it is shipped");
        let mut plan = Plan::draw(&scenario, 1);
        let fault = |(kind, for_ns): &(FaultKind, Option<u64>)| Fault {
            when: When::At(1),
            for_ns: *for_ns,
            permanent: false,
            kind: kind.clone(),
        };
        plan.faults = kinds.iter().map(fault).collect();
        plan
    }

    #[test]
    fn a_crash_is_no_breach_of_synchrony_and_every_late_answer_is() {
        let nodes = || vec![NodeId(0)];
        let others = || vec![NodeId(1)];
        let crash = FaultKind::Crash {
            nodes: nodes(),
            loss: CrashLoss::Lost,
        };
        assert_eq!(BOUND.broken_by(&plan(&[])), None);
        assert_eq!(BOUND.broken_by(&plan(&[(crash.clone(), None)])), None);
        let pause = || FaultKind::Pause { nodes: nodes() };
        let second = 1_000_000_000;
        assert_eq!(BOUND.broken_by(&plan(&[(pause(), Some(second))])), None);
        let cut = FaultKind::Cut {
            from: nodes(),
            to: others(),
            both_ways: false,
        };
        let degrade = |base_ns, loss_ppm| FaultKind::Degrade {
            from: nodes(),
            to: others(),
            loss_ppm,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            latency: Latency {
                base_ns,
                jitter_ns: 0,
            },
            bandwidth: 0,
            one_way: OneWay::NO,
        };
        assert_eq!(
            BOUND.broken_by(&plan(&[(degrade(second / 4, 0), None)])),
            None
        );
        let breaches = [
            (pause(), Some(second + 1)),
            (pause(), None),
            (cut, Some(1)),
            (degrade(0, 1), Some(1)),
            (degrade(second, 0), Some(1)),
            (
                FaultKind::Slow {
                    nodes: nodes(),
                    percent: 200,
                },
                None,
            ),
            (
                FaultKind::ClockStep {
                    nodes: nodes(),
                    by_ns: 1,
                },
                None,
            ),
        ];
        for breach in breaches {
            let how = BOUND.broken_by(&plan(&[(crash.clone(), None), breach.clone()]));
            assert!(how.is_some(), "{breach:?}");
        }
        // Clients that are cut off are no breach.
        let machines = plan(&[]).environment.machines;
        let ids = (0..).map(NodeId).zip(&machines);
        let (clients, servers): (Vec<_>, Vec<_>) = ids.partition(|(_, machine)| machine.client);
        let only = |machines: Vec<(NodeId, _)>| machines.into_iter().map(|(id, _)| id).collect();
        let (from, to): (Vec<NodeId>, Vec<NodeId>) = (only(clients), only(servers));
        let both_ways = true;
        let cut = FaultKind::Cut {
            from,
            to,
            both_ways,
        };
        assert_eq!(BOUND.broken_by(&plan(&[(cut, None)])), None);
    }

    #[test]
    fn links_that_are_slow_or_lose_messages_break_synchrony_without_a_fault() {
        let mut slow = plan(&[]);
        slow.environment.link_classes[0].latency.base_ns = 1_000_000_001;
        assert!(BOUND.broken_by(&slow).is_some());
        let mut lossy = plan(&[]);
        lossy.environment.link_classes[0].loss_ppm = 1;
        assert!(BOUND.broken_by(&lossy).is_some());
    }

    #[test]
    fn a_list_holds_one_promise_of_each_kind_and_none_of_nothing() {
        let strict = Promise::Isolation(Isolation::StrictSerializable);
        let promises = Promises::of([strict, Promise::Durability]);
        assert_eq!(promises.isolation(), Isolation::StrictSerializable);
        assert!(promises.durability() && !promises.no_system_aborts());
        let weaker = promises
            .clone()
            .and(Promise::Isolation(Isolation::ReadAtomic));
        assert_eq!(weaker.isolation(), Isolation::ReadAtomic);
        assert_eq!(weaker.iter().count(), 2);
        let none = promises.and(Promise::Isolation(Isolation::None));
        assert_eq!(none.isolation(), Isolation::None);
        assert_eq!(none.to_string(), "acknowledged effects survive");
        assert_eq!(Promises::nothing().to_string(), "nothing");
    }

    #[test]
    fn a_broken_assumption_releases_its_promises_alone() {
        let promises = Promises::of([Promise::Atomicity(Atomicity::AllOrNothing)])
            .assuming(BOUND)
            .and(Promise::Durability);
        let (kept, released) = promises.in_force(&plan(&[]), &[]);
        assert_eq!((kept, released.len()), (promises.clone(), 0));
        let pause = FaultKind::Pause {
            nodes: vec![NodeId(0)],
        };
        let (kept, released) = promises.in_force(&plan(&[(pause, None)]), &[]);
        assert_eq!(kept, Promises::of([Promise::Durability]));
        let [(promised, how)] = &released[..] else {
            panic!("{released:?}");
        };
        assert_eq!(
            promised.to_string(),
            "all effects or none while whoever is up answers within 2000 ms"
        );
        assert!(how.ends_with(" paused"), "{how}");
    }

    #[test]
    fn a_clock_that_left_its_bound_releases_what_hangs_on_bounded_clocks_and_nothing_else() {
        let promises = Promises::of([Promise::Isolation(Isolation::StrictSerializable)])
            .assuming(Assumption::BoundedClocks)
            .and(Promise::Durability);
        let plan = plan(&[]);
        let (kept, released) = promises.in_force(&plan, &[]);
        assert_eq!((kept, released.len()), (promises.clone(), 0));
        let lie = Lie {
            node: NodeId(0),
            at_ns: 5,
            most_ns: 7,
        };
        let (kept, released) = promises.in_force(&plan, &[lie]);
        assert_eq!(kept, Promises::of([Promise::Durability]));
        let name = &plan.environment.machines[0].name;
        assert_eq!(released[0].1, format!("the clock of {name} left it"));
    }
}
