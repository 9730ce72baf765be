//! Monotonic atomic view of registers: once a transaction has read something of another one, its later reads see all that this one wrote,
//! or newer versions.
//!
//! Bailis et al. (*Highly Available Transactions*, VLDB 2013) forbid that an observed transaction vanishes. As an axiom on
//! the order of commits that is Biswas and Enea's read committed (OOPSLA 2019): of two writers of a key, the one that a
//! transaction had read something from *before* it read the key from the other is the older. A history satisfies it if
//! and only if these demands and the read dependencies form no cycle. They are enumerated as AWDIT does it (Møldrup and
//! Pavlogiannis, PLDI 2025), in O(n^1.5): reads are walked through from the last to the first, and for each writer that
//! was read the smaller of two sets of keys is looked through, what it wrote and what was read after.

use std::collections::{BTreeMap, BTreeSet};

use super::super::polygraph::components;
use super::super::{Dependency, Step};
use super::*;

/// A read of what another transaction left: the key, and who that was; nobody, for the initial state.
type External = (KeyId, Option<TxnId>);

/// Why one transaction comes before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It read from it.
    Read(KeyId),
    /// This one read from it, and then the key from the other, which both wrote.
    Seen(TxnId, KeyId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge {
    from: TxnId,
    to: TxnId,
    why: Why,
}

/// Judges a history of registers none of whose reads is impossible under read committed. None if it holds something else, or if it is
/// open who was read.
pub(super) fn judge(history: &History) -> Option<Result<(), Anomaly>> {
    if history.kinds.iter().any(|kind| kind.is_list()) || values_repeat(history) {
        return None;
    }
    let mut writers = BTreeMap::<(KeyId, u64), TxnId>::new();
    let mut written: Vec<BTreeMap<KeyId, u64>> = Vec::with_capacity(history.len());
    for txn in history.txns() {
        let mut last = BTreeMap::new();
        for op in txn.ops().filter(|_| txn.may_have_happened()) {
            if let Op::Write { key, value }
            | Op::Cas {
                key, new: value, ..
            } = op
            {
                last.insert(key, value);
            }
        }
        writers.extend(last.iter().map(|(&key, &value)| ((key, value), txn.id)));
        written.push(last);
    }
    let mut edges: Vec<Edge> = Vec::new();
    let mut vanished = None;
    for txn in history.txns().filter(|txn| txn.header.status == Status::Ok) {
        let reads = external_reads(&txn, &writers)?;
        let from = reads.iter().filter_map(|&(key, source)| {
            Some(Edge {
                from: source?,
                to: txn.id,
                why: Why::Read(key),
            })
        });
        edges.extend(from);
        demands(&txn, &reads, &written, |seen, key, instead| match instead {
            Some(to) => edges.push(Edge {
                from: seen,
                to,
                why: Why::Seen(txn.id, key),
            }),
            None => vanished = vanished.or(Some((txn.id, seen, key))),
        });
    }
    let told = Told { history, written };
    if let Some((reader, seen, key)) = vanished {
        return Some(Err(told.initial(reader, seen, key)));
    }
    Some(match told.cycle(&edges) {
        Some(anomaly) => Err(anomaly),
        None => Ok(()),
    })
}

/// In program order, what a transaction read of others. None if some value has no writer.
fn external_reads(txn: &Txn<'_>, writers: &BTreeMap<(KeyId, u64), TxnId>) -> Option<Vec<External>> {
    let mut own = BTreeSet::new();
    let mut reads = Vec::new();
    for op in txn.ops() {
        let (key, value, writes) = match op {
            Op::Read { key, value } => (key, value, false),
            Op::Cas { key, expected, .. } => (key, Some(expected), true),
            Op::Write { key, .. } => {
                own.insert(key);
                continue;
            }
            _ => continue,
        };
        if !own.contains(&key) {
            let source = match value {
                Some(value) => Some(*writers.get(&(key, value))?),
                None => None,
            };
            if source != Some(txn.id) {
                reads.push((key, source));
            }
        }
        if writes {
            own.insert(key);
        }
    }
    Some(reads)
}

/// Tells of each transaction that was seen, a key that it wrote and whose later read came from another one.
fn demands(
    txn: &Txn<'_>,
    reads: &[External],
    written: &[BTreeMap<KeyId, u64>],
    mut tell: impl FnMut(TxnId, KeyId, Option<TxnId>),
) {
    let mut first_at = BTreeMap::<TxnId, usize>::new();
    for (at, &(_, source)) in reads.iter().enumerate() {
        if let Some(source) = source {
            first_at.entry(source).or_insert(at);
        }
    }
    // By key, the two next different sources: whoever is read between them orders the rest by itself.
    let mut later = BTreeMap::<KeyId, [Option<Option<TxnId>>; 2]>::new();
    for (at, &(key, source)) in reads.iter().enumerate().rev() {
        if let Some(seen) = source
            && first_at[&seen] == at
        {
            let wrote = &written[seen as usize];
            let mut judge = |key: KeyId, next: &[Option<Option<TxnId>>; 2]| {
                let others = next.iter().flatten();
                let mut others =
                    others.filter(|&&other| other != Some(seen) && other != Some(txn.id));
                if let Some(&other) = others.next() {
                    tell(seen, key, other);
                }
            };
            if wrote.len() < later.len() {
                for key in wrote.keys() {
                    if let Some(next) = later.get(key) {
                        judge(*key, next);
                    }
                }
            } else {
                for (key, next) in later.iter().filter(|(key, _)| wrote.contains_key(key)) {
                    judge(*key, next);
                }
            }
        }
        let next = later.entry(key).or_insert([None, None]);
        if next[0] != Some(source) {
            *next = [Some(source), next[0]];
        }
    }
}

/// What is said of a contradiction.
struct Told<'a> {
    history: &'a History,
    written: Vec<BTreeMap<KeyId, u64>>,
}

impl Told<'_> {
    fn version(&self, txn: TxnId, key: KeyId) -> String {
        let value = self.history.show_value(self.written[txn as usize][&key]);
        format!("{}={value}", self.history.show_key(key))
    }

    fn initial(&self, reader: TxnId, seen: TxnId, key: KeyId) -> Anomaly {
        let cast = Cast::of([reader, seen]);
        let text = format!(
            "T1 had read from T2, which wrote {}, and then found nothing there.",
            self.version(seen, key)
        );
        let kind = AnomalyKind::ObservedVanishes;
        explain::fact(self.history, kind, Some(key), cast, &text)
    }

    fn cycle(&self, edges: &[Edge]) -> Option<Anomaly> {
        let cycle = cycle(self.history.len() as u32, edges)?;
        let mut cast = Cast::of(cycle.iter().map(|edge| edge.from));
        let mut text = String::new();
        for (at, edge) in cycle.iter().enumerate() {
            let [from, to] = [edge.from, edge.to].map(|txn| cast.name(txn));
            let because = match edge.why {
                Why::Read(key) => format!(
                    "{to} read {}, which {from} wrote",
                    self.version(edge.from, key)
                ),
                Why::Seen(reader, key) => format!(
                    "{} read from {from}, which wrote {}, and later {} of {to}",
                    cast.name(reader),
                    self.version(edge.from, key),
                    self.version(edge.to, key)
                ),
            };
            let (however, end) = match at + 1 == cycle.len() {
                true => ("However, ", ": a contradiction!"),
                false => ("", "."),
            };
            text += &format!("  - {however}{from} < {to}, because {because}{end}\n");
        }
        let kind = AnomalyKind::ObservedVanishes;
        Some(Anomaly {
            kind,
            refutes: kind.refutes(),
            cycle: cycle.iter().map(|edge| self.step(edge)).collect(),
            transactions: cast.members().to_vec(),
            key: None,
            explanation: format!("{}Then:\n{text}", cast.introduce(self.history)),
        })
    }

    fn step(&self, edge: &Edge) -> Step {
        let value = |txn: TxnId, key: KeyId| self.written[txn as usize][&key];
        let because = match edge.why {
            Why::Read(key) => Dependency::WriteRead {
                key: self.history.show_key(key),
                value: value(edge.from, key),
            },
            Why::Seen(_, key) => Dependency::WriteWrite {
                key: self.history.show_key(key),
                from_value: value(edge.from, key),
                to_value: value(edge.to, key),
            },
        };
        Step {
            from: edge.from,
            to: edge.to,
            because,
            ordered_by: None,
        }
    }
}

/// A cycle, found breadth first from the first transaction that is on one.
fn cycle(nodes: u32, edges: &[Edge]) -> Option<Vec<Edge>> {
    let component = components(nodes, edges.iter().map(|edge| (edge.from, edge.to)));
    let inside = |edge: &&Edge| component[edge.from as usize] == component[edge.to as usize];
    let mut out = BTreeMap::<TxnId, Vec<Edge>>::new();
    for edge in edges.iter().filter(inside) {
        out.entry(edge.from).or_default().push(*edge);
    }
    let (&start, _) = out.first_key_value()?;
    let mut reached = BTreeMap::<TxnId, Edge>::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &edge in out.get(&at).into_iter().flatten() {
            if edge.to == start {
                let mut cycle = vec![edge];
                while cycle[cycle.len() - 1].from != start {
                    cycle.push(reached[&cycle[cycle.len() - 1].from]);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if let Entry::Vacant(fresh) = reached.entry(edge.to) {
                fresh.insert(edge);
                queue.push_back(edge.to);
            }
        }
    }
    None
}
