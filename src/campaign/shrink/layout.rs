//! Edits of the layout: regions, zones and shards that the failure does without.
//!
//! Machines are numbered by the layout, so the scenario's text is edited and read again, and everything in
//! the plan that names a machine is renumbered by the machine's name. A link's fates follow from the
//! numbers of its machines: a smaller layout gets other fates, and is kept only if it still fails.

use std::sync::Arc;

use super::search::{Case, Edit};
use crate::base::process::NodeId;
use crate::fault::{FaultKind, When};
use crate::plan::{Environment, Machine, Plan};
use crate::scenario::Scenario;

/// The scenario with what a plan replaces left out: its faults, other protocols, their options. `None` if
/// its text cannot be reduced that way.
pub(super) fn only_for(scenario: &Scenario, protocol: &str) -> Option<Scenario> {
    let mut table = scenario.text.parse::<toml::Table>().ok()?;
    table.remove("fault");
    table.remove("swarm");
    let own = toml::Value::String(protocol.to_owned());
    table.insert("protocols".to_owned(), toml::Value::Array(vec![own]));
    for key in ["protocol", "expect"] {
        if let Some(toml::Value::Table(of_protocols)) = table.get_mut(key) {
            of_protocols.retain(|name, _| name == protocol);
        }
    }
    read(&table, scenario)
}

fn read(table: &toml::Table, before: &Scenario) -> Option<Scenario> {
    let text = toml::to_string(table).ok()?;
    // Whether its protocol can be deployed on it shows when it is run.
    let protocols: Vec<&str> = { table.get("protocols")?.as_array()?.iter() }
        .filter_map(toml::Value::as_str)
        .collect();
    Scenario::read(&before.name, &text, &protocols, &[]).ok()
}

/// Every edit that makes the layout smaller, the coarsest first.
pub(super) fn smaller(case: &Case) -> Vec<Edit> {
    let layout = &case.scenario.layout;
    let mut edits: Vec<Edit> = Vec::new();
    if layout.regions.len() > 1 {
        edits.extend((0..layout.regions.len()).map(without_region));
    }
    for (table, of) in layout.tables.iter().enumerate() {
        if of.shards.len() > 1 {
            edits.extend((0..of.shards.len()).map(|shard| without_shard(table, shard)));
        }
    }
    for (region, of) in layout.regions.iter().enumerate() {
        if of.fronts.len() > 1 {
            edits.push(without_zone(region));
        }
    }
    edits.push(Box::new(only_rows_in_use));
    edits.extend(fewer_client_regions(case));
    edits
}

/// Lets the clients of one region make the operations of another.
fn fewer_client_regions(case: &Case) -> Vec<Edit> {
    let mut regions: Vec<u16> = { case.plan.operations.iter() }
        .map(|operation| operation.region)
        .collect();
    regions.sort_unstable();
    regions.dedup();
    let to = regions.first().copied().unwrap_or_default();
    let moved = |from: u16| -> Edit {
        Box::new(move |case| {
            let mut case = case.clone();
            for operation in &mut case.plan.operations {
                if operation.region == from {
                    operation.region = to;
                }
            }
            Some(case)
        })
    };
    regions.into_iter().skip(1).map(moved).collect()
}

fn array<'a>(table: &'a mut toml::Table, key: &str) -> Option<&'a mut Vec<toml::Value>> {
    table.get_mut(key)?.as_array_mut()
}

fn is(value: &toml::Value, text: &str) -> bool {
    value.as_str() == Some(text)
}

/// Drops a region with its machines. Shards at home there move to the first region that is left, and so do
/// its clients.
fn without_region(region: usize) -> Edit {
    Box::new(move |case| {
        let regions = &case.scenario.layout.regions;
        let gone = regions[region].name.as_str();
        let heir = &regions[usize::from(region == 0)].name;
        let edit = |table: &mut toml::Table| {
            array(table, "region")?.remove(region);
            for of in array(table, "table")? {
                for home in of.get_mut("homes")?.as_array_mut()? {
                    if is(home, gone) {
                        *home = toml::Value::String(heir.clone());
                    }
                }
            }
            let ends_here = |link: &toml::Value| {
                let ends = link.get("between").and_then(toml::Value::as_array);
                let one_way = ["from", "to"].map(|end| link.get(end));
                ends.is_some_and(|ends| ends.iter().any(|end| is(end, gone)))
                    || one_way.into_iter().flatten().any(|end| is(end, gone))
            };
            let network = table.get_mut("network")?.as_table_mut()?;
            if let Some(links) = array(network, "link") {
                links.retain(|link| !ends_here(link));
            }
            let workload = table.get_mut("workload")?.as_table_mut()?;
            if let Some(clients) = array(workload, "clients") {
                clients.retain(|client| !is(client, gone));
                if clients.is_empty() {
                    workload.remove("clients");
                }
            }
            Some(())
        };
        let stays = |name: &str| {
            let of_region = name.split_once('/').map_or(name, |(region, _)| region);
            (of_region != gone).then(|| name.to_owned())
        };
        relaid(case, edit, stays)
    })
}

/// Drops the last zone of a region, and with it a front machine.
fn without_zone(region: usize) -> Edit {
    Box::new(move |case| {
        let of = &case.scenario.layout.regions[region];
        let last = of.fronts.len() - 1;
        let gone = format!("{}/front{last}", of.name);
        let edit = |table: &mut toml::Table| {
            let of = array(table, "region")?.get_mut(region)?.as_table_mut()?;
            of.insert("zones".to_owned(), toml::Value::Integer(last as i64));
            Some(())
        };
        relaid(case, edit, |name| (name != gone).then(|| name.to_owned()))
    })
}

/// Drops a shard of a table: its rows go to the table's other shards.
fn without_shard(table: usize, shard: usize) -> Edit {
    Box::new(move |case| {
        let of = &case.scenario.layout.tables[table];
        let edit = |text: &mut toml::Table| {
            let homes = array(text, "table")?.get_mut(table)?.get_mut("homes")?;
            homes.as_array_mut()?.remove(shard);
            Some(())
        };
        let renumbered = |name: &str| {
            let (region, role) = name.split_once('/')?;
            let at = (0..of.shards.len()).find(|at| role == format!("{}{at}", of.name));
            match at {
                Some(at) if at == shard => None,
                Some(at) if at > shard => Some(format!("{region}/{}{}", of.name, at - 1)),
                _ => Some(name.to_owned()),
            }
        };
        relaid(case, edit, renumbered)
    })
}

/// Gives every table only as many rows as the operations use.
fn only_rows_in_use(case: &Case) -> Option<Case> {
    let tables = &case.scenario.layout.tables;
    let mut used = vec![1; tables.len()];
    for key in { case.plan.operations.iter() }.flat_map(|operation| operation.txn.keys()) {
        let rows: &mut u32 = used.get_mut(usize::from(key.table.0))?;
        *rows = (*rows).max(key.row + 1);
    }
    if { tables.iter().zip(&used) }.all(|(table, used)| table.rows <= *used) {
        return None;
    }
    let edit = |text: &mut toml::Table| {
        for (table, used) in array(text, "table")?.iter_mut().zip(&used) {
            let rows = table.get_mut("rows")?;
            *rows = toml::Value::Integer(rows.as_integer()?.min(i64::from(*used)));
        }
        // Nothing is drawn from the workload any more, and these two must fit the rows.
        let workload = text.get_mut("workload")?.as_table_mut()?;
        if !workload.contains_key("transaction") {
            workload.insert("legs".to_owned(), toml::Value::Integer(1));
        }
        workload.remove("hot-rows");
        Some(())
    };
    relaid(case, edit, |name| Some(name.to_owned()))
}

/// Edits the scenario's text and carries the plan over: `renamed` gives a machine's new name, or `None` if it
/// is gone.
fn relaid(
    case: &Case,
    edit: impl Fn(&mut toml::Table) -> Option<()>,
    renamed: impl Fn(&str) -> Option<String>,
) -> Option<Case> {
    let before = &case.scenario;
    let mut table = before.text.parse::<toml::Table>().ok()?;
    // The plan has its own faults, and those of the text may name machines that go.
    table.remove("fault");
    table.remove("swarm");
    edit(&mut table)?;
    let after = read(&table, before)?;
    let new_at = |name: &str| after.places.iter().position(|place| place.name == name);
    let moved: Vec<Option<usize>> = { before.places.iter() }
        .map(|place| renamed(&place.name).and_then(|name| new_at(&name)))
        .collect();
    let old_at = |new: usize| moved.iter().position(|at| *at == Some(new));
    let sources: Vec<usize> = (0..after.places.len()).map(old_at).collect::<Option<_>>()?;
    let mut plan = case.plan.clone();
    if plan.environment.machines.len() != before.places.len() {
        return None;
    }
    plan.environment = rebuilt(&case.plan.environment, &after, &sources);
    let node = |old: NodeId| {
        { moved.get(usize::from(old.0)).copied().flatten() }.map(|at| NodeId(at as u16))
    };
    carry_faults(&mut plan, &node);
    carry_operations(&mut plan, before, &after);
    Some(Case {
        scenario: Arc::new(after),
        plan,
    })
}

/// The environment of the machines that are left, each as it was, in their new places.
fn rebuilt(before: &Environment, after: &Scenario, sources: &[usize]) -> Environment {
    let machine = |(place, source): (&crate::scenario::Place, &usize)| Machine {
        name: place.name.clone(),
        region: place.region,
        zone: place.zone,
        ..before.machines[*source].clone()
    };
    let row = |from: &usize| sources.iter().map(|to| before.links[*from][*to]).collect();
    Environment {
        machines: after.places.iter().zip(sources).map(machine).collect(),
        links: sources.iter().map(row).collect(),
        ..before.clone()
    }
}

/// Renumbers the machines that faults name. A fault that has lost a side, or the machine whose observations it
/// is aimed at, is gone.
fn carry_faults(plan: &mut Plan, node: &impl Fn(NodeId) -> Option<NodeId>) {
    let carry = |at: &mut NodeId| {
        let new = node(*at);
        *at = new.unwrap_or(*at);
        new.is_some()
    };
    plan.faults.retain_mut(|fault| {
        let aim = match &mut fault.when {
            When::Moment { by: Some(by), .. } => carry(by),
            _ => true,
        };
        let target = match &mut fault.kind {
            FaultKind::CorruptRead { node, .. } => carry(node),
            kind => {
                let mut whole = true;
                for side in kind.node_lists() {
                    side.retain_mut(carry);
                    whole &= !side.is_empty();
                }
                whole
            }
        };
        aim && target
    });
}

/// Lets clients of regions that are gone connect from the first one.
fn carry_operations(plan: &mut Plan, before: &Scenario, after: &Scenario) {
    let new_region = |old: u16| {
        let name = &before.layout.regions.get(usize::from(old))?.name;
        { after.layout.regions.iter() }.position(|region| region.name == *name)
    };
    for operation in &mut plan.operations {
        operation.region = new_region(operation.region).unwrap_or(0) as u16;
    }
}
