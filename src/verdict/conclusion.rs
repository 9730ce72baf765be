//! The word for a whole run, from its properties and from what was put to the test at all.

use serde::{Deserialize, Serialize};

use super::lives::Lives;
use super::{Counts, Evidence, Property, Released, Status};

/// The word for a whole run. The first that applies, in this order: a violation, unknown, vacuous, kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// A promise was broken.
    Violation,
    /// Something promised could not be decided.
    Unknown,
    /// Nothing promised was seen broken, in a run that could hardly have broken it: see [`Vacuity`].
    Vacuous,
    /// Every promise was kept, in a run that put them to the test.
    Kept,
}

impl Conclusion {
    /// Its name in scenarios and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Conclusion::Violation => "violation",
            Conclusion::Unknown => "unknown",
            Conclusion::Vacuous => "vacuous",
            Conclusion::Kept => "kept",
        }
    }
}

/// Why a run put nothing to the test.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vacuity {
    /// What never happened.
    pub kind: VacuityKind,
    /// In words, with the numbers of this run.
    pub reason: String,
}

/// What never happened in a run that put nothing to the test: the first of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VacuityKind {
    /// No client sent a request.
    NothingSent,
    /// No request reached the protocol.
    NothingReached,
    /// The protocol took charge of no transaction.
    NothingInitiated,
    /// No transaction committed.
    NothingCommitted,
    /// Progress is promised, and no request met the conditions under which it is.
    ProgressUntested,
    /// Every promise hangs on an assumption that the plan broke.
    OutsideAssumptions,
}

/// The word, and if it is `vacuous`, why.
pub(super) fn conclude(
    evidence: &Evidence<'_>,
    lives: &Lives,
    properties: &[Property],
    released: &Released,
) -> (Conclusion, Option<Vacuity>) {
    let any = |status| properties.iter().any(|property| property.status == status);
    if any(Status::Violation) {
        return (Conclusion::Violation, None);
    }
    if any(Status::Unknown) {
        return (Conclusion::Unknown, None);
    }
    match vacuity(evidence, lives, properties, released) {
        Some(vacuity) => (Conclusion::Vacuous, Some(vacuity)),
        None => (Conclusion::Kept, None),
    }
}

fn vacuity(
    evidence: &Evidence<'_>,
    lives: &Lives,
    properties: &[Property],
    released: &Released,
) -> Option<Vacuity> {
    let Counts {
        invoked,
        initiated,
        declined,
        aborted,
        indeterminate,
        ..
    } = lives.counts(evidence);
    let all_declined = invoked > 0 && declined == invoked;
    let (kind, reason) = if let [(promised, how), ..] = released
        && evidence.promises.is_nothing()
    {
        let reason = format!("nothing is owed: {promised}, and {how}");
        (VacuityKind::OutsideAssumptions, reason)
    } else if lives.committed() > 0 || all_declined {
        let mut promised = properties.iter().filter(|p| p.name == "progress");
        let untested = promised.find(|p| p.is_promised() && p.status == Status::Vacuous)?;
        let reason = format!("progress was not put to the test: {}", untested.observed);
        (VacuityKind::ProgressUntested, reason)
    } else if invoked == 0 {
        let reason = "no client sent a request".to_owned();
        (VacuityKind::NothingSent, reason)
    } else if evidence.requests_delivered == 0 {
        let reason = format!("0 of {invoked} requests reached {}", evidence.entry);
        (VacuityKind::NothingReached, reason)
    } else if initiated == 0 {
        let reason = format!(
            "requests reached {}, which took charge of 0 of {invoked} transactions",
            evidence.entry
        );
        (VacuityKind::NothingInitiated, reason)
    } else {
        let reason = format!(
            "0 of {invoked} transactions committed: {declined} declined by their own guard, {aborted} aborted, \
             {indeterminate} unknown to their client"
        );
        (VacuityKind::NothingCommitted, reason)
    };
    Some(Vacuity { kind, reason })
}
