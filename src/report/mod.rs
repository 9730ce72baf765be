//! Renders records for people: never runs anything.

pub mod export;
pub mod fuzz;
pub mod history;
pub mod page;
pub mod plan;
pub mod show;
pub mod text;
#[cfg(feature = "zoo")]
pub mod zoo;
