//! How clients behave when answers do not come: `[clients]` of a scenario, for all protocols alike.

/// How clients behave. By default as the options of each protocol say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Behaviour {
    /// How long a client waits for an answer until it tries again, nanoseconds.
    pub timeout_ns: Option<u64>,
    /// How often it asks in all; `None`: until something else ends it.
    pub attempts: Option<u32>,
    /// How long it waits before the second attempt, nanoseconds; twice as long before each further one.
    pub backoff_ns: u64,
    /// The longest such wait, nanoseconds.
    pub backoff_max_ns: u64,
    /// When it gives up, nanoseconds after it was to ask.
    pub deadline_ns: Option<u64>,
    /// How many retries a request earns its client machine, in parts per million; `None`: as many as it wants.
    pub retry_budget_ppm: Option<u32>,
    /// After how long without an answer it asks a second entry as well, nanoseconds.
    pub hedge_ns: Option<u64>,
    /// Whether each attempt is a transaction of its own, with another id.
    pub new_id: bool,
    /// Most requests of a client machine under way at once.
    pub in_flight: Option<u32>,
    /// How many more may wait for their turn there; others are turned away.
    pub queue: u32,
}

/// Retries that a client machine may have in hand, and begins with.
pub const RETRIES_IN_HAND: u32 = 10;

impl Behaviour {
    /// The range of the wait before the retry of this number, from 1: half of it or all of it, or between, so that clients
    /// that failed together do not come back together.
    pub fn wait_ns(&self, retry: u32) -> (u64, u64) {
        let doublings = retry.saturating_sub(1).min(32);
        let longest = self.backoff_max_ns.max(self.backoff_ns);
        let wait_ns = self.backoff_ns.saturating_mul(1 << doublings).min(longest);
        (wait_ns / 2, wait_ns)
    }

    /// How many transactions an operation of a plan may become.
    pub fn ids_each(&self) -> u32 {
        match self.new_id {
            true => self.attempts.unwrap_or(1),
            false => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let behaviour = Behaviour {
            backoff_ns: 100,
            backoff_max_ns: 500,
            ..Behaviour::default()
        };
        let waits = [1, 2, 3, 4, 60].map(|retry| behaviour.wait_ns(retry).1);
        assert_eq!(waits, [100, 200, 400, 500, 500]);
        assert_eq!(behaviour.wait_ns(2).0, 100);
    }
}
