//! Seeded random streams, one for each concern: what one concern draws never changes what another one gets.

use std::hash::Hash;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::base::digest::stable_hash;

/// Name and version of the generator that plans are drawn with; a plan names it, and a program that draws
/// differently must use another name.
pub const GENERATOR: &str = "chacha8-streams-1";

/// A stream of random numbers that follows from the seed and the concern alone.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

impl Stream {
    /// The stream of `concern` (any value that names it) under `seed`.
    pub fn new(seed: u64, concern: &impl Hash) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stable_hash(concern));
        Self { rng }
    }

    /// Moves to the position after `words` 64-bit numbers from the stream's start.
    pub fn seek(&mut self, words: u64) {
        self.rng.set_word_pos(u128::from(words) * 2);
    }

    /// Uniform over all 64-bit numbers.
    pub fn word(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Uniform over `0..bound`.
    ///
    /// # Panics
    ///
    /// When `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below zero");
        // Lemire's multiply-shift; the bias, below 2^-32 for every bound in use, is the same everywhere.
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform over `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        match (high - low).checked_add(1) {
            Some(width) => low + self.below(width),
            None => self.word(),
        }
    }

    /// Uniform over `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// True with this probability in parts per million. Draws nothing when the answer is certain, so only
    /// use it where the probability is fixed for the stream's life.
    pub fn chance_ppm(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// Exponentially distributed with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * ln(1.0 - self.unit())
    }

    /// An element of the slice.
    ///
    /// # Panics
    ///
    /// When the slice is empty.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The natural logarithm of a number in `(0, 1]`, in arithmetic that IEEE 754 fixes to the last bit: the
/// platform's `ln` may differ between machines, and a digest must not.
fn ln(x: f64) -> f64 {
    assert!(x > 0.0 && x <= 1.0);
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln(m) = 2 artanh(z) with z = (m - 1) / (m + 1), |z| < 0.172: eleven terms reach the last bits.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = (0..11)
        .rev()
        .fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    2.0 * z * series + exponent as f64 * std::f64::consts::LN_2
}

/// Draws ranks `0..n` with probability proportional to `1 / (rank + 1)^theta`: Zipf's law, as YCSB uses it
/// for key skew (Cooper et al., SoCC 2010). A theta of 0 is uniform.
#[derive(Clone, Debug)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Over `n` ranks.
    ///
    /// # Panics
    ///
    /// When `n` is zero.
    pub fn new(n: u32, theta: f64) -> Self {
        assert!(n > 0);
        let mut total = 0.0;
        let cumulative = (1..=n)
            .map(|rank| {
                total += if theta == 0.0 {
                    1.0
                } else {
                    power(f64::from(rank), -theta)
                };
                total
            })
            .collect();
        Self { cumulative }
    }

    /// The next rank.
    pub fn draw(&self, stream: &mut Stream) -> u32 {
        let total = *self.cumulative.last().expect("at least one rank");
        let at = stream.unit() * total;
        self.cumulative
            .partition_point(|sum| *sum <= at)
            .min(self.cumulative.len() - 1) as u32
    }
}

/// `base^exponent` for `base >= 1`, reproducible to the last bit like [`ln`].
fn power(base: f64, exponent: f64) -> f64 {
    let x = -ln(1.0 / base) * exponent;
    // e^x by halving the argument until the series converges at once, then squaring back.
    let halvings = 20;
    let small = x / f64::from(1 << halvings);
    let series = 1.0 + small * (1.0 + small * (0.5 + small / 6.0));
    (0..halvings).fold(series, |value, _| value * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_different_concerns_are_unrelated_and_each_is_repeatable() {
        let draw = |seed, concern: &str| Stream::new(seed, &concern).word();
        assert_eq!(draw(1, "loss"), draw(1, "loss"));
        assert_ne!(draw(1, "loss"), draw(1, "latency"));
        assert_ne!(draw(1, "loss"), draw(2, "loss"));
        // A literal on purpose: a change here changes every plan, and GENERATOR must change with it.
        assert_eq!(
            Stream::new(7, &"workload").word(),
            12_746_446_324_085_801_521
        );
    }

    #[test]
    fn logarithm_and_power_agree_with_the_platform() {
        for n in 1..=10_000 {
            let x = f64::from(n) / 10_000.0;
            assert!(
                (ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1e-300),
                "{x}"
            );
            let base = f64::from(n);
            let close = (power(base, -0.99) / base.powf(-0.99) - 1.0).abs();
            assert!(close < 1e-8, "{base}: {close}");
        }
    }

    #[test]
    fn exponential_draws_have_their_mean() {
        let mut stream = Stream::new(3, &"exponential");
        let n = 200_000;
        let mean = (0..n).map(|_| stream.exponential(5.0)).sum::<f64>() / f64::from(n);
        assert!(
            (mean - 5.0).abs() < 0.05,
            "standard error is 0.011, got {mean}"
        );
    }

    #[test]
    fn zipf_draws_follow_the_law() {
        let zipf = Zipf::new(10, 1.0);
        let mut stream = Stream::new(3, &"zipf");
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut stream) as usize] += 1;
        }
        let harmonic: f64 = (1..=10).map(|rank| 1.0 / f64::from(rank)).sum();
        for (rank, count) in counts.iter().enumerate() {
            let expected = 100_000.0 / harmonic / (rank + 1) as f64;
            assert!(
                (f64::from(*count) / expected - 1.0).abs() < 0.06,
                "{rank}: {count}"
            );
        }
    }
}
