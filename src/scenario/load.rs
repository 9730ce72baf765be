//! Load over time: how the rate of arrivals changes in the course of a run.
//!
//! All of it is arithmetic that IEEE 754 fixes to the last bit, because plans follow from it.

use super::units::human_ns;

/// How the rate changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShapeName {
    /// It grows evenly from the usual rate, beginning at `from`, to `times` as much after `for`, and stays there.
    Ramp,
    /// It is `times` as much from `from` on, for `for`.
    Peak,
    /// It rises to `times` as much and falls back, smoothly, once in each `for`, from `from` on: a day in short.
    Daily,
    /// It jumps to `times` as much at `from`, and falls back evenly within `for`.
    FlashCrowd,
}

/// A change of the rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Profile {
    /// How it changes.
    pub shape: ShapeName,
    /// The highest rate, in terms of the usual one; above 0.
    pub times: f64,
    /// When it begins, nanoseconds.
    pub from_ns: u64,
    /// How long it takes, nanoseconds.
    pub for_ns: u64,
}

impl Profile {
    /// The rate at this time, in terms of the usual one.
    pub fn factor(&self, at_ns: f64) -> f64 {
        let since = (at_ns - self.from_ns as f64) / self.for_ns as f64;
        if since < 0.0 {
            return 1.0;
        }
        let risen = match self.shape {
            ShapeName::Ramp => since.min(1.0),
            ShapeName::Peak => f64::from(u8::from(since < 1.0)),
            ShapeName::FlashCrowd => (1.0 - since).max(0.0),
            ShapeName::Daily => {
                let of_day = since - since.floor();
                let up = 1.0 - (2.0 * of_day - 1.0).abs();
                // The cubic that rises from 0 to 1 and is level at both ends.
                up * up * (3.0 - 2.0 * up)
            }
        };
        1.0 + (self.times - 1.0) * risen
    }

    /// The highest factor that there ever is.
    pub fn highest(&self) -> f64 {
        self.times.max(1.0)
    }

    /// In words.
    pub fn describe(&self) -> String {
        let (times, from, lasts) = (self.times, human_ns(self.from_ns), human_ns(self.for_ns));
        match self.shape {
            ShapeName::Ramp => format!("grows to {times} times within {lasts} from {from} on"),
            ShapeName::Peak => format!("{times} times from {from} on, for {lasts}"),
            ShapeName::Daily => {
                format!("rises to {times} times and falls back every {lasts} from {from} on")
            }
            ShapeName::FlashCrowd => {
                format!("jumps to {times} times at {from} and falls back within {lasts}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_has_the_rate_that_it_says() {
        let factors = |shape| {
            let profile = Profile {
                shape,
                times: 5.0,
                from_ns: 100,
                for_ns: 100,
            };
            [0.0, 100.0, 125.0, 150.0, 199.0, 200.0, 250.0].map(|at| {
                let factor = profile.factor(at);
                assert!(factor >= 1.0 && factor <= profile.highest());
                (factor * 100.0).round() / 100.0
            })
        };
        assert_eq!(
            factors(ShapeName::Ramp),
            [1.0, 1.0, 2.0, 3.0, 4.96, 5.0, 5.0]
        );
        assert_eq!(
            factors(ShapeName::Peak),
            [1.0, 5.0, 5.0, 5.0, 5.0, 1.0, 1.0]
        );
        assert_eq!(
            factors(ShapeName::Daily),
            [1.0, 1.0, 3.0, 5.0, 1.0, 1.0, 5.0]
        );
        assert_eq!(
            factors(ShapeName::FlashCrowd),
            [1.0, 5.0, 4.0, 3.0, 1.04, 1.0, 1.0]
        );
    }
}
