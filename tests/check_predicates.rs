//! Histories with predicate reads against Adya's definitions executed, and against serial execution; and what tells PL-2.99 from PL-3.
//! `ORDAIN_ORACLE_CASES` says how many random histories.
//!
//! The oracle shares nothing with the checker. It tries every subset of the indeterminate transactions, every order of each object's
//! versions and every version set of each predicate read, draws all edges of the definitions (also those that the checker leaves out), and
//! multiplies matrices.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{self, Outcome};
use ordain::check::{
    AnomalyKind, HistoryBuilder, Model, Options, Predicate, Status, Verdict, check, parse,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    All,
    Value(i64),
    Rest(i64, i64),
}

impl Asks {
    fn selects(self, value: Option<i64>) -> bool {
        value.is_some_and(|value| match self {
            Asks::All => true,
            Asks::Value(wanted) => value == wanted,
            Asks::Rest(modulus, rest) => value % modulus == rest,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Do {
    /// Leaves a value, or nothing.
    Change(u32, Option<i64>),
    Read(u32, Option<i64>),
    Ask(Asks, BTreeMap<u32, i64>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Txn {
    process: u64,
    invoke: u64,
    complete: u64,
    status: Status,
    ops: Vec<Do>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Case {
    first: BTreeMap<u32, i64>,
    txns: Vec<Txn>,
}

const KEYS: u32 = 3;

type State = BTreeMap<u32, i64>;

fn draw(seed: u64) -> Case {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |n: u64| random.next_u64() % n;
    let first: State = (0..KEYS)
        .filter_map(|key| match below(2) {
            0 => Some((key, below(2) as i64)),
            _ => None,
        })
        .collect();
    let count = 2 + below(4) as usize;
    let several = below(8) == 0;
    let mut changers = BTreeMap::<u32, u64>::new();
    let mut next_value = 2;
    let mut clocks = [0u64; 3];
    let mut txns: Vec<Txn> = Vec::new();
    for at in 0..count {
        let mut ops = Vec::new();
        let mut own = BTreeSet::new();
        for _ in 0..1 + below(3) {
            let key = below(u64::from(KEYS)) as u32;
            let may_change = changers.get(&key).is_none_or(|&n| several && n < 2);
            let again = own.contains(&key) && below(12) == 0;
            match below(5) {
                0 | 1 if may_change && !own.contains(&key) || again => {
                    let value = (below(4) > 0).then(|| {
                        next_value += 1;
                        next_value - 1
                    });
                    // One may change what it made, but nothing is deleted twice.
                    let value = if again { Some(next_value + 20) } else { value };
                    ops.push(Do::Change(key, value));
                    if own.insert(key) {
                        *changers.entry(key).or_default() += 1;
                    }
                }
                2 => ops.push(Do::Read(key, None)),
                _ => {
                    let asks = match below(4) {
                        0 => Asks::All,
                        1 => Asks::Value(below(5) as i64),
                        _ => Asks::Rest(2, below(2) as i64),
                    };
                    ops.push(Do::Ask(asks, State::new()));
                }
            }
        }
        let process = below(3) as usize;
        let invoke = clocks[process] + 1 + below(4);
        let complete = invoke + 1 + below(8);
        clocks[process] = complete;
        let status = match below(12) {
            0 => Status::Fail,
            1 | 2 => Status::Info,
            _ => Status::Ok,
        };
        txns.push(Txn {
            // Nobody follows one of unknown fate in its session.
            process: match status {
                Status::Info => 10 + at as u64,
                _ => process as u64,
            },
            invoke,
            complete,
            status,
            ops,
        });
    }
    // What reads find: what some of the others left, which may differ from read to read.
    let changes: Vec<Vec<(u32, Option<i64>)>> = txns
        .iter()
        .map(|txn| {
            let changes = txn.ops.iter().filter_map(|op| match op {
                Do::Change(key, value) => Some((*key, *value)),
                _ => None,
            });
            changes.collect()
        })
        .collect();
    let failed: Vec<bool> = txns.iter().map(|txn| txn.status == Status::Fail).collect();
    for (at, txn) in txns.iter_mut().enumerate() {
        let mut seen: Vec<bool> = Vec::new();
        let redraw = below(3) == 0;
        let mut state = State::new();
        let mut own = BTreeMap::<u32, Option<i64>>::new();
        for op in &mut txn.ops {
            if seen.is_empty() || redraw && below(3) == 0 {
                let is_seen = |other: usize, roll: u64| match () {
                    () if failed[other] => roll < 3,
                    () if other < at => roll < 70,
                    () => roll < 20,
                };
                seen = (0..count).map(|other| is_seen(other, below(100))).collect();
                state = first.clone();
                let others = (0..count).filter(|&other| other != at && seen[other]);
                for (key, value) in others.flat_map(|other| changes[other].clone()) {
                    match value {
                        Some(value) => drop(state.insert(key, value)),
                        None => drop(state.remove(&key)),
                    }
                }
            }
            let mut view = state.clone();
            for (&key, &value) in own.iter().filter(|_| below(15) > 0) {
                match value {
                    Some(value) => drop(view.insert(key, value)),
                    None => drop(view.remove(&key)),
                }
            }
            match op {
                Do::Change(key, value) => drop(own.insert(*key, *value)),
                Do::Read(key, value) => *value = view.get(key).copied(),
                Do::Ask(asks, found) => {
                    view.retain(|_, value| asks.selects(Some(*value)));
                    *found = view;
                }
            }
        }
    }
    Case { first, txns }
}

/// The history, as a program builds it.
fn to_history(case: &Case) -> ordain::check::History {
    let mut builder = HistoryBuilder::new();
    for (&key, &value) in &case.first {
        builder.initial(u64::from(key), value as u64);
    }
    // The universe: all objects are named, though nobody may have touched them.
    for txn in &case.txns {
        builder.begin(txn.process, txn.invoke);
        let is_known = txn.status == Status::Ok;
        for op in &txn.ops {
            match op {
                Do::Change(key, Some(value)) => builder.write(u64::from(*key), *value as u64),
                Do::Change(key, None) => builder.delete(u64::from(*key)),
                Do::Read(key, _) if !is_known => builder.read_unknown(u64::from(*key)),
                Do::Read(key, value) => {
                    builder.read(u64::from(*key), value.map(|value| value as u64));
                }
                Do::Ask(asks, found) => {
                    let (predicate, name) = match *asks {
                        Asks::All => (Predicate::True, "all".to_owned()),
                        Asks::Value(value) => {
                            (Predicate::Equal(value as u64), format!("= {value}"))
                        }
                        Asks::Rest(modulus, rest) => (
                            Predicate::Mod {
                                modulus: modulus as u64,
                                rest: rest as u64,
                            },
                            format!("mod {modulus} {rest}"),
                        ),
                    };
                    let name = builder.name(&name);
                    if is_known {
                        let found = found.iter();
                        let found = found.map(|(&key, &value)| (u64::from(key), value as u64));
                        builder.read_predicate(name, predicate, &found.collect::<Vec<_>>());
                    } else {
                        builder.read_unknown(name);
                    }
                }
            }
        }
        let complete = (txn.status != Status::Info).then_some(txn.complete);
        builder.end(txn.status, complete);
    }
    builder.finish()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Time {
    Free,
    Session,
    Real,
}

fn precedes(time: Time, one: &Txn, other: &Txn) -> bool {
    let before = one.status == Status::Ok && one.complete < other.invoke;
    match time {
        Time::Free => false,
        Time::Session => before && one.process == other.process,
        Time::Real => before,
    }
}

/// Does a transaction's every read find what is there?
fn runs(txn: &Txn, state: &mut State) -> bool {
    for op in &txn.ops {
        let fits = match op {
            Do::Change(key, Some(value)) => {
                state.insert(*key, *value);
                true
            }
            Do::Change(key, None) => {
                state.remove(key);
                true
            }
            // Nobody knows what one found that was not told to have committed.
            _ if txn.status != Status::Ok => true,
            Do::Read(key, value) => state.get(key).copied() == *value,
            Do::Ask(asks, found) => {
                let there = state
                    .iter()
                    .filter(|(_, value)| asks.selects(Some(**value)));
                there.map(|(&key, &value)| (key, value)).eq(found.clone())
            }
        };
        if !fits {
            return false;
        }
    }
    true
}

fn is_serial(time: Time, left: &[&Txn], state: &State) -> bool {
    left.is_empty()
        || (0..left.len()).any(|at| {
            let mut rest = left.to_vec();
            let next = rest.remove(at);
            let mut state = state.clone();
            !rest.iter().any(|other| precedes(time, other, next))
                && runs(next, &mut state)
                && is_serial(time, &rest, &state)
        })
}

/// Every choice of those that happened.
fn worlds(case: &Case) -> Vec<Vec<&Txn>> {
    let maybe: Vec<&Txn> = (case.txns.iter())
        .filter(|txn| txn.status == Status::Info)
        .collect();
    let chosen = |bits: u32| {
        let certain = case.txns.iter().filter(|txn| txn.status == Status::Ok);
        let picked = (0..maybe.len()).filter(move |at| bits >> at & 1 == 1);
        certain.chain(picked.map(|at| maybe[at])).collect()
    };
    (0..1u32 << maybe.len()).map(chosen).collect()
}

fn is_serializable(case: &Case, time: Time) -> bool {
    let mut worlds = worlds(case).into_iter();
    worlds.any(|world| is_serial(time, &world, &case.first))
}

type Matrix = Vec<Vec<bool>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let n = a.len();
    let cell = |i: usize, j: usize| (0..n).any(|k| a[i][k] && b[k][j]);
    (0..n)
        .map(|i| (0..n).map(|j| cell(i, j)).collect())
        .collect()
}

fn union(a: &Matrix, b: &Matrix) -> Matrix {
    let row = |(a, b): (&Vec<bool>, &Vec<bool>)| a.iter().zip(b).map(|(a, b)| *a || *b).collect();
    a.iter().zip(b).map(row).collect()
}

fn has_cycle(matrix: &Matrix) -> bool {
    let mut paths = matrix.clone();
    for _ in 0..matrix.len() {
        paths = union(&paths, &product(&paths, matrix));
    }
    (0..matrix.len()).any(|at| paths[at][at])
}

/// Adya's graph for one choice of all that nobody saw.
struct Graph {
    /// Write and read dependencies, of items and predicates.
    depends: Matrix,
    item_anti: Matrix,
    predicate_anti: Matrix,
    /// Session and real-time order.
    session: Matrix,
    real: Matrix,
}

/// Whether a graph satisfies a level.
type Holds = fn(&Graph) -> bool;

/// The levels that the definitions decide, and how.
const LEVELS: [(Model, Holds); 8] = [
    (Model::ReadCommitted, |g| !has_cycle(&g.depends)),
    (Model::StrongSessionReadCommitted, |g| {
        !has_cycle(&union(&g.depends, &g.session))
    }),
    (Model::StrongReadCommitted, |g| {
        !has_cycle(&union(&g.depends, &g.real))
    }),
    (Model::ConsistentView, |g| {
        // G-single: back by dependencies from where one anti-dependency leads.
        let mut paths = g.depends.clone();
        for _ in 0..paths.len() {
            paths = union(&paths, &product(&paths, &g.depends));
        }
        let anti = union(&g.item_anti, &g.predicate_anti);
        let n = anti.len();
        !has_cycle(&g.depends) && !(0..n).any(|a| (0..n).any(|b| anti[a][b] && paths[b][a]))
    }),
    (Model::RepeatableRead, |g| {
        !has_cycle(&union(&g.depends, &g.item_anti))
    }),
    (Model::SnapshotIsolation, |g| is_snapshot(&g.depends, g)),
    (Model::StrongSessionSnapshotIsolation, |g| {
        is_snapshot(&union(&g.depends, &g.session), g)
    }),
    (Model::StrongSnapshotIsolation, |g| {
        is_snapshot(&union(&g.depends, &g.real), g)
    }),
];

/// No cycle in which no two anti-dependencies are adjacent (Cerone and Gotsman).
fn is_snapshot(depends: &Matrix, graph: &Graph) -> bool {
    let anti = union(&graph.item_anti, &graph.predicate_anti);
    !has_cycle(&union(depends, &product(depends, &anti)))
}

/// What a read says of an object that its transaction had not changed.
#[derive(Clone, Copy)]
enum Says {
    Is(Option<i64>),
    Not(Asks),
}

/// A transaction's reads of others, by object, and whether those of its own changes are right.
fn outside_reads(txn: &Txn) -> (Vec<(u32, Says, Option<Asks>)>, bool) {
    let mut own = BTreeMap::<u32, Option<i64>>::new();
    let (mut reads, mut consistent) = (Vec::new(), true);
    for op in txn.ops.iter() {
        match op {
            Do::Change(key, value) => drop(own.insert(*key, *value)),
            _ if txn.status != Status::Ok => {}
            Do::Read(key, value) => match own.get(key) {
                Some(own) => consistent &= own == value,
                None => reads.push((*key, Says::Is(*value), None)),
            },
            Do::Ask(asks, found) => {
                for key in 0..KEYS {
                    let value = found.get(&key).copied();
                    match (own.get(&key), value) {
                        (Some(own), _) => {
                            consistent &= own.filter(|own| asks.selects(Some(*own))) == value
                        }
                        (None, Some(value)) => {
                            reads.push((key, Says::Is(Some(value)), Some(*asks)))
                        }
                        (None, None) => reads.push((key, Says::Not(*asks), Some(*asks))),
                    }
                }
            }
        }
    }
    (reads, consistent)
}

/// All graphs of a world: for each order of versions and each version set.
fn graphs(case: &Case, world: &[&Txn]) -> Vec<Graph> {
    // By object, every order of its versions: content and writer.
    type Versions = Vec<(Option<i64>, Option<usize>)>;
    let mut orders: Vec<Vec<Versions>> = Vec::new();
    for key in 0..KEYS {
        let changes: Vec<(Option<i64>, Option<usize>)> = world
            .iter()
            .enumerate()
            .filter_map(|(at, txn)| {
                let last = txn.ops.iter().rev().find_map(|op| match op {
                    Do::Change(of, value) if *of == key => Some(*value),
                    _ => None,
                });
                Some((last?, Some(at)))
            })
            .collect();
        let first = (case.first.get(&key).copied(), None);
        let mut of_key = vec![[vec![first], changes.clone()].concat()];
        if let [one, other] = changes[..] {
            of_key.push(vec![first, other, one]);
        }
        orders.push(of_key);
    }
    let mut graphs = Vec::new();
    for choice in 0..orders.iter().map(Vec::len).product() {
        let mut rest = choice;
        let versions: Vec<&Versions> = orders
            .iter()
            .map(|of_key| {
                let one = &of_key[rest % of_key.len()];
                rest /= of_key.len();
                one
            })
            .collect();
        let mut reads = Vec::new();
        for (at, txn) in world.iter().enumerate() {
            for (key, says, asks) in outside_reads(txn).0 {
                let fits = |&place: &usize| {
                    let content = versions[key as usize][place].0;
                    match says {
                        Says::Is(value) => content == value,
                        Says::Not(asks) => !asks.selects(content),
                    }
                };
                let places = 0..versions[key as usize].len();
                let places: Vec<usize> = places.filter(fits).collect();
                reads.push((at, key, says, asks, places));
            }
        }
        let sets: usize = reads.iter().map(|(.., places)| places.len()).product();
        assert!(sets <= 1 << 16, "{case:?}");
        for set in 0..sets {
            graphs.push(graph(world, &versions, &reads, set));
        }
    }
    graphs
}

type Choice = (usize, u32, Says, Option<Asks>, Vec<usize>);

fn graph(
    world: &[&Txn],
    versions: &[&Vec<(Option<i64>, Option<usize>)>],
    reads: &[Choice],
    mut set: usize,
) -> Graph {
    let n = world.len();
    let empty = || vec![vec![false; n]; n];
    let order = |time: Time| {
        let row = |one: &&Txn| {
            world
                .iter()
                .map(|other| precedes(time, one, other))
                .collect()
        };
        world.iter().map(row).collect()
    };
    let mut graph = Graph {
        depends: empty(),
        item_anti: empty(),
        predicate_anti: empty(),
        session: order(Time::Session),
        real: order(Time::Real),
    };
    let mut edge =
        |matrix: fn(&mut Graph) -> &mut Matrix, from: Option<usize>, to: Option<usize>| {
            if let (Some(from), Some(to)) = (from, to)
                && from != to
            {
                matrix(&mut graph)[from][to] = true;
            }
        };
    for of_key in versions {
        for pair in of_key.windows(2) {
            edge(|g| &mut g.depends, pair[0].1, pair[1].1);
        }
    }
    for (at, key, says, asks, places) in reads {
        let place = places[set % places.len()];
        set /= places.len();
        let of_key = versions[*key as usize];
        // Whoever returned a value read the item.
        if let Says::Is(_) = says {
            edge(|g| &mut g.depends, of_key[place].1, Some(*at));
            if let Some(next) = of_key.get(place + 1) {
                edge(|g| &mut g.item_anti, Some(*at), next.1);
            }
        }
        // Whoever changed the answer came before, if by then, and after, if later.
        if let Some(asks) = asks {
            for changed in 1..of_key.len() {
                let selected = |place: usize| asks.selects(of_key[place].0);
                if selected(changed - 1) == selected(changed) {
                    continue;
                }
                match changed <= place {
                    true => edge(|g| &mut g.depends, of_key[changed].1, Some(*at)),
                    false => edge(|g| &mut g.predicate_anti, Some(*at), of_key[changed].1),
                }
            }
        }
    }
    graph
}

/// By its definition, does the history satisfy the model?
fn expected(case: &Case, worlds: &[(Vec<Graph>, bool)], model: Model) -> bool {
    let time = match model {
        Model::Serializable => Some(Time::Free),
        Model::StrongSessionSerializable => Some(Time::Session),
        Model::StrictSerializable => Some(Time::Real),
        _ => None,
    };
    if let Some(time) = time {
        return is_serializable(case, time);
    }
    let (_, holds) = LEVELS
        .iter()
        .find(|(level, _)| *level == model)
        .expect("a level");
    let of_items = matches!(
        model,
        Model::RepeatableRead
            | Model::SnapshotIsolation
            | Model::StrongSessionSnapshotIsolation
            | Model::StrongSnapshotIsolation
    );
    let fits = |(graphs, consistent): &(Vec<Graph>, bool)| {
        (*consistent || !of_items) && graphs.iter().any(holds)
    };
    worlds.iter().any(fits)
}

fn compare(seed: u64) -> Outcome<(Model, bool, Verdict2)> {
    let case = draw(seed);
    let history = to_history(&case);
    let mut outcome = Outcome::default();
    if !history.has_predicates() {
        return outcome;
    }
    let judged: Vec<(Vec<Graph>, bool)> = worlds(&case)
        .iter()
        .map(|world| {
            let consistent = world.iter().all(|txn| outside_reads(txn).1);
            (graphs(&case, world), consistent)
        })
        .collect();
    let serial = [
        Model::Serializable,
        Model::StrongSessionSerializable,
        Model::StrictSerializable,
    ];
    let mut changes = BTreeMap::<u32, BTreeSet<usize>>::new();
    for (at, txn) in case
        .txns
        .iter()
        .enumerate()
        .filter(|(_, txn)| txn.status != Status::Fail)
    {
        for op in &txn.ops {
            if let Do::Change(key, _) = op {
                changes.entry(*key).or_default().insert(at);
            }
        }
    }
    let is_exact = changes.values().all(|of_key| of_key.len() < 2);
    for model in LEVELS.iter().map(|(model, _)| *model).chain(serial) {
        let report = check(&history, &Options::new(model));
        let expected = expected(&case, &judged, model);
        let right = match report.verdict {
            Verdict::Valid => expected,
            Verdict::Invalid => !expected,
            Verdict::Unknown => !is_exact,
        };
        if !right {
            outcome.1.push(format!(
                "seed {seed}, {model}: by the definitions {expected}, we say {:?}: {:?} {:?}\n{case:#?}",
                report.verdict, report.counts, report.notes
            ));
        }
        let said = match report.verdict {
            Verdict::Valid => Verdict2::Valid,
            Verdict::Invalid => Verdict2::Invalid,
            Verdict::Unknown => Verdict2::Unknown,
        };
        *outcome.0.entry((model, expected, said)).or_default() += 1;
    }
    outcome
}

/// A verdict that can be sorted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict2 {
    Valid,
    Invalid,
    Unknown,
}

#[test]
fn predicates_are_judged_by_their_definitions() {
    let asked = std::env::var("ORDAIN_ORACLE_CASES").ok();
    let count = asked.map_or(4_000, |text| text.parse().expect("a number of cases"));
    let tally = oracle::assert_agreement(0..count, compare);
    let number = |wanted: &dyn Fn(&(Model, bool, Verdict2)) -> bool| {
        let counted = tally.iter().filter(|(key, _)| wanted(key));
        counted.map(|(_, count)| count).sum::<u64>()
    };
    for (model, _) in LEVELS {
        for said in [Verdict2::Valid, Verdict2::Invalid] {
            let seen = number(&|key| key.0 == model && key.2 == said);
            assert!(seen > count / 50, "{model} {said:?}: {seen}, {tally:?}");
        }
    }
    // Phantoms alone: repeatable read holds where serializability fails.
    let repeatable = number(&|key| key.0 == Model::RepeatableRead && key.2 == Verdict2::Valid);
    let serializable = number(&|key| key.0 == Model::Serializable && key.2 == Verdict2::Valid);
    assert!(repeatable > serializable + count / 50, "{tally:?}");
}

fn verdicts(text: &str, models: &[Model]) -> Vec<Verdict> {
    let history = parse::read(text.as_bytes(), parse::Strictness::Strict).expect("a history");
    let verdict = |&model: &Model| check(&history, &Options::new(model)).verdict;
    models.iter().map(verdict).collect()
}

const PHANTOM: &str = "{:type :invoke, :process 9, :f :init, :value {:x 5, :sum 1}}
{:type :ok, :process 9, :f :init, :value {:x 5, :sum 1}}
{:type :invoke, :process 1, :f :txn, :value [[:rp [:= 5] nil] [:r :sum nil]]}
{:type :invoke, :process 2, :f :txn, :value [[:insert :y 5] [:w :sum 2]]}
{:type :ok, :process 2, :f :txn, :value [[:insert :y 5] [:w :sum 2]]}
{:type :ok, :process 1, :f :txn, :value [[:rp [:= 5] {:x 5}] [:r :sum 2]]}
";

#[test]
fn a_phantom_tells_repeatable_read_from_serializability() {
    let models = [
        Model::RepeatableRead,
        Model::Serializable,
        Model::ConsistentView,
    ];
    let found = verdicts(PHANTOM, &models);
    assert_eq!(found, [Verdict::Valid, Verdict::Invalid, Verdict::Invalid]);
    let seen = PHANTOM.replace("{:x 5}] [:r :sum 2]", "{:x 5, :y 5}] [:r :sum 2]");
    assert_eq!(verdicts(&seen, &models), [Verdict::Valid; 3]);
}

#[test]
fn a_returned_row_that_changed_is_an_item_and_no_phantom() {
    // The row was returned by the predicate, so that its change is an anti-dependency of an item.
    let text = PHANTOM.replace("[:insert :y 5]", "[:w :x 7]");
    let models = [Model::RepeatableRead, Model::Serializable];
    assert_eq!(verdicts(&text, &models), [Verdict::Invalid; 2]);
}

#[test]
fn an_object_that_was_changed_twice_is_left_open_unless_its_order_is_told() {
    let text = PHANTOM.to_owned()
        + "{:type :invoke, :process 3, :f :txn, :value [[:w :x 8]]}
{:type :ok, :process 3, :f :txn, :value [[:w :x 8]]}
{:type :invoke, :process 4, :f :txn, :value [[:w :x 9] [:rp [:= 9] nil]]}
{:type :ok, :process 4, :f :txn, :value [[:w :x 9] [:rp [:= 9] {:x 9}]]}
";
    assert_eq!(
        verdicts(&text, &[Model::RepeatableRead, Model::Serializable]),
        [Verdict::Unknown, Verdict::Invalid]
    );
    let told = text + "{:type :versions, :key :x, :value [8 9]}\n";
    assert_eq!(verdicts(&told, &[Model::RepeatableRead]), [Verdict::Valid]);
}

#[test]
fn what_init_does_not_say_for_certain_is_refused() {
    for (from, to, reason) in [
        (
            ":type :ok, :process 9, :f :init",
            ":type :info, :process 9, :f :init",
            "init did not succeed",
        ),
        ("[:= 5] nil", "[:> 5] nil", "a predicate is"),
        ("[:= 5] nil", "[:mod 0 0] nil", "divided by 0"),
        (
            "[:rp [:= 5] {:x 5}]",
            "[:rp [:= 5] 5]",
            "a map of keys to values",
        ),
    ] {
        let text = PHANTOM.replace(from, to);
        let error = parse::read(text.as_bytes(), parse::Strictness::Strict);
        let error = error.err().expect("no history").to_string();
        assert!(error.contains(reason), "{error}");
    }
    let late = PHANTOM.lines().skip(2).chain(PHANTOM.lines().take(2));
    let late: Vec<&str> = late.collect();
    let error = parse::read(late.join("\n").as_bytes(), parse::Strictness::Strict);
    let error = error.err().expect("no history").to_string();
    assert!(error.contains("comes before them"), "{error}");
}

#[test]
fn a_predicate_read_that_lacks_what_was_always_there_is_no_read_of_any_state() {
    let text = PHANTOM.replace("[:rp [:= 5] {:x 5}]", "[:rp [:= 5] {}]");
    let history = parse::read(text.as_bytes(), parse::Strictness::Strict).expect("a history");
    let report = check(&history, &Options::new(Model::ReadCommitted));
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.found(AnomalyKind::PredicateReadMiss), "{report:?}");
}
