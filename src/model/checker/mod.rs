//! The checkers of explored graphs: exploration into nodes and labelled edges, and leads-to under fairness.

pub mod graph;
pub mod leads_to;
