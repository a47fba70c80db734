//! A closed range of numbers to draw from.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How a factor is drawn from an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// Uniformly.
    #[default]
    Uniform,
    /// Below or above 1 with equal chance; see [`Interval::draw_around_one`].
    AroundOne,
    /// The inverse of a uniform number: the interval is of magnifications where the factor
    /// shrinks.
    Inverse,
}

impl Draw {
    /// A factor from `interval`.
    pub fn from(self, interval: Interval, rng: &mut dyn Rng) -> f64 {
        match self {
            Self::Uniform => interval.draw(rng),
            Self::AroundOne => interval.draw_around_one(rng),
            Self::Inverse => 1.0 / interval.draw(rng),
        }
    }
}

/// The numbers from `low` to `high`; in a file an array of two, such as `[0.7, 1.4]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct Interval {
    /// Smallest number.
    pub low: f64,
    /// Largest number.
    pub high: f64,
}

impl Interval {
    /// The numbers from `low` to `high`.
    pub const fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    /// A number drawn uniformly.
    pub fn draw(self, rng: &mut dyn Rng) -> f64 {
        let share: f64 = rng.random();
        self.low + (self.high - self.low) * share
    }

    /// A factor drawn below 1 or above 1 with equal chance, uniformly on either side, so that a
    /// lopsided range such as 0.7 to 1.5 does not brighten more often than it darkens. A range
    /// on one side of 1 is drawn uniformly. (batchgeneratorsv2, `BGContrast`.)
    pub fn draw_around_one(self, rng: &mut dyn Rng) -> f64 {
        if self.low < 1.0 && self.high > 1.0 {
            let side = if rng.random() {
                Self::new(self.low, 1.0)
            } else {
                Self::new(1.0, self.high)
            };
            side.draw(rng)
        } else {
            self.draw(rng)
        }
    }

    /// The largest absolute value inside.
    pub(crate) fn reach(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;

    #[test]
    fn draws_stay_inside_and_take_both_sides_of_one_equally_often() {
        let mut rng = Seed(1).stream("interval", 0, 0);
        let interval = Interval::new(0.9, 3.0);
        let mut below = 0;
        for _ in 0..4000 {
            let factor = interval.draw_around_one(&mut rng);
            assert!((0.9..=3.0).contains(&factor));
            below += usize::from(factor < 1.0);
        }
        // Five standard deviations of a fair coin: 5 √4000 / 2 = 158.
        assert!((1842..=2158).contains(&below), "{below} of 4000 below one");
        for _ in 0..100 {
            assert!((1.5..=2.0).contains(&Interval::new(1.5, 2.0).draw_around_one(&mut rng)));
        }
    }
}
