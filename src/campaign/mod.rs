//! Campaigns: many runs of the same scenario, each under another plan, to find the one that breaks a promise.
//!
//! [`swarm`] draws the plans, [`fuzz`] runs them on all cores, [`report`] is what comes out, which parts of a CI
//! matrix can [`merge`](report::merge), [`regress`] reads committed plans that are run first, and [`junit`] writes
//! what CI servers read. [`sweep`] compares at each of several points.

pub mod artifact;
pub mod compare;
pub mod covering;
pub mod explain;
pub mod fuzz;
#[cfg(feature = "zoo")]
pub mod hunt;
pub mod junit;
pub mod partition;
pub mod regress;
pub mod report;
pub mod shrink;
pub mod swarm;
pub mod sweep;
