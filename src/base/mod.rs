//! What every other room uses: the process contract, transactions, observations, clocks, digests, and the
//! switch of the planted bugs. It imports nothing else of ordain.

pub mod digest;
pub mod hlc;
pub mod monitor;
pub mod observation;
pub mod options;
pub mod process;
pub mod txn;
pub mod zoo;
