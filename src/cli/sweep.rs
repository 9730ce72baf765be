//! `ordain compare --vary`: a comparison at each of several points.

use std::path::Path;

use super::{Failure, at, chosen_protocols, comparison_again, drawer, exit, load, report, say};
use super::{complain, progress, say_json, warn};
use crate::campaign::sweep::{self, Axis, Sweep};
use crate::registry::Registry;
use crate::report::{page, text};

/// An axis as the command line has it: a key, and its values.
pub(super) fn axis(text: &str) -> Result<Axis, String> {
    let (key, values) = text
        .split_once('=')
        .ok_or("write KEY=VALUE,VALUE, as in workload.rate=50,100,200")?;
    let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
    if values.iter().any(String::is_empty) {
        return Err("a value is empty: write KEY=VALUE,VALUE".to_owned());
    }
    let mut others = values.iter().enumerate();
    if let Some((_, twice)) = others.find(|(at, value)| values[..*at].contains(value)) {
        return Err(format!("the value {twice} is there twice"));
    }
    let key = key.trim().to_owned();
    Ok(Axis { key, values })
}

/// What is to be swept.
pub(super) struct Asked<'a> {
    pub scenario: &'a str,
    pub protocols: &'a [String],
    pub seeds: &'a [u64],
    pub swarm: bool,
    pub axes: Vec<Axis>,
    pub overrides: &'a [(String, String)],
}

impl Asked<'_> {
    /// The overrides of a point.
    fn with(&self, choice: &[String]) -> Vec<(String, String)> {
        let varied = self.axes.iter().zip(choice);
        let varied = varied.map(|(axis, value)| (axis.key.clone(), value.clone()));
        self.overrides.iter().cloned().chain(varied).collect()
    }

    fn command(&self, protocols: &[String]) -> String {
        let vary = |axis: &Axis| format!(" --vary '{}={}'", axis.key, axis.values.join(","));
        let vary: String = self.axes.iter().map(vary).collect();
        let (seeds, set) = ((self.seeds, self.swarm), self.overrides);
        let again = comparison_again(self.scenario, protocols, seeds, set);
        format!("{again}{vary}")
    }
}

/// An earlier sweep in this file, if the file is there.
fn earlier(file: &Path) -> Result<Option<Sweep>, Failure> {
    if !file.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file).map_err(|error| at(file, error))?;
    let read = serde_json::from_str(&text);
    read.map(Some).map_err(|error| {
        Failure::Input(format!(
            "{}: these are no results of a sweep: {error}\n  help: name another file for --results",
            file.display()
        ))
    })
}

pub(super) fn sweep(
    registry: &Registry,
    asked: &Asked<'_>,
    results: Option<&Path>,
    html: Option<&Path>,
    json: bool,
) -> Result<u8, Failure> {
    // Nonsense at the last point is refused before the first one runs.
    let mut scenarios = Vec::new();
    for choice in sweep::choices(&asked.axes) {
        let scenario = load(registry, asked.scenario, &asked.with(&choice))?;
        scenarios.push((choice, scenario));
    }
    let (_, first) = scenarios.first().expect("an axis has a value");
    let protocols = chosen_protocols(registry, first, asked.protocols)?;
    warn(registry, first, &protocols);
    let (seeds, axes) = (asked.seeds, asked.axes.clone());
    let mut swept = Sweep::new(first, seeds, axes, &protocols);
    let before = match results {
        Some(file) => earlier(file)?,
        None => None,
    };
    let bar = progress((scenarios.len() * protocols.len() * seeds.len()) as u64);
    for (choice, mut scenario) in scenarios {
        let digest = sweep::digest(&scenario);
        let done = before
            .as_ref()
            .and_then(|before| swept.point_of(before, &digest));
        let point = match done {
            Some(point) => {
                bar.inc((protocols.len() * seeds.len()) as u64);
                point
            }
            None => {
                let draw = drawer(&mut scenario, asked.swarm);
                let whose = (&protocols[..], seeds);
                let point = sweep::point(registry, &scenario, whose, draw, choice, || bar.inc(1));
                point.map_err(Failure::Input)?
            }
        };
        swept.points.push(point);
        if let Some(file) = results {
            let text = serde_json::to_string_pretty(&swept).expect("results are plain data");
            report::write_whole(file, &format!("{text}\n"))?;
        }
    }
    bar.finish_and_clear();
    for key in swept.without_effect() {
        complain(format!(
            "warning: `{key}` changes nothing here: the runs are the same at each of its values"
        ));
    }
    if let Some(html) = html {
        report::write_whole(html, &page::sweep(&swept, asked.command(&protocols)))?;
    }
    match json {
        true => say_json(&swept)?,
        false => say(text::sweep(&swept))?,
    }
    let all = swept.points.iter().flat_map(|point| &point.protocols);
    let unexpected = all.filter(|of| of.unexpected > 0);
    let code = |of: &sweep::AtPoint| match of.violations {
        0 => exit::UNKNOWN,
        _ => exit::VIOLATION,
    };
    let codes: Vec<u8> = unexpected.map(code).collect();
    let gravest = [exit::VIOLATION, exit::UNKNOWN];
    let gravest = gravest.into_iter().find(|code| codes.contains(code));
    Ok(gravest.unwrap_or(exit::OK))
}
