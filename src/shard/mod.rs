//! What a data machine is made of: the write-ahead log below everything that must survive a crash, the lock
//! manager, the storage engines, and the store that a protocol works on.

pub mod engine;
pub mod locks;
pub mod postgres;
pub mod scylla;
pub mod store;
pub mod wal;
