//! A commented scenario to start from.

use std::fmt::Write as _;

/// What `ordain new` asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// The scenario's name.
    pub name: String,
    /// Names of the regions.
    pub regions: Vec<String>,
    /// Zones of each region.
    pub zones: u16,
    /// Names of the tables. A transaction takes from the first and gives to each of the others.
    pub tables: Vec<String>,
    /// Arrivals a second.
    pub rate: f64,
    /// How long they come, seconds.
    pub seconds: u32,
    /// How often a charge is refused, in percent.
    pub refused_percent: f64,
    /// The rate in the middle, in terms of the usual one; 1 is no peak.
    pub peak: f64,
}

/// The text of a scenario. It can be read if the names are sound.
pub fn write(wanted: &Wanted) -> String {
    let Wanted {
        name,
        regions,
        zones,
        tables,
        rate,
        seconds,
        refused_percent,
        peak,
    } = wanted;
    let seconds = (*seconds).max(1);
    let transactions = (rate * f64::from(seconds)).ceil().max(1.0);
    let mut text = format!(
        "# {name}: say here what happens, and what you expect to see.\n\
         #\n\
         #   ordain show {name}.toml        machines, distances, load, hot rows\n\
         #   ordain compare {name}.toml     protocols side by side\n\
         #   ordain fuzz {name}.toml        faults drawn by seed\n\
         #\n\
         # Every key has a line in scenarios/REFERENCE.md. Unknown keys are refused.\n\n\
         name = \"{name}\"\n\
         summary = \"Payments over {} and a fault in the middle\"\n\
         # protocols = [\"2pc\", \"saga\", \"calvin\"]   # default: all that the machines carry\n\n\
         [phases]\n\
         safety = \"{}s\"   # faults may strike in this time\n\
         settle = \"60s\"   # then everything heals, and every request has to return within this time\n\n",
        tables.join(", "),
        seconds + 10,
    );
    for region in regions {
        let _ = write!(
            text,
            "[[region]]\nname = \"{region}\"\ncloud = \"{region}-cloud\"\nzones = {zones}   # one front machine in each\n\n"
        );
    }
    text += "[network]\n";
    if regions.len() > 1 {
        text += "between-regions = \"20ms\"   # one way; [[network.link]] for pairs and for single directions\n";
    }
    text += "# loss = \"0.05%\"\n\n[machines]\n# flush = \"500us\"\n# clock-skew = \"5ms\"\n\n";
    let homes: Vec<String> = regions
        .iter()
        .map(|region| format!("\"{region}\""))
        .collect();
    for (at, table) in tables.iter().enumerate() {
        let _ = write!(
            text,
            "[[table]]\nname = \"{table}\"\nengine = \"postgres\"   # or \"scylla\"\nrows = 1000\ninitial = {}\n\
             homes = [{}]   # one shard in each\n\n",
            if at == 0 { 10_000 } else { 0 },
            homes.join(", ")
        );
    }
    let quoted: Vec<String> = tables.iter().map(|table| format!("\"{table}\"")).collect();
    let _ = write!(
        text,
        "[workload]\ntransactions = {transactions}\nrate = {rate:.1}   # a second, over all regions\n\
         conserved = [{}]   # what moves between these tables is neither made nor lost\n\n",
        quoted.join(", ")
    );
    if *peak != 1.0 {
        let _ = write!(
            text,
            "[workload.profile]\nshape = \"peak\"   # or \"ramp\", \"daily\", \"flash-crowd\"\ntimes = {peak:.1}\n\
             from = \"{}ms\"\nfor = \"{}ms\"\n\n",
            1_000 + u64::from(seconds) * 400,
            u64::from(seconds) * 200,
        );
    }
    let others = tables.len().saturating_sub(1);
    let give = if others == 0 { 1 } else { others };
    let _ = write!(
        text,
        "[[workload.transaction]]\nname = \"payment\"\nweight = 80\namount = [1, 50]\n\n\
         [[workload.transaction.step]]\ntable = \"{}\"\ndo = \"add\"\ntimes = -{give}   # so often the amount\n\
         covered = true    # refused where the row holds less\n",
        tables[0]
    );
    if *refused_percent > 0.0 {
        let _ = writeln!(
            text,
            "refused = \"{refused_percent}%\"   # a card that is declined"
        );
    }
    let receivers = if others == 0 {
        &tables[..1]
    } else {
        &tables[1..]
    };
    for table in receivers {
        let _ = write!(
            text,
            "\n[[workload.transaction.step]]\ntable = \"{table}\"\ndo = \"add\"\ntimes = 1\n\
             # row = \"hot\"   # and hot-rows, hot-share; or \"uniform\", \"zipf\", \"latest\", \"next\"\n"
        );
    }
    let _ = write!(
        text,
        "\n[[workload.transaction]]\nname = \"statement\"   # somebody who looks\nweight = 20\n"
    );
    for table in tables {
        let _ = write!(
            text,
            "\n[[workload.transaction.step]]\ntable = \"{table}\"\ndo = \"read\"\nrow = \"latest\"\n"
        );
    }
    let _ = write!(
        text,
        "\n# [clients]\n# timeout = \"2s\"\n# attempts = 3\n# backoff = \"100ms\"\n\n\
         [[fault]]\nkind = \"crash\"   # or \"dark\", \"partition\", \"degrade\", \"pause\", \"slow\", ...\n\
         nodes = [\"{}/front0\"]\nat = \"{}ms\"\nfor = \"5s\"\n",
        regions[0],
        1_000 + u64::from(seconds) * 500,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;

    #[test]
    fn what_is_written_can_be_read_and_drawn() {
        for (regions, tables, peak) in [(1, 1, 1.0), (1, 3, 3.0), (3, 2, 0.5)] {
            let names = |what: &str, count: usize| -> Vec<String> {
                (0..count)
                    .map(|at| format!("{what}{}", ["a", "b", "c"][at]))
                    .collect()
            };
            let wanted = Wanted {
                name: "mine".to_owned(),
                regions: names("region-", regions),
                zones: 2,
                tables: names("table-", tables),
                rate: 12.5,
                seconds: 4,
                refused_percent: 4.0,
                peak,
            };
            let text = write(&wanted);
            let scenario = Scenario::read("mine.toml", &text, &["2pc"], &[])
                .unwrap_or_else(|bad| panic!("{bad}\n{text}"));
            assert_eq!(scenario.layout.regions.len(), regions);
            assert_eq!(scenario.workload.profile.is_some(), peak != 1.0);
            assert_eq!(Plan::draw(&scenario, 1).operations.len(), 50);
        }
    }
}
