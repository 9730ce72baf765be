//! A process's log with group commit: what is forced together shares a flush, one flush at a time.
//!
//! A record is either *forced*, and something happens once it is durable, or *lazy*: it travels with the next
//! forced one, and a crash may take it. While a flush is under way nothing is appended, so that a flush that
//! fails leaves exactly its own batch in doubt.
//!
//! # A failed flush
//!
//! After a flush has failed nobody knows what the file holds: the batch, a part of it or nothing (Rebello et al., "Can
//! Applications Recover from fsync Failures?", USENIX ATC 2020). Asking for another flush answers nothing: it may succeed
//! without writing what the first one lost. So the journal writes a new file, a checkpoint without the batch, and puts it
//! in the place of the old one. Once that is durable the batch is lost for certain, and its owner learns of it. Until
//! then nothing follows from the batch, neither way: a crash in between finds one file or the other. Where the new file
//! cannot be written either, the process halts. Its restart reads what the disk holds.
//!
//! ```
//! use ordain::base::process::{Effect, Effects, FileId};
//! use ordain::protocol::kit::journal::Journal;
//!
//! let mut out = Effects::<(), ()>::default();
//! let mut journal = Journal::<String, &str>::new(FileId(0), 1 << 16);
//! let balance = || "the balance".to_owned();
//! let asked = |out: &mut Effects<(), ()>| {
//!     let flush = out.drain().find_map(|effect| match effect {
//!         Effect::Flush(flush) => Some(flush),
//!         _ => None,
//!     });
//!     flush.expect("a flush is asked for")
//! };
//!
//! journal.force("debit 5".to_owned(), "tell the client");
//! journal.pump(balance, &mut out);
//! let flush = asked(&mut out);
//! journal.flush_failed(flush, &mut out);
//! journal.pump(balance, &mut out); // A new file, without the debit.
//! let flush = asked(&mut out);
//! assert_eq!(journal.flushed(flush).lost, ["tell the client"]);
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::observation::{Mark, Observation};
use crate::base::process::{Effects, FileId, FlushId};
use crate::base::zoo::{self, Bug};
use crate::shard::wal::{self, Corrupt, Tail};

/// A log shorter than this is not worth a checkpoint, unless its owner says otherwise.
pub const CHECKPOINT_MIN_BYTES: usize = 1 << 16;

/// The rare branches that a journal marks.
pub const MARKS: &[Mark] = &[
    (
        "journal.torn-tail-cut",
        "a crash tore the log's last record, and the restart cut it off",
    ),
    (
        "journal.damaged",
        "a restart read a damaged log and stopped, to read it again",
    ),
    (
        "journal.flush-failed",
        "a flush failed, and a new file took the log's place",
    ),
];

/// The batch whose flush is under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Batch<R, C> {
    flush: FlushId,
    records: Vec<(R, Option<C>)>,
    /// Frames in the file, and their bytes, if the flush succeeds.
    frames: u64,
    bytes: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    /// The records of a batch were appended.
    Append,
    /// A checkpoint replaced the file.
    Checkpoint,
    /// A checkpoint replaced the file because a flush had failed. The records are that flush's.
    Renewal,
    /// A torn tail was cut off.
    Cut,
}

/// What became of the records that were forced, as a completed flush tells: what was to follow each of them, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled<C> {
    /// The record is durable.
    pub durable: Vec<C>,
    /// The record is not in the log and never will be: its flush had failed.
    pub lost: Vec<C>,
}

impl<C> Default for Settled<C> {
    fn default() -> Self {
        Self {
            durable: Vec::new(),
            lost: Vec::new(),
        }
    }
}

/// A log of records `R`; a forced one is followed by `C`, the process's name for what happens next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Journal<R, C> {
    file: FileId,
    frames: u64,
    bytes: usize,
    /// Up to this size there is no checkpoint.
    checkpoint_min_bytes: usize,
    /// Size of the file after its last checkpoint.
    checkpoint_bytes: usize,
    flushes: u64,
    queue: Vec<(R, Option<C>)>,
    in_flight: Option<Batch<R, C>>,
    /// The batch of a flush that failed. Nobody knows whether the file holds it.
    in_doubt: Option<Batch<R, C>>,
}

impl<R: Serialize + DeserializeOwned, C> Journal<R, C> {
    /// An empty log in `file`, to be shortened by a checkpoint once it is longer than `checkpoint_min_bytes`
    /// and three times its last checkpoint.
    pub fn new(file: FileId, checkpoint_min_bytes: usize) -> Self {
        Self {
            file,
            frames: 0,
            bytes: 0,
            checkpoint_min_bytes,
            checkpoint_bytes: 0,
            flushes: 0,
            queue: Vec::new(),
            in_flight: None,
            in_doubt: None,
        }
    }

    /// Its file.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Whether the next [`pump`](Self::pump) asks for a snapshot.
    pub fn wants_snapshot(&self) -> bool {
        self.in_flight.is_none() && (self.in_doubt.is_some() || self.has_outgrown())
    }

    /// Whether the log is worth a checkpoint.
    fn has_outgrown(&self) -> bool {
        self.bytes > self.checkpoint_min_bytes.max(3 * self.checkpoint_bytes)
    }

    /// Takes up a log after the bytes that a boot found, and returns its records. A torn tail is cut off
    /// before anything else is written.
    ///
    /// # Errors
    ///
    /// When a record that may have been acknowledged is damaged.
    pub fn open<M, T>(&mut self, bytes: &[u8], out: &mut Effects<M, T>) -> Result<Vec<R>, Corrupt> {
        let recovered = wal::recover::<R>(bytes)
            .inspect_err(|_| out.observe(Observation::Mark("journal.damaged")))?;
        self.frames = recovered.records.len() as u64;
        self.bytes = bytes.len();
        if let Tail::Torn { cut_at } = recovered.tail
            && !zoo::planted(Bug::TornTailKept)
        {
            self.bytes = cut_at;
            out.observe(Observation::Mark("journal.torn-tail-cut"));
            out.replace(self.file, bytes[..cut_at].to_vec());
            self.flush(Vec::new(), self.frames, self.bytes, Kind::Cut, out);
        }
        Ok(recovered.records)
    }

    /// Queues a record; `then` comes back once it is durable, or once it is certain that it never will be.
    pub fn force(&mut self, record: R, then: C) {
        self.queue.push((record, Some(then)));
    }

    /// Queues a record that may be lost.
    pub fn write_lazily(&mut self, record: R) {
        self.queue.push((record, None));
    }

    /// Starts the next flush if there is something to force and none is under way, or a checkpoint of what
    /// `snapshot` says if the log has outgrown the last one or a flush has failed. To be called at the end of every step.
    pub fn pump<M, T>(&mut self, snapshot: impl FnOnce() -> R, out: &mut Effects<M, T>) {
        if self.in_flight.is_some() {
            return;
        }
        if let Some(batch) = self.in_doubt.take() {
            if zoo::planted(Bug::FlushRetried) {
                self.flush(batch.records, batch.frames, batch.bytes, batch.kind, out);
            } else if zoo::planted(Bug::FailedFlushWroteNothing) {
                let (frames, bytes) = (self.frames, self.bytes);
                self.flush(batch.records, frames, bytes, Kind::Renewal, out);
            } else {
                self.replace(batch.records, snapshot(), Kind::Renewal, out);
            }
        } else if self.has_outgrown() {
            self.replace(Vec::new(), snapshot(), Kind::Checkpoint, out);
        } else if self.queue.iter().any(|(_, then)| then.is_some()) {
            let records = std::mem::take(&mut self.queue);
            let (mut frames, mut bytes) = (self.frames, self.bytes);
            for (record, _) in &records {
                let frame = wal::encode(frames, record);
                frames += 1;
                bytes += frame.len();
                out.append(self.file, frame);
            }
            self.flush(records, frames, bytes, Kind::Append, out);
        }
    }

    fn replace<M, T>(
        &mut self,
        records: Vec<(R, Option<C>)>,
        snapshot: R,
        kind: Kind,
        out: &mut Effects<M, T>,
    ) {
        let frame = wal::encode(0, &snapshot);
        let bytes = frame.len();
        out.replace(self.file, frame);
        self.flush(records, 1, bytes, kind, out);
    }

    fn flush<M, T>(
        &mut self,
        records: Vec<(R, Option<C>)>,
        frames: u64,
        bytes: usize,
        kind: Kind,
        out: &mut Effects<M, T>,
    ) {
        assert!(self.in_flight.is_none(), "one flush at a time");
        self.flushes += 1;
        let flush = FlushId {
            owner: 0,
            sequence: self.flushes,
        };
        out.flush(flush);
        self.in_flight = Some(Batch {
            flush,
            records,
            frames,
            bytes,
            kind,
        });
    }

    /// A flush has completed: what became of records that were forced.
    pub fn flushed(&mut self, flush: FlushId) -> Settled<C> {
        let mut settled = Settled::default();
        let Some(batch) = self.in_flight.take_if(|batch| batch.flush == flush) else {
            return settled;
        };
        (self.frames, self.bytes) = (batch.frames, batch.bytes);
        if matches!(batch.kind, Kind::Checkpoint | Kind::Renewal) {
            self.checkpoint_bytes = batch.bytes;
        }
        let mut lazy = Vec::new();
        for (record, then) in batch.records {
            match (then, batch.kind) {
                (Some(then), Kind::Renewal) => settled.lost.push(then),
                (Some(then), _) => settled.durable.push(then),
                (None, Kind::Renewal) => lazy.push((record, None)),
                (None, _) => {}
            }
        }
        self.queue.splice(0..0, lazy);
        settled
    }

    /// A flush has failed: what the file holds is unknown until the next [`pump`](Self::pump) has put another in its place.
    /// Halts the process where that was what failed.
    pub fn flush_failed<M, T>(&mut self, flush: FlushId, out: &mut Effects<M, T>) {
        let Some(batch) = self.in_flight.take_if(|batch| batch.flush == flush) else {
            return;
        };
        match batch.kind {
            Kind::Append | Kind::Checkpoint => {
                out.observe(Observation::Mark("journal.flush-failed"));
                self.in_doubt = Some(batch);
            }
            Kind::Renewal | Kind::Cut => {
                out.halt("the disk refused to replace a log of unknown content");
                self.in_flight = Some(batch); // Nothing may be written behind it.
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::Effect;

    type Out = Effects<(), ()>;

    /// A disk with one file: what is durable, and what is on its way there.
    #[derive(Default)]
    struct TestDisk {
        durable: Vec<u8>,
        cached: Vec<u8>,
        asked: Vec<FlushId>,
    }

    impl TestDisk {
        fn perform(&mut self, out: &mut Out) {
            for effect in out.drain() {
                match effect {
                    Effect::Append { bytes, .. } => self.cached.extend(bytes),
                    Effect::Replace { bytes, .. } => self.cached = bytes,
                    Effect::Flush(id) => self.asked.push(id),
                    Effect::Observe(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }

        fn succeed(&mut self) -> FlushId {
            self.durable = self.cached.clone();
            self.asked.remove(0)
        }
    }

    fn snapshot() -> String {
        "snapshot".into()
    }

    /// The bytes of a failed flush: none, the first half, or all reach the disk.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Kept {
        None,
        Half,
        All,
    }

    impl TestDisk {
        fn fail(&mut self, kept: Kept) -> FlushId {
            let added = self.cached.len().saturating_sub(self.durable.len());
            match kept {
                Kept::None => {}
                Kept::Half if self.cached.starts_with(&self.durable) => {
                    self.cached.truncate(self.durable.len() + added / 2);
                    self.durable = self.cached.clone();
                }
                Kept::Half => {} // A file is replaced whole or not at all.
                Kept::All => self.durable = self.cached.clone(),
            }
            self.cached = self.durable.clone();
            self.asked.remove(0)
        }

        fn records(&self) -> Vec<String> {
            wal::recover(&self.durable).expect("it is sound").records
        }
    }

    fn durable<C>(durable: Vec<C>) -> Settled<C> {
        let lost = Vec::new();
        Settled { durable, lost }
    }

    fn lost<C>(lost: Vec<C>) -> Settled<C> {
        let durable = Vec::new();
        Settled { durable, lost }
    }

    #[test]
    fn what_is_forced_during_a_flush_shares_the_next_one() {
        let (mut out, mut disk) = (Out::default(), TestDisk::default());
        let mut journal = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
        for (record, then) in [("a", 1), ("b", 2), ("c", 3)] {
            journal.force(record.into(), then);
            journal.pump(snapshot, &mut out);
        }
        disk.perform(&mut out);
        assert_eq!(disk.asked.len(), 1);
        assert_eq!(journal.flushed(disk.succeed()), durable(vec![1]));
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(journal.flushed(disk.succeed()), durable(vec![2, 3]));
        assert_eq!(disk.records(), ["a", "b", "c"]);
    }

    #[test]
    fn a_batch_is_in_doubt_until_another_file_has_taken_the_place_of_the_log() {
        for kept in [Kept::None, Kept::Half, Kept::All] {
            let (mut out, mut disk) = (Out::default(), TestDisk::default());
            let mut journal = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
            journal.write_lazily("lazy".into());
            journal.pump(snapshot, &mut out);
            assert!(out.is_empty(), "nothing was forced");
            journal.force("lost".into(), 1);
            journal.pump(snapshot, &mut out);
            disk.perform(&mut out);
            journal.flush_failed(disk.fail(kept), &mut out);
            assert_eq!(disk.records().contains(&"lost".into()), kept == Kept::All);
            journal.force("next".into(), 2);
            journal.pump(snapshot, &mut out);
            disk.perform(&mut out);
            assert_eq!(journal.flushed(disk.succeed()), lost(vec![1]));
            assert_eq!(disk.records(), ["snapshot"]);
            journal.pump(snapshot, &mut out);
            disk.perform(&mut out);
            assert_eq!(journal.flushed(disk.succeed()), durable(vec![2]));
            assert_eq!(disk.records(), ["snapshot", "lazy", "next"], "{kept:?}");
        }
    }

    /// Whatever the disk kept, the restart reads one file or the other.
    #[test]
    fn a_process_halts_when_the_file_in_the_logs_place_cannot_be_written_either() {
        for (first, second) in [
            (Kept::None, Kept::None),
            (Kept::All, Kept::All),
            (Kept::Half, Kept::None),
        ] {
            let (mut out, mut disk) = (Out::default(), TestDisk::default());
            let mut journal = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
            journal.force("doubtful".into(), 1);
            journal.pump(snapshot, &mut out);
            disk.perform(&mut out);
            journal.flush_failed(disk.fail(first), &mut out);
            journal.pump(snapshot, &mut out);
            disk.perform(&mut out);
            journal.flush_failed(disk.fail(second), &mut out);
            assert!(matches!(out.drain().last(), Some(Effect::Halt(_))));
            let mut again = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
            let found = again.open(&disk.durable, &mut out).expect("it is sound");
            match (first, second) {
                (_, Kept::All) => assert_eq!(found, ["snapshot"]),
                (Kept::All, _) => assert_eq!(found, ["doubtful"]),
                _ => assert!(found.is_empty()),
            }
        }
    }

    #[test]
    fn a_torn_tail_is_cut_before_the_log_goes_on() {
        let (mut out, mut disk) = (Out::default(), TestDisk::default());
        disk.durable = wal::encode(0, &"whole");
        disk.durable.extend(&wal::encode(1, &"torn")[..9]);
        disk.cached = disk.durable.clone();
        let mut journal = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
        assert_eq!(journal.open(&disk.durable, &mut out).unwrap(), ["whole"]);
        journal.force("next".into(), 1);
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(
            journal.flushed(disk.succeed()),
            Settled::default(),
            "the cut"
        );
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(journal.flushed(disk.succeed()), durable(vec![1]));
        assert_eq!(disk.records(), ["whole", "next"]);
    }

    #[test]
    fn a_long_log_becomes_a_checkpoint_whether_or_not_its_first_flush_fails() {
        for fail_first in [false, true] {
            let (mut out, mut disk) = (Out::default(), TestDisk::default());
            let mut journal = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
            let mut largest = 0;
            let mut failed = !fail_first;
            for round in 0..1_000 {
                journal.force("x".repeat(1_000), round);
                journal.pump(snapshot, &mut out);
                disk.perform(&mut out);
                let is_checkpoint = disk.cached.len() < disk.durable.len();
                if is_checkpoint && !failed {
                    failed = true;
                    journal.flush_failed(disk.fail(Kept::None), &mut out);
                } else {
                    journal.flushed(disk.succeed());
                }
                largest = largest.max(disk.durable.len());
            }
            assert!(largest < 3 * CHECKPOINT_MIN_BYTES, "{largest}");
            assert_eq!(disk.records()[0], "snapshot");
        }
    }
}
