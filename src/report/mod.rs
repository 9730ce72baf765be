//! Renders records for people: never runs anything.

pub mod plan;
pub mod text;
