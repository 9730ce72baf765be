//! The search: candidates are tried in order, several at a time, and the first that still fails is taken.
//!
//! What it finds, and what it counts, follow from the case and the budget alone. Candidates are judged in
//! windows as wide as the thread pool, but taken and counted one by one in their order: a run that only a
//! wider window needed is cached and costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rayon::prelude::*;

use crate::base::digest::{Digest, StableHasher};
use crate::plan::Plan;
use crate::scenario::Scenario;

/// What shrinking edits: a plan, and the scenario whose layout it stands on.
#[derive(Clone, Debug)]
pub struct Case {
    /// Layout, and the options that it states.
    pub scenario: Arc<Scenario>,
    /// Everything else.
    pub plan: Plan,
}

impl Case {
    /// Identifies the case: everything that its run depends on goes in.
    pub fn digest(&self) -> Digest {
        let mut hasher = StableHasher::default();
        hasher.write(self.scenario.text.as_bytes());
        let plan = &self.plan;
        let parts = (plan.seed, &plan.environment, &plan.faults, &plan.operations);
        parts.hash(&mut hasher);
        plan.options.hash(&mut hasher);
        hasher.digest()
    }
}

/// How far a search has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being tried: `faults`, `transactions`, `machines`, ...
    pub stage: &'static str,
    /// Candidates judged so far.
    pub runs: usize,
    /// How many may be judged.
    pub budget: usize,
    /// Faults of the smallest case so far.
    pub faults: usize,
    /// Transactions of the smallest case so far.
    pub transactions: usize,
}

/// A change to a case; `None` where it changes nothing or makes no sense.
pub(super) type Edit = Box<dyn Fn(&Case) -> Option<Case> + Send + Sync>;

/// Whether a case still fails in the class. It must be a function of the case.
pub type Oracle<'a> = dyn Fn(&Case) -> bool + Sync + 'a;

pub(super) struct Search<'a> {
    fails: &'a Oracle<'a>,
    progress: &'a mut dyn FnMut(Progress),
    /// The smallest case so far.
    pub(super) case: Case,
    pub(super) stage: &'static str,
    judged: BTreeMap<Digest, bool>,
    counted: BTreeSet<Digest>,
    budget: usize,
    /// The budget did not suffice for a candidate.
    pub(super) exhausted: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        case: Case,
        fails: &'a Oracle<'a>,
        budget: usize,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        Self {
            fails,
            progress,
            case,
            stage: "start",
            judged: BTreeMap::new(),
            counted: BTreeSet::new(),
            budget,
            exhausted: false,
        }
    }

    /// Candidates judged so far, each counted once.
    pub(super) fn runs(&self) -> usize {
        self.counted.len()
    }

    /// What was found.
    pub(super) fn reduced(self) -> super::Reduced {
        super::Reduced {
            runs: self.counted.len(),
            locally_minimal: !self.exhausted,
            case: self.case,
        }
    }

    /// Tries the candidates `0..count` in order, and takes the first that fails. Returns its position.
    pub(super) fn first(
        &mut self,
        count: usize,
        candidate: &(dyn Fn(&Case, usize) -> Option<Case> + Sync),
    ) -> Option<usize> {
        let own = self.case.digest();
        let width = rayon::current_num_threads().max(1);
        for from in (0..count).step_by(width) {
            if self.exhausted {
                return None;
            }
            let window = self.window(from..count.min(from + width), own, candidate);
            for (position, digest, case) in window {
                if !self.counted.contains(&digest) {
                    if self.counted.len() >= self.budget {
                        self.exhausted = true;
                        return None;
                    }
                    self.counted.insert(digest);
                }
                if self.judged[&digest] {
                    self.case = case;
                    self.report();
                    return Some(position);
                }
            }
            self.report();
        }
        None
    }

    /// Judges some candidates side by side; those that are no change are left out.
    fn window(
        &mut self,
        positions: std::ops::Range<usize>,
        own: Digest,
        candidate: &(dyn Fn(&Case, usize) -> Option<Case> + Sync),
    ) -> Vec<(usize, Digest, Case)> {
        let (base, judged, fails) = (&self.case, &self.judged, self.fails);
        let judge = |position: usize| {
            let case = candidate(base, position)?;
            let digest = case.digest();
            if digest == own {
                return None;
            }
            let verdict = { judged.get(&digest).copied() }.unwrap_or_else(|| fails(&case));
            Some((position, digest, case, verdict))
        };
        let found: Vec<_> = positions.into_par_iter().filter_map(judge).collect();
        let keep = |(position, digest, case, verdict)| {
            self.judged.insert(digest, verdict);
            (position, digest, case)
        };
        found.into_iter().map(keep).collect()
    }

    fn report(&mut self) {
        (self.progress)(Progress {
            stage: self.stage,
            runs: self.counted.len(),
            budget: self.budget,
            faults: self.case.plan.faults.len(),
            transactions: self.case.plan.operations.len(),
        });
    }

    /// Delta debugging of a list of the case (Zeller and Hildebrandt, "Simplifying and Isolating
    /// Failure-Inducing Input", IEEE TSE 28(2), 2002, figure 4): keep a part, or remove a part, with ever
    /// smaller parts. Ends 1-minimal: removing any single element no longer fails.
    ///
    /// `keep` makes the case whose list has only the elements at these positions.
    pub(super) fn ddmin(
        &mut self,
        len: fn(&Case) -> usize,
        keep: &(dyn Fn(&Case, &[usize]) -> Case + Sync),
    ) {
        let without_all = |case: &Case, _| Some(keep(case, &[]));
        if len(&self.case) == 0 || self.first(1, &without_all).is_some() {
            return;
        }
        let mut parts = 2;
        while !self.exhausted {
            let n = len(&self.case);
            if n < 2 {
                return;
            }
            parts = parts.min(n);
            let bounds = move |part: usize| part * n / parts..(part + 1) * n / parts;
            let subset = |case: &Case, part: usize| {
                let kept: Vec<usize> = bounds(part).collect();
                Some(keep(case, &kept))
            };
            let complement = |case: &Case, part: usize| {
                let kept: Vec<usize> = (0..n).filter(|at| !bounds(part).contains(at)).collect();
                Some(keep(case, &kept))
            };
            if self.first(parts, &subset).is_some() {
                parts = 2;
            } else if parts > 2 && self.first(parts, &complement).is_some() {
                parts = (parts - 1).max(2);
            } else if parts < n {
                parts *= 2;
            } else {
                return;
            }
        }
    }

    /// Removes parts, large ones first, from runs with other seeds. One success is enough: other edits do better from there.
    pub(super) fn reseeded(
        &mut self,
        len: fn(&Case) -> usize,
        keep: &(dyn Fn(&Case, &[usize]) -> Case + Sync),
    ) {
        let n = len(&self.case);
        let mut parts = 2.min(n);
        while parts > 0 {
            let without = |case: &Case, at: usize| {
                let (part, other) = (at / SEEDS, 1 + (at % SEEDS) as u64);
                let gone = part * n / parts..(part + 1) * n / parts;
                let kept: Vec<usize> = (0..n).filter(|at| !gone.contains(at)).collect();
                let mut case = keep(case, &kept);
                case.plan.seed = case.plan.seed.wrapping_add(other);
                Some(case)
            };
            if self.first(parts * SEEDS, &without).is_some() || parts == n {
                return;
            }
            parts = (parts * 2).min(n);
        }
    }

    /// Removes two elements at once where removing one does not do: only for short lists.
    pub(super) fn pairs(
        &mut self,
        len: fn(&Case) -> usize,
        keep: &(dyn Fn(&Case, &[usize]) -> Case + Sync),
    ) {
        loop {
            let n = len(&self.case);
            if n > PAIRS_MAX || self.exhausted {
                return;
            }
            let all: Vec<(usize, usize)> = (0..n)
                .flat_map(|a| (a + 1..n).map(move |b| (a, b)))
                .collect();
            let without = |case: &Case, pair: usize| {
                let (a, b) = all[pair];
                let kept: Vec<usize> = (0..n).filter(|at| *at != a && *at != b).collect();
                Some(keep(case, &kept))
            };
            if self.first(all.len(), &without).is_none() {
                return;
            }
        }
    }

    /// Applies edits until none of those that the case offers still fails. After a success the list is made
    /// anew and gone through from there, then once more from its start.
    pub(super) fn edits(&mut self, offered: &dyn Fn(&Case) -> Vec<Edit>) {
        let mut from = 0;
        let mut changed = false;
        while !self.exhausted {
            let edits = offered(&self.case);
            let left = edits.len().saturating_sub(from);
            match self.first(left, &|case, at| edits[from + at](case)) {
                Some(at) => {
                    from += at;
                    changed = true;
                }
                None if changed => (from, changed) = (0, false),
                None => return,
            }
        }
    }
}

/// Other seeds that a removal is tried with.
const SEEDS: usize = 8;

/// The longest list whose pairs are tried: there are n (n - 1) / 2 of them.
const PAIRS_MAX: usize = 12;
