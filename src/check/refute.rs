//! Proofs that a register history has no order: a cycle where the inferred edges hold one, else the smallest
//! set of transactions that already fails and a proof by cases over it.
//!
//! A part of a possible history is possible (reads whose writer is left out say nothing), so "fails" is
//! monotone and the set is found by bisection over prefixes (the idea of QuickXplain, Junker, AAAI 2004): each
//! member of it is necessary.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;

use super::explain::{self, Cast};
use super::polygraph::{
    Decision, Edge, Facts, Fixed, Level, OpenRead, Pair, Problem, TimeOrder, Why,
};
use super::{Anomaly, AnomalyKind, Boundary, Dependency, History, KeyId, Model, Step, TxnId};

/// A proof with more leaves than this convinces nobody: then only the set of transactions is given.
const LEAVES_MAX: usize = 24;

/// A model, as a question about orders.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub model: Model,
    /// The level that the facts are asked about.
    pub level: Level,
    /// What a history is called that has no order.
    pub none: AnomalyKind,
}

/// Why the members, which are known to have no order at the level, have none. Some of them are suspects: they had a part
/// in the conflicts that showed it.
pub(super) fn explain(
    history: &History,
    facts: &Facts,
    (asked, members, suspects): (Asked, &[u32], &BTreeSet<u32>),
    steps_max: u64,
) -> Anomaly {
    let problem = Problem::new(facts, members, asked.level, &Fixed::new());
    let prover = Prover {
        history,
        facts,
        asked,
        level: asked.level,
        cast: RefCell::default(),
    };
    if let Some(cycle) = problem.shortest_cycle(&problem.known) {
        return prover.cycle(&problem, &cycle);
    }
    let (mut failing, mut suspects) = (members.to_vec(), suspects.clone());
    // Who had a part in the conflicts is mostly enough, and asked without the others names fewer.
    while suspects.len() < failing.len() {
        let fewer: Vec<u32> = suspects.iter().copied().collect();
        let Some(next) = prover.suspects_if_fails(&fewer, steps_max) else {
            break;
        };
        (failing, suspects) = (fewer, next);
    }
    prover.by_cases(&prover.smallest_failing(failing, steps_max))
}

struct Prover<'a> {
    history: &'a History,
    facts: &'a Facts,
    asked: Asked,
    level: Level,
    /// The names of transactions, in the order of their mention.
    cast: RefCell<Cast>,
}

/// One step of a cycle, in words.
struct Sentence {
    step: Step,
    text: String,
    /// Whether it rests on time: as an edge, or as the reason for an order of versions.
    timed: bool,
}

/// A proof that no order exists.
enum Proof {
    /// The edges known by now have a cycle.
    Cycle(Vec<Sentence>),
    /// One order of two writes would close a cycle, so the other holds.
    Forced {
        not: String,
        because: Vec<Sentence>,
        then: Box<Proof>,
    },
    /// Whatever holds of these, there is none.
    Cases(Vec<(String, Proof)>),
}

impl Prover<'_> {
    fn id(&self, index: u32) -> TxnId {
        self.facts.txns[index as usize].id
    }

    fn name(&self, index: u32) -> String {
        self.cast.borrow_mut().name(self.id(index))
    }

    fn cycle(&self, problem: &Problem<'_>, cycle: &[Edge]) -> Anomaly {
        let sentences = self.sentences(problem, cycle, &[]);
        let steps: Vec<Step> = sentences
            .iter()
            .map(|sentence| sentence.step.clone())
            .collect();
        let sources = cycle.iter().filter_map(|&edge| {
            let Why::ReadWrite(key) = edge.why else {
                return None;
            };
            let reader = problem.owner(edge.from)?;
            self.source(reader, key).map(|source| self.id(source))
        });
        let mut transactions: Vec<TxnId> =
            steps.iter().map(|step| step.from).chain(sources).collect();
        transactions.sort_unstable();
        transactions.dedup();
        let kind = match self.is_plain(problem, cycle) {
            true => self.name_forbidden(&sentences),
            false => self.asked.none,
        };
        Anomaly {
            kind,
            refutes: refuted(kind, &steps),
            key: None,
            explanation: self.with_cast(&format!("  - {}: a contradiction!\n", join(&sentences))),
            cycle: steps,
            transactions,
        }
    }

    /// Do the orders of versions on the cycle hold in any model? That one whose fate nobody knows comes after all who
    /// overwrote what they had read is only so where no update may be lost.
    fn is_plain(&self, problem: &Problem<'_>, cycle: &[Edge]) -> bool {
        cycle.iter().all(|edge| {
            let (key, older) = match edge.why {
                Why::WriteWrite(key) => (key, problem.owner(edge.from)),
                Why::ReadWrite(key) => {
                    let reader = problem.owner(edge.from);
                    (key, reader.and_then(|reader| problem.source(reader, key)))
                }
                Why::WriteRead(_) | Why::Within | Why::Time => return true,
            };
            let (Some(older), Some(newer)) = (older, problem.owner(edge.to)) else {
                return true;
            };
            !self.facts.derived.contains(&key)
                || problem.source(newer, key) == Some(older)
                || problem.is_ranked(key, newer)
        })
    }

    /// The transactions, then the text that speaks of them.
    fn with_cast(&self, text: &str) -> String {
        format!(
            "{}Then:\n{text}",
            self.cast.borrow().introduce(self.history)
        )
    }

    /// The only transaction that a read can come from.
    fn source(&self, reader: u32, key: KeyId) -> Option<u32> {
        let mut reads = self.facts.txns[reader as usize].reads.iter();
        match reads.find(|read| read.key == key)?.sources[..] {
            [source] => Some(source),
            _ => None,
        }
    }

    fn fails(&self, members: &[u32], steps_max: u64) -> bool {
        self.suspects_if_fails(members, steps_max).is_some()
    }

    /// Who had a part in the conflicts, if there is no order of the members.
    fn suspects_if_fails(&self, members: &[u32], steps_max: u64) -> Option<BTreeSet<u32>> {
        let mut problem = Problem::new(self.facts, members, self.level, &Fixed::new());
        let fails = problem.decide(steps_max) == Decision::Impossible;
        fails.then_some(problem.suspects)
    }

    /// A set that fails of which no member can be spared. `candidates` fails.
    fn smallest_failing(&self, mut candidates: Vec<u32>, steps_max: u64) -> Vec<u32> {
        candidates.sort_by_key(|&index| {
            let txn = &self.facts.txns[index as usize];
            (txn.complete, txn.invoke, index)
        });
        let mut needed: Vec<u32> = Vec::new();
        loop {
            let fails = |length: usize| {
                let mut members: Vec<u32> = needed
                    .iter()
                    .chain(&candidates[..length])
                    .copied()
                    .collect();
                members.sort_unstable();
                self.fails(&members, steps_max)
            };
            let (mut low, mut high) = (0, candidates.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if fails(middle) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            if high == 0 {
                needed.sort_unstable();
                return needed;
            }
            needed.push(candidates[high - 1]);
            candidates.truncate(high - 1);
        }
    }

    fn by_cases(&self, members: &[u32]) -> Anomaly {
        let mut leaves = LEAVES_MAX;
        let mut transactions: Vec<TxnId> = members.iter().map(|&index| self.id(index)).collect();
        transactions.dedup();
        let mut names: Vec<String> = members.iter().map(|&index| self.name(index)).collect();
        names.dedup();
        let mut text = format!(
            "  No order of {} satisfies {}, and each of them is needed for that.\n",
            names.join(", "),
            self.asked.model
        );
        if let Some(proof) = self.prove_sources(members, &mut Fixed::new(), &mut leaves) {
            render(&proof, 1, &mut text);
        }
        Anomaly {
            kind: self.asked.none,
            refutes: self.asked.none.refutes(),
            cycle: Vec::new(),
            transactions,
            key: None,
            explanation: self.with_cast(&text),
        }
    }

    /// A proof by the possible sources of each ambiguous read, or `None` if it would be too long.
    fn prove_sources(
        &self,
        members: &[u32],
        fixed: &mut Fixed,
        leaves: &mut usize,
    ) -> Option<Proof> {
        let problem = Problem::new(self.facts, members, self.level, fixed);
        let ambiguous =
            |read: &&OpenRead| read.sources.len() > 1 && !problem.may_be_absent(read.reader);
        let Some(read) = problem.open_reads.iter().find(ambiguous) else {
            let open = problem.pairs()?;
            return self.prove_orders(&problem, problem.known.clone(), Vec::new(), open, leaves);
        };
        let reader = problem.present[read.reader as usize];
        let mut cases = Vec::new();
        for source in read.sources.iter().flatten() {
            let source = problem.present[*source as usize];
            fixed.insert((reader, read.key), source);
            let case = format!(
                "Suppose that {}, which read {}, read it from {}.",
                self.name(reader),
                self.version(self.facts.txns[source as usize].written(read.key), read.key),
                self.name(source)
            );
            cases.push((case, self.prove_sources(members, fixed, leaves)?));
            fixed.remove(&(reader, read.key));
        }
        Some(Proof::Cases(cases))
    }

    /// A proof by the possible orders of each pair of writes.
    fn prove_orders(
        &self,
        problem: &Problem<'_>,
        edges: Vec<Edge>,
        assumed: Vec<Pair>,
        open: Vec<Pair>,
        leaves: &mut usize,
    ) -> Option<Proof> {
        if let Some(cycle) = problem.shortest_cycle(&edges) {
            *leaves = leaves.checked_sub(1)?;
            return Some(Proof::Cycle(self.sentences(problem, &cycle, &assumed)));
        }
        let with = |pair: Pair| {
            let edges = edges
                .iter()
                .copied()
                .chain(problem.edges(pair))
                .collect::<Vec<_>>();
            let assumed = assumed.iter().copied().chain([pair]).collect::<Vec<_>>();
            let open = open
                .iter()
                .copied()
                .filter(|&p| p != pair && p != pair.swapped())
                .collect();
            (edges, assumed, open)
        };
        for &pair in &open {
            for pair in [pair, pair.swapped()] {
                let (closing, assuming, _): (_, _, Vec<Pair>) = with(pair);
                let Some(cycle) = problem.shortest_cycle(&closing) else {
                    continue;
                };
                let because = self.sentences(problem, &cycle, &assuming);
                let (edges, assumed, open) = with(pair.swapped());
                let then = self.prove_orders(problem, edges, assumed, open, leaves)?;
                return Some(Proof::Forced {
                    not: self.order(problem, pair),
                    because,
                    then: Box::new(then),
                });
            }
        }
        let pair = *open.first()?;
        let mut cases = Vec::new();
        for pair in [pair, pair.swapped()] {
            let (edges, assumed, open) = with(pair);
            let case = format!("Suppose that {}.", self.order(problem, pair));
            cases.push((
                case,
                self.prove_orders(problem, edges, assumed, open, leaves)?,
            ));
        }
        Some(Proof::Cases(cases))
    }

    fn version(&self, value: Option<u64>, key: KeyId) -> String {
        let key = self.history.show_key(key);
        match value {
            Some(value) => format!("{key}={}", self.history.show_value(value)),
            None => format!("{key} unwritten"),
        }
    }

    fn order(&self, problem: &Problem<'_>, pair: Pair) -> String {
        let writer = |place: u32| {
            let index = problem.present[place as usize];
            let txn = &self.facts.txns[index as usize];
            format!(
                "{}'s {}",
                self.name(index),
                self.version(txn.written(pair.key), pair.key)
            )
        };
        format!("{} came before {}", writer(pair.first), writer(pair.second))
    }

    /// The cycle's steps between transactions: what lies inside one or goes through barriers is drawn together.
    fn sentences(&self, problem: &Problem<'_>, cycle: &[Edge], assumed: &[Pair]) -> Vec<Sentence> {
        let start = cycle
            .iter()
            .position(|edge| problem.owner(edge.from).is_some());
        let start = start.expect("barriers alone form no cycle");
        let rotated = cycle[start..].iter().chain(&cycle[..start]);
        let mut sentences = Vec::new();
        let mut entered = None;
        for &edge in rotated {
            let from = problem.owner(edge.from).or(entered);
            match (edge.why, problem.owner(edge.to)) {
                (Why::Within, _) => {}
                (_, None) => entered = from,
                (_, Some(to)) => {
                    let from = from.expect("a way into the barriers");
                    // A transaction's reads and its writes may be apart.
                    if self.id(from) != self.id(to) {
                        sentences.push(self.sentence(problem, from, to, edge.why, assumed));
                    }
                }
            }
        }
        sentences
    }

    fn sentence(
        &self,
        problem: &Problem<'_>,
        from: u32,
        to: u32,
        why: Why,
        assumed: &[Pair],
    ) -> Sentence {
        let (a, b) = (
            &self.facts.txns[from as usize],
            &self.facts.txns[to as usize],
        );
        let (one, other) = (self.name(from), self.name(to));
        let (because, text, ordered_by) = match why {
            Why::Within => unreachable!("it leaves no transaction"),
            Why::Time => {
                let because = match self.level.order {
                    TimeOrder::Session => Dependency::Process { process: a.process },
                    _ => Dependency::Realtime {
                        complete: a.complete,
                        invoke: b.invoke,
                    },
                };
                let text = explain::because(self.history, &because, &one, &other);
                (because, text, None)
            }
            Why::WriteRead(key) => {
                let value = a.written(key).expect("a writer");
                let text = format!(
                    "{other} read {}, which {one} wrote",
                    self.version(Some(value), key)
                );
                let key = self.history.show_key(key);
                (Dependency::WriteRead { key, value }, text, None)
            }
            Why::WriteWrite(key) => {
                let (ground, order) = self.ground(problem, Some(from), to, key, assumed);
                let (old, new) = (
                    a.written(key).expect("a writer"),
                    b.written(key).expect("a writer"),
                );
                let (first, second) = (self.version(Some(old), key), self.version(Some(new), key));
                let text = format!("{other} wrote {second} after {one} wrote {first}{ground}");
                let key = self.history.show_key(key);
                (
                    Dependency::WriteWrite {
                        key,
                        from_value: old,
                        to_value: new,
                    },
                    text,
                    order,
                )
            }
            Why::ReadWrite(key) => {
                let source = problem.source(from, key);
                let (ground, order) = self.ground(problem, source, to, key, assumed);
                let read = a
                    .reads
                    .iter()
                    .find(|read| read.key == key)
                    .expect("a reader")
                    .value;
                let written = b.written(key).expect("a writer");
                let (first, second) = (self.version(read, key), self.version(Some(written), key));
                let mut text =
                    format!("{one} read {first}, which {other} replaced by {second}{ground}");
                let key_name = self.history.show_key(key);
                if self.level.snapshot && a.written(key).is_some() {
                    write!(text, ", and both wrote {key_name}, so that {one} had committed when {other} began")
                        .expect("a string takes all");
                }
                (
                    Dependency::ReadWrite {
                        key: key_name,
                        read,
                        written,
                    },
                    text,
                    order,
                )
            }
        };
        let text = format!("{one} < {other}, because {text}");
        let timed = why == Why::Time || ordered_by.is_some();
        Sentence {
            step: Step {
                from: a.id,
                to: b.id,
                because,
                ordered_by: ordered_by.map(Box::new),
            },
            text,
            timed,
        }
    }

    /// Why one version is older than another, where that is not plain; and the order of their writers, if that is why.
    fn ground(
        &self,
        problem: &Problem<'_>,
        older: Option<u32>,
        newer: u32,
        key: KeyId,
        assumed: &[Pair],
    ) -> (String, Option<Step>) {
        let Some(older) = older else {
            return (String::new(), None);
        };
        let name = (self.name(older), self.name(newer));
        if problem.source(newer, key) == Some(older) {
            return (format!(" ({} had read {}'s version)", name.1, name.0), None);
        }
        if problem.shown_older(key, older, newer) {
            let told = self.history.version_order(key).is_some();
            let how = match (told, self.facts.derived.contains(&key)) {
                (true, _) => " (so its versions were told)",
                (false, false) => " (as reads of the list show)",
                (false, true) => " (or an update would be lost)",
            };
            return (how.into(), None);
        }
        let place = |index: u32| {
            problem
                .present
                .binary_search(&index)
                .ok()
                .map(|place| place as u32)
        };
        let pair = |pair: &Pair| {
            pair.key == key && Some(pair.first) == place(older) && Some(pair.second) == place(newer)
        };
        if assumed.iter().any(pair) {
            return (" (in the order supposed or derived)".into(), None);
        }
        let [first, second] = [older, newer].map(|index| &self.facts.txns[index as usize]);
        let (why, because) = match self.level.order {
            TimeOrder::Session => (
                format!(" (their process ran {} first)", name.0),
                Dependency::Process {
                    process: first.process,
                },
            ),
            _ => (
                format!(" ({} completed before {} was invoked)", name.0, name.1),
                Dependency::Realtime {
                    complete: first.complete,
                    invoke: second.invoke,
                },
            ),
        };
        let order = Step {
            from: first.id,
            to: second.id,
            because,
            ordered_by: None,
        };
        (why, Some(order))
    }

    /// Adya's name for a cycle that the level forbids; where first-committer-wins makes it one, there is none.
    fn name_forbidden(&self, cycle: &[Sentence]) -> AnomalyKind {
        let kind = self.name_cycle(cycle);
        if self.asked.model.forbids(kind) {
            kind
        } else {
            self.asked.none
        }
    }

    /// Adya's name for a cycle, with the suffix for what time contributes.
    fn name_cycle(&self, cycle: &[Sentence]) -> AnomalyKind {
        use AnomalyKind::*;
        use Dependency::*;
        let timed = cycle.iter().any(|sentence| sentence.timed);
        let steps: Vec<&Step> = cycle.iter().map(|sentence| &sentence.step).collect();
        if let ([a, b], false) = (&steps[..], timed)
            && let (
                ReadWrite {
                    key: first,
                    read: one,
                    ..
                },
                ReadWrite {
                    key: second,
                    read: other,
                    ..
                },
            ) = (&a.because, &b.because)
        {
            return match first == second {
                true if one == other => LostUpdate,
                true => G2Item,
                false => WriteSkew,
            };
        }
        let is_rw = |step: &Step| matches!(step.because, ReadWrite { .. });
        let rw = steps.iter().filter(|step| is_rw(step)).count();
        let adjacent =
            (0..steps.len()).any(|at| is_rw(steps[at]) && is_rw(steps[(at + 1) % steps.len()]));
        let wr = steps
            .iter()
            .any(|step| matches!(step.because, WriteRead { .. }));
        let family = match (rw, adjacent) {
            (0, _) if !wr => [G0, G0Process, G0Realtime],
            (0, _) => [G1c, G1cProcess, G1cRealtime],
            (1, _) => [GSingle, GSingleProcess, GSingleRealtime],
            (_, false) => [GNonadjacent, GNonadjacentProcess, GNonadjacentRealtime],
            (_, true) => [G2Item, G2ItemProcess, G2ItemRealtime],
        };
        match (timed, self.level.order) {
            (false, _) => family[0],
            (true, TimeOrder::Session) => family[1],
            (true, _) => family[2],
        }
    }
}

/// The weakest models that a cycle of this kind contradicts. If its only anti-dependency leads to somebody whom the reader read
/// from, directly or through others, no order of versions lets both be: that is a fractured read, or a causal one. If
/// each comes right after a read dependency, snapshots cannot be prefixes of one order (see [`graph`](super::graph)).
fn refuted(kind: AnomalyKind, steps: &[Step]) -> Vec<Model> {
    use AnomalyKind::{G2Item, GNonadjacent, GSingle, LostUpdate, WriteSkew};
    let is_read = |step: &Step| matches!(step.because, Dependency::WriteRead { .. });
    let is_missed = |step: &Step| matches!(step.because, Dependency::ReadWrite { .. });
    let of_data = matches!(
        kind,
        GSingle | GNonadjacent | G2Item | LostUpdate | WriteSkew
    );
    let reads = steps.iter().filter(|step| is_read(step)).count();
    let before = steps.iter().skip(steps.len() - 1).chain(steps);
    let mut pairs = before.zip(steps);
    let further = match (kind, reads) {
        (GSingle, 1) if steps.len() == 2 => Some(Model::ReadAtomicNoSession),
        (GSingle, _) if steps.len() == reads + 1 => Some(Model::CausalConsistencyNoSession),
        _ if of_data && pairs.all(|(one, next)| !is_missed(next) || is_read(one)) => {
            Some(Model::PrefixNoSession)
        }
        _ => None,
    };
    Boundary::of(kind.refutes().into_iter().chain(further), []).violated
}

fn join(sentences: &[Sentence]) -> String {
    let texts: Vec<&str> = sentences
        .iter()
        .map(|sentence| sentence.text.as_str())
        .collect();
    match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{}; however {last}", rest.join("; ")),
        _ => texts.concat(),
    }
}

fn render(proof: &Proof, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let line = |out: &mut String, text: &str| {
        writeln!(out, "{indent}- {text}").expect("a string takes all")
    };
    match proof {
        Proof::Cycle(cycle) => line(out, &format!("{}: a contradiction!", join(cycle))),
        Proof::Forced { not, because, then } => {
            let because = join(because);
            line(
                out,
                &format!("It cannot be that {not}: then {because}. So it is the other way round."),
            );
            render(then, depth, out);
        }
        Proof::Cases(cases) => {
            for (case, proof) in cases {
                line(out, case);
                render(proof, depth + 1, out);
            }
        }
    }
}
