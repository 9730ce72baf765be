//! The autopsy waits: state is judged only where recovery has ended, by the word of every process.
//!
//! A participant in doubt does not know what became of a transaction. Nor does a copy that lags behind its log, or an
//! orchestrator with a saga under way. So the run goes on until no process says such a thing any more. The bound is
//! [`Environment::recovery_bound_ns`]. What is left then makes the properties concerned unknown: neither kept nor broken.
//!
//! Before that everything that was broken is repaired. Every machine may be up, and recovery may still not end. That breaks
//! the promise of progress: the property `recovery`, which is shown only then.
//!
//! [`Environment::recovery_bound_ns`]: crate::plan::Environment::recovery_bound_ns

use std::collections::{BTreeMap, BTreeSet};

use super::{Evidence, Finding, Property, property};
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::Observed;
use crate::base::process::{Addr, NodeId};
use crate::base::txn::{ShardId, Txn, TxnId};
use crate::plan::Environment;
use crate::protocol::{Autopsy, Progress};
use crate::scenario::layout::Layout;
use crate::shard::recovery::{Recovery, Unfinished};

/// Most transactions that a reason names.
const NAMED: usize = 3;
/// Whoever has had less than this may recover yet: a minute, in nanoseconds.
const SLOW_RECOVERY_NS: u64 = 60_000_000_000;

/// What had not recovered when the autopsy looked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unrecovered {
    /// Nothing can be told of any transaction.
    pub all: bool,
    /// Nothing can be told of transactions at these shards: none of their copies has recovered.
    pub shards: BTreeSet<ShardId>,
    /// Nothing can be told of these transactions.
    pub txns: BTreeSet<TxnId>,
    /// Which machine, and what it waits for, in words.
    pub reasons: Vec<String>,
    /// Every machine is up, nothing is broken any more, and the bound is reached: this will not end.
    pub stuck: bool,
}

impl Unrecovered {
    /// Whether recovery has ended everywhere.
    pub fn is_empty(&self) -> bool {
        *self == Unrecovered::default()
    }

    /// Whether effects of the transaction may still come or go.
    pub fn concerns(&self, txn: &Txn, layout: &Layout) -> bool {
        let is_at_one = || {
            let mut keys = txn.every_key().into_iter();
            keys.any(|key| self.shards.contains(&layout.shard_of(key)))
        };
        self.all || self.txns.contains(&txn.id) || (!self.shards.is_empty() && is_at_one())
    }

    /// The first reasons, and how many more there are.
    pub fn describe(&self) -> String {
        let first = self.reasons.iter().take(NAMED).cloned();
        let more = self.reasons.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("{more} more"));
        let reasons: Vec<String> = first.chain(more).collect();
        format!("recovery had not ended: {}", reasons.join("; "))
    }
}

/// A system that stays unrecovered although every machine is up, and although it answered clients before. One that has had
/// little time, or that never did anything, may only be slow.
pub(super) fn never_ended(evidence: &Evidence<'_>, judged: &[Property]) -> Option<Property> {
    let is_alive = judged.iter().any(|property| {
        let held = property.outcome == Finding::Held && property.exercised > 0;
        property.name == "progress" && held
    });
    let bound_ns = evidence.plan.environment.recovery_bound_ns();
    if !evidence.unrecovered.stuck || !is_alive || bound_ns < SLOW_RECOVERY_NS {
        return None;
    }
    let promises = evidence.promises.progress() != Progress::None;
    let property = property(
        "recovery",
        promises.then_some("every process recovers once all machines are back"),
        Finding::Broken,
        "it never ended",
        1,
        Some(evidence.unrecovered.describe()),
    );
    Some(property.shaped("never-ended"))
}

/// A process of a machine that is no client's.
#[derive(Clone, Debug)]
struct Server {
    of: Addr,
    /// The copies that it keeps.
    shards: Vec<ShardId>,
}

/// Asks every process, whenever a run is about to end.
#[derive(Debug)]
pub struct Recovering {
    servers: Vec<Server>,
    names: Vec<String>,
    /// While they are being asked.
    heard: BTreeMap<Addr, Recovery>,
    /// When they were asked last.
    answers: BTreeMap<Addr, Recovery>,
    asked: bool,
}

impl Recovering {
    /// For a deployment, before it runs.
    pub fn new<P: Autopsy>(environment: &Environment, processes: &[Vec<P>]) -> Recovering {
        let machines = processes.iter().zip(&environment.machines).enumerate();
        let servers = machines.filter(|(_, (_, machine))| !machine.client);
        let servers = servers.flat_map(|(node, (processes, _))| {
            let node = NodeId(node as u16);
            let server = move |(port, process): (usize, &P)| Server {
                of: Addr {
                    node,
                    port: port as u8,
                },
                shards: { process.copies().into_iter() }
                    .map(|state| state.shard)
                    .collect(),
            };
            processes.iter().enumerate().map(server)
        });
        Recovering {
            servers: servers.collect(),
            names: { environment.machines.iter() }
                .map(|machine| machine.name.clone())
                .collect(),
            heard: BTreeMap::new(),
            answers: BTreeMap::new(),
            asked: false,
        }
    }

    /// Whether the process was up, had read its disk, and was asked. Where nobody was, because the run was cut off, everybody counts.
    pub fn has_answered(&self, of: Addr) -> bool {
        !self.asked || self.answers.contains_key(&of)
    }

    /// What had not recovered when everybody was asked last.
    pub fn unrecovered(&self) -> Unrecovered {
        let mut found = Unrecovered::default();
        if !self.asked {
            found.all = true;
            found.reasons.push("the run was cut off".to_owned());
            return found;
        }
        let committed = self.answers.values().map(|answer| answer.committed_to);
        let committed_to = committed.max().unwrap_or(0);
        let mut recovered: BTreeSet<ShardId> = BTreeSet::new();
        for Server { of, shards } in &self.servers {
            let name = &self.names[usize::from(of.node.0)];
            let answer = self.answers.get(of);
            let lacks = match answer {
                None => Some(format!("{name} is down")),
                Some(Recovery {
                    unfinished: Some(Unfinished::All(what)),
                    ..
                }) => Some(format!("{name} waits {what}")),
                Some(Recovery {
                    applied_to: Some(applied_to),
                    ..
                }) if *applied_to < committed_to => Some(format!(
                    "{name} has applied {applied_to} of {committed_to} entries of the log"
                )),
                Some(_) => None,
            };
            if lacks.is_none() {
                recovered.extend(shards);
            } else if shards.is_empty() {
                found.all = true;
            }
            found.reasons.extend(lacks);
            let unfinished = answer.and_then(|answer| answer.unfinished.as_ref());
            if let Some(Unfinished::Of(txns, what)) = unfinished {
                found.txns.extend(txns);
                let named: Vec<String> = txns.iter().take(NAMED).map(TxnId::to_string).collect();
                let more = match txns.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let named = named.join(", ");
                found
                    .reasons
                    .push(format!("{name} waits {what} {named}{more}"));
            }
        }
        let shards = self.servers.iter().flat_map(|server| &server.shards);
        found.shards = { shards.copied() }
            .filter(|shard| !recovered.contains(shard))
            .collect();
        let mut servers = self.servers.iter();
        found.stuck = !found.reasons.is_empty()
            && servers.all(|server| self.answers.contains_key(&server.of));
        found
    }
}

impl<P: Autopsy> Monitor<P> for Recovering {
    fn observe(&mut self, _: &Observed) -> Result<(), Violation> {
        Ok(())
    }

    fn look(&mut self, of: Addr, process: &P) {
        self.heard.insert(of, process.recovery());
    }

    fn may_end(&mut self) -> bool {
        self.asked = true;
        self.answers = std::mem::take(&mut self.heard);
        self.unrecovered().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(node: u16) -> Addr {
        Addr {
            node: NodeId(node),
            port: 0,
        }
    }

    /// A front, and three copies of two shards: two of the first.
    fn asked(answers: &[(u16, Recovery)]) -> Unrecovered {
        let shards = [None, Some(0), Some(0), Some(1)];
        let server = |(node, shard): (usize, &Option<u16>)| Server {
            of: addr(node as u16),
            shards: shard.map(ShardId).into_iter().collect(),
        };
        let recovering = Recovering {
            servers: shards.iter().enumerate().map(server).collect(),
            names: ["front", "a", "b", "c"].map(str::to_owned).to_vec(),
            heard: BTreeMap::new(),
            answers: { answers.iter() }
                .map(|(node, answer)| (addr(*node), answer.clone()))
                .collect(),
            asked: true,
        };
        recovering.unrecovered()
    }

    fn copy(applied_to: u64) -> Recovery {
        Recovery {
            applied_to: Some(applied_to),
            ..Recovery::ended()
        }
    }

    fn front(committed_to: u64) -> Recovery {
        Recovery {
            committed_to,
            ..Recovery::ended()
        }
    }

    #[test]
    fn a_shard_has_recovered_once_a_copy_has_applied_what_somebody_knows_to_be_committed() {
        let all = [(0, front(7)), (1, copy(7)), (2, copy(8)), (3, copy(7))];
        assert!(asked(&all).is_empty());
        let one_lags = asked(&[(0, front(7)), (1, copy(6)), (2, copy(7)), (3, copy(7))]);
        assert!(!one_lags.is_empty(), "the run goes on");
        assert_eq!(
            (one_lags.all, one_lags.shards.len()),
            (false, 0),
            "and state can be judged"
        );
        assert_eq!(
            one_lags.reasons,
            ["a has applied 6 of 7 entries of the log"]
        );
        let none = asked(&[(0, front(7)), (1, copy(6)), (2, copy(0)), (3, copy(7))]);
        assert_eq!(none.shards, [ShardId(0)].into());
    }

    #[test]
    fn who_is_down_has_not_recovered_and_without_a_leader_nobody_has() {
        let down = asked(&[(0, front(0)), (1, copy(0)), (2, copy(0))]);
        assert_eq!(down.shards, [ShardId(1)].into());
        assert_eq!(down.describe(), "recovery had not ended: c is down");
        let copies = [(1, copy(0)), (2, copy(0)), (3, copy(0))];
        let headless = [&[(0, Recovery::waits("for a leader"))], &copies[..]].concat();
        assert!(asked(&headless).all);
        assert!(asked(&copies).all, "a front that is down may know of more");
    }

    #[test]
    fn transactions_in_doubt_are_named_up_to_three() {
        let txns: BTreeSet<TxnId> = (1..=5).map(TxnId).collect();
        let doubt = Recovery::waits_on(txns.clone(), "for the decision on");
        let found = asked(&[(0, front(0)), (1, doubt), (2, copy(0)), (3, copy(0))]);
        assert_eq!(
            (found.all, &found.txns, found.shards.len()),
            (false, &txns, 0)
        );
        let why = "recovery had not ended: a waits for the decision on T1, T2, T3 and 2 more";
        assert_eq!(found.describe(), why);
        assert_eq!(
            Recovery::waits_on(BTreeSet::new(), "for"),
            Recovery::ended()
        );
    }
}
