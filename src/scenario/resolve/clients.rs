//! How clients behave: `[clients]`.

use toml::Spanned;

use super::super::clients::Behaviour;
use super::super::file;
use super::Resolver;

/// Longest wait between attempts, unless a scenario says otherwise.
const BACKOFF_MAX_NS: u64 = 10_000_000_000;

impl Resolver {
    pub(super) fn clients(&mut self, raw: &file::Clients) -> Behaviour {
        let behaviour = Behaviour {
            timeout_ns: { raw.timeout.as_ref() }.map(|timeout| self.required_ns(timeout)),
            attempts: { raw.attempts.as_ref() }.map(|attempts| *attempts.get_ref()),
            backoff_ns: self.ns(&raw.backoff, 0),
            backoff_max_ns: self.ns(&raw.backoff_max, BACKOFF_MAX_NS),
            deadline_ns: { raw.deadline.as_ref() }.map(|deadline| self.required_ns(deadline)),
            retry_budget_ppm: { raw.retry_budget.as_ref() }.map(|budget| budget.get_ref().ppm),
            hedge_ns: { raw.hedge.as_ref() }.map(|hedge| self.required_ns(hedge)),
            new_id: { raw.new_id.as_ref() }.is_some_and(|new_id| *new_id.get_ref()),
            in_flight: { raw.in_flight.as_ref() }.map(|most| *most.get_ref()),
            queue: { raw.queue.as_ref() }.map_or(0, |queue| *queue.get_ref()),
        };
        for zero in [&raw.timeout, &raw.deadline, &raw.hedge] {
            if let Some(zero) = zero.as_ref().filter(|span| span.get_ref().ns == 0) {
                self.refuse(
                    zero.span(),
                    "nothing is answered in no time",
                    "use more than 0, or remove it",
                );
            }
        }
        self.only_with_a_timeout(raw, &behaviour);
        if let Some(attempts) = &raw.attempts
            && !(1..=100).contains(attempts.get_ref())
        {
            self.refuse(
                attempts.span(),
                format!("{} attempts", attempts.get_ref()),
                "use 1 to 100",
            );
        }
        if behaviour.in_flight == Some(0) {
            let span = raw.in_flight.as_ref().map_or(0..0, Spanned::span);
            self.refuse(span, "no request would ever be sent", "use at least 1");
        }
        if let (None, Some(queue)) = (&raw.in_flight, &raw.queue) {
            self.refuse(
                queue.span(),
                "nobody queues where all requests are sent at once",
                "add `in-flight`, the most requests under way",
            );
        }
        behaviour
    }

    /// Refuses what says how to try again, where nobody does; and what attempts with ids of their own make impossible.
    fn only_with_a_timeout(&mut self, raw: &file::Clients, behaviour: &Behaviour) {
        let keys = [
            ("attempts", raw.attempts.as_ref().map(Spanned::span)),
            ("backoff", raw.backoff.as_ref().map(Spanned::span)),
            ("backoff-max", raw.backoff_max.as_ref().map(Spanned::span)),
            ("retry-budget", raw.retry_budget.as_ref().map(Spanned::span)),
            ("new-id", raw.new_id.as_ref().map(Spanned::span)),
        ];
        for (key, span) in keys {
            if let Some(span) = span
                && behaviour.timeout_ns.is_none()
            {
                self.refuse(
                    span,
                    format!("`{key}` is about trying again, and nothing says when clients do"),
                    "add `timeout`",
                );
            }
        }
        let Some(new_id) = raw.new_id.as_ref().filter(|_| behaviour.new_id) else {
            return;
        };
        if behaviour.attempts.is_none_or(|attempts| attempts < 2) {
            self.refuse(
                new_id.span(),
                "a request that is sent once needs no other id",
                "add `attempts`, at least 2",
            );
        }
        for (key, span) in [
            ("deadline", raw.deadline.as_ref().map(Spanned::span)),
            ("hedge", raw.hedge.as_ref().map(Spanned::span)),
        ] {
            if let Some(span) = span {
                self.refuse(
                    span,
                    format!("`{key}` does not go with `new-id`"),
                    "remove it: `timeout` and `attempts` say how long a client tries",
                );
            }
        }
    }
}
