//! What protocols share, written once: clients, nodes, journals, deployment, execution, and a participant of atomic commitment.

pub mod client;
pub mod deploy;
pub mod durable;
pub mod execution;
pub mod journal;
pub mod node;
pub mod participant;
pub mod replies;
pub mod votes;
