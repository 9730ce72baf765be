//! Refinement: the steps of the code, held against a spec while the run went on.

use super::{Evidence, Finding, Property, property};
use crate::model::refine::Tally;

/// Every step of the code against the steps of a spec: the property's name, how the run fared, and how much of it was
/// looked at.
pub(super) fn judge(
    evidence: &Evidence<'_>,
    (name, fared, share): (&'static str, Result<&Tally, &'static str>, &str),
) -> Property {
    let mut broken = { evidence.monitored.iter() }.filter(|violation| violation.property == name);
    let counterexample = broken.next().map(|violation| violation.explanation.clone());
    let (promised, outcome, observed, exercised) = match fared {
        Err(why) => (None, Finding::Vacuous, format!("not checked: {why}"), 0),
        Ok(tally) => {
            let promised = format!("every step is a stutter or steps of the TLA+ spec {share}");
            let (outcome, observed) = match counterexample.is_some() {
                false => (Finding::Held, tally.describe()),
                true => {
                    let count = broken.count() + 1;
                    (Finding::Broken, format!("{count} instances left the spec"))
                }
            };
            (Some(promised), outcome, observed, tally.moves)
        }
    };
    property(
        name,
        promised.as_deref(),
        outcome,
        observed,
        exercised,
        counterexample,
    )
}
