//! `ordain export`: a recorded run for other tools.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Failure, exit, hand_over, report};
use crate::registry::Registry;
use crate::report::export;
use crate::report::page::model;

/// What to export, and into what.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// The folder that `run`, `compare`, `fuzz` or `shrink` left.
    dir: PathBuf,
    /// The format to write.
    #[arg(long, value_enum)]
    to: Format,
    /// Write here. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Formats that `export` writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// A log with vector clocks, for ShiViz and TSViz.
    Shiviz,
    /// A trace in Chrome's JSON format, for ui.perfetto.dev, Speedscope or chrome://tracing.
    Perfetto,
    /// CSV with a line for each transaction.
    Transactions,
    /// CSV with a line for each event.
    Events,
}

pub(super) fn export(registry: &Registry, args: &ExportArgs, json: bool) -> Result<u8, Failure> {
    let Some((kept, run)) = report::replayed(registry, &args.dir)? else {
        return Ok(exit::DIVERGED);
    };
    let plan = &kept.recorded.plan;
    let page = model::run_page(&kept.scenario, plan, &run, Vec::new(), usize::MAX);
    let text = match args.to {
        Format::Shiviz => export::shiviz(&page),
        Format::Perfetto => export::perfetto(&page),
        Format::Transactions => export::transactions(&page),
        Format::Events => export::events(&page),
    };
    hand_over("export", text.into_bytes(), args.out.as_deref(), json)
}
