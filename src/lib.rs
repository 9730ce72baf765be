//! Deterministic simulation and formal verification of distributed transactions.
//!
//! Four artefacts describe each protocol: its TLA+ spec, the spec's twin in Rust, the protocol code that runs, and the
//! histories that clients saw. Each is compared with its neighbour by a machine. ARCHITECTURE.md says how.

#[cfg(not(madsim))]
compile_error!(
    "ordain needs `--cfg madsim`, which .cargo/config.toml sets; a crate that depends on ordain needs \
     `rustflags = [\"--cfg\", \"madsim\"]` under `[build]` in its own. A RUSTFLAGS environment variable \
     replaces that setting silently: unset RUSTFLAGS, or add `--cfg madsim` to it."
);

pub mod base;
pub mod campaign;
pub mod check;
pub mod cli;
pub mod consensus;
pub mod fault;
pub mod model;
pub mod plan;
pub mod protocol;
pub mod registry;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shard;
pub mod sim;
pub mod verdict;
