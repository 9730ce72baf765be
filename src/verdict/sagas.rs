//! Sagas, judged twice: each step as a transaction, which it promises to be, and the saga as one, which it does not.
//!
//! The shards' ledgers say which steps and compensations took effect and in which order their versions came, whatever
//! became of those who could have told. Each becomes a transaction of a history of its own, and so does each request that
//! read. It must be strictly serializable, since every transaction in it is at one shard and order at each
//! shard is order at all (as for objects in Herlihy and Wing, *Linearizability*, TOPLAS 1990, section 3.3).
//! Then [`workload::sagas`] names what others saw of unfinished sagas: a version that was compensated later (G1a), one that
//! was not the saga's last (G1b), and what was built on the former (dirty update). (Garcia-Molina and Salem,
//! *Sagas*, SIGMOD 1987.)
//!
//! What is not known only takes power from the judgement, and never makes it wrong:
//! - A step took effect after its client asked for the saga, and by the time that its shard said so. Where that word
//!   died in a crash, at any later time.
//! - What a step read is known from the client's answer. Where it cannot be told whether a step read a row or a request
//!   before it, the read stands alone: parts of a serializable history are serializable.
//! - Likewise, where a saga has more than one step at a shard, or chooses its rows by what it reads, each row that it
//!   wrote stands alone.
//! - Rows of a shard whose ledger the autopsy did not find are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{key_number, version_number};
use super::ledger::Ledger;
use super::lives::{Life, Lives};
use super::{Evidence, Finding, Property, property};
use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{Key, Read, ShardId, Target, Txn, TxnId, WriteId};
use crate::check::workload::{self, Saga};
use crate::check::{self, Anomaly, History, HistoryBuilder, Model, Options, Status};
use crate::protocol::Atomicity;

/// What of a saga took effect at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Part {
    /// Its only step at a shard.
    Step(ShardId),
    /// A row of which it is not known what took effect with it.
    Row(Key),
}

/// Every write that stands in a ledger, by what took effect with it: a step, or if `undo` a compensation.
type Effects = BTreeMap<(TxnId, bool, Part), Vec<Key>>;

/// The rows that an effect or a read may be about.
fn rows_of(target: &Target) -> Vec<Key> {
    match *target {
        Target::Key(key) => vec![key],
        Target::Choice {
            then, otherwise, ..
        } => vec![then, otherwise],
    }
}

/// Does the transaction have exactly one step at the shard? Consecutive effects at one shard are a step.
fn has_one_step(evidence: &Evidence<'_>, txn: &Txn, shard: ShardId) -> bool {
    let layout = &evidence.scenario.layout;
    let here = txn.effects.iter().map(|effect| {
        let rows = rows_of(&effect.target);
        rows.iter().any(|key| layout.shard_of(*key) == shard)
    });
    let mut here: Vec<bool> = here.collect();
    here.dedup();
    !txn.is_dependent() && here.iter().filter(|here| **here).count() == 1
}

fn effects(evidence: &Evidence<'_>, ledger: &Ledger, txns: &BTreeMap<TxnId, &Txn>) -> Effects {
    let mut effects = Effects::new();
    for (&key, order) in &ledger.orders {
        let shard = evidence.scenario.layout.shard_of(key);
        for write in order {
            let txn = txns.get(&write.txn);
            let part = match txn.is_some_and(|txn| has_one_step(evidence, txn, shard)) {
                true => Part::Step(shard),
                false => Part::Row(key),
            };
            let keys = effects.entry((write.txn, write.undo, part)).or_default();
            keys.push(key);
        }
    }
    effects
}

/// By when shards said that steps and compensations had taken effect.
#[derive(Default)]
struct Said {
    applied: BTreeMap<(TxnId, Key), u64>,
    compensated: BTreeMap<(TxnId, ShardId), u64>,
}

impl Said {
    fn read(evidence: &Evidence<'_>) -> Said {
        let mut said = Said::default();
        for observed in evidence.observations {
            match &observed.what {
                Observation::Applied { txn, keys, .. } => {
                    for key in keys {
                        said.applied.entry((*txn, *key)).or_insert(observed.at_ns);
                    }
                }
                Observation::Compensated { txn, shard, .. } => {
                    let first = said.compensated.entry((*txn, *shard));
                    first.or_insert(observed.at_ns);
                }
                _ => {}
            }
        }
        said
    }

    /// The instant by which all of it had taken effect, if anybody said so.
    fn until_ns(&self, txn: TxnId, undo: bool, part: Part, keys: &[Key]) -> Option<u64> {
        match (undo, part) {
            (false, _) => {
                let said = keys.iter().filter_map(|key| self.applied.get(&(txn, *key)));
                said.min().copied()
            }
            (true, Part::Step(shard)) => self.compensated.get(&(txn, shard)).copied(),
            (true, Part::Row(_)) => None,
        }
    }
}

/// Every step, compensation and request to read as a transaction, and which of them are one saga.
struct Steps {
    history: History,
    sagas: Vec<Saga>,
    /// By position in the history.
    names: Vec<String>,
}

struct Writer<'a> {
    builder: HistoryBuilder,
    names: Vec<String>,
    evidence: &'a Evidence<'a>,
    /// Shards whose ledger was found.
    found: BTreeSet<ShardId>,
}

impl Writer<'_> {
    /// Adds a transaction that nothing but real time orders.
    fn add(
        &mut self,
        name: String,
        (from_ns, to_ns): (u64, Option<u64>),
        reads: &[&Read],
        writes: &[(Key, WriteId)],
    ) -> check::TxnId {
        let process = self.names.len() as u64;
        let id = self.builder.begin(process, from_ns);
        for read in reads {
            let version = read.row.writer;
            let value = (version != WriteId::default()).then(|| version_number(version));
            self.builder.read(key_number(read.key), value);
        }
        for (key, write) in writes {
            self.builder.write(key_number(*key), version_number(*write));
        }
        let to_ns = to_ns.map(|to_ns| to_ns.max(from_ns));
        self.builder.end(Status::Ok, to_ns);
        self.names.push(name);
        id
    }

    /// Adds what a client was answered and no step accounts for. Where the transaction writes nothing, the rows of a shard
    /// are one request, unless some were read first to choose others.
    fn add_reads(&mut self, txn: &Txn, span: (u64, u64), reads: &[&Read]) {
        let layout = &self.evidence.scenario.layout;
        let rows = txn
            .effects
            .iter()
            .flat_map(|effect| rows_of(&effect.target));
        let written: BTreeSet<ShardId> = rows.map(|key| layout.shard_of(key)).collect();
        let mut requests: BTreeMap<(ShardId, Option<Key>), Vec<&Read>> = BTreeMap::new();
        for read in reads {
            let shard = layout.shard_of(read.key);
            let alone = txn.is_dependent() || written.contains(&shard);
            let request = requests.entry((shard, alone.then_some(read.key)));
            request.or_default().push(read);
        }
        let span = (span.0, Some(span.1));
        for ((shard, _), reads) in requests {
            self.add(
                format!("a read of {} at {shard}", txn.id),
                span,
                &reads,
                &[],
            );
        }
    }

    /// What a client was answered, of rows whose versions are known.
    fn answered<'l>(&self, life: &'l Life) -> Vec<&'l Read> {
        let reads: &[Read] = match life.known() {
            Some(Outcome::Committed { reads }) => reads,
            _ => &[],
        };
        let layout = &self.evidence.scenario.layout;
        let known = |read: &&Read| self.found.contains(&layout.shard_of(read.key));
        reads.iter().filter(known).collect()
    }
}

fn steps(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Steps {
    let planned = evidence
        .plan
        .operations
        .iter()
        .map(|operation| &operation.txn);
    let txns: BTreeMap<TxnId, &Txn> = planned.map(|txn| (txn.id, txn)).collect();
    let said = Said::read(evidence);
    let mut writer = Writer {
        builder: HistoryBuilder::new(),
        names: Vec::new(),
        evidence,
        found: evidence.states.iter().map(|state| state.shard).collect(),
    };
    let mut sagas: BTreeMap<TxnId, Saga> = BTreeMap::new();
    let mut read_by_steps: BTreeSet<(TxnId, Key)> = BTreeSet::new();
    for ((txn, undo, part), keys) in effects(evidence, ledger, &txns) {
        let life = lives.by_txn.get(&txn);
        let invoked = life.and_then(|life| life.invoked);
        let span = (
            invoked.map_or(0, |(at_ns, _)| at_ns),
            said.until_ns(txn, undo, part, &keys),
        );
        let answered = life.map_or(Vec::new(), |life| writer.answered(life));
        let own = |read: &&Read| !undo && part != Part::Row(read.key) && keys.contains(&read.key);
        let reads: Vec<&Read> = answered.into_iter().filter(own).collect();
        read_by_steps.extend(reads.iter().map(|read| (txn, read.key)));
        let writes = keys.iter().map(|key| (*key, WriteId { txn, undo }));
        let writes: Vec<(Key, WriteId)> = writes.collect();
        let what = if undo { "compensation" } else { "step" };
        let shard = evidence.scenario.layout.shard_of(keys[0]);
        let id = writer.add(
            format!("a {what} of {txn} at {shard}"),
            span,
            &reads,
            &writes,
        );
        let saga = sagas.entry(txn).or_default();
        match undo {
            true => saga.compensations.push(id),
            false => saga.steps.push(id),
        }
    }
    for (id, life) in &lives.by_txn {
        let (Some(txn), Some((from_ns, _)), Some((to_ns, _))) =
            (txns.get(id), life.invoked, &life.returned)
        else {
            continue;
        };
        let mut reads = writer.answered(life);
        reads.retain(|read| !read_by_steps.contains(&(*id, read.key)));
        writer.add_reads(txn, (from_ns, *to_ns), &reads);
    }
    for (key, order) in &ledger.orders {
        let versions: Vec<u64> = order.iter().map(|write| version_number(*write)).collect();
        writer.builder.version_order(key_number(*key), &versions);
    }
    Steps {
        history: writer.builder.finish(),
        sagas: sagas.into_values().collect(),
        names: writer.names,
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

/// Each step as a transaction, which is promised, and the saga as one, which is a measurement.
pub(super) fn properties(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> [Property; 2] {
    let steps = steps(evidence, lives, ledger);
    let model = Model::StrictSerializable;
    let report = check::check(&steps.history, &Options::new(model));
    let counted = |counts: &BTreeMap<&'static str, u64>| {
        let counts = counts.iter().map(|(kind, n)| format!("{n} {kind}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    let (outcome, observed) = match report.verdict {
        check::Verdict::Valid => (Finding::Held, model.name().to_owned()),
        check::Verdict::Invalid => (Finding::Broken, counted(&report.counts)),
        check::Verdict::Unknown => (Finding::Unknown, report.notes.join("; ")),
    };
    let first = report.anomalies.first();
    let exercised = report.exercised.reads_nonempty;
    let each = property(
        "step-isolation",
        Some("each step is a strictly serializable transaction"),
        outcome,
        observed,
        exercised,
        first.map(|first| steps.explain(first)),
    )
    .shaped(first.map_or("", |first| first.kind.name()));
    let found = workload::sagas(&steps.history, &steps.sagas);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for anomaly in &found {
        *counts.entry(anomaly.kind.name()).or_default() += 1;
    }
    let (outcome, observed) = match found.is_empty() {
        true => (
            Finding::Held,
            "no step was seen that is not its saga's last word".to_owned(),
        ),
        false => (Finding::Broken, counted(&counts)),
    };
    let first = found.first();
    let whole = property(
        "saga-isolation",
        None,
        outcome,
        observed,
        exercised,
        first.map(|first| steps.explain(first)),
    )
    .shaped(first.map_or("", |first| first.kind.name()));
    [each, whole]
}

/// A saga is undone from its last step to its first (Garcia-Molina and Salem, SIGMOD 1987, section 2): the state at
/// the end does not tell, the order of the compensations does. Judged for protocols that promise sagas.
pub(super) fn compensation_order(evidence: &Evidence<'_>) -> Option<Property> {
    if evidence.promises.atomicity() != Atomicity::Saga {
        return None;
    }
    let mut latest: BTreeMap<TxnId, u16> = BTreeMap::new();
    let (mut pairs, mut wrong) = (0, Vec::new());
    for observed in evidence.observations {
        let Observation::Compensated { txn, step, .. } = observed.what else {
            continue;
        };
        if let Some(before) = latest.insert(txn, step) {
            pairs += 1;
            if step >= before {
                wrong.push(format!("{txn}: step {step} was undone after step {before}"));
            }
        }
    }
    let observed = match wrong.len() {
        0 => "last step first".to_owned(),
        n => format!("{n} of {pairs} compensations out of order"),
    };
    let outcome = if wrong.is_empty() {
        Finding::Held
    } else {
        Finding::Broken
    };
    let promised = Some("steps are undone in reverse order");
    let example = wrong.into_iter().next();
    let judged = property(
        "compensation-order",
        promised,
        outcome,
        observed,
        pairs,
        example,
    );
    Some(judged.shaped("out-of-order"))
}
