//! A hasher whose results may be kept: the same on every machine, in every process and build.
//!
//! `std`'s `DefaultHasher` does not promise that. This one is not cryptographic: it compares runs that ordain made
//! itself, and resists no adversary.

use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use serde::{Serialize, Serializer};

/// Odd constants with well-mixed bits (the fractional parts of the golden ratio and of the square root of 3).
const MULTIPLIER: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbb67_ae85_84ca_a73b];

/// A 128-bit rolling hash: two lanes of multiply-and-fold with different constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StableHasher {
    lanes: [u64; 2],
}

impl Default for StableHasher {
    fn default() -> Self {
        Self { lanes: MULTIPLIER }
    }
}

#[inline]
fn fold(lane: u64, word: u64, multiplier: u64) -> u64 {
    let product = u128::from(lane ^ word).wrapping_mul(u128::from(multiplier));
    // Adding the word keeps a lane that became zero from staying there.
    ((product as u64) ^ ((product >> 64) as u64))
        .rotate_left(23)
        .wrapping_add(word ^ multiplier)
}

impl StableHasher {
    /// The digest of everything written so far.
    pub fn digest(&self) -> Digest {
        let [a, b] = self.lanes;
        Digest([fold(a, b, MULTIPLIER[0]), fold(b, a, MULTIPLIER[1])])
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.digest().0[0]
    }

    fn write(&mut self, bytes: &[u8]) {
        let of_length =
            |word: [u8; 8], length: usize| u64::from_le_bytes(word) ^ ((length as u64) << 59);
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(of_length(*word, 8));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(of_length(word, rest.len()));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        for (lane, multiplier) in self.lanes.iter_mut().zip(MULTIPLIER) {
            *lane = fold(*lane, word, multiplier);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

/// The digest of a run's trace, or of any value. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Digest(pub [u64; 2]);

impl Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The stable 64-bit hash of a value.
pub fn stable_hash(value: &impl Hash) -> u64 {
    let mut hasher = StableHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_digest_of_a_known_value_never_changes() {
        // A literal on purpose: a change here changes every recorded digest.
        assert_eq!(
            stable_hash(&(1u64, "ordain", [2u8, 3])),
            520_597_801_842_098_914
        );
    }

    #[test]
    fn small_changes_give_other_digests() {
        let digests: BTreeSet<Digest> = (0..100_000u64)
            .map(|n| {
                let mut hasher = StableHasher::default();
                (n % 317, n / 317).hash(&mut hasher);
                hasher.digest()
            })
            .collect();
        assert_eq!(digests.len(), 100_000);
        assert_ne!(
            stable_hash(&[1u8, 0].as_slice()),
            stable_hash(&[1u8].as_slice())
        );
    }
}
