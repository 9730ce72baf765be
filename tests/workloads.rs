//! Workloads of steps, load over time, links by direction, and faults that follow one another: what plans are drawn from
//! them, and how nonsense is refused.

use std::collections::{BTreeMap, BTreeSet};

use ordain::base::txn::{Guard, Key, Op, Target, Txn};
use ordain::fault::{Fault, FaultKind, When};
use ordain::plan::{Plan, Start};
use ordain::scenario::Scenario;

const KNOWN: [&str; 4] = ["naive", "2pc", "saga", "calvin"];

const HEAD: &str = r#"name = "mine"
summary = "Two regions"
[phases]
safety = "60s"
settle = "30s"
[[region]]
name = "east"
cloud = "a"
[[region]]
name = "west"
cloud = "a"
[network]
between-regions = "10ms"
[[table]]
name = "wallets"
engine = "postgres"
rows = 1000
initial = 500
homes = ["east", "west"]
[[table]]
name = "merchants"
engine = "postgres"
rows = 100
homes = ["east"]
[[table]]
name = "orders"
engine = "postgres"
rows = 50
homes = ["west"]
"#;

const LOAD: &str = "[workload]\ntransactions = 10000\nrate = 1000.0\n";

/// A step in one line: `table = "wallets", do = "read"`.
fn step(keys: &str) -> String {
    format!(
        "[[workload.transaction.step]]\n{}\n",
        keys.replace(", ", "\n")
    )
}

fn transaction(keys: &str, steps: &[&str]) -> String {
    let steps: String = steps.iter().map(|keys| step(keys)).collect();
    format!(
        "[[workload.transaction]]\n{}\n{steps}",
        keys.replace(", ", "\n")
    )
}

fn read(rest: &str) -> Result<Scenario, String> {
    let text = format!("{HEAD}{rest}");
    Scenario::read("mine.toml", &text, &KNOWN, &[]).map_err(|bad| bad.to_string())
}

fn scenario(rest: &str) -> Scenario {
    read(rest).unwrap_or_else(|message| panic!("{message}"))
}

fn txns(rest: &str) -> Vec<Txn> {
    let plan = Plan::draw(&scenario(rest), 1);
    plan.operations
        .into_iter()
        .map(|operation| operation.txn)
        .collect()
}

fn written(txn: &Txn) -> Vec<(Key, Op)> {
    let key = |target: Target| match target {
        Target::Key(key) => key,
        Target::Choice { .. } => panic!("{txn:?}"),
    };
    txn.effects
        .iter()
        .map(|effect| (key(effect.target), effect.op))
        .collect()
}

/// Within three standard deviations of a binomial share.
fn assert_share(count: usize, of: usize, share: f64) {
    let (count, of) = (count as f64, of as f64);
    let sigma = (of * share * (1.0 - share)).sqrt();
    assert!((count - of * share).abs() <= 3.0 * sigma, "{count} of {of}");
}

#[test]
fn a_built_in_transfer_is_the_same_mix_written_out() {
    let built_in = txns(&format!(
        "{LOAD}kind = \"transfer\"\nlegs = 3\namount = 7\n"
    ));
    let pay = "table = \"wallets\", do = \"add\", times = -2, covered = true";
    let merchant = "table = \"merchants\", do = \"add\", times = 1";
    let order = "table = \"orders\", do = \"add\", times = 1";
    let written_out = transaction(
        "name = \"transfer\", amount = [1, 7]",
        &[pay, merchant, order],
    );
    assert_eq!(
        built_in,
        txns(&format!(
            "{LOAD}{}",
            written_out.replace("[1\n7]", "[1, 7]")
        ))
    );
}

#[test]
fn a_mix_comes_in_the_proportions_of_its_weights_and_refuses_as_often_as_it_says() {
    let charge = "table = \"wallets\", do = \"add\", by = -1, refused = \"4%\"";
    let look = "table = \"merchants\", do = \"read\"";
    let mix = [
        transaction("name = \"pay\", weight = 3", &[charge]),
        transaction("name = \"look\", weight = 1", &[look]),
    ];
    let txns = txns(&format!("{LOAD}{}", mix.concat()));
    let (pay, look): (Vec<&Txn>, Vec<&Txn>) = txns.iter().partition(|txn| !txn.is_read_only());
    assert_share(look.len(), txns.len(), 0.25);
    let refused = pay.iter().filter(|txn| !txn.guards.is_empty()).count();
    assert_share(refused, pay.len(), 0.04);
    let never =
        |guard: &Guard| matches!(guard, Guard::SumAtLeast { at_least, .. } if *at_least > 1 << 60);
    assert!(pay.iter().all(|txn| txn.guards.iter().all(never)));
}

#[test]
fn each_choice_of_rows_follows_its_distribution() {
    let count_of = |keys: &str| {
        let pay = format!("table = \"wallets\", do = \"add\", by = 1, {keys}");
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for txn in txns(&format!("{LOAD}{}", transaction("name = \"pay\"", &[&pay]))) {
            *counts.entry(written(&txn)[0].0.row).or_default() += 1;
        }
        counts
    };
    let uniform = count_of("row = \"uniform\"");
    assert_share(uniform[&0], 10_000, 0.001);
    let zipf = count_of("row = \"zipf\", skew = 1.0");
    let harmonic: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
    assert_share(zipf[&0], 10_000, 1.0 / harmonic);
    assert_share(zipf[&9], 10_000, 0.1 / harmonic);
    let hot = count_of("row = \"hot\", hot-rows = 2, hot-share = \"50%\"");
    assert_share(hot[&0] + hot[&1], 10_000, 0.5 + 0.5 * 0.002);
    let next = count_of("row = \"next\"");
    assert!(next.len() == 1000 && next.values().all(|count| *count == 10));
    let again = count_of("row = \"next\", again = \"100%\"");
    assert_eq!(again.len(), 1, "everybody goes for the first row");
}

#[test]
fn a_step_goes_to_the_same_row_as_another_or_to_a_different_one() {
    let customer = "name = \"customer\", table = \"wallets\", do = \"read\"";
    let same = "table = \"merchants\", do = \"add\", by = 1, same-as = \"customer\"";
    let many = "table = \"orders\", do = \"put\", repeat = [2, 9]";
    let mix = transaction("name = \"pay\"", &[customer, same, many]);
    for txn in txns(&format!("{LOAD}{}", mix.replace("[2\n9]", "[2, 9]"))) {
        let Target::Key(customer) = txn.reads[0] else {
            panic!("{txn:?}");
        };
        let written = written(&txn);
        assert_eq!(written[0].0.row, customer.row % 100);
        let rows: BTreeSet<Key> = written.iter().map(|(key, _)| *key).collect();
        assert_eq!(rows.len(), written.len(), "each row is written once");
        assert!((3..=10).contains(&written.len()));
        assert_eq!(txn.written_twice(), None);
    }
}

#[test]
fn guards_sum_rows_and_the_pivot_counts_effects() {
    let savings = "name = \"savings\", table = \"wallets\", do = \"read\"";
    let checking = "table = \"merchants\", do = \"guard\", with = [\"savings\"], at-least = 100, at-most = 900";
    let reserve = "table = \"orders\", do = \"put\", repeat = 3";
    let charge = "table = \"merchants\", do = \"add\", by = -9, covered = true, pivot = true";
    let mix = transaction("name = \"check\"", &[savings, checking, reserve, charge]);
    for txn in txns(&format!("{LOAD}{mix}")).iter().take(100) {
        assert_eq!(txn.pivot, Some(3), "three effects come before it");
        let [
            Guard::SumAtLeast {
                keys,
                at_least: 100,
            },
            Guard::SumAtMost {
                keys: same,
                at_most: 900,
            },
            Guard::SumAtLeast {
                keys: own,
                at_least: 9,
            },
        ] = &txn.guards[..]
        else {
            panic!("{:?}", txn.guards);
        };
        assert_eq!((keys.len(), same), (2, keys));
        assert_eq!(own[..], [written(txn)[3].0]);
    }
}

#[test]
fn the_number_of_arrivals_in_each_second_is_the_integral_of_the_rate() {
    let of_profile = |profile: &str| {
        let look = transaction("name = \"look\"", &["table = \"wallets\", do = \"read\""]);
        let text = format!("{LOAD}start = \"0s\"\n[workload.profile]\n{profile}\n{look}");
        let plan = Plan::draw(&scenario(&text), 7);
        let mut per_s = vec![0_usize; 60];
        for operation in &plan.operations {
            let Start::At(at_ns) = operation.start else {
                panic!("an open loop");
            };
            if let Some(count) = per_s.get_mut((at_ns / 1_000_000_000) as usize) {
                *count += 1;
            }
        }
        per_s
    };
    let near = |count: usize, mean: f64| {
        assert!(
            (count as f64 - mean).abs() <= 4.0 * mean.sqrt(),
            "{count} is not {mean}"
        );
    };
    let peak = of_profile("shape = \"peak\"\ntimes = 3.0\nfrom = \"1s\"\nfor = \"2s\"");
    for (count, mean) in peak.iter().zip([1000.0, 3000.0, 3000.0, 1000.0]) {
        near(*count, mean);
    }
    let ramp = of_profile("shape = \"ramp\"\ntimes = 3.0\nfrom = \"1s\"\nfor = \"2s\"");
    for (count, mean) in ramp.iter().zip([1000.0, 1500.0, 2500.0, 3000.0]) {
        near(*count, mean);
    }
    let crowd = of_profile("shape = \"flash-crowd\"\ntimes = 3.0\nfrom = \"1s\"\nfor = \"2s\"");
    for (count, mean) in crowd.iter().zip([1000.0, 2500.0, 1500.0, 1000.0]) {
        near(*count, mean);
    }
    // The smooth cubic and its mirror have a mean of one half.
    let daily = of_profile("shape = \"daily\"\ntimes = 3.0\nfrom = \"0s\"\nfor = \"2s\"");
    for pair in daily[..4].chunks(2) {
        near(pair[0] + pair[1], 4000.0);
    }
}

#[test]
fn faults_recur_and_follow_the_ends_of_others() {
    let look = transaction("name = \"look\"", &["table = \"wallets\", do = \"read\""]);
    let faults = r#"
[[fault]]
kind = "crash"
name = "crashes"
nodes = ["east/front0"]
at = "10s"
for = "2s"
every = "5s"
times = 3
[[fault]]
kind = "dark"
name = "dark"
nodes = ["west"]
follows = "crashes"
nth = 2
delay = "1s"
for = "4s"
[[fault]]
kind = "partition"
nodes = ["east"]
follows = "dark"
"#;
    let plan = Plan::draw(&scenario(&format!("{LOAD}{look}{faults}")), 3);
    let at_s = |fault: &Fault| match fault.when {
        When::At(at_ns) => at_ns as f64 / 1e9,
        _ => panic!("{fault:?}"),
    };
    let times: Vec<f64> = plan.faults.iter().map(at_s).collect();
    // Three crashes; the dark region, whose machines stop and whose clients are cut off; the partition.
    assert_eq!(times, [10.0, 15.0, 20.0, 18.0, 18.0, 22.0]);
}

#[test]
fn links_differ_by_direction_and_degrade_in_one() {
    let look = transaction("name = \"look\"", &["table = \"wallets\", do = \"read\""]);
    let text = format!("{HEAD}{LOAD}{look}").replace(
        "between-regions = \"10ms\"\n",
        "between-regions = \"10ms\"\njitter = \"0%\"\n[[network.link]]\nfrom = \"west\"\nto = \"east\"\n\
         latency = \"70ms\"\nloss = \"2%\"\nbandwidth = \"1MB/s\"\n",
    );
    let text = format!(
        "{text}[[fault]]\nkind = \"degrade\"\nnodes = [\"west\"]\nto = [\"east\"]\none-way = true\nloss = \"5%\"\nat = \"1s\"\n"
    );
    let scenario =
        Scenario::read("mine.toml", &text, &KNOWN, &[]).unwrap_or_else(|bad| panic!("{bad}"));
    let at = |name: &str| {
        let found = scenario.places.iter().position(|place| place.name == name);
        found.expect(name)
    };
    let link = |from: &str, to: &str| {
        let link = scenario.link_classes[usize::from(scenario.links[at(from)][at(to)])];
        (
            link.latency.base_ns / 1_000_000,
            link.loss_ppm,
            link.bandwidth,
        )
    };
    assert_eq!(link("west/front0", "east/front0"), (70, 20_000, 1_000_000));
    assert_eq!(link("east/front0", "west/front0"), (10, 0, 0));
    let plan = Plan::draw(&scenario, 1);
    assert!(matches!(&plan.faults[0].kind, FaultKind::Degrade { one_way, .. } if one_way.0));
}

#[test]
fn attempts_under_other_ids_are_planned_with_elements_of_their_own() {
    let pay = transaction("name = \"pay\"", &["table = \"orders\", do = \"append\""]);
    let clients = "[clients]\ntimeout = \"1s\"\nattempts = 3\nnew-id = true\n";
    let plan = Plan::draw(&scenario(&format!("{LOAD}{pay}{clients}")), 1);
    assert_eq!(plan.operations.len(), 30_000);
    let ids: BTreeSet<_> = plan
        .operations
        .iter()
        .map(|operation| operation.txn.id)
        .collect();
    let elements: BTreeSet<Op> = { plan.operations.iter() }
        .map(|operation| written(&operation.txn)[0].1)
        .collect();
    assert_eq!((ids.len(), elements.len()), (30_000, 30_000));
    let [first, second, third] = &plan.operations[..3] else {
        panic!("three attempts");
    };
    for (nth, retry) in [(1, second), (2, third)] {
        assert_eq!(
            retry.start,
            Start::Retry {
                of: first.txn.id,
                nth
            }
        );
        assert_eq!(written(&retry.txn)[0].0, written(&first.txn)[0].0);
    }
}

/// Each of these is refused with these words, and says this way out.
#[test]
fn nonsense_is_refused_with_a_place_and_a_way_out() {
    let pay = "table = \"wallets\", do = \"add\", by = 1";
    let of_step = |keys: &str| format!("{LOAD}{}", transaction("name = \"pay\"", &[keys]));
    let of_steps = |steps: &[&str]| format!("{LOAD}{}", transaction("name = \"pay\"", steps));
    let with = |rest: &str| format!("{}{rest}", of_step(pay));
    let load = |keys: &str| {
        of_step(pay).replace(
            "[[workload.transaction]]",
            &format!("{keys}\n[[workload.transaction]]"),
        )
    };
    let fault = |keys: &str| {
        with(&format!(
            "[[fault]]\nkind = \"crash\"\nnodes = [\"east/front0\"]\n{}\n",
            keys.replace(", ", "\n")
        ))
    };
    let before = "name = \"one\", table = \"wallets\", do = \"add\", by = 1";
    let cases: Vec<(String, &str, &str)> = vec![
        (
            of_step("table = \"wallet\", do = \"read\""),
            "there is no table `wallet`",
            "did you mean `wallets`?",
        ),
        (
            of_step("table = \"wallets\", do = \"raed\""),
            "unknown variant `raed`",
            "",
        ),
        (
            of_step("table = \"wallets\", do = \"append\", by = 1"),
            "`by` says nothing about a step that appends",
            "remove it",
        ),
        (
            of_step("table = \"wallets\", do = \"add\""),
            "does not say how much it adds",
            "`times`",
        ),
        (
            of_step("table = \"wallets\", do = \"add\", by = 0"),
            "adds nothing",
            "use 1",
        ),
        (
            of_step("table = \"wallets\", do = \"guard\""),
            "a guard without a bound",
            "`at-least`",
        ),
        (
            of_step("table = \"wallets\", do = \"add\", by = 1, covered = true"),
            "this one takes nothing",
            "negative",
        ),
        (
            of_step("table = \"wallets\", do = \"read\", row = \"zipff\""),
            "unknown variant `zipff`",
            "did you mean `zipf`?",
        ),
        (
            of_step("table = \"wallets\", do = \"read\", skew = 0.5"),
            "`skew` says nothing about how",
            "row = \"zipf\"",
        ),
        (
            of_step("table = \"wallets\", do = \"read\", row = \"hot\", hot-rows = 5000"),
            "5000 hot rows do not fit",
            "1 to 1000",
        ),
        (
            of_step("table = \"wallets\", do = \"read\", row = \"zipf\", skew = 99.0"),
            "the skew 99 is out of range",
            "at most 10",
        ),
        (
            of_step("table = \"orders\", do = \"put\", repeat = 51"),
            "needs 51 different rows of `orders`",
            "more rows",
        ),
        (
            of_step("table = \"wallets\", do = \"put\", repeat = 0"),
            "the quantity is out of range",
            "1 to 64",
        ),
        (
            of_step("table = \"wallets\", do = \"read\", pivot = true"),
            "`pivot` says nothing about a step that reads",
            "remove it",
        ),
        (
            of_step("table = \"wallets\", do = \"add\", by = 1, repet = 2"),
            "unknown field `repet`",
            "did you mean `repeat`?",
        ),
        (
            of_steps(&[
                before,
                "table = \"merchants\", do = \"read\", same-as = \"on\"",
            ]),
            "no earlier step is called `on`",
            "earlier steps are `one`",
        ),
        (
            of_steps(&[
                before,
                "table = \"wallets\", do = \"put\", same-as = \"one\"",
            ]),
            "writes this row twice",
            "one step",
        ),
        (
            of_steps(&[
                before,
                "table = \"orders\", do = \"append\"",
                "table = \"orders\", do = \"put\"",
            ]),
            "rows of `orders` are lists",
            "append to it",
        ),
        (
            of_steps(&[
                "table = \"wallets\", do = \"add\", by = 1, pivot = true",
                "table = \"orders\", do = \"put\", refused = \"1%\"",
            ]),
            "a step after the pivot has to succeed",
            "before the pivot",
        ),
        (
            load("conserved = [\"wallets\"]"),
            "transaction `pay` adds 1 to the conserved tables",
            "take from one row",
        ),
        (
            load("legs = 3"),
            "`legs` of [workload] says nothing about transactions of steps",
            "a step for each row",
        ),
        (
            load("kind = \"transfer\""),
            "a built-in workload has its own transactions",
            "remove `kind`",
        ),
        (
            LOAD.to_owned(),
            "does not say what its transactions do",
            "[[workload.transaction]]",
        ),
        (
            load("[workload.profile]\nshape = \"peek\"\ntimes = 2.0\nfor = \"1s\""),
            "unknown variant `peek`",
            "did you mean `peak`?",
        ),
        (
            load("[workload.profile]\nshape = \"peak\"\ntimes = 1.0\nfor = \"1s\""),
            "no change, or too much",
            "other than 1",
        ),
        (
            load("[workload.profile]\nshape = \"peak\"\ntimes = 2.0\nfor = \"0s\""),
            "takes no time",
            "more than 0",
        ),
        (
            load("[workload.profile]\nshape = \"peak\"\ntimes = 2.0\nfor = \"1s\"")
                .replace("rate = 1000.0", "sessions = 5"),
            "sessions set their own pace",
            "`rate`",
        ),
        (
            with("[clients]\nattempts = 3\n"),
            "`attempts` is about trying again",
            "add `timeout`",
        ),
        (
            with("[clients]\ntimeout = \"1s\"\nnew-id = true\n"),
            "needs no other id",
            "add `attempts`",
        ),
        (
            with("[clients]\ntimeout = \"1s\"\nattempts = 2\nnew-id = true\nhedge = \"5ms\"\n"),
            "`hedge` does not go with `new-id`",
            "remove it",
        ),
        (
            with("[clients]\ntimeout = \"0s\"\n"),
            "answered in no time",
            "more than 0",
        ),
        (
            with("[clients]\nqueue = 5\n"),
            "nobody queues",
            "add `in-flight`",
        ),
        (
            with("[clients]\ntimeuot = \"1s\"\n"),
            "unknown field `timeuot`",
            "did you mean `timeout`?",
        ),
        (
            fault("at = \"1s\", every = \"2s\""),
            "nothing says how often",
            "add `times`",
        ),
        (
            fault("at = \"1s\", times = 2"),
            "how far apart",
            "add `every`",
        ),
        (
            fault("at = \"1s\", for = \"3s\", every = \"2s\", times = 2"),
            "before it has ended",
            "`every`",
        ),
        (
            fault("at = \"50s\", for = \"1s\", every = \"6s\", times = 3"),
            "outside the safety phase",
            "fewer `times`",
        ),
        (
            fault("follows = \"that\""),
            "no fault above is called `that`",
            "give a fault above",
        ),
        (
            fault("at = \"1s\", delay = \"1s\""),
            "which fault this one follows",
            "add `follows`",
        ),
        (
            fault(
                "name = \"first\", at = \"1s\"\n[[fault]]\nkind = \"pause\"\nnodes = [\"east/front0\"]\nfollows = \"first\"",
            ),
            "when `first` ends",
            "`booted`",
        ),
    ];
    for (text, message, way_out) in &cases {
        let refused = read(text).expect_err(message);
        assert!(refused.contains(message), "{message}\n{refused}");
        assert!(refused.contains(way_out), "{way_out}\n{refused}");
        let place = refused.lines().next().unwrap_or_default();
        assert!(
            place.starts_with("mine.toml:") && !place.starts_with("mine.toml:1:1:"),
            "{place}"
        );
    }
    let link = format!("{HEAD}{}", of_step(pay)).replace(
        "between-regions = \"10ms\"\n",
        "between-regions = \"10ms\"\n[[network.link]]\nfrom = \"west\"\nlatency = \"70ms\"\n",
    );
    let refused = Scenario::read("mine.toml", &link, &KNOWN, &[]).map(drop);
    let refused = refused.expect_err("half a link").to_string();
    assert!(refused.contains("does not say what it joins"), "{refused}");
}

#[test]
fn slips_of_form_and_of_meaning_are_told_together() {
    let mix = transaction(
        "name = \"pay\", wieght = 2",
        &["table = \"walets\", do = \"read\""],
    );
    let text = format!("{LOAD}{mix}").replace("rate = 1000.0", "rate = 1000.0\nskeww = 1.0");
    let refused = read(&text).expect_err("three slips");
    let told = [
        "`skeww`",
        "did you mean `skew`?",
        "`wieght`",
        "did you mean `weight`?",
        "`walets`",
        "did you mean `wallets`?",
    ];
    let mut from = 0;
    for words in told {
        let at = refused[from..].find(words);
        from += at.unwrap_or_else(|| panic!("{words}\n{refused}"));
    }
}
