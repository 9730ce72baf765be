//! Names: consistency models, anomalies, and which of them implies or forbids which.
//!
//! Three relations, each given by its direct members and closed by [`Model::implied`] and its kin:
//! a model implies weaker models; an anomaly is also another, more general one; a model proscribes
//! anomalies. Sources: Adya, *Weak Consistency* (PhD thesis, MIT 1999); Bailis et al., *Highly Available
//! Transactions* (VLDB 2013); Cerone, Bernardi, Gotsman, *A Framework for Transactional Consistency Models
//! with Atomic Visibility* (CONCUR 2015); Cerone, Gotsman, *Analysing Snapshot Isolation* (PODC 2016);
//! Daudjee, Salem (ICDE 2004, VLDB 2006); Kingsbury, Alvaro, *Elle* (VLDB 2020). Where these leave a choice
//! we take Elle's: "serializable" is conflict-serializable (PL-3) and snapshot isolation is generalised
//! (a snapshot may be old), which forbids every cycle whose anti-dependencies are nowhere adjacent.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

macro_rules! named {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $type { $($(#[$doc])* $variant,)* }

        impl $type {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The name, as it is written in reports and options.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            fn bit(self) -> u64 {
                1 << self as u8
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

named! {
    /// A consistency model: a set of histories.
    Model {
        /// PL-1: no dirty writes.
        ReadUncommitted = "read-uncommitted",
        /// PL-2: no dirty reads either.
        ReadCommitted = "read-committed",
        /// PL-1 whose order respects sessions.
        StrongSessionReadUncommitted = "strong-session-read-uncommitted",
        /// PL-2 whose order respects sessions.
        StrongSessionReadCommitted = "strong-session-read-committed",
        /// PL-1 whose order respects real time.
        StrongReadUncommitted = "strong-read-uncommitted",
        /// PL-2 whose order respects real time.
        StrongReadCommitted = "strong-read-committed",
        /// PL-CS: no lost updates through a cursor.
        CursorStability = "cursor-stability",
        /// PL-2L, Adya.
        MonotonicView = "monotonic-view",
        /// PL-MSR, Adya.
        MonotonicSnapshotRead = "monotonic-snapshot-read",
        /// PL-2+: all of a transaction's effects, or none, and all that it depended on.
        ConsistentView = "consistent-view",
        /// PL-FCV, Adya.
        ForwardConsistentView = "forward-consistent-view",
        /// Once some of a transaction's effects are seen, all are. Bailis.
        MonotonicAtomicView = "monotonic-atomic-view",
        /// Reads see all or none of a transaction (no fractured reads). Cerone, Bailis (RAMP).
        ReadAtomicNoSession = "read-atomic-no-session",
        /// The same, where a session also sees its own past. Biswas and Enea.
        ReadAtomic = "read-atomic",
        /// Read atomic, and causally transitive. Cerone.
        CausalConsistencyNoSession = "causal-consistency-no-session",
        /// The same, where a session's past is among the causes. Biswas and Enea.
        CausalConsistency = "causal-consistency",
        /// Read atomic without lost updates. Cerone, ROLA.
        UpdateAtomic = "update-atomic",
        /// Snapshots that need not agree on the order of independent writers. Sovran, Cerone.
        ParallelSnapshotIsolation = "parallel-snapshot-isolation",
        /// Snapshots are prefixes of one order. Cerone.
        PrefixNoSession = "prefix-no-session",
        /// The same, where a session's snapshots hold its past. Biswas and Enea.
        Prefix = "prefix",
        /// PL-2.99: serializable but for predicates.
        RepeatableRead = "repeatable-read",
        /// PL-SI, generalised.
        SnapshotIsolation = "snapshot-isolation",
        /// PL-3U: the updaters, with any one reader, are serializable.
        UpdateSerializable = "update-serializable",
        /// PL-3, conflict serializability.
        Serializable = "serializable",
        /// Snapshot isolation whose snapshots hold the session's past.
        StrongSessionSnapshotIsolation = "strong-session-snapshot-isolation",
        /// Snapshot isolation whose snapshots hold all that completed before.
        StrongSnapshotIsolation = "strong-snapshot-isolation",
        /// Serializable in an order that respects sessions.
        StrongSessionSerializable = "strong-session-serializable",
        /// Serializable in an order that respects real time (linearizable transactions).
        StrictSerializable = "strict-serializable",
        /// Every object on its own is atomic in real time. Herlihy, Wing 1990.
        Linearizable = "linearizable",
        /// Every object on its own is atomic in some order that respects processes. Lamport 1979.
        Sequential = "sequential",
        /// Causal memory: PRAM and writes follow reads. Not comparable with causal consistency, which has one order for all.
        CausalMemory = "causal-memory",
        /// Pipelined memory: reads and writes of a session in its order.
        Pram = "pram",
        /// A session does not go back in time.
        MonotonicReads = "monotonic-reads",
        /// A session's writes are seen in its order.
        MonotonicWrites = "monotonic-writes",
        /// A session sees its own writes.
        ReadYourWrites = "read-your-writes",
        /// Who sees a write sees what its writer had read.
        WritesFollowReads = "writes-follow-reads",
    }
}

named! {
    /// A reason why a history is outside of some model.
    AnomalyKind {
        /// A cycle of write dependencies: a dirty write.
        G0 = "G0",
        /// G0 with session edges.
        G0Process = "G0-process",
        /// G0 with real-time edges.
        G0Realtime = "G0-realtime",
        /// A read of something that an aborted transaction wrote.
        G1a = "G1a",
        /// A read of a version that was not its writer's last.
        G1b = "G1b",
        /// A cycle of write and read dependencies.
        G1c = "G1c",
        /// G1c with session edges.
        G1cProcess = "G1c-process",
        /// G1c with real-time edges.
        G1cRealtime = "G1c-realtime",
        /// A cycle with exactly one anti-dependency: read skew.
        GSingle = "G-single-item",
        /// G-single with session edges.
        GSingleProcess = "G-single-item-process",
        /// G-single with real-time edges.
        GSingleRealtime = "G-single-item-realtime",
        /// A cycle whose anti-dependencies, two or more, are nowhere adjacent.
        GNonadjacent = "G-nonadjacent-item",
        /// G-nonadjacent with session edges.
        GNonadjacentProcess = "G-nonadjacent-item-process",
        /// G-nonadjacent with real-time edges.
        GNonadjacentRealtime = "G-nonadjacent-item-realtime",
        /// A cycle with adjacent anti-dependencies.
        G2Item = "G2-item",
        /// G2-item with session edges.
        G2ItemProcess = "G2-item-process",
        /// G2-item with real-time edges.
        G2ItemRealtime = "G2-item-realtime",
        /// Two transactions read one version and both replaced it.
        LostUpdate = "lost-update",
        /// Two transactions read what the other then overwrote, on different keys.
        WriteSkew = "write-skew",
        /// A transaction disagrees with its own earlier operations.
        Internal = "internal",
        /// A transaction read what it was only going to write.
        FutureRead = "future-read",
        /// A committed version was built on an aborted transaction's.
        DirtyUpdate = "dirty-update",
        /// Two reads of a key, neither a prefix of the other.
        IncompatibleOrder = "incompatible-order",
        /// A read that holds an element twice.
        DuplicateElements = "duplicate-elements",
        /// A read of a value that nobody wrote.
        GarbageRead = "garbage-read",
        /// The inferred order of a key's versions has a cycle.
        CyclicVersions = "cyclic-versions",
        /// No order of versions makes the history causally consistent, though one makes it read atomic.
        NotCausallyConsistent = "no-causally-consistent-order",
        /// Sessions see their own past in no execution of the model.
        NotInSessionOrder = "no-session-order",
        /// No order of versions makes the history prefix consistent.
        NotPrefixConsistent = "no-prefix-consistent-order",
        /// No order of versions makes the history snapshot isolated.
        NotSnapshotIsolated = "no-snapshot-isolated-order",
        /// No order of versions makes the history snapshot isolated in session order.
        NotStrongSessionSnapshotIsolated = "no-strong-session-snapshot-isolated-order",
        /// No order of versions makes the history snapshot isolated in real time.
        NotStrongSnapshotIsolated = "no-strong-snapshot-isolated-order",
        /// No order of versions makes the history serializable.
        NotSerializable = "no-serial-order",
        /// No order of versions makes the history serializable in session order.
        NotStrongSessionSerializable = "no-strong-session-serial-order",
        /// No order of versions makes the history serializable in real time.
        NotStrictSerializable = "no-strict-serial-order",
        /// No linearization of a key exists.
        NotLinearizable = "nonlinearizable",
        /// A read saw part of a transaction's effects.
        FracturedRead = "fractured-read",
        /// Two readers saw two independent writes in opposite orders.
        LongFork = "long-fork",
        /// A write was seen without one that had completed before it.
        CausalReverse = "causal-reverse",
        /// A session went back in time.
        NonMonotonicRead = "non-monotonic-read",
        /// A session's writes were seen out of its order.
        NonMonotonicWrite = "non-monotonic-write",
        /// A session did not see its own write.
        ReadYourWritesViolation = "read-your-writes-violation",
        /// A write was seen without what its writer had read.
        WritesFollowReadsViolation = "writes-follow-reads-violation",
        /// Balances do not add up to the constant total.
        WrongTotal = "wrong-total",
        /// An account without a balance, in a read of all.
        NilBalance = "nil-balance",
        /// A balance below zero where none may be.
        NegativeBalance = "negative-balance",
        /// More was sold than there was.
        Oversold = "oversold",
        /// An acknowledged element is missing from a later read.
        LostElement = "lost-element",
    }
}

impl AnomalyKind {
    /// Is an anomaly of this kind also one of the other?
    pub fn implies(self, other: AnomalyKind) -> bool {
        implied_kinds(self) & other.bit() != 0
    }

    /// The weakest models that an anomaly of this kind, whatever its particulars, puts a history outside of.
    pub fn refutes(self) -> Vec<Model> {
        let direct = Models(violated_directly(self));
        Boundary::drawn(direct, Models::default()).violated
    }

    /// The next more general kinds.
    fn directly_implies(self) -> &'static [AnomalyKind] {
        use AnomalyKind::*;
        match self {
            G0 => &[G1c, G0Process],
            G0Process => &[G1cProcess, G0Realtime],
            G0Realtime => &[G1cRealtime],
            G1c => &[G1cProcess],
            G1cProcess => &[G1cRealtime],
            GSingle => &[GSingleProcess, GNonadjacent],
            GSingleProcess => &[GSingleRealtime, GNonadjacentProcess],
            GSingleRealtime => &[GNonadjacentRealtime],
            GNonadjacent => &[G2Item, GNonadjacentProcess],
            GNonadjacentProcess => &[G2ItemProcess, GNonadjacentRealtime],
            GNonadjacentRealtime => &[G2ItemRealtime],
            G2Item => &[G2ItemProcess],
            G2ItemProcess => &[G2ItemRealtime],
            LostUpdate | WriteSkew => &[G2Item],
            FutureRead => &[G1c],
            DirtyUpdate | IncompatibleOrder | GarbageRead => &[G1a],
            FracturedRead | NotCausallyConsistent => &[GSingle],
            LongFork => &[GNonadjacent],
            NotPrefixConsistent => &[NotSnapshotIsolated],
            NotSnapshotIsolated => &[NotStrongSessionSnapshotIsolated, NotSerializable],
            NotStrongSessionSnapshotIsolated => {
                &[NotStrongSnapshotIsolated, NotStrongSessionSerializable]
            }
            NotStrongSnapshotIsolated => &[NotStrictSerializable],
            NotSerializable => &[NotStrongSessionSerializable],
            NotStrongSessionSerializable => &[NotStrictSerializable],
            _ => &[],
        }
    }
}

impl Model {
    /// The next weaker models: whatever satisfies `self` satisfies these.
    fn directly_implies(self) -> &'static [Model] {
        use Model::*;
        match self {
            ReadUncommitted => &[],
            ReadCommitted => &[ReadUncommitted],
            StrongSessionReadUncommitted => &[ReadUncommitted],
            StrongSessionReadCommitted => &[ReadCommitted, StrongSessionReadUncommitted],
            StrongReadUncommitted => &[StrongSessionReadUncommitted],
            StrongReadCommitted => &[StrongSessionReadCommitted, StrongReadUncommitted],
            CursorStability | MonotonicView | MonotonicSnapshotRead | MonotonicAtomicView => {
                &[ReadCommitted]
            }
            ConsistentView => &[CursorStability, MonotonicView],
            ForwardConsistentView => &[ConsistentView],
            ReadAtomicNoSession => &[MonotonicAtomicView],
            ReadAtomic => &[ReadAtomicNoSession],
            CausalConsistencyNoSession | UpdateAtomic => &[ReadAtomicNoSession],
            CausalConsistency => &[CausalConsistencyNoSession, ReadAtomic],
            ParallelSnapshotIsolation => {
                &[CausalConsistencyNoSession, UpdateAtomic, ConsistentView]
            }
            PrefixNoSession => &[CausalConsistencyNoSession],
            Prefix => &[PrefixNoSession, CausalConsistency],
            RepeatableRead => &[CursorStability, MonotonicAtomicView],
            SnapshotIsolation => &[
                ForwardConsistentView,
                MonotonicSnapshotRead,
                ParallelSnapshotIsolation,
                PrefixNoSession,
            ],
            UpdateSerializable => &[ForwardConsistentView],
            Serializable => &[RepeatableRead, SnapshotIsolation, UpdateSerializable],
            StrongSessionSnapshotIsolation => {
                &[SnapshotIsolation, StrongSessionReadCommitted, Prefix]
            }
            StrongSnapshotIsolation => &[StrongSessionSnapshotIsolation, StrongReadCommitted],
            StrongSessionSerializable => {
                &[Serializable, StrongSessionSnapshotIsolation, Sequential]
            }
            StrictSerializable => &[
                StrongSessionSerializable,
                StrongSnapshotIsolation,
                Linearizable,
            ],
            Linearizable => &[Sequential],
            Sequential => &[CausalMemory],
            CausalMemory => &[WritesFollowReads, Pram],
            Pram => &[MonotonicReads, MonotonicWrites, ReadYourWrites],
            MonotonicReads | MonotonicWrites | ReadYourWrites | WritesFollowReads => &[],
        }
    }

    /// What this model forbids beyond its weaker ones.
    fn directly_proscribes(self) -> &'static [AnomalyKind] {
        use AnomalyKind::*;
        match self {
            Model::ReadUncommitted => &[G0, DuplicateElements, CyclicVersions],
            Model::ReadCommitted => &[G1a, G1b, G1c],
            Model::StrongSessionReadUncommitted => &[G0Process],
            Model::StrongSessionReadCommitted => &[G1cProcess],
            Model::StrongReadUncommitted => &[G0Realtime],
            Model::StrongReadCommitted => &[G1cRealtime],
            Model::CursorStability | Model::UpdateAtomic => &[LostUpdate],
            Model::MonotonicView | Model::MonotonicSnapshotRead | Model::MonotonicAtomicView => &[],
            Model::ConsistentView => &[GSingle],
            Model::ForwardConsistentView => &[],
            Model::UpdateSerializable => &[Internal],
            Model::ReadAtomicNoSession => &[Internal, FutureRead, FracturedRead],
            Model::CausalConsistencyNoSession => &[NotCausallyConsistent],
            Model::ReadAtomic | Model::CausalConsistency => &[],
            Model::ParallelSnapshotIsolation => &[],
            Model::PrefixNoSession => &[LongFork, NotPrefixConsistent],
            Model::Prefix => &[NotInSessionOrder],
            Model::RepeatableRead => &[G2Item, LostUpdate, Internal, NotSerializable],
            Model::SnapshotIsolation => &[GNonadjacent, NotSnapshotIsolated],
            Model::Serializable => &[NotSerializable, WriteSkew],
            Model::StrongSessionSnapshotIsolation => {
                &[GNonadjacentProcess, NotStrongSessionSnapshotIsolated]
            }
            Model::StrongSnapshotIsolation => &[GNonadjacentRealtime, NotStrongSnapshotIsolated],
            Model::StrongSessionSerializable => &[G2ItemProcess, NotStrongSessionSerializable],
            Model::StrictSerializable => &[G2ItemRealtime, NotStrictSerializable, CausalReverse],
            Model::Linearizable => &[NotLinearizable],
            Model::Sequential | Model::CausalMemory | Model::Pram => &[],
            Model::MonotonicReads => &[NonMonotonicRead],
            Model::MonotonicWrites => &[NonMonotonicWrite],
            Model::ReadYourWrites => &[ReadYourWritesViolation],
            Model::WritesFollowReads => &[WritesFollowReadsViolation],
        }
    }

    /// Every model that `self` implies, itself included.
    pub fn implied(self) -> Vec<Model> {
        Self::members(self.closure())
    }

    /// Is every history that satisfies `self` one that satisfies `other`?
    pub fn implies(self, other: Model) -> bool {
        self.closure() & other.bit() != 0
    }

    /// Does a history with such an anomaly violate the model?
    pub fn forbids(self, anomaly: AnomalyKind) -> bool {
        self.closure() & violated_directly(anomaly) != 0
    }

    fn closure(self) -> u64 {
        static CLOSURES: LazyLock<Vec<u64>> = LazyLock::new(|| {
            closures(Model::ALL, |model| {
                bits(model.directly_implies(), Model::bit)
            })
        });
        CLOSURES[self as usize]
    }

    fn members(set: u64) -> Vec<Model> {
        let all = Model::ALL.iter().copied();
        all.filter(|model| set & model.bit() != 0).collect()
    }
}

/// The text is not a model's name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown consistency model {0:?}{hint}; one of: {names}", hint = did_you_mean(.0), names = model_names())]
pub struct UnknownModel(pub String);

/// The model whose name is nearest to the text, if one is near.
fn did_you_mean(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let names = Model::ALL.iter().map(|model| model.name());
    let near = names.min_by_key(|name| distance(name, &lower));
    let near = near.filter(|name| distance(name, &lower) <= 1 + name.len() / 4);
    near.map_or(String::new(), |name| format!(" (did you mean {name}?)"))
}

/// How many letters have to be changed, put in or left out to make one text of another (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn model_names() -> String {
    let names: Vec<&str> = Model::ALL.iter().map(|model| model.name()).collect();
    names.join(", ")
}

impl FromStr for Model {
    type Err = UnknownModel;

    /// Reads a model's name, or one of the usual abbreviations (`PL-3`, `si`, `strong-serializable`).
    fn from_str(text: &str) -> Result<Self, UnknownModel> {
        let lower = text.trim_start_matches(':').to_ascii_lowercase();
        let synonym = match lower.as_str() {
            "pl-1" => Model::ReadUncommitted,
            "pl-2" => Model::ReadCommitted,
            "pl-cs" => Model::CursorStability,
            "pl-2l" => Model::MonotonicView,
            "pl-msr" => Model::MonotonicSnapshotRead,
            "pl-2+" => Model::ConsistentView,
            "pl-fcv" => Model::ForwardConsistentView,
            "pl-2.99" => Model::RepeatableRead,
            "pl-si" | "si" => Model::SnapshotIsolation,
            "pl-3u" => Model::UpdateSerializable,
            "pl-3" | "conflict-serializable" => Model::Serializable,
            "pl-ss" | "strong-serializable" => Model::StrictSerializable,
            "causal-cerone" => Model::CausalConsistencyNoSession,
            "causal" | "cc" => Model::CausalConsistency,
            "prefix-consistency" => Model::Prefix,
            _ => {
                let mut all = Model::ALL.iter().copied();
                return all
                    .find(|model| model.name() == lower)
                    .ok_or_else(|| UnknownModel(text.into()));
            }
        };
        Ok(synonym)
    }
}

/// A set of models.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Models(u64);

impl FromIterator<Model> for Models {
    fn from_iter<I: IntoIterator<Item = Model>>(models: I) -> Self {
        Models(models.into_iter().fold(0, |set, model| set | model.bit()))
    }
}

impl Models {
    /// The models of either set.
    pub fn or(self, other: Models) -> Models {
        Models(self.0 | other.0)
    }

    /// Does a model imply one of these, so that it fails if they do?
    pub fn refute(self, model: Model) -> bool {
        model.closure() & self.0 != 0
    }

    /// The models that fail if these do.
    pub fn and_stronger(self) -> Models {
        let all = Model::ALL.iter().copied();
        all.filter(|&model| self.refute(model)).collect()
    }

    /// The models that hold if these do.
    pub fn and_weaker(self) -> Models {
        let members = Model::members(self.0).into_iter();
        Models(members.fold(0, |set, model| set | model.closure()))
    }

    /// The models of this set that are not in the other.
    pub fn without(self, other: Models) -> Models {
        Models(self.0 & !other.0)
    }

    /// The models of both sets.
    pub fn and(self, other: Models) -> Models {
        Models(self.0 & other.0)
    }

    /// Is the model one of these?
    pub fn contains(self, model: Model) -> bool {
        self.0 & model.bit() != 0
    }
}

/// What is known of every model: what a history refutes, what was shown to hold, and what nobody looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Boundary {
    /// The weakest models that are violated: none of them implies another violated one.
    pub violated: Vec<Model>,
    /// All stronger models, violated too.
    pub also_violated: Vec<Model>,
    /// The strongest models that hold: all that they forbid was looked for, and none of it was found.
    pub possible: Vec<Model>,
    /// Neither refuted nor shown to hold: not all that these forbid was looked for.
    pub unexamined: Vec<Model>,
}

impl Boundary {
    /// The boundary through the lattice, where these models are refuted and those hold unless they are refuted.
    pub fn of(
        refuted: impl IntoIterator<Item = Model>,
        held: impl IntoIterator<Item = Model>,
    ) -> Boundary {
        Self::drawn(refuted.into_iter().collect(), held.into_iter().collect())
    }

    pub(super) fn drawn(refuted: Models, held: Models) -> Boundary {
        let failing = refuted.and_stronger();
        let holding = held.without(failing).and_weaker();
        let (violated, also_violated) = Model::members(failing.0).into_iter().partition(|model| {
            let weaker = model.closure() & failing.0 & !model.bit();
            weaker == 0
        });
        let standing = Model::members(holding.0).into_iter();
        let implied = standing.fold(0, |set, model| set | model.closure() & !model.bit());
        Boundary {
            violated,
            also_violated,
            possible: Model::members(holding.0 & !implied),
            unexamined: Model::members(!failing.0 & !holding.0),
        }
    }
}

/// The models whose own proscription the anomaly, or one that it implies, breaks.
fn violated_directly(anomaly: AnomalyKind) -> u64 {
    static VIOLATED: LazyLock<Vec<u64>> = LazyLock::new(|| {
        let violated = |kinds: u64| {
            let proscribed = |model: Model| bits(model.directly_proscribes(), AnomalyKind::bit);
            let models = Model::ALL
                .iter()
                .filter(|model| proscribed(**model) & kinds != 0);
            models.fold(0, |set, model| set | model.bit())
        };
        let kinds = AnomalyKind::ALL.iter();
        kinds.map(|kind| violated(implied_kinds(*kind))).collect()
    });
    VIOLATED[anomaly as usize]
}

fn implied_kinds(anomaly: AnomalyKind) -> u64 {
    static IMPLIED: LazyLock<Vec<u64>> = LazyLock::new(|| {
        closures(AnomalyKind::ALL, |kind| {
            bits(kind.directly_implies(), AnomalyKind::bit)
        })
    });
    IMPLIED[anomaly as usize]
}

fn bits<T: Copy>(items: &[T], bit: impl Fn(T) -> u64) -> u64 {
    items.iter().fold(0, |set, &item| set | bit(item))
}

/// By element of `all`, its own closure under `step`.
fn closures<T: Copy>(all: &[T], step: impl Fn(T) -> u64) -> Vec<u64> {
    let each = (0..all.len()).map(|at| close(1 << at, all, &step));
    each.collect()
}

/// The reflexive, transitive closure of `set` under `step`; element `i` of `all` is bit `i`.
fn close<T: Copy>(mut set: u64, all: &[T], step: impl Fn(T) -> u64) -> u64 {
    loop {
        let members = all.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
        let next = members.fold(set, |next, (_, &member)| next | step(member));
        if next == set {
            return set;
        }
        set = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_serializability_implies_every_model() {
        let implied = Model::StrictSerializable.implied();
        assert_eq!(implied, Model::ALL);
    }

    #[test]
    fn snapshot_isolation_and_repeatable_read_are_incomparable() {
        assert!(!Model::SnapshotIsolation.implies(Model::RepeatableRead));
        assert!(!Model::RepeatableRead.implies(Model::SnapshotIsolation));
    }

    #[test]
    fn write_skew_leaves_snapshot_isolation_standing() {
        let held = [Model::StrongSnapshotIsolation, Model::Serializable];
        let boundary = Boundary::of(AnomalyKind::WriteSkew.refutes(), held);
        assert_eq!(boundary.violated, [Model::RepeatableRead]);
        assert_eq!(boundary.possible, [Model::StrongSnapshotIsolation]);
        assert!(boundary.also_violated.contains(&Model::Serializable));
        // Not all that it forbids is forbidden by snapshot isolation, and nothing here looked.
        assert!(boundary.unexamined.contains(&Model::UpdateSerializable));
        assert!(!Model::SnapshotIsolation.forbids(AnomalyKind::WriteSkew));
        assert!(Model::Serializable.forbids(AnomalyKind::WriteSkew));
    }

    #[test]
    fn what_nobody_examined_is_not_called_possible() {
        let boundary = Boundary::of([], []);
        assert_eq!((boundary.violated, boundary.possible), (vec![], vec![]));
        assert_eq!(boundary.unexamined, Model::ALL);
        let boundary = Boundary::of([], [Model::StrictSerializable]);
        assert_eq!(boundary.possible, [Model::StrictSerializable]);
        assert_eq!(boundary.unexamined, []);
    }

    #[test]
    fn a_model_that_is_refuted_lends_nothing_to_those_that_it_implies() {
        let boundary = Boundary::of(AnomalyKind::Internal.refutes(), [Model::Serializable]);
        assert_eq!(boundary.possible, []);
        assert!(boundary.unexamined.contains(&Model::ReadCommitted));
    }

    #[test]
    fn every_anomaly_of_isolation_violates_some_model_and_strict_serializability() {
        use AnomalyKind::*;
        let of_state = [
            WrongTotal,
            NilBalance,
            NegativeBalance,
            Oversold,
            LostElement,
        ];
        for &kind in AnomalyKind::ALL {
            let violates = Model::StrictSerializable.forbids(kind);
            assert_eq!(violates, !of_state.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn names_read_back() {
        for &model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        assert_eq!("PL-3".parse(), Ok(Model::Serializable));
        let error = "serialisable".parse::<Model>().unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("\"serialisable\" (did you mean serializable?)"),
            "{said}"
        );
        let far = "nothing-like-it".parse::<Model>().unwrap_err().to_string();
        assert!(!far.contains("did you mean"), "{far}");
    }
}
