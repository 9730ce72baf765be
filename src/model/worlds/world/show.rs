//! A world as text, for people who explore one.

use std::fmt::{self, Display};
use std::hash::Hash;

use super::{Hosted, Pending, Process, Wire, World, addresses};
use crate::base::process::Addr;

/// Some values in one line.
fn line<T>(values: impl IntoIterator<Item = T>, show: impl Fn(T) -> String) -> String {
    values.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

impl<P: Process> Hosted<P> {
    /// What surrounds the process: its disk and its timers.
    fn surroundings(&self) -> String {
        let mut parts = vec![format!("disk {} B", self.durable.len_bytes())];
        if !self.pending.is_empty() {
            let write = |write: &Pending| match write {
                Pending::Append(_, bytes) => format!("append {} B", bytes.len()),
                Pending::Replace(_, bytes) => format!("replace {} B", bytes.len()),
                Pending::Flush(_) => "flush".to_owned(),
            };
            parts.push(format!("not on it yet: {}", line(&self.pending, write)));
        }
        if !self.timers.is_empty() {
            let timer = |timer: &P::Timer| format!("{timer:?}");
            parts.push(format!("timers: {}", line(&self.timers, timer)));
        }
        parts.join("; ")
    }
}

impl<P: Process, G: Hash> World<P, G> {
    fn show_process(&self, at: Addr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosted = self.hosted(at);
        match self.process(at) {
            Some(process) => {
                writeln!(f, "{at}    {}", hosted.surroundings())?;
                writeln!(f, "        {process:?}")
            }
            None => writeln!(f, "{at}    down; disk {} B", hosted.durable.len_bytes()),
        }
    }
}

/// A table: what may still go wrong, what is under way, and each process with its disk and its timers. Not what the monitor
/// remembers.
impl<P: Process, G: Hash> Display for World<P, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = &self.budget;
        let faults = [
            (left.crashes, "crashes"),
            (left.losses, "losses"),
            (left.duplicates, "duplicates"),
            (left.early_timeouts, "early timeouts"),
            (left.cuts, "cuts"),
            (left.failed_flushes, "failed flushes"),
            (left.torn_writes, "torn writes"),
        ];
        let left = faults.into_iter().filter(|(count, _)| *count > 0);
        let left = line(left, |(count, what)| format!("{what} {count}"));
        writeln!(
            f,
            "faults  {}",
            if left.is_empty() { "none left" } else { &left }
        )?;
        if !self.cut.is_empty() {
            writeln!(
                f,
                "cut     {}",
                line(&self.cut, |(a, b)| format!("{a}-{b}"))
            )?;
        }
        for packet in self.packets() {
            let (from, to, message) = (packet.from, packet.to, &packet.message);
            writeln!(f, "sent    {} {from}->{to} {message:?}", message.label())?;
        }
        addresses(&self.machines).try_for_each(|at| self.show_process(at, f))
    }
}
