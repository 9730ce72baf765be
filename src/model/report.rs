//! What `ordain model` shows: every model with its sizes, and every property with its verdict.
//!
//! A model here is a spec with constants and fairness, one `.cfg` below `specs/`, or a small world of the protocol code
//! ([`hosted`]). Some are *meant* to violate a property
//! (a blocking coordinator, a deliberately broken variant), so that a verdict is compared with the manifest, in which
//! TLC's verdicts stand: [`ModelReport::as_recorded`] is what decides the exit code, not whether everything holds.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::refine::Tally;
use super::spec::{self, CheckError, Instance, Outcome};
use crate::model::checker::leads_to::Kind;
use crate::model::worlds::{SmallWorld, replicas};

/// A model of more distinct states than this is refused: about a gigabyte.
pub const STATES_MAX: u32 = 8_000_000;

/// The result of checking one model.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ModelReport {
    /// `FOLDER/NAME`, as `specs/check` and `ordain model` take it.
    pub name: String,
    /// One sentence on what the model shows.
    pub about: String,
    /// A deliberately broken variant, which has to violate a property.
    pub broken: bool,
    /// Distinct states.
    pub distinct: u64,
    /// States generated, duplicates included.
    pub generated: u64,
    /// Levels of the breadth-first search.
    pub depth: u32,
    /// Wall-clock time of exploring and deciding, in milliseconds.
    pub time_ms: f64,
    /// Whether sizes and verdicts are those that TLC found.
    pub as_recorded: bool,
    /// One for each property of the `.cfg`, in its order.
    pub properties: Vec<PropertyReport>,
    /// For a world of the protocol code, the edges of its graph against the protocol's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edges: Option<Tally>,
}

/// The verdict on one property.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PropertyReport {
    /// The spec's name for it.
    pub name: String,
    /// Its shape.
    pub kind: Kind,
    /// The fairness constraints that it assumed (`WF A`, `SF A(p)`); empty for safety.
    pub fairness: Vec<String>,
    /// The verdict.
    pub holds: bool,
    /// The verdict in the manifest.
    pub expected: bool,
    /// How often it had a chance to fail; a liveness property with 0 holds vacuously.
    pub exercised: u64,
    /// The counterexample as named steps: `(cycle)` stands before those that repeat for ever, `(stutter)` where nothing
    /// happens any more. Empty where the property holds.
    pub counterexample: Vec<String>,
    /// The counterexample with its states, one step a line, for people; not in the JSON.
    #[serde(skip)]
    pub counterexample_text: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No model has this name, nor a folder.
    #[error("no model is called {name:?}; there are:\n  {}", known.join("\n  "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// More than one model fits where one is needed.
    #[error("{name:?} names several models; choose one of:\n  {}", known.join("\n  "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What fits.
        known: Vec<String>,
    },
    /// A model could not be checked.
    #[error("{name}: {source}")]
    Check {
        /// The model.
        name: String,
        /// Why.
        source: CheckError,
    },
}

#[derive(Deserialize)]
struct Manifest {
    models: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    broken: bool,
    distinct: u64,
    generated: u64,
    depth: u32,
    properties: Vec<RecordedProperty>,
}

#[derive(Deserialize)]
struct RecordedProperty {
    name: String,
    holds: bool,
}

/// A model and what is recorded of it.
pub enum Listed {
    /// A spec with its constants.
    Spec(Box<Recollected>),
    /// A world of the protocol code.
    Code(Box<SmallWorld>),
}

/// A spec's model with its entry in the manifest.
pub struct Recollected {
    instance: Instance,
    recorded: Recorded,
}

/// The folder under which the worlds of the protocol code are listed.
const CODE: &str = "code";

impl Listed {
    /// `FOLDER/NAME`.
    pub fn name(&self) -> String {
        let (folder, name) = self.parts();
        format!("{folder}/{name}")
    }

    fn parts(&self) -> (&str, &str) {
        match self {
            Listed::Spec(spec) => (spec.instance.folder, spec.instance.name),
            Listed::Code(world) => (CODE, &world.name),
        }
    }

    /// One sentence on what the model shows.
    pub fn about(&self) -> &str {
        match self {
            Listed::Spec(spec) => &spec.recorded.about,
            Listed::Code(world) => world.about,
        }
    }

    /// Whether a filter means this model: its folder, its name, or both with a slash.
    fn is_meant_by(&self, filter: &str) -> bool {
        let (folder, name) = self.parts();
        [folder, name, &self.name()].contains(&filter)
    }

    /// Explores the model and decides its properties.
    ///
    /// # Errors
    ///
    /// [`ReportError::Check`].
    pub fn check(&self) -> Result<ModelReport, ReportError> {
        let failed = |source| ReportError::Check {
            name: self.name(),
            source,
        };
        let (outcome, edges) = match self {
            Listed::Spec(spec) => (spec.instance.check(STATES_MAX).map_err(failed)?, None),
            Listed::Code(world) => {
                let examined = world.check(STATES_MAX).map_err(failed)?;
                (examined.outcome, examined.edges)
            }
        };
        Ok(self.report(outcome, edges))
    }

    fn report(&self, outcome: Outcome, edges: Option<Tally>) -> ModelReport {
        let properties: Vec<_> = outcome
            .properties
            .into_iter()
            .map(|property| PropertyReport {
                expected: self.expected(&property.name),
                name: property.name,
                kind: property.kind,
                fairness: property.fairness,
                holds: property.holds,
                exercised: property.exercised,
                counterexample: property.steps,
                counterexample_text: property.counterexample,
            })
            .collect();
        let counts = outcome.counts;
        let (broken, sizes_agree) = match self {
            Listed::Spec(spec) => {
                let recorded = &spec.recorded;
                let sizes = (counts.distinct, counts.generated, counts.depth);
                let agree = sizes == (recorded.distinct, recorded.generated, recorded.depth);
                (recorded.broken, agree)
            }
            // Nobody else has counted these. A world in which nothing happened shows nothing.
            Listed::Code(_) => (false, is_put_to_the_test(edges.as_ref(), &properties)),
        };
        ModelReport {
            name: self.name(),
            about: self.about().to_owned(),
            broken,
            distinct: counts.distinct,
            generated: counts.generated,
            depth: counts.depth,
            time_ms: outcome.elapsed.as_secs_f64() * 1e3,
            as_recorded: sizes_agree
                && properties
                    .iter()
                    .all(|property| property.holds == property.expected),
            properties,
            edges,
        }
    }

    fn expected(&self, property: &str) -> bool {
        let spec = match self {
            Listed::Spec(spec) => spec,
            Listed::Code(world) => return world.expects(property),
        };
        let mut recorded = spec.recorded.properties.iter();
        recorded
            .find(|recorded| recorded.name == property)
            .unwrap_or_else(|| panic!("{}: the manifest lacks {property}", self.name()))
            .holds
    }
}

/// Whether every property that is to hold had a chance to fail, and the spec, if there is one, was held against steps of the code.
fn is_put_to_the_test(edges: Option<&Tally>, properties: &[PropertyReport]) -> bool {
    let compared = |edges: &Tally| edges.moves > 0 && edges.stutters > 0;
    let had_a_chance = |property: &PropertyReport| property.exercised > 0 || !property.expected;
    edges.is_none_or(compared) && properties.iter().all(had_a_chance)
}

/// Every model, in the order of the manifests, then the worlds of the protocols' code and those of the replicated log.
///
/// # Panics
///
/// If a manifest that was compiled in does not list exactly the models beside it; a test reads them all.
pub fn list(worlds: Vec<SmallWorld>) -> Vec<Listed> {
    let mut recorded: Vec<(&str, Recorded)> = Vec::new();
    for &(folder, text) in spec::MANIFESTS {
        let manifest: Manifest =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{folder}: {error}"));
        recorded.extend(manifest.models.into_iter().map(|model| (folder, model)));
    }
    let mut take = |instance: &Instance| {
        let is_it = |(folder, model): &(&str, Recorded)| {
            *folder == instance.folder && model.name == instance.name
        };
        let at = recorded.iter().position(is_it);
        let at =
            at.unwrap_or_else(|| panic!("{}/{} is in no manifest", instance.folder, instance.name));
        recorded.remove(at).1
    };
    let specs = spec::instances().into_iter().map(|instance| {
        let recorded = take(&instance);
        Listed::Spec(Box::new(Recollected { instance, recorded }))
    });
    specs
        .chain(
            worlds
                .into_iter()
                .chain(replicas::worlds())
                .map(|world| Listed::Code(Box::new(world))),
        )
        .collect()
}

/// The models that a filter means (a folder, a name, `FOLDER/NAME`), or all of them.
///
/// # Errors
///
/// [`ReportError::Unknown`] if there is none.
pub fn select(worlds: Vec<SmallWorld>, filter: Option<&str>) -> Result<Vec<Listed>, ReportError> {
    let all = list(worlds);
    let Some(filter) = filter else { return Ok(all) };
    let known = all.iter().map(Listed::name).collect();
    let meant: Vec<Listed> = all
        .into_iter()
        .filter(|listed| listed.is_meant_by(filter))
        .collect();
    if meant.is_empty() {
        return Err(ReportError::Unknown {
            name: filter.to_owned(),
            known,
        });
    }
    Ok(meant)
}

/// Checks all models that a filter means, one after the other.
///
/// # Errors
///
/// See [`ReportError`].
pub fn check_all(
    worlds: Vec<SmallWorld>,
    filter: Option<&str>,
) -> Result<Vec<ModelReport>, ReportError> {
    select(worlds, filter)?.iter().map(Listed::check).collect()
}

/// Serves an Explorer at an address until the process ends, or says why there is none.
pub type Serving = Box<dyn FnOnce(SocketAddr) -> Result<(), &'static str>>;

/// What serves stateright's Explorer of one model at an address, until the process ends.
///
/// # Errors
///
/// [`ReportError::Unknown`] and [`ReportError::Ambiguous`] if the name does not mean exactly one model.
pub fn explorer(worlds: Vec<SmallWorld>, name: &str) -> Result<Serving, ReportError> {
    let mut meant = select(worlds, Some(name))?;
    if meant.len() > 1 {
        let known = meant.iter().map(Listed::name).collect();
        return Err(ReportError::Ambiguous {
            name: name.to_owned(),
            known,
        });
    }
    let listed = meant.remove(0);
    let name = listed.name();
    match listed {
        Listed::Spec(spec) => {
            let serve = spec.instance.explorer();
            let serve = serve.map_err(|source| ReportError::Check { name, source })?;
            Ok(Box::new(move |address| {
                serve(address);
                Ok(())
            }))
        }
        Listed::Code(world) => Ok(Box::new(move |address| world.serve(address))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_a_name_and_both_select_models() {
        let count = |filter| select(Vec::new(), Some(filter)).map_or(0, |models| models.len());
        assert_eq!(count("two_phase/MCTwoPhaseBlocking"), 1);
        assert_eq!(count("MCTwoPhaseBlocking"), 1);
        assert!(count("two_phase") > 1);
        let worlds = replicas::worlds().len();
        assert_eq!(count("code"), worlds);
        assert_eq!(
            select(Vec::new(), None).unwrap().len(),
            spec::instances().len() + worlds
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_what_there_is() {
        let error = check_all(Vec::new(), Some("tow_phase")).unwrap_err();
        assert!(
            error.to_string().contains("two_phase/MCTwoPhaseSmall"),
            "{error}"
        );
        let several = explorer(Vec::new(), "two_phase").err().expect("several");
        assert!(
            matches!(several, ReportError::Ambiguous { .. }),
            "{several}"
        );
    }

    #[test]
    fn a_world_in_which_nothing_was_put_to_the_test_is_not_as_recorded() {
        let property = |exercised, expected| PropertyReport {
            name: "ends".to_owned(),
            kind: Kind::LeadsTo,
            fairness: Vec::new(),
            holds: expected,
            expected,
            exercised,
            counterexample: Vec::new(),
            counterexample_text: String::new(),
        };
        let tally = |moves, stutters| Tally {
            moves,
            stutters,
            ..Tally::default()
        };
        assert!(is_put_to_the_test(None, &[property(1, true)]));
        assert!(is_put_to_the_test(
            Some(&tally(1, 1)),
            &[property(0, false)]
        ));
        assert!(!is_put_to_the_test(None, &[property(0, true)]));
        assert!(!is_put_to_the_test(Some(&tally(0, 5)), &[]));
        assert!(!is_put_to_the_test(Some(&tally(5, 0)), &[]));
    }

    #[test]
    fn a_blocking_coordinator_is_reported_as_a_lasso_and_as_recorded() {
        let reports = check_all(Vec::new(), Some("MCTwoPhaseBlocking")).unwrap();
        assert!(reports[0].as_recorded);
        let property = |name: &str| {
            reports[0]
                .properties
                .iter()
                .find(|p| p.name == name)
                .unwrap()
        };
        let ends = property("Termination");
        assert!(!ends.holds && !ends.expected && ends.exercised > 0 && !ends.fairness.is_empty());
        assert!(
            ends.counterexample.contains(&"CrashCoordinator".to_owned()),
            "{:?}",
            ends.counterexample
        );
        let lasso = |step: &String| step == "(cycle)" || step == "(stutter)";
        assert!(
            ends.counterexample.iter().any(lasso),
            "{:?}",
            ends.counterexample
        );
        assert!(property("Atomicity").holds);
    }
}
