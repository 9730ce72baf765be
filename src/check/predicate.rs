//! Predicate reads in a closed universe, decided by Adya's definitions (*Weak Consistency*, MIT 1999, chapter 3).
//!
//! A predicate read looks at a version of *every* object, also of those that it does not return (Elle's closed predicates, since 0.2.7,
//! rest on this). All objects of a history are named in it, and what they held at first is known: a value (`init`), or nothing. So
//! an object that was not returned was at a version which the predicate does not select.
//!
//! Versions of an object have a known order if one transaction changed it, or if that order was told. Then:
//!
//! - a returned object was read as an item: a read dependency on its writer, an item anti-dependency on the next one;
//! - of an object that was not returned, the version was one of a run of neighbours which the predicate does not select. If there is
//!   one such run, its first writer comes before the reader (a read dependency: he changed the answer), and whoever ended it comes after
//!   (a *predicate* anti-dependency). The other versions of the run change no answer, and Adya's edges leave them out.
//!
//! A cycle is named after its anti-dependencies. Without any, it is G1c, predicates or not. If all are of items, it is
//! `G-single-item`, `G2-item`, and so on. If some are of predicates, it is `G-single`, `G2`, and so on: a phantom. PL-2.99 (repeatable read)
//! forbids the former only, PL-3 both. (Adya's text would also count a cycle that mixes both against PL-2.99; locks
//! that are long on items and short on predicates allow it, and Elle does too.)

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{self, Cast};
use super::graph::{self, Cycle, Edge, EdgeKind, GraphBuilder};
use super::{
    Anomaly, AnomalyKind, Dependency, Exercised, History, KeyId, Model, Op, Options, Phase,
    Predicate, Report, Status, Step, Txn, TxnId,
};

/// The models whose violations always show here, if all orders of versions are known.
const DECIDED: [Model; 15] = [
    Model::ReadUncommitted,
    Model::ReadCommitted,
    Model::StrongSessionReadUncommitted,
    Model::StrongSessionReadCommitted,
    Model::StrongReadUncommitted,
    Model::StrongReadCommitted,
    Model::ConsistentView,
    Model::RepeatableRead,
    Model::UpdateSerializable,
    Model::SnapshotIsolation,
    Model::StrongSessionSnapshotIsolation,
    Model::StrongSnapshotIsolation,
    Model::Serializable,
    Model::StrongSessionSerializable,
    Model::StrictSerializable,
];

/// Checks a history with predicate reads.
pub(super) fn check(
    history: &History,
    options: &Options,
    observer: &mut dyn FnMut(Phase),
) -> Report {
    observer(Phase::Versions);
    let mut checker = Checker {
        history,
        options,
        universe: Universe::of(history),
        anomalies: Vec::new(),
        edges: Edges::default(),
        counts: exercised(history),
        open: Vec::new(),
    };
    let foreign = history.txns().find_map(|txn| {
        let mut ops = txn.ops();
        ops.find(|op| !is_of_registers(op))
            .map(|op| explain::op(history, &op))
    });
    if let Some(op) = foreign {
        let note = format!(
            "predicates are judged beside reads, writes and deletions of registers, and not beside {op}"
        );
        return Report::new(options, Vec::new(), checker.counts, [], vec![note]);
    }
    checker.settle();
    observer(Phase::Dependencies);
    for txn in history.txns() {
        if checker.is_live(txn.id) {
            checker.transaction(&txn);
        }
    }
    checker.order_writes();
    observer(Phase::Cycles);
    checker.cycles();
    checker.report()
}

fn is_of_registers(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::Write { .. }
            | Op::Read { .. }
            | Op::Cas { .. }
            | Op::Delete { .. }
            | Op::ReadPredicate { .. }
            | Op::ReadUnknown { .. }
    )
}

fn exercised(history: &History) -> Exercised {
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
                Op::Read { value, .. } => {
                    counts.reads += 1;
                    counts.reads_nonempty += u64::from(value.is_some());
                }
                Op::ReadPredicate { found, .. } => {
                    counts.reads += 1;
                    counts.reads_nonempty += u64::from(!found.is_empty());
                }
                Op::Cas { .. } => {
                    counts.reads += 1;
                    counts.reads_nonempty += 1;
                    counts.writes += 1;
                }
                Op::Write { .. } | Op::Delete { .. } => counts.writes += 1,
                _ => {}
            }
        }
    }
    counts
}

/// What an object holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Content {
    /// It was never there.
    Unborn,
    Value(u64),
    /// It was deleted.
    Dead,
}

impl Content {
    /// What a read of the item returns.
    fn as_read(self) -> Option<u64> {
        match self {
            Content::Value(value) => Some(value),
            Content::Unborn | Content::Dead => None,
        }
    }
}

/// A version of an object, and who made it; nobody made the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    content: Content,
    writer: Option<TxnId>,
}

/// How far it is known in which order an object was changed.
enum Timeline {
    Known(Vec<Version>),
    /// Several transactions changed it, and nothing tells which of them came first.
    Unordered,
}

/// One object's share of the history.
struct Object {
    first: Content,
    /// Who may have changed it, and what each left.
    changes: Vec<(TxnId, Content)>,
    timeline: Timeline,
}

/// All objects, and who wrote what.
struct Universe {
    objects: BTreeMap<KeyId, Object>,
    /// Who may have left a value.
    finals: BTreeMap<(KeyId, u64), Vec<TxnId>>,
    /// Values that their writers replaced themselves.
    intermediate: BTreeMap<(KeyId, u64), TxnId>,
    /// Values of those who aborted.
    failed: BTreeMap<(KeyId, u64), TxnId>,
    live: BTreeSet<TxnId>,
}

impl Universe {
    fn of(history: &History) -> Self {
        let mut universe = Universe {
            objects: BTreeMap::new(),
            finals: BTreeMap::new(),
            intermediate: BTreeMap::new(),
            failed: BTreeMap::new(),
            live: BTreeSet::new(),
        };
        let predicates: BTreeSet<KeyId> = predicate_keys(history);
        for key in (0..history.key_count() as KeyId).filter(|key| !predicates.contains(key)) {
            let first = history.initial_value(key);
            let object = Object {
                first: first.map_or(Content::Unborn, Content::Value),
                changes: Vec::new(),
                timeline: Timeline::Unordered,
            };
            universe.objects.insert(key, object);
        }
        for txn in history.txns() {
            universe.take(&txn);
        }
        universe
    }

    fn take(&mut self, txn: &Txn<'_>) {
        let mut left = BTreeMap::<KeyId, Content>::new();
        for op in txn.ops() {
            let (key, content) = match op {
                Op::Write { key, value }
                | Op::Cas {
                    key, new: value, ..
                } => (key, Content::Value(value)),
                Op::Delete { key } => (key, Content::Dead),
                _ => continue,
            };
            if txn.header.status == Status::Fail {
                if let Content::Value(value) = content {
                    self.failed.insert((key, value), txn.id);
                }
            } else if let Some(Content::Value(before)) = left.insert(key, content) {
                self.intermediate.insert((key, before), txn.id);
            }
        }
        if txn.header.status == Status::Ok {
            self.live.insert(txn.id);
        }
        for (key, content) in left {
            if let Content::Value(value) = content {
                self.finals.entry((key, value)).or_default().push(txn.id);
            }
            let object = self.objects.get_mut(&key).expect("all keys are there");
            object.changes.push((txn.id, content));
        }
    }
}

/// The keys that stand for predicates.
fn predicate_keys(history: &History) -> BTreeSet<KeyId> {
    let (mut asked, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    let mut touched = BTreeSet::new();
    for op in history.txns().flat_map(|txn| txn.ops().collect::<Vec<_>>()) {
        match op {
            Op::ReadPredicate { key, found, .. } => {
                asked.insert(key);
                touched.extend(found.iter().map(|&(key, _)| key));
            }
            Op::ReadUnknown { key } => drop(unknown.insert(key)),
            op => drop(touched.insert(op.key())),
        }
    }
    // Of reads whose result nobody knows some may be of predicates. Nothing is said of an object that was touched by nothing else.
    let untouched = unknown
        .into_iter()
        .filter(|key| !touched.contains(key) && history.initial_value(*key).is_none());
    asked.extend(untouched);
    asked
}

/// An edge's reason, by its ends and its kind.
#[derive(Default)]
struct Edges {
    /// Dependencies but for anti-dependencies of predicates.
    items: BTreeMap<(TxnId, TxnId, EdgeKind), Dependency>,
    /// Anti-dependencies of predicates.
    predicates: BTreeMap<(TxnId, TxnId), Dependency>,
}

impl Edges {
    fn add(&mut self, (from, to): (TxnId, TxnId), kind: EdgeKind, because: Dependency) {
        if from != to {
            self.items.entry((from, to, kind)).or_insert(because);
        }
    }

    fn add_phantom(&mut self, (from, to): (TxnId, TxnId), because: Dependency) {
        if from != to {
            self.predicates.entry((from, to)).or_insert(because);
        }
    }
}

/// What a reader says of an object's version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// It is this value.
    Is(u64),
    /// There is nothing.
    Nothing,
    /// The predicate does not select it.
    Unselected(Predicate),
}

struct Checker<'a> {
    history: &'a History,
    options: &'a Options,
    universe: Universe,
    anomalies: Vec<Anomaly>,
    edges: Edges,
    counts: Exercised,
    /// Why a verdict of valid would rest on a guess.
    open: Vec<String>,
}

impl Checker<'_> {
    fn is_live(&self, txn: TxnId) -> bool {
        self.universe.live.contains(&txn)
    }

    fn leave_open(&mut self, why: String) {
        if !self.open.contains(&why) {
            self.open.push(why);
        }
    }

    /// Does the predicate select the version? None if it asks for the rest of something that is no number.
    fn selects(&self, predicate: Predicate, content: Content) -> Option<bool> {
        let Content::Value(value) = content else {
            return Some(false);
        };
        match predicate {
            Predicate::True => Some(true),
            Predicate::Equal(wanted) => Some(value == wanted),
            Predicate::Mod { modulus, rest } => {
                let shown = self.history.show_value(value);
                let number: i128 = shown.parse().ok()?;
                Some(number.rem_euclid(i128::from(modulus)) == i128::from(rest))
            }
        }
    }

    fn fits(&self, claim: Claim, content: Content) -> Option<bool> {
        match claim {
            Claim::Is(value) => Some(content == Content::Value(value)),
            Claim::Nothing => Some(content.as_read().is_none()),
            Claim::Unselected(predicate) => self.selects(predicate, content).map(|is| !is),
        }
    }

    /// What a transaction's reads say of objects that it had not written before.
    fn claims(&self, txn: &Txn<'_>) -> Vec<(KeyId, Claim)> {
        let mut claims = Vec::new();
        let mut own = BTreeSet::new();
        for op in txn.ops() {
            match op {
                Op::Read { key, value } if !own.contains(&key) => {
                    claims.push((key, value.map_or(Claim::Nothing, Claim::Is)));
                }
                Op::Cas { key, expected, .. } if own.insert(key) => {
                    claims.push((key, Claim::Is(expected)));
                }
                Op::Write { key, .. } | Op::Delete { key } => drop(own.insert(key)),
                Op::ReadPredicate {
                    predicate, found, ..
                } => {
                    for &key in self.universe.objects.keys() {
                        let at = found.binary_search_by_key(&key, |&(key, _)| key);
                        let claim = match at {
                            Ok(at) => Claim::Is(found[at].1),
                            Err(_) => Claim::Unselected(predicate),
                        };
                        if !own.contains(&key) {
                            claims.push((key, claim));
                        }
                    }
                }
                _ => {}
            }
        }
        claims
    }

    /// Finds out which indeterminate transactions happened, and in which order objects were changed.
    fn settle(&mut self) {
        let mut claimed = BTreeMap::<KeyId, BTreeSet<(u64, u64, u64)>>::new();
        let mut claims: Vec<(KeyId, Claim)> = Vec::new();
        for txn in self.history.txns() {
            if txn.header.status == Status::Ok {
                claims.extend(self.claims(&txn));
            }
        }
        // The same is said of an object again and again.
        claims.retain(|&(key, claim)| {
            let told = match claim {
                Claim::Is(value) => (0, value, 0),
                Claim::Nothing => (1, 0, 0),
                Claim::Unselected(Predicate::True) => (2, 0, 0),
                Claim::Unselected(Predicate::Equal(value)) => (3, value, 0),
                Claim::Unselected(Predicate::Mod { modulus, rest }) => (4, modulus, rest),
            };
            claimed.entry(key).or_default().insert(told)
        });
        let mut of_key = BTreeMap::<KeyId, Vec<Claim>>::new();
        for (key, claim) in claims {
            if let Claim::Is(value) = claim
                && let Some(&[writer]) = self.universe.finals.get(&(key, value)).map(Vec::as_slice)
            {
                self.universe.live.insert(writer);
            }
            of_key.entry(key).or_default().push(claim);
        }
        let keys: Vec<KeyId> = self.universe.objects.keys().copied().collect();
        // Who is needed to explain one object happened, and may have changed others.
        loop {
            let known = self.universe.live.len();
            for &key in &keys {
                self.explain_by_unseen(key, of_key.get(&key).map_or(&[][..], Vec::as_slice));
            }
            if self.universe.live.len() == known {
                break;
            }
        }
        for &key in &keys {
            let timeline = self.timeline(key);
            let object = self.universe.objects.get_mut(&key).expect("it is there");
            object.timeline = timeline;
        }
    }

    /// If something that is said of an object fits to no version of those who are known to have happened, then others happened.
    fn explain_by_unseen(&mut self, key: KeyId, claims: &[Claim]) {
        let object = &self.universe.objects[&key];
        let (live, unseen): (Vec<_>, Vec<_>) =
            (object.changes.iter().copied()).partition(|(txn, _)| self.is_live(*txn));
        let known = |claim: Claim| {
            let contents = live.iter().map(|&(_, content)| content);
            let mut contents = contents.chain([object.first]);
            contents.any(|content| self.fits(claim, content) != Some(false))
        };
        let unexplained: Vec<Claim> = claims.iter().copied().filter(|&c| !known(c)).collect();
        let mut needed = Vec::new();
        let mut several = false;
        for claim in unexplained {
            let fits =
                |&&(_, content): &&(TxnId, Content)| self.fits(claim, content) != Some(false);
            let fitting: Vec<_> = unseen.iter().filter(fits).collect();
            match fitting[..] {
                [] => {}
                [&(only, _)] => needed.push(only),
                _ => several = true,
            }
        }
        self.universe.live.extend(needed);
        if several {
            let key = self.history.show_key(key);
            self.leave_open(format!(
                "which of several indeterminate transactions changed key {key} is open"
            ));
        }
    }

    fn timeline(&mut self, key: KeyId) -> Timeline {
        let object = &self.universe.objects[&key];
        let first = Version {
            content: object.first,
            writer: None,
        };
        let changes = object.changes.iter().filter(|(txn, _)| self.is_live(*txn));
        let changes = changes.map(|&(txn, content)| Version {
            content,
            writer: Some(txn),
        });
        let changes: Vec<Version> = changes.collect();
        let shown = self.history.show_key(key);
        let mut contents: BTreeSet<Content> = changes.iter().map(|change| change.content).collect();
        contents.insert(object.first);
        if contents.len() <= changes.len() {
            self.leave_open(format!(
                "key {shown} held the same twice, and who was read is open"
            ));
            return Timeline::Unordered;
        }
        if changes.len() < 2 {
            return Timeline::Known([first].into_iter().chain(changes).collect());
        }
        let told = self.history.version_order(key).and_then(|order| {
            let place = |version: &Version| {
                let Content::Value(value) = version.content else {
                    return None;
                };
                order.iter().position(|&told| told == value)
            };
            let placed = changes
                .iter()
                .map(|version| Some((place(version)?, *version)));
            placed.collect::<Option<Vec<(usize, Version)>>>()
        });
        match told {
            Some(mut placed) => {
                placed.sort_by_key(|&(place, _)| place);
                let changes = placed.into_iter().map(|(_, version)| version);
                Timeline::Known([first].into_iter().chain(changes).collect())
            }
            None => {
                self.leave_open(format!(
                    "key {shown} was changed by {} transactions, and nothing tells in which order",
                    changes.len()
                ));
                Timeline::Unordered
            }
        }
    }

    fn show(&self, content: Content) -> String {
        match content {
            Content::Unborn => "unborn".into(),
            Content::Dead => "deleted".into(),
            Content::Value(value) => self.history.show_value(value),
        }
    }

    fn fact(&mut self, kind: AnomalyKind, key: KeyId, txns: &[TxnId], text: &str) {
        let cast = Cast::of(txns.iter().copied());
        let anomaly = explain::fact(self.history, kind, Some(key), cast, text);
        if !self.anomalies.contains(&anomaly) {
            self.anomalies.push(anomaly);
        }
    }

    /// Edges and anomalies of a transaction's reads.
    fn transaction(&mut self, txn: &Txn<'_>) {
        let mut own = BTreeMap::<KeyId, Content>::new();
        for op in txn.ops() {
            match op {
                Op::Write { key, value } => drop(own.insert(key, Content::Value(value))),
                Op::Delete { key } => drop(own.insert(key, Content::Dead)),
                Op::Read { key, value } => {
                    let claim = value.map_or(Claim::Nothing, Claim::Is);
                    self.read(txn.id, key, claim, None, &own);
                }
                Op::Cas { key, expected, new } => {
                    self.read(txn.id, key, Claim::Is(expected), None, &own);
                    own.insert(key, Content::Value(new));
                }
                Op::ReadPredicate {
                    key: name,
                    predicate,
                    found,
                } => {
                    let keys: Vec<KeyId> = self.universe.objects.keys().copied().collect();
                    for key in keys {
                        let at = found.binary_search_by_key(&key, |&(key, _)| key);
                        let claim = match at {
                            Ok(at) => Claim::Is(found[at].1),
                            Err(_) => Claim::Unselected(predicate),
                        };
                        if let Claim::Is(value) = claim
                            && self.selects(predicate, Content::Value(value)) == Some(false)
                        {
                            let text = format!(
                                "T1 read {} and found key {} {}, which is none of them.",
                                self.history.show_key(name),
                                self.history.show_key(key),
                                self.history.show_value(value)
                            );
                            self.fact(AnomalyKind::PredicateReadMiss, key, &[txn.id], &text);
                        }
                        self.read(txn.id, key, claim, Some(name), &own);
                    }
                }
                _ => {}
            }
        }
    }

    /// One object in one read. `asked` is the predicate, if it is a predicate read.
    fn read(
        &mut self,
        txn: TxnId,
        key: KeyId,
        claim: Claim,
        asked: Option<KeyId>,
        own: &BTreeMap<KeyId, Content>,
    ) {
        if let Some(&content) = own.get(&key) {
            match self.fits(claim, content) {
                Some(true) => {}
                Some(false) => self.contradicts_itself(txn, key, claim, content),
                None => self.no_number(key),
            }
            return;
        }
        if let Claim::Is(value) = claim
            && self.is_wrong_value(txn, key, value)
        {
            return;
        }
        let Timeline::Known(versions) = &self.universe.objects[&key].timeline else {
            self.read_unordered(txn, key, claim);
            return;
        };
        let versions = versions.clone();
        let fitting: Vec<Option<bool>> = versions
            .iter()
            .map(|version| self.fits(claim, version.content))
            .collect();
        if fitting.contains(&None) {
            return self.no_number(key);
        }
        let fits = |at: usize| fitting[at] == Some(true);
        // The runs of neighbours that fit.
        let starts = (0..versions.len()).filter(|&at| fits(at) && (at == 0 || !fits(at - 1)));
        let starts: Vec<usize> = starts.collect();
        let &[start] = &starts[..] else {
            if starts.is_empty() {
                self.missed(txn, key, claim, asked);
            } else {
                let key = self.history.show_key(key);
                self.leave_open(format!(
                    "which version of key {key} a read saw is open: several fit"
                ));
            }
            return;
        };
        let end = (start..versions.len()).find(|&at| !fits(at));
        let name = self.history.show_key(key);
        // An object that was not returned shows by the predicate only.
        let by = asked
            .filter(|_| matches!(claim, Claim::Unselected(_)))
            .map(|predicate| self.history.show_key(predicate));
        if let Some(writer) = versions[start].writer {
            self.counts.edges_wr += 1;
            let because = Dependency::VersionRead {
                key: name.clone(),
                version: self.show(versions[start].content),
                predicate: by.clone(),
            };
            self.edges.add((writer, txn), EdgeKind::Wr, because);
        }
        let Some(end) = end else { return };
        let Some(writer) = versions[end].writer else {
            return;
        };
        self.counts.edges_rw += 1;
        let because = Dependency::VersionReplaced {
            key: name,
            read: self.show(versions[end - 1].content),
            written: self.show(versions[end].content),
            predicate: by.clone(),
        };
        match by {
            Some(_) => self.edges.add_phantom((txn, writer), because),
            None => self.edges.add((txn, writer), EdgeKind::Rw, because),
        }
    }

    /// All that is certain where the order of versions is not known: who was read.
    fn read_unordered(&mut self, txn: TxnId, key: KeyId, claim: Claim) {
        if let Claim::Is(value) = claim
            && let Some(&[writer]) = self.universe.finals.get(&(key, value)).map(Vec::as_slice)
            && self.universe.objects[&key].first != Content::Value(value)
        {
            self.counts.edges_wr += 1;
            let because = Dependency::VersionRead {
                key: self.history.show_key(key),
                version: self.history.show_value(value),
                predicate: None,
            };
            self.edges.add((writer, txn), EdgeKind::Wr, because);
        }
    }

    fn no_number(&mut self, key: KeyId) {
        let key = self.history.show_key(key);
        self.leave_open(format!(
            "a predicate asks for the rest of key {key}, which held something that is no number"
        ));
    }

    fn contradicts_itself(&mut self, txn: TxnId, key: KeyId, claim: Claim, content: Content) {
        let name = self.history.show_key(key);
        let found = match claim {
            Claim::Is(value) => format!("found it {}", self.history.show_value(value)),
            Claim::Nothing => "found nothing there".into(),
            Claim::Unselected(_) => "did not find it by a predicate that selects it".into(),
        };
        let content = self.show(content);
        let text = format!("T1 had made key {name} {content} itself and then {found}.");
        self.fact(AnomalyKind::Internal, key, &[txn], &text);
    }

    /// Reports a value that no version of the object has; false if some version has it.
    fn is_wrong_value(&mut self, txn: TxnId, key: KeyId, value: u64) -> bool {
        if self.universe.objects[&key].first == Content::Value(value) {
            return false;
        }
        let (name, shown) = (self.history.show_key(key), self.history.show_value(value));
        let writers = self.universe.finals.get(&(key, value));
        match writers.map(Vec::as_slice) {
            Some(&[writer]) if writer == txn => {
                let text = format!("T1 found key {name} {shown} before it wrote that.");
                self.fact(AnomalyKind::FutureRead, key, &[txn], &text);
                return true;
            }
            Some(_) => return false,
            None => {}
        }
        let pair = (key, value);
        if let Some(&writer) = self.universe.intermediate.get(&pair) {
            if writer != txn {
                let text = format!(
                    "T1 found key {name} {shown}, which T2 wrote and then replaced itself."
                );
                self.fact(AnomalyKind::G1b, key, &[txn, writer], &text);
            }
        } else if let Some(&writer) = self.universe.failed.get(&pair) {
            let text = format!("T1 found key {name} {shown}, which T2 wrote; but T2 aborted.");
            self.fact(AnomalyKind::G1a, key, &[txn, writer], &text);
        } else {
            let text = format!("T1 found key {name} {shown}, which nobody wrote.");
            self.fact(AnomalyKind::GarbageRead, key, &[txn], &text);
        }
        true
    }

    /// No version of the object fits to what a read says of it.
    fn missed(&mut self, txn: TxnId, key: KeyId, claim: Claim, asked: Option<KeyId>) {
        let object = &self.universe.objects[&key];
        let mut unseen = object.changes.iter().filter(|(id, _)| !self.is_live(*id));
        if unseen.any(|&(_, content)| self.fits(claim, content) != Some(false)) {
            // One of several may have happened, which is left open.
            return;
        }
        let mut held: Vec<Content> = vec![object.first];
        held.extend(
            object
                .changes
                .iter()
                .filter(|(id, _)| self.is_live(*id))
                .map(|&(_, c)| c),
        );
        let held: Vec<String> = held.into_iter().map(|content| self.show(content)).collect();
        let (name, held) = (self.history.show_key(key), held.join(" or "));
        match (claim, asked) {
            (Claim::Unselected(_), Some(predicate)) => {
                let predicate = self.history.show_key(predicate);
                let text = format!(
                    "T1 read {predicate} and did not find key {name}, which was {held} at all times."
                );
                self.fact(AnomalyKind::PredicateReadMiss, key, &[txn], &text);
            }
            _ => {
                let text =
                    format!("T1 found nothing under key {name}, which was {held} at all times.");
                self.fact(AnomalyKind::GarbageRead, key, &[txn], &text);
            }
        }
    }

    /// Each version's writer comes before the next one's.
    fn order_writes(&mut self) {
        for (&key, object) in &self.universe.objects {
            let Timeline::Known(versions) = &object.timeline else {
                continue;
            };
            for pair in versions.windows(2) {
                let (Some(from), Some(to)) = (pair[0].writer, pair[1].writer) else {
                    continue;
                };
                self.counts.edges_ww += 1;
                let because = Dependency::VersionVersion {
                    key: self.history.show_key(key),
                    from_version: self.show(pair[0].content),
                    to_version: self.show(pair[1].content),
                };
                self.edges.add((from, to), EdgeKind::Ww, because);
            }
        }
    }

    /// Cycles of items, and then those that need an anti-dependency of a predicate.
    fn cycles(&mut self) {
        let history = self.history;
        let updates: BTreeSet<TxnId> = (self.universe.objects.values())
            .flat_map(|object| object.changes.iter().map(|&(txn, _)| txn))
            .collect();
        let is_update = |txn: TxnId| updates.contains(&txn);
        let live = self.universe.live.clone();
        let live = |txn: TxnId| live.contains(&txn);
        let mut builder = GraphBuilder::new(history.len());
        for &(from, to, kind) in self.edges.items.keys() {
            builder.add(from, to, kind);
        }
        let items = graph::cycles(
            &builder.clone().finish(history, live),
            self.options,
            is_update,
        );
        let mut exhausted = items.exhausted;
        let mut found = items.found;
        if !self.edges.predicates.is_empty() {
            for &(from, to) in self.edges.predicates.keys() {
                builder.add(from, to, EdgeKind::Rw);
            }
            let all = graph::cycles(&builder.finish(history, live), self.options, is_update);
            exhausted |= all.exhausted;
            for cycle in all.found {
                let mut cycle = cycle;
                if cycle.edges.iter().any(|edge| self.is_phantom(edge)) {
                    cycle.kind = cycle.kind.of_predicates();
                }
                if !found.contains(&cycle) {
                    found.push(cycle);
                }
            }
        }
        if exhausted {
            self.leave_open(format!(
                "the budget of {} steps was spent: some cycle may hide a worse one",
                self.options.steps_max
            ));
        }
        for cycle in found {
            if cycle.kind == AnomalyKind::WriteSkew && !self.is_skew(&cycle) {
                continue;
            }
            let refutes = cycle.refutes(is_update);
            let steps = cycle.edges.iter().map(|edge| self.step(edge)).collect();
            let anomaly = explain::cycle(history, cycle.kind, refutes, steps);
            self.anomalies.push(anomaly);
        }
    }

    /// Is the edge there only because of a predicate?
    fn is_phantom(&self, edge: &Edge) -> bool {
        let item = (edge.from, edge.to, edge.kind);
        edge.kind == EdgeKind::Rw && !self.edges.items.contains_key(&item)
    }

    /// Are the two anti-dependencies of different keys?
    fn is_skew(&self, cycle: &Cycle) -> bool {
        let keys = cycle
            .edges
            .iter()
            .map(|edge| match self.step(edge).because {
                Dependency::VersionReplaced { key, .. } => Some(key),
                _ => None,
            });
        keys.collect::<BTreeSet<_>>().len() > 1
    }

    fn step(&self, edge: &Edge) -> Step {
        let item = (edge.from, edge.to, edge.kind);
        let because = self.edges.items.get(&item).cloned();
        let because = because.or_else(|| {
            let phantom = self.edges.predicates.get(&(edge.from, edge.to));
            phantom.filter(|_| edge.kind == EdgeKind::Rw).cloned()
        });
        let (from, to) = (self.history.header(edge.from), self.history.header(edge.to));
        let because = because.unwrap_or(match edge.kind {
            EdgeKind::Process => Dependency::Process {
                process: from.process,
            },
            _ => Dependency::Realtime {
                complete: from.complete,
                invoke: to.invoke,
            },
        });
        Step {
            from: edge.from,
            to: edge.to,
            because,
            ordered_by: None,
        }
    }

    fn report(self) -> Report {
        let is_open = !self.open.is_empty();
        let held = DECIDED.into_iter().filter(|_| !is_open);
        let mut counts = BTreeMap::<&'static str, u64>::new();
        for anomaly in &self.anomalies {
            *counts.entry(anomaly.kind.name()).or_default() += 1;
        }
        let mut shown = BTreeMap::<AnomalyKind, usize>::new();
        let refuted = self.anomalies.iter().map(Anomaly::refuted);
        let refuted = refuted.fold(Default::default(), super::anomaly::Models::or);
        let mut anomalies = self.anomalies.clone();
        anomalies.retain(|anomaly| {
            let shown = shown.entry(anomaly.kind).or_default();
            *shown += 1;
            *shown <= self.options.examples_max
        });
        let mut report = Report::new(self.options, anomalies, self.counts, held, self.open);
        report.counts = counts;
        report.refute(refuted);
        report
    }
}
