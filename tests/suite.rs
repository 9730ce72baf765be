//! All tests that need no process of their own, as one program: its libraries are compiled and linked once.
//!
//! `cargo test --test suite check_cli::` runs those of one file.

mod against_adya;
mod async_service;
mod bad_input;
mod calvin_faults;
mod calvin_interaction;
mod calvin_logs;
mod check_adversarial;
mod check_against_oracle;
mod check_cli;
mod check_elle_corpus;
mod check_histories;
mod check_lattice;
mod check_online;
mod check_parsers;
mod check_reports;
mod check_sessions;
mod check_smallest;
mod check_workloads;
mod cli;
mod clocks;
mod explore;
mod exports;
mod fuzz;
mod guide;
mod heuristic_decisions;
mod hosted;
mod incidents;
mod leads_to;
mod linearizability;
mod list_append_against_oracle;
mod litmus;
mod load_by_hand;
mod marks;
mod monolith;
mod numbers;
mod options;
mod oracle_definitions;
mod pages;
mod paired;
mod parser_fuzz;
mod percolator;
mod progress;
mod protocols_in_storms;
mod raft_connectivity;
mod raft_interaction;
mod raft_random;
mod raft_sim;
mod ramp;
mod readme;
mod refinement;
mod refinement_calvin;
mod refinement_raft;
mod register_against_oracle;
mod replay;
mod sagas_as_transactions;
mod scenario_reference;
mod shrink;
mod spanner;
mod stop_at_violation;
mod swarm;
mod sweep;
mod three_phase;
mod tidy;
mod workloads;
mod world_determinism;
mod world_faults;
mod world_guest;
mod world_reports;
mod xa;

// What they share.

#[path = "raft/cluster.rs"]
mod cluster;
#[path = "models/gray_lamport.rs"]
mod gray_lamport;
#[path = "support/histories.rs"]
mod histories;
#[path = "support/interferer.rs"]
mod interferer;
#[path = "support/judging.rs"]
mod judging;
mod oracle;
#[path = "support/scenarios.rs"]
mod scenarios;
mod support;
