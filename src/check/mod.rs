//! Checkers of histories: which consistency model does what the clients saw still allow?
//!
//! Depends on nothing else in the crate: keys, values and processes are numbers, instants are numbers that
//! grow. [`check`] looks at what the history holds and runs the checkers that apply:
//!
//! | operations | checker | complete for |
//! |---|---|---|
//! | append, list read | `list_append` | every model, given unique appends |
//! | write, register read | `register` | serializability, its strict form, snapshot isolation |
//!
//! A checker that a workload asks for by name (bank, seats, linearizability) is called directly. [`online`]
//! judges a history while it happens.

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
mod smallest;
pub mod solver;
mod topology;
pub mod workload;

use serde::Serialize;

pub use anomaly::{AnomalyKind, Boundary, Model};
pub use history::{History, HistoryBuilder, KeyId, Op, Status, Txn, TxnId};

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
    /// Sentences that a person can check by hand.
    pub explanation: String,
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
    /// Does the history satisfy it?
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
    /// Reasons for an unknown verdict, and other remarks.
    pub notes: Vec<String>,
}

impl Report {
    /// Assembles a report: sorts the anomalies, draws the boundary, derives the verdict.
    ///
    /// `undecided` holds reasons why the absence of anomalies would prove nothing.
    pub fn new(
        options: &Options,
        mut anomalies: Vec<Anomaly>,
        exercised: Exercised,
        undecided: Vec<String>,
    ) -> Report {
        let mut counts = std::collections::BTreeMap::new();
        for anomaly in &anomalies {
            *counts.entry(anomaly.kind.name()).or_default() += 1;
        }
        anomalies.sort_by_key(|a| (!options.model.forbids(a.kind), a.kind));
        let violates = anomalies.iter().any(|a| options.model.forbids(a.kind));
        let boundary = Boundary::of(anomalies.iter().map(|a| a.kind));
        Report {
            model: options.model,
            verdict: match (violates, undecided.is_empty()) {
                (true, _) => Verdict::Invalid,
                (false, true) => Verdict::Valid,
                (false, false) => Verdict::Unknown,
            },
            anomalies,
            counts,
            boundary,
            exercised,
            notes: undecided,
        }
    }

    /// Turns a verdict of valid into unknown, with the reason.
    fn leave_open(&mut self, reason: &str) {
        self.notes.push(reason.into());
        if self.verdict == Verdict::Valid {
            self.verdict = Verdict::Unknown;
        }
    }

    /// Adds what another checker says of the same history, or of another part of it.
    fn add(&mut self, other: Report, options: &Options) {
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
        self.anomalies
            .sort_by_key(|a| (!options.model.forbids(a.kind), a.kind));
        self.boundary = Boundary::of(self.anomalies.iter().map(|a| a.kind));
        self.exercised.add_operations(&other.exercised);
        self.notes.extend(other.notes);
        self.verdict = match (self.verdict, other.verdict) {
            (Verdict::Invalid, _) | (_, Verdict::Invalid) => Verdict::Invalid,
            (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
            (Verdict::Valid, Verdict::Valid) => Verdict::Valid,
        };
    }

    /// Adds what the reads of all accounts say, whatever the model.
    fn add_bank(&mut self, history: &History, bank: Bank, options: &Options) {
        let accounts = history.accounts().iter();
        let accounts: Vec<u64> = accounts.map(|&key| history.key_value(key)).collect();
        let anomalies = workload::bank(history, &accounts, bank.total, bank.overdraft);
        let broken = !anomalies.is_empty();
        let mut of_bank = Report::new(options, anomalies, Exercised::default(), Vec::new());
        if broken {
            of_bank.verdict = Verdict::Invalid;
        }
        self.add(of_bank, options);
        self.notes.push(format!(
            "of {} accounts, reads of all of them at once were judged: that they sum up to {}{}",
            accounts.len(),
            bank.total,
            if bank.overdraft {
                ""
            } else {
                ", and none is below zero"
            },
        ));
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
    let (added, accounts) = (history.added_keys(), history.accounts());
    if !accounts.is_empty() {
        let others = history.keys_part(|key| !accounts.contains(&key));
        let mut report = check_observed(&others, options, observer);
        match options.bank {
            Some(bank) => report.add_bank(history, bank, options),
            None => report.leave_open("accounts were not judged: say what they hold in all"),
        }
        return report;
    }
    if options.model == Model::Linearizable {
        observer(Phase::Orders);
        return linearizability::check(history, options);
    }
    if added.is_empty() {
        return check_versions(history, options, observer);
    }
    let versions = history.keys_part(|key| !added.contains(&key));
    let mut report = check_versions(&versions, options, observer);
    let (objects, linearizable) =
        check_objects(&history.keys_part(|key| added.contains(&key)), options);
    report.add(objects, options);
    if linearizable != Verdict::Valid || !history.is_local() {
        report.leave_open(
            "sets and counters are judged key by key, which cannot prove it of these transactions",
        );
    }
    report
}

/// Checks what has versions: lists and registers.
fn check_versions(history: &History, options: &Options, observer: &mut dyn FnMut(Phase)) -> Report {
    let any = |wanted: fn(history::Kind) -> bool| history.kinds.iter().any(|&kind| wanted(kind));
    let (lists, registers) = (any(|kind| kind.is_list()), any(|kind| kind.is_register()));
    if registers && !lists && history.is_local() && register::values_repeat(history) {
        observer(Phase::Orders);
        let (report, linearizable) = check_objects(history, options);
        let decided = match linearizable {
            Verdict::Valid => Model::StrictSerializable.implies(options.model),
            Verdict::Invalid => {
                report.verdict == Verdict::Invalid && history.len() > ALL_LEVELS_TXNS_MAX
            }
            Verdict::Unknown => false,
        };
        if decided {
            return report;
        }
    }
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
    // Lists alone are decided exactly, short of a budget; only beside registers is more to find.
    let unsettled = || {
        report.verdict == Verdict::Unknown
            && register::decides(options.model)
            && register::leaves_order_open(history)
    };
    let open = lists && (registers || unsettled());
    if open && report.verdict != Verdict::Invalid {
        observer(Phase::Orders);
        report.add(register::check(history, options), options);
    }
    report
}

/// A shorter history that is not linearizable is also held against the other models, where repeated values cost the square of the
/// number of writes to a key.
const ALL_LEVELS_TXNS_MAX: usize = 200;

/// What linearizability, key by key, says of the model, and whether it holds. Where each transaction touches one key it is strict
/// serializability (Herlihy and Wing 1990), and its search does not mind from whom a repeated value was read.
fn check_objects(history: &History, options: &Options) -> (Report, Verdict) {
    let linearizable = Options {
        model: Model::Linearizable,
        ..*options
    };
    let found = linearizability::check(history, &linearizable);
    let report = Report::new(options, found.anomalies, found.exercised, found.notes);
    (report, found.verdict)
}
