//! Committed regressions: what once failed is run first.
//!
//! A folder of regressions holds files that `ordain shrink --regression` wrote ([`Regression`]), and failure folders
//! as they are. Of a failure folder only plan and scenario count, and which version of ordain recorded it does not
//! matter: only the verdict is looked at.

use std::fs;
use std::path::{Path, PathBuf};

use super::report::LeftOut;
use crate::campaign::artifact::{Recorded, Regression, Unreadable};
use crate::plan::random::GENERATOR;
use crate::plan::{PLAN_VERSION, Plan};
use crate::registry::Registry;
use crate::scenario::Scenario;

/// A committed plan, with the scenario that it stands on.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where it was read.
    pub path: PathBuf,
    /// The protocol that it failed under.
    pub protocol: String,
    /// The plan.
    pub plan: Plan,
    /// Its scenario.
    pub scenario: Scenario,
}

/// Reads the regressions of a scenario below a folder, in the order of their paths. Those of other scenarios are
/// left out, and those that need a planted bug to fail.
///
/// # Errors
///
/// When a file cannot be read, is no regression, or has a plan that this version would run differently.
pub fn read(
    registry: &Registry,
    folder: &Path,
    scenario: &str,
) -> Result<(Vec<Committed>, Vec<LeftOut>), String> {
    let unreadable = |error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    let (mut committed, mut left_out) = (Vec::new(), Vec::new());
    for path in paths {
        let is_file = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let (one, bug) = match (path.join("plan.json").is_file(), is_file) {
            (true, _) => (folder_at(registry, path)?, None),
            (false, true) => file_at(registry, path).map_err(|error| error.to_string())?,
            (false, false) => continue,
        };
        let why = match bug {
            Some(bug) => format!("planted bug {bug}"),
            None if one.scenario.name != scenario => format!("scenario {}", one.scenario.name),
            None => {
                committed.push(one);
                continue;
            }
        };
        let path = one.path.display().to_string();
        left_out.push(LeftOut { path, why });
    }
    Ok((committed, left_out))
}

/// A regression's file, and the planted bug that it needs, if any.
fn file_at(registry: &Registry, path: PathBuf) -> Result<(Committed, Option<String>), Unreadable> {
    let regression = Regression::read(registry, &path)?;
    let committed = Committed {
        path,
        protocol: regression.protocol,
        plan: regression.plan,
        scenario: regression.scenario,
    };
    Ok((committed, regression.bug))
}

fn folder_at(registry: &Registry, path: PathBuf) -> Result<Committed, String> {
    let read = |name: &str| {
        let file = path.join(name);
        let text = fs::read_to_string(&file);
        text.map_err(|error| format!("{}: {error}", file.display()))
    };
    let name = path.join("plan.json").display().to_string();
    let recorded: Recorded = serde_json::from_str(&read("plan.json")?)
        .map_err(|error| format!("{name}:{}:{}: {error}", error.line(), error.column()))?;
    let plan = recorded.plan;
    if (plan.version, plan.generator.as_str()) != (PLAN_VERSION, GENERATOR) {
        return Err(format!(
            "{name}: the plan has version {} and generator \"{}\", this ordain reads version {PLAN_VERSION} and \
             \"{GENERATOR}\"\n  help: find and shrink the failure again with this version",
            plan.version, plan.generator
        ));
    }
    let file = path.join("scenario.toml").display().to_string();
    let scenario = registry
        .read_scenario(&file, &read("scenario.toml")?, &[])
        .map_err(|bad| bad.to_string())?;
    Ok(Committed {
        protocol: recorded.protocol,
        plan,
        scenario,
        path,
    })
}
