//! What protocols share, written once: clients, journals, deployment.

pub mod client;
pub mod deploy;
pub mod journal;
