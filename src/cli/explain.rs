//! `ordain explain`: what made a recorded run fail.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, exit, say, say_json};
use crate::campaign::artifact::Artifact;
use crate::campaign::explain::{self, Case, Explained, Limits};
use crate::registry::Registry;
use crate::report::page::explain as told_why;
use crate::report::page::model::Told;
use crate::report::page::{model, story};
use crate::run::Run;
use crate::run::failure::Class;

/// What `explain` is told.
#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The folder that a failing run left.
    dir: PathBuf,
    #[command(flatten)]
    work: Work,
    /// Also write the page of the run, with the explanation in it.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// How much work an explanation may take.
#[derive(Args, Debug)]
pub(super) struct Work {
    /// How many runs for each instant from which fates are drawn anew.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    redraws: u16,
    /// At how many instants, at most.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(2..))]
    instants: u16,
    /// How many faults, transactions and messages are taken away one by one, at most, of each.
    #[arg(long, value_name = "N", default_value_t = 40)]
    removals: u16,
    /// The failure class to explain, as PROPERTY/SHAPE. Default: the most telling promise that the run broke.
    #[arg(long)]
    class: Option<Class>,
}

/// Explains the run of a folder, which was just replayed.
pub(super) fn of_folder(
    registry: &Registry,
    kept: &Artifact,
    run: &Run,
    work: &Work,
) -> Result<Explained, Failure> {
    let plan = &kept.recorded.plan;
    let class = match &work.class {
        Some(class) => class.clone(),
        None => super::class_of(run).map_err(Failure::Input)?,
    };
    let told = Told::new(&kept.scenario, plan, run);
    let suspects = model::suspects(&told);
    let limits = Limits {
        redraws: usize::from(work.redraws),
        instants_max: usize::from(work.instants),
        removals_max: usize::from(work.removals),
    };
    let case = Case {
        registry,
        scenario: &kept.scenario,
        protocol: &kept.recorded.protocol,
        plan,
        fates: &kept.fates,
        run,
        class: &class,
        suspects: &suspects.transactions,
        failed_by: suspects.line.filter(|_| suspects.is_step),
    };
    let bar = super::progress((limits.redraws * limits.instants_max) as u64);
    let mut show = |runs: usize| bar.set_position(runs as u64);
    let explained = explain::explain(&case, limits, &mut show).map_err(Failure::Input);
    bar.finish_and_clear();
    explained
}

pub(super) fn explain(registry: &Registry, args: &ExplainArgs, json: bool) -> Result<u8, Failure> {
    let Some((kept, run)) = super::report::replayed(registry, &args.dir)? else {
        return Ok(exit::DIVERGED);
    };
    let explained = of_folder(registry, &kept, &run, &args.work)?;
    let told = Told::new(&kept.scenario, &kept.recorded.plan, &run);
    let why = told_why::why(&told, &explained);
    if let Some(html) = &args.html {
        super::report::page_of(&kept, &run, &args.dir, Some(&explained), html)?;
    }
    if json {
        say_json(&explained)?;
        return Ok(exit::OK);
    }
    let suspects = model::suspects(&told);
    let cycle = model::cycle(&told);
    for sentence in story::tell(&told, &suspects, cycle.as_ref()) {
        say(sentence.text())?;
    }
    say("")?;
    say(told_why::text(&why))?;
    Ok(exit::OK)
}
