//! Session de-duplication: a command takes effect once, however often it enters the log (Ongaro, "Consensus:
//! Bridging Theory and Practice", 2014, section 6.3).
//!
//! A client numbers the commands of its session and has one of them under way at a time. The state machine
//! keeps, as part of its own replicated state, the last number and response of each session, and answers a
//! repeated command from there.
//!
//! ```
//! use ordain::consensus::session::{Applied, Sessions};
//!
//! let (mut balance, mut sessions) = (0, Sessions::new(100));
//! for _retry in 0..3 {
//!     sessions.apply(7, 1, || { balance += 10; balance });
//! }
//! assert_eq!(balance, 10);
//! assert_eq!(sessions.apply(7, 1, || unreachable!()), Applied::Repeated(10));
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Applied<R> {
    /// It took effect now, with this response.
    Fresh(R),
    /// It had taken effect before, with this response.
    Repeated(R),
    /// It belongs to the past of its session, whose client has since moved on: it took effect before or never
    /// will, and nobody waits for the response.
    Stale,
}

/// The last response of each session. Part of the replicated state: every replica has the same sessions after
/// the same log prefix, and a snapshot contains them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Sessions<R> {
    capacity: usize,
    /// Number of commands seen: the clock by which sessions expire, the same on all replicas.
    clock: u64,
    sessions: BTreeMap<u64, Session<R>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Session<R> {
    sequence: u64,
    response: R,
    used_at: u64,
}

impl<R: Clone> Sessions<R> {
    /// Remembers up to `capacity` sessions. Where there are more, the one that has been silent for longest is
    /// forgotten, and a retry of its last command would take effect again: choose a capacity above the
    /// number of clients.
    ///
    /// # Panics
    ///
    /// When `capacity` is zero.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0);
        Self {
            capacity,
            clock: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// Runs `command` if `sequence` is new to the session `client`; numbers ascend, with gaps allowed.
    pub fn apply(&mut self, client: u64, sequence: u64, command: impl FnOnce() -> R) -> Applied<R> {
        self.clock += 1;
        let used_at = self.clock;
        if let Some(session) = self.sessions.get_mut(&client) {
            session.used_at = used_at;
            if sequence < session.sequence {
                return Applied::Stale;
            }
            if sequence == session.sequence {
                return Applied::Repeated(session.response.clone());
            }
        }
        let response = command();
        let session = Session {
            sequence,
            response: response.clone(),
            used_at,
        };
        self.sessions.insert(client, session);
        self.expire();
        Applied::Fresh(response)
    }

    fn expire(&mut self) {
        if self.sessions.len() > self.capacity {
            let silent = self
                .sessions
                .iter()
                .min_by_key(|(_, session)| session.used_at);
            let client = *silent.expect("there is one above capacity").0;
            self.sessions.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_takes_effect_once_and_answers_alike() {
        let mut sessions = Sessions::new(2);
        let mut runs = 0;
        let mut run = || {
            runs += 1;
            runs
        };
        assert_eq!(sessions.apply(1, 1, &mut run), Applied::Fresh(1));
        assert_eq!(sessions.apply(1, 1, &mut run), Applied::Repeated(1));
        assert_eq!(sessions.apply(1, 5, &mut run), Applied::Fresh(2));
        assert_eq!(sessions.apply(1, 1, &mut run), Applied::Stale);
        assert_eq!(sessions.apply(2, 1, &mut run), Applied::Fresh(3));
    }

    #[test]
    fn the_session_silent_for_longest_is_the_one_forgotten() {
        let mut sessions = Sessions::new(2);
        sessions.apply(1, 1, || ());
        sessions.apply(2, 1, || ());
        sessions.apply(1, 1, || ()); // a retry is a sign of life
        sessions.apply(3, 1, || ());
        assert_eq!(sessions.apply(1, 1, || ()), Applied::Repeated(()));
        assert_eq!(sessions.apply(2, 1, || ()), Applied::Fresh(()));
    }
}
