//! Shrinking: with oracles whose smallest answer is known beforehand, and on runs that really fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::scenarios::shipped;
use ordain::base::process::NodeId;
use ordain::base::txn::Op;
use ordain::campaign::artifact::{self, Regression};
use ordain::campaign::shrink::{BUDGET, CannotShrink, Case, Reduced, Shrunk, reduce, shrink};
use ordain::fault::{Fault, FaultKind, When};
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::report;
use ordain::run::failure::{self, Class};
use ordain::scenario::Scenario;
use proptest::prelude::*;

/// A case with so many faults, told apart by their positions, and so many transactions, told apart by their ids.
fn case(faults: u32, transactions: u32) -> Case {
    let scenario = shipped(
        "storm",
        &[("workload.transactions", &transactions.max(1).to_string())],
    );
    let mut plan = Plan::draw(&scenario, 1);
    plan.operations.truncate(transactions as usize);
    let fault = |position| Fault {
        when: When::At(2_000_000_000),
        for_ns: None,
        permanent: false,
        kind: FaultKind::CorruptRead {
            node: NodeId(0),
            port: 0,
            file: 0,
            position,
        },
    };
    plan.faults = (0..faults).map(fault).collect();
    Case {
        scenario: Arc::new(scenario),
        plan,
    }
}

fn faults(case: &Case) -> BTreeSet<u64> {
    let position = |fault: &Fault| match fault.kind {
        FaultKind::CorruptRead { position, .. } => u64::from(position),
        _ => panic!("no other kind was planned"),
    };
    case.plan.faults.iter().map(position).collect()
}

fn transactions(case: &Case) -> BTreeSet<u64> {
    let operations = case.plan.operations.iter();
    operations.map(|operation| operation.txn.id.0).collect()
}

fn on_threads<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().expect("threads").install(body)
}

const FAULTS: [u64; 3] = [17, 118, 199];
const TRANSACTIONS: [u64; 2] = [4, 290];

fn needs_three_faults_and_two_transactions(case: &Case) -> bool {
    let (faults, transactions) = (faults(case), transactions(case));
    FAULTS.iter().all(|fault| faults.contains(fault))
        && TRANSACTIONS.iter().all(|txn| transactions.contains(txn))
}

#[test]
fn exactly_the_faults_and_transactions_that_matter_are_left_of_hundreds() {
    let found = reduce(
        case(200, 300),
        &needs_three_faults_and_two_transactions,
        BUDGET,
        &mut |_| {},
    );
    assert_eq!(faults(&found.case), BTreeSet::from(FAULTS));
    assert_eq!(transactions(&found.case), BTreeSet::from(TRANSACTIONS));
    assert!(found.locally_minimal);
    assert!(found.runs < 1_000, "{} runs", found.runs);
    let plan = &found.case.plan;
    let calm =
        |link: &ordain::fault::Link| link.loss_ppm + link.duplicate_ppm + link.reorder_ppm == 0;
    assert!(
        plan.environment.link_classes.iter().all(calm),
        "no noise matters"
    );
    let exact = |machine: &ordain::plan::Machine| machine.clock_offset_ns == 0;
    assert!(
        plan.environment.machines.iter().all(exact),
        "no clock matters"
    );
    assert_eq!(
        found.case.scenario.layout.regions.len(),
        1,
        "no other region matters"
    );
    assert_eq!(
        found.case.scenario.layout.shards.len(),
        1,
        "no other shard matters"
    );
    let steps = |plan: &Plan| -> usize {
        let txns = plan.operations.iter().map(|operation| &operation.txn);
        txns.map(|txn| txn.reads.len() + txn.effects.len()).sum()
    };
    assert_eq!(steps(plan), 2, "one read or effect makes a transaction");
}

#[test]
fn the_result_and_the_count_do_not_depend_on_the_number_of_threads() {
    let found = |threads, budget| {
        on_threads(threads, || {
            let oracle = needs_three_faults_and_two_transactions;
            reduce(case(60 + 140, 300), &oracle, budget, &mut |_| {})
        })
    };
    for budget in [40, BUDGET] {
        let one = found(1, budget);
        for threads in [2, 5] {
            let many = found(threads, budget);
            assert_eq!(one.case.plan, many.case.plan);
            assert_eq!(
                (one.runs, one.locally_minimal),
                (many.runs, many.locally_minimal)
            );
        }
    }
}

#[test]
fn a_budget_that_does_not_suffice_is_kept_and_said() {
    let fails = needs_three_faults_and_two_transactions;
    let Reduced {
        case: found,
        runs,
        locally_minimal,
    } = reduce(case(200, 300), &fails, 25, &mut |_| {});
    assert_eq!((runs, locally_minimal), (25, false));
    assert!(fails(&found), "what is returned still fails");
    assert!(transactions(&found).len() < 300 || faults(&found).len() < 200);
}

#[test]
fn a_case_that_fails_by_itself_loses_everything() {
    let found = reduce(case(20, 30), &|_| true, BUDGET, &mut |_| {});
    assert_eq!(
        (faults(&found.case).len(), transactions(&found.case).len()),
        (0, 0)
    );
}

#[test]
fn where_removals_lead_no_further_other_seeds_do() {
    let whole = case(2, 20);
    let seed = whole.plan.seed;
    let lucky = move |case: &Case| {
        let all = transactions(case).len() == 20 && faults(case).len() == 2;
        let few = case.plan.seed == seed + 5 && transactions(case).contains(&7);
        all || few
    };
    let found = reduce(whole, &lucky, BUDGET, &mut |_| {});
    assert_eq!(transactions(&found.case), BTreeSet::from([7]));
    assert_eq!(
        (faults(&found.case).len(), found.case.plan.seed),
        (0, seed + 5)
    );
    assert!(found.locally_minimal);
    // What is small already keeps its seed.
    let small = |case: &Case| transactions(case).len() == 6 || case.plan.seed != seed;
    let found = reduce(case(0, 6), &small, BUDGET, &mut |_| {});
    assert_eq!(
        (transactions(&found.case).len(), found.case.plan.seed),
        (6, seed)
    );
}

/// Whether a subset of faults and transactions fails, by an arbitrary table.
fn listed(table: &[bool], case: &Case) -> bool {
    let bits = |numbers: BTreeSet<u64>| numbers.into_iter().map(|n| 1 << n).sum::<usize>();
    let transactions = transactions(case).into_iter().map(|id| id - 1).collect();
    table[bits(faults(case)) << 4 | bits(transactions)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Not even a monotone oracle is assumed: what is left out may hide a failure and uncover it again.
    #[test]
    fn no_single_removal_and_no_pair_of_the_same_kind_still_fails(
        mut table in proptest::collection::vec(proptest::bool::weighted(0.3), 1 << 8),
    ) {
        table[255] = true;
        let found = reduce(case(4, 4), &|case| listed(&table, case), BUDGET, &mut |_| {});
        prop_assert!(found.locally_minimal);
        prop_assert!(listed(&table, &found.case));
        let plan = &found.case.plan;
        for a in 0..plan.faults.len() {
            for b in a..plan.faults.len() {
                let mut less = found.case.clone();
                less.plan.faults.remove(b);
                if a < b {
                    less.plan.faults.remove(a);
                }
                prop_assert!(!listed(&table, &less), "without faults {a} and {b}");
            }
        }
        for a in 0..plan.operations.len() {
            for b in a..plan.operations.len() {
                let mut less = found.case.clone();
                less.plan.operations.remove(b);
                if a < b {
                    less.plan.operations.remove(a);
                }
                prop_assert!(!listed(&table, &less), "without transactions {a} and {b}");
            }
        }
    }
}

fn class(text: &str) -> Class {
    text.parse().expect("a class")
}

/// The first seed whose run shows the class, with its plan as it happened.
fn failing(scenario: &Scenario, protocol: &str, class: &Class) -> (u64, Plan) {
    let found = (1..200).find_map(|seed| {
        let plan = Plan::draw(scenario, seed);
        let run = Registry::standard()
            .run(scenario, protocol, &plan, true)
            .expect("it runs");
        failure::shows(&run, class).then(|| (seed, run.kept.plan.expect("kept")))
    });
    found.expect("a seed shows it")
}

/// Removes each fault, each transaction, each machine that a fault names, and each read and effect, one at a time,
/// without any help of the shrinker.
fn single_removals(plan: &Plan) -> Vec<(String, Plan)> {
    let mut removals = Vec::new();
    let mut add = |what: String, edit: &dyn Fn(&mut Plan)| {
        let mut less = plan.clone();
        edit(&mut less);
        removals.push((what, less));
    };
    for at in 0..plan.faults.len() {
        add(format!("fault {at}"), &|plan| drop(plan.faults.remove(at)));
        let machines = match &plan.faults[at].kind {
            FaultKind::Crash { nodes, .. } | FaultKind::Pause { nodes } => nodes.len(),
            _ => 0,
        };
        for machine in (0..machines).filter(|_| machines > 1) {
            add(
                format!("machine {machine} of fault {at}"),
                &|plan| match &mut plan.faults[at].kind {
                    FaultKind::Crash { nodes, .. } | FaultKind::Pause { nodes } => {
                        nodes.remove(machine);
                    }
                    _ => unreachable!("looked at above"),
                },
            );
        }
    }
    for at in 0..plan.operations.len() {
        add(format!("transaction {at}"), &|plan| {
            drop(plan.operations.remove(at))
        });
        let txn = &plan.operations[at].txn;
        for read in 0..txn.reads.len() {
            if txn.effects.len() + txn.reads.len() > 1 {
                add(format!("read {read} of {at}"), &|plan| {
                    plan.operations[at].txn.reads.remove(read);
                });
            }
        }
        for effect in 0..txn.effects.len() {
            // Half a transfer breaks the sum by itself.
            let alone = !matches!(txn.effects[effect].op, Op::Add(_));
            if alone && txn.effects.len() + txn.reads.len() > 1 {
                add(format!("effect {effect} of {at}"), &|plan| {
                    plan.operations[at].txn.effects.remove(effect);
                });
            }
        }
    }
    removals
}

fn assert_locally_minimal(shrunk: &Shrunk) {
    assert!(shrunk.locally_minimal, "{} runs", shrunk.runs);
    for (what, less) in single_removals(&shrunk.plan) {
        let run = Registry::standard()
            .run(&shrunk.scenario, &shrunk.protocol, &less, false)
            .expect("it runs");
        assert!(!failure::shows(&run, &shrunk.class), "{what} can go");
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_partial_commit_of_a_hundred_transactions_in_a_storm_shrinks_to_a_handful() {
    let scenario = shipped("storm", &[]);
    let class = class("atomicity/partial-commit");
    let (_, plan) = failing(&scenario, "naive", &class);
    let shrunk = shrink(
        &Registry::standard(),
        &scenario,
        "naive",
        &plan,
        &class,
        BUDGET,
        &mut |_| {},
    )
    .expect("it fails");
    assert!(
        shrunk.after.faults <= 5 && shrunk.after.transactions <= 6,
        "{:?}",
        shrunk.after
    );
    assert_locally_minimal(&shrunk);
    insta::assert_snapshot!(report::plan::shrunk(&shrunk));
}

#[test]
fn a_shrunk_plan_replays_from_its_folder_alone_and_from_its_file() {
    let scenario = shipped("settlement", &[("workload.transactions", "60")]);
    let class = class("no-intermediate-states/fractured-read");
    let (_, plan) = failing(&scenario, "saga", &class);
    let shrunk = shrink(
        &Registry::standard(),
        &scenario,
        "saga",
        &plan,
        &class,
        BUDGET,
        &mut |_| {},
    )
    .expect("it fails");
    assert!(shrunk.after.transactions <= 3, "{:?}", shrunk.after);
    let happened = shrunk.run.kept.plan.as_ref().expect("kept");
    let to = folder("shrunk-saga");
    artifact::write(
        &to,
        &shrunk.scenario,
        happened,
        &shrunk.run,
        ordain::report::text::run,
    )
    .expect("writable");
    let read = artifact::read(&Registry::standard(), &to).unwrap_or_else(|error| panic!("{error}"));
    let again =
        Registry::standard().replay(&read.scenario, "saga", &read.recorded.plan, &read.fates);
    let again = again.expect("it runs");
    assert_eq!(again.digest.to_string(), read.recorded.digest);
    assert!(failure::shows(&again, &class));

    let file = to.with_extension("json");
    let regression = Regression {
        about: "A reader between the two legs of a trade.".to_owned(),
        bug: None,
        protocol: "saga".to_owned(),
        class: class.clone(),
        scenario: shrunk.scenario.clone(),
        plan: shrunk.plan.clone(),
    };
    regression.write(&file).expect("writable");
    let text = std::fs::read_to_string(&file).expect("just written");
    assert!(text.lines().count() < 200, "small enough to read: {text}");
    let read =
        Regression::read(&Registry::standard(), &file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.plan, shrunk.plan);
    let run = read.run(&Registry::standard()).expect("it runs");
    assert_eq!(run.digest, shrunk.run.digest);
    insta::assert_snapshot!(text);
}

#[test]
fn a_fault_that_was_aimed_is_still_aimed_well_after_every_edit() {
    // The coordinator dies between the votes and the decision: afterwards nobody knows, and presumes abort.
    let overrides = [
        ("workload.transactions", "400"),
        ("phases.safety", "15s"),
        ("fault.0.for", "3s"),
        ("fault.0.after.from", "2s"),
        ("fault.0.after.latest", "4s"),
    ];
    let scenario = shipped("locked-merchant", &overrides);
    let class = class("no-system-aborts/presumed");
    let (_, plan) = failing(&scenario, "2pc", &class);
    assert!(
        matches!(plan.faults[0].when, When::AfterEvent(_)),
        "as recorded: {:?}",
        plan.faults
    );
    let shrunk = shrink(
        &Registry::standard(),
        &scenario,
        "2pc",
        &plan,
        &class,
        BUDGET,
        &mut |_| {},
    )
    .expect("it fails");
    assert_eq!((shrunk.after.faults, shrunk.after.transactions), (1, 1));
    assert_locally_minimal(&shrunk);
}

#[test]
fn a_plan_that_does_not_fail_in_the_class_is_refused() {
    let scenario = shipped("settlement", &[("workload.transactions", "5")]);
    let plan = Plan::draw(&scenario, 1);
    let wanted = class("atomicity/partial-commit");
    let refused = shrink(
        &Registry::standard(),
        &scenario,
        "calvin",
        &plan,
        &wanted,
        BUDGET,
        &mut |_| {},
    );
    let error = refused.map(|_| ()).expect_err("Calvin is atomic");
    assert_eq!(
        error,
        CannotShrink::NotShown {
            wanted,
            found: None
        }
    );
    assert_eq!(
        error.to_string(),
        "the plan does not fail as atomicity/partial-commit: its run broke no promise"
    );
}

fn ordain(args: &[&str], here: &Path) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(args)
        .current_dir(here)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it exits by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_shrinks_a_folder_and_says_what_else_it_could_shrink() {
    let here = folder("shrink-command");
    std::fs::create_dir_all(&here).expect("a place for the test");
    let run = ["run", "storm", "-p", "naive", "--out", "kept"];
    assert_eq!(ordain(&run, &here).0, 0, "nothing is promised");

    let (code, _, stderr) = ordain(&["shrink", "kept"], &here);
    assert_eq!(code, 65);
    assert!(stderr.contains("broke no promise"), "{stderr}");
    assert!(
        stderr.contains("--class 'atomicity/partial-commit'"),
        "{stderr}"
    );
    assert_eq!(
        ordain(&["shrink", "kept", "--class", "nonsense"], &here).0,
        64
    );

    let shrink = ["shrink", "kept", "--class", "atomicity/partial-commit"];
    let one = [&shrink[..], &["--json", "-j", "1", "--out", "one"]].concat();
    let two = [
        &shrink[..],
        &["--json", "-j", "2", "--regression", "it.json"],
    ]
    .concat();
    let parse = |(code, stdout, stderr): (i32, String, String)| -> serde_json::Value {
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).expect("one JSON document")
    };
    let (one, two) = (parse(ordain(&one, &here)), parse(ordain(&two, &here)));
    assert_eq!(two["dir"], "kept/shrunk");
    assert_eq!(two["locally_minimal"], true);
    assert_eq!(two["class"], "atomicity/partial-commit");
    assert_eq!((&one["after"], &one["runs"]), (&two["after"], &two["runs"]));
    let plan = |dir: &str| std::fs::read(here.join(dir).join("plan.json")).expect("kept");
    assert_eq!(plan("one"), plan("kept/shrunk"));
    assert_eq!(ordain(&["replay", "kept/shrunk"], &here).0, 0);

    let (code, stdout, _) = ordain(&["run", "--plan", "it.json"], &here);
    assert_eq!(code, 0, "nothing is promised");
    assert!(
        stdout.contains("fails as recorded: atomicity/partial-commit"),
        "{stdout}"
    );
    let text = std::fs::read_to_string(here.join("it.json")).expect("written");
    let old = text.replacen("\"version\": 1", "\"version\": 0", 1);
    std::fs::write(here.join("old.json"), old).expect("writable");
    let (code, _, stderr) = ordain(&["run", "--plan", "old.json"], &here);
    assert_eq!(code, 65);
    assert!(
        stderr.contains("the plan has version 0, this ordain reads version 1"),
        "{stderr}"
    );
    assert_eq!(ordain(&["run", "storm", "--plan", "it.json"], &here).0, 64);
}
