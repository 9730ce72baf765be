//! From the file to plain data: names become positions, and what cannot be is refused with a place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use super::file::{self, ActionName, FaultEntry, FaultName, File, WorkloadKind};
use super::layout::{Layout, Region, Shard, Table};
use super::problem::{Problem, meant};
use super::swarm::{Bounds, Class, RECOVERY_NS};
use super::units::{Span, human_ns};
use super::{Clocks, FaultSpec, Scenario, WhenSpec};
use crate::base::process::NodeId;
use crate::base::txn::{ShardId, TableId, Value};
use crate::fault::{CrashLoss, FaultKind, Latency, Link, OneWay};

mod clients;
mod workload;

const DAY_NS: i64 = 86_400_000_000_000;

/// How often a failed flush leaves bytes on the disk, unless a scenario says otherwise.
const FAILED_FLUSH_KEPT_PPM: u32 = 500_000;

/// Most that all rows may hold at the start: what transactions add to it still fits 64 bits, for there are at most
/// ten million of them with 64 amounts of 32 bits each.
const MOST_HELD: i128 = i64::MAX as i128 / 2;

/// A machine's place, before clocks are drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// `region/role`.
    pub name: String,
    /// Position of its region.
    pub region: u16,
    /// Position of its zone in the region.
    pub zone: u16,
    cloud: String,
    /// CPU time of an operation on a row, nanoseconds, where it is another than the scenario's.
    pub operation_ns: Option<u64>,
}

/// Resolves a file, given the names of the protocols that exist.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the text.
pub fn resolve(file: &File, text: &str, known: &[&str]) -> Result<Scenario, Vec<Problem>> {
    let mut resolver = Resolver {
        problems: Vec::new(),
    };
    let scenario = resolver.scenario(file, text, known);
    let mut problems = resolver.problems;
    problems.sort_by_key(|problem| problem.span.start);
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => Err(problems),
    }
}

/// A key of a fault entry, where it stands if it does, and the kinds of fault that it belongs to.
type KeyOfKinds<'a> = (&'a str, Option<Range<usize>>, &'a [FaultName]);

struct Resolver {
    problems: Vec<Problem>,
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<String> = names
        .into_iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    quoted.join(", ")
}

/// Longer than any run: its phases, with ten settle phases more for recovery ([`crate::plan::Environment`]).
fn longest_run_ns(safety_ns: u64, settle_ns: u64, power_cycle_ns: u64) -> u64 {
    safety_ns
        .saturating_add(settle_ns.saturating_mul(11))
        .saturating_add(power_cycle_ns.max(RECOVERY_NS))
}

/// What a drift gains in a time, rounded up.
fn gained_ns(for_ns: u64, ppm: u32) -> u64 {
    let gained_ns = (u128::from(for_ns) * u128::from(ppm)).div_ceil(1_000_000);
    u64::try_from(gained_ns).unwrap_or(u64::MAX)
}

/// By how much a fault moves a clock from where it was, at least and at most, if it strikes at all.
fn moved_by(spec: &FaultSpec, kind: &FaultKind, safety_ns: u64, run_ns: u64) -> (u64, u64) {
    match kind {
        FaultKind::ClockStep { by_ns, .. } => (by_ns.unsigned_abs(), by_ns.unsigned_abs()),
        FaultKind::ClockDrift { by_ppm, .. } => {
            let (first_ns, last_ns) = match spec.when {
                WhenSpec::At { low_ns, high_ns } => (low_ns, high_ns),
                WhenSpec::Moment { from_ns, .. } => (from_ns, safety_ns),
                WhenSpec::EndOf { delay_ns, .. } => (delay_ns.0, safety_ns),
            };
            let end_ns = if spec.permanent { run_ns } else { safety_ns };
            let longest = (
                safety_ns.saturating_sub(last_ns),
                end_ns.saturating_sub(first_ns),
            );
            let (least_ns, most_ns) = spec.for_ns.unwrap_or(longest);
            let least_ns = least_ns.min(longest.0);
            let ppm = by_ppm.unsigned_abs();
            (gained_ns(least_ns, ppm), gained_ns(most_ns, ppm))
        }
        _ => (0, 0),
    }
}

impl Resolver {
    fn refuse(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::new(span, message, help));
    }

    /// A length of time that must lie in `0..=one day`, or the default.
    fn ns(&mut self, value: &Option<Spanned<Span>>, default_ns: u64) -> u64 {
        value
            .as_ref()
            .map_or(default_ns, |value| self.required_ns(value))
    }

    fn required_ns(&mut self, value: &Spanned<Span>) -> u64 {
        let ns = value.get_ref().ns;
        if !(0..=DAY_NS).contains(&ns) {
            self.refuse(
                value.span(),
                "the duration is out of range",
                "use 0 to 24 hours",
            );
        }
        value.get_ref().as_ns()
    }

    fn name(&mut self, name: &Spanned<String>, what: &str) -> String {
        let text = name.get_ref();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || !text.chars().all(fits) || text.starts_with('-') {
            self.refuse(
                name.span(),
                format!("{what} `{text}` does not name a folder or a machine"),
                "use letters, digits, dashes and underscores",
            );
        }
        text.clone()
    }

    fn position(&mut self, of: &Spanned<String>, names: &[String], what: &str) -> Option<usize> {
        let found = names.iter().position(|name| name == of.get_ref());
        if found.is_none() {
            let message = format!("there is no {what} `{}`", of.get_ref());
            let all = format!("the {what}s are {}", list(names));
            let help = match meant(of.get_ref(), names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`? {all}"),
                None => all,
            };
            self.refuse(of.span(), message, help);
        }
        found
    }

    fn unique<'a>(&mut self, names: impl Iterator<Item = &'a Spanned<String>>, what: &str) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name.get_ref()) {
                let message = format!("two {what}s are called `{}`", name.get_ref());
                self.refuse(name.span(), message, "give each its own name");
            }
        }
    }

    fn scenario(&mut self, file: &File, text: &str, known: &[&str]) -> Option<Scenario> {
        let name = self.name(&file.name, "the scenario's name");
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let protocols = match &file.protocols {
            Some(chosen) => {
                self.unique(chosen.iter(), "protocol");
                chosen
                    .iter()
                    .filter_map(|p| self.position(p, &known, "protocol"))
                    .collect()
            }
            None => (0..known.len()).collect::<Vec<_>>(),
        };
        for key in file.protocol.keys().chain(file.expect.keys()) {
            self.position(key, &known, "protocol");
        }
        let (layout, places) = self.layout(file)?;
        let workload = self.workload(&file.workload, file, &layout)?;
        let safety_ns = self.required_ns(&file.phases.safety);
        let mut faults = Vec::new();
        for (at, entry) in file.faults.iter().enumerate() {
            let before = &file.faults[..at];
            let spec = self.fault(entry, before, &places, &layout, safety_ns);
            faults.extend(spec.map(|spec| (entry, spec)));
        }
        let clocks = self.clocks(file, &faults, safety_ns);
        let faults = faults.into_iter().map(|(_, spec)| spec).collect();
        let layout = Layout {
            clock_bound_ns: clocks.bound_ns,
            ..layout
        };
        let (links, link_classes) = self.links(&file.network, &places, &layout);
        let machines = &file.machines;
        Some(Scenario {
            name,
            summary: file.summary.clone(),
            text: text.to_owned(),
            protocols: protocols.into_iter().map(|at| known[at].clone()).collect(),
            safety_ns,
            settle_ns: self.required_ns(&file.phases.settle),
            power_cycle_ns: self.ns(&file.phases.power_cycle, 5_000_000_000),
            patience_ns: self.ns(&file.phases.patience, 1_000_000_000),
            clocks,
            handle_ns: self.ns(&machines.handle, 10_000),
            operation_ns: self.ns(&machines.operation, 2_000),
            flush: Latency {
                base_ns: self.ns(&machines.flush, 500_000),
                jitter_ns: self.ns(&machines.flush_jitter, 100_000),
            },
            supervisor_ns: self.ns(&machines.supervisor, 1_000_000_000),
            layout,
            places,
            links,
            link_classes,
            workload,
            clients: self.clients(&file.clients),
            faults,
            swarm: self.swarm(&file.swarm, safety_ns, machines.clock_bound.is_some()),
            options: file
                .protocol
                .iter()
                .map(|(name, table)| (name.get_ref().clone(), (name.span(), table.clone())))
                .collect(),
            option_spaces: BTreeMap::new(),
            expect: self.expectations(file),
        })
    }

    fn expectations(&mut self, file: &File) -> BTreeMap<String, file::Expectation> {
        for (name, expectation) in &file.expect {
            let verdict = expectation.verdict.as_deref().unwrap_or("kept");
            if !["kept", "violation", "vacuous"].contains(&verdict) {
                let message =
                    format!("`{verdict}` is no verdict that a run can be expected to have");
                let help = match verdict {
                    "ok" => "did you mean `kept`?",
                    _ => "expect `kept`, `violation` or `vacuous`",
                };
                self.refuse(name.span(), message, help);
            }
            for (property, observed) in &expectation.properties {
                if !["held", "broken", "vacuous"].contains(&observed.as_str()) {
                    let message = format!("property `{property}` cannot be `{observed}`");
                    self.refuse(name.span(), message, "expect `held`, `broken` or `vacuous`");
                }
            }
        }
        let plain =
            |(name, e): (&Spanned<String>, &file::Expectation)| (name.get_ref().clone(), e.clone());
        file.expect.iter().map(plain).collect()
    }

    fn layout(&mut self, file: &File) -> Option<(Layout, Vec<Place>)> {
        self.unique(file.regions.iter().map(|region| &region.name), "region");
        self.unique(file.tables.iter().map(|table| &table.name), "table");
        let names: Vec<String> = file
            .regions
            .iter()
            .map(|region| self.name(&region.name, "the region's name"))
            .collect();
        if names.is_empty() {
            self.refuse(
                0..0,
                "the scenario has no region",
                "add a [[region]] with name and cloud",
            );
        }
        if file.tables.is_empty() {
            self.refuse(
                0..0,
                "the scenario has no table",
                "add a [[table]] with name, engine and homes",
            );
        }
        let (tables, shards) = self.tables(file, &names);
        let mut operation_ns = |table: &file::Table| {
            { table.operation.as_ref() }.map(|operation| self.required_ns(operation))
        };
        let operations_ns: Vec<Option<u64>> = file.tables.iter().map(&mut operation_ns).collect();
        let mut places = Vec::new();
        let mut regions = Vec::new();
        for (position, region) in file.regions.iter().enumerate() {
            let zones = region.zones.as_ref().map_or(1, |zones| *zones.get_ref());
            if zones == 0 || zones > 16 {
                let span = region.zones.as_ref().expect("the default is 1").span();
                self.refuse(
                    span,
                    format!("region `{}` would have {zones} zones", names[position]),
                    "a region without machines can form no quorum: use 1 to 16 zones",
                );
            }
            let cloud = self.name(&region.cloud, "the cloud's name");
            let mut machine = |role: String, zone: u16, operation_ns: Option<u64>| {
                let name = format!("{}/{role}", names[position]);
                places.push(Place {
                    name,
                    region: position as u16,
                    zone,
                    cloud: cloud.clone(),
                    operation_ns,
                });
                NodeId((places.len() - 1) as u16)
            };
            let fronts = (0..zones)
                .map(|zone| machine(format!("front{zone}"), zone, None))
                .collect();
            let mut data = Vec::new();
            for (table, operation_ns) in tables.iter().zip(&operations_ns) {
                for at in 0..table.shards.len() {
                    let zone = data.len() as u16 % zones.max(1);
                    let role = format!("{}{at}", table.name);
                    data.push(machine(role, zone, *operation_ns));
                }
            }
            let client = machine("clients".to_owned(), 0, None);
            regions.push(Region {
                name: names[position].clone(),
                cloud,
                fronts,
                data,
                client,
            });
        }
        if places.len() > 1_000 {
            let message = format!("the scenario would need {} machines", places.len());
            self.refuse(
                0..0,
                message,
                "every region has a machine for each shard: use at most 1,000",
            );
        }
        let nodes = places.len() as u16;
        (!regions.is_empty() && !tables.is_empty()).then_some((
            Layout {
                regions,
                tables,
                shards,
                nodes,
                clock_bound_ns: None,
            },
            places,
        ))
    }

    fn tables(&mut self, file: &File, regions: &[String]) -> (Vec<Table>, Vec<Shard>) {
        let mut shards = Vec::new();
        let mut held = 0;
        let kind = file.workload.kind.as_ref().map(Spanned::get_ref);
        let all_lists = kind == Some(&WorkloadKind::ListAppend);
        let steps = { file.workload.mix.iter() }.flat_map(|entry| &entry.steps);
        let appended: BTreeSet<&String> = steps
            .filter(|step| *step.action.get_ref() == ActionName::Append)
            .map(|step| step.table.get_ref())
            .collect();
        let mut tables = Vec::new();
        for (position, table) in file.tables.iter().enumerate() {
            let name = self.name(&table.name, "the table's name");
            if ["front", "clients", "zone"]
                .iter()
                .any(|taken| name.starts_with(taken))
            {
                let message = format!("the table's name `{name}` is taken by other machines");
                self.refuse(
                    table.name.span(),
                    message,
                    "do not begin it with front, clients or zone",
                );
            }
            if table.homes.get_ref().is_empty() {
                let message = format!("table `{name}` has no shard");
                self.refuse(
                    table.homes.span(),
                    message,
                    "name at least one home region, as in homes = [\"tokyo\"]",
                );
            }
            let rows = *table.rows.get_ref();
            if rows == 0 || rows > 10_000_000 {
                self.refuse(
                    table.rows.span(),
                    format!("table `{name}` would have {rows} rows"),
                    "use 1 to 10,000,000",
                );
            }
            held += i128::from(rows) * i128::from(table.initial).abs();
            if held > MOST_HELD {
                self.refuse(
                    table.name.span(),
                    format!("the rows up to those of table `{name}` would hold {held} in all"),
                    format!("sums are kept in 64 bits: use a smaller `initial`, for at most {MOST_HELD} in all"),
                );
                held = 0;
            }
            let first = shards.len();
            for home in table.homes.get_ref() {
                if let Some(home) = self.position(home, regions, "region") {
                    shards.push(Shard {
                        table: TableId(position as u8),
                        engine: table.engine,
                        home,
                    });
                }
            }
            tables.push(Table {
                name,
                engine: table.engine,
                shards: (first..shards.len()).map(|at| ShardId(at as u16)).collect(),
                rows,
                initial: if all_lists || appended.contains(table.name.get_ref()) {
                    Value::List([].into())
                } else {
                    Value::Int(table.initial)
                },
            });
        }
        (tables, shards)
    }

    fn links(
        &mut self,
        raw: &file::Network,
        places: &[Place],
        layout: &Layout,
    ) -> (Vec<Vec<u16>>, Vec<Link>) {
        let names: Vec<String> = layout
            .regions
            .iter()
            .map(|region| region.name.clone())
            .collect();
        let jitter = raw.jitter.map_or(0.05, |share| share.probability());
        let class = |base_ns: u64, bandwidth: u64| Link {
            latency: Latency {
                base_ns,
                jitter_ns: (base_ns as f64 * jitter) as u64,
            },
            bandwidth,
            loss_ppm: raw.loss.ppm,
            duplicate_ppm: raw.duplicate.ppm,
            reorder_ppm: raw.reorder.ppm,
        };
        let within = class(self.ns(&raw.within_zone, 100_000), 0);
        let between_zones = class(self.ns(&raw.between_zones, 500_000), 0);
        let bandwidth = raw.bandwidth.map_or(0, |bandwidth| bandwidth.bytes_per_s);
        let mut classes = vec![within, between_zones];
        let mut directions: BTreeMap<(usize, usize), u16> = BTreeMap::new();
        let one_way_last = |link: &&file::LinkEntry| link.between.is_none();
        let (one_way, both_ways): (Vec<_>, Vec<_>) = raw.links.iter().partition(one_way_last);
        let mut given: BTreeSet<(bool, usize, usize)> = BTreeSet::new();
        for link in both_ways.into_iter().chain(one_way) {
            let ends = match (&link.between, &link.from, &link.to) {
                (Some((a, b)), None, None) | (None, Some(a), Some(b)) => (a, b),
                _ => {
                    self.refuse(
                        link.latency.span(),
                        "the link does not say what it joins, or says it twice",
                        "give `between = [A, B]` for both directions, or `from` and `to` for one",
                    );
                    continue;
                }
            };
            let (a, b) = ends;
            let ends = (
                self.position(a, &names, "region"),
                self.position(b, &names, "region"),
            );
            let (Some(a_at), Some(b_at)) = ends else {
                continue;
            };
            if a_at == b_at {
                self.refuse(
                    b.span(),
                    "a link joins two different regions",
                    "delays within a region are `within-zone` and `between-zones`",
                );
            }
            let latency_ns = self.required_ns(&link.latency);
            let both = link.between.is_some();
            let pair = match both {
                true => (true, a_at.min(b_at), a_at.max(b_at)),
                false => (false, a_at, b_at),
            };
            if !given.insert(pair) {
                self.refuse(
                    a.span(),
                    "this pair of regions already has a link",
                    "remove one of the two",
                );
            }
            let at = classes.len() as u16;
            directions.insert((a_at, b_at), at);
            if both {
                directions.insert((b_at, a_at), at);
            }
            let usual = class(
                latency_ns,
                link.bandwidth.map_or(bandwidth, |b| b.bytes_per_s),
            );
            let ppm =
                |own: Option<super::units::Share>, usual: u32| own.map_or(usual, |own| own.ppm);
            classes.push(Link {
                latency: Latency {
                    jitter_ns: { link.jitter }.map_or(usual.latency.jitter_ns, |jitter| {
                        (latency_ns as f64 * jitter.probability()) as u64
                    }),
                    ..usual.latency
                },
                loss_ppm: ppm(link.loss, usual.loss_ppm),
                duplicate_ppm: ppm(link.duplicate, usual.duplicate_ppm),
                reorder_ppm: ppm(link.reorder, usual.reorder_ppm),
                ..usual
            });
        }
        let default = raw.between_regions.as_ref().map(|latency| {
            let latency_ns = self.required_ns(latency);
            classes.push(class(latency_ns, bandwidth));
            (classes.len() - 1) as u16
        });
        for a in 0..names.len() {
            for b in 0..names.len() {
                let has_link = directions.contains_key(&(a, b));
                match default {
                    _ if has_link || a == b => {}
                    Some(class) => drop(directions.insert((a, b), class)),
                    // Where both directions are missing, once is enough.
                    None if b < a && !directions.contains_key(&(b, a)) => {}
                    None => self.refuse(
                        0..0,
                        format!(
                            "no delay is given between `{}` and `{}`",
                            names[a], names[b]
                        ),
                        "add a [[network.link]] for the pair, or `between-regions` for all others",
                    ),
                }
            }
        }
        let class_of = |from: &Place, to: &Place| {
            let (a, b) = (usize::from(from.region), usize::from(to.region));
            match (a == b, from.zone == to.zone) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => directions.get(&(a, b)).copied().unwrap_or(0),
            }
        };
        let row = |from: &Place| places.iter().map(|to| class_of(from, to)).collect();
        (places.iter().map(row).collect(), classes)
    }

    /// The one machine of that name.
    fn machine(&mut self, name: &Spanned<String>, places: &[Place]) -> Option<NodeId> {
        let found = places
            .iter()
            .position(|place| place.name == *name.get_ref());
        if found.is_none() {
            let examples = list(places.iter().map(|place| &place.name).take(4));
            self.refuse(
                name.span(),
                format!("`{}` is no machine", name.get_ref()),
                format!("name one machine, such as {examples}"),
            );
        }
        found.map(|at| NodeId(at as u16))
    }

    /// What is declared about wall clocks, and what they do. With a bound they keep it, but for liars, and those leave it.
    fn clocks(
        &mut self,
        file: &File,
        faults: &[(&FaultEntry, FaultSpec)],
        safety_ns: u64,
    ) -> Clocks {
        let machines = &file.machines;
        let bound_ns = { machines.clock_bound.as_ref() }.map(|bound| self.required_ns(bound));
        let stated_skew_ns = { machines.clock_skew.as_ref() }.map(|skew| self.required_ns(skew));
        let offsets = file.regions.iter();
        let mut clocks = Clocks {
            bound_ns,
            skew_ns: stated_skew_ns.unwrap_or(0),
            drift_ppm: machines.clock_drift_ppm,
            region_offset_ns: offsets
                .map(|region| {
                    region
                        .clock_offset
                        .as_ref()
                        .map(|offset| offset.get_ref().ns)
                })
                .collect(),
        };
        let is_liar = |entry: &FaultEntry| *entry.kind.get_ref() == FaultName::ClockLiar;
        let (Some(bound_ns), Some(bound)) = (bound_ns, &machines.clock_bound) else {
            for (entry, _) in faults.iter().filter(|(entry, _)| is_liar(entry)) {
                self.refuse(
                    entry.kind.span(),
                    "no clock can lie where no bound is declared",
                    "add `clock-bound` to [machines], or use `clock-step` or `clock-drift`",
                );
            }
            return clocks;
        };
        if bound_ns == 0 {
            self.refuse(
                bound.span(),
                "no clock is exact",
                "use a bound above 0, such as \"1us\"",
            );
        }
        let power_ns = self.ns(&file.phases.power_cycle, 5_000_000_000);
        let run_ns = longest_run_ns(safety_ns, file.phases.settle.get_ref().as_ns(), power_ns);
        // By how much the scenario's honest faults move each machine's clock, at worst.
        let mut moved_ns: BTreeMap<NodeId, u64> = BTreeMap::new();
        for (entry, spec) in faults {
            for kind in &spec.kinds {
                let (least_ns, most_ns) = moved_by(spec, kind, safety_ns, run_ns);
                if is_liar(entry) && least_ns <= bound_ns.saturating_mul(2) {
                    self.refuse(
                        entry.kind.span(),
                        format!(
                            "this clock may stay within the bound: it moves by as little as {}",
                            human_ns(least_ns)
                        ),
                        format!(
                            "move it by more than {}, twice `machines.clock-bound`, with a larger `by`, `ppm` or `for`",
                            human_ns(bound_ns.saturating_mul(2))
                        ),
                    );
                }
                if !is_liar(entry) {
                    for node in kind.nodes() {
                        let moved = moved_ns.entry(node).or_default();
                        *moved = moved.saturating_add(most_ns);
                    }
                }
            }
        }
        let moved_ns = moved_ns.into_values().max().unwrap_or(0);
        let drifted_ns = gained_ns(run_ns, clocks.drift_ppm);
        let left_ns = bound_ns.checked_sub(moved_ns.saturating_add(drifted_ns));
        let farthest = clocks.region_offset_ns.iter().flatten();
        let farthest_ns = farthest.map(|ns| ns.unsigned_abs()).max().unwrap_or(0);
        let start_ns = stated_skew_ns.unwrap_or(0).max(farthest_ns);
        clocks.skew_ns = stated_skew_ns.unwrap_or(left_ns.unwrap_or(0));
        if left_ns.is_none_or(|left_ns| left_ns < start_ns) {
            let worst_ns = start_ns.saturating_add(moved_ns).saturating_add(drifted_ns);
            self.refuse(
                bound.span(),
                format!(
                    "clocks leave this bound without a lie: they start up to {} off, drift by {} in {}, and clock faults move one by {}",
                    human_ns(start_ns),
                    human_ns(drifted_ns),
                    human_ns(run_ns),
                    human_ns(moved_ns)
                ),
                format!(
                    "declare at least {}, or use `clock-liar` for faults that are to break the bound",
                    human_ns(worst_ns)
                ),
            );
        }
        clocks
    }

    /// How far swarm plans may go.
    fn swarm(&mut self, raw: &file::Swarm, safety_ns: u64, clocks_are_bounded: bool) -> Bounds {
        let names: Vec<String> = { Class::ALL.iter() }
            .map(|class| class.name().to_owned())
            .collect();
        let mut classes_of = |chosen: &[Spanned<String>]| -> Vec<Class> {
            let chosen = chosen.iter();
            chosen
                .filter_map(|name| self.position(name, &names, "class of fault"))
                .map(|at| Class::ALL[at])
                .collect()
        };
        let without = classes_of(&raw.without);
        let mut classes = match &raw.classes {
            Some(chosen) => classes_of(chosen),
            None => { Class::ALL.into_iter() }
                .filter(|class| *class != Class::ClockLiar)
                .collect(),
        };
        if raw.clock_lies.as_ref().is_some_and(|lies| *lies.get_ref()) {
            classes.push(Class::ClockLiar);
        }
        if classes.contains(&Class::ClockLiar) && !clocks_are_bounded {
            let named = raw.classes.iter().flatten();
            let mut named = named.filter(|name| name.get_ref() == Class::ClockLiar.name());
            let by_name = named.next().map(Spanned::span);
            let span = by_name.or(raw.clock_lies.as_ref().map(Spanned::span));
            self.refuse(
                span.unwrap_or(0..0),
                "no clock can lie where no bound is declared",
                "add `clock-bound` to [machines]",
            );
        }
        classes.retain(|class| !without.contains(class));
        classes.sort_unstable();
        classes.dedup();
        let longest_ns = self.ns(&raw.longest, safety_ns / 3);
        let count = |value: &Option<Spanned<u32>>| value.as_ref().map(|count| *count.get_ref());
        for value in [&raw.episodes, &raw.transactions].into_iter().flatten() {
            if *value.get_ref() == 0 {
                self.refuse(value.span(), "nothing would happen", "use at least 1");
            }
        }
        Bounds {
            classes,
            probability: raw.probability.map_or(0.5, |share| share.probability()),
            episodes: count(&raw.episodes).unwrap_or(3),
            longest_ns,
            own_faults: raw.own_faults.unwrap_or(true),
            workload: raw.workload.unwrap_or(true),
            transactions: count(&raw.transactions),
            options: raw.options.map_or(0.0, |share| share.probability()),
            permanent: raw.permanent.map_or(0.0, |share| share.probability()),
        }
    }

    /// The machines that a pattern of a fault names.
    fn nodes(&mut self, patterns: &Spanned<Vec<Spanned<String>>>, places: &[Place]) -> Vec<NodeId> {
        let mut nodes = BTreeSet::new();
        for pattern in patterns.get_ref() {
            let wanted = pattern.get_ref().as_str();
            let matches = |place: &Place| {
                let (region, role) = place.name.split_once('/').expect("named region/role");
                match wanted.split_once('/') {
                    None if wanted == "*" => true,
                    None => match wanted.strip_prefix("cloud:") {
                        Some(cloud) => place.cloud == cloud,
                        None => region == wanted,
                    },
                    Some((of, zone)) if zone.starts_with("zone") => {
                        (of == "*" || of == region) && zone[4..] == place.zone.to_string()
                    }
                    Some((of, wanted)) => (of == "*" || of == region) && role == wanted,
                }
            };
            let found = places
                .iter()
                .enumerate()
                .filter(|(_, place)| matches(place));
            let before = nodes.len();
            nodes.extend(found.map(|(at, _)| NodeId(at as u16)));
            if nodes.len() == before && !places.iter().any(matches) {
                let examples = list(places.iter().map(|place| &place.name).take(4));
                self.refuse(
                    pattern.span(),
                    format!("`{wanted}` names no machine"),
                    format!("name a region, `cloud:NAME`, `REGION/zoneN`, `*`, or a machine such as {examples}"),
                );
            }
        }
        if patterns.get_ref().is_empty() {
            self.refuse(
                patterns.span(),
                "the fault strikes no machine",
                "name at least one",
            );
        }
        nodes.into_iter().collect()
    }

    fn fault(
        &mut self,
        entry: &FaultEntry,
        before: &[FaultEntry],
        places: &[Place],
        layout: &Layout,
        safety_ns: u64,
    ) -> Option<FaultSpec> {
        let at = entry.kind.span();
        let known = self.problems.len();
        let when = self.when(entry, before, places, safety_ns);
        let (times, every_ns) = self.recurrence(entry, safety_ns);
        let for_ns = entry.duration.as_ref().and_then(|duration| {
            let bounds = duration.get_ref().bounds_ns();
            if bounds.0 <= 0 || bounds.1 < bounds.0 || bounds.1 > DAY_NS {
                self.refuse(
                    duration.span(),
                    "the duration is out of range",
                    "use more than 0, and the smaller bound first",
                );
                return None;
            }
            Some((bounds.0 as u64, bounds.1 as u64))
        });
        let nodes = match &entry.nodes {
            Some(nodes) => self.nodes(nodes, places),
            None => {
                self.refuse(
                    at.clone(),
                    "the fault does not say which machines it strikes",
                    "add `nodes = [...]`",
                );
                Vec::new()
            }
        };
        self.only_keys_of_its_kind(entry);
        if let (true, Some(duration)) = (entry.permanent, &entry.duration) {
            self.refuse(
                duration.span(),
                "a permanent fault lasts for good, and this one would end",
                "remove `for`, or `permanent`",
            );
        }
        let kinds = self.kinds(entry, nodes, places, layout);
        // What is already refused may only seem to have no effect.
        if self.problems.len() == known {
            for kind in &kinds {
                self.must_have_an_effect(entry, kind);
            }
        }
        when.map(|when| FaultSpec {
            when,
            for_ns,
            permanent: entry.permanent,
            times,
            every_ns,
            kinds,
        })
    }

    /// How often a fault comes, and how far apart.
    fn recurrence(&mut self, entry: &FaultEntry, safety_ns: u64) -> (u32, u64) {
        let times = entry.times.as_ref().map_or(1, |times| *times.get_ref());
        let every_ns = self.ns(&entry.every, 0);
        if let Some(given) = &entry.times
            && !(1..=1_000).contains(&times)
        {
            self.refuse(
                given.span(),
                format!("a fault cannot come {times} times"),
                "use 1 to 1,000",
            );
            return (1, 0);
        }
        match (&entry.every, &entry.times) {
            (Some(every), Some(_)) => {
                let longest = entry
                    .duration
                    .as_ref()
                    .map(|duration| duration.get_ref().bounds_ns().1);
                if longest.is_none_or(|longest| longest as u64 > every_ns) && times > 1 {
                    self.refuse(
                        every.span(),
                        "the fault would come again before it has ended",
                        "give `for`, and an `every` that is not shorter",
                    );
                }
                let first =
                    { entry.at.as_ref() }.map_or(0, |at| at.get_ref().bounds_ns().1.max(0) as u64);
                let last_ns = first.saturating_add(every_ns.saturating_mul(u64::from(times) - 1));
                if last_ns > safety_ns {
                    self.refuse(
                        every.span(),
                        "the last of these faults would begin outside the safety phase",
                        "use fewer `times`, a shorter `every`, or a longer `phases.safety`",
                    );
                }
            }
            (Some(every), None) => self.refuse(
                every.span(),
                "nothing says how often the fault comes",
                "add `times`",
            ),
            (None, Some(given)) if times > 1 => self.refuse(
                given.span(),
                "nothing says how far apart the faults are",
                "add `every`",
            ),
            _ => {}
        }
        (times, every_ns)
    }

    /// The fault, among those above it, at whose end another begins.
    fn follows(
        &mut self,
        entry: &FaultEntry,
        name: &Spanned<String>,
        before: &[FaultEntry],
    ) -> Option<WhenSpec> {
        let name_of = |fault: &FaultEntry| fault.name.as_ref().map(|name| name.get_ref().clone());
        let names: Vec<String> = before.iter().filter_map(name_of).collect();
        let found =
            { before.iter() }.position(|fault| name_of(fault).as_ref() == Some(name.get_ref()));
        let Some(fault) = found else {
            let help = match meant(name.get_ref(), names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if names.is_empty() => "give a fault above this one a `name`".to_owned(),
                None => format!("faults above are {}", list(names)),
            };
            let message = format!("no fault above is called `{}`", name.get_ref());
            self.refuse(name.span(), message, help);
            return None;
        };
        let of = &before[fault];
        if of.after.is_some() || of.duration.is_none() || of.permanent {
            self.refuse(
                name.span(),
                format!("nobody knows beforehand when `{}` ends", name.get_ref()),
                "give it `at` (or `follows`) and `for`; to follow a crash at a moment, use `after` with the observation `booted`",
            );
            return None;
        }
        let times = of.times.as_ref().map_or(1, |times| *times.get_ref());
        let nth = entry.nth.as_ref().map_or(times, |nth| *nth.get_ref());
        if let Some(given) = &entry.nth
            && !(1..=times).contains(&nth)
        {
            self.refuse(
                given.span(),
                format!("`{}` comes {times} times", name.get_ref()),
                format!("use 1 to {times}"),
            );
            return None;
        }
        let (low, high) =
            { entry.delay.as_ref() }.map_or((0, 0), |delay| delay.get_ref().bounds_ns());
        if let Some(delay) = &entry.delay
            && (low < 0 || high < low || high > DAY_NS)
        {
            self.refuse(
                delay.span(),
                "the delay is out of range",
                "use 0 or more, and the smaller bound first",
            );
            return None;
        }
        Some(WhenSpec::EndOf {
            fault,
            nth: nth.max(1) - 1,
            delay_ns: (low as u64, high as u64),
        })
    }

    fn when(
        &mut self,
        entry: &FaultEntry,
        before: &[FaultEntry],
        places: &[Place],
        safety_ns: u64,
    ) -> Option<WhenSpec> {
        if entry.follows.is_none()
            && let Some(span) = { entry.delay.as_ref().map(Spanned::span) }
                .or(entry.nth.as_ref().map(Spanned::span))
        {
            self.refuse(
                span,
                "nothing says which fault this one follows",
                "add `follows`",
            );
        }
        if let (Some(name), None, None) = (&entry.follows, &entry.at, &entry.after) {
            return self.follows(entry, name, before);
        }
        match (&entry.at, &entry.after) {
            _ if entry.follows.is_some() => {
                self.refuse(
                    entry.kind.span(),
                    "the fault has two times",
                    "give one of `at`, `after` and `follows`",
                );
                None
            }
            (Some(at), None) => {
                let (low, high) = at.get_ref().bounds_ns();
                if low < 0 || high < low || high as u64 > safety_ns {
                    self.refuse(
                        at.span(),
                        "the fault would begin outside the safety phase",
                        "use a time from 0 to `phases.safety`, the smaller bound first",
                    );
                }
                Some(WhenSpec::At {
                    low_ns: low.max(0) as u64,
                    high_ns: high.max(low).max(0) as u64,
                })
            }
            (None, Some(after)) => {
                let moment = after.get_ref();
                Some(WhenSpec::Moment {
                    from_ns: self.ns(&moment.from, 0),
                    observation: moment.observation.get_ref().clone(),
                    named_at: moment.observation.span(),
                    by: { moment.by.as_ref() }.and_then(|by| self.machine(by, places)),
                    count: moment
                        .count
                        .as_ref()
                        .map_or(1, |count| (*count.get_ref()).max(1)),
                    latest_ns: moment
                        .latest
                        .as_ref()
                        .map(|latest| self.required_ns(latest)),
                })
            }
            _ => {
                self.refuse(
                    entry.kind.span(),
                    "the fault has no time, or two",
                    "give one of `at`, `after` and `follows`",
                );
                None
            }
        }
    }

    /// Refuses keys that say nothing about a fault of this kind, instead of ignoring them.
    fn only_keys_of_its_kind(&mut self, entry: &FaultEntry) {
        use FaultName::*;
        let kind = *entry.kind.get_ref();
        let keys: [KeyOfKinds; 17] = [
            (
                "to",
                entry.to.as_ref().map(Spanned::span),
                &[Partition, Flap, Degrade],
            ),
            (
                "one-way",
                entry.one_way.as_ref().map(Spanned::span),
                &[Partition, Degrade],
            ),
            (
                "unflushed",
                entry.unflushed.as_ref().map(Spanned::span),
                &[Crash, Dark],
            ),
            (
                "percent",
                entry.percent.as_ref().map(Spanned::span),
                &[Slow, SlowFlush],
            ),
            (
                "probability",
                entry.probability.as_ref().map(Spanned::span),
                &[FailFlush],
            ),
            ("kept", entry.kept.as_ref().map(Spanned::span), &[FailFlush]),
            ("down", entry.down.as_ref().map(Spanned::span), &[Flap]),
            ("up", entry.up.as_ref().map(Spanned::span), &[Flap]),
            ("loss", entry.loss.as_ref().map(Spanned::span), &[Degrade]),
            (
                "duplicate",
                entry.duplicate.as_ref().map(Spanned::span),
                &[Degrade],
            ),
            (
                "reorder",
                entry.reorder.as_ref().map(Spanned::span),
                &[Degrade],
            ),
            (
                "latency",
                entry.latency.as_ref().map(Spanned::span),
                &[Degrade],
            ),
            (
                "jitter",
                entry.jitter.as_ref().map(Spanned::span),
                &[Degrade],
            ),
            (
                "bandwidth",
                entry.bandwidth.as_ref().map(Spanned::span),
                &[Degrade],
            ),
            (
                "by",
                entry.by.as_ref().map(Spanned::span),
                &[ClockStep, ClockLiar],
            ),
            (
                "ppm",
                entry.ppm.as_ref().map(Spanned::span),
                &[ClockDrift, ClockLiar],
            ),
            (
                "port",
                entry
                    .port
                    .as_ref()
                    .or(entry.file.as_ref())
                    .map(Spanned::span),
                &[CorruptRead],
            ),
        ];
        for (key, span, kinds) in keys {
            if let Some(span) = span
                && !kinds.contains(&kind)
            {
                self.refuse(
                    span,
                    format!("`{key}` says nothing about a fault of this kind"),
                    "remove it, or choose the kind that it belongs to",
                );
            }
        }
    }

    fn kinds(
        &mut self,
        entry: &FaultEntry,
        nodes: Vec<NodeId>,
        places: &[Place],
        layout: &Layout,
    ) -> Vec<FaultKind> {
        let is_client = |node: &NodeId| layout.regions.iter().any(|region| region.client == *node);
        let everyone = || (0..layout.nodes).map(NodeId);
        let other_side = |resolver: &mut Self| match &entry.to {
            Some(to) => resolver.nodes(to, places),
            None => everyone().filter(|node| !nodes.contains(node)).collect(),
        };
        let one_way = { entry.one_way.as_ref() }.is_some_and(|one_way| *one_way.get_ref());
        match *entry.kind.get_ref() {
            FaultName::Dark => {
                // Clients outlive the machines that they talk to: they are cut off, not crashed.
                let loss = self.loss(entry);
                let (clients, machines): (Vec<_>, Vec<_>) =
                    nodes.iter().copied().partition(is_client);
                let others = everyone().filter(|node| !clients.contains(node)).collect();
                let mut kinds = vec![FaultKind::Crash {
                    nodes: machines,
                    loss,
                }];
                if !clients.is_empty() {
                    kinds.push(FaultKind::Cut {
                        from: clients,
                        to: others,
                        both_ways: true,
                    });
                }
                kinds
            }
            FaultName::Crash => {
                let loss = self.loss(entry);
                if nodes.iter().any(is_client) {
                    self.refuse(
                        entry.kind.span(),
                        "client machines do not crash",
                        "name fronts or shards, or use kind = \"dark\" or \"partition\"",
                    );
                }
                vec![FaultKind::Crash { nodes, loss }]
            }
            FaultName::Pause => vec![FaultKind::Pause { nodes }],
            FaultName::Slow => vec![FaultKind::Slow {
                percent: self.percent(entry),
                nodes,
            }],
            FaultName::SlowFlush => vec![FaultKind::SlowFlush {
                percent: self.percent(entry),
                nodes,
            }],
            FaultName::Partition => {
                let to = other_side(self);
                vec![FaultKind::Cut {
                    from: nodes,
                    to,
                    both_ways: !one_way,
                }]
            }
            FaultName::Flap => {
                let to = other_side(self);
                let (down_ns, up_ns) = (self.ns(&entry.down, 0), self.ns(&entry.up, 0));
                if down_ns == 0 || up_ns == 0 {
                    self.refuse(
                        entry.kind.span(),
                        "a flapping link goes down and comes up",
                        "give `down` and `up`, both above 0",
                    );
                }
                vec![FaultKind::Flap {
                    from: nodes,
                    to,
                    down_ns,
                    up_ns,
                }]
            }
            FaultName::Degrade => {
                let to = other_side(self);
                let ppm = |share: &Option<Spanned<super::units::Share>>| {
                    share.as_ref().map_or(0, |s| s.get_ref().ppm)
                };
                vec![FaultKind::Degrade {
                    from: nodes,
                    to,
                    loss_ppm: ppm(&entry.loss),
                    duplicate_ppm: ppm(&entry.duplicate),
                    reorder_ppm: ppm(&entry.reorder),
                    latency: Latency {
                        base_ns: self.ns(&entry.latency, 0),
                        jitter_ns: self.ns(&entry.jitter, 0),
                    },
                    bandwidth: entry
                        .bandwidth
                        .as_ref()
                        .map_or(0, |b| b.get_ref().bytes_per_s),
                    one_way: OneWay(one_way),
                }]
            }
            FaultName::FailFlush => {
                let probability = self.needed(entry, &entry.probability, "probability");
                let kept = entry.kept.as_ref();
                vec![FaultKind::FailFlush {
                    nodes,
                    probability_ppm: probability.map_or(0, |share| share.ppm),
                    kept_ppm: kept.map_or(FAILED_FLUSH_KEPT_PPM, |share| share.get_ref().ppm),
                }]
            }
            FaultName::CorruptRead => nodes
                .into_iter()
                .map(|node| FaultKind::CorruptRead {
                    node,
                    port: entry.port.as_ref().map_or(0, |port| *port.get_ref()),
                    file: entry.file.as_ref().map_or(0, |file| *file.get_ref()),
                    position: 0,
                })
                .collect(),
            FaultName::ClockStep => {
                let by = self.needed(entry, &entry.by, "by");
                vec![FaultKind::ClockStep {
                    nodes,
                    by_ns: by.map_or(0, |by| by.ns),
                }]
            }
            FaultName::ClockDrift => {
                let ppm = self.needed(entry, &entry.ppm, "ppm");
                vec![FaultKind::ClockDrift {
                    nodes,
                    by_ppm: ppm.unwrap_or(0),
                }]
            }
            FaultName::ClockLiar => match (&entry.by, &entry.ppm) {
                (Some(by), None) => vec![FaultKind::ClockStep {
                    nodes,
                    by_ns: by.get_ref().ns,
                }],
                (None, Some(ppm)) => vec![FaultKind::ClockDrift {
                    nodes,
                    by_ppm: *ppm.get_ref(),
                }],
                _ => {
                    self.refuse(
                        entry.kind.span(),
                        "a lying clock steps or drifts: one of the two",
                        "give either `by` or `ppm`",
                    );
                    Vec::new()
                }
            },
        }
    }

    /// Refuses a fault that would change nothing: a run under it would be taken for one that withstood it.
    fn must_have_an_effect(&mut self, entry: &FaultEntry, kind: &FaultKind) {
        let joins_nothing = |from: &[NodeId], to: &[NodeId]| {
            let mut pairs = from
                .iter()
                .flat_map(|from| to.iter().map(move |to| (from, to)));
            pairs.all(|(from, to)| from == to)
        };
        let (message, help) = match kind {
            FaultKind::Cut { from, to, .. }
            | FaultKind::Flap { from, to, .. }
            | FaultKind::Degrade { from, to, .. }
                if joins_nothing(from, to) =>
            {
                (
                    "no link lies between `nodes` and `to`: a machine always reaches itself",
                    "name other machines on one of the two sides",
                )
            }
            FaultKind::Degrade {
                loss_ppm: 0,
                duplicate_ppm: 0,
                reorder_ppm: 0,
                latency:
                    Latency {
                        base_ns: 0,
                        jitter_ns: 0,
                    },
                bandwidth: 0,
                ..
            } => (
                "the links would behave as usual",
                "add `loss`, `duplicate`, `reorder`, `latency`, `jitter` or `bandwidth`",
            ),
            FaultKind::Slow { percent: 100, .. } | FaultKind::SlowFlush { percent: 100, .. } => (
                "100 percent of the usual time is the usual time",
                "give another `percent`",
            ),
            FaultKind::ClockStep { by_ns: 0, .. } => {
                ("a step by nothing moves no clock", "give another `by`")
            }
            FaultKind::ClockDrift { by_ppm: 0, .. } => {
                ("no drift changes no clock", "give another `ppm`")
            }
            _ => return,
        };
        self.refuse(entry.kind.span(), message, help);
    }

    fn needed<T: Copy>(
        &mut self,
        entry: &FaultEntry,
        value: &Option<Spanned<T>>,
        key: &str,
    ) -> Option<T> {
        if value.is_none() {
            self.refuse(
                entry.kind.span(),
                format!("a fault of this kind needs `{key}`"),
                format!("add `{key}`"),
            );
        }
        value.as_ref().map(|value| *value.get_ref())
    }

    fn percent(&mut self, entry: &FaultEntry) -> u32 {
        let percent = self.needed(entry, &entry.percent, "percent").unwrap_or(100);
        if !(1..=1_000_000).contains(&percent) {
            self.refuse(
                entry.kind.span(),
                format!("{percent} percent is out of range"),
                "use 1 to 1,000,000",
            );
        }
        percent
    }

    fn loss(&mut self, entry: &FaultEntry) -> CrashLoss {
        match entry
            .unflushed
            .as_ref()
            .map(|word| (word.get_ref().as_str(), word.span()))
        {
            None | Some(("lost", _)) => CrashLoss::Lost,
            Some(("kept", _)) => CrashLoss::Kept,
            Some(("torn", _)) => CrashLoss::Torn(0),
            Some((other, span)) => {
                self.refuse(
                    span,
                    format!("unflushed bytes cannot be `{other}`"),
                    "use \"lost\", \"kept\" or \"torn\"",
                );
                CrashLoss::Lost
            }
        }
    }
}
