//! What protocols share, written once: clients, nodes, journals, deployment, execution, a participant of atomic commitment, and a
//! replicated state machine.

pub mod client;
pub mod deploy;
pub mod durable;
pub mod execution;
pub mod journal;
pub mod lease;
pub mod node;
pub mod participant;
pub mod replicated;
pub mod replies;
pub mod votes;
