//! The zoo's table.

use std::fmt::Write as _;

use crate::campaign::hunt::{Hunted, Limits};

/// The results of the hunts, as a Markdown document.
pub fn markdown(hunted: &[Hunted], limits: Limits) -> String {
    let found = hunted.iter().filter(|hunted| hunted.found).count();
    let all = hunted.len();
    let Limits {
        seeds, repetitions, ..
    } = limits;
    let mut out = format!(
        "# The zoo: planted bugs, and what finds them\n\n\
         {found} of {all} bugs found in each of {repetitions} hunts of at most {seeds} seeds.\n\n\
         Each hunt switches one bug on and runs swarm plans of the scenario, seed after seed, until a promise is \
         broken. *Found by* is the failure class of most hunts: a run ends with the first violation that a monitor \
         reports (log-safety, refinement), so what it would have led to is not judged then. *Seeds* is the median over \
         the hunts, with all of them in brackets; *shrunk* says how many faults and transactions are left of the first \
         hunt's plan.\n\n\
         | bug | what is wrong | hunted in | found by | seeds | faults shrunk | transactions shrunk |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for line in hunted {
        let _ = writeln!(out, "{}", row(line));
    }
    let _ = writeln!(out, "\n## Where the right thing is demanded\n");
    for line in hunted {
        let _ = writeln!(out, "- `{}`: {}.", line.planted.name, line.planted.source);
    }
    out
}

fn row(line: &Hunted) -> String {
    let planted = &line.planted;
    let number = |seeds: &Option<u64>| seeds.map_or("not found".to_owned(), |n| n.to_string());
    let each: Vec<String> = line.seeds.iter().map(number).collect();
    let shrunk = |before: Option<usize>, after: Option<usize>| match (before, after) {
        (Some(before), Some(after)) => format!("{before} -> {after}"),
        _ => "-".to_owned(),
    };
    format!(
        "| `{}` | {} | {}, {} | {} | {} ({}) | {} | {} |",
        planted.name,
        planted.wrong,
        planted.protocol,
        planted.scenario,
        line.found_by.as_deref().unwrap_or("nothing"),
        number(&line.median_seeds),
        each.join(", "),
        shrunk(line.faults, line.shrunk_faults),
        shrunk(line.transactions, line.shrunk_transactions),
    )
}
