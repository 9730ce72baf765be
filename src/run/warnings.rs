//! What a run of a scenario is unlikely to show, said before it is run: the scenario is sound, and asks too little.

use crate::base::options::Domain;
use crate::protocol::{Atomicity, Progress, Protocol};
use crate::run::options;
use crate::scenario::Scenario;
use crate::scenario::units::human_ns;

/// Warnings about a protocol in a scenario whose options are those of `scenario`: a sentence each.
pub fn of<P: Protocol>(scenario: &Scenario) -> Vec<String> {
    // What is wrong with the options is told elsewhere.
    let Ok(chosen) = options::with::<P>(scenario, &Default::default()) else {
        return Vec::new();
    };
    let promises = P::promises(&chosen);
    let mut warnings = Vec::new();
    let replicas = scenario.layout.fronts().count();
    if matches!(promises.progress(), Progress::Log { .. }) && replicas < 3 {
        warnings.push(format!(
            "the log has {replicas} of the front machines for replicas, and none of them may fail: give three zones or regions in all"
        ));
    }
    if promises.atomicity() == Atomicity::Saga && !scenario.workload.has_readers() {
        warnings.push(
            "no transaction only reads, so that nobody sees what stands between the steps: give `reads` to the workload"
                .to_owned(),
        );
    }
    let values = serde_json::to_value(&chosen).expect("options are plain data");
    for option in options::described::<P>() {
        // Of the others it depends on more options whether anybody waits for them.
        let is_awaited = option.name.starts_with("client-") || option.name.contains("timeout");
        if !is_awaited || !matches!(option.domain, Domain::Milliseconds { .. }) {
            continue;
        }
        let path = option.name.split('.');
        let value = path.fold(&values, |table, key| &table[key]);
        let ns = value.as_u64().unwrap_or(0).saturating_mul(1_000_000);
        if ns > scenario.settle_ns {
            warnings.push(format!(
                "`{}` is longer than the settle phase of {}: what waits for it is not seen to end",
                option.name,
                human_ns(scenario.settle_ns)
            ));
        }
    }
    warnings
}
