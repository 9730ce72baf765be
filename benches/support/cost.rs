//! What something costs, by the wall clock and in CPU time: on a machine that does other things too, only the second can be
//! compared.

use std::fmt::{self, Display};
use std::fs;
use std::time::{Duration, Instant};

/// What something took.
#[derive(Clone, Copy)]
pub struct Cost {
    pub wall: Duration,
    /// User and system, of all threads; the wall-clock time where the system does not tell.
    pub cpu: Duration,
}

impl Cost {
    /// In multiples of another.
    pub fn of(self, other: Self) -> String {
        let times = |this: Duration, that: Duration| this.as_secs_f64() / that.as_secs_f64();
        format!(
            "{:.2} of it by wall, {:.2} by CPU",
            times(self.wall, other.wall),
            times(self.cpu, other.cpu)
        )
    }
}

impl Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu) = (self.wall.as_secs_f64(), self.cpu.as_secs_f64());
        write!(f, "{wall:>9.3} s wall, {cpu:>9.3} s CPU")
    }
}

/// Where `/proc/self/stat` counts the user time of this process, counted from the state; the system time stands after it.
pub const OWN: usize = 11;

pub fn timed<T>(whose: usize, run: impl FnOnce() -> T) -> (Cost, T) {
    let (started, before) = (Instant::now(), cpu(whose));
    let result = run();
    let wall = started.elapsed();
    let cpu = cpu(whose).zip(before);
    let cpu = cpu.map_or(wall, |(after, before)| after - before);
    (Cost { wall, cpu }, result)
}

/// CPU time so far, in the hundredths of a second in which Linux tells it.
fn cpu(whose: usize) -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name is in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Option<Vec<u64>> = { fields.split(' ').skip(whose).take(2) }
        .map(|field| field.parse().ok())
        .collect();
    Some(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
}
