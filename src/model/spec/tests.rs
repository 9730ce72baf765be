//! Every model of every spec: counts, verdicts and digests as the manifests record them, which TLC wrote.

use super::*;

use std::collections::BTreeSet;

/// More states than any model has.
const LIMIT: u32 = 3_000_000;

#[derive(serde::Deserialize)]
struct Manifest {
    models: Vec<Recorded>,
}

#[derive(serde::Deserialize)]
struct Recorded {
    name: String,
    config: String,
    specification: String,
    #[serde(default)]
    broken: bool,
    distinct: u64,
    generated: u64,
    depth: u32,
    properties: Vec<RecordedProperty>,
    graph: Option<RecordedGraph>,
}

#[derive(serde::Deserialize)]
struct RecordedProperty {
    name: String,
    kind: Kind,
    holds: bool,
}

#[derive(serde::Deserialize)]
struct RecordedGraph {
    states: usize,
    edges: usize,
    blake3: String,
}

fn manifests() -> Vec<(&'static str, Manifest)> {
    let read = |&(folder, text): &(&'static str, &str)| {
        (
            folder,
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{folder}: {error}")),
        )
    };
    MANIFESTS.iter().map(read).collect()
}

fn recorded(folder: &str) -> Vec<(Instance, Recorded)> {
    let (_, manifest) = manifests()
        .into_iter()
        .find(|(name, _)| *name == folder)
        .expect("a manifest");
    let instances: Vec<Instance> = instances()
        .into_iter()
        .filter(|instance| instance.folder == folder)
        .collect();
    let names: Vec<&str> = instances.iter().map(|instance| instance.name).collect();
    assert_eq!(
        names,
        manifest
            .models
            .iter()
            .map(|model| model.name.as_str())
            .collect::<Vec<_>>()
    );
    instances.into_iter().zip(manifest.models).collect()
}

/// Counts and verdicts of every model of a folder are those that TLC recorded.
fn agrees_with_tlc(folder: &str) {
    let models = recorded(folder);
    assert!(
        models.iter().any(|(_, model)| model.broken),
        "{folder}: at least one broken variant"
    );
    for (instance, model) in models {
        let what = format!("{folder}/{}", model.name);
        assert_eq!(model.config, format!("{}.cfg", model.name), "{what}");
        assert_eq!(model.specification, instance.config.specification, "{what}");
        let outcome = instance
            .check(LIMIT)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let Counts {
            distinct,
            generated,
            depth,
            ..
        } = outcome.counts;
        assert_eq!(
            (distinct, generated, depth),
            (model.distinct, model.generated, model.depth),
            "{what}"
        );
        let found: BTreeSet<_> = outcome
            .properties
            .iter()
            .map(|p| (p.name.clone(), p.kind, p.holds))
            .collect();
        let wanted: BTreeSet<_> = model
            .properties
            .iter()
            .map(|p| (p.name.clone(), p.kind, p.holds))
            .collect();
        assert_eq!(found, wanted, "{what}");
        let shown = |p: &PropertyOutcome| p.holds == p.counterexample.is_empty();
        assert!(outcome.properties.iter().all(shown), "{what}");
        assert!(
            !model.broken || model.properties.iter().any(|p| !p.holds),
            "{what}: broken, and nothing notices"
        );
    }
}

/// The graphs whose equality with TLC's was shown have not changed since.
fn graphs_are_those_that_were_compared(folder: &str) {
    let compared: Vec<_> = recorded(folder)
        .into_iter()
        .filter_map(|(instance, model)| Some((instance, model.graph?)))
        .collect();
    assert!(
        !compared.is_empty(),
        "{folder}: at least one graph is compared state by state"
    );
    for (instance, wanted) in compared {
        let graph = instance.graph(LIMIT).unwrap();
        assert_eq!(
            (graph.states.len(), graph.edges.len()),
            (wanted.states, wanted.edges),
            "{}",
            instance.name
        );
        assert_eq!(graph.digest(), wanted.blake3, "{}", instance.name);
    }
}

macro_rules! specs {
    ($($folder:ident)*) => {$(
        mod $folder {
            #[test]
            fn every_model_has_the_counts_and_verdicts_that_tlc_found() {
                super::agrees_with_tlc(stringify!($folder));
            }

            #[test]
            fn the_graphs_are_those_that_were_compared_with_tlc() {
                super::graphs_are_those_that_were_compared(stringify!($folder));
            }
        }
    )*};
}

specs! { calvin hlc raft_disk raft_log ramp saga three_phase two_phase }
