//! Sagas, judged as the one transaction that they do not promise to be.
//!
//! The observations say when each step and each compensation took effect at its shard, so each becomes a
//! transaction of a history of its own. In it [`workload::sagas`] names what others saw of unfinished sagas: a
//! version that was compensated later (G1a), one that was not the saga's last (G1b), and what was built on the
//! former (dirty update). (Garcia-Molina and Salem, *Sagas*, SIGMOD 1987.)
//!
//! The history itself is not judged step by step: a step whose observation died in a crash is missing from it, and the
//! reads of a dependent saga's choice were made at another time than its steps. What is missing makes a
//! measurement too small, and would make a judgement wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{key_number, version_number};
use super::ledger::Ledger;
use super::lives::Lives;
use super::{Evidence, Finding, Property, property};
use crate::check::workload::{self, Saga};
use crate::check::{self, Anomaly, History, HistoryBuilder, Status};
use crate::record::{Observation, Outcome};
use crate::scenario::layout::ShardId;
use crate::txn::{Key, Read, TxnId, WriteId};

/// Something that took effect at a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Effect {
    from_ns: u64,
    at_ns: u64,
    keys: Vec<Key>,
    undo: bool,
}

/// A saga's steps on one shard that stand, newest last: when each took effect, and on which rows.
type StandingSteps = Vec<(u64, Vec<Key>)>;

/// The steps and compensations of each saga, in the order in which they took effect.
fn effects(evidence: &Evidence<'_>) -> BTreeMap<TxnId, Vec<Effect>> {
    let mut effects: BTreeMap<TxnId, Vec<Effect>> = BTreeMap::new();
    let mut standing: BTreeMap<(TxnId, ShardId), StandingSteps> = BTreeMap::new();
    let mut invoked: BTreeMap<TxnId, u64> = BTreeMap::new();
    for observed in evidence.observations {
        let at_ns = observed.at_ns;
        match &observed.what {
            Observation::Invoked { txn, .. } => {
                invoked.entry(*txn).or_insert(at_ns);
            }
            Observation::Applied {
                txn, shard, keys, ..
            } => {
                let saga = effects.entry(*txn).or_default();
                if saga.iter().any(|known| !known.undo && known.keys == *keys) {
                    continue; // Stated again by a shard that restarted.
                }
                let before = saga.last().map(|effect| effect.at_ns);
                let from_ns = before.or(invoked.get(txn).copied()).unwrap_or(0);
                saga.push(Effect {
                    from_ns,
                    at_ns,
                    keys: keys.clone(),
                    undo: false,
                });
                let steps = standing.entry((*txn, *shard)).or_default();
                steps.push((at_ns, keys.clone()));
            }
            Observation::Compensated { txn, shard, .. } => {
                // Steps are compensated in reverse order of application.
                let step = standing.get_mut(&(*txn, *shard)).and_then(Vec::pop);
                if let Some((from_ns, keys)) = step {
                    effects.entry(*txn).or_default().push(Effect {
                        from_ns,
                        at_ns,
                        keys,
                        undo: true,
                    });
                }
            }
            _ => {}
        }
    }
    effects
}

/// Every step, compensation and read as a transaction, and which of them are one saga.
struct Steps {
    history: History,
    sagas: Vec<Saga>,
    /// By position in the history.
    names: Vec<String>,
    /// Reads of something written.
    reads: u64,
}

struct Writer<'a> {
    builder: HistoryBuilder,
    names: Vec<String>,
    reads: u64,
    evidence: &'a Evidence<'a>,
}

impl Writer<'_> {
    /// Adds a transaction that nothing but real time orders.
    fn add(
        &mut self,
        name: String,
        (from_ns, to_ns): (u64, u64),
        reads: &[&Read],
        writes: &[(Key, WriteId)],
    ) -> check::TxnId {
        let process = self.names.len() as u64;
        let id = self.builder.begin(process, from_ns);
        for read in reads {
            let version = read.row.writer;
            let value = (version != WriteId::default()).then(|| version_number(version));
            self.reads += u64::from(value.is_some());
            self.builder.read(key_number(read.key), value);
        }
        for (key, write) in writes {
            self.builder.write(key_number(*key), version_number(*write));
        }
        self.builder.end(Status::Ok, Some(to_ns));
        self.names.push(name);
        id
    }

    /// Adds the reads that no step's own rows account for. Those at a shard without a step are one request; of
    /// others it is not known which were, so each stands alone, which can only say less.
    fn add_reads(
        &mut self,
        txn: TxnId,
        span: (u64, u64),
        reads: &[&Read],
        shards: &BTreeSet<ShardId>,
    ) {
        let layout = &self.evidence.scenario.layout;
        let mut requests: BTreeMap<ShardId, Vec<&Read>> = BTreeMap::new();
        for read in reads {
            let shard = layout.shard_of(read.key);
            match shards.contains(&shard) {
                true => {
                    self.add(format!("{txn}'s read of {}", read.key), span, &[read], &[]);
                }
                false => requests.entry(shard).or_default().push(read),
            }
        }
        for (shard, reads) in requests {
            self.add(format!("{txn}'s read at {shard}"), span, &reads, &[]);
        }
    }
}

fn steps(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Steps {
    let effects = effects(evidence);
    let mut writer = Writer {
        builder: HistoryBuilder::new(),
        names: Vec::new(),
        reads: 0,
        evidence,
    };
    let mut sagas = Vec::new();
    let layout = &evidence.scenario.layout;
    for (txn, life) in &lives.by_txn {
        let mut saga = Saga::default();
        let reads: &[Read] = match life.known() {
            Some(Outcome::Committed { reads }) => reads,
            _ => &[],
        };
        let effects = effects.get(txn).map_or(&[][..], Vec::as_slice);
        let mut rest: Vec<&Read> = reads.iter().collect();
        for (at, effect) in effects.iter().enumerate() {
            let write = WriteId {
                txn: *txn,
                undo: effect.undo,
            };
            let own = |read: &&Read| !effect.undo && effect.keys.contains(&read.key);
            let rows: Vec<&Read> = rest.iter().copied().filter(own).collect();
            rest.retain(|read| !own(read));
            let writes: Vec<(Key, WriteId)> = effect.keys.iter().map(|key| (*key, write)).collect();
            let what = if effect.undo { "compensation" } else { "step" };
            let name = format!("{what} {at} of {txn}");
            let id = writer.add(name, (effect.from_ns, effect.at_ns), &rows, &writes);
            match effect.undo {
                true => saga.compensations.push(id),
                false => saga.steps.push(id),
            }
        }
        if let (Some((from_ns, _)), Some((to_ns, _))) = (life.invoked, &life.returned) {
            let keys = effects.iter().flat_map(|effect| &effect.keys);
            let shards: BTreeSet<ShardId> = keys.map(|key| layout.shard_of(*key)).collect();
            writer.add_reads(*txn, (from_ns, *to_ns), &rest, &shards);
        }
        if !saga.steps.is_empty() {
            sagas.push(saga);
        }
    }
    for (key, order) in &ledger.orders {
        let versions: Vec<u64> = order.iter().map(|write| version_number(*write)).collect();
        writer.builder.version_order(key_number(*key), &versions);
    }
    Steps {
        history: writer.builder.finish(),
        sagas,
        names: writer.names,
        reads: writer.reads,
    }
}

impl Steps {
    fn explain(&self, anomaly: &Anomaly) -> String {
        let names: Vec<String> = anomaly
            .transactions
            .iter()
            .map(|id| format!("transaction {id} is {}", self.names[*id as usize]))
            .collect();
        format!("{} ({})", anomaly.explanation, names.join("; "))
    }
}

/// What others saw of unfinished sagas: a measurement.
pub(super) fn property_of(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Property {
    let steps = steps(evidence, lives, ledger);
    let found = workload::sagas(&steps.history, &steps.sagas);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for anomaly in &found {
        *counts.entry(anomaly.kind.name()).or_default() += 1;
    }
    let observed = match counts.is_empty() {
        true => "no step was seen that is not its saga's last word".to_owned(),
        false => {
            let counts: Vec<String> = counts
                .iter()
                .map(|(kind, n)| format!("{n} {kind}"))
                .collect();
            counts.join(", ")
        }
    };
    let outcome = match counts.is_empty() {
        true => Finding::Held,
        false => Finding::Broken,
    };
    let shape = found.first().map_or("", |anomaly| anomaly.kind.name());
    property(
        "saga-isolation",
        None,
        outcome,
        observed,
        steps.reads,
        found.first().map(|first| steps.explain(first)),
    )
    .shaped(shape)
}
