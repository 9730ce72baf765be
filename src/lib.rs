//! Deterministic simulation and formal verification of distributed transactions.
//!
//! The chain that the crate exists for: TLA+ specs, their stateright mirrors, the protocol code that runs
//! and the histories that clients saw are tied to one another, link by link. ARCHITECTURE.md says how.

#[cfg(not(madsim))]
compile_error!(
    "ordain needs `--cfg madsim`, which .cargo/config.toml sets; a crate that depends on ordain needs \
     `rustflags = [\"--cfg\", \"madsim\"]` under `[build]` in its own. A RUSTFLAGS environment variable \
     replaces that setting silently: unset RUSTFLAGS, or add `--cfg madsim` to it."
);

pub mod artifact;
pub mod campaign;
pub mod check;
pub mod cli;
pub mod client;
pub mod compare;
pub mod consensus;
pub mod digest;
pub mod failure;
pub mod fates;
pub mod hlc;
pub mod model;
pub mod monitor;
pub mod plan;
pub mod process;
pub mod protocol;
pub mod random;
pub mod record;
pub mod report;
pub mod scenario;
pub mod shard;
pub mod shrink;
pub mod sim;
pub mod stack;
pub mod trace;
pub mod txn;
pub mod verdict;
pub mod workload;
pub mod zoo;
