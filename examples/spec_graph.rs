//! Writes the reachable graph of a spec's Rust model, state by state and edge by edge, for `specs/graphs` to compare with
//! TLC's.
//!
//!     cargo run --example spec_graph list                   the models
//!     cargo run --example spec_graph two_phase/MCTwoPhaseSmall   one graph
//!     cargo run --example spec_graph digest < GRAPH         Blake3 of a graph's text
#![allow(clippy::print_stdout)]

use std::io::{Read, Write};

use ordain::model::spec::instances;

/// Beyond this a comparison line by line says no more than one of a smaller model.
const STATES_MAX: u32 = 500_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = std::env::args()
        .nth(1)
        .ok_or("usage: spec_graph list | digest | FOLDER/MODEL")?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match wanted.as_str() {
        "list" => {
            for instance in instances() {
                writeln!(out, "{}/{}", instance.folder, instance.name)?;
            }
        }
        "digest" => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            writeln!(out, "{}", blake3::hash(&text).to_hex())?;
        }
        _ => {
            let named = |instance: &ordain::model::spec::Instance| {
                format!("{}/{}", instance.folder, instance.name)
            };
            let instance = instances()
                .into_iter()
                .find(|instance| named(instance) == wanted);
            write!(
                out,
                "{}",
                instance
                    .ok_or("no such model; see `list`")?
                    .graph(STATES_MAX)?
            )?;
        }
    }
    out.flush()?;
    Ok(())
}
