//! Model checking: the only place that knows stateright.

pub mod checker;
pub mod explorer;
pub mod refine;
pub mod report;
pub mod spec;
pub mod worlds;
