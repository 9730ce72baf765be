//! Committed plans: what once failed is run first.
//!
//! A folder of regressions holds plans (`NAME.json`, each a `plan.json` of a failure folder) or whole failure
//! folders (`NAME/plan.json`). Beside a `plan.json` its own `scenario.toml` and `fates.json` are used where they
//! are; the version of ordain that recorded it does not matter, because only the verdict is looked at.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::artifact::Recorded;
use crate::fates::Fates;
use crate::plan::{PLAN_VERSION, Plan};
use crate::random::GENERATOR;
use crate::scenario::Scenario;
use crate::stack;

/// A committed plan.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where it was read.
    pub path: PathBuf,
    /// The protocol that it failed under.
    pub protocol: String,
    /// The plan.
    pub plan: Plan,
    /// The scenario beside it, if there is one; else it is for the campaign's.
    pub scenario: Option<Scenario>,
    /// The fates beside it, if there are any; else they follow from the seed.
    pub fates: Option<Fates>,
}

/// Reads the plans for a scenario below a folder, in the order of their paths. Plans for other scenarios are left
/// out.
///
/// # Errors
///
/// When a file cannot be read, is no plan, or is one that this version would run differently.
pub fn read(folder: &Path, scenario: &Scenario) -> Result<Vec<Committed>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| format!("{}: {error}", folder.display()))?
            .path();
        let inside = path.join("plan.json");
        if inside.is_file() {
            paths.push(inside);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut committed = Vec::new();
    for path in paths {
        let one = read_one(path)?;
        if one.plan.scenario == scenario.name {
            let own = one.scenario.as_ref().unwrap_or(scenario);
            fits(&one, own)?;
            committed.push(one);
        }
    }
    Ok(committed)
}

fn read_one(path: PathBuf) -> Result<Committed, String> {
    let value: serde_json::Value = json(&path)?;
    let plan = &value["plan"];
    if plan["version"].as_u64() != Some(u64::from(PLAN_VERSION))
        || plan["generator"].as_str() != Some(GENERATOR)
    {
        return Err(format!(
            "{}: the plan has version {} and generator {}, this ordain reads version {PLAN_VERSION} and \
             \"{GENERATOR}\"\n  help: shrink the failure again with this version and commit the new plan",
            path.display(),
            plan["version"],
            plan["generator"]
        ));
    }
    let recorded: Recorded = json(&path)?;
    let beside = |name: &str| Some(path.with_file_name(name)).filter(|beside| beside.is_file());
    let in_own_folder = path.file_name().is_some_and(|name| name == "plan.json");
    let scenario = match beside("scenario.toml").filter(|_| in_own_folder) {
        None => None,
        Some(file) => {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| format!("{name}: {error}"))?;
            Some(stack::read_scenario(&name, &text, &[]).map_err(|bad| bad.to_string())?)
        }
    };
    let fates = match beside("fates.json").filter(|_| in_own_folder) {
        None => None,
        Some(file) => Some(json(&file)?),
    };
    Ok(Committed {
        protocol: recorded.protocol,
        plan: recorded.plan,
        path,
        scenario,
        fates,
    })
}

fn fits(one: &Committed, scenario: &Scenario) -> Result<(), String> {
    let (planned, there) = (one.plan.environment.machines.len(), scenario.places.len());
    if planned == there {
        return Ok(());
    }
    Err(format!(
        "{}: the plan is for {planned} machines, scenario `{}` has {there}\n  help: commit the scenario.toml of \
         the failure folder beside the plan",
        one.path.display(),
        scenario.name
    ))
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("{}:{line}:{column}: {error}", path.display())
    })
}
