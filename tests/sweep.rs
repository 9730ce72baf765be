//! Sweeps: a point is what a comparison with the same keys is, and what was done is not done again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::scenarios::shipped;
use ordain::campaign::compare;
use ordain::campaign::sweep::{self, Sweep};
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::report::text;

const FEW: &str = "workload.transactions=30";

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a place for the test");
    folder
}

fn ordain(args: &[&str], here: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(args)
        .current_dir(here)
        .output()
        .expect("the program runs")
}

fn swept(output: &Output) -> Sweep {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_point_is_the_comparison_with_the_same_keys() {
    let registry = Registry::standard();
    let protocols = ["2pc", "calvin"].map(str::to_owned);
    let seeds: Vec<u64> = (1..=10).collect();
    for rate in ["50", "400"] {
        let scenario = shipped(
            "storm",
            &[("workload.transactions", "30"), ("workload.rate", rate)],
        );
        let at = vec![rate.to_owned()];
        let whose = (&protocols[..], &seeds[..]);
        let point = sweep::point(&registry, &scenario, whose, Plan::draw, at, || {});
        let point = point.expect("it runs");
        let compared = compare::compare(&registry, &scenario, &protocols, &seeds, |_| {});
        let compared = compared.expect("it runs");
        for (of, line) in point.protocols.iter().zip(&compared.protocols) {
            assert_eq!((of.kept, of.violations), (line.kept, line.violations));
            let measured = |name: &str| &of.measured[name];
            assert_eq!(measured("latency p50, ms").values.len(), seeds.len());
            let (low, high) = measured("committed, %").interval.expect("ten seeds");
            let mean = measured("committed, %").mean;
            assert!(low <= mean && mean <= high);
            // Every seed has as many transactions, so that the mean of shares is the share of sums.
            let share = 100.0 * line.counts.committed as f64 / line.counts.invoked as f64;
            assert!(
                (mean - share).abs() < 1e-9 && share > 50.0,
                "{mean} {share}"
            );
        }
    }
}

#[test]
fn committed_a_second_is_counted_from_the_first_request_to_the_last_answer() {
    let registry = Registry::standard();
    let scenario = shipped("storm", &[("workload.transactions", "30")]);
    let run = registry.run(&scenario, "2pc", &Plan::draw(&scenario, 1), true);
    let run = run.expect("it runs");
    // What clients saw, read from the history and not from the verdict's own reading.
    let records = run
        .kept
        .history
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record is JSON"));
    let (mut first, mut last) = (u64::MAX, 0);
    for record in records {
        let at = record["time"].as_u64().expect("a time");
        match record["type"].as_str() {
            Some("invoke") => first = first.min(at),
            Some("ok" | "fail") => last = last.max(at),
            _ => {}
        }
    }
    let busy_s = (last - first) as f64 / 1e9;
    assert!(busy_s > 0.1, "{busy_s}");
    assert!((run.verdict.metrics.busy_s - busy_s).abs() < 1e-9);
}

#[test]
fn what_was_done_is_kept_and_only_the_rest_is_run() {
    let here = folder("sweep");
    let args = |values: &str, seeds: &str| {
        let vary = format!("workload.rate={values}");
        let args = [
            "compare",
            "storm",
            "-p",
            "2pc",
            "-n",
            seeds,
            "--set",
            FEW,
            "--vary",
            &vary,
            "--results",
            "rates.json",
            "--json",
        ];
        ordain(&args, &here)
    };
    let two = swept(&args("50,200", "2"));
    assert_eq!(two.points.len(), 2);
    // A mark of ours in the file shows what was taken from it.
    let file = here.join("rates.json");
    let mut edited = two.clone();
    edited.points[0].protocols[0].kept = 77;
    fs::write(&file, serde_json::to_string(&edited).unwrap()).unwrap();
    let three = swept(&args("20,50,200", "2"));
    let kept: Vec<u64> = three.points.iter().map(|p| p.protocols[0].kept).collect();
    assert_eq!(kept, [2, 77, 2]);
    assert_eq!(three.points[2], two.points[1]);
    let kept: Sweep = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept, three);
    // Other seeds are other work.
    let other = swept(&args("50", "3"));
    assert_eq!(other.points[0].protocols[0].kept, 3);
    fs::write(&file, "[]").unwrap();
    let refused = args("50", "3");
    assert_eq!(refused.status.code(), Some(65));
}

#[test]
fn every_choice_of_two_axes_is_run_and_shown() {
    let here = folder("sweep-two");
    let args = [
        "compare",
        "storm",
        "-p",
        "monolith,2pc",
        "-n",
        "2",
        "--set",
        FEW,
        "--vary",
        "network.between-regions=5ms,50ms",
        "--vary",
        "workload.rate=50,200",
        "--html",
        "sweep.html",
    ];
    let output = ordain(&args, &here);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("two_axes", String::from_utf8_lossy(&output.stdout));
    let html = fs::read_to_string(here.join("sweep.html")).expect("the page was written");
    assert!(html.contains("network.between-regions"));
    assert!(!html.contains("http://") || html.contains("www.w3.org/2000/svg"));
    let swept = swept(&ordain(&[&args[..12], &["--json"]].concat(), &here));
    let p50 = |at: usize| swept.points[at].protocols[1].measured["latency p50, ms"].mean;
    assert!(
        p50(0) + 40.0 < p50(2),
        "the distance is in the latency of 2PC"
    );
    assert_eq!(text::sweep(&swept).matches("latency p50").count(), 1);
}

#[test]
fn a_key_that_makes_no_difference_is_named() {
    let here = folder("sweep-idle");
    let said = |scenario: &str, vary: &str| {
        let args = [
            "compare", scenario, "-p", "2pc", "--set", FEW, "--vary", vary,
        ];
        let output = ordain(&args, &here);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Each pair of its regions has a link of its own.
    let idle = said("settlement", "network.between-regions=5ms,50ms");
    assert!(
        idle.contains("`network.between-regions` changes nothing"),
        "{idle}"
    );
    let busy = said("settlement", "workload.rate=20,60");
    assert!(!busy.contains("changes nothing"), "{busy}");
    let one = said("settlement", "network.between-regions=5ms");
    assert!(!one.contains("changes nothing"), "{one}");
}

#[test]
fn nonsense_is_refused_before_anything_runs() {
    let here = folder("sweep-nonsense");
    let refused = |vary: &str| {
        let output = ordain(
            &["compare", "storm", "--vary", vary, "--results", "r.json"],
            &here,
        );
        assert!(!here.join("r.json").exists());
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("it exits"), words)
    };
    assert_eq!(refused("workload.rate").0, 64);
    assert_eq!(refused("workload.rate=50,,60").0, 64);
    let (code, words) = refused("workload.rate=50,50");
    assert!(code == 64 && words.contains("twice"), "{words}");
    let (code, words) = refused("workload.rate=50,fast");
    assert!(code == 65 && words.contains("fast"), "{words}");
    let (code, words) = refused("workload.tempo=50");
    assert!(code == 65 && words.contains("tempo"), "{words}");
}
