//! Checkers of histories: which consistency model does what the clients saw still allow?
//!
//! Depends on nothing else in the crate: keys, values and processes are numbers, instants are numbers that
//! grow. [`check`] looks at what the history holds and runs the checkers that apply:
//!
//! | operations | checker | decided, short of a budget in steps |
//! |---|---|---|
//! | append, list read | `list_append` | given unique appends: read uncommitted and read committed, serializability and snapshot isolation, each plain and in the order of sessions and of real time; PL-2+ (and PL-FCV, with start points free), read atomicity, causal consistency (Cerone's), parallel snapshot isolation, prefix consistency, PL-3U, repeatable read (there are no predicates) |
//! | write, register read, or these with lists | `register` | serializability and snapshot isolation, each plain and in the order of sessions and of real time; where no order of versions is known also read uncommitted and read committed; prefix consistency; read atomicity and causal consistency where each value is written once |
//! | add, reads of sets and counters; queues; transfers and balances of a bank, whose accounts are one object | `linearizability` | linearizability, object by object |
//!
//! Whatever such a model implies holds with it, and whatever implies one that fails fails. Of other models
//! [`Boundary::unexamined`] says that nobody looked; a verdict about one of them is unknown.
//!
//! A checker that a workload asks for by name (bank, seats, linearizability) is called directly. [`online`]
//! judges a history while it happens.
//!
//! [`check`] answers the mathematical question, which a history of which nothing is known satisfies. For people and for CI that is no
//! evidence: [`Report::require_evidence`] counts what was judged, says what was not, and makes a verdict that rests on nothing
//! unknown.

pub mod anomaly;
pub mod explain;
pub mod graph;
pub mod history;
pub mod linearizability;
pub mod list_append;
pub mod online;
pub mod parse;
mod polygraph;
mod refute;
pub mod register;
mod sessions;
mod smallest;
pub mod solver;
mod topology;
mod visibility;
pub mod workload;

use serde::Serialize;

use anomaly::Models;
pub use anomaly::{AnomalyKind, Boundary, Model};
pub use history::{History, HistoryBuilder, KeyId, Object, Op, Skipped, Status, Txn, TxnId};

/// What to check and how hard to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model that [`Report::verdict`] is about.
    pub model: Model,
    /// At most so many anomalies of one kind are explained; all are counted.
    pub examples_max: usize,
    /// The budget of one search, in steps (nodes visited, decisions taken): never wall-clock time, so that the
    /// verdict is the same on every machine.
    pub steps_max: u64,
    /// How to judge the accounts of a bank; without it they are left open.
    pub bank: Option<Bank>,
}

/// What is known of a bank's [accounts](HistoryBuilder::account).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bank {
    /// What all accounts hold together.
    pub total: i64,
    /// Whether one may hold less than nothing.
    pub overdraft: bool,
}

impl Options {
    /// The default effort for a model.
    pub fn new(model: Model) -> Self {
        Options {
            model,
            examples_max: 8,
            steps_max: 20_000_000,
            bank: None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new(Model::StrictSerializable)
    }
}

/// What a check is doing, for those who wait for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Of each key, the order of its versions is told from the reads.
    Versions,
    /// The dependencies between transactions are drawn.
    Dependencies,
    /// Cycles of each class are searched.
    Cycles,
    /// What was found is explained.
    Explanations,
    /// Orders of versions that no read shows are decided.
    Orders,
}

impl Phase {
    /// What is being done, in words.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Versions => "ordering versions",
            Phase::Dependencies => "drawing dependencies",
            Phase::Cycles => "searching for cycles",
            Phase::Explanations => "explaining what was found",
            Phase::Orders => "deciding orders that no read shows",
        }
    }
}

/// Does the history satisfy the model?
///
/// In JSON `true`, `false` or `"unknown"`, as Elle's `:valid?`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It does, as far as the checker is complete for the model.
    Valid,
    /// It does not; the anomalies say why.
    Invalid,
    /// Nothing could be decided; [`Report::notes`] says why.
    Unknown,
}

impl Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Verdict::Valid => serializer.serialize_bool(true),
            Verdict::Invalid => serializer.serialize_bool(false),
            Verdict::Unknown => serializer.serialize_str("unknown"),
        }
    }
}

/// Why one transaction must precede another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Dependency {
    /// `to` wrote the version that follows one of `from`.
    WriteWrite {
        /// The key, as text.
        key: String,
        /// The version that `from` wrote.
        from_value: u64,
        /// The version that `to` wrote.
        to_value: u64,
    },
    /// `to` read a version that `from` wrote.
    WriteRead {
        /// The key, as text.
        key: String,
        /// The version.
        value: u64,
    },
    /// `from` read a version that `to` replaced: an anti-dependency.
    ReadWrite {
        /// The key, as text.
        key: String,
        /// The version that `from` read, `None` for the initial one.
        read: Option<u64>,
        /// The next version, written by `to`.
        written: u64,
    },
    /// The same process ran `from`, then `to`.
    Process {
        /// The process.
        process: u64,
    },
    /// `from` completed before `to` was invoked.
    Realtime {
        /// Instant of the completion.
        complete: u64,
        /// Instant of the invocation.
        invoke: u64,
    },
}

/// One edge of a cycle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// The transaction that must come first.
    pub from: TxnId,
    /// The transaction that must come after it.
    pub to: TxnId,
    /// Why.
    pub because: Dependency,
    /// Why the one of the two versions that it speaks of is the older, where only the order of a session or of time says
    /// so: who wrote the older, who the newer, and their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered_by: Option<Box<Step>>,
}

/// A transaction that an anomaly cites.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Cited {
    /// Its process: a number, or its name.
    pub process: serde_json::Value,
    /// What its client was told: `ok`, `fail` or `info`.
    pub status: &'static str,
    /// Instant of its invocation: of a history from a file, the index of the record, from 0.
    pub invoked: u64,
    /// Instant of its completion, likewise; none if it never completed.
    pub completed: Option<u64>,
}

/// A reason why the history is outside of a model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Anomaly {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: AnomalyKind,
    /// The cycle, if it is one: each step's `to` is the next one's `from`, the last one's is the first's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycle: Vec<Step>,
    /// The transactions that suffice to show it. Of those that [`check`] found among operations on lists none can be
    /// spared: in no smaller [part](History::list_part) does the anomaly show.
    pub transactions: Vec<TxnId>,
    /// The key that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The weakest models that it alone puts the history outside of: those of its kind, and for a cycle also those
    /// that its particular edges contradict.
    pub refutes: Vec<Model>,
    /// Sentences that a person can check by hand.
    pub explanation: String,
}

impl Anomaly {
    /// Does it put the history outside of the model?
    pub fn violates(&self, model: Model) -> bool {
        self.refuted().refute(model)
    }

    fn refuted(&self) -> Models {
        self.refutes.iter().copied().collect()
    }
}

/// How often the checker had a chance to find something: a verdict with zeros here is vacuous.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Exercised {
    /// Transactions that committed or may have.
    pub transactions: u64,
    /// Transactions whose fate the client does not know.
    pub indeterminate: u64,
    /// Transactions that certainly aborted.
    pub failed: u64,
    /// Writes of every sort.
    pub writes: u64,
    /// Reads with a known result.
    pub reads: u64,
    /// Reads that saw somebody's write.
    pub reads_nonempty: u64,
    /// Write dependencies.
    pub edges_ww: u64,
    /// Read dependencies.
    pub edges_wr: u64,
    /// Anti-dependencies.
    pub edges_rw: u64,
}

impl Exercised {
    /// Adds the register operations of the same transactions; of edges, both may have counted the same.
    fn add_operations(&mut self, other: &Exercised) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.reads_nonempty += other.reads_nonempty;
        self.edges_ww = self.edges_ww.max(other.edges_ww);
        self.edges_wr = self.edges_wr.max(other.edges_wr);
        self.edges_rw = self.edges_rw.max(other.edges_rw);
    }
}

/// The outcome of a check.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The model asked about.
    pub model: Model,
    /// Does the history satisfy it, and what was asked for beside it (a bank's total, a property)?
    #[serde(rename = "valid")]
    pub verdict: Verdict,
    /// Every kind found, with at most [`Options::examples_max`] examples of each: those that violate the model
    /// first, and the worst kind first.
    pub anomalies: Vec<Anomaly>,
    /// How many of each kind were found, which may be more than were explained.
    pub counts: std::collections::BTreeMap<&'static str, u64>,
    /// What the anomalies rule out, and what they leave.
    pub boundary: Boundary,
    /// How often anything was tested.
    pub exercised: Exercised,
    /// What the verdict rests on, by its sort: empty until [`Report::require_evidence`].
    pub judged: std::collections::BTreeMap<&'static str, u64>,
    /// What the history holds and nobody judged, likewise.
    pub skipped: Vec<Skipped>,
    /// Reasons for an unknown verdict, and other remarks.
    pub notes: Vec<String>,
    /// What the verdict and the boundary rest on.
    #[serde(skip)]
    ground: Ground,
}

/// What is known of the models.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Ground {
    /// Models that some anomaly refutes.
    refuted: Models,
    /// Models all of whose anomalies were looked for and not found.
    held: Models,
    /// Whether something failed that was asked for whatever the model.
    broken: bool,
}

impl Report {
    /// Assembles a report: sorts the anomalies, draws the boundary, derives the verdict.
    ///
    /// `held` are the models of which everything that they forbid was looked for, so that they hold if no anomaly
    /// speaks against them; `notes` say why others are left open.
    pub fn new(
        options: &Options,
        anomalies: Vec<Anomaly>,
        exercised: Exercised,
        held: impl IntoIterator<Item = Model>,
        notes: Vec<String>,
    ) -> Report {
        let mut counts = std::collections::BTreeMap::new();
        for anomaly in &anomalies {
            *counts.entry(anomaly.kind.name()).or_default() += 1;
        }
        let refuted = anomalies.iter().map(Anomaly::refuted);
        let mut report = Report {
            model: options.model,
            verdict: Verdict::Unknown,
            counts,
            boundary: Boundary::default(),
            exercised,
            judged: std::collections::BTreeMap::new(),
            skipped: Vec::new(),
            notes,
            ground: Ground {
                refuted: refuted.fold(Models::default(), Models::or),
                held: held.into_iter().collect(),
                broken: false,
            },
            anomalies,
        };
        report.conclude();
        report
    }

    /// Sorts the anomalies, draws the boundary and derives the verdict, all from what is known by now.
    fn conclude(&mut self) {
        let model = self.model;
        self.anomalies.sort_by_key(|a| (!a.violates(model), a.kind));
        let Ground {
            refuted,
            held,
            broken,
        } = self.ground;
        self.boundary = Boundary::drawn(refuted, held);
        self.verdict = match broken {
            true => Verdict::Invalid,
            false => self.under_model(),
        };
    }

    /// The verdict on the model alone, without properties that were asked for beside it.
    pub fn under_model(&self) -> Verdict {
        let mut possible = self.boundary.possible.iter();
        if self.ground.refuted.refute(self.model) {
            Verdict::Invalid
        } else if possible.any(|stronger| stronger.implies(self.model)) {
            Verdict::Valid
        } else {
            Verdict::Unknown
        }
    }

    /// Also refutes these models: anomalies that were counted and not explained do.
    fn refute(&mut self, models: Models) {
        self.ground.refuted = self.ground.refuted.or(models);
        self.conclude();
    }

    /// Turns a verdict of valid into unknown, with the reason.
    fn leave_open(&mut self, reason: &str) {
        self.notes.push(reason.into());
        self.ground.held = Models::default();
        self.conclude();
    }

    /// Adds what another checker says of other keys. Of the models that are decided here only linearizability is local
    /// (Herlihy and Wing 1990): it holds of all keys if it holds of each, and it is strict serializability if no
    /// transaction touches two of them.
    fn add_keys(&mut self, other: Report, local: bool) {
        let both = (self.ground.held.and_weaker()).and(other.ground.held.and_weaker());
        let strict = Some(Model::StrictSerializable).filter(|_| local);
        let wanted = strict.into_iter().chain([Model::Linearizable]);
        self.ground.held = wanted.filter(|&model| both.contains(model)).collect();
        self.add_findings(other);
    }

    /// Adds what another checker says of the same history: a model holds if either shows it.
    fn add_opinion(&mut self, other: Report) {
        self.ground.held = self.ground.held.or(other.ground.held);
        self.add_findings(other);
    }

    fn add_findings(&mut self, other: Report) {
        for (kind, count) in other.counts {
            let known = self.counts.entry(kind).or_default();
            *known = count.max(*known);
        }
        let known = self.anomalies.clone();
        let new = other
            .anomalies
            .into_iter()
            .filter(|anomaly| !known.contains(anomaly));
        self.anomalies.extend(new);
        self.exercised.add_operations(&other.exercised);
        self.notes.extend(other.notes);
        self.ground.refuted = self.ground.refuted.or(other.ground.refuted);
        self.ground.broken |= other.ground.broken;
        self.conclude();
    }

    /// Adds what the reads of all accounts say, whatever the model.
    fn add_bank(&mut self, history: &History, bank: Bank, options: &Options) {
        let accounts = history.accounts().iter();
        let accounts: Vec<u64> = accounts.map(|&key| history.key_value(key)).collect();
        let audit = workload::bank(history, &accounts, bank.total, bank.overdraft);
        if audit.judged > 0 {
            self.judged.insert("reads of all accounts", audit.judged);
        }
        if audit.partial > 0 {
            self.skipped.push(Skipped {
                what: "reads of some accounts".into(),
                count: audit.partial,
                why: "only reads of all have the total",
            });
        }
        let broken = !audit.anomalies.is_empty();
        let mut of_bank = Report::new(
            options,
            audit.anomalies,
            Exercised::default(),
            [],
            Vec::new(),
        );
        of_bank.ground.broken = broken;
        self.add_opinion(of_bank);
        if audit.judged == 0 {
            self.leave_open(
                "no transaction read all accounts: their total was compared with nothing",
            );
            return;
        }
        self.notes.push(format!(
            "{} reads of all {} accounts were judged: that they sum up to {}{}",
            audit.judged,
            accounts.len(),
            bank.total,
            match bank.overdraft {
                true => "",
                false => ", and none is below zero",
            },
        ));
    }

    /// Decides a model with sessions by the same one without.
    fn add_sessions(
        &mut self,
        history: &History,
        (options, twin): (&Options, Model),
        observer: &mut dyn FnMut(Phase),
    ) {
        let Some(told) = sessions::as_reads(history, options.model) else {
            return;
        };
        let asked = Options {
            model: twin,
            ..*options
        };
        let found = check_versions(&told, &asked, observer);
        let model = options.model;
        let of_model = found
            .anomalies
            .into_iter()
            .filter(|anomaly| anomaly.violates(twin));
        let anomalies = of_model.map(|anomaly| Anomaly {
            kind: AnomalyKind::NotInSessionOrder,
            refutes: vec![model],
            explanation: format!(
                "What a session did before is written as reads of keys of its own.\n{}",
                anomaly.explanation
            ),
            ..anomaly
        });
        let held = (found.verdict == Verdict::Valid).then_some(model);
        let about = format!("{model}: ");
        let notes = match found.verdict {
            Verdict::Unknown => found.notes,
            _ => Vec::new(),
        };
        let notes = notes
            .into_iter()
            .map(|note| note.replace(&format!("{twin}: "), &about));
        let notes: Vec<String> = notes.filter(|note| !self.notes.contains(note)).collect();
        // What left it open without sessions is answered, or said again.
        self.notes.retain(|note| !note.starts_with(&about));
        let exercised = Exercised::default();
        self.add_opinion(Report::new(
            options,
            anomalies.collect(),
            exercised,
            held,
            notes,
        ));
    }

    /// Counts what the verdict rests on and what was left out, and makes a verdict of valid unknown where nothing was judged:
    /// no transaction that may have happened did anything, or a total was compared with nothing.
    pub fn require_evidence(&mut self, history: &History) {
        let mut failed = 0;
        let (mut idle, mut unknown) = (0, 0);
        let (mut transactions, mut reads, mut writes) = (0u64, 0u64, 0u64);
        for txn in history.txns() {
            if !txn.may_have_happened() {
                failed += 1;
                continue;
            }
            let (mut results, mut effects, mut unread) = (0, 0, 0);
            for op in txn.ops() {
                match op {
                    Op::ReadUnknown { .. } => unread += 1,
                    Op::Read { .. } | Op::ReadList { .. } | Op::Dequeue { .. } => results += 1,
                    Op::Cas { .. } => {
                        results += 1;
                        effects += 1;
                    }
                    _ => effects += 1,
                }
            }
            let is_map = history.balances().contains(&txn.id);
            idle += u64::from(results + effects + unread == 0 && !is_map);
            unknown += unread;
            transactions += u64::from(results + effects > 0);
            reads += results;
            writes += effects;
        }
        let counted = [
            ("transactions", transactions),
            ("reads", reads),
            ("writes", writes),
        ];
        self.judged
            .extend(counted.into_iter().filter(|&(_, count)| count > 0));
        let left_out = [
            (
                "failed transactions",
                failed,
                "they certainly had no effect",
            ),
            (
                "transactions without operations",
                idle,
                "there is nothing to judge in them",
            ),
            (
                "reads without a result",
                unknown,
                "nobody knows what they returned",
            ),
        ];
        self.skipped.extend(history.skipped().iter().cloned());
        for (what, count, why) in left_out {
            if count > 0 {
                let what = what.into();
                self.skipped.push(Skipped { what, count, why });
            }
        }
        self.notes.extend(history.remarks().iter().cloned());
        if reads == 0 && transactions > 0 {
            self.notes
                .push("nothing was read: that writes were kept was not put to the test".into());
        }
        if self.judged.is_empty() && self.verdict == Verdict::Valid {
            self.leave_open(
                "nothing was judged: no transaction that may have happened did anything",
            );
        }
    }

    /// Adds what a property that was asked for by name says of the history: it breaks the verdict whatever the model.
    ///
    /// # Errors
    /// If the history holds nothing that the property looks at.
    pub fn add_property(
        &mut self,
        history: &History,
        property: workload::Property,
        options: &Options,
    ) -> Result<(), workload::Unfit> {
        let (judged, found) = property.judge(history)?;
        let broken = !found.is_empty();
        self.notes.push(format!(
            "{}: {} violations in {judged} {}",
            property.name(),
            found.len(),
            property.looks_at(),
        ));
        self.judged.insert(property.name(), judged);
        let mut report = Report::new(options, found, Exercised::default(), [], Vec::new());
        let mut shown = std::collections::BTreeMap::<AnomalyKind, usize>::new();
        report.anomalies.retain(|anomaly| {
            let shown = shown.entry(anomaly.kind).or_default();
            *shown += 1;
            *shown <= options.examples_max
        });
        report.ground.broken = broken;
        self.add_opinion(report);
        Ok(())
    }

    /// The transactions that the anomalies cite, by their numbers.
    pub fn cited(&self, history: &History) -> std::collections::BTreeMap<TxnId, Cited> {
        let cited = self.anomalies.iter().flat_map(|anomaly| {
            let steps = anomaly.cycle.iter().flat_map(|step| {
                let order = step.ordered_by.as_deref();
                order
                    .into_iter()
                    .chain([step])
                    .flat_map(|step| [step.from, step.to])
            });
            steps.chain(anomaly.transactions.iter().copied())
        });
        let cite = |id: TxnId| {
            let header = history.header(id);
            let cited = Cited {
                process: history.json_value(header.process),
                status: header.status.name(),
                invoked: header.invoke,
                completed: Some(header.complete).filter(|&at| at != history::NEVER),
            };
            (id, cited)
        };
        cited.map(cite).collect()
    }

    /// Was an anomaly of this kind found?
    pub fn found(&self, kind: AnomalyKind) -> bool {
        self.anomalies.iter().any(|a| a.kind == kind)
    }
}

/// Checks a history against a model: lists by [`list_append`], registers by [`register`], which also
/// decides lists beside registers, and lists whose unread appends exceed the budget of their own checker; linearizability, and
/// whatever is added to (sets, counters, a bank's accounts), by [`linearizability`].
///
/// The parts of a mixed history are judged together, but for what is added to, which is judged key by key: that decides strict
/// serializability where each transaction touches one key, and otherwise leaves a verdict of unknown.
pub fn check(history: &History, options: &Options) -> Report {
    check_observed(history, options, &mut |_| {})
}

/// The same, which tells an observer of each phase when it begins.
pub fn check_observed(
    history: &History,
    options: &Options,
    observer: &mut dyn FnMut(Phase),
) -> Report {
    let mut report = check_keys(history, options, observer);
    if report.verdict == Verdict::Unknown
        && let Some(sessions::Found { anomalies, open }) = sessions::judge(history, options.model)
    {
        let held = open.is_none().then_some(options.model);
        if open.is_none() {
            // What left it open before is answered.
            let about = format!("{}: ", options.model);
            report.notes.retain(|note| !note.starts_with(&about));
        }
        let notes = open.map(|why| format!("{}: {why}", options.model));
        let notes = notes.into_iter().collect();
        let found = Report::new(options, anomalies, Exercised::default(), held, notes);
        report.add_opinion(found);
    }
    if report.verdict == Verdict::Unknown
        && let Some(twin) = sessions::without_sessions(options.model)
    {
        report.add_sessions(history, (options, twin), observer);
    }
    match options.bank {
        Some(bank) => report.add_bank(history, bank, options),
        None if !history.accounts().is_empty() => {
            let note = "what all accounts hold together was not judged: --bank-total says what it has to be";
            report.notes.push(note.into());
        }
        None => {}
    }
    report
}

/// The same without a bank's total.
fn check_keys(history: &History, options: &Options, observer: &mut dyn FnMut(Phase)) -> Report {
    let objects = history.objects();
    let is_versioned = |key: KeyId| {
        matches!(
            objects[key as usize],
            None | Some(Object::List | Object::Register)
        )
    };
    if options.model == Model::Linearizable {
        observer(Phase::Orders);
        return linearizability::check(history, options);
    }
    if (0..history.key_count() as KeyId).all(is_versioned) {
        let mut report = check_versions(history, options, observer);
        if report.exercised.transactions == 0 {
            let nothing = "nothing to check: no transaction committed or may have";
            report.notes.push(nothing.into());
        }
        return report;
    }
    let others = history.keys_part(|key| !is_versioned(key));
    let (mut report, linearizable) = check_objects(&others, options);
    if (0..history.key_count() as KeyId).any(is_versioned) {
        let versions = history.keys_part(is_versioned);
        let objects = report;
        report = check_versions(&versions, options, observer);
        report.add_keys(objects, history.is_local());
    }
    if report.verdict == Verdict::Unknown && linearizable != Verdict::Unknown {
        let note = "sets, counters, queues and banks are judged one by one, which cannot prove it of these transactions";
        report.notes.push(note.into());
    }
    report
}

/// Checks what has versions: lists and registers.
fn check_versions(history: &History, options: &Options, observer: &mut dyn FnMut(Phase)) -> Report {
    let any = |wanted: fn(history::Kind) -> bool| history.kinds.iter().any(|&kind| wanted(kind));
    let (lists, registers) = (any(|kind| kind.is_list()), any(|kind| kind.is_register()));
    let initial = history.has_initial_values();
    let replaced = initial.then(|| history.without_initial_values());
    let written_again = matches!(replaced, Some(None));
    if registers
        && !lists
        && history.is_local()
        && (written_again || register::values_repeat(history))
    {
        observer(Phase::Orders);
        let (report, linearizable) = check_objects(history, options);
        let decided = match linearizable {
            Verdict::Valid => Model::StrictSerializable.implies(options.model),
            Verdict::Invalid => {
                report.verdict == Verdict::Invalid && history.len() > ALL_LEVELS_TXNS_MAX
            }
            Verdict::Unknown => false,
        };
        if decided || written_again {
            return report;
        }
    }
    if written_again {
        let note = "a register was written what it held at first, so that it is open which of the two was read";
        let counts = linearizability::check(history, options).exercised;
        return Report::new(options, Vec::new(), counts, [], vec![note.into()]);
    }
    let replaced = replaced.flatten();
    let history = replaced.as_ref().unwrap_or(history);
    let mut report = match lists || !registers {
        true => list_append::check_observed(history, options, observer),
        false => {
            observer(Phase::Orders);
            register::check(history, options)
        }
    };
    if lists {
        smallest::shrink(history, &mut report);
    }
    if lists && registers {
        // Nothing is shown to hold by lists alone.
        report.ground.held = Models::default();
        report.conclude();
    }
    // Lists alone are decided exactly, short of a budget; only beside registers is more to find.
    let unsettled = || report.verdict == Verdict::Unknown && register::leaves_order_open(history);
    let open = lists && (registers || unsettled());
    if open && report.verdict != Verdict::Invalid {
        observer(Phase::Orders);
        report.add_opinion(register::check(history, options));
    }
    report
}

/// A shorter history that is not linearizable is also held against the other models, where repeated values cost the square of the
/// number of writes to a key.
const ALL_LEVELS_TXNS_MAX: usize = 200;

/// What linearizability, object by object, says of the model, and whether it holds. Where each transaction touches one object it is
/// strict serializability (Herlihy and Wing 1990), and its search does not mind from whom a repeated value was read.
fn check_objects(history: &History, options: &Options) -> (Report, Verdict) {
    let linearizable = Options {
        model: Model::Linearizable,
        ..*options
    };
    let found = linearizability::check(history, &linearizable);
    let local = found.verdict == Verdict::Valid && history.is_local();
    let held = local.then_some(Model::StrictSerializable);
    let mut report = Report::new(options, found.anomalies, found.exercised, held, found.notes);
    report.ground.held = report.ground.held.or(found.ground.held);
    report.conclude();
    (report, found.verdict)
}
