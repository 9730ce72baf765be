//! `ordain new`.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, exit, say_document};
use crate::registry::Registry;
use crate::scenario::template::{self, Wanted};
use crate::scenario::units::Share;

#[derive(Args, Debug)]
pub(super) struct NewArgs {
    /// The scenario's name, of letters, digits and dashes.
    #[arg(default_value = "mine")]
    name: String,
    /// Names of the regions.
    #[arg(long, value_delimiter = ',', default_value = "east,west")]
    regions: Vec<String>,
    /// Zones of each region, each with a front machine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    zones: u16,
    /// Names of the tables. A payment takes from the first and gives to each of the others.
    #[arg(long, value_delimiter = ',', default_value = "wallets,merchants")]
    tables: Vec<String>,
    /// Arrivals a second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// How long they come, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How often a payment is refused.
    #[arg(long, default_value = "0%", value_parser = share)]
    refused: Share,
    /// The rate in the middle of the run, in terms of the usual one; 1 is no peak.
    #[arg(long, default_value_t = 1.0)]
    peak: f64,
    /// Write it here instead of to standard output. A file that exists is not overwritten.
    #[arg(long, short)]
    out: Option<PathBuf>,
}

fn share(text: &str) -> Result<Share, String> {
    let quoted = toml::Value::String(text.to_owned());
    let share: Result<Share, toml::de::Error> = quoted.try_into();
    share.map_err(|error| error.message().to_owned())
}

pub(super) fn new(registry: &Registry, args: &NewArgs, json: bool) -> Result<u8, Failure> {
    let text = template::write(&Wanted {
        name: args.name.clone(),
        regions: args.regions.clone(),
        zones: args.zones,
        tables: args.tables.clone(),
        rate: args.rate,
        seconds: args.seconds,
        refused_percent: f64::from(args.refused.ppm) / 1e4,
        peak: args.peak,
    });
    // What is wrong with the answers shows when it is read.
    registry
        .read_scenario(&format!("{}.toml", args.name), &text, &[])
        .map_err(|bad| Failure::Usage(bad.to_string()))?;
    if let Some(path) = &args.out {
        if path.exists() {
            let path = path.display();
            return Err(Failure::Usage(format!(
                "{path} exists already\n  help: name another file with --out"
            )));
        }
        std::fs::write(path, &text)?;
    }
    match args.out.is_some() && !json {
        true => Ok(exit::OK),
        false => say_document("scenario", text.into_bytes(), json),
    }
}
