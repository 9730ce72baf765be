//! The fair checker against brute force on thousands of random graphs.
//!
//! The oracle shares nothing with the checker: no Tarjan, no recursion on strong fairness, no exploration order. It goes
//! through *all* sets of nodes that a behaviour could visit infinitely often. And each counterexample is judged by the
//! definitions of the temporal operators on that one behaviour.

use ordain::model::checker::leads_to::{Counterexample, FairChecker, Kind, Strength, Verdict};
use stateright::Model;

const NODES_MAX: u64 = 6;
const ACTIONS: u64 = 4;
const CONSTRAINTS_MAX: u64 = 4;

/// A graph given by its edges: (from, action, to).
#[derive(Debug)]
struct Drawn {
    nodes: u8,
    initial: Vec<u8>,
    edges: Vec<(u8, u8, u8)>,
    /// (strong, the actions in the class as bits)
    constraints: Vec<(bool, u8)>,
    /// The nodes in which P and Q hold, as bits.
    p: u8,
    q: u8,
}

impl Model for Drawn {
    type State = u8;
    /// The action's number and the successor, because several edges may carry one action.
    type Action = (u8, u8);

    fn init_states(&self) -> Vec<u8> {
        self.initial.clone()
    }

    fn actions(&self, state: &u8, actions: &mut Vec<(u8, u8)>) {
        actions.extend(
            self.edges
                .iter()
                .filter(|edge| edge.0 == *state)
                .map(|edge| (edge.1, edge.2)),
        );
    }

    fn next_state(&self, _: &u8, (_, to): (u8, u8)) -> Option<u8> {
        Some(to)
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn draw(seed: u64) -> Drawn {
    let mut draw = Draw(seed);
    let nodes = 1 + draw.below(NODES_MAX) as u8;
    let node = |draw: &mut Draw| draw.below(u64::from(nodes)) as u8;
    let initial = (0..1 + draw.below(2)).map(|_| node(&mut draw)).collect();
    let edges = (0..u64::from(nodes) + draw.below(2 * u64::from(nodes) + 1))
        .map(|_| (node(&mut draw), draw.below(ACTIONS) as u8, node(&mut draw)))
        .collect();
    let constraints = (0..draw.below(CONSTRAINTS_MAX + 1))
        .map(|_| {
            (
                draw.below(2) == 1,
                1 << draw.below(ACTIONS) as u8 | (draw.next() & draw.next() & 0xf) as u8,
            )
        })
        .collect();
    // A sparse Q makes both verdicts of leads-to common.
    let (p, q) = (draw.next() as u8, (draw.next() & draw.next()) as u8);
    Drawn {
        nodes,
        initial,
        edges,
        constraints,
        p,
        q,
    }
}

impl Drawn {
    fn in_class(&self, constraint: usize, action: u8) -> bool {
        self.constraints[constraint].1 >> action & 1 == 1
    }

    fn enabled(&self, constraint: usize, node: u8) -> bool {
        self.edges.iter().any(|&(from, action, to)| {
            from == node && to != node && self.in_class(constraint, action)
        })
    }

    /// `reach[a]` has bit b if b can be reached from a through nodes in `within`, a itself included.
    fn closure(&self, within: u8) -> Vec<u8> {
        let mut reach: Vec<u8> = (0..self.nodes).map(|node| within & 1 << node).collect();
        for _ in 0..self.nodes {
            for &(from, _, to) in &self.edges {
                for known in &mut reach {
                    if *known >> from & 1 == 1 && within >> to & 1 == 1 {
                        *known |= 1 << to;
                    }
                }
            }
        }
        reach
    }

    fn reachable(&self, starts: u8, within: u8) -> u8 {
        let reach = self.closure(within);
        ones(starts & within).fold(0, |all, node| all | reach[usize::from(node)])
    }

    /// Whether a behaviour may visit exactly the nodes of `set` infinitely often, fairly.
    fn recurs(&self, set: u8) -> bool {
        let reach = self.closure(set);
        let connected = ones(set).all(|node| reach[usize::from(node)] == set);
        let fair = |(index, &(strong, _)): (usize, &(bool, u8))| {
            let has = |node: u8| set >> node & 1 == 1;
            // Visiting all nodes of the set, one may as well take all steps between them.
            let taken = self.edges.iter().any(|&(from, action, to)| {
                from != to && has(from) && has(to) && self.in_class(index, action)
            });
            let enabled = ones(set).filter(|&node| self.enabled(index, node)).count();
            let disabled = set.count_ones() as usize - enabled;
            taken || if strong { enabled == 0 } else { disabled > 0 }
        };
        connected && self.constraints.iter().enumerate().all(fair)
    }

    /// Whether some behaviour stays from some point on in a set within `inside`, reached through it from `starts`.
    fn violated(&self, starts: u8, inside: u8, again: u8) -> bool {
        let h = self.reachable(starts, inside);
        (1..=u8::MAX >> (8 - self.nodes))
            .any(|set| set & !h == 0 && set & again != 0 && self.recurs(set))
    }

    fn oracle(&self, kind: Kind) -> bool {
        let all = u8::MAX >> (8 - self.nodes);
        let initial = self.initial.iter().fold(0, |bits, node| bits | 1 << node);
        let reachable = self.reachable(initial, all);
        let (p, q) = (self.p, self.q);
        match kind {
            Kind::Always => reachable & !p == 0,
            Kind::Sometimes => reachable & p != 0,
            Kind::Step => self.edges.iter().all(|&(from, _, to)| {
                reachable >> from & 1 == 0 || from == to || p >> from & 1 == 0 || q >> to & 1 == 1
            }),
            Kind::Eventually => !self.violated(initial & !p, !p & all, all),
            Kind::InfinitelyOften => !self.violated(reachable & !p, !p & all, all),
            Kind::EventuallyAlways => !self.violated(initial, all, !p & all),
            Kind::LeadsTo => !self.violated(reachable & p & !q, !q & all, all),
        }
    }

    fn check(&self) -> Vec<Verdict<u8, (u8, u8)>> {
        let p = |state: &u8| self.p >> state & 1 == 1;
        let q = |state: &u8| self.q >> state & 1 == 1;
        let mut checker = FairChecker::new(self)
            .always("always", p)
            .always_step("action", move |from, _, to| !p(from) || q(to))
            .sometimes("sometimes", p)
            .eventually("eventually", p)
            .infinitely_often("infinitely often", p)
            .eventually_always("eventually always", p)
            .leads_to("leads to", p, q);
        for (index, &(strong, _)) in self.constraints.iter().enumerate() {
            let strength = if strong {
                Strength::Strong
            } else {
                Strength::Weak
            };
            checker = checker.constraint(strength, index.to_string(), move |_, action, _| {
                self.in_class(index, action.0)
            });
        }
        checker.check().expect("tiny graphs are explored").verdicts
    }

    /// Whether this behaviour is one of the model, fair, and violates the property: by definition, on the behaviour itself.
    fn refutes(&self, kind: Kind, found: &Counterexample<u8, (u8, u8)>) -> bool {
        let p = |state: u8| self.p >> state & 1 == 1;
        let q = |state: u8| self.q >> state & 1 == 1;
        let stem: Vec<u8> = std::iter::once(found.initial)
            .chain(found.stem.iter().map(|step| step.state))
            .collect();
        let mut at = found.initial;
        for step in found.stem.iter().chain(found.cycle.iter().flatten()) {
            if !self.edges.contains(&(at, step.action.0, step.action.1))
                || step.state != step.action.1
            {
                return false;
            }
            at = step.state;
        }
        let entry = *stem.last().unwrap();
        if !self.initial.contains(&found.initial) || (found.cycle.is_some() && at != entry) {
            return false;
        }
        let cycle: Vec<u8> = match &found.cycle {
            None => Vec::new(),
            Some(steps) if steps.is_empty() => vec![entry],
            Some(steps) => steps.iter().map(|step| step.state).collect(),
        };
        let for_ever = |holds: &dyn Fn(u8) -> bool| cycle.iter().all(|&state| holds(state));
        let bad = match kind {
            Kind::Always => !p(entry),
            Kind::Step => stem.len() >= 2 && p(stem[stem.len() - 2]) && !q(entry),
            Kind::Sometimes => false,
            Kind::Eventually => stem.iter().all(|&state| !p(state)) && for_ever(&|state| !p(state)),
            Kind::InfinitelyOften => for_ever(&|state| !p(state)),
            Kind::EventuallyAlways => !for_ever(&p),
            Kind::LeadsTo => {
                let never_after =
                    |from: usize| stem[from..].iter().chain(&cycle).all(|&state| !q(state));
                (0..stem.len()).any(|from| p(stem[from]) && never_after(from))
            }
        };
        bad && (!kind.is_liveness() || self.is_fair_cycle(&cycle, found.cycle.as_deref().unwrap()))
    }

    fn is_fair_cycle(
        &self,
        states: &[u8],
        steps: &[ordain::model::checker::leads_to::NamedStep<u8, (u8, u8)>],
    ) -> bool {
        self.constraints
            .iter()
            .enumerate()
            .all(|(index, &(strong, _))| {
                let from = |at: usize| states[(at + states.len() - 1) % states.len()];
                let takes = |(at, step): (
                    usize,
                    &ordain::model::checker::leads_to::NamedStep<u8, (u8, u8)>,
                )| {
                    from(at) != step.state && self.in_class(index, step.action.0)
                };
                let enabled = |&state: &u8| self.enabled(index, state);
                steps.iter().enumerate().any(takes)
                    || if strong {
                        !states.iter().any(enabled)
                    } else {
                        !states.iter().all(enabled)
                    }
            })
    }
}

fn ones(bits: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |bit| bits >> bit & 1 == 1)
}

const LIVENESS: [Kind; 4] = [
    Kind::Eventually,
    Kind::InfinitelyOften,
    Kind::EventuallyAlways,
    Kind::LeadsTo,
];

#[test]
fn verdicts_equal_brute_force_and_every_counterexample_is_one() {
    let mut violated = std::collections::BTreeMap::new();
    let (mut cycles, mut strong_matters) = (0, 0);
    for seed in 0..100_000 {
        let graph = draw(seed);
        for verdict in graph.check() {
            let kind = verdict.kind;
            assert_eq!(
                verdict.holds,
                graph.oracle(kind),
                "seed {seed}, {kind}: {graph:?}"
            );
            if let Some(found) = &verdict.counterexample {
                assert!(
                    graph.refutes(kind, found),
                    "seed {seed}, {kind}: {found:?} in {graph:?}"
                );
                *violated.entry(kind).or_insert(0) += 1;
                cycles += u32::from(found.cycle.as_ref().is_some_and(|cycle| !cycle.is_empty()));
            }
            assert_eq!(
                verdict.counterexample.is_none(),
                verdict.holds || kind == Kind::Sometimes
            );
        }
        // How often strong fairness decides: the same graph with every constraint weak.
        let weaker = Drawn {
            constraints: graph.constraints.iter().map(|c| (false, c.1)).collect(),
            ..draw(seed)
        };
        let differs = |&kind: &Kind| graph.oracle(kind) != weaker.oracle(kind);
        strong_matters += LIVENESS.iter().filter(|kind| differs(kind)).count();
    }
    // The sample is worth something: each kind fails often, many lassos have a real cycle, strong fairness matters.
    for kind in [
        Kind::Always,
        Kind::Step,
        Kind::Eventually,
        Kind::InfinitelyOften,
        Kind::EventuallyAlways,
        Kind::LeadsTo,
    ] {
        assert!(violated[&kind] > 2_000, "{kind}: {violated:?}");
    }
    assert!(cycles > 2_000, "{cycles} counterexamples with a cycle");
    assert!(
        strong_matters > 200,
        "{strong_matters} verdicts differ between SF and WF"
    );
}
