//! Hunting: runs a planted bug's scenario with the bug switched on, seed after seed, until a run fails; then
//! shrinks the plan that caught it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::base::zoo::{Planted, with};
use crate::campaign::artifact::Regression;
use crate::campaign::shrink::{self, Shrunk};
use crate::campaign::swarm;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::run::failure::{self, Class};
use crate::scenario::Scenario;

/// Seeds run side by side before the next ones are begun. What is found does not depend on it.
const BATCH: u64 = 16;
/// Distance between the first seeds of two repetitions.
const APART: u64 = 1_000_000;

/// How long to hunt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Limits {
    /// Seeds tried in each repetition before the bug counts as not found.
    pub seeds: u64,
    /// Repetitions, each from a first seed of its own.
    pub repetitions: u64,
    /// Runs that shrinking the first plan that fails may take; 0: it is not shrunk.
    pub shrink_runs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seeds: 2_000,
            repetitions: 5,
            shrink_runs: 600,
        }
    }
}

/// A run that fails with a bug switched on.
#[derive(Clone, Debug)]
struct Caught {
    /// How many seeds it took, this one included.
    seeds: u64,
    plan: Plan,
    class: Class,
}

/// What the hunts for one bug came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Hunted {
    /// The bug.
    #[serde(flatten)]
    pub planted: Planted,
    /// Whether every repetition found it.
    pub found: bool,
    /// The class of the failure, of most repetitions.
    pub found_by: Option<String>,
    /// How many repetitions found it by each class. A run ends with the first violation that a monitor reports
    /// (`log-safety`, `refinement`): what it would have led to is not judged then.
    pub classes: BTreeMap<String, u64>,
    /// Median over the repetitions of the number of seeds until found.
    pub median_seeds: Option<u64>,
    /// Seeds until found, by repetition; absent where it was not found.
    pub seeds: Vec<Option<u64>>,
    /// The class that shrinking kept: that of the first repetition.
    pub shrunk_class: Option<String>,
    /// Faults of the first repetition's plan, and how many are left.
    pub faults: Option<usize>,
    /// Faults left after shrinking.
    pub shrunk_faults: Option<usize>,
    /// Transactions of the first repetition's plan.
    pub transactions: Option<usize>,
    /// Transactions left after shrinking.
    pub shrunk_transactions: Option<usize>,
    /// Machines left after shrinking.
    pub shrunk_machines: Option<usize>,
}

/// Hunts for a bug, and shrinks the plan that catches it in the first repetition.
///
/// # Errors
///
/// When the protocol does not fit the scenario.
pub fn hunt(
    registry: &Registry,
    planted: &Planted,
    scenario: &Scenario,
    limits: Limits,
) -> Result<(Hunted, Option<Regression>), String> {
    let repetitions = 0..limits.repetitions;
    let hunts = repetitions
        .map(|repetition| {
            catch(
                registry,
                planted,
                scenario,
                1 + repetition * APART,
                limits.seeds,
            )
        })
        .collect::<Result<Vec<_>, String>>()?;
    let shrunk = match hunts.first() {
        Some(Some(caught)) if limits.shrink_runs > 0 => Some(smallest(
            registry,
            planted,
            scenario,
            caught,
            limits.shrink_runs,
        )?),
        _ => None,
    };
    let regression = shrunk.as_ref().map(|shrunk| Regression {
        about: planted.wrong.to_owned(),
        bug: Some(planted.name.to_owned()),
        protocol: planted.protocol.to_owned(),
        class: shrunk.class.clone(),
        scenario: shrunk.scenario.clone(),
        plan: shrunk.plan.clone(),
    });
    Ok((summary(planted, &hunts, shrunk.as_ref()), regression))
}

/// The first failing run from seed `first` on whose plan is as promised without the bug.
fn catch(
    registry: &Registry,
    planted: &Planted,
    scenario: &Scenario,
    first: u64,
    seeds: u64,
) -> Result<Option<Caught>, String> {
    let class_of = |plan: &Plan| -> Result<Option<Class>, String> {
        let run = registry.run(scenario, planted.protocol, plan, false)?;
        Ok(failure::class(&run))
    };
    let attempt = |at: u64| {
        let plan = swarm::draw(scenario, first + at);
        let found = class_of(&plan).transpose()?;
        let seeds = at + 1;
        Some(found.map(|class| Caught { seeds, plan, class }))
    };
    let mut begun = 0;
    while begun < seeds {
        let batch = begun..seeds.min(begun + BATCH);
        begun = batch.end;
        let found = with(Some(planted.bug), || {
            batch.into_par_iter().find_map_first(attempt)
        });
        let Some(caught) = found.transpose()? else {
            continue;
        };
        if with(None, || class_of(&caught.plan))?.is_none() {
            return Ok(Some(caught));
        }
        begun = caught.seeds; // Not the bug's doing.
    }
    Ok(None)
}

fn smallest(
    registry: &Registry,
    planted: &Planted,
    scenario: &Scenario,
    caught: &Caught,
    budget: usize,
) -> Result<Shrunk, String> {
    let (protocol, plan, class) = (planted.protocol, &caught.plan, &caught.class);
    with(Some(planted.bug), || {
        shrink::shrink(
            registry,
            scenario,
            protocol,
            plan,
            class,
            budget,
            &mut |_| {},
        )
    })
    .map_err(|error| format!("{}: {error}", planted.name))
}

fn summary(planted: &Planted, hunts: &[Option<Caught>], shrunk: Option<&Shrunk>) -> Hunted {
    let seeds = |caught: &Option<Caught>| caught.as_ref().map(|caught| caught.seeds);
    let seeds: Vec<Option<u64>> = hunts.iter().map(seeds).collect();
    let mut found_after: Vec<u64> = seeds.iter().copied().flatten().collect();
    found_after.sort_unstable();
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    for caught in hunts.iter().flatten() {
        *classes.entry(caught.class.to_string()).or_default() += 1;
    }
    let most = classes.values().copied().max();
    let mut of_most = { classes.iter() }.filter(|(_, count)| Some(**count) == most);
    Hunted {
        planted: *planted,
        found: !seeds.is_empty() && seeds.iter().all(Option::is_some),
        found_by: of_most.next().map(|(class, _)| class.clone()),
        classes,
        median_seeds: found_after.get(found_after.len() / 2).copied(),
        seeds,
        shrunk_class: shrunk.map(|shrunk| shrunk.class.to_string()),
        faults: shrunk.map(|shrunk| shrunk.before.faults),
        shrunk_faults: shrunk.map(|shrunk| shrunk.after.faults),
        transactions: shrunk.map(|shrunk| shrunk.before.transactions),
        shrunk_transactions: shrunk.map(|shrunk| shrunk.after.transactions),
        shrunk_machines: shrunk.map(|shrunk| shrunk.after.machines),
    }
}
