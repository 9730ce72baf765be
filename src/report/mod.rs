//! Renders records for people: never runs anything.

pub mod text;
