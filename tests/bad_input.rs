//! Bad scenarios: every one is refused with a place and a way out, and all problems are told at once.

use ordain::registry::Registry;
use ordain::scenario::Scenario;

const GOOD: &str = r#"name = "tiny"
summary = "One region, one table"
protocols = ["2pc"]

[phases]
safety = "5s"
settle = "5s"

[[region]]
name = "here"
cloud = "aurora"

[[region]]
name = "there"
cloud = "aurora"

[network]
between-regions = "10ms"

[[table]]
name = "accounts"
engine = "postgres"
rows = 10
homes = ["here"]

[workload]
kind = "transfer"
transactions = 10
rate = 5.0

[[fault]]
kind = "crash"
nodes = ["here/front0"]
at = "2s"
for = "1s"
"#;

const KNOWN: [&str; 4] = ["naive", "2pc", "saga", "calvin"];

fn read(text: &str) -> Result<Scenario, String> {
    Scenario::read("tiny.toml", text, &KNOWN, &[]).map_err(|bad| bad.to_string())
}

/// The message for the good scenario with one thing replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    read(&GOOD.replacen(from, to, 1)).expect_err("the scenario must be refused")
}

#[test]
fn the_good_scenario_is_good() {
    read(GOOD).unwrap_or_else(|message| panic!("{message}"));
}

#[test]
fn an_unknown_key_is_named_with_the_keys_that_exist() {
    insta::assert_snapshot!(refused("rate = 5.0", "rate = 5.0\nratio = 3"));
}

#[test]
fn a_duration_without_a_unit_says_how_to_write_one() {
    insta::assert_snapshot!(refused("safety = \"5s\"", "safety = \"5\""));
}

#[test]
fn a_probability_written_as_a_fraction_says_how_to_write_one() {
    insta::assert_snapshot!(refused("rate = 5.0", "rate = 5.0\nreads = \"0.2\""));
}

#[test]
fn broken_syntax_has_a_place() {
    insta::assert_snapshot!(refused("[network]", "[network"));
}

#[test]
fn a_region_without_machines_can_form_no_quorum() {
    insta::assert_snapshot!(refused("name = \"here\"\n", "name = \"here\"\nzones = 0\n"));
}

#[test]
fn a_table_without_a_home_has_no_shard() {
    insta::assert_snapshot!(refused("homes = [\"here\"]", "homes = []"));
}

#[test]
fn two_regions_of_one_name_are_refused() {
    insta::assert_snapshot!(refused("name = \"there\"", "name = \"here\""));
}

#[test]
fn two_tables_of_one_name_are_refused() {
    let again = "[[table]]\nname = \"accounts\"\nengine = \"scylla\"\nrows = 1\nhomes = [\"here\"]\n\n[workload]";
    insta::assert_snapshot!(refused("[workload]", again));
}

#[test]
fn a_seat_that_would_be_many_is_refused() {
    let two_more = "[[table]]\nname = \"wallets\"\nengine = \"scylla\"\nrows = 1\nhomes = [\"here\"]\n\n\
                    [[table]]\nname = \"tickets\"\nengine = \"scylla\"\nrows = 1\nhomes = [\"here\"]\n\n\
                    [workload]";
    let text = GOOD.replacen("[workload]", two_more, 1);
    let text = text.replacen(
        "kind = \"transfer\"",
        "kind = \"seat-booking\"\nlegs = 1",
        1,
    );
    let many = text.replacen("rows = 10\n", "rows = 10\ninitial = 50\n", 1);
    insta::assert_snapshot!(read(&many).expect_err("50 seats in a row"));
    let one = text.replacen("rows = 10\n", "rows = 10\ninitial = 1\n", 1);
    read(&one).unwrap_or_else(|message| panic!("{message}"));
}

#[test]
fn an_option_that_the_protocol_does_not_have_is_named_with_those_that_it_has() {
    let text = format!("{GOOD}\n[protocol.2pc]\nresend = 7\n");
    let bad = Registry::standard().read_scenario("tiny.toml", &text, &[]);
    insta::assert_snapshot!(bad.map(drop).expect_err("it is `resend-ms`").to_string());
}

#[test]
fn regions_without_a_delay_between_them_are_refused() {
    insta::assert_snapshot!(refused("between-regions = \"10ms\"", ""));
}

#[test]
fn a_fault_on_a_machine_that_does_not_exist_lists_what_can_be_named() {
    insta::assert_snapshot!(refused("here/front0", "here/front7"));
}

#[test]
fn a_fault_on_client_machines_says_what_to_use_instead() {
    insta::assert_snapshot!(refused("here/front0", "here/clients"));
}

#[test]
fn a_key_of_another_kind_of_fault_is_not_ignored() {
    insta::assert_snapshot!(refused("for = \"1s\"", "for = \"1s\"\npercent = 300"));
}

#[test]
fn a_fault_outside_of_the_safety_phase_is_refused() {
    insta::assert_snapshot!(refused("at = \"2s\"", "at = \"9s\""));
}

#[test]
fn a_fault_that_would_change_nothing_is_refused() {
    let with = |fault: &str| {
        let (before, _) = GOOD.split_once("[[fault]]").expect("it has one");
        read(&format!(
            "{before}[[fault]]\nat = \"2s\"\nfor = \"1s\"\n{fault}\n"
        ))
    };
    let faults = [
        "kind = \"partition\"\nnodes = [\"here/front0\"]\nto = [\"here/front0\"]",
        "kind = \"partition\"\nnodes = [\"*\"]",
        "kind = \"degrade\"\nnodes = [\"here\"]\nloss = \"0%\"",
        "kind = \"slow\"\nnodes = [\"here\"]\npercent = 100",
        "kind = \"clock-step\"\nnodes = [\"here\"]\nby = \"0s\"",
        "kind = \"clock-drift\"\nnodes = [\"here\"]\nppm = 0",
    ];
    let refused = faults.map(|fault| with(fault).map(drop).expect_err(fault));
    insta::assert_snapshot!(refused.join("\n"));
    for near_miss in [
        "kind = \"partition\"\nnodes = [\"here/front0\"]\nto = [\"here\"]",
        "kind = \"degrade\"\nnodes = [\"here\"]\nloss = \"0.0001%\"",
        "kind = \"slow\"\nnodes = [\"here\"]\npercent = 101",
    ] {
        with(near_miss).unwrap_or_else(|refused| panic!("{refused}"));
    }
}

#[test]
fn a_permanent_fault_that_would_end_is_refused() {
    insta::assert_snapshot!(refused("for = \"1s\"", "for = \"1s\"\npermanent = true"));
}

#[test]
fn rows_that_hold_more_than_can_be_counted_are_refused() {
    let most = i64::MAX / 2 / 10;
    let holding = |initial: i64| format!("rows = 10\ninitial = {initial}\n");
    insta::assert_snapshot!(refused("rows = 10\n", &holding(i64::MAX)));
    let with = |initial| read(&GOOD.replacen("rows = 10\n", &holding(initial), 1));
    with(most).unwrap_or_else(|message| panic!("{message}"));
    with(most + 1).expect_err("one more each");
    with(i64::MIN).expect_err("the other way");
}

#[test]
fn a_workload_that_is_neither_open_nor_closed_is_refused() {
    insta::assert_snapshot!(refused("rate = 5.0", ""));
}

#[test]
fn an_unknown_protocol_lists_those_that_exist() {
    insta::assert_snapshot!(refused("protocols = [\"2pc\"]", "protocols = [\"3pc\"]"));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let text = GOOD
        .replacen("name = \"there\"", "name = \"here\"", 1)
        .replacen("homes = [\"here\"]", "homes = [\"lodnon\"]", 1)
        .replacen("at = \"2s\"", "at = \"9s\"", 1);
    insta::assert_snapshot!(read(&text).expect_err("three problems"));
}

#[test]
fn an_override_that_cannot_be_applied_is_named() {
    let set = |key: &str, value: &str| {
        let overrides = [(key.to_owned(), value.to_owned())];
        Scenario::read("tiny.toml", GOOD, &KNOWN, &overrides)
            .map(drop)
            .map_err(|bad| bad.to_string())
    };
    assert_eq!(set("workload.rate", "7.5"), Ok(()));
    assert_eq!(set("region.1.zones", "3"), Ok(()));
    insta::assert_snapshot!(set("region.9.zones", "3").expect_err("there are two regions"));
}

/// What is refused with a declared bound of 10 ms, more about machines, and another fault.
fn refused_under_a_bound(machines: &str, fault: &str) -> String {
    let bounded = format!("[machines]\nclock-bound = \"10ms\"\n{machines}\n[[table]]");
    let good = GOOD.replacen("[[table]]", &bounded, 1);
    let text = good.replacen("kind = \"crash\"", fault, 1);
    read(&text).expect_err("the scenario must be refused")
}

fn assert_says(refused: &str, words: &[&str]) {
    for said in words {
        assert!(refused.contains(said), "{said:?} is not in\n{refused}");
    }
}

#[test]
fn a_liar_without_a_declared_bound_is_refused() {
    let refused = refused("kind = \"crash\"", "kind = \"clock-liar\"\nby = \"1s\"");
    assert_says(
        &refused,
        &[
            "tiny.toml:32:8",
            "no bound is declared",
            "add `clock-bound`",
        ],
    );
}

#[test]
fn a_liar_that_may_keep_the_bound_is_refused() {
    let step = refused_under_a_bound("", "kind = \"clock-liar\"\nby = \"-20ms\"");
    assert_says(&step, &["by as little as 20ms", "more than 20ms"]);
    // One second at 2 percent.
    let drift = refused_under_a_bound("", "kind = \"clock-liar\"\nppm = 20000");
    assert_says(&drift, &["by as little as 20ms", "`ppm` or `for`"]);
}

#[test]
fn a_lie_that_both_steps_and_drifts_is_refused() {
    let both = "kind = \"clock-liar\"\nppm = 200000\nby = \"1s\"";
    let refused = refused_under_a_bound("", both);
    assert_says(&refused, &["one of the two", "give either `by` or `ppm`"]);
}

#[test]
fn clocks_that_leave_their_bound_without_a_lie_are_refused() {
    let machines = "clock-skew = \"8ms\"\nclock-drift-ppm = 20\n";
    let step = "kind = \"clock-step\"\nby = \"5ms\"";
    let refused = refused_under_a_bound(machines, step);
    // 20 ppm of the longest run: 5 s, eleven settle phases of 5 s, and ten seconds of recovery.
    assert_says(
        &refused,
        &[
            "start up to 8ms off",
            "1.4ms in 70s",
            "move one by 5ms",
            "at least 14.4ms",
        ],
    );
}

#[test]
fn swarms_that_are_to_lie_without_a_declared_bound_are_refused() {
    for swarm in ["clock-lies = true", "classes = [\"clock-liar\"]"] {
        let refused = refused("[[table]]", &format!("[swarm]\n{swarm}\n\n[[table]]"));
        assert_says(&refused, &["no bound is declared", "add `clock-bound`"]);
    }
}
