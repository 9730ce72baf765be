//! Fuzzing: swarm plans on all cores.
//!
//! Seeds are run in chunks. Within a chunk the threads take what comes; the results are looked at in the order of
//! seeds, so that what is found, and which run represents a class, does not depend on the number of threads.
//!
//! One run in sixteen is repeated, a chunk later and on whatever thread is free then. Its digest must be the same:
//! everything else that ordain says rests on that.

use rayon::prelude::*;

use super::regress::Committed;
use super::report::{Line, Nondeterministic, Outcome, Reached, Regression, Report, Tally};
use super::swarm;
use crate::base::digest::stable_hash;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::run::Run;
use crate::run::failure::{self, Size};
use crate::scenario::Scenario;
use crate::verdict::{Conclusion, Status};

/// How many runs each thread has to do before results are looked at.
const CHUNK: usize = 16;
/// One seed in this many is run twice.
const REPEAT_EVERY: u64 = 16;

/// Which runs a campaign consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// Each seed's plan is run under each of these.
    pub protocols: Vec<String>,
    /// The first seed.
    pub first_seed: u64,
    /// How many seeds, over all parts; `None`: until the campaign is stopped.
    pub seeds: Option<u64>,
    /// Which part: every n-th seed from the i-th on.
    pub part: (u64, u64),
    /// How many threads.
    pub jobs: usize,
}

/// Why a campaign ends before its last seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Its time is up.
    Enough,
    /// Somebody interrupted it.
    Interrupted,
}

/// What a campaign reports to its caller while it runs.
pub trait Watch: Sync {
    /// Asked before every run, from all threads.
    fn stop(&self) -> Option<Stop>;
    /// Called after every run, from all threads.
    fn ran(&self);
    /// Called between chunks: failing runs and classes so far.
    fn so_far(&self, failing: u64, classes: usize);
    /// A run represents its class of failures now. Returns the folder that it was written to, if it could be.
    /// `before` is the folder of the larger run that did so until now.
    fn found(&self, plan: &Plan, outcome: &Outcome, before: Option<&str>) -> Option<String>;
}

/// Runs a campaign.
///
/// # Errors
///
/// When a protocol does not fit the scenario.
pub fn fuzz(
    registry: &Registry,
    scenario: &Scenario,
    span: &Span,
    committed: &[Committed],
    watch: &dyn Watch,
) -> Result<Report, String> {
    let mut report = blank(registry, scenario, span);
    for one in committed {
        report.regressions.push(regress(registry, one)?);
    }
    let run = |protocol: usize, seed: u64| {
        let plan = swarm::draw(scenario, seed);
        let run = registry.run(scenario, &span.protocols[protocol], &plan, false)?;
        Ok(outcome(protocol, &plan, &run))
    };
    drive(span, &run, watch, |event| match event {
        Event::Ran(outcome) => {
            if let Some(at) = report.add(&outcome) {
                let before = report.failures[at].dir.take();
                let plan = swarm::draw(scenario, outcome.seed);
                report.failures[at].dir = watch.found(&plan, &outcome, before.as_deref());
            }
            Ok(())
        }
        Event::Repeated(difference) => {
            report.repeated += 1;
            report.nondeterministic.extend(difference);
            Ok(())
        }
        Event::ChunkDone => {
            let failing = { report.failures.iter() }
                .map(|f| f.seeds.len() as u64)
                .sum();
            watch.so_far(failing, report.failures.len());
            Ok(())
        }
    })
    .map(|stop| report.interrupted = stop == Some(Stop::Interrupted))?;
    report.sort();
    Ok(report)
}

fn blank(registry: &Registry, scenario: &Scenario, span: &Span) -> Report {
    let line = |protocol: &String| Line {
        protocol: protocol.clone(),
        runs: 0,
        permanent: 0,
        kept: 0,
        violations: 0,
        unknown: 0,
        vacuous: 0,
        expects: expects(scenario, protocol),
        promises_nothing: false,
        counts: Tally::default(),
        marks: { registry.marks(protocol).into_iter() }
            .map(|(name, _)| (name.to_owned(), Reached::default()))
            .collect(),
        tried: Default::default(),
    };
    Report {
        ordain: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: scenario.name.clone(),
        asked_for: scenario.name.clone(),
        overrides: Vec::new(),
        scenario_digest: format!("{:016x}", stable_hash(&scenario.text)),
        first_seed: span.first_seed,
        parts: vec![format!("{}/{}", span.part.0, span.part.1)],
        missing: Vec::new(),
        interrupted: false,
        runs: 0,
        runs_per_second: 0.0,
        repeated: 0,
        nondeterministic: Vec::new(),
        digest: format!("{:016x}", 0),
        protocols: span.protocols.iter().map(line).collect(),
        failures: Vec::new(),
        undecided: Vec::new(),
        vacuous: Vec::new(),
        regressions: Vec::new(),
        left_out: Vec::new(),
    }
}

/// What the scenario expects of a protocol instead of kept promises.
fn expects(scenario: &Scenario, protocol: &str) -> Option<Conclusion> {
    let wanted = scenario.expect.get(protocol)?.verdict.as_deref()?;
    let others = [Conclusion::Violation, Conclusion::Vacuous];
    others.into_iter().find(|verdict| verdict.name() == wanted)
}

/// What a campaign keeps of a run.
fn outcome(protocol: usize, plan: &Plan, run: &Run) -> Outcome {
    let failed = failure::class(run).map(|class| {
        let broken = { run.verdict.properties.iter() }
            .find(|p| p.status == Status::Violation && p.name == class.property);
        let shown = broken.map_or("", |p| p.counterexample.as_deref().unwrap_or(&p.observed));
        (class, shown.to_owned())
    });
    Outcome {
        protocol,
        seed: plan.seed,
        digest: run.digest.to_string(),
        verdict: run.verdict.verdict,
        vacuity: run.verdict.vacuity.clone(),
        permanent: plan.faults.iter().any(|fault| fault.permanent),
        promises_nothing: run.verdict.promises_nothing,
        failed,
        size: Size::of(plan, run),
        counts: run.verdict.counts,
        marks: run.marks.clone(),
        options: run.drawn_options.clone(),
    }
}

fn regress(registry: &Registry, one: &Committed) -> Result<Regression, String> {
    let run = registry
        .run(&one.scenario, &one.protocol, &one.plan, false)
        .map_err(|error| format!("{}: {error}", one.path.display()))?;
    Ok(Regression {
        path: one.path.display().to_string(),
        protocol: one.protocol.clone(),
        undecided: run.verdict.verdict == Conclusion::Unknown,
        vacuity: run.verdict.vacuity.clone(),
        class: failure::class(&run),
    })
}

/// What [`drive`] hands on, in an order that does not depend on threads.
enum Event {
    Ran(Box<Outcome>),
    /// A run was repeated; what differed, if anything did.
    Repeated(Option<Nondeterministic>),
    ChunkDone,
}

/// Something for a thread to do.
#[derive(Clone)]
enum Job {
    Run(usize, u64),
    Repeat(usize, u64, String),
}

type Runner<'a> = &'a (dyn Fn(usize, u64) -> Result<Outcome, String> + Sync);

/// Runs all seeds of the span under all protocols, chunk by chunk. Says why it stopped early, if it did.
fn drive(
    span: &Span,
    run: Runner<'_>,
    watch: &dyn Watch,
    mut hand_on: impl FnMut(Event) -> Result<(), String>,
) -> Result<Option<Stop>, String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(span.jobs);
    let pool = pool.build().map_err(|error| error.to_string())?;
    let (part, parts) = span.part;
    let last = span.seeds.unwrap_or(u64::MAX);
    let mut numbers = (part..last).step_by(parts as usize);
    let mut repeats: Vec<Job> = Vec::new();
    loop {
        let seeds = numbers
            .by_ref()
            .take((CHUNK * span.jobs).div_ceil(span.protocols.len()));
        let mut jobs = std::mem::take(&mut repeats);
        let before = jobs.len();
        for number in seeds {
            let seed = span.first_seed.wrapping_add(number);
            jobs.extend((0..span.protocols.len()).map(|protocol| Job::Run(protocol, seed)));
        }
        if jobs.is_empty() {
            return Ok(None);
        }
        let over = jobs.len() == before;
        let outcomes: Vec<Option<Outcome>> = pool.install(|| {
            let work = |job: &Job| {
                let (Job::Run(protocol, seed) | Job::Repeat(protocol, seed, _)) = *job;
                let may = match (watch.stop(), job) {
                    (None, _) => true,
                    // Those few are still to be compared when the time is up.
                    (Some(Stop::Enough), Job::Repeat(..)) => true,
                    (Some(_), _) => false,
                };
                may.then(|| run(protocol, seed))
                    .transpose()
                    .inspect(|_| watch.ran())
            };
            jobs.par_iter().map(work).collect::<Result<_, String>>()
        })?;
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            let Some(outcome) = outcome else { continue };
            match job {
                Job::Run(protocol, seed) => {
                    if is_repeated(seed.wrapping_sub(span.first_seed) / parts) {
                        repeats.push(Job::Repeat(protocol, seed, outcome.digest.clone()));
                    }
                    hand_on(Event::Ran(Box::new(outcome)))?;
                }
                Job::Repeat(protocol, seed, first) => {
                    let difference = (outcome.digest != first).then(|| Nondeterministic {
                        protocol: span.protocols[protocol].clone(),
                        seed,
                        first,
                        again: outcome.digest,
                    });
                    hand_on(Event::Repeated(difference))?;
                }
            }
        }
        hand_on(Event::ChunkDone)?;
        match watch.stop() {
            Some(Stop::Interrupted) => return Ok(Some(Stop::Interrupted)),
            Some(Stop::Enough) if over => return Ok(Some(Stop::Enough)),
            // One more round, for what is to be repeated.
            Some(Stop::Enough) => numbers = (0..0).step_by(1),
            None => {}
        }
    }
}

/// Whether the n-th seed of a part is run twice. Counted in each part by itself, so that every part of every
/// matrix has its share.
fn is_repeated(place: u64) -> bool {
    place.is_multiple_of(REPEAT_EVERY)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::base::options::Chosen;
    use crate::verdict::Counts;

    struct Quiet(Option<(u64, Stop)>, AtomicU64);

    impl Watch for Quiet {
        fn stop(&self) -> Option<Stop> {
            let (after, why) = self.0?;
            (self.1.load(Ordering::SeqCst) >= after).then_some(why)
        }
        fn ran(&self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
        fn so_far(&self, _: u64, _: usize) {}
        fn found(&self, _: &Plan, _: &Outcome, _: Option<&str>) -> Option<String> {
            unreachable!("drive finds nothing")
        }
    }

    fn outcome(protocol: usize, seed: u64, digest: String) -> Outcome {
        Outcome {
            protocol,
            seed,
            digest,
            verdict: Conclusion::Kept,
            vacuity: None,
            permanent: false,
            promises_nothing: false,
            failed: None,
            size: Size::default(),
            counts: Counts::default(),
            marks: BTreeMap::new(),
            options: Chosen::new(),
        }
    }

    fn span(jobs: usize, part: (u64, u64), seeds: u64) -> Span {
        Span {
            protocols: vec!["a".into(), "b".into()],
            first_seed: 100,
            seeds: Some(seeds),
            part,
            jobs,
        }
    }

    /// Which runs happened, in the order in which they were handed on, how many were repeated, and which
    /// differed.
    type Seen = (Vec<(usize, u64)>, u64, Vec<Nondeterministic>, Option<Stop>);

    fn watch(span: &Span, run: Runner<'_>, quiet: &Quiet) -> Seen {
        let (mut order, mut repeated, mut differing) = (Vec::new(), 0, Vec::new());
        let stop = drive(span, run, quiet, |event| {
            match event {
                Event::Ran(outcome) => order.push((outcome.protocol, outcome.seed)),
                Event::Repeated(difference) => {
                    repeated += 1;
                    differing.extend(difference);
                }
                Event::ChunkDone => {}
            }
            Ok(())
        });
        (order, repeated, differing, stop.expect("nothing fails"))
    }

    fn steady(protocol: usize, seed: u64) -> Result<Outcome, String> {
        Ok(outcome(protocol, seed, format!("{protocol} {seed}")))
    }

    #[test]
    fn results_come_in_the_order_of_seeds_whatever_the_number_of_threads() {
        let quiet = || Quiet(None, AtomicU64::new(0));
        let one = watch(&span(1, (0, 1), 200), &steady, &quiet());
        let many = watch(&span(7, (0, 1), 200), &steady, &quiet());
        assert_eq!(one, many);
        assert_eq!(one.0.len(), 400);
        assert!(
            one.0
                .is_sorted_by_key(|(protocol, seed)| (*seed, *protocol))
        );
    }

    #[test]
    fn the_parts_of_a_matrix_run_every_seed_once() {
        let quiet = || Quiet(None, AtomicU64::new(0));
        let mut all: Vec<_> = (0..3)
            .flat_map(|part| watch(&span(2, (part, 3), 100), &steady, &quiet()).0)
            .collect();
        all.sort_by_key(|(protocol, seed)| (*seed, *protocol));
        assert_eq!(all, watch(&span(2, (0, 1), 100), &steady, &quiet()).0);
    }

    #[test]
    fn at_least_five_in_a_hundred_runs_are_repeated_in_campaigns_and_in_parts() {
        let quiet = || Quiet(None, AtomicU64::new(0));
        for (part, parts) in [(0, 1), (1, 2), (5, 16), (0, 17), (31, 32), (7, 64)] {
            for seeds in [parts, 3 * parts, 40 * parts] {
                let (all, repeated, _, _) =
                    watch(&span(2, (part, parts), seeds), &steady, &quiet());
                let all = all.len() as u64;
                assert!(repeated * 20 >= all, "{part}/{parts}: {repeated} of {all}");
            }
        }
        let (_, repeated, _, _) = watch(
            &span(2, (0, 1), 160),
            &steady,
            &Quiet(None, AtomicU64::new(0)),
        );
        assert_eq!(repeated, 2 * 10, "ten of 160 seeds, under both protocols");
    }

    #[test]
    fn a_run_that_goes_another_way_the_second_time_is_reported_with_both_digests() {
        let calls = AtomicU64::new(0);
        let fickle = |protocol: usize, seed: u64| {
            let calls = calls.fetch_add(u64::from((protocol, seed) == (1, 116)), Ordering::SeqCst);
            let digest = if (protocol, seed) == (1, 116) {
                calls
            } else {
                7
            };
            Ok(outcome(protocol, seed, digest.to_string()))
        };
        let (_, _, differing, _) = watch(
            &span(2, (0, 1), 40),
            &fickle,
            &Quiet(None, AtomicU64::new(0)),
        );
        let wanted = Nondeterministic {
            protocol: "b".into(),
            seed: 116,
            first: "0".into(),
            again: "1".into(),
        };
        assert_eq!(differing, [wanted]);
    }

    #[test]
    fn when_the_time_is_up_pending_repetitions_are_still_made_and_after_an_interrupt_nothing_is() {
        let endless = Span {
            seeds: None,
            ..span(2, (0, 1), 0)
        };
        let enough = Quiet(Some((40, Stop::Enough)), AtomicU64::new(0));
        let (order, repeated, _, stop) = watch(&endless, &steady, &enough);
        assert_eq!(stop, Some(Stop::Enough));
        let wanted = order
            .iter()
            .filter(|(_, seed)| is_repeated(seed - 100))
            .count();
        assert_eq!(repeated, wanted as u64);
        let interrupted = Quiet(Some((40, Stop::Interrupted)), AtomicU64::new(0));
        let (order, _, _, stop) = watch(&endless, &steady, &interrupted);
        assert_eq!(stop, Some(Stop::Interrupted));
        assert!((38..=64).contains(&order.len()), "{}", order.len());
    }
}
