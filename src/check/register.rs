//! Histories of read-write registers, and what lists leave open, decided exactly.
//!
//! Clients of registers do not see the order of versions, so a checker that only infers must call many bad
//! histories good. This one decides [six models](Level) completely, through [`polygraph`](super::polygraph):
//! a valid verdict comes from an order that was found and replayed, an invalid one with a proof that a
//! person can follow, and `unknown` only from a budget in steps.
//!
//! ```
//! use ordain::check::{HistoryBuilder, Model, Options, Status, Verdict, register};
//!
//! // Two transactions read what the other overwrites: snapshot isolated, and not serializable.
//! let mut history = HistoryBuilder::new();
//! for (process, (reads, writes)) in [(0, (1, 2)), (1, (2, 1))] {
//!     history.begin(process, 0);
//!     history.read(reads, None);
//!     history.write(writes, 7);
//!     history.end(Status::Ok, Some(10));
//! }
//! let history = history.finish();
//! let verdict = |model| register::check(&history, &Options::new(model)).verdict;
//! assert_eq!(verdict(Model::SnapshotIsolation), Verdict::Valid);
//! assert_eq!(verdict(Model::Serializable), Verdict::Invalid);
//! ```

mod sights;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::explain::{self, Cast};
use super::history::NEVER;
use super::polygraph::{Chains, Decision, Facts, Fixed, Problem, Read, RegisterTxn, Why, happened};
pub use super::polygraph::{Level, Stage, TimeOrder};
use super::topology::Topology;
use super::{
    Anomaly, AnomalyKind, Exercised, History, KeyId, Model, Op, Options, Report, Status, Txn,
    TxnId, Verdict, list_append, refute,
};
use sights::{Question, Sighted};

impl Level {
    /// All six, the strongest first.
    pub const ALL: [Level; 6] = [
        Level {
            snapshot: false,
            order: TimeOrder::Realtime,
        },
        Level {
            snapshot: true,
            order: TimeOrder::Realtime,
        },
        Level {
            snapshot: false,
            order: TimeOrder::Session,
        },
        Level {
            snapshot: true,
            order: TimeOrder::Session,
        },
        Level {
            snapshot: false,
            order: TimeOrder::Free,
        },
        Level {
            snapshot: true,
            order: TimeOrder::Free,
        },
    ];

    /// The model's name.
    pub fn model(self) -> Model {
        match (self.snapshot, self.order) {
            (false, TimeOrder::Free) => Model::Serializable,
            (false, TimeOrder::Session) => Model::StrongSessionSerializable,
            (false, TimeOrder::Realtime) => Model::StrictSerializable,
            (true, TimeOrder::Free) => Model::SnapshotIsolation,
            (true, TimeOrder::Session) => Model::StrongSessionSnapshotIsolation,
            (true, TimeOrder::Realtime) => Model::StrongSnapshotIsolation,
        }
    }

    /// What a history is called that has no order at this level.
    pub(super) fn anomaly(self) -> AnomalyKind {
        match (self.snapshot, self.order) {
            (false, TimeOrder::Free) => AnomalyKind::NotSerializable,
            (false, TimeOrder::Session) => AnomalyKind::NotStrongSessionSerializable,
            (false, TimeOrder::Realtime) => AnomalyKind::NotStrictSerializable,
            (true, TimeOrder::Free) => AnomalyKind::NotSnapshotIsolated,
            (true, TimeOrder::Session) => AnomalyKind::NotStrongSessionSnapshotIsolated,
            (true, TimeOrder::Realtime) => AnomalyKind::NotStrongSnapshotIsolated,
        }
    }

    /// Whether every history of this level is one of the other.
    fn implies(self, other: Level) -> bool {
        self.order >= other.order && (other.snapshot || !self.snapshot)
    }
}

/// The answer for one level, and what it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exact {
    /// Does the history satisfy the level?
    pub verdict: Verdict,
    /// The stage that knew.
    pub stage: Stage,
    /// Decisions of the search.
    pub decisions: u64,
    /// Contradictions that the search met.
    pub conflicts: u64,
}

/// Decides one level, with no explanation: for measurements and for callers that only need the answer.
pub fn decide(history: &History, level: Level, steps_max: u64) -> Exact {
    let Extract {
        facts,
        anomalies,
        exceeds,
    } = Extract::of(history);
    if exceeds || !anomalies.is_empty() {
        return Exact {
            verdict: match anomalies.is_empty() {
                true => Verdict::Unknown,
                false => Verdict::Invalid,
            },
            stage: Stage::Direct,
            decisions: 0,
            conflicts: 0,
        };
    }
    let mut problem = Problem::new(&facts, &facts.members(), level, &Fixed::new());
    let verdict = match problem.decide(steps_max) {
        Decision::Possible(_) => Verdict::Valid,
        Decision::Impossible => Verdict::Invalid,
        Decision::Exceeded => Verdict::Unknown,
    };
    let (stage, effort) = (problem.stage, problem.effort);
    Exact {
        verdict,
        stage,
        decisions: effort.decisions,
        conflicts: effort.conflicts,
    }
}

/// Whether the model is one of the six.
fn decides(model: Model) -> bool {
    Level::ALL.iter().any(|level| level.model() == model)
}

/// Whether some value was written to a key twice, so that it is open from whom it was read.
pub(super) fn values_repeat(history: &History) -> bool {
    let mut written = BTreeSet::new();
    history.txns().any(|txn| {
        txn.ops().any(|op| match op {
            Op::Write { key, value }
            | Op::Cas {
                key, new: value, ..
            } => !written.insert((key, value)),
            _ => false,
        })
    })
}

/// Whether the order of some list's versions is open: two transactions appended to it what nobody read.
pub(super) fn leaves_order_open(history: &History) -> bool {
    let mut read = longest_lists(history)
        .into_iter()
        .map(|(key, list)| (key, list.to_vec()))
        .collect::<BTreeMap<_, _>>();
    read.values_mut().for_each(|list| list.sort_unstable());
    let mut unread = BTreeMap::<KeyId, TxnId>::new();
    for txn in history.txns().filter(|txn| txn.header.status == Status::Ok) {
        for op in txn.ops() {
            let Op::Append { key, value } = op else {
                continue;
            };
            let seen = read
                .get(&key)
                .is_some_and(|list| list.binary_search(&value).is_ok());
            if !seen && *unread.entry(key).or_insert(txn.id) != txn.id {
                return true;
            }
        }
    }
    false
}

/// Checks a history of registers; operations on sets and counters are not looked at.
///
/// Lists that it holds are judged as far as orders of versions go, in one question with the registers: that each
/// read by itself is sound is [`list_append`](super::list_append)'s to say. A compare-and-set counts as a read of the expected value and a write.
pub fn check(history: &History, options: &Options) -> Report {
    let Extract {
        facts,
        mut anomalies,
        exceeds,
    } = Extract::of(history);
    let members = facts.members();
    let problem = Problem::new(&facts, &members, Level::ALL[0], &Fixed::new());
    let exercised = exercised(history, &problem);
    if exceeds {
        let note = format!(
            "not decided: reads may have come from more than {SOURCES_MAX} writes of their values in all"
        );
        return Report::new(options, anomalies, exercised, [], vec![note]);
    }
    let mut held = weak_models_that_hold(history, &facts);
    if !anomalies.is_empty() {
        // They speak of models that forbid them. Others are judged only as far as that needs no order of versions.
        let mut notes = Vec::new();
        let forbidden = anomalies.iter().any(|a| a.violates(options.model));
        if !forbidden && !held.contains(&options.model) {
            notes.push(format!(
                "{}: not decided beside impossible reads",
                options.model
            ));
        }
        return Report::new(options, anomalies, exercised, held, notes);
    }
    let judged = judge(&facts, &members, options);
    let mut undecided = Vec::new();
    let mut remarks = Vec::new();
    for (level, judgement) in &judged {
        match judgement {
            Judgement::Possible => held.push(level.model()),
            Judgement::Impossible(suspects) => {
                let asked = refute::Asked {
                    model: level.model(),
                    level: *level,
                    none: level.anomaly(),
                };
                let question = (asked, &members[..], suspects);
                let anomaly = refute::explain(history, &facts, question, options.steps_max);
                // Levels that fail for one reason may differ in the words.
                let same = |known: &Anomaly| {
                    (known.kind, &known.transactions) == (anomaly.kind, &anomaly.transactions)
                };
                if !anomalies.iter().any(same) {
                    anomalies.push(anomaly);
                }
            }
            Judgement::Exceeded => {
                let note = format!(
                    "{}: not decided within {} steps",
                    level.model(),
                    options.steps_max
                );
                if level.model() == options.model {
                    &mut undecided
                } else {
                    &mut remarks
                }
                .push(note);
            }
        }
    }
    let mut weak = WeakModels {
        history,
        facts: &facts,
        members: &members,
        steps_max: options.steps_max,
        anomalies,
        held,
    };
    let sighted = weak.judge_sights();
    let prefix = weak.judge_prefix();
    let WeakModels {
        anomalies, held, ..
    } = weak;
    let note = match options.model {
        Model::PrefixNoSession => prefix,
        model => sighted.filter(|_| SIGHTED.contains(&model)),
    };
    let settled = held.iter().any(|model| model.implies(options.model))
        || anomalies.iter().any(|a| a.violates(options.model));
    // A stronger model may settle what a budget left open.
    let note = note.filter(|_| !settled);
    undecided.extend(note.map(|note| format!("{}: {note}", options.model)));
    if !settled && undecided.is_empty() && !decides(options.model) {
        undecided.push(format!(
            "{}: not decided for registers; no stronger model that is decided holds",
            options.model
        ));
    }
    undecided.extend(remarks);
    Report::new(options, anomalies, exercised, held, undecided)
}

/// The models below those that [`judge`] decides, and what is known so far.
struct WeakModels<'a> {
    history: &'a History,
    facts: &'a Facts,
    members: &'a [u32],
    steps_max: u64,
    /// What was found.
    anomalies: Vec<Anomaly>,
    /// The models that hold.
    held: Vec<Model>,
}

impl WeakModels<'_> {
    /// Is it settled whether the model holds?
    fn is_known(&self, model: Model) -> bool {
        self.held.iter().any(|stronger| stronger.implies(model)) || { self.anomalies.iter() }
            .any(|anomaly| anomaly.violates(model))
    }

    fn exceeded(&self) -> String {
        format!("not decided within {} steps", self.steps_max)
    }

    /// Decides prefix consistency, if what is known leaves it open, or says why it cannot.
    ///
    /// A snapshot is a prefix of the commits, so a history is prefix consistent if and only if it is serializable when the reads of
    /// each transaction are one transaction, and its writes another one that comes later (Biswas, Enea, OOPSLA 2019, section 4).
    fn judge_prefix(&mut self) -> Option<String> {
        if self.is_known(Model::PrefixNoSession) {
            return None;
        }
        let Some(split) = split(self.facts, self.members) else {
            return Some(
                "not decided where it is open whether a transaction happened, because values repeat"
                    .into(),
            );
        };
        let members = split.members();
        let level = Level {
            snapshot: false,
            order: TimeOrder::Session,
        };
        let mut problem = Problem::new(&split, &members, level, &Fixed::new());
        match problem.decide(self.steps_max) {
            Decision::Possible(_) => self.held.push(Model::PrefixNoSession),
            Decision::Impossible => {
                let asked = refute::Asked {
                    model: Model::PrefixNoSession,
                    level,
                    none: AnomalyKind::NotPrefixConsistent,
                };
                let question = (asked, &members[..], &problem.suspects);
                let anomaly = refute::explain(self.history, &split, question, self.steps_max);
                self.anomalies.push(anomaly);
            }
            Decision::Exceeded => return Some(self.exceeded()),
        }
        None
    }

    /// Decides those of [`SIGHTED`] that what is known leaves open, or says why it cannot.
    fn judge_sights(&mut self) -> Option<String> {
        let mut question = None;
        for model in SIGHTED {
            if self.is_known(model) {
                continue;
            }
            let ask = || Question::of(self.history, self.facts, self.members);
            let Some(question) = question.get_or_insert_with(ask) else {
                return Some(
                    "not decided where values repeat, so that it is open from whom they were read"
                        .into(),
                );
            };
            match question.judge(model, self.steps_max) {
                Some(Sighted::Holds) => self.held.push(model),
                Some(Sighted::Fails(anomaly)) => self.anomalies.push(anomaly),
                None => return Some(self.exceeded()),
            }
        }
        None
    }
}

/// The facts with each transaction's reads apart from its writes: sessions of two, in which the reads come first. None if
/// it is open whether some transaction happened.
fn split(facts: &Facts, members: &[u32]) -> Option<Facts> {
    let (present, maybe) = happened(&facts.txns, members, &Fixed::new());
    if maybe.contains(&true) {
        return None;
    }
    // By index, the place of the writes.
    let mut writes = BTreeMap::new();
    let mut places = 0u32;
    for &at in &present {
        let txn = &facts.txns[at as usize];
        places += u32::from(!txn.reads.is_empty()) + u32::from(!txn.writes.is_empty());
        writes.insert(at, places.wrapping_sub(1));
    }
    let mut txns = Vec::with_capacity(places as usize);
    for &at in &present {
        let txn = &facts.txns[at as usize];
        let reads = txn.reads.iter().map(|read| Read {
            sources: read.sources.iter().map(|source| writes[source]).collect(),
            ..*read
        });
        let part = |from: u64, to: u64| RegisterTxn {
            process: u64::from(at),
            invoke: from,
            complete: to,
            certain: true,
            seen: false,
            reads: Vec::new(),
            writes: Vec::new(),
            ..*txn
        };
        let begin = txn.invoke.saturating_mul(2);
        if !txn.reads.is_empty() {
            let reads = reads.collect();
            txns.push(RegisterTxn {
                reads,
                ..part(begin, begin)
            });
        }
        if !txn.writes.is_empty() {
            let writes = txn.writes.clone();
            let end = txn.complete.saturating_mul(2).saturating_add(1);
            txns.push(RegisterTxn {
                writes,
                ..part(begin.saturating_add(1), end)
            });
        }
    }
    let chains = facts.chains.iter();
    let chains = chains.filter(|(key, _)| !facts.derived.contains(key));
    let chains = chains.map(|(&key, chain)| {
        let present = chain.iter().filter_map(|at| writes.get(at).copied());
        (key, present.collect())
    });
    Some(Facts {
        txns,
        chains: chains.collect(),
        derived: BTreeSet::new(),
    })
}

/// The models that ask whom each transaction sees, the weaker first.
const SIGHTED: [Model; 2] = [
    Model::ReadAtomicNoSession,
    Model::CausalConsistencyNoSession,
];

/// Which of read uncommitted and read committed do registers satisfy, given that no read is impossible by itself?
/// Where nobody knows an order of versions, one that follows any total order of the transactions makes no G0, and no
/// G1c if that order follows the reads; so it is enough that the read dependencies are acyclic.
fn weak_models_that_hold(history: &History, facts: &Facts) -> Vec<Model> {
    let orders_known = history.kinds.iter().any(|kind| kind.is_list())
        || (0..history.key_count() as KeyId).any(|key| history.version_order(key).is_some());
    if orders_known {
        return Vec::new();
    }
    let committed = read_dependencies_are_acyclic(facts).then_some(Model::ReadCommitted);
    std::iter::once(Model::ReadUncommitted)
        .chain(committed)
        .collect()
}

/// Whether each read has one possible source and these dependencies form no cycle.
fn read_dependencies_are_acyclic(facts: &Facts) -> bool {
    let mut graph = Topology::new(facts.txns.len() as u32);
    for (at, txn) in (0u32..).zip(&facts.txns) {
        for read in txn.reads.iter().filter(|read| read.value.is_some()) {
            let &[source] = read.sources.as_slice() else {
                return false;
            };
            graph.push((source, at), 0);
        }
    }
    graph.sort()
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Judgement {
    Possible,
    /// With whoever had a part in the conflicts.
    Impossible(BTreeSet<u32>),
    Exceeded,
}

/// Decides the model asked about and, where that is not the end of it, enough of the others to know which of the
/// six hold. Strict serializability first: real time leaves few choices, and it implies the rest.
fn judge(facts: &Facts, members: &[u32], options: &Options) -> Vec<(Level, Judgement)> {
    let mut order: Vec<Level> = Level::ALL.to_vec();
    // Stable: strict first, then what was asked, then the weakest.
    order.sort_by_key(|level| match level {
        Level {
            snapshot: false,
            order: TimeOrder::Realtime,
        } => 0,
        level if level.model() == options.model => 1,
        Level {
            order: TimeOrder::Free,
            ..
        } => 2,
        _ => 3,
    });
    let mut judged: Vec<(Level, Judgement)> = Vec::new();
    for level in order {
        let known = judged.iter().any(|(other, judgement)| match judgement {
            Judgement::Possible => other.implies(level),
            Judgement::Impossible(_) => level.implies(*other),
            Judgement::Exceeded => false,
        });
        if !known {
            let mut problem = Problem::new(facts, members, level, &Fixed::new());
            let judgement = match problem.decide(options.steps_max) {
                Decision::Possible(_) => Judgement::Possible,
                Decision::Impossible => Judgement::Impossible(problem.suspects),
                Decision::Exceeded => Judgement::Exceeded,
            };
            judged.push((level, judgement));
        }
    }
    judged
}

fn exercised(history: &History, problem: &Problem<'_>) -> Exercised {
    let mut counts = Exercised::default();
    for txn in history.txns() {
        match txn.header.status {
            Status::Ok => counts.transactions += 1,
            Status::Info => {
                counts.transactions += 1;
                counts.indeterminate += 1;
            }
            Status::Fail => counts.failed += 1,
        }
        for op in txn.ops() {
            match op {
                Op::Write { .. } => counts.writes += 1,
                Op::Cas { .. } => {
                    counts.writes += 1;
                    counts.reads += 1;
                    counts.reads_nonempty += 1;
                }
                Op::Read { value, .. } => {
                    counts.reads += 1;
                    counts.reads_nonempty += u64::from(value.is_some());
                }
                _ => {}
            }
        }
    }
    for edge in &problem.known {
        match edge.why {
            Why::WriteWrite(_) => counts.edges_ww += 1,
            Why::WriteRead(_) => counts.edges_wr += 1,
            Why::ReadWrite(_) => counts.edges_rw += 1,
            Why::Within | Why::Time => {}
        }
    }
    counts
}

/// What the operations say, before any order is looked for.
struct Extract {
    facts: Facts,
    /// Reads that no model allows.
    anomalies: Vec<Anomaly>,
    /// Whether the reads have more possible sources in all than are looked at; the facts are empty then.
    exceeds: bool,
}

/// Reads with more possible sources in all than this exceed any budget, as do
/// [pairs](super::polygraph) of writers: a million writes of a few values have as many for each read.
const SOURCES_MAX: usize = 4_000_000;

/// One write, for the index of values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Written {
    key: KeyId,
    value: u64,
    txn: TxnId,
    /// Whether the transaction wrote the key again.
    overwritten: bool,
}

/// A transaction's operations, digested.
#[derive(Default)]
struct Digest {
    reads: Vec<(KeyId, Option<u64>)>,
    writes: BTreeMap<KeyId, u64>,
    overwritten: Vec<(KeyId, u64)>,
    appended: BTreeSet<(KeyId, u64)>,
    /// A read against an operation before it: key, expected and returned value.
    contradiction: Option<(KeyId, Option<u64>, Option<u64>)>,
}

impl Digest {
    fn of(txn: &Txn<'_>) -> Self {
        let mut digest = Digest::default();
        let mut seen = BTreeMap::new();
        for op in txn.ops() {
            match op {
                Op::Read { key, value } => digest.read(&mut seen, key, value),
                Op::Write { key, value } => digest.write(&mut seen, key, value),
                Op::Cas { key, expected, new } => {
                    digest.read(&mut seen, key, Some(expected));
                    digest.write(&mut seen, key, new);
                }
                Op::Append { key, value } => digest.append(key, value),
                Op::ReadList { key, list } => digest.read_list(&mut seen, key, list),
                // What is added to, and queues, are other checkers'.
                _ => {}
            }
        }
        digest
    }

    fn read(&mut self, seen: &mut BTreeMap<KeyId, Option<u64>>, key: KeyId, value: Option<u64>) {
        match seen.get(&key) {
            None => {
                self.reads.push((key, value));
                seen.insert(key, value);
            }
            Some(&expected) if expected != value => {
                self.contradiction.get_or_insert((key, expected, value));
            }
            Some(_) => {}
        }
    }

    fn append(&mut self, key: KeyId, value: u64) {
        self.appended.insert((key, value));
        if let Some(before) = self.writes.insert(key, value) {
            self.overwritten.push((key, before));
        }
    }

    /// The version read is the newest element that is not the transaction's own.
    fn read_list(&mut self, seen: &mut BTreeMap<KeyId, Option<u64>>, key: KeyId, list: &[u64]) {
        let own = |value: &u64| self.appended.contains(&(key, *value));
        let version = list.iter().rev().find(|value| !own(value)).copied();
        if let Entry::Vacant(unseen) = seen.entry(key) {
            self.reads.push((key, version));
            unseen.insert(version);
        }
    }

    fn write(&mut self, seen: &mut BTreeMap<KeyId, Option<u64>>, key: KeyId, value: u64) {
        if let Some(before) = self.writes.insert(key, value) {
            self.overwritten.push((key, before));
        }
        seen.insert(key, Some(value));
    }
}

impl Facts {
    fn members(&self) -> Vec<u32> {
        (0..self.txns.len() as u32).collect()
    }
}

impl Extract {
    fn of(history: &History) -> Self {
        let digests: Vec<Digest> = history.txns().map(|txn| Digest::of(&txn)).collect();
        let written = index_writes(&digests);
        let dead = cannot_have_happened(history, &digests, &written);
        let mut anomalies = direct_anomalies(history, &digests, &written, &dead);
        for anomaly in dead_elements(history, &digests, &written, &dead) {
            if !anomalies.contains(&anomaly) {
                anomalies.push(anomaly);
            }
        }
        let sources = digests.iter().flat_map(|digest| &digest.reads);
        let sources =
            sources.filter_map(|&(key, value)| Some(writes_of(&written, key, value?).len()));
        if sources.sum::<usize>() > SOURCES_MAX {
            let (txns, chains) = (Vec::new(), Chains::new());
            let derived = BTreeSet::new();
            return Extract {
                facts: Facts {
                    txns,
                    chains,
                    derived,
                },
                anomalies,
                exceeds: true,
            };
        }
        let mut index = vec![u32::MAX; history.len()];
        let mut live = Vec::new();
        for txn in history.txns().filter(|txn| !dead.contains(&txn.id)) {
            index[txn.id as usize] = live.len() as u32;
            live.push(txn.id);
        }
        let txns = live.iter().map(|&id| {
            let sources = |key, value| {
                let ids = possible_sources(&written, &dead, id, key, value);
                ids.map(|source| index[source as usize]).collect()
            };
            register_txn(&history.txn(id), &digests[id as usize], sources)
        });
        let mut facts = Facts {
            txns: txns.collect(),
            chains: Chains::new(),
            derived: BTreeSet::new(),
        };
        for (key, list) in longest_lists(history) {
            let writer = |&value: &u64| match writes_of(&written, key, value) {
                [only] => Some(index[only.txn as usize]).filter(|&at| at != u32::MAX),
                _ => None,
            };
            let mut chain: Vec<u32> = list.iter().filter_map(writer).collect();
            chain.dedup();
            facts.chains.insert(key, chain);
        }
        for (key, chain) in read_modify_write_chains(&facts.txns) {
            if let Entry::Vacant(open) = facts.chains.entry(key) {
                open.insert(chain);
                facts.derived.insert(key);
            }
        }
        for &at in facts.chains.values().flatten() {
            facts.txns[at as usize].seen = true;
        }
        Extract {
            facts,
            anomalies,
            exceeds: false,
        }
    }
}

/// The known part of each list's version order: what was seen inside the database, else the longest read.
fn longest_lists(history: &History) -> BTreeMap<KeyId, &[u64]> {
    let mut longest = BTreeMap::<KeyId, &[u64]>::new();
    let reads_list = |txn: &Txn<'_>| txn.ops().any(|op| matches!(op, Op::ReadList { .. }));
    // What indeterminate transactions read counts if they happened, which is rarely known and costs an index.
    let telling = history
        .txns()
        .any(|txn| txn.header.status == Status::Info && reads_list(&txn));
    let live = telling.then(|| list_append::live(history));
    let happened = |txn: &Txn<'_>| match &live {
        None => txn.header.status == Status::Ok,
        Some(live) => live[txn.id as usize],
    };
    for txn in history.txns().filter(happened) {
        for op in txn.ops() {
            if let Op::ReadList { key, list } = op {
                let known = longest.entry(key).or_default();
                if list.len() > known.len() {
                    *known = list;
                }
            }
        }
    }
    for key in 0..history.key_count() as KeyId {
        if let Some(told) = history.version_order(key) {
            longest.insert(key, told);
        }
    }
    longest
}

/// The version orders that reads spell out: where every certain writer of a register read the version that it
/// replaced, and no two replaced the same one, the versions form one chain from the initial value. Under
/// snapshot isolation and above nothing comes between a version and the one that its reader wrote (that
/// would be a lost update), so a writer outside of the chain, whose fate nobody knows, comes after it if it
/// happened at all.
fn read_modify_write_chains(txns: &[RegisterTxn]) -> BTreeMap<KeyId, Vec<u32>> {
    let mut writers = BTreeMap::<KeyId, usize>::new();
    // By key, the writer that replaced a version of this one (`None`: of the initial state).
    let mut next = BTreeMap::<KeyId, BTreeMap<Option<u32>, u32>>::new();
    let mut forked = BTreeSet::new();
    for (at, txn) in (0u32..).zip(txns).filter(|(_, txn)| txn.certain) {
        for &(key, _) in &txn.writes {
            *writers.entry(key).or_default() += 1;
            let Some(read) = txn.reads.iter().find(|read| read.key == key) else {
                continue;
            };
            let replaced = match (read.value, read.sources.as_slice()) {
                (None, _) => None,
                (Some(_), [source]) => Some(*source),
                (Some(_), _) => continue,
            };
            if next.entry(key).or_default().insert(replaced, at).is_some() {
                forked.insert(key);
            }
        }
    }
    let chain = |(key, next): (KeyId, BTreeMap<Option<u32>, u32>)| {
        let follow = |at: &u32| next.get(&Some(*at)).copied();
        let first = next.get(&None).copied();
        // A cycle cannot be entered from the initial state unless two writers replaced one version.
        let chain: Vec<u32> = std::iter::successors(first, follow).collect();
        (chain.len() == writers[&key]).then_some((key, chain))
    };
    next.into_iter()
        .filter(|(key, _)| !forked.contains(key))
        .filter_map(chain)
        .collect()
}

fn register_txn(
    txn: &Txn<'_>,
    digest: &Digest,
    sources: impl Fn(KeyId, u64) -> Vec<u32>,
) -> RegisterTxn {
    let certain = txn.header.status == Status::Ok;
    let reads = digest.reads.iter().map(|&(key, value)| Read {
        key,
        value,
        sources: value.map_or(Vec::new(), |value| sources(key, value)),
    });
    RegisterTxn {
        id: txn.id,
        process: txn.header.process,
        invoke: txn.header.invoke,
        complete: if certain { txn.header.complete } else { NEVER },
        certain,
        seen: false,
        reads: reads.collect(),
        writes: digest
            .writes
            .iter()
            .map(|(&key, &value)| (key, value))
            .collect(),
    }
}

fn index_writes(digests: &[Digest]) -> Vec<Written> {
    let mut written = Vec::new();
    for (txn, digest) in digests.iter().enumerate() {
        let txn = txn as TxnId;
        let last = digest
            .writes
            .iter()
            .map(|(&key, &value)| (key, value, false));
        let earlier = digest
            .overwritten
            .iter()
            .map(|&(key, value)| (key, value, true));
        written.extend(
            last.chain(earlier)
                .map(|(key, value, overwritten)| Written {
                    key,
                    value,
                    txn,
                    overwritten,
                }),
        );
    }
    written.sort_unstable();
    written
}

/// Every write of the value to the key, by transaction.
fn writes_of(written: &[Written], key: KeyId, value: u64) -> &[Written] {
    let start = written.partition_point(|w| (w.key, w.value) < (key, value));
    let len = written[start..].partition_point(|w| (w.key, w.value) == (key, value));
    &written[start..start + len]
}

/// The transactions from which another may have read the value.
fn possible_sources<'a>(
    written: &'a [Written],
    dead: &'a BTreeSet<TxnId>,
    reader: TxnId,
    key: KeyId,
    value: u64,
) -> impl Iterator<Item = TxnId> + 'a {
    let all = writes_of(written, key, value).iter();
    all.filter(move |w| !w.overwritten && w.txn != reader && !dead.contains(&w.txn))
        .map(|w| w.txn)
}

/// Failed transactions, and indeterminate ones whose known reads say that they did not commit.
fn cannot_have_happened(
    history: &History,
    digests: &[Digest],
    written: &[Written],
) -> BTreeSet<TxnId> {
    let failed = history
        .txns()
        .filter(|txn| txn.header.status == Status::Fail);
    let mut dead: BTreeSet<TxnId> = failed.map(|txn| txn.id).collect();
    let open = history
        .txns()
        .filter(|txn| txn.header.status == Status::Info);
    let open: Vec<TxnId> = open.map(|txn| txn.id).collect();
    loop {
        let impossible = |id: &TxnId| {
            let digest = &digests[*id as usize];
            let unexplained = digest.reads.iter().any(|&(key, value)| {
                value.is_some_and(|v| {
                    possible_sources(written, &dead, *id, key, v)
                        .next()
                        .is_none()
                })
            });
            digest.contradiction.is_some() || unexplained
        };
        let found: Vec<TxnId> = open
            .iter()
            .copied()
            .filter(|id| !dead.contains(id))
            .filter(impossible)
            .collect();
        if found.is_empty() {
            return dead;
        }
        dead.extend(found);
    }
}

fn direct_anomalies(
    history: &History,
    digests: &[Digest],
    written: &[Written],
    dead: &BTreeSet<TxnId>,
) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for txn in history.txns().filter(|txn| txn.header.status == Status::Ok) {
        let digest = &digests[txn.id as usize];
        if let Some((key, expected, found)) = digest.contradiction {
            anomalies.push(internal(history, txn.id, key, expected, found));
        }
        for &(key, value) in &digest.reads {
            let Some(value) = value else { continue };
            if possible_sources(written, dead, txn.id, key, value)
                .next()
                .is_none()
            {
                anomalies.push(unexplained_read(history, written, dead, txn.id, key, value));
            }
        }
    }
    anomalies
}

/// Reads of lists that hold what somebody appended who cannot have committed, by what he read from registers.
fn dead_elements(
    history: &History,
    digests: &[Digest],
    written: &[Written],
    dead: &BTreeSet<TxnId>,
) -> Vec<Anomaly> {
    let unknown = dead.iter();
    let unknown = unknown.filter(|&&id| history.header(id).status == Status::Info);
    let appended = unknown.flat_map(|&id| &digests[id as usize].appended);
    let appended = appended.filter(|(key, value)| {
        let mut writers = writes_of(written, *key, *value).iter();
        writers.all(|write| dead.contains(&write.txn))
    });
    let appended: BTreeSet<(KeyId, u64)> = appended.copied().collect();
    let mut anomalies = Vec::new();
    let certain = history
        .txns()
        .filter(|txn| txn.header.status == Status::Ok && !appended.is_empty());
    for txn in certain {
        for op in txn.ops() {
            if let Op::ReadList { key, list } = op
                && let Some(&value) = list.iter().find(|value| appended.contains(&(key, **value)))
            {
                anomalies.push(unexplained_read(history, written, dead, txn.id, key, value));
            }
        }
    }
    anomalies
}

fn show(history: &History, value: Option<u64>) -> String {
    value.map_or("nothing".into(), |value| history.show_value(value))
}

fn internal(
    history: &History,
    txn: TxnId,
    key: KeyId,
    expected: Option<u64>,
    found: Option<u64>,
) -> Anomaly {
    let mut cast = Cast::default();
    let text = format!(
        "{} read {} from key {}, but by its own earlier operations it held {}: a contradiction!",
        cast.name(txn),
        show(history, found),
        history.show_key(key),
        show(history, expected)
    );
    explain::fact(history, AnomalyKind::Internal, Some(key), cast, &text)
}

/// A read of a value that no transaction can have left there.
fn unexplained_read(
    history: &History,
    written: &[Written],
    dead: &BTreeSet<TxnId>,
    reader: TxnId,
    key: KeyId,
    value: u64,
) -> Anomaly {
    let writes = writes_of(written, key, value);
    let own = writes.iter().find(|w| w.txn == reader);
    let intermediate = writes
        .iter()
        .find(|w| w.overwritten && w.txn != reader && !dead.contains(&w.txn));
    let aborted = writes
        .iter()
        .find(|w| w.txn != reader && dead.contains(&w.txn));
    let mut cast = Cast::of([reader]);
    let read = format!(
        "{} read {} from key {}",
        cast.name(reader),
        history.show_value(value),
        history.show_key(key)
    );
    let (kind, text) = match (intermediate, aborted, own) {
        (Some(w), ..) => (
            AnomalyKind::G1b,
            format!(
                "{read}, which {} itself overwrote: it never committed that version.",
                cast.name(w.txn)
            ),
        ),
        (_, Some(w), _) => {
            let why = match history.header(w.txn).status {
                Status::Fail => "which failed",
                _ => "which cannot have committed, by what it read itself",
            };
            let writer = cast.name(w.txn);
            (
                AnomalyKind::G1a,
                format!("{read}, written only by {writer}, {why}."),
            )
        }
        (.., Some(_)) => (
            AnomalyKind::FutureRead,
            format!("{read} before it wrote that value itself."),
        ),
        _ => (
            AnomalyKind::GarbageRead,
            format!("{read}, which nobody wrote."),
        ),
    };
    explain::fact(history, kind, Some(key), cast, &text)
}
