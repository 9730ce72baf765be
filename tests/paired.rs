//! Paired comparison: the intervals cover what they say, and equal runs do not differ.

use ordain::campaign::compare::paired::{Difference, PAIRS_MIN, Paired, interval};
use ordain::campaign::compare::{Comparison, compare};
use ordain::cli::SHIPPED;
use ordain::plan::random::Stream;
use ordain::registry::Registry;
use ordain::report::text;

/// How many of so many samples of the distribution have an interval that covers its mean.
fn covered(samples: u32, pairs: usize, mean: f64, draw: fn(&mut Stream) -> f64) -> u32 {
    let mut nature = Stream::new(11, &"differences");
    let mut resampling = Stream::new(12, &"resampling");
    let covers = |_: &u32| {
        let differences: Vec<f64> = (0..pairs).map(|_| draw(&mut nature)).collect();
        let (low, high) = interval(&differences, &mut resampling);
        (low..=high).contains(&mean)
    };
    (0..samples).filter(covers).count() as u32
}

/// A sum of twelve uniform numbers less six: almost normal, with a variance of 1.
fn normal(stream: &mut Stream) -> f64 {
    (0..12).map(|_| stream.unit()).sum::<f64>() - 6.0
}

#[test]
fn the_95_percent_interval_covers_the_true_difference_about_95_times_in_100() {
    // With 400 samples two standard deviations are 2.2 points; skew costs up to 4.
    let share = |count: u32| f64::from(count) / 400.0;
    let even = share(covered(400, 20, 3.0, |stream| 3.0 + normal(stream)));
    assert!((0.925..=0.975).contains(&even), "{even}");
    let skewed = share(covered(400, 20, 2.0, |stream| stream.exponential(2.0)));
    assert!((0.90..=0.975).contains(&skewed), "{skewed}");
    let mostly_zero = share(covered(400, 20, 1.0, |stream| match stream.chance(0.5) {
        true => 0.0,
        false => stream.exponential(2.0),
    }));
    assert!((0.90..=0.985).contains(&mostly_zero), "{mostly_zero}");
    // Such a check can fail: an interval of the wrong mean is nearly never covered.
    let wrong = share(covered(400, 20, 4.5, |stream| 3.0 + normal(stream)));
    assert!(wrong < 0.01, "{wrong}");
}

#[test]
fn the_same_differences_give_the_same_interval() {
    let mut nature = Stream::new(3, &"differences");
    let differences: Vec<f64> = (0..15).map(|_| nature.exponential(1.0)).collect();
    let once = interval(&differences, &mut Stream::new(0, &"x"));
    assert_eq!(once, interval(&differences, &mut Stream::new(0, &"x")));
    assert!(once.0 < once.1);
}

fn compared(protocols: &[&str], seeds: u64) -> Comparison {
    let (name, text) = SHIPPED[0];
    // Ten seconds of trades: the region goes dark after seven.
    let overrides = [("transactions", "100"), ("rate", "10.0")];
    let overrides = overrides.map(|(key, value)| (format!("workload.{key}"), value.to_owned()));
    let scenario = Registry::standard()
        .read_scenario(name, text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"));
    let protocols: Vec<String> = protocols.iter().map(|name| (*name).to_owned()).collect();
    let seeds: Vec<u64> = (1..=seeds).collect();
    compare(&Registry::standard(), &scenario, &protocols, &seeds, |_| {}).expect("it runs")
}

#[test]
fn a_protocol_does_not_differ_from_itself() {
    let comparison = compared(&["2pc", "2pc"], PAIRS_MIN as u64);
    let paired = comparison.paired.expect("two protocols, enough seeds");
    assert_eq!(paired.baseline, "2pc");
    for difference in &paired.differences {
        assert_eq!((difference.mean, difference.median), (0.0, 0.0));
        assert_eq!((difference.larger, difference.smaller), (0, 0));
        assert_eq!(
            difference.interval,
            Some((0.0, 0.0)),
            "{}",
            difference.measurement
        );
    }
}

#[test]
fn a_dark_region_blocks_two_phase_commit_longer_than_calvin_on_the_same_plans() {
    let comparison = compared(&["2pc", "calvin"], 12);
    let paired = comparison
        .paired
        .as_ref()
        .expect("two protocols, enough seeds");
    let of = |measurement: &str| {
        let mut all = paired.differences.iter();
        all.find(|d| d.measurement == measurement)
            .expect("measured")
    };
    let blocked = of("blocked, transaction-seconds");
    assert_eq!((blocked.pairs, blocked.smaller), (12, 12));
    let (low, high) = blocked.interval.expect("enough pairs");
    assert!(
        low < blocked.mean && blocked.mean < high && high < 0.0,
        "{blocked:?}"
    );
    let messages = of("messages per transaction");
    assert!(
        messages.interval.expect("enough pairs").0 > 0.0,
        "replication costs messages"
    );
    assert!(text::comparison(&comparison).contains("minus 2pc, mean over seeds"));
}

#[test]
fn too_few_seeds_give_differences_without_intervals_and_a_word() {
    let comparison = compared(&["2pc", "calvin"], 3);
    let paired = comparison.paired.as_ref().expect("two protocols");
    assert!({ paired.differences.iter() }.all(|d| d.interval.is_none() && d.pairs <= 3));
    assert!(
        text::comparison(&comparison).contains("no intervals: 3 seeds are too few, 10 are needed")
    );
    assert_eq!(
        compared(&["2pc", "calvin"], 1).paired,
        None,
        "one seed has no spread"
    );
}

#[test]
fn differences_are_shown_with_signs_intervals_and_what_is_missing() {
    let difference = |protocol: &str, measurement, pairs, mean, interval| Difference {
        protocol: protocol.to_owned(),
        measurement,
        pairs,
        larger: 3,
        smaller: 7,
        median: mean,
        mean,
        interval,
    };
    let paired = Paired {
        baseline: "2pc".to_owned(),
        confidence: 0.95,
        method: "studentized bootstrap of the mean difference over seeds",
        resamples: 4_000,
        differences: vec![
            difference(
                "saga",
                "blocked, transaction-seconds",
                12,
                -1_234.5,
                Some((-2_000.0, -0.25)),
            ),
            difference("saga", "latency p50, ms", 4, 3.25, None),
            difference(
                "calvin",
                "blocked, transaction-seconds",
                12,
                0.0,
                Some((0.0, 0.0)),
            ),
            difference("calvin", "latency p50, ms", 0, 0.0, None),
        ],
    };
    insta::assert_snapshot!(text::differences(&paired));
}
