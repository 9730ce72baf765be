//! Scenarios: validated plain data about topology, clocks, disks, engines, workload, faults and
//! expectations.
//!
//! [`file`] is the format as it is written, [`Scenario`] what it means once every name is resolved, and
//! [`Scenario::read`] the way from one to the other, which refuses what cannot be with a place and a remedy.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::process::NodeId;
use crate::fault::{FaultKind, Latency, Link};
use units::Share;

pub mod clients;
pub mod file;
pub mod layout;
pub mod load;
pub mod problem;
mod read;
mod resolve;
pub mod steps;
pub mod swarm;
pub mod template;
pub mod units;

pub use file::WorkloadKind;
pub use problem::{BadInput, Problem};
pub use resolve::Place;

/// A scenario, ready to draw plans from.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, which names folders.
    pub name: String,
    /// One sentence about it.
    pub summary: String,
    /// The text that it was read from, overrides included.
    pub text: String,
    /// The protocols that `compare` runs.
    pub protocols: Vec<String>,
    /// Length of the safety phase, nanoseconds.
    pub safety_ns: u64,
    /// Bound of the settle phase, nanoseconds.
    pub settle_ns: u64,
    /// Recovery time after the final power cut, nanoseconds; 0 is no cut.
    pub power_cycle_ns: u64,
    /// From when on a transaction that has not ended counts as blocked, nanoseconds.
    pub patience_ns: u64,
    /// Wall clocks.
    pub clocks: Clocks,
    /// CPU time for an input, nanoseconds.
    pub handle_ns: u64,
    /// CPU time for an operation, nanoseconds.
    pub operation_ns: u64,
    /// Time of a flush.
    pub flush: Latency,
    /// How long a machine that halted itself takes to come back, nanoseconds.
    pub supervisor_ns: u64,
    /// Machines, tables and shards.
    pub layout: layout::Layout,
    /// The machines' names and places, by node.
    pub places: Vec<Place>,
    /// Positions into `link_classes`, by sender and receiver.
    pub links: Vec<Vec<u16>>,
    /// The distinct kinds of link.
    pub link_classes: Vec<Link>,
    /// What clients do.
    pub workload: Workload,
    /// How they behave when answers do not come.
    pub clients: clients::Behaviour,
    /// What goes wrong.
    pub faults: Vec<FaultSpec>,
    /// How far swarm plans may go.
    pub swarm: swarm::Bounds,
    /// Options of protocols: where they stand in the text, and what they say.
    pub options: BTreeMap<String, (Range<usize>, toml::Table)>,
    /// The options that swarm plans may draw, by protocol; filled in by whoever knows the protocols.
    pub option_spaces: BTreeMap<String, swarm::OptionSpace>,
    /// What runs are expected to show, by protocol.
    pub expect: BTreeMap<String, file::Expectation>,
}

/// How wall clocks differ from true time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// Each clock is at most this far from true time, either way, as the scenario declares; nanoseconds.
    pub bound_ns: Option<u64>,
    /// Offsets are drawn within this much either way, nanoseconds.
    pub skew_ns: u64,
    /// Drifts are drawn within this much either way, parts per million.
    pub drift_ppm: u32,
    /// Offsets that the scenario fixes, nanoseconds, by region.
    pub region_offset_ns: Vec<Option<i64>>,
}

/// How operations arrive.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Arrivals {
    /// Whatever is under way, new ones come.
    Open {
        /// Arrivals a second over all regions.
        per_s: f64,
        /// At even distances instead of Poisson.
        evenly: bool,
    },
    /// Each session has one transaction under way.
    Closed {
        /// How many sessions.
        sessions: u32,
        /// Mean time between a reply and the next transaction, nanoseconds.
        think_ns: u64,
    },
}

/// What clients do. The meaning of each field is in [`file::Workload`].
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Workload {
    pub kind: WorkloadKind,
    pub transactions_of_steps: Vec<steps::Transaction>,
    pub conserved: Vec<usize>,
    pub transactions: u32,
    pub arrivals: Arrivals,
    pub profile: Option<load::Profile>,
    pub start_ns: u64,
    pub clients: Vec<usize>,
    pub reads: Share,
    pub multi_shard: Share,
    pub dependent: Share,
    pub skew: f64,
    pub hot_rows: u32,
    pub hot_share: Share,
    pub legs: u32,
    pub amount: u32,
    pub amount_fixed: bool,
    pub broke: Share,
    pub again: Share,
}

/// A fault whose time may still have to be drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultSpec {
    /// When it begins.
    pub when: WhenSpec,
    /// How long it lasts, from the first to the second, nanoseconds.
    pub for_ns: Option<(u64, u64)>,
    /// Whether the settle phase leaves it as it is.
    pub permanent: bool,
    /// How often it comes.
    pub times: u32,
    /// From one of its beginnings to the next, nanoseconds.
    pub every_ns: u64,
    /// What happens: an entry of the file may strike in several ways at once (a dark region crashes its
    /// machines and cuts off its clients).
    pub kinds: Vec<FaultKind>,
}

/// When a fault begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WhenSpec {
    /// Uniformly within these times, nanoseconds.
    At {
        /// Earliest.
        low_ns: u64,
        /// Latest.
        high_ns: u64,
    },
    /// After another fault, which begins at a time, has ended.
    EndOf {
        /// Its position.
        fault: usize,
        /// Which of its ends, from 0.
        nth: u32,
        /// So long after, from the first to the second, nanoseconds.
        delay_ns: (u64, u64),
    },
    /// At a moment; see [`crate::fault::When::Moment`].
    Moment {
        /// Watch from this time on, nanoseconds.
        from_ns: u64,
        /// The observation's name.
        observation: String,
        /// Where the text names it.
        named_at: Range<usize>,
        /// Which machine's observations count; `None`: every machine's.
        by: Option<NodeId>,
        /// How many of them.
        count: u32,
        /// At the latest then, nanoseconds.
        latest_ns: Option<u64>,
    },
}

impl Scenario {
    /// Reads a scenario from its text. `file_name` is for messages; `known` are the protocols that exist;
    /// `overrides` are `key=value` pairs with dotted keys, applied before anything is checked.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text, with places and remedies.
    pub fn read(
        file_name: &str,
        text: &str,
        known: &[&str],
        overrides: &[(String, String)],
    ) -> Result<Scenario, BadInput> {
        let bad = |text: &str, problems| BadInput {
            file: file_name.to_owned(),
            text: text.to_owned(),
            problems,
        };
        let syntax = |text: &str, error: toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            bad(
                text,
                vec![Problem::new(span, error.message().trim_end(), "")],
            )
        };
        let text = match overrides {
            [] => text.to_owned(),
            _ => {
                let mut table = text
                    .parse::<toml::Table>()
                    .map_err(|error| syntax(text, error))?;
                for (key, value) in overrides {
                    set(&mut table, key, value).map_err(|message| {
                        bad(
                            "",
                            vec![Problem::new(
                                0..0,
                                format!("--set {key}={value}: {message}"),
                                "",
                            )],
                        )
                    })?;
                }
                toml::to_string(&table).expect("a table read from TOML can be written")
            }
        };
        let (file, mut problems) = read::file(&text);
        let resolved = file.map(|file| resolve::resolve(&file, &text, known));
        match resolved {
            Some(Ok(scenario)) if problems.is_empty() => Ok(scenario),
            resolved => {
                problems.extend(resolved.and_then(Result::err).unwrap_or_default());
                problems.sort_by_key(|problem| problem.span.start);
                Err(bad(&text, problems))
            }
        }
    }
}

/// Sets a dotted key. After an array of tables comes the position of one of them: `region.0.zones`.
fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<(), String> {
    let value = format!("x = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("x"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut segments = key.split('.').peekable();
    let mut at = table;
    loop {
        let segment = segments
            .next()
            .filter(|segment| !segment.is_empty())
            .ok_or("the key is empty")?;
        if segments.peek().is_none() {
            at.insert(segment.to_owned(), value);
            return Ok(());
        }
        let mut next = at
            .entry(segment)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Array(elements) = next {
            let position = segments
                .next()
                .and_then(|position| position.parse::<usize>().ok());
            let count = elements.len();
            next = position
                .and_then(|position| elements.get_mut(position))
                .ok_or_else(|| format!("`{segment}` is a list: add a position below {count}"))?;
        }
        at = next
            .as_table_mut()
            .ok_or_else(|| format!("`{segment}` has no keys below it"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn every_shipped_scenario_can_be_read_and_drawn() {
        let known = crate::registry::Registry::standard().names();
        let folders = ["scenarios", "scenarios/incidents"];
        let entries = folders.map(|folder| std::fs::read_dir(folder).expect("it is shipped"));
        let entries = entries.into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("a readable folder").path());
        let scenarios: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
            .collect();
        assert!(!scenarios.is_empty());
        for path in scenarios {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let scenario = Scenario::read(&path.display().to_string(), &text, &known, &[])
                .unwrap_or_else(|bad| panic!("{bad}"));
            let plan = Plan::draw(&scenario, 1);
            assert_eq!(plan, Plan::draw(&scenario, 1));
            let ids = scenario.workload.transactions * scenario.clients.ids_each();
            assert_eq!(plan.operations.len(), ids as usize);
            assert_eq!(
                Some(scenario.name.as_str()),
                path.file_stem().and_then(|stem| stem.to_str())
            );
        }
    }
}
