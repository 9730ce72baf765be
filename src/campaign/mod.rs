//! Campaigns: many runs of the same scenario, each under another plan, to find the one that breaks a promise.

pub mod swarm;
