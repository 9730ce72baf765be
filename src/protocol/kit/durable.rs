//! A process with a log: what every such process does in a step, written once.
//!
//! [`step`] is the whole of [`Process::step`] for a process that implements [`Durable`]. It opens the log at a boot, passes on
//! messages and timers, sorts a completed flush into what is durable and what is lost, and starts the next flush at the end.
//! [`Incarnation`] is for a process that must be told from what it was before a crash: it counts boots, and keeps what
//! arrives before this boot is on the disk.
//!
//! ```
//! use ordain::base::process::*;
//! use ordain::protocol::kit::durable::{self, Durable};
//! use ordain::protocol::kit::journal::{CHECKPOINT_MIN_BYTES, Journal};
//!
//! /// Adds up numbers. It answers once the disk has them.
//! #[derive(Clone, PartialEq, Eq, Hash, Debug)]
//! struct Adder { sum: u64, journal: Journal<Record, (Addr, u64)> }
//!
//! #[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
//! enum Record { Added(u64), Checkpoint(u64) }
//!
//! type Out = Effects<u64, ()>;
//!
//! impl Process for Adder {
//!     type Message = u64;
//!     type Timer = ();
//!     fn step(&mut self, now: WallTime, input: Input<u64, ()>, out: &mut Out) {
//!         durable::step(self, now, input, out);
//!     }
//! }
//!
//! impl Durable<Record, (Addr, u64)> for Adder {
//!     const DAMAGED: &'static str = "an adder's log is damaged";
//!
//!     fn journal(&mut self) -> &mut Journal<Record, (Addr, u64)> {
//!         &mut self.journal
//!     }
//!     fn checkpoint(&self) -> Record {
//!         Record::Checkpoint(self.sum)
//!     }
//!     fn recover(&mut self, records: Vec<Record>, _: &mut Out) {
//!         for record in records {
//!             match record {
//!                 Record::Added(number) => self.sum += number,
//!                 Record::Checkpoint(sum) => self.sum = sum,
//!             }
//!         }
//!     }
//!     fn on_message(&mut self, _: WallTime, from: Addr, number: u64, _: &mut Out) {
//!         self.journal.force(Record::Added(number), (from, number));
//!     }
//!     fn on_durable(&mut self, _: WallTime, (to, number): (Addr, u64), out: &mut Out) {
//!         self.sum += number;
//!         out.send(to, self.sum);
//!     }
//!     fn on_lost(&mut self, (to, number): (Addr, u64), _: &mut Out) {
//!         self.journal.force(Record::Added(number), (to, number));
//!     }
//! }
//!
//! let mut adder = Adder { sum: 0, journal: Journal::new(FileId(0), CHECKPOINT_MIN_BYTES) };
//! let from = Addr::on(NodeId(1));
//! let mut out = Out::default();
//! adder.step(WallTime(0), Input::Message { from, message: 7 }, &mut out);
//! let flush = out.drain().find_map(|effect| match effect {
//!     Effect::Flush(flush) => Some(flush),
//!     Effect::Send { .. } => panic!("nothing is durable yet"),
//!     _ => None,
//! });
//! adder.step(WallTime(0), Input::Flushed(flush.unwrap()), &mut out);
//! assert!(out.drain().any(|effect| effect == Effect::Send { to: from, message: 7 }));
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::journal::Journal;
use crate::base::process::{Addr, Disk, Effects, Input, Process, WallTime};

/// The effects of a process.
pub type Out<D> = Effects<<D as Process>::Message, <D as Process>::Timer>;

/// A process whose durable state is one [`Journal`].
///
/// `R` is what its log holds, `C` what follows a forced record.
pub trait Durable<R: Serialize + DeserializeOwned, C>: Process {
    /// Why it halts where a record is damaged that may have been acknowledged. The restart reads the log again.
    const DAMAGED: &'static str;

    /// Its log.
    fn journal(&mut self) -> &mut Journal<R, C>;

    /// One record that stands for all before it: the durable state, and nothing that is only on its way to the disk.
    fn checkpoint(&self) -> R;

    /// After a boot: takes up its durable state from the records of its log, and goes on with what is unfinished.
    fn recover(&mut self, records: Vec<R>, out: &mut Out<Self>);

    /// A message arrived.
    fn on_message(
        &mut self,
        now: WallTime,
        from: Addr,
        message: Self::Message,
        out: &mut Out<Self>,
    );

    /// A timer fired.
    fn on_timer(&mut self, _timer: Self::Timer, _out: &mut Out<Self>) {}

    /// A forced record is durable.
    fn on_durable(&mut self, now: WallTime, next: C, out: &mut Out<Self>);

    /// A forced record is not in the log, and never will be: its flush had failed.
    fn on_lost(&mut self, next: C, out: &mut Out<Self>);

    /// The end of a step, before the next flush starts: what the process still has to say to itself.
    fn settle(&mut self, _now: WallTime, _out: &mut Out<Self>) {}
}

/// A step of a process with a log.
pub fn step<D, R, C>(
    process: &mut D,
    now: WallTime,
    input: Input<D::Message, D::Timer>,
    out: &mut Out<D>,
) where
    D: Durable<R, C>,
    R: Serialize + DeserializeOwned,
{
    match input {
        Input::Boot(disk) => boot(process, &disk, out),
        Input::Message { from, message } => process.on_message(now, from, message, out),
        Input::Timer(timer) => process.on_timer(timer, out),
        Input::Flushed(flush) => {
            let settled = process.journal().flushed(flush);
            for next in settled.durable {
                process.on_durable(now, next, out);
            }
            for next in settled.lost {
                process.on_lost(next, out);
            }
        }
        Input::FlushFailed(flush) => process.journal().flush_failed(flush, out),
    }
    process.settle(now, out);
    let snapshot = { process.journal().wants_snapshot() }.then(|| process.checkpoint());
    process
        .journal()
        .pump(|| snapshot.expect("the journal wants one"), out);
}

fn boot<D, R, C>(process: &mut D, disk: &Disk, out: &mut Out<D>)
where
    D: Durable<R, C>,
    R: Serialize + DeserializeOwned,
{
    let file = process.journal().file();
    match process.journal().open(disk.file(file), out) {
        Ok(records) => process.recover(records, out),
        Err(_) => out.halt(D::DAMAGED),
    }
}

/// How often a process has booted, durably, and what arrived before this boot was. A process forces a record of each boot,
/// and serves nobody before that is on the disk: what it says afterwards differs from all that it said before.
///
/// ```
/// use ordain::base::process::{Addr, NodeId};
/// use ordain::protocol::kit::durable::Incarnation;
///
/// let from = Addr::on(NodeId(1));
/// let mut incarnation = Incarnation::default();
/// incarnation.replay(); // The log holds one boot.
/// assert_eq!(incarnation.admit(from, "early"), None);
/// assert_eq!(incarnation.begin(), [(from, "early")]);
/// assert_eq!(incarnation.number(), 2);
/// assert_eq!(incarnation.admit(from, "later"), Some("later"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Incarnation<M> {
    boots: u64,
    is_durable: bool,
    early: Vec<(Addr, M)>,
}

impl<M> Default for Incarnation<M> {
    fn default() -> Self {
        Self {
            boots: 0,
            is_durable: false,
            early: Vec::new(),
        }
    }
}

impl<M> Incarnation<M> {
    /// How many boots are durable, this one included if it is.
    pub fn number(&self) -> u64 {
        self.boots
    }

    /// Whether this boot is durable, so that the process serves.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// The log holds a boot.
    pub fn replay(&mut self) {
        self.boots += 1;
    }

    /// The log holds a checkpoint after this many boots.
    pub fn restore(&mut self, boots: u64) {
        self.boots = boots;
    }

    /// A message, if the process serves. Otherwise it is kept until [`begin`](Self::begin).
    pub fn admit(&mut self, from: Addr, message: M) -> Option<M> {
        if self.is_durable {
            return Some(message);
        }
        self.early.push((from, message));
        None
    }

    /// This boot is durable: the process serves, first what came early.
    ///
    /// # Panics
    ///
    /// When it serves already.
    pub fn begin(&mut self) -> Vec<(Addr, M)> {
        assert!(!self.is_durable, "a boot is recorded once");
        self.boots += 1;
        self.is_durable = true;
        std::mem::take(&mut self.early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::observation::Observation;
    use crate::base::process::{Effect, FileId, FlushId, NodeId};

    /// Keeps numbers, and says what it heard of each.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Keeper {
        journal: Journal<Vec<u64>, u64>,
        kept: Vec<u64>,
        lost: Vec<u64>,
        settled: u64,
    }

    impl Keeper {
        fn new() -> Self {
            Self {
                journal: Journal::new(FileId(3), 64),
                kept: Vec::new(),
                lost: Vec::new(),
                settled: 0,
            }
        }
    }

    impl Process for Keeper {
        type Message = u64;
        type Timer = ();

        fn step(&mut self, now: WallTime, input: Input<u64, ()>, out: &mut Effects<u64, ()>) {
            step(self, now, input, out);
        }
    }

    impl Durable<Vec<u64>, u64> for Keeper {
        const DAMAGED: &'static str = "damaged";

        fn journal(&mut self) -> &mut Journal<Vec<u64>, u64> {
            &mut self.journal
        }

        fn checkpoint(&self) -> Vec<u64> {
            self.kept.clone()
        }

        fn recover(&mut self, records: Vec<Vec<u64>>, _: &mut Out<Self>) {
            self.kept = records.concat();
        }

        fn on_message(&mut self, _: WallTime, _: Addr, number: u64, _: &mut Out<Self>) {
            self.journal.force(vec![number], number);
        }

        fn on_durable(&mut self, _: WallTime, number: u64, _: &mut Out<Self>) {
            self.kept.push(number);
        }

        fn on_lost(&mut self, number: u64, _: &mut Out<Self>) {
            self.lost.push(number);
        }

        fn settle(&mut self, _: WallTime, _: &mut Out<Self>) {
            self.settled += 1;
        }
    }

    const FROM: Addr = Addr::on(NodeId(0));

    fn flush_of(out: &mut Effects<u64, ()>, disk: &mut Disk) -> Option<FlushId> {
        let mut asked = None;
        for effect in out.drain() {
            match effect {
                Effect::Append { file, bytes } => disk.file_mut(file).extend(bytes),
                Effect::Replace { file, bytes } => *disk.file_mut(file) = bytes,
                Effect::Flush(flush) => asked = Some(flush),
                Effect::Observe(Observation::Mark(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        asked
    }

    #[test]
    fn a_restart_takes_up_what_was_durable_and_checkpoints_stand_for_all_before() {
        let (mut keeper, mut out, mut disk) = (Keeper::new(), Effects::default(), Disk::default());
        let mut longest = 0;
        for message in 0..40 {
            let from = FROM;
            keeper.step(WallTime(0), Input::Message { from, message }, &mut out);
            while let Some(flush) = flush_of(&mut out, &mut disk) {
                keeper.step(WallTime(0), Input::Flushed(flush), &mut out);
            }
            longest = longest.max(disk.file(FileId(3)).len());
        }
        assert!(
            keeper.settled >= 80,
            "once in each step: {}",
            keeper.settled
        );
        assert!(
            longest < 400,
            "{longest} bytes: the log was never shortened"
        );
        let mut again = Keeper::new();
        again.step(WallTime(0), Input::Boot(disk), &mut out);
        assert_eq!(again.kept, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_failed_flush_took_is_lost_once_another_file_is_durable() {
        let (mut keeper, mut out, mut disk) = (Keeper::new(), Effects::default(), Disk::default());
        let (from, message) = (FROM, 7);
        keeper.step(WallTime(0), Input::Message { from, message }, &mut out);
        let flush = flush_of(&mut out, &mut disk).expect("it is forced");
        keeper.step(WallTime(0), Input::FlushFailed(flush), &mut out);
        assert!(keeper.lost.is_empty() && keeper.kept.is_empty());
        let flush = flush_of(&mut out, &mut disk).expect("a new file");
        keeper.step(WallTime(0), Input::Flushed(flush), &mut out);
        assert_eq!((keeper.kept, keeper.lost), (vec![], vec![7]));
    }

    #[test]
    fn a_damaged_log_halts_the_process() {
        let (mut keeper, mut out, mut disk) = (Keeper::new(), Effects::default(), Disk::default());
        for message in 0..2 {
            let from = FROM;
            keeper.step(WallTime(0), Input::Message { from, message }, &mut out);
            let flush = flush_of(&mut out, &mut disk).expect("it is forced");
            keeper.step(WallTime(0), Input::Flushed(flush), &mut out);
        }
        disk.file_mut(FileId(3))[20] ^= 1;
        Keeper::new().step(WallTime(0), Input::Boot(disk), &mut out);
        assert!(out.drain().any(|effect| effect == Effect::Halt("damaged")));
    }
}
