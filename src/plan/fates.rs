//! Fates: every random choice that the world makes, as data.
//!
//! A run draws fates from seeded streams, or takes them from a record of an earlier run. The streams are
//! keyed by what draws (a directed link, a process's timers, a machine's flushes), and a message's draws
//! depend on nothing but its position on its link. So removing one fault from a plan leaves the fates on
//! other links as they were, and the fate of a link's n-th message does not depend on faults at all.
//!
//! A record may end before the run does: a shrunk plan may send messages that the recorded run did not. From
//! there on the world is calm: no loss, no jitter, the middle of a timer's range.
//!
//! A record may also be followed up to an instant and drawn anew from there on, with another seed. Many such runs say how
//! much of a failure was settled at that instant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::stable_hash;
use crate::base::process::{Addr, Delay, NodeId};
use crate::fault::{CrashLoss, Link};
use crate::plan::random::{GENERATOR, Stream};

/// What the network does with one message: lost or not, and how much later than the link's floor it
/// arrives. One 64-bit word, so that a run's record stays small; see the accessors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageFate(u64);

const LOST: u64 = 1;
const REORDERED: u64 = 2;
const EXTRA_SHIFT: u32 = 2;
const EXTRA_BITS: u32 = 40;
const COPY_SHIFT: u32 = EXTRA_SHIFT + EXTRA_BITS;
const COPY_BITS: u32 = 64 - COPY_SHIFT;
/// The unit in which a duplicate's lag is kept.
const COPY_UNIT_NS: u64 = 1024;

impl MessageFate {
    /// Arrives after the link's floor, once, in order: what shrinking turns fates into.
    pub const CALM: MessageFate = MessageFate(0);

    /// A fate. `extra_ns` is cut at 18 minutes; a duplicate arrives `copy_lag_ns` after the message itself,
    /// kept in units of 1,024 ns and cut at 4.2 s.
    pub fn new(lost: bool, reordered: bool, extra_ns: u64, copy_lag_ns: Option<u64>) -> Self {
        let extra = extra_ns.min((1 << EXTRA_BITS) - 1);
        let copy = copy_lag_ns.map_or(0, |lag| (lag / COPY_UNIT_NS + 1).min((1 << COPY_BITS) - 1));
        Self(
            u64::from(lost) * LOST
                + u64::from(reordered) * REORDERED
                + (extra << EXTRA_SHIFT)
                + (copy << COPY_SHIFT),
        )
    }

    /// Whether the network loses it.
    pub fn lost(self) -> bool {
        self.0 & LOST != 0
    }

    /// The same fate, but lost or not.
    pub fn with_loss(self, lost: bool) -> Self {
        Self((self.0 & !LOST) | (u64::from(lost) * LOST))
    }

    /// Whether later messages may overtake it.
    pub fn reordered(self) -> bool {
        self.0 & REORDERED != 0
    }

    /// Delay beyond the link's floor, in nanoseconds.
    pub fn extra_ns(self) -> u64 {
        (self.0 >> EXTRA_SHIFT) & ((1 << EXTRA_BITS) - 1)
    }

    /// How long after the message a duplicate of it arrives, in nanoseconds, if one does.
    pub fn copy_lag_ns(self) -> Option<u64> {
        let copy = self.0 >> COPY_SHIFT;
        (copy > 0).then(|| copy * COPY_UNIT_NS)
    }
}

/// What a disk does with one flush: how much longer than the floor it takes, whether it fails, and what a failed one
/// leaves. One 64-bit word; see the accessors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlushFate(u64);

const FLUSH_KEPT_SHIFT: u32 = 48;

impl FlushFate {
    /// A fate. `extra_ns` is cut at 39 hours. `kept` says how much of its bytes a failed flush leaves on the disk, in
    /// 65535ths.
    pub fn new(failed: bool, extra_ns: u64, kept: u16) -> Self {
        let extra_ns = extra_ns.min((1 << (FLUSH_KEPT_SHIFT - 1)) - 1);
        let kept = u64::from(if failed { kept } else { 0 });
        Self(kept << FLUSH_KEPT_SHIFT | extra_ns << 1 | u64::from(failed))
    }

    /// Whether it fails.
    pub fn failed(self) -> bool {
        self.0 & 1 != 0
    }

    /// Time beyond the disk's floor, in nanoseconds.
    pub fn extra_ns(self) -> u64 {
        (self.0 & ((1 << FLUSH_KEPT_SHIFT) - 1)) >> 1
    }

    /// What a failed flush leaves on the disk of the bytes that it was to make durable.
    pub fn left(self) -> CrashLoss {
        match (self.0 >> FLUSH_KEPT_SHIFT) as u16 {
            0 => CrashLoss::Lost,
            u16::MAX => CrashLoss::Kept,
            share => CrashLoss::Torn(share),
        }
    }
}

/// The fates of the messages on one directed link, in the order in which they were sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LinkFates {
    /// The sending machine.
    pub from: NodeId,
    /// The receiving machine.
    pub to: NodeId,
    /// By message.
    pub messages: Vec<MessageFate>,
}

/// The delays chosen for a process's timers, in the order in which they were set. Timers without a range
/// to choose from are not counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct TimerFates {
    /// The process.
    pub of: Addr,
    /// How long after the earliest possible instant, in nanoseconds.
    pub after_min_ns: Vec<u64>,
}

/// The fates of a machine's flushes, in the order in which they were asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FlushFates {
    /// The machine.
    pub node: NodeId,
    /// By flush.
    pub flushes: Vec<FlushFate>,
}

/// Every random choice of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fates {
    /// Name and version of the generator that drew them.
    pub generator: String,
    /// The seed that they were drawn with; it also seeds madsim's own generator, which only async guests
    /// can see.
    pub seed: u64,
    /// Messages between machines.
    pub links: Vec<LinkFates>,
    /// Timers.
    pub timers: Vec<TimerFates>,
    /// Flushes.
    pub flushes: Vec<FlushFates>,
}

/// Where a run takes its fates from.
#[derive(Clone, Debug)]
pub enum FateSource {
    /// Draw them with this seed.
    Seed(u64),
    /// Take them from a record.
    Recorded(Fates),
    /// Take them from a record up to an instant, and draw them from there on.
    Redrawn {
        /// The record.
        fates: Fates,
        /// The first instant at which fates are drawn, nanoseconds of simulated time.
        from_ns: u64,
        /// The seed that they are drawn with.
        seed: u64,
    },
}

impl FateSource {
    /// The seed.
    pub fn seed(&self) -> u64 {
        match self {
            FateSource::Seed(seed) => *seed,
            FateSource::Recorded(fates) | FateSource::Redrawn { fates, .. } => fates.seed,
        }
    }

    /// An empty record with this source's seed.
    pub fn blank_record(&self) -> Fates {
        Fates {
            generator: GENERATOR.to_owned(),
            seed: self.seed(),
            links: Vec::new(),
            timers: Vec::new(),
            flushes: Vec::new(),
        }
    }
}

/// One keyed sequence of fates: drawn, or read from a record; and written to a record if asked.
#[derive(Debug)]
pub struct Sequence<F> {
    /// How many fates have been given out.
    given: u64,
    origin: Origin<F>,
    record: Option<Vec<F>>,
}

#[derive(Debug)]
enum Origin<F> {
    Drawn(Drawing),
    Recorded(std::vec::IntoIter<F>),
    Redrawn {
        recorded: std::vec::IntoIter<F>,
        from_ns: u64,
        drawing: Drawing,
    },
}

/// Draws the fates of one sequence.
#[derive(Debug)]
struct Drawing {
    seed: u64,
    concern: u64,
    /// Made at the first draw: most links of a big world never need theirs.
    stream: Option<Box<Stream>>,
    /// The position that the stream stands at, in fates: calm links skip the drawing.
    at: u64,
}

impl Drawing {
    fn new(seed: u64, concern: u64) -> Self {
        Self {
            seed,
            concern,
            stream: None,
            at: 0,
        }
    }

    /// The stream, at the position of this fate, `words` numbers wide.
    fn stream_at(&mut self, position: u64, words: u64) -> &mut Stream {
        let (seed, concern) = (self.seed, self.concern);
        let stream = self
            .stream
            .get_or_insert_with(|| Box::new(Stream::new(seed, &concern)));
        if self.at != position {
            stream.seek(position * words);
        }
        self.at = position + 1;
        stream
    }
}

impl<F: Copy> Sequence<F> {
    fn of(origin: Origin<F>, record: bool) -> Self {
        Self {
            given: 0,
            origin,
            record: record.then(Vec::new),
        }
    }

    /// The next fate, at an instant of true simulated time: `draw` gets the stream at this fate's own position, `words`
    /// numbers wide.
    fn next(
        &mut self,
        now_ns: u64,
        words: u64,
        calm: F,
        certain: bool,
        draw: impl FnOnce(&mut Stream) -> F,
    ) -> F {
        let fate = match &mut self.origin {
            Origin::Recorded(recorded) => recorded.next().unwrap_or(calm),
            Origin::Redrawn {
                recorded, from_ns, ..
            } if now_ns < *from_ns => recorded.next().unwrap_or(calm),
            Origin::Drawn(_) | Origin::Redrawn { .. } if certain => calm,
            Origin::Drawn(drawing) | Origin::Redrawn { drawing, .. } => {
                draw(drawing.stream_at(self.given, words))
            }
        };
        self.given += 1;
        if let Some(record) = &mut self.record {
            record.push(fate);
        }
        fate
    }

    /// What was recorded.
    pub fn take_record(&mut self) -> Vec<F> {
        self.record.take().unwrap_or_default()
    }
}

/// Numbers that one message's fate takes from its stream, whatever they turn out to be used for.
const MESSAGE_WORDS: u64 = 4;

impl Sequence<MessageFate> {
    /// The fate of the next message on a link that behaves like `link`.
    pub fn message(&mut self, link: &Link, now_ns: u64) -> MessageFate {
        let certain = link.latency.jitter_ns == 0
            && link.loss_ppm == 0
            && link.duplicate_ppm == 0
            && link.reorder_ppm == 0;
        self.next(
            now_ns,
            MESSAGE_WORDS,
            MessageFate::CALM,
            certain,
            |stream| draw_message(stream, link),
        )
    }
}

fn draw_message(stream: &mut Stream, link: &Link) -> MessageFate {
    let jitter_ns = exponential(stream, link.latency.jitter_ns);
    let chances = stream.word();
    let spread_ns = link.latency.base_ns + link.latency.jitter_ns;
    let (overtaken, lags) = (stream.word(), stream.word());
    let reordered = hits(overtaken, link.reorder_ppm);
    // A message that may be overtaken is held back by up to the link's usual delay: without that, a link
    // with little jitter would never show a reordering.
    let held_back_ns = if reordered {
        scaled(lags & 0xffff_ffff, spread_ns)
    } else {
        0
    };
    let copy_lag_ns =
        hits(chances << 32, link.duplicate_ppm).then(|| scaled(lags >> 32, 2 * spread_ns));
    MessageFate::new(
        hits(chances, link.loss_ppm),
        reordered,
        jitter_ns + held_back_ns,
        copy_lag_ns,
    )
}

/// Whether the upper half of a random word hits a probability in parts per million.
fn hits(word: u64, ppm: u32) -> bool {
    ((word >> 32) * 1_000_000) >> 32 < u64::from(ppm)
}

/// A random 32-bit number scaled to `0..range`.
fn scaled(random: u64, range: u64) -> u64 {
    ((u128::from(random) * u128::from(range)) >> 32) as u64
}

/// Exponential with this mean, cut at ten times the mean. Always takes one word.
fn exponential(stream: &mut Stream, mean_ns: u64) -> u64 {
    let drawn = stream.exponential(mean_ns as f64) as u64;
    drawn.min(mean_ns.saturating_mul(10))
}

impl Sequence<u64> {
    /// How long after the earliest possible instant the process's next timer fires, by its local clock.
    pub fn timer(&mut self, delay: Delay, now_ns: u64) -> u64 {
        let width_ns = delay.max_ns - delay.min_ns;
        if width_ns == 0 {
            return 0;
        }
        let chosen = self.next(now_ns, 1, width_ns / 2, false, |stream| {
            stream.between(0, width_ns)
        });
        chosen.min(width_ns)
    }
}

impl Sequence<FlushFate> {
    /// The fate of the machine's next flush: `jitter_ns` is the mean of its exponential tail. A failed one leaves bytes
    /// with the probability `kept_ppm`: as often all of them as a prefix.
    pub fn flush(
        &mut self,
        jitter_ns: u64,
        fail_ppm: u32,
        kept_ppm: u32,
        now_ns: u64,
    ) -> FlushFate {
        let certain = jitter_ns == 0 && fail_ppm == 0;
        self.next(now_ns, 2, FlushFate::default(), certain, |stream| {
            let extra_ns = exponential(stream, jitter_ns);
            let word = stream.word();
            // `hits` looks at the upper half of a word only. The lower half has 16 bits for each of the other choices.
            let kept = match (hits(word << 32, kept_ppm), word as u16) {
                (false, _) => 0,
                (true, share) if share % 2 == 0 => u16::MAX,
                (true, share) => share,
            };
            FlushFate::new(hits(word, fail_ppm), extra_ns, kept)
        })
    }
}

/// Hands out the sequences of a run.
#[derive(Debug)]
pub struct Teller {
    seed: u64,
    record: bool,
    recorded: Option<Recorded>,
    /// From which instant on fates are drawn all the same, and with which seed.
    redrawn: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Recorded {
    links: BTreeMap<(NodeId, NodeId), Vec<MessageFate>>,
    timers: BTreeMap<Addr, Vec<u64>>,
    flushes: BTreeMap<NodeId, Vec<FlushFate>>,
}

impl Recorded {
    fn of(fates: Fates) -> Self {
        let links = fates.links.into_iter();
        let timers = fates.timers.into_iter();
        let flushes = fates.flushes.into_iter();
        Self {
            links: links.map(|l| ((l.from, l.to), l.messages)).collect(),
            timers: timers.map(|t| (t.of, t.after_min_ns)).collect(),
            flushes: flushes.map(|f| (f.node, f.flushes)).collect(),
        }
    }
}

impl Teller {
    /// Takes fates from `source`. The sequences keep a record if asked.
    pub fn new(source: FateSource, record: bool) -> Self {
        let seed = source.seed();
        let (recorded, redrawn) = match source {
            FateSource::Seed(_) => (None, None),
            FateSource::Recorded(fates) => (Some(fates), None),
            FateSource::Redrawn {
                fates,
                from_ns,
                seed,
            } => (Some(fates), Some((from_ns, seed))),
        };
        Self {
            seed,
            record,
            recorded: recorded.map(Recorded::of),
            redrawn,
        }
    }

    /// A sequence of what concerns `concern`, of which `recorded` is the record, if there is one.
    fn sequence<F: Copy>(&self, concern: u64, recorded: Option<Vec<F>>) -> Sequence<F> {
        let recorded = recorded.map(Vec::into_iter);
        let origin = match (recorded, self.redrawn) {
            (None, _) => Origin::Drawn(Drawing::new(self.seed, concern)),
            (Some(recorded), None) => Origin::Recorded(recorded),
            (Some(recorded), Some((from_ns, seed))) => Origin::Redrawn {
                recorded,
                from_ns,
                drawing: Drawing::new(seed, concern),
            },
        };
        Sequence::of(origin, self.record)
    }

    /// The messages of a directed link. Each sequence can be had once.
    pub fn link(&mut self, from: NodeId, to: NodeId) -> Sequence<MessageFate> {
        let recorded = self.recorded.as_mut();
        let recorded = recorded.map(|all| all.links.remove(&(from, to)).unwrap_or_default());
        self.sequence(stable_hash(&("message", from, to)), recorded)
    }

    /// The timers of a process. Each sequence can be had once.
    pub fn timers(&mut self, of: Addr) -> Sequence<u64> {
        let recorded = self.recorded.as_mut();
        let recorded = recorded.map(|all| all.timers.remove(&of).unwrap_or_default());
        self.sequence(stable_hash(&("timer", of)), recorded)
    }

    /// The flushes of a machine. Each sequence can be had once.
    pub fn flushes(&mut self, node: NodeId) -> Sequence<FlushFate> {
        let recorded = self.recorded.as_mut();
        let recorded = recorded.map(|all| all.flushes.remove(&node).unwrap_or_default());
        self.sequence(stable_hash(&("flush", node)), recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Latency;

    fn link(loss_ppm: u32, jitter_ns: u64) -> Link {
        Link {
            latency: Latency {
                base_ns: 1_000_000,
                jitter_ns,
            },
            bandwidth: 0,
            loss_ppm,
            duplicate_ppm: loss_ppm,
            reorder_ppm: loss_ppm,
        }
    }

    fn sequence(seed: u64) -> Sequence<MessageFate> {
        Teller::new(FateSource::Seed(seed), false).link(NodeId(0), NodeId(1))
    }

    #[test]
    fn a_fate_survives_its_packing() {
        for (lost, reordered, extra_ns) in
            [(true, false, 0), (false, true, 77), (false, false, 1 << 39)]
        {
            let fate = MessageFate::new(lost, reordered, extra_ns, Some(5_000_000));
            assert_eq!(
                (fate.lost(), fate.reordered(), fate.extra_ns()),
                (lost, reordered, extra_ns)
            );
            assert!(fate.copy_lag_ns().unwrap().abs_diff(5_000_000) <= COPY_UNIT_NS);
        }
        assert_eq!(MessageFate::CALM.copy_lag_ns(), None);
    }

    #[test]
    fn probabilities_are_met_on_average() {
        let mut messages = sequence(1);
        let stormy = link(250_000, 1_000);
        let fates: Vec<_> = (0..100_000).map(|_| messages.message(&stormy, 0)).collect();
        for share in [
            fates.iter().filter(|fate| fate.lost()).count(),
            fates.iter().filter(|fate| fate.reordered()).count(),
            fates
                .iter()
                .filter(|fate| fate.copy_lag_ns().is_some())
                .count(),
        ] {
            assert!(
                share.abs_diff(25_000) < 4 * 137,
                "four standard deviations: {share}"
            );
        }
    }

    #[test]
    fn a_fault_on_earlier_messages_does_not_move_the_fates_of_later_ones() {
        let (mut with, mut without) = (sequence(5), sequence(5));
        let (calm, stormy) = (link(0, 0), link(400_000, 9_000));
        for n in 0..100 {
            let fault = n % 7 == 3;
            with.message(if fault { &stormy } else { &calm }, 0);
            without.message(&calm, 0);
        }
        for _ in 0..50 {
            assert_eq!(with.message(&stormy, 0), without.message(&stormy, 0));
        }
    }

    #[test]
    fn a_record_replays_and_is_calm_where_it_ends() {
        let mut teller = Teller::new(FateSource::Seed(3), true);
        let mut drawn = teller.link(NodeId(0), NodeId(1));
        let stormy = link(300_000, 5_000);
        let fates: Vec<_> = (0..20).map(|_| drawn.message(&stormy, 0)).collect();
        let mut record = FateSource::Seed(3).blank_record();
        record.links.push(LinkFates {
            from: NodeId(0),
            to: NodeId(1),
            messages: drawn.take_record(),
        });
        let json = serde_json::to_string(&record).unwrap();
        let read: Fates = serde_json::from_str(&json).unwrap();
        let mut replayed =
            Teller::new(FateSource::Recorded(read), false).link(NodeId(0), NodeId(1));
        let again: Vec<_> = (0..20).map(|_| replayed.message(&link(0, 0), 0)).collect();
        assert_eq!(fates, again);
        assert_eq!(replayed.message(&stormy, 0), MessageFate::CALM);
        let mut timers = Teller::new(FateSource::Recorded(record), false).timers(Addr {
            node: NodeId(0),
            port: 0,
        });
        assert_eq!(timers.timer(Delay::between(10, 30), 0), 10);
    }

    #[test]
    fn a_redrawn_record_is_followed_up_to_its_instant_and_drawn_with_the_new_seed_from_there_on() {
        let stormy = link(300_000, 5_000);
        let drawn = |seed| {
            let mut messages = sequence(seed);
            (0..20)
                .map(|n| messages.message(&stormy, n))
                .collect::<Vec<_>>()
        };
        let mut fates = FateSource::Seed(3).blank_record();
        fates.links.push(LinkFates {
            from: NodeId(0),
            to: NodeId(1),
            messages: drawn(3),
        });
        let redrawn = FateSource::Redrawn {
            fates,
            from_ns: 8,
            seed: 4,
        };
        assert_eq!(redrawn.seed(), 3, "guests see the recorded seed");
        let mut messages = Teller::new(redrawn, false).link(NodeId(0), NodeId(1));
        let again: Vec<_> = (0..20).map(|n| messages.message(&stormy, n)).collect();
        assert_eq!(again[..8], drawn(3)[..8]);
        assert_eq!(again[8..], drawn(4)[8..]);
        assert_ne!(drawn(3)[8..], drawn(4)[8..]);
    }
}
