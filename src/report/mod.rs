//! Renders records for people: never runs anything.

pub mod fuzz;
pub mod history;
pub mod page;
pub mod plan;
#[cfg(feature = "record")]
pub mod recording;
pub mod show;
pub mod text;
#[cfg(feature = "zoo")]
pub mod zoo;
