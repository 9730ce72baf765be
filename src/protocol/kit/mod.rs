//! What protocols share, written once: clients, nodes, journals, deployment, execution.

pub mod client;
pub mod deploy;
pub mod execution;
pub mod journal;
pub mod node;
