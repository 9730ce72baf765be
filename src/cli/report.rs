//! `ordain report`, and the pages that other commands write.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, at, exit, explain, say, say_json};
use crate::campaign::artifact::{self, Artifact};
use crate::campaign::compare::{Comparison, Draw, Line};
use crate::campaign::explain::Explained;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::report::page::comparison::{self, Life, Pictured};
use crate::report::page::{self, model};
use crate::report::text;
use crate::run::Run;
use crate::scenario::Scenario;

/// What `report` is told.
#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    /// The folder that `run`, `compare`, `fuzz` or `shrink` left.
    dir: PathBuf,
    /// Where to write the page. Default: `report.html` in DIR.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many events the page may hold. A longer run is shown around its failure, and the page says so.
    #[arg(long, value_name = "N", default_value_t = model::EVENTS_MAX, value_parser = events)]
    events: usize,
    /// Also look for what made the run fail, as `explain` does. It takes several hundred runs.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    work: explain::Work,
}

/// A number of events. A page without any would show nothing.
fn events(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a number of events from 1 on".to_owned()),
        Ok(events) => Ok(events),
    }
}

/// Writes a text: whole or not at all.
pub(super) fn write_whole(to: &Path, text: &str) -> Result<(), Failure> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let beside = to.with_file_name(format!(".{name}.partial-{}", std::process::id()));
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, to))
        .map_err(|error| at(to, error))
}

/// Writes the page of a plan's run. Runs are repeatable, so everything is recorded only now, by running again.
pub(super) fn of_plan(
    registry: &Registry,
    scenario: &Scenario,
    (protocol, plan): (&str, &Plan),
    commands: Vec<String>,
    to: &Path,
) -> Result<(), Failure> {
    let run = registry.record(scenario, protocol, plan);
    let run = run.map_err(Failure::Input)?;
    let plan = run.kept.plan.as_ref().unwrap_or(plan);
    let data = model::run_page(scenario, plan, &run, commands, model::EVENTS_MAX);
    write_whole(to, &page::run(&data, &text::run(&run)))
}

/// A folder with its run, replayed. Nothing, and a word about it, if the replay gives another run.
pub(super) fn replayed(
    registry: &Registry,
    dir: &Path,
) -> Result<Option<(Artifact, Run)>, Failure> {
    let kept = artifact::read(registry, dir);
    let kept = kept.map_err(|error| Failure::Input(error.to_string()))?;
    let recorded = &kept.recorded;
    let run = registry
        .replay(
            &kept.scenario,
            &recorded.protocol,
            &recorded.plan,
            &kept.fates,
        )
        .map_err(Failure::Input)?;
    if run.digest.to_string() != recorded.digest {
        let dir = dir.display();
        super::complain(format!(
            "{dir}: this program no longer does what was recorded, so that a page would show another run\n  help: \
             `ordain replay {dir}` names the first event that differs"
        ));
        return Ok(None);
    }
    Ok(Some((kept, run)))
}

/// The data of a folder's page.
fn data(
    kept: &Artifact,
    run: &Run,
    dir: &Path,
    explained: Option<&Explained>,
    events: usize,
) -> model::RunPage {
    let commands = vec![format!("ordain replay {}", dir.display())];
    let plan = &kept.recorded.plan;
    let mut data = model::run_page(&kept.scenario, plan, run, commands, events);
    let told = model::Told::new(&kept.scenario, plan, run);
    data.why = explained.map(|explained| page::explain::why(&told, explained));
    data
}

/// Writes the page of a folder's run.
pub(super) fn page_of(
    kept: &Artifact,
    run: &Run,
    dir: &Path,
    explained: Option<&Explained>,
    to: &Path,
) -> Result<(), Failure> {
    let data = data(kept, run, dir, explained, model::EVENTS_MAX);
    write_whole(to, &page::run(&data, &text::run(run)))
}

pub(super) fn report(registry: &Registry, args: &ReportArgs, json: bool) -> Result<u8, Failure> {
    let Some((kept, run)) = replayed(registry, &args.dir)? else {
        return Ok(exit::DIVERGED);
    };
    let explained = match args.explain {
        true => Some(explain::of_folder(registry, &kept, &run, &args.work)?),
        false => None,
    };
    let data = data(&kept, &run, &args.dir, explained.as_ref(), args.events);
    let to = match (&args.out, json) {
        (Some(out), _) => Some(out.clone()),
        (None, true) => None,
        (None, false) => Some(args.dir.join(artifact::PAGE)),
    };
    if let Some(to) = &to {
        write_whole(to, &page::run(&data, &text::run(&run)))?;
    }
    match (json, to) {
        (true, _) => say_json(&data)?,
        (false, Some(to)) => {
            let why = data.why.iter().flat_map(|why| &why.sentences);
            for sentence in data.story.iter().chain(why) {
                say(sentence.text())?;
            }
            say(format!("\nthe page: {}", to.display()))?;
        }
        (false, None) => {}
    }
    Ok(exit::OK)
}

/// Writes the page of a comparison. Its pictures show one seed: the first one, recorded only now, by running again.
pub(super) fn of_comparison(
    registry: &Registry,
    scenario: &Scenario,
    compared: &Comparison,
    (draw, command): (Draw, String),
    to: &Path,
) -> Result<(), Failure> {
    let lives = match compared.seeds.first() {
        None => None,
        Some(seed) => {
            let plan = draw(scenario, *seed);
            let life = |line: &Line| -> Result<Pictured, String> {
                let run = registry.record(scenario, &line.protocol, &plan)?;
                let plan = run.kept.plan.as_ref().unwrap_or(&plan);
                Ok(Life::of(scenario, plan, &run))
            };
            let lives = compared.protocols.iter().map(life);
            let lives = lives.collect::<Result<Vec<_>, String>>();
            Some((*seed, lives.map_err(Failure::Input)?))
        }
    };
    let data = comparison::page(compared, command, lives);
    write_whole(to, &page::comparison(&data, &text::comparison(compared)))
}
