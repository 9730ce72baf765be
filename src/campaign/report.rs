//! What a campaign found: plain data that is printed, written, read back and merged.
//!
//! Nothing in it but [`Report::runs_per_second`] depends on the number of threads, the machine or the time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::stable_hash;
use crate::base::options::Chosen;
use crate::campaign::partition;
use crate::run::failure::{Class, Size};
use crate::verdict::{Conclusion, Counts, Vacuity, VacuityKind};

/// Percentage of a protocol's runs above which those that put nothing to the test make the whole campaign vacuous.
/// Runs with permanent faults are not counted: where a quorum is gone for ever, little can be promised.
pub const VACUOUS_PERCENT_MAX: u64 = 1;

/// A campaign, or a part of one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The version of ordain that ran it.
    pub ordain: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario as it was asked for: a file, or the name of one that comes with the program.
    pub asked_for: String,
    /// Overrides of its keys, as `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// The scenario as it was run, overrides included, as a digest: parts of different ones do not merge.
    pub scenario_digest: String,
    /// The first seed of the whole campaign.
    pub first_seed: u64,
    /// Which parts of the seeds this is: `i/n` is every n-th, from the i-th on; `0/1` is all of them.
    pub parts: Vec<String>,
    /// Parts of the campaign that were not merged into this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Runs, repetitions and regressions not counted.
    pub runs: u64,
    /// Runs a second of wall-clock time; of merged parts, the sum.
    pub runs_per_second: f64,
    /// How many runs were repeated later in the same process.
    pub repeated: u64,
    /// Runs whose repetition gave another digest: a bug of ordain.
    pub nondeterministic: Vec<Nondeterministic>,
    /// A digest of all runs' digests: equal campaigns have equal ones, whatever the order of their runs.
    pub digest: String,
    /// One line a protocol, in the order asked for.
    pub protocols: Vec<Line>,
    /// One for each protocol and class, the smallest run of each.
    pub failures: Vec<Failure>,
    /// Runs in which something promised could not be decided.
    pub undecided: Vec<Undecided>,
    /// Runs that put nothing to the test and were not expected to: one for each protocol and kind.
    pub vacuous: Vec<VacuousRuns>,
    /// Committed plans that were run first.
    pub regressions: Vec<Regression>,
    /// Committed plans that were not run.
    pub left_out: Vec<LeftOut>,
}

/// A protocol's line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The protocol.
    pub protocol: String,
    /// Runs.
    pub runs: u64,
    /// Of these, those with permanent faults.
    pub permanent: u64,
    /// Every promise was kept.
    pub kept: u64,
    /// A promise was broken.
    pub violations: u64,
    /// Something could not be decided.
    pub unknown: u64,
    /// Nothing was put to the test.
    pub vacuous: u64,
    /// What the scenario expects of the protocol instead of kept promises: such runs are counted, and nothing more.
    pub expects: Option<Conclusion>,
    /// Whether the protocol promises nothing.
    pub promises_nothing: bool,
    /// Transactions of all runs.
    pub counts: Tally,
    /// The protocol's declared rare branches, reached or not.
    pub marks: BTreeMap<String, Reached>,
    /// Values of options that were drawn, as a scenario states them.
    pub tried: BTreeMap<String, Tried>,
}

/// A value of an option that some runs drew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tried {
    /// How many runs.
    pub runs: u64,
    /// Transactions that committed in them.
    pub committed: u64,
}

/// So many runs without a single commit say that an option's value keeps everything from committing.
const RUNS_WITHOUT_COMMITS: u64 = 20;

/// Transactions of all runs, by how they ended for their clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Sent.
    pub invoked: u64,
    /// Committed.
    pub committed: u64,
    /// Declined by their own guard.
    pub declined: u64,
    /// Aborted by the system.
    pub aborted: u64,
    /// Never learned.
    pub indeterminate: u64,
}

/// How often a rare branch was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reached {
    /// In how many runs.
    pub runs: u64,
    /// How many times.
    pub times: u64,
}

/// The runs of a protocol that failed in one class.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The protocol.
    pub protocol: String,
    /// Property and shape.
    pub class: Class,
    /// Seed of the smallest of them.
    pub seed: u64,
    /// Its size.
    pub size: Size,
    /// What it showed: the counterexample, in words.
    pub shown: String,
    /// Its folder, if it was written.
    pub dir: Option<String>,
    /// All of their seeds, ascending.
    pub seeds: Vec<u64>,
}

/// A run that could not be decided.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Undecided {
    /// The protocol.
    pub protocol: String,
    /// The seed.
    pub seed: u64,
}

/// The runs of a protocol that put nothing to the test, by what never happened in them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VacuousRuns {
    /// The protocol.
    pub protocol: String,
    /// Whether these are the runs with permanent faults, or those without.
    pub permanent: bool,
    /// What never happened.
    pub kind: VacuityKind,
    /// The smallest of their seeds.
    pub seed: u64,
    /// Why its run is vacuous, in words.
    pub reason: String,
    /// All of their seeds, ascending.
    pub seeds: Vec<u64>,
}

/// A run that went another way when it was repeated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Nondeterministic {
    /// The protocol.
    pub protocol: String,
    /// The seed.
    pub seed: u64,
    /// Digest of the first run.
    pub first: String,
    /// Digest of the repetition.
    pub again: String,
}

/// A committed plan that was run again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Regression {
    /// Where it is.
    pub path: String,
    /// The protocol.
    pub protocol: String,
    /// Whether something promised could not be decided.
    pub undecided: bool,
    /// Why it put nothing to the test, if it did not. It once failed, so it can: that is shown, and fails no campaign.
    pub vacuity: Option<Vacuity>,
    /// The class in which it fails (again), if it does.
    pub class: Option<Class>,
}

impl Regression {
    /// The command that repeats it.
    pub fn again(&self) -> String {
        match self.path.ends_with(".json") {
            true => format!("ordain run --plan {}", self.path),
            false => format!("ordain replay {}", self.path),
        }
    }
}

/// A committed plan that was not run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where it is.
    pub path: String,
    /// Why: its scenario, or the planted bug that it needs.
    pub why: String,
}

/// What a campaign keeps of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// Position of the protocol among those of the campaign.
    pub protocol: usize,
    /// The seed.
    pub seed: u64,
    /// Digest of the trace.
    pub digest: String,
    /// The verdict.
    pub verdict: Conclusion,
    /// Why it is vacuous, if it is.
    pub vacuity: Option<Vacuity>,
    /// Whether its plan has permanent faults.
    pub permanent: bool,
    /// Whether the protocol promises nothing.
    pub promises_nothing: bool,
    /// The class, if a promise was broken, with the counterexample.
    pub failed: Option<(Class, String)>,
    /// Its size.
    pub size: Size,
    /// Its transactions.
    pub counts: Counts,
    /// Rare branches reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// Options that were drawn.
    pub options: Chosen,
}

impl Report {
    /// Adds a run. Says where in `failures` it now represents its class, if it does.
    pub fn add(&mut self, outcome: &Outcome) -> Option<usize> {
        self.runs += 1;
        let line = &mut self.protocols[outcome.protocol];
        let identity = (&line.protocol, outcome.seed, &outcome.digest);
        self.digest = combine(&self.digest, stable_hash(&identity));
        line.runs += 1;
        line.permanent += u64::from(outcome.permanent);
        line.promises_nothing = outcome.promises_nothing;
        line.counts.add(&outcome.counts);
        for (name, times) in &outcome.marks {
            let reached = line.marks.entry((*name).to_owned()).or_default();
            reached.runs += 1;
            reached.times += times;
        }
        for (name, value) in &outcome.options {
            let tried = line.tried.entry(format!("{name} = {value}")).or_default();
            tried.runs += 1;
            tried.committed += outcome.counts.committed;
        }
        *match outcome.verdict {
            Conclusion::Kept => &mut line.kept,
            Conclusion::Violation => &mut line.violations,
            Conclusion::Unknown => &mut line.unknown,
            Conclusion::Vacuous => &mut line.vacuous,
        } += 1;
        let (protocol, seed) = (line.protocol.clone(), outcome.seed);
        if line.expects == Some(outcome.verdict) {
            return None;
        }
        if outcome.verdict == Conclusion::Unknown {
            let protocol = protocol.clone();
            self.undecided.push(Undecided { protocol, seed });
        }
        if let Some(Vacuity { kind, reason }) = outcome.vacuity.clone() {
            self.add_vacuous(VacuousRuns {
                protocol: protocol.clone(),
                permanent: outcome.permanent,
                kind,
                seed,
                reason,
                seeds: vec![seed],
            });
        }
        let (class, shown) = outcome.failed.as_ref()?;
        let failure = Failure {
            protocol,
            class: class.clone(),
            seed,
            size: outcome.size,
            shown: shown.clone(),
            dir: None,
            seeds: vec![seed],
        };
        self.add_failure(failure)
    }

    /// Adds vacuous runs to those of their protocol and kind.
    fn add_vacuous(&mut self, new: VacuousRuns) {
        let key = |runs: &VacuousRuns| (runs.protocol.clone(), runs.permanent, runs.kind);
        let Some(known) = { self.vacuous.iter_mut() }.find(|known| key(known) == key(&new)) else {
            return self.vacuous.push(new);
        };
        known.seeds.extend(&new.seeds);
        known.seeds.sort_unstable();
        if new.seed < known.seed {
            (known.seed, known.reason) = (new.seed, new.reason);
        }
    }

    /// Adds failing runs to those of their class. Says where, if they bring a smaller representative.
    fn add_failure(&mut self, new: Failure) -> Option<usize> {
        let known = { self.failures.iter() }
            .position(|known| known.protocol == new.protocol && known.class == new.class);
        let Some(at) = known else {
            self.failures.push(new);
            return Some(self.failures.len() - 1);
        };
        let known = &mut self.failures[at];
        known.seeds.extend(&new.seeds);
        known.seeds.sort_unstable();
        let smaller = (new.size, new.seed) < (known.size, known.seed);
        if smaller {
            // The larger run's folder stays known until whoever writes the new one has taken it away.
            let (seeds, before) = (std::mem::take(&mut known.seeds), known.dir.take());
            let dir = new.dir.clone().or(before);
            *known = Failure { seeds, dir, ..new };
        }
        smaller.then_some(at)
    }

    /// Puts lists into an order of their own. To be called when all is added.
    pub fn sort(&mut self) {
        let position = |protocol: &str| {
            let mut lines = self.protocols.iter();
            lines.position(|line| line.protocol == protocol)
        };
        self.failures.sort_by(|a, b| {
            (position(&a.protocol), &a.class).cmp(&(position(&b.protocol), &b.class))
        });
        self.vacuous.sort_by(|a, b| {
            let key = |runs: &VacuousRuns| (position(&runs.protocol), runs.permanent, runs.kind);
            key(a).cmp(&key(b))
        });
        self.undecided.sort_unstable();
        self.nondeterministic.sort_unstable();
    }

    /// Whether a promise was broken, by a run or by a regression.
    pub fn has_failed(&self) -> bool {
        let regressed = self.regressions.iter().any(|one| one.class.is_some());
        !self.failures.is_empty() || regressed
    }

    /// Whether a run or a regression could not be decided, or an option's value was never seen at work.
    pub fn is_undecided(&self) -> bool {
        let idle = |line: &Line| Report::idle(line).next().is_some();
        !self.undecided.is_empty()
            || self.regressions.iter().any(|one| one.undecided)
            || self.protocols.iter().any(idle)
    }

    /// Values of a protocol's options with which nothing ever committed, in runs enough to say so: what the campaign
    /// says of them it says of runs in which nothing happened.
    pub fn idle(line: &Line) -> impl Iterator<Item = (&str, &Tried)> {
        let idle = |tried: &Tried| tried.committed == 0 && tried.runs >= RUNS_WITHOUT_COMMITS;
        let tried = line.tried.iter().filter(move |(_, tried)| idle(tried));
        tried.map(|(value, tried)| (value.as_str(), tried))
    }

    /// Whether some protocol's runs put too little to the test.
    pub fn is_vacuous(&self) -> bool {
        self.protocols.iter().any(|line| self.is_untested(line))
    }

    /// Whether a protocol's runs put too little to the test: all of them were vacuous, or more than
    /// [`VACUOUS_PERCENT_MAX`] of those without permanent faults and within the assumptions of its promises. What the scenario
    /// expects is not held against it, and a protocol that promises nothing has no promise that a vacuous run leaves untested.
    pub fn is_untested(&self, line: &Line) -> bool {
        let nothing = line.vacuous == line.runs && line.expects.is_none();
        let of_line = self.vacuous.iter();
        let of_line = of_line.filter(|runs| runs.protocol == line.protocol && !runs.permanent);
        let (outside, idle): (Vec<_>, Vec<_>) =
            of_line.partition(|runs| runs.kind == VacuityKind::OutsideAssumptions);
        let count =
            |runs: Vec<&VacuousRuns>| runs.iter().map(|runs| runs.seeds.len() as u64).sum::<u64>();
        let tested = line.runs.saturating_sub(line.permanent + count(outside));
        let too_many = count(idle) * 100 > VACUOUS_PERCENT_MAX * tested;
        nothing || too_many && !line.promises_nothing
    }

    /// The declared rare branches of a protocol that no run reached.
    pub fn never(line: &Line) -> impl Iterator<Item = &str> {
        let never = line.marks.iter().filter(|(_, reached)| reached.runs == 0);
        never.map(|(name, _)| name.as_str())
    }
}

impl Tally {
    fn add(&mut self, counts: &Counts) {
        self.invoked += counts.invoked;
        self.committed += counts.committed;
        self.declined += counts.declined;
        self.aborted += counts.aborted;
        self.indeterminate += counts.indeterminate;
    }

    fn plus(&mut self, other: &Tally) {
        self.invoked += other.invoked;
        self.committed += other.committed;
        self.declined += other.declined;
        self.aborted += other.aborted;
        self.indeterminate += other.indeterminate;
    }
}

/// A sum of hashes, which knows no order.
fn combine(digest: &str, hash: u64) -> String {
    let sum = u64::from_str_radix(digest, 16).unwrap_or(0);
    format!("{:016x}", sum.wrapping_add(hash))
}

/// Why parts do not make a whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unmergeable {
    /// There is none.
    #[error("there is nothing to merge")]
    Nothing,
    /// One differs from the first in something that must be the same.
    #[error("{file}: it differs from {first} in {what}: they are not parts of one campaign")]
    Different {
        /// Where the part was read.
        file: String,
        /// Where the first was read.
        first: String,
        /// In what they differ.
        what: &'static str,
    },
    /// Two of them ran the same seeds.
    #[error("{file}: part {part} is there twice")]
    Twice {
        /// Where the second was read.
        file: String,
        /// Which part.
        part: String,
    },
}

/// Puts the parts of a campaign together, each with the name of its file, in whatever order they come: the result
/// is that of one campaign over all of their seeds, except for how many runs were repeated.
///
/// # Errors
///
/// When they are not parts of one campaign, or overlap.
pub fn merge(parts: &[(String, Report)]) -> Result<Report, Unmergeable> {
    let ((first, report), others) = parts.split_first().ok_or(Unmergeable::Nothing)?;
    let mut whole = report.clone();
    for (file, part) in others {
        let same = [
            ("the version of ordain", whole.ordain == part.ordain),
            (
                "the scenario",
                whole.scenario_digest == part.scenario_digest,
            ),
            ("the first seed", whole.first_seed == part.first_seed),
            ("the protocols", names(&whole).eq(names(part))),
            (
                "the number of parts",
                counts(part).all(|n| n.is_some() && counts(&whole).all(|other| other == n)),
            ),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            let (file, first) = (file.clone(), first.clone());
            return Err(Unmergeable::Different { file, first, what });
        }
        if let Some(twice) = part.parts.iter().find(|name| whole.parts.contains(name)) {
            let (file, part) = (file.clone(), twice.clone());
            return Err(Unmergeable::Twice { file, part });
        }
        add_part(&mut whole, part);
    }
    whole.missing = missing(&whole);
    whole.parts = normalized(std::mem::take(&mut whole.parts));
    whole.sort();
    Ok(whole)
}

/// The N of each `I/N`; `None` of what is no part's name.
fn counts(report: &Report) -> impl Iterator<Item = Option<u64>> {
    let parts = report.parts.iter();
    parts.map(|name| partition::stated(name).map(|(_, parts)| parts))
}

fn names(report: &Report) -> impl Iterator<Item = &String> {
    report.protocols.iter().map(|line| &line.protocol)
}

fn add_part(whole: &mut Report, part: &Report) {
    whole.parts.extend(part.parts.iter().cloned());
    whole.interrupted |= part.interrupted;
    whole.runs += part.runs;
    whole.runs_per_second += part.runs_per_second;
    whole.repeated += part.repeated;
    let other = u64::from_str_radix(&part.digest, 16).unwrap_or(0);
    whole.digest = combine(&whole.digest, other);
    for (line, other) in whole.protocols.iter_mut().zip(&part.protocols) {
        line.runs += other.runs;
        line.permanent += other.permanent;
        line.kept += other.kept;
        line.violations += other.violations;
        line.unknown += other.unknown;
        line.vacuous += other.vacuous;
        line.counts.plus(&other.counts);
        for (name, reached) in &other.marks {
            let sum = line.marks.entry(name.clone()).or_default();
            sum.runs += reached.runs;
            sum.times += reached.times;
        }
        for (value, tried) in &other.tried {
            let sum = line.tried.entry(value.clone()).or_default();
            sum.runs += tried.runs;
            sum.committed += tried.committed;
        }
    }
    for failure in &part.failures {
        whole.add_failure(failure.clone());
    }
    for runs in &part.vacuous {
        whole.add_vacuous(runs.clone());
    }
    whole.undecided.extend(part.undecided.iter().cloned());
    let nondeterministic = part.nondeterministic.iter().cloned();
    whole.nondeterministic.extend(nondeterministic);
    whole.regressions.extend(part.regressions.iter().cloned());
    whole.left_out.extend(part.left_out.iter().cloned());
}

/// The parts of the campaign that are not there.
fn missing(report: &Report) -> Vec<String> {
    let parts = counts(report).flatten().max().unwrap_or(1);
    let all = (0..parts).map(|part| format!("{part}/{parts}"));
    all.filter(|name| !report.parts.contains(name)).collect()
}

/// `0/1`, if these are all n of n parts; else their names in order.
fn normalized(mut parts: Vec<String>) -> Vec<String> {
    parts.sort();
    let count = parts.len();
    let all = (0..count).all(|at| parts.contains(&format!("{at}/{count}")));
    match all {
        true => vec!["0/1".to_owned()],
        false => parts,
    }
}
