//! The litmus suite: small systems, each as hand-written TLA+ in `specs/litmus` and, written separately, as a Rust twin here.
//!
//! `specs/litmus/manifest.json` holds what TLC says about each; `specs/check` re-verifies that with TLC itself. Here the fair
//! checker must say the same of the twin: distinct and generated states, depth, and every verdict.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use ordain::model::checker::leads_to::{FairChecker, Kind, Report, Strength};
use serde::Deserialize;
use stateright::{Checker, Model, Property};

use crate::gray_lamport::GrayLamport;

#[derive(Deserialize)]
struct Manifest {
    models: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    module: String,
    fairness: Vec<String>,
    /// For systems with a size.
    participants: Option<u8>,
    distinct: u64,
    generated: u64,
    depth: u32,
    properties: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    name: String,
    kind: Kind,
    holds: bool,
}

fn manifest() -> Vec<Entry> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/specs/litmus/manifest.json");
    let text = std::fs::read_to_string(path).expect("the manifest is part of the tree");
    serde_json::from_str::<Manifest>(&text)
        .expect("a well-formed manifest")
        .models
}

/// A system as a function from a state to its named steps.
struct Twin<S: 'static> {
    initial: Vec<S>,
    steps: fn(S) -> Vec<(&'static str, S)>,
    /// For the comparison with stateright's own `eventually`.
    goal: Option<fn(&Twin<S>, &S) -> bool>,
}

impl<S: Copy> Twin<S> {
    fn new(initial: impl Into<Vec<S>>, steps: fn(S) -> Vec<(&'static str, S)>) -> Self {
        Self {
            initial: initial.into(),
            steps,
            goal: None,
        }
    }
}

impl<S: Copy + Debug + Hash + PartialEq> Model for Twin<S> {
    type State = S;
    type Action = (&'static str, S);

    fn init_states(&self) -> Vec<S> {
        self.initial.clone()
    }

    fn actions(&self, state: &S, actions: &mut Vec<Self::Action>) {
        actions.extend((self.steps)(*state));
    }

    fn next_state(&self, _: &S, (_, to): Self::Action) -> Option<S> {
        Some(to)
    }

    fn format_action(&self, action: &Self::Action) -> String {
        action.0.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.goal
            .into_iter()
            .map(|goal| Property::eventually("goal", goal))
            .collect()
    }
}

/// The steps whose guard holds.
macro_rules! steps {
    ($($guard:expr, $name:expr => $to:expr);* $(;)?) => {{
        let mut steps = Vec::new();
        $(if $guard { steps.push(($name, $to)); })*
        steps
    }};
}

type Checking<'a, S> = FairChecker<'a, Twin<S>>;

/// Whether a step (before, action, after) belongs to the class that a fairness constraint names.
type Class<S> = fn(&str, S, &str, S) -> bool;

/// The class of a constraint is the action of its name.
fn named<S>(class: &str, _: S, action: &str, _: S) -> bool {
    class == action
}

/// There is only one constraint, and it is on every step.
fn any<S>(_: &str, _: S, _: &str, _: S) -> bool {
    true
}

impl Entry {
    /// Checks the twin under the constraints that the manifest names.
    fn judge<S>(
        &self,
        twin: Twin<S>,
        class: Class<S>,
        properties: impl for<'a> FnOnce(Checking<'a, S>) -> Checking<'a, S>,
    ) -> Found
    where
        S: Copy + Debug + Hash + PartialEq,
    {
        let mut checker = FairChecker::new(&twin);
        for constraint in &self.fairness {
            let (strength, name) = constraint.split_once(' ').expect("`WF A` or `SF A`");
            let strength = if strength.starts_with("SF") {
                Strength::Strong
            } else {
                Strength::Weak
            };
            checker = checker.constraint(strength, name, move |from, action, to| {
                class(name, *from, action.0, *to)
            });
        }
        Found::from(
            properties(checker)
                .check()
                .expect("litmus systems are tiny"),
        )
    }
}

/// What there is to compare.
struct Found {
    counts: (u64, u64, u32),
    verdicts: Vec<(String, Kind, bool)>,
}

impl<S, A> From<Report<S, A>> for Found {
    fn from(report: Report<S, A>) -> Self {
        Self {
            counts: (
                report.counts.distinct,
                report.counts.generated,
                report.counts.depth,
            ),
            verdicts: report
                .verdicts
                .into_iter()
                .map(|v| (v.name, v.kind, v.holds))
                .collect(),
        }
    }
}

/// The twin of a module, checked as the entry says.
fn found(entry: &Entry) -> Found {
    let twin = match entry.module.as_str() {
        "LostInACycle.tla" => lost_in_a_cycle,
        "JoinHidesTheCulprit.tla" => join_hides_the_culprit,
        "StuttersAtTheStart.tla" => stutters_at_the_start,
        "StutteringStep.tla" => stuttering_step,
        "SubscriptMatters.tla" => subscript_matters,
        "LossyLink.tla" => lossy_link,
        "UnfairInsideFair.tla" => unfair_inside_fair,
        "SwingDisables.tla" => swing_disables,
        "StrongRecurses.tla" => strong_recurses,
        "StrongRecursesInVain.tla" => strong_recurses_in_vain,
        "StrongRecursesTwice.tla" => strong_recurses_twice,
        "DeletionTakesTheWitness.tla" => deletion_takes_the_witness,
        "EnabledLeavesTheRegion.tla" => enabled_leaves_the_region,
        "EnabledTooLate.tla" => enabled_too_late,
        "PerProcess.tla" => per_process,
        "DisjunctionOrEach.tla" => disjunction_or_each,
        "Peterson.tla" => peterson,
        "TestAndSet.tla" => test_and_set,
        "TwoForks.tla" => two_forks,
        "EventuallyStable.tla" => eventually_stable,
        "CutAndHealForEver.tla" => cut_and_heal_for_ever,
        "CutsOnABudget.tla" => cuts_on_a_budget,
        "CoordinatorDown.tla" => coordinator_down,
        "AlternatingBit.tla" => alternating_bit,
        "TokenRing.tla" => token_ring,
        "LeaderSettles.tla" => leader_settles,
        "TwoInitialStates.tla" => two_initial_states,
        "SecondRoundSticks.tla" => second_round_sticks,
        "PassingRequest.tla" => passing_request,
        "NothingHappens.tla" => nothing_happens,
        "ParallelSteps.tla" => parallel_steps,
        "SharedStep.tla" => shared_step,
        "WrappingCounter.tla" => wrapping_counter,
        "DiamondsOnTheWay.tla" => diamonds_on_the_way,
        "RetryUntilAck.tla" => retry_until_ack,
        "Oscillates.tla" => oscillates,
        "DisabledInOneState.tla" => disabled_in_one_state,
        "GrayLamport.tla" => two_phase_commit,
        other => panic!("{other} has no twin"),
    };
    twin(entry)
}

#[test]
fn the_fair_checker_says_of_every_twin_what_tlc_says_of_the_spec() {
    let entries = manifest();
    for entry in &entries {
        let found = found(entry);
        let name = &entry.name;
        assert_eq!(
            found.counts,
            (entry.distinct, entry.generated, entry.depth),
            "{name}: distinct, generated, depth"
        );
        for recorded in &entry.properties {
            let verdict = found
                .verdicts
                .iter()
                .find(|verdict| verdict.0 == recorded.name);
            let (_, kind, holds) =
                verdict.unwrap_or_else(|| panic!("{name}: the twin lacks {}", recorded.name));
            assert_eq!(
                (*kind, *holds),
                (recorded.kind, recorded.holds),
                "{name}: {}",
                recorded.name
            );
        }
    }
    let modules: BTreeSet<_> = entries.iter().map(|entry| &entry.module).collect();
    assert!(modules.len() >= 30, "{} systems", modules.len());
    let verdicts = || entries.iter().flat_map(|entry| &entry.properties);
    let failing = verdicts().filter(|recorded| !recorded.holds).count();
    assert!(
        failing >= 30 && verdicts().count() - failing >= 30,
        "{failing} of {} fail",
        verdicts().count()
    );
}

/// What stateright's own search says of `<>goal`: whether it found a counterexample.
fn stateright_refutes<S>(mut twin: Twin<S>, goal: fn(&Twin<S>, &S) -> bool) -> bool
where
    S: Copy + Debug + Hash + PartialEq + Send + Sync,
{
    twin.goal = Some(goal);
    twin.checker()
        .spawn_bfs()
        .join()
        .discovery("goal")
        .is_some()
}

#[test]
fn stateright_alone_misses_the_cycle_and_the_join() {
    // Both properties are violated: TLC and the fair checker say so in the test above.
    assert!(!stateright_refutes(
        Twin::new([0], lost_in_a_cycle_steps),
        |_, &x| x == 3
    ));
    assert!(!stateright_refutes(Twin::new([0], join_steps), |_, &x| x == 1));
    // It does find what ends in a terminal state, so the comparison is not rigged.
    assert!(stateright_refutes(Twin::new([0], join_steps), |_, &x| x == 7));
}

#[test]
fn a_lasso_fair_to_parallel_steps_takes_both() {
    let twin = Twin::new([0], parallel_steps_steps);
    let report = FairChecker::new(&twin)
        .each(Strength::Strong, "", ["A", "B", "Back"], |name, action| {
            *name == action.0
        })
        .eventually("Leaves", |&x| x == 2)
        .check()
        .unwrap();
    let lasso = report.verdicts[0].counterexample.as_ref().unwrap();
    let cycle: BTreeSet<&str> = lasso
        .cycle
        .iter()
        .flatten()
        .map(|step| step.name.as_str())
        .collect();
    assert_eq!(cycle, BTreeSet::from(["A", "B", "Back"]));
    assert_eq!(lasso.stem.len(), 0, "the shortest prefix");
    assert!(
        lasso
            .why_fair
            .iter()
            .all(|(_, why)| *why == "taken on the cycle"),
        "{:?}",
        lasso.why_fair
    );
}

fn lost_in_a_cycle_steps(x: u8) -> Vec<(&'static str, u8)> {
    steps! {
        x == 0, "Enter" => 1;
        x == 0, "Leave" => 3;
        x == 1, "Turn" => 2;
        x == 2, "Turn" => 1;
    }
}

fn lost_in_a_cycle(entry: &Entry) -> Found {
    entry.judge(Twin::new([0], lost_in_a_cycle_steps), any, |check| {
        check
            .always("Range", |&x| x <= 3)
            .eventually("Reaches", |&x| x == 3)
    })
}

fn join_steps(x: u8) -> Vec<(&'static str, u8)> {
    match x {
        0 => vec![("Upper", 1), ("Lower", 2)],
        1 => vec![("Upper", 3)],
        2 => vec![("Lower", 3)],
        _ => vec![],
    }
}

fn join_hides_the_culprit(entry: &Entry) -> Found {
    entry.judge(Twin::new([0], join_steps), any, |check| {
        check
            .eventually("PassesOne", |&x| x == 1)
            .eventually_always("Ends", |&x| x == 3)
    })
}

fn stutters_at_the_start(entry: &Entry) -> Found {
    let twin = Twin::new([false], |started| steps! { !started, "Go" => true });
    entry.judge(twin, named, |check| {
        check.eventually("Starts", |&started| started).leads_to(
            "LeadsOn",
            |&started| !started,
            |&started| started,
        )
    })
}

fn stuttering_step(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| steps! { true, "Spin" => x; x == 0, "Go" => 1 });
    let class = |class: &str, _, action: &str, _| class == "Next" || class == action;
    entry.judge(twin, class, |check| check.eventually("Starts", |&x| x == 1))
}

fn subscript_matters(entry: &Entry) -> Found {
    let twin = Twin::new(
        [(0, 0)],
        |(x, y)| steps! { x == 0, "Tick" => (x, 1 - y); x == 0, "Finish" => (1, y) },
    );
    // Both constraints are on Work, which is every step; the first only counts those that change x.
    let all: Class<(u8, u8)> = any;
    let class = if entry.fairness == ["WF_x Work"] {
        |_: &str, from: (u8, u8), _: &str, to: (u8, u8)| from.0 != to.0
    } else {
        all
    };
    entry.judge(twin, class, |check| {
        check.eventually("Finishes", |s| s.0 == 1)
    })
}

fn lossy_link(entry: &Entry) -> Found {
    let twin = Twin::new(["idle"], |link| match link {
        "idle" => vec![("Send", "flying")],
        "flying" => vec![("Lose", "idle"), ("Deliver", "done")],
        _ => vec![],
    });
    entry.judge(twin, named, |check| {
        check.leads_to(
            "Delivered",
            |&link| link == "flying",
            |&link| link == "done",
        )
    })
}

fn unfair_inside_fair(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Swing", 1), ("Up", 2)],
        1 => vec![("Swing", 0), ("Up", 2)],
        _ => vec![("Down", 0)],
    });
    entry.judge(twin, named, |check| {
        check
            .infinitely_often("Visits", |&x| x == 2)
            .eventually_always("Leaves", |&x| x != 2)
            .leads_to("Returns", |&x| x == 2, |&x| x == 0)
    })
}

fn swing_disables(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Swing", 1)],
        1 => vec![("Swing", 0), ("Up", 2)],
        _ => vec![("Down", 0)],
    });
    entry.judge(twin, named, |check| {
        check.infinitely_often("Visits", |&x| x == 2)
    })
}

fn strong_recurses(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Loop", 1)],
        1 => vec![("Loop", 0), ("Detour", 2)],
        2 => vec![("Detour", 0), ("Exit", 3)],
        _ => vec![("Back", 0)],
    });
    let class = |class: &str, _, action: &str, _| class == "Next" || class == action;
    entry.judge(twin, class, |check| {
        check.infinitely_often("Exits", |&x| x == 3)
    })
}

fn strong_recurses_in_vain(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Loop", 1)],
        1 => vec![("Detour", 2)],
        2 => vec![("Detour", 0), ("Exit", 3)],
        _ => vec![("Back", 0)],
    });
    let class = |class: &str, _, action: &str, _| class == "Next" || class == action;
    entry.judge(twin, class, |check| {
        check.infinitely_often("Exits", |&x| x == 3)
    })
}

fn strong_recurses_twice(entry: &Entry) -> Found {
    let twin = Twin::new([0_u8], |x| {
        steps! {
            x <= 3, "Step" => x + 1;
            (1..=4).contains(&x), "Step" => x - 1;
            x == 4, "A" => 5;
            x == 3, "B" => 5;
            x == 4, "B" => 0;
        }
    });
    let class = |class: &str, from, action: &str, to| {
        class == action || (class == "(1 -> 2)" && (from, to) == (1, 2))
    };
    entry.judge(twin, class, |check| check.eventually("Ends", |&x| x == 5))
}

fn deletion_takes_the_witness(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Swing", 1)],
        1 => vec![("Swing", 0), ("B", 2)],
        2 => vec![("Home", 0), ("A", 3)],
        _ => vec![],
    });
    entry.judge(twin, named, |check| check.eventually("Ends", |&x| x == 3))
}

fn enabled_leaves_the_region(entry: &Entry) -> Found {
    let twin = Twin::new(
        [0],
        |x| steps! { x < 2, "Swing" => 1 - x; x < 2, "Exit" => 2 },
    );
    entry.judge(twin, named, |check| {
        check.leads_to("Exits", |&x: &i8| x == 1, |&x| x == 2)
    })
}

fn enabled_too_late(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Swing", 1)],
        1 => vec![("Swing", 0), ("Enter", 2)],
        2 => vec![("Exit", 3)],
        _ => vec![],
    });
    entry.judge(twin, named, |check| {
        check
            .eventually("Arrives", |&x| x == 2)
            .leads_to("Exits", |&x| x == 2, |&x| x == 3)
    })
}

fn per_process(entry: &Entry) -> Found {
    let twin = Twin::new([(false, false)], |(a, b)| {
        vec![("Flip(1)", (!a, b)), ("Flip(2)", (a, !b))]
    });
    let class = |class: &str, _, action: &str, _| class.starts_with("\\E") || class == action;
    entry.judge(twin, class, |check| {
        check
            .infinitely_often("FirstFlips", |on| on.0)
            .infinitely_often("SecondFlips", |on| on.1)
    })
}

fn disjunction_or_each(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("A", 1), ("B", 2)],
        1 => vec![("A", 0), ("B", 2)],
        _ => vec![],
    });
    let class = |class: &str, _, action: &str, _| class.split(" \\/ ").any(|part| part == action);
    entry.judge(twin, class, |check| check.eventually("Ends", |&x| x == 2))
}

/// Program counters, flags and the turn, processes numbered from 0.
type PetersonState = ([char; 2], [bool; 2], usize);

fn peterson(entry: &Entry) -> Found {
    fn steps((pc, flag, turn): PetersonState) -> Vec<(&'static str, PetersonState)> {
        let mut steps = Vec::new();
        for me in 0..2 {
            let other = 1 - me;
            let (mut pc_next, mut flag_next, mut turn_next, mut go) = (pc, flag, turn, true);
            match pc[me] {
                'i' => (pc_next[me], flag_next[me], go) = ('r', true, false),
                'r' => (pc_next[me], turn_next) = ('w', other),
                'w' if !flag[other] || turn == me => pc_next[me] = 'c',
                'c' => (pc_next[me], flag_next[me]) = ('i', false),
                _ => continue,
            }
            let name = if go { ["Go(1)", "Go(2)"][me] } else { "Try" };
            steps.push((name, (pc_next, flag_next, turn_next)));
        }
        steps
    }
    entry.judge(
        Twin::new([(['i'; 2], [false; 2], 0)], steps),
        named,
        |check| {
            check
                .always("Exclusion", |(pc, ..)| *pc != ['c'; 2])
                .leads_to("Enters", |(pc, ..)| pc[0] == 'r', |(pc, ..)| pc[0] == 'c')
                .infinitely_often("Tries", |(pc, ..)| pc[0] == 'c')
        },
    )
}

fn test_and_set(entry: &Entry) -> Found {
    let twin = Twin::new([None], |holder| match holder {
        None => vec![("Take(1)", Some(1)), ("Take(2)", Some(2))],
        Some(1) => vec![("Release(1)", None)],
        Some(_) => vec![("Release(2)", None)],
    });
    entry.judge(twin, named, |check| {
        check
            .infinitely_often("Turns", |&holder| holder == Some(2))
            .leads_to(
                "Releases",
                |&holder| holder == Some(2),
                |&holder| holder.is_none(),
            )
    })
}

fn two_forks(entry: &Entry) -> Found {
    // Each fork's holder, 0 for the table.
    let twin = Twin::new([[0, 0]], |fork: [u8; 2]| {
        let with = |at: usize, holder| {
            let mut fork = fork;
            fork[at] = holder;
            fork
        };
        steps! {
            fork == [0, 0] || fork == [0, 2], "TakeFirst(1)" => with(0, 1);
            fork == [0, 0] || fork == [1, 0], "TakeFirst(2)" => with(1, 2);
            fork == [1, 0], "TakeSecond(1)" => [1, 1];
            fork == [0, 2], "TakeSecond(2)" => [2, 2];
            fork == [1, 1], "PutBack(1)" => [0, 0];
            fork == [2, 2], "PutBack(2)" => [0, 0];
        }
    });
    entry.judge(twin, named, |check| {
        check.leads_to("Eats", |fork| fork[0] == 1, |&fork| fork == [1, 1])
    })
}

fn eventually_stable(entry: &Entry) -> Found {
    let twin = Twin::new([(true, false, 0)], |(up, stable, sent)| {
        steps! {
            up && !stable, "Cut" => (false, stable, sent);
            !up, "Heal" => (true, stable, sent);
            up && !stable, "Stabilize" => (up, true, sent);
            sent == 0, "Send" => (up, stable, 1);
            sent == 1 && up, "Deliver" => (up, stable, 2);
        }
    });
    entry.judge(twin, named, |check| {
        check
            .leads_to("Arrives", |s| s.2 == 1, |s| s.2 == 2)
            .eventually_always("Settles", |s| s.0)
    })
}

fn cut_and_heal_for_ever(entry: &Entry) -> Found {
    let twin = Twin::new([(true, false)], |(up, sent)| {
        steps! { up, "Cut" => (false, sent); !up, "Heal" => (true, sent); up && !sent, "Deliver" => (up, true) }
    });
    entry.judge(twin, named, |check| check.eventually("Arrives", |s| s.1))
}

fn cuts_on_a_budget(entry: &Entry) -> Found {
    let twin = Twin::new([(true, false, 2_u8)], |(up, sent, left)| {
        steps! {
            up && left > 0, "Cut" => (false, sent, left - 1);
            !up, "Heal" => (true, sent, left);
            up && !sent, "Deliver" => (up, true, left);
        }
    });
    entry.judge(twin, named, |check| {
        check
            .eventually("Arrives", |s| s.1)
            .always_step("Monotone", |from, _, to| {
                to.2 <= from.2 && (!from.1 || to.1)
            })
    })
}

fn coordinator_down(entry: &Entry) -> Found {
    let twin = Twin::new([("up", "working")], |(coordinator, participant)| {
        let prepared = participant == "prepared";
        steps! {
            participant == "working", "Vote" => (coordinator, "prepared");
            coordinator == "up" && prepared, "Decide" => (coordinator, "committed");
            coordinator == "up", "Crash" => ("down", participant);
            coordinator == "down", "Recover" => ("recovered", participant);
            coordinator == "recovered" && prepared, "DecideLate" => (coordinator, "aborted");
        }
    });
    entry.judge(twin, named, |check| {
        check.leads_to("Ends", |s| s.1 == "prepared", |s| s.1.ends_with("ted"))
    })
}

fn alternating_bit(entry: &Entry) -> Found {
    type State = (bool, bool, Option<bool>, Option<bool>);
    fn steps((sent, received, data, ack): State) -> Vec<(&'static str, State)> {
        let mut steps: Vec<(&'static str, State)> = Vec::new();
        match data {
            None => steps.push(("Send", (sent, received, Some(sent), ack))),
            Some(bit) => {
                steps.push(("LoseData", (sent, received, None, ack)));
                steps.push(("Receive", (sent, bit, None, Some(bit))));
            }
        }
        if let Some(bit) = ack {
            steps.push(("LoseAck", (sent, received, data, None)));
            steps.push(("Acked", (sent ^ (bit == sent), received, data, None)));
        }
        steps
    }
    entry.judge(
        Twin::new([(false, true, None, None)], steps),
        named,
        |check| {
            check.infinitely_often("GoesOn", |s| !s.0 && !s.1).leads_to(
                "InStep",
                |s| s.0 == s.1,
                |s| s.0 != s.1,
            )
        },
    )
}

fn token_ring(entry: &Entry) -> Found {
    let twin = Twin::new([0, 1, 2], |token| {
        vec![(["Pass(0)", "Pass(1)", "Pass(2)"][token], (token + 1) % 3)]
    });
    entry.judge(twin, named, |check| {
        check
            .infinitely_often("Comes", |&token| token == 0)
            .leads_to("GoesAway", |&token| token == 1, |&token| token == 2)
    })
}

fn leader_settles(entry: &Entry) -> Found {
    let twin = Twin::new([(0, 0)], |(term, _)| {
        steps! { term < 3, "Elect(1)" => (term + 1, 1); term < 3, "Elect(2)" => (term + 1, 2) }
    });
    let class = |class: &str, _, action: &str, _| class == "Next" || class == action;
    entry.judge(twin, class, |check| {
        check
            .eventually_always("HasLeader", |s| s.1 != 0)
            .eventually_always("FirstWins", |s| s.1 == 1)
            .always_step("TermsGrow", |from, _, to| to.0 > from.0)
            .always_step("LeaderStays", |from, _, to| from.1 == 0 || from.1 == to.1)
    })
}

fn two_initial_states(entry: &Entry) -> Found {
    let twin = Twin::new([1, 5], |x: u8| match x {
        0 => vec![],
        5 => vec![("Round", 6)],
        6 => vec![("Round", 5)],
        _ => vec![("Down", x - 1)],
    });
    entry.judge(twin, any, |check| {
        check
            .eventually("Zero", |&x| x == 0)
            .leads_to("SixAgain", |&x| x == 5, |&x| x == 6)
    })
}

fn second_round_sticks(entry: &Entry) -> Found {
    let twin = Twin::new([(1, false)], |(round, asked)| {
        steps! { !asked, "Ask" => (round, true); asked && round == 1, "Serve" => (2, false) }
    });
    entry.judge(twin, named, |check| {
        check
            .leads_to("Served", |s| s.1, |s| !s.1)
            .eventually("ServedOnce", |s| s.0 == 2)
    })
}

fn passing_request(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 | 1 => vec![("Advance", x + 1)],
        2 => vec![("Idle", 3)],
        3 => vec![("Serve", 4), ("Back", 2)],
        _ => vec![],
    });
    let class = |class: &str, _, action: &str, _| class == "Next" || class == action;
    entry.judge(twin, class, |check| {
        check
            .leads_to("Served", |&x| x == 1, |&x| x == 4)
            .leads_to("AlreadyThere", |&x| x == 4, |&x| x >= 4)
            .leads_to("NeverAsked", |&x| x == 9, |_| false)
    })
}

fn nothing_happens(entry: &Entry) -> Found {
    entry.judge(Twin::new([()], |()| vec![]), named, |check| {
        check
            .always("Stays", |()| true)
            .infinitely_often("Always", |()| true)
            .eventually("Moves", |()| false)
    })
}

fn parallel_steps_steps(x: u8) -> Vec<(&'static str, u8)> {
    match x {
        0 => vec![("A", 1), ("B", 1)],
        1 => vec![("Back", 0), ("Leave", 2)],
        _ => vec![],
    }
}

fn parallel_steps(entry: &Entry) -> Found {
    entry.judge(Twin::new([0], parallel_steps_steps), named, |check| {
        check.eventually("Leaves", |&x| x == 2)
    })
}

fn shared_step(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| match x {
        0 => vec![("Red", 1), ("Blue", 1)],
        1 => vec![("Red", 2), ("Blue", 9)],
        2 => vec![("Red", 0)],
        _ => vec![],
    });
    // An action of TLA+ is a relation between states, whatever name the step carries.
    let class = |class: &str, from, action: &str, to| class == action || (from, to) == (0, 1);
    entry.judge(twin, class, |check| check.eventually("Ends", |&x| x == 9))
}

fn wrapping_counter(entry: &Entry) -> Found {
    let twin = Twin::new([0], |n| vec![("Tick", if n == 4 { 0 } else { n + 1 })]);
    entry.judge(twin, named, |check| {
        check
            .always("BelowFour", |&n| n < 4)
            .always("BelowFive", |&n| n < 5)
            .always_step("Grows", |from, _, to| to > from)
            .leads_to("Wraps", |&n| n == 4, |&n| n == 0)
    })
}

fn diamonds_on_the_way(entry: &Entry) -> Found {
    let twin = Twin::new([(0, 0)], |(a, b)| {
        let trapped = (a, b) == (1, 2);
        steps! { a < 3 && !trapped, "Right" => (a + 1, b); b < 3 && !trapped, "Down" => (a, b + 1) }
    });
    entry.judge(twin, any, |check| {
        check
            .eventually("Corner", |&s| s == (3, 3))
            .eventually("Diagonal", |s| s.0 == s.1 && s.0 > 0)
            .eventually("Edge", |&s| s.0 == 3 || s.1 == 3 || s == (1, 2))
    })
}

fn retry_until_ack(entry: &Entry) -> Found {
    // (client, applied, wire)
    let twin = Twin::new([("new", false, ' ')], |(client, applied, wire)| {
        steps! {
            client != "done" && wire == ' ', "Send" => ("waiting", applied, 'r');
            wire != ' ', "Lose" => (client, applied, ' ');
            wire == 'r', "Apply" => (client, true, 'a');
            wire == 'a', "Finish" => ("done", applied, ' ');
        }
    });
    entry.judge(twin, named, |check| {
        check
            .eventually("Applied", |s| s.1)
            .leads_to("Done", |s| s.0 == "waiting", |s| s.0 == "done")
            .always("AckedIsApplied", |s| s.0 != "done" || s.1)
    })
}

fn oscillates(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| vec![("Step", (x + 1) % 4)]);
    entry.judge(twin, named, |check| {
        check
            .eventually_always("Settles", |&x| x < 3)
            .infinitely_often("Low", |&x| x < 3)
            .infinitely_often("High", |&x| x == 3)
    })
}

fn disabled_in_one_state(entry: &Entry) -> Found {
    let twin = Twin::new([0], |x| {
        steps! {
            x < 4, "Turn" => (x + 1) % 4;
            x == 2, "Short" => 0;
            x < 3, "OutA" => 9;
            x < 4, "OutB" => 9;
        }
    });
    entry.judge(twin, named, |check| check.eventually("Ends", |&x| x == 9))
}

fn two_phase_commit(entry: &Entry) -> Found {
    let model = GrayLamport(entry.participants.expect("its size"));
    let checker = model.fair(entry.fairness.iter().any(|name| name == "WF TMAbort"));
    assert_eq!(
        entry.fairness.len(),
        usize::from(model.0) * 2 + 1 + usize::from(entry.name != "GrayLamport_Undecided")
    );
    let report = checker
        .always("Consistent", |state| model.consistent(state))
        .leads_to(
            "Ends",
            |state| model.in_doubt(state),
            |state| model.ended(state),
        )
        .check();
    Found::from(report.expect("small"))
}
