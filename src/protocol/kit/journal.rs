//! A process's log with group commit: what is forced together shares a flush, one flush at a time.
//!
//! A record is either *forced*, and something happens once it is durable, or *lazy*: it travels with the next
//! forced one, and a crash may take it. While a flush is under way nothing is appended, so that a flush that
//! fails takes exactly its own batch with it.

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
    /// A torn tail was cut off.
    Cut,
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
        }
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

    /// Queues a record; `then` comes back once it is durable, or when its flush has failed.
    pub fn force(&mut self, record: R, then: C) {
        self.queue.push((record, Some(then)));
    }

    /// Queues a record that may be lost.
    pub fn write_lazily(&mut self, record: R) {
        self.queue.push((record, None));
    }

    /// Starts the next flush if there is something to force and none is under way, or a checkpoint of what
    /// `snapshot` says if the log has outgrown the last one. To be called at the end of every step.
    pub fn pump<M, T>(&mut self, snapshot: impl FnOnce() -> R, out: &mut Effects<M, T>) {
        if self.in_flight.is_some() {
            return;
        }
        if self.bytes > self.checkpoint_min_bytes.max(3 * self.checkpoint_bytes) {
            let frame = wal::encode(0, &snapshot());
            let bytes = frame.len();
            out.replace(self.file, frame);
            self.flush(Vec::new(), 1, bytes, Kind::Checkpoint, out);
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

    /// A flush has completed: what follows each of its forced records, in order.
    pub fn flushed(&mut self, flush: FlushId) -> Vec<C> {
        let Some(batch) = self.in_flight.take_if(|batch| batch.flush == flush) else {
            return Vec::new();
        };
        (self.frames, self.bytes) = (batch.frames, batch.bytes);
        if batch.kind == Kind::Checkpoint {
            self.checkpoint_bytes = batch.bytes;
        }
        let then = batch.records.into_iter().filter_map(|(_, then)| then);
        then.collect()
    }

    /// A flush has failed, and the file is as it was before: what was to follow each of the forced records
    /// that are lost. Lazy ones go with the next flush.
    pub fn flush_failed<M, T>(&mut self, flush: FlushId, out: &mut Effects<M, T>) -> Vec<C> {
        let Some(batch) = self.in_flight.take_if(|batch| batch.flush == flush) else {
            return Vec::new();
        };
        if batch.kind == Kind::Cut {
            out.halt("the torn tail of the log could not be cut off");
            self.in_flight = Some(batch); // Nothing may be written after a torn tail.
            return Vec::new();
        }
        if batch.kind == Kind::Checkpoint {
            // Not before the log has grown by half again: a disk that fails is asked in vain.
            self.checkpoint_bytes = self.bytes / 2;
        }
        let mut lost = Vec::new();
        let mut lazy = Vec::new();
        for (record, then) in batch.records {
            match then {
                Some(then) => lost.push(then),
                None => lazy.push((record, None)),
            }
        }
        self.queue.splice(0..0, lazy);
        lost
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

        fn fail(&mut self) -> FlushId {
            self.cached = self.durable.clone();
            self.asked.remove(0)
        }
    }

    fn snapshot() -> String {
        "snapshot".into()
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
        assert_eq!(journal.flushed(disk.succeed()), [1]);
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(journal.flushed(disk.succeed()), [2, 3]);
        let records = wal::recover::<String>(&disk.durable).unwrap().records;
        assert_eq!(records, ["a", "b", "c"]);
    }

    #[test]
    fn a_failed_flush_loses_its_forced_records_and_keeps_the_lazy_ones_for_later() {
        let (mut out, mut disk) = (Out::default(), TestDisk::default());
        let mut journal = Journal::<String, u32>::new(FileId(0), CHECKPOINT_MIN_BYTES);
        journal.write_lazily("lazy".into());
        journal.pump(snapshot, &mut out);
        assert!(out.is_empty(), "nothing was forced");
        journal.force("lost".into(), 1);
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(journal.flush_failed(disk.fail(), &mut out), [1]);
        journal.force("kept".into(), 2);
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(journal.flushed(disk.succeed()), [2]);
        let records = wal::recover::<String>(&disk.durable).unwrap().records;
        assert_eq!(records, ["lazy", "kept"]);
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
        assert!(journal.flushed(disk.succeed()).is_empty(), "the cut");
        journal.pump(snapshot, &mut out);
        disk.perform(&mut out);
        assert_eq!(journal.flushed(disk.succeed()), [1]);
        let records = wal::recover::<String>(&disk.durable).unwrap().records;
        assert_eq!(records, ["whole", "next"]);
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
                    assert!(journal.flush_failed(disk.fail(), &mut out).is_empty());
                } else {
                    journal.flushed(disk.succeed());
                }
                largest = largest.max(disk.durable.len());
            }
            assert!(largest < 3 * CHECKPOINT_MIN_BYTES, "{largest}");
            let records = wal::recover::<String>(&disk.durable).unwrap().records;
            assert_eq!(records[0], "snapshot");
        }
    }
}
