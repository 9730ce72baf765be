//! Hybrid logical clocks (Kulkarni, Demirbas, Madeppa, Avva and Leone, OPODIS 2014, figure 5).
//!
//! A stamp never goes backwards on a node, and it respects causality whatever the wall clocks do. A skewed
//! clock costs logical ticks, and never the order. The bound on how far a stamp runs
//! ahead of the local clock is the largest offset between two clocks that exchanged messages.

use serde::{Deserialize, Serialize};

use crate::base::process::WallTime;
use crate::base::zoo::{self, Bug};

/// A hybrid timestamp: ordered by `wall_ns`, then `logical`, then `node`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// The largest wall-clock reading seen so far, in nanoseconds (`l` in the paper).
    pub wall_ns: u64,
    /// Orders events that share `wall_ns` (`c` in the paper).
    pub logical: u32,
    /// The node that made the stamp; makes stamps of different nodes distinct, orders nothing else.
    pub node: u16,
}

/// One node's hybrid logical clock.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Hlc {
    last: Stamp,
}

impl Hlc {
    /// A clock that has seen nothing.
    pub fn new(node: u16) -> Self {
        Self {
            last: Stamp {
                node,
                ..Stamp::default()
            },
        }
    }

    /// The stamp of a local or send event: above every stamp made or merged before.
    pub fn tick(&mut self, now: WallTime) -> Stamp {
        self.advance(now.0, None)
    }

    /// Merges the stamp of a received message and returns the stamp of the receive event, above both.
    pub fn merge(&mut self, now: WallTime, received: Stamp) -> Stamp {
        let received = Some(received).filter(|_| !zoo::planted(Bug::ReceiveNotMerged));
        self.advance(now.0, received)
    }

    /// Raises the clock to at least `floor` without an event: for stamps recovered from a log.
    pub fn raise(&mut self, floor: Stamp) {
        if zoo::planted(Bug::ReceiveNotMerged) {
            return;
        }
        if (floor.wall_ns, floor.logical) > (self.last.wall_ns, self.last.logical) {
            self.last = Stamp {
                node: self.last.node,
                ..floor
            };
        }
    }

    /// The latest stamp made or merged.
    pub fn last(&self) -> Stamp {
        self.last
    }

    fn advance(&mut self, now_ns: u64, received: Option<Stamp>) -> Stamp {
        let heard = received.map_or((0, 0), |stamp| (stamp.wall_ns, stamp.logical));
        let seen = (self.last.wall_ns, self.last.logical).max(heard);
        let before = self.last;
        self.last = if now_ns > seen.0 || zoo::planted(Bug::WallClockOnly) {
            Stamp {
                wall_ns: now_ns,
                logical: 0,
                node: before.node,
            }
        } else {
            let logical = seen
                .1
                .checked_add(1)
                .expect("2^32 events within one nanosecond");
            Stamp {
                wall_ns: seen.0,
                logical,
                node: before.node,
            }
        };
        let rises = (self.last.wall_ns, self.last.logical) > (before.wall_ns, before.logical);
        assert!(rises || zoo::any());
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Theorems 1 and 3 of the paper, for three nodes whose clocks are off by up to half a second and
        /// may step backwards: causally later is larger, and a stamp is never ahead of the largest reading.
        #[test]
        fn stamps_respect_causality_and_stay_within_the_largest_reading(
            events in prop::collection::vec((0usize..3, 0usize..3, 0u64..1_000, any::<bool>()), 1..200),
            offsets in prop::array::uniform3(0u64..500_000_000),
        ) {
            let mut clocks = [Hlc::new(0), Hlc::new(1), Hlc::new(2)];
            let mut in_flight: Vec<(usize, Stamp)> = Vec::new();
            let mut largest = 0;
            let mut made: Vec<Stamp> = Vec::new();
            for (step, (node, to, jitter, send)) in events.into_iter().enumerate() {
                let now = WallTime(offsets[node] + step as u64 * 500 + jitter);
                largest = largest.max(now.0);
                let before = clocks[node].last();
                let receive = in_flight.iter().position(|(to, _)| *to == node).filter(|_| !send);
                let stamp = match receive {
                    Some(at) => {
                        let (_, sent) = in_flight.remove(at);
                        let stamp = clocks[node].merge(now, sent);
                        prop_assert!(
                            (stamp.wall_ns, stamp.logical) > (sent.wall_ns, sent.logical)
                        );
                        stamp
                    }
                    None => clocks[node].tick(now),
                };
                prop_assert!(stamp > before);
                prop_assert!(stamp.wall_ns <= largest);
                prop_assert!(!made.contains(&stamp), "stamps are unique");
                made.push(stamp);
                if send {
                    in_flight.push((to, stamp));
                }
            }
        }
    }

    #[test]
    fn the_papers_example_orders_a_slow_receiver_after_a_fast_sender() {
        // Figure 3 of the paper: a message from a node at 10 reaches nodes whose clocks read 0 and 1.
        let (mut fast, mut slow) = (Hlc::new(0), Hlc::new(1));
        let sent = fast.tick(WallTime(10));
        let received = slow.merge(WallTime(1), sent);
        assert_eq!((received.wall_ns, received.logical), (10, 1));
        assert_eq!(
            (slow.tick(WallTime(2)).wall_ns, slow.last().logical),
            (10, 2)
        );
        assert_eq!(
            (slow.tick(WallTime(13)).wall_ns, slow.last().logical),
            (13, 0)
        );
    }
}
