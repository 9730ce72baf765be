//! Failure classes: which promise a run broke, and in what shape.
//!
//! A class is what groups failing runs, what shrinking keeps while it edits the plan, and what a committed
//! regression expects. It holds the property's name and the *shape* of its counterexample (the kind of the
//! anomaly, the log property, the panic's message), and nothing that differs from seed to seed: no times, no
//! transaction numbers, no counts.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::Plan;
use crate::run::Run;
use crate::verdict::{Finding, Property, Status};

/// A class of failures. Written as `property/shape`: `isolation/G-single-item`, `atomicity/partial-commit`,
/// `log-safety/election-safety`, `no-panics/no row N at src/shard/store.rs`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class {
    /// The property's name, as [`Property::name`] has it.
    pub property: String,
    /// The shape of the counterexample, as [`Property::shape`] has it.
    pub shape: String,
}

impl Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.property, self.shape))
    }
}

/// A text that names no class.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` names no class of failures: write PROPERTY/SHAPE, as in atomicity/partial-commit")]
pub struct NoClass(String);

impl FromStr for Class {
    type Err = NoClass;

    fn from_str(text: &str) -> Result<Self, NoClass> {
        match text.split_once('/') {
            Some((property, shape)) if !property.is_empty() && !shape.is_empty() => Ok(Class {
                property: property.to_owned(),
                shape: shape.to_owned(),
            }),
            _ => Err(NoClass(text.to_owned())),
        }
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The properties from the most telling to the least: causes before consequences. A panic, a diverging log or a step
/// that the spec does not allow explains copies that differ. Those explain lost or doubled writes, and these explain
/// what clients saw. A run that broke anything else may also stall, so `progress` says least. A property that is not
/// named here comes last.
pub const PRIORITY: [&str; 16] = [
    "no-panics",
    "log-safety",
    "log-refinement",
    "refinement",
    "replicas-agree",
    "applied-once",
    "compensation-order",
    "atomicity",
    "durability",
    "no-phantom-effects",
    "heuristic-outcomes",
    "invariant",
    "isolation",
    "no-intermediate-states",
    "no-system-aborts",
    "progress",
];

/// The class of a run that broke a promise: that of the most telling promise broken, by [`PRIORITY`].
/// `None` if it broke none.
pub fn class(run: &Run) -> Option<Class> {
    let broken = run.verdict.properties.iter();
    broken
        .filter(|property| property.status == Status::Violation)
        .min_by_key(|property| rank(property.name))
        .and_then(class_of)
}

/// The classes of what a run showed although nothing was promised, the most telling first: measurements, such
/// as the partial commits of a protocol that promises no atomicity.
pub fn weaknesses(run: &Run) -> Vec<Class> {
    let properties = run.verdict.properties.iter();
    let mut shown: Vec<&Property> = properties
        .filter(|property| property.status == Status::NotPromised)
        .collect();
    shown.sort_by_key(|property| rank(property.name));
    shown.into_iter().filter_map(class_of).collect()
}

/// Whether a run fails in the class: its own class is this one, or, for a class that is a weakness and no
/// broken promise, it shows that weakness and breaks no promise.
pub fn shows(run: &Run, wanted: &Class) -> bool {
    match class(run) {
        Some(found) => found == *wanted,
        None => weaknesses(run).contains(wanted),
    }
}

fn rank(property: &str) -> usize {
    let known = PRIORITY.iter().position(|name| *name == property);
    known.unwrap_or(PRIORITY.len())
}

fn class_of(property: &Property) -> Option<Class> {
    (property.outcome == Finding::Broken).then(|| Class {
        property: property.name.to_owned(),
        shape: property.shape.clone().unwrap_or_else(|| "broken".into()),
    })
}

/// How much there is to read in a failing run; the smaller, the better it represents its class. Ordered by
/// faults, then transactions, then events.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Size {
    /// Faults in the plan.
    pub faults: usize,
    /// Client operations in the plan.
    pub transactions: usize,
    /// Events of the run.
    pub events: u64,
}

impl Size {
    /// The size of a plan's run.
    pub fn of(plan: &Plan, run: &Run) -> Size {
        Size {
            faults: plan.faults.len(),
            transactions: plan.operations.len(),
            events: run.events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::observation::shape_of_panic;
    use crate::registry::Registry;
    use crate::scenario::Scenario;

    fn run() -> Run {
        let (_, text) = crate::cli::SHIPPED[3];
        let scenario: Scenario = Registry::standard()
            .read_scenario("naive-partial", text, &[])
            .unwrap_or_else(|bad| panic!("{bad}"));
        Registry::standard()
            .run(&scenario, "naive", &Plan::draw(&scenario, 1), false)
            .expect("it runs")
    }

    fn break_promise(run: &mut Run, name: &str, shape: &str, status: Status) {
        let mut properties = run.verdict.properties.iter_mut();
        let property = properties
            .find(|property| property.name == name)
            .expect("it is judged");
        property.outcome = Finding::Broken;
        property.status = status;
        property.shape = Some(shape.to_owned());
    }

    #[test]
    fn the_most_telling_broken_promise_names_the_class() {
        let mut run = run();
        assert_eq!(class(&run), None, "a run as promised has no class");
        for (name, shape) in [
            ("progress", "never-ended"),
            ("isolation", "G1c"),
            ("atomicity", "partial-commit"),
            ("log-safety", "log-matching"),
            ("no-panics", "no row N"),
        ] {
            break_promise(&mut run, name, shape, Status::Violation);
            let found = class(&run).expect("a promise is broken");
            assert_eq!(
                (found.property.as_str(), found.shape.as_str()),
                (name, shape)
            );
        }
    }

    #[test]
    fn a_weakness_is_no_class_and_is_shown_only_where_no_promise_is_broken() {
        let mut run = run();
        let weakness: Class = "atomicity/partial-commit".parse().expect("a class");
        break_promise(&mut run, "atomicity", "partial-commit", Status::NotPromised);
        assert_eq!(class(&run), None);
        assert!(weaknesses(&run).contains(&weakness) && shows(&run, &weakness));
        break_promise(&mut run, "progress", "never-ended", Status::Violation);
        assert!(!shows(&run, &weakness), "the run now fails in another way");
        assert!(shows(
            &run,
            &"progress/never-ended".parse().expect("a class")
        ));
    }

    #[test]
    fn every_judged_property_has_a_place_in_the_priority() {
        for property in &run().verdict.properties {
            assert!(PRIORITY.contains(&property.name), "{}", property.name);
        }
    }

    #[test]
    fn panics_that_differ_in_numbers_only_have_one_shape() {
        let shape = shape_of_panic("no row 17/3 of T12 at src/shard/store.rs:90:13");
        assert_eq!(shape, "no row N/N of TN at src/shard/store.rs");
        assert_eq!(
            shape_of_panic("no row 1/9 of T4 at src/shard/store.rs:9:1"),
            shape
        );
        assert_ne!(
            shape_of_panic("no table 3 at src/shard/store.rs:9:1"),
            shape
        );
        let long = |number: u64| {
            let (words, more) = ("words ".repeat(20), "more ".repeat(20));
            shape_of_panic(&format!("{words}{number} {more}at src/a.rs:{number}:1"))
        };
        assert_eq!(long(7), long(123_456_789));
        assert_eq!(long(7).len(), 160);
        let near_the_bound = format!("{} {} at src/a.rs:90:13", "x".repeat(136), 1_234_567);
        assert!(shape_of_panic(&near_the_bound).ends_with(" N at src/a.rs"));
    }

    #[test]
    fn a_class_survives_text_and_a_text_without_a_shape_is_refused() {
        let class: Class = "no-panics/N of N at src/a.rs".parse().expect("a class");
        assert_eq!(
            (class.property.as_str(), class.shape.as_str()),
            ("no-panics", "N of N at src/a.rs")
        );
        let json = serde_json::to_string(&class).expect("plain data");
        assert_eq!(
            serde_json::from_str::<Class>(&json).expect("a class"),
            class
        );
        for bad in ["", "atomicity", "atomicity/", "/partial"] {
            assert!(bad.parse::<Class>().is_err(), "{bad}");
        }
    }
}
