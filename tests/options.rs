//! Every option of every protocol at the edges of its range and beyond. The options come from the protocols' own
//! description: a new one is tested without a line here.

use std::collections::BTreeSet;

use ordain::base::options::{Described, Domain, OptionValue};
use ordain::campaign::swarm;
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::scenario::Scenario;
use ordain::verdict::{Conclusion, Status};

/// Few transactions, and enough trouble that every timer is set and runs out.
const TROUBLE: &str = r#"name = "trouble"
summary = "A crash, a cut and a lossy link within three seconds"
[phases]
safety = "3s"
settle = "3s"
power-cycle = "1s"
[[region]]
name = "here"
cloud = "a"
zones = 4
[[region]]
name = "there"
cloud = "b"
zones = 4
[network]
between-regions = "5ms"
[machines]
clock-bound = "5ms"
[[table]]
name = "acc"
engine = "postgres"
rows = 8
initial = 1000
homes = ["here", "there", "here"]
[workload]
kind = "transfer"
transactions = 12
rate = 10.0
[[fault]]
kind = "crash"
nodes = ["here/acc0"]
at = "1200ms"
for = "300ms"
[[fault]]
kind = "partition"
nodes = ["there"]
at = "1600ms"
for = "300ms"
[[fault]]
kind = "degrade"
nodes = ["here"]
loss = "30%"
at = "1s"
for = "1500ms"
"#;

/// The scenario with one option stated.
fn with(protocol: &str, option: &str, value: &str) -> Result<Scenario, String> {
    let (table, key) = match option.rsplit_once('.') {
        Some((table, key)) => (format!("{protocol}.{table}"), key),
        None => (protocol.to_owned(), option),
    };
    let text = format!("{TROUBLE}[protocol.{table}]\n{key} = {value}\n");
    Registry::standard()
        .read_scenario("trouble.toml", &text, &[])
        .map_err(|bad| bad.to_string())
}

/// What the option must take, and what it must refuse.
fn edges(option: &Described) -> (Vec<String>, Vec<String>) {
    let number = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
    // The milliseconds that once wrapped around as nanoseconds.
    let huge = 18_446_744_073_710;
    match (&option.domain, &option.default) {
        (Domain::Flag, _) => {
            let taken = ["true", "false"].map(str::to_owned);
            (taken.to_vec(), ["0", "\"yes\""].map(str::to_owned).to_vec())
        }
        (Domain::Name, _) => {
            let taken = ["\"\"", "\"there\""].map(str::to_owned);
            (taken.to_vec(), ["1", "true"].map(str::to_owned).to_vec())
        }
        (Domain::Choice { values }, _) => {
            let taken = values.iter().map(|value| format!("{value:?}"));
            let refused = ["\"whatever\"", "1", "true"].map(str::to_owned);
            (taken.collect(), refused.to_vec())
        }
        (
            &Domain::Milliseconds { least, most } | &Domain::Number { least, most },
            OptionValue::Number(default),
        ) => {
            let (taken, mut refused): (Vec<u64>, Vec<u64>) =
                [0, 1, *default, most, most + 1, huge, i64::MAX as u64]
                    .iter()
                    .partition(|number| (least..=most).contains(number));
            refused.dedup();
            assert!(taken.contains(&most) && refused.contains(&(most + 1)));
            let words = ["-1", "1.5", "\"10ms\"", "99999999999999999999"].map(str::to_owned);
            (number(&taken), [number(&refused), words.to_vec()].concat())
        }
        (&Domain::MillisecondsRange { least, most }, OptionValue::Range([min, max])) => {
            let taken = [[least, least], [*min, *max], [least, most], [most, most]];
            let refused = [[0, *max], [*max, *min], [*min, most + 1], [*min, huge]];
            let written =
                |ranges: &[[u64; 2]]| ranges.iter().map(|range| format!("{range:?}")).collect();
            (written(&taken), written(&refused))
        }
        (domain, default) => panic!("{}: {default} is none of {domain}", option.name),
    }
}

#[test]
fn every_option_takes_its_whole_range_and_a_run_with_it_ends() {
    let mut runs = 0;
    for protocol in Registry::standard().list() {
        for option in &protocol.described {
            for value in edges(option).0 {
                let what = format!("{}.{} = {value}", protocol.name, option.name);
                let scenario = match with(protocol.name, &option.name, &value) {
                    Ok(scenario) => scenario,
                    // Within its range, and at odds with another option.
                    Err(refused) if refused.contains("campaign against its leader") => continue,
                    // There are two regions.
                    Err(refused) if refused.contains("form no quorum") => continue,
                    Err(refused) => panic!("{what}: {refused}"),
                };
                let run = Registry::standard().run(
                    &scenario,
                    protocol.name,
                    &Plan::draw(&scenario, 1),
                    false,
                );
                let run = run.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(run.verdict.counts.invoked, 12, "{what}");
                assert!(run.simulated_ms >= 2_000.0, "{what}");
                runs += 1;
            }
        }
    }
    assert!(runs > 100, "{runs}");
}

#[test]
fn every_option_refuses_what_is_out_of_its_range_and_shows_where_it_stands() {
    for protocol in Registry::standard().list() {
        for option in &protocol.described {
            for value in edges(option).1 {
                let what = format!("{}.{} = {value}", protocol.name, option.name);
                let refused = with(protocol.name, &option.name, &value)
                    .err()
                    .unwrap_or_else(|| panic!("{what} was taken"));
                let line = TROUBLE.lines().count() + 2;
                let key = option.name.rsplit('.').next().unwrap_or_default();
                let column = key.len() + " = ".len() + 1;
                // A list has a place for each of its two numbers.
                let place = format!("trouble.toml:{line}:{column}");
                let within = format!("trouble.toml:{line}:");
                assert!(
                    refused.starts_with(&place)
                        || value.starts_with('[') && refused.starts_with(&within),
                    "{what}: {refused}"
                );
                let says = ["expected", "is no range", "wanted"];
                assert!(
                    says.iter().any(|word| refused.contains(word)),
                    "{what}: {refused}"
                );
            }
        }
    }
}

#[test]
fn all_options_that_are_wrong_are_told_at_once() {
    let text = format!(
        "{TROUBLE}[protocol.2pc]\ninquiry-ms = 0\nresent-ms = 7\n[protocol.calvin]\nepoch-ms = 100000\n\
         [protocol.calvin.log]\nmax-batch = 0\nelection-ms = [9, 3]\n"
    );
    let refused = Registry::standard()
        .read_scenario("trouble.toml", &text, &[])
        .map(drop);
    insta::assert_snapshot!(refused.expect_err("five of them are wrong").to_string());
}

#[test]
fn options_that_do_not_go_together_are_refused_where_one_of_them_stands() {
    let refused = with("calvin", "log.heartbeat-ms", "600").expect_err("as slow as an election");
    insta::assert_snapshot!(refused);
    with("calvin", "log.heartbeat-ms", "599").unwrap_or_else(|refused| panic!("{refused}"));
}

#[test]
fn a_protocol_that_the_machines_do_not_carry_runs_only_where_it_is_named() {
    let small = TROUBLE.replace("zones = 4\n", "");
    let read = |text: &str| {
        let read = Registry::standard().read_scenario("small.toml", text, &[]);
        read.map_err(|bad| bad.to_string())
    };
    let others = read(&small).expect("all others are carried").protocols;
    assert_eq!(
        others,
        [
            "naive",
            "2pc",
            "3pc",
            "saga",
            "calvin",
            "percolator",
            "monolith",
            "spanner",
            "ramp",
            "xa"
        ]
    );
    for named in [
        format!("protocols = [\"paxos-commit\"]\n{small}"),
        format!("{small}[protocol.paxos-commit]\nfaster = true\n"),
    ] {
        let refused = read(&named).expect_err("two front machines hold no three acceptors");
        assert!(
            refused.contains("add regions or zones, or tolerate 0"),
            "{refused}"
        );
    }
    let fewer = format!("{small}[protocol.paxos-commit]\ntolerated = 0\n");
    assert_eq!(read(&fewer).expect("one acceptor").protocols.len(), 11);
}

#[test]
fn every_option_is_documented_and_its_default_is_in_its_range() {
    for protocol in Registry::standard().list() {
        for option in &protocol.described {
            let what = format!("{}.{}", protocol.name, option.name);
            assert!(option.about.len() > 20, "{what}: {}", option.about);
            let default = option.default.to_string();
            with(protocol.name, &option.name, &default)
                .unwrap_or_else(|refused| panic!("{what}: {refused}"));
            let tried = option.tried();
            let others = option.domain == Domain::Name || tried.len() >= 2;
            assert!(
                others && tried.contains(&option.default),
                "{what}: {tried:?}"
            );
        }
    }
}

#[test]
fn swarm_plans_try_every_value_of_every_option_but_those_that_the_scenario_states() {
    let text = format!("{TROUBLE}[protocol.2pc]\ninquiry-ms = 77\n");
    let always = [("swarm.options".to_owned(), "100%".to_owned())];
    let registry = Registry::standard();
    let read = registry.read_scenario("trouble.toml", &text, &always);
    let scenario = read.unwrap_or_else(|bad| panic!("{bad}"));
    let mut drawn = BTreeSet::new();
    for seed in 0..200 {
        let plan = swarm::draw(&scenario, seed);
        assert_eq!(plan, swarm::draw(&scenario, seed));
        for (protocol, options) in plan.options {
            let values = options.into_iter();
            drawn.extend(values.map(|(name, value)| (protocol.clone(), name, value)));
        }
    }
    let mut expected = BTreeSet::new();
    for protocol in registry.list() {
        for option in &protocol.described {
            let values = option.tried().into_iter();
            expected
                .extend(values.map(|value| (protocol.name.to_owned(), option.name.clone(), value)));
        }
    }
    // Stated; and what these two regions do not carry.
    expected.retain(|(protocol, name, value)| {
        let option = (protocol.as_str(), name.as_str());
        option != ("2pc", "inquiry-ms")
            && (option != ("spanner", "tolerated") || *value == OptionValue::Number(0))
    });
    assert_eq!(drawn, expected);
}

#[test]
fn a_run_with_drawn_options_says_so_and_its_plan_repeats_it() {
    let always = [("swarm.options".to_owned(), "100%".to_owned())];
    let registry = Registry::standard();
    let read = registry.read_scenario("trouble.toml", TROUBLE, &always);
    let scenario = read.unwrap_or_else(|bad| panic!("{bad}"));
    let plan = swarm::draw(&scenario, 3);
    let run = registry
        .run(&scenario, "2pc", &plan, true)
        .expect("it runs");
    assert_eq!(Some(&run.drawn_options), plan.options.get("2pc"));
    let kept = run.kept.plan.as_ref().expect("it was asked for");
    assert_eq!(kept.options.keys().collect::<Vec<_>>(), ["2pc"]);
    let again = registry
        .run(&scenario, "2pc", kept, false)
        .expect("it runs");
    assert_eq!(again.digest, run.digest);
    let shown = ordain::report::text::run(&run);
    assert!(
        shown.contains("options drawn by the seed: announce-restarts = "),
        "{shown}"
    );
}

/// Clients are told that a transaction failed of which a part stands. Commit-everywhere promises nothing else, so that this is a
/// measurement; it used to be a violation.
#[test]
fn what_stands_of_a_transaction_that_commit_everywhere_calls_failed_is_a_measurement() {
    let text = include_str!("../scenarios/naive-partial.toml");
    let overrides = [
        ("protocol.naive.on-partial-failure", "\"say-failure\""),
        ("fault.2.probability", "\"100%\""),
    ];
    let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let scenario = Registry::standard()
        .read_scenario("naive-partial", text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"));
    let run = Registry::standard()
        .run(&scenario, "naive", &Plan::draw(&scenario, 1), false)
        .expect("it can be deployed");
    let mut properties = run.verdict.properties.iter();
    let found = properties.find(|property| property.name == "no-phantom-effects");
    let found = found.expect("it is judged");
    assert_eq!(found.instances, 1, "{found:?}");
    assert_eq!(found.status, Status::NotPromised);
    assert_ne!(run.verdict.verdict, Conclusion::Violation);
}
