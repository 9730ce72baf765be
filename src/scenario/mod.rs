//! Scenarios: validated plain data about topology, clocks, disks, engines, workload, faults and
//! expectations.

pub mod layout;
