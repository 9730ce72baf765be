//! The life of every transaction, read from the observations: when it was invoked, taken charge of,
//! decided, ended and returned, and what time it cost.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::horizon::Horizon;
use super::obligations::Obligations;
use super::time_to_recover::{self, Recovery, Struck};
use super::{Counts, Evidence};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::txn::{ShardId, TxnId};
use crate::plan::Start;

/// One transaction's life. Times are nanoseconds of true simulated time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Life {
    /// A client first sent it, from this session.
    pub invoked: Option<(u64, u32)>,
    /// The client meant to send it. Under an open loop that is the planned start, which a busy client may miss: what
    /// it waits on its own machine is latency, too (coordinated omission).
    pub asked_ns: Option<u64>,
    /// The client learned how it ended, or gave up.
    pub returned: Option<(u64, Outcome)>,
    /// The protocol took charge of it.
    pub initiated_ns: Option<u64>,
    /// The decision became irrevocable.
    pub decided: Option<(u64, bool)>,
    /// The protocol owes it nothing more.
    pub ended: Option<(u64, bool)>,
    /// Shards that voted yes and have not learned the decision.
    pub in_doubt: BTreeSet<ShardId>,
}

impl Life {
    /// The outcome that the client learned, if it learned one.
    pub fn known(&self) -> Option<&Outcome> {
        self.returned
            .as_ref()
            .map(|(_, outcome)| outcome)
            .filter(|o| **o != Outcome::Unknown)
    }
}

/// All lives.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    /// By transaction.
    pub by_txn: BTreeMap<TxnId, Life>,
    /// Transactions that a shard in doubt decided alone.
    pub decided_alone: BTreeSet<TxnId>,
    /// What the protocol owes.
    pub obligations: Obligations,
    /// When each transaction was first in doubt at a shard, and for how long in all, nanoseconds.
    doubt_ns: u128,
    /// What prepared branches kept back.
    horizon: Horizon,
    /// Largest number of transactions taken charge of and not ended.
    open_max: u64,
    /// Longest time without an answer to any client while one waited, nanoseconds.
    outage_max_ns: u64,
    /// Row-time between an effect and its compensation, nanoseconds.
    in_vain_ns: u128,
    /// First and last invocation, nanoseconds.
    invoked_ns: Option<(u64, u64)>,
}

/// What a run cost its transactions.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Metrics {
    /// Median time from the planned start to the reply of committed transactions, milliseconds.
    pub latency_p50_ms: f64,
    /// 99th percentile of the same, milliseconds.
    pub latency_p99_ms: f64,
    /// Transaction-seconds, beyond the scenario's patience, between the protocol's taking charge and the end.
    pub blocked_txn_s: f64,
    /// Transaction-seconds, beyond the scenario's patience, between a client's request and its answer.
    pub unanswered_txn_s: f64,
    /// Transaction-seconds that shards were in doubt.
    pub in_doubt_txn_s: f64,
    /// Longest time that a branch was prepared at a shard, seconds.
    pub prepared_age_max_s: f64,
    /// Most versions that the oldest prepared branch of a shard kept from being cleaned up. See [`horizon`](super::horizon).
    pub versions_kept_max: u64,
    /// Longest outage that clients saw, seconds: from an answer to the next one, or from the first request after it if
    /// nobody waited for longer.
    pub outage_max_s: f64,
    /// From the first request to the last answer, seconds.
    pub busy_s: f64,
    /// Largest number of transactions taken charge of and not ended at one moment.
    pub open_max: u64,
    /// Time-average, over the span in which clients invoked, of effects that stood and were compensated
    /// later: rows of sagas that were to fail, held in vain in the meantime.
    pub held_in_vain_mean: f64,
    /// How clients were served after the last fault, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

/// Transactions that the system aborted for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Aborted {
    /// How many.
    pub count: u64,
    /// How many of these while a fault was in force.
    pub under_faults: u64,
}

/// What the system aborted, by the name of the reason.
pub type Aborts = BTreeMap<&'static str, Aborted>;

/// Follows how long clients went without any answer. Giving up is no answer.
#[derive(Clone, Debug, Default)]
struct Outage {
    waiting: BTreeSet<TxnId>,
    /// Since when, nanoseconds: the last answer, or the first request after it.
    since_ns: Option<u64>,
    /// When the last client gave up.
    given_up_ns: u64,
    longest_ns: u64,
}

impl Outage {
    fn observe(&mut self, at_ns: u64, what: &Observation) {
        match what {
            Observation::Invoked { txn, .. } => {
                self.waiting.insert(*txn);
                self.since_ns.get_or_insert(at_ns);
            }
            Observation::Returned { txn, outcome, .. } => {
                self.waiting.remove(txn);
                if *outcome == Outcome::Unknown {
                    self.given_up_ns = at_ns;
                } else {
                    let since_ns = self.since_ns.take().unwrap_or(at_ns);
                    self.longest_ns = self.longest_ns.max(at_ns - since_ns);
                    self.since_ns = (!self.waiting.is_empty()).then_some(at_ns);
                }
            }
            _ => {}
        }
    }

    /// The longest, one that lasts to the end included; once all have given up, nobody sees more of it.
    fn until(&self, end_ns: u64) -> u64 {
        let end_ns = if self.waiting.is_empty() {
            self.given_up_ns
        } else {
            end_ns
        };
        let last_ns = self
            .since_ns
            .map_or(0, |since_ns| end_ns.saturating_sub(since_ns));
        self.longest_ns.max(last_ns)
    }
}

impl Lives {
    /// Reads them from the observations, which are in order of time, as far as the end of the settle phase.
    pub fn read(evidence: &Evidence<'_>) -> Lives {
        let mut lives = Lives::default();
        let mut doubts: BTreeMap<(TxnId, ShardId), u64> = BTreeMap::new();
        let mut applied: BTreeMap<(TxnId, ShardId), Vec<u64>> = BTreeMap::new();
        let mut open: BTreeSet<TxnId> = BTreeSet::new();
        let mut outage = Outage::default();
        for observed in evidence.observations {
            let at_ns = observed.at_ns;
            if at_ns > evidence.end_ns {
                // What the autopsy waited for is nobody's progress.
                if let Observation::DecidedAlone { txn, .. } = observed.what {
                    lives.decided_alone.insert(txn);
                }
                continue;
            }
            lives.obligations.observe(&observed.what);
            outage.observe(at_ns, &observed.what);
            lives.horizon.observe(at_ns, &observed.what);
            match &observed.what {
                Observation::Applied { txn, shard, .. } => {
                    applied.entry((*txn, *shard)).or_default().push(at_ns);
                }
                Observation::Compensated { txn, shard, .. } => {
                    // Steps are compensated in reverse order of application.
                    let since = applied.get_mut(&(*txn, *shard)).and_then(Vec::pop);
                    lives.in_vain_ns += since.map_or(0, |since| u128::from(at_ns - since));
                }
                Observation::Invoked { .. } => {
                    let first = lives.invoked_ns.map_or(at_ns, |(first, _)| first);
                    lives.invoked_ns = Some((first, at_ns));
                }
                _ => {}
            }
            let Some(txn) = txn_of(&observed.what) else {
                continue;
            };
            let life = lives.by_txn.entry(txn).or_default();
            match &observed.what {
                Observation::Invoked { session, .. } => {
                    life.invoked.get_or_insert((at_ns, *session));
                }
                Observation::Returned { outcome, .. } => {
                    life.returned.get_or_insert((at_ns, outcome.clone()));
                }
                Observation::Initiated { .. } if life.initiated_ns.is_none() => {
                    life.initiated_ns = Some(at_ns);
                    if life.ended.is_none() {
                        open.insert(txn);
                    }
                    lives.open_max = lives.open_max.max(open.len() as u64);
                }
                Observation::Decided { commit, .. } => {
                    life.decided.get_or_insert((at_ns, *commit));
                }
                Observation::Ended { commit, .. } if life.ended.is_none() => {
                    life.ended = Some((at_ns, *commit));
                    open.remove(&txn);
                }
                Observation::Voted {
                    shard, yes: true, ..
                } => {
                    life.in_doubt.insert(*shard);
                    doubts.entry((txn, *shard)).or_insert(at_ns);
                }
                Observation::Resolved { shard, .. } | Observation::DecidedAlone { shard, .. } => {
                    if matches!(observed.what, Observation::DecidedAlone { .. }) {
                        lives.decided_alone.insert(txn);
                    }
                    life.in_doubt.remove(shard);
                    if let Some(since_ns) = doubts.remove(&(txn, *shard)) {
                        lives.doubt_ns += u128::from(at_ns - since_ns);
                    }
                }
                _ => {}
            }
        }
        let until_end = |since_ns: u64| evidence.end_ns.saturating_sub(since_ns);
        lives.doubt_ns += doubts
            .values()
            .map(|since| u128::from(until_end(*since)))
            .sum::<u128>();
        lives.outage_max_ns = outage.until(evidence.end_ns);
        for operation in &evidence.plan.operations {
            // Whoever tries again under another id has been asking since the first attempt.
            let first_ns = match operation.start {
                Start::Retry { of, .. } => lives.by_txn.get(&of).and_then(|life| life.asked_ns),
                _ => None,
            };
            let Some(life) = lives.by_txn.get_mut(&operation.txn.id) else {
                continue;
            };
            let Some((invoked_ns, _)) = life.invoked else {
                continue;
            };
            life.asked_ns = Some(match operation.start {
                Start::At(planned_ns) => planned_ns.min(invoked_ns),
                Start::Think(_) => invoked_ns,
                Start::Retry { .. } => first_ns.unwrap_or(invoked_ns),
            });
        }
        lives
    }

    /// How many transactions the protocol took charge of.
    pub fn initiated(&self) -> u64 {
        self.count(|life| life.initiated_ns.is_some())
    }

    /// How many transactions committed, by what clients learned or by the protocol's own word.
    pub fn committed(&self) -> u64 {
        self.count(|life| {
            let told = matches!(life.known(), Some(Outcome::Committed { .. }));
            let ends = [life.decided, life.ended];
            told || ends.iter().flatten().any(|(_, commit)| *commit)
        })
    }

    /// How many transactions clients learned the end of.
    pub fn returned(&self) -> u64 {
        self.count(|life| life.known().is_some())
    }

    /// How many requests were turned away before they reached the protocol.
    pub fn shed(&self) -> u64 {
        let why = AbortReason::Shed;
        self.count(|life| life.known() == Some(&Outcome::Aborted { why }))
    }

    /// The least reason, in the order of the declaration, for which the system aborted a transaction.
    pub fn first_abort(&self) -> Option<AbortReason> {
        let reason = |life: &Life| match life.known() {
            Some(Outcome::Aborted { why }) if *why != AbortReason::Shed => Some(*why),
            _ => None,
        };
        self.by_txn.values().filter_map(reason).min()
    }

    /// A transaction's life in one sentence.
    pub fn describe(&self, txn: TxnId) -> String {
        let life = &self.by_txn[&txn];
        let at = |ns: Option<u64>| match ns {
            Some(ns) => format!("at {:.3} s", ns as f64 / 1e9),
            None => "never".to_owned(),
        };
        let doubt = match life.in_doubt.len() {
            0 => String::new(),
            _ => {
                let shards: Vec<String> = life.in_doubt.iter().map(ShardId::to_string).collect();
                format!(", in doubt at {}", shards.join(", "))
            }
        };
        format!(
            "{txn}: invoked {}, taken charge of {}, decided {}, ended {}{doubt}",
            at(life.invoked.map(|(ns, _)| ns)),
            at(life.initiated_ns),
            at(life.decided.map(|(ns, _)| ns)),
            at(life.ended.map(|(ns, _)| ns)),
        )
    }

    /// As [`describe`](Self::describe), for a transaction that may never have been invoked.
    pub fn describe_if_known(&self, txn: TxnId) -> String {
        match self.by_txn.contains_key(&txn) {
            true => self.describe(txn),
            false => "no client sent it".to_owned(),
        }
    }

    /// The counts of a verdict.
    pub fn counts(&self, evidence: &Evidence<'_>) -> Counts {
        let outcome =
            |wanted: fn(&Outcome) -> bool| self.count(|life| life.known().is_some_and(wanted));
        let patience_ns = evidence.scenario.patience_ns;
        Counts {
            invoked: self.count(|life| life.invoked.is_some()),
            initiated: self.initiated(),
            committed: outcome(|o| matches!(o, Outcome::Committed { .. })),
            declined: outcome(|o| matches!(o, Outcome::Declined { .. })),
            aborted: outcome(|o| matches!(o, Outcome::Aborted { .. })),
            indeterminate: self.count(|life| life.invoked.is_some() && life.known().is_none()),
            blocked: self.count(|life| in_charge_ns(life, evidence.end_ns) > patience_ns),
        }
    }

    /// What the system aborted, by reason.
    pub fn aborts(&self, evidence: &Evidence<'_>) -> Aborts {
        let in_force = |at_ns: u64| {
            let strikes = |fault: &Struck| {
                let until_ns = fault.ended_ns.unwrap_or(u64::MAX);
                (fault.began_ns..=until_ns).contains(&at_ns)
            };
            evidence.struck.iter().any(strikes)
        };
        let mut aborts = Aborts::new();
        for life in self.by_txn.values() {
            if let Some((at_ns, Outcome::Aborted { why })) = &life.returned {
                let aborted = aborts.entry(why.name()).or_default();
                aborted.count += 1;
                aborted.under_faults += u64::from(in_force(*at_ns));
            }
        }
        aborts
    }

    /// From the first request to the last answer.
    fn busy_ns(&self) -> u64 {
        let answered = |life: &Life| {
            let (at_ns, outcome) = life.returned.as_ref()?;
            (*outcome != Outcome::Unknown).then_some(*at_ns)
        };
        let last_ns = self.by_txn.values().filter_map(answered).max();
        let first_ns = self.invoked_ns.map(|(first_ns, _)| first_ns);
        last_ns
            .zip(first_ns)
            .map_or(0, |(last, first)| last - first)
    }

    /// The measurements of a verdict.
    pub fn metrics(&self, evidence: &Evidence<'_>) -> Metrics {
        let mut latencies: Vec<u64> = self.by_txn.values().filter_map(latency_ns).collect();
        latencies.sort_unstable();
        let percentile_ms = |percent: usize| match latencies.len() {
            0 => 0.0,
            n => latencies[(n * percent).div_ceil(100).max(1) - 1] as f64 / 1e6,
        };
        let beyond = |time_ns: fn(&Life, u64) -> u64| {
            let excess =
                |life| time_ns(life, evidence.end_ns).saturating_sub(evidence.scenario.patience_ns);
            self.by_txn
                .values()
                .map(|life| u128::from(excess(life)))
                .sum::<u128>() as f64
                / 1e9
        };
        Metrics {
            latency_p50_ms: percentile_ms(50),
            latency_p99_ms: percentile_ms(99),
            blocked_txn_s: beyond(in_charge_ns),
            unanswered_txn_s: beyond(unanswered_ns),
            in_doubt_txn_s: self.doubt_ns as f64 / 1e9,
            prepared_age_max_s: self.horizon.age_max_ns(evidence.end_ns) as f64 / 1e9,
            versions_kept_max: self.horizon.versions_max(),
            outage_max_s: self.outage_max_ns as f64 / 1e9,
            busy_s: self.busy_ns() as f64 / 1e9,
            open_max: self.open_max,
            held_in_vain_mean: match self.invoked_ns {
                Some((first, last)) if last > first => {
                    self.in_vain_ns as f64 / (last - first) as f64
                }
                _ => 0.0,
            },
            recovery: time_to_recover::measure(evidence, self),
        }
    }

    fn count(&self, holds: impl Fn(&Life) -> bool) -> u64 {
        self.by_txn.values().filter(|life| holds(life)).count() as u64
    }
}

/// From the planned start to the reply, for committed transactions.
fn latency_ns(life: &Life) -> Option<u64> {
    match (life.asked_ns, &life.returned) {
        (Some(from_ns), Some((to_ns, Outcome::Committed { .. }))) => Some(to_ns - from_ns),
        _ => None,
    }
}

/// How long the protocol was in charge.
fn in_charge_ns(life: &Life, end_ns: u64) -> u64 {
    let from_ns = life.initiated_ns.unwrap_or(end_ns);
    life.ended
        .map_or(end_ns, |(at_ns, _)| at_ns)
        .saturating_sub(from_ns)
}

/// How long the client was without an answer.
fn unanswered_ns(life: &Life, end_ns: u64) -> u64 {
    let answered = life
        .known()
        .and(life.returned.as_ref())
        .map_or(end_ns, |(at_ns, _)| *at_ns);
    life.asked_ns
        .map_or(0, |from_ns| answered.saturating_sub(from_ns))
}

fn txn_of(observation: &Observation) -> Option<TxnId> {
    match observation {
        Observation::Invoked { txn, .. }
        | Observation::Returned { txn, .. }
        | Observation::Initiated { txn }
        | Observation::Voted { txn, .. }
        | Observation::Decided { txn, .. }
        | Observation::Resolved { txn, .. }
        | Observation::DecidedAlone { txn, .. }
        | Observation::Ended { txn, .. } => Some(*txn),
        _ => None,
    }
}
