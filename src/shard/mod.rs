//! What a data machine is made of: the write-ahead log below everything that must survive a crash.

pub mod wal;
