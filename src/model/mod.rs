//! Model checking: the only place that knows stateright.

pub mod explorer;
pub mod graph;
pub mod host;
pub mod host_raft;
pub mod hosted;
pub mod leads_to;
pub mod refine;
pub mod report;
pub mod spec;
