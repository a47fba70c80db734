//! Bootstrap intervals.

use super::normal;
use crate::{Error, Result, percentile};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How an interval is read off the replicates (Efron & Tibshirani 1993, chapters 13 and 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntervalKind {
    /// The percentiles of the replicates; the right choice for a median.
    #[default]
    Percentile,
    /// The percentiles mirrored at the estimate.
    Basic,
    /// Corrected for bias and acceleration; for smooth statistics such as a mean.
    Bca,
}

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The statistic of the sample itself.
    pub estimate: f64,
    /// Standard deviation of the replicates.
    pub standard_error: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// A bootstrap interval: the statistic of `replicates` samples drawn from `values` with replacement.
///
/// `level` is its coverage, such as 0.95. 10 000 replicates are usual for that.
///
/// # Errors
/// [`Error::NoValues`] without values or replicates, [`Error::Level`] for a level outside (0, 1).
///
/// # Examples
/// ```
/// use liseg_metrics::{IntervalKind, bootstrap};
/// use liseg_volume::Seed;
///
/// let dice = [0.91, 0.88, 0.95, 0.93, 0.90, 0.94];
/// let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
/// let mut rng = Seed(1).stream("bootstrap", 0, 0);
/// let found = bootstrap(&dice, mean, 10_000, 0.95, IntervalKind::Percentile, &mut rng)?;
/// assert!(found.low < found.estimate && found.estimate < found.high);
/// # Ok::<(), liseg_metrics::Error>(())
/// ```
pub fn bootstrap(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    replicates: usize,
    level: f64,
    kind: IntervalKind,
    rng: &mut impl Rng,
) -> Result<Bootstrap> {
    if values.is_empty() || replicates == 0 {
        return Err(Error::NoValues);
    }
    let mut sample = vec![0.0; values.len()];
    let drawn: Vec<f64> = (0..replicates)
        .map(|_| {
            for value in &mut sample {
                *value = values[rng.random_range(0..values.len())];
            }
            statistic(&sample)
        })
        .collect();
    interval_of(values, statistic, &drawn, level, kind)
}

/// The interval that given replicates of a statistic lead to.
///
/// # Errors
/// As [`bootstrap`].
pub fn interval_of(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    replicates: &[f64],
    level: f64,
    kind: IntervalKind,
) -> Result<Bootstrap> {
    if values.is_empty() || replicates.is_empty() {
        return Err(Error::NoValues);
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Level { found: level });
    }
    let estimate = statistic(values);
    let outer = (1.0 - level) / 2.0;
    let (lower, upper) = match kind {
        IntervalKind::Bca => corrected_levels(values, &statistic, estimate, replicates, outer),
        _ => (outer, 1.0 - outer),
    };
    let mut sorted = replicates.to_vec();
    let low = percentile(&mut sorted, 100.0 * lower)?;
    let high = percentile(&mut sorted, 100.0 * upper)?;
    let (low, high) = match kind {
        IntervalKind::Basic => (2.0 * estimate - high, 2.0 * estimate - low),
        _ => (low, high),
    };
    Ok(Bootstrap {
        estimate,
        standard_error: standard_deviation(replicates),
        low,
        high,
    })
}

/// The levels of the BCa interval: z₀ from the share of replicates below the estimate (ties half),
/// the acceleration from the jackknife.
fn corrected_levels(
    values: &[f64],
    statistic: &impl Fn(&[f64]) -> f64,
    estimate: f64,
    replicates: &[f64],
    outer: f64,
) -> (f64, f64) {
    let below = replicates.iter().filter(|&&r| r < estimate).count() as f64;
    let equal = replicates
        .iter()
        .filter(|&&r| r.total_cmp(&estimate).is_eq())
        .count() as f64;
    let share = (below + 0.5 * equal) / replicates.len() as f64;
    let bias = normal::quantile(share);
    let acceleration = acceleration(values, statistic);
    if !bias.is_finite() || values.len() < 2 {
        return (outer, 1.0 - outer);
    }
    let level = |z: f64| {
        let shifted = bias + z;
        normal::cumulative(bias + shifted / (1.0 - acceleration * shifted))
    };
    let z = normal::quantile(outer);
    (level(z), level(-z))
}

/// Σ d³ / (6 (Σ d²)^1.5) with d the jackknife's mean minus each of its values; 0 when all are equal.
fn acceleration(values: &[f64], statistic: &impl Fn(&[f64]) -> f64) -> f64 {
    let jackknife: Vec<f64> = (0..values.len())
        .map(|left_out| {
            let others: Vec<f64> = values
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != left_out)
                .map(|(_, &v)| v)
                .collect();
            statistic(&others)
        })
        .collect();
    let mean = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let power = |p| jackknife.iter().map(|v| (mean - v).powi(p)).sum::<f64>();
    let squares = power(2);
    if squares > 0.0 {
        power(3) / (6.0 * squares.powf(1.5))
    } else {
        0.0
    }
}

fn standard_deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (n - 1.0).max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;
    use proptest::prelude::*;

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn of(values: &[f64], kind: IntervalKind) -> Bootstrap {
        let mut rng = Seed(3).stream("test", 0, 0);
        bootstrap(values, mean, 500, 0.95, kind, &mut rng).unwrap()
    }

    #[test]
    fn a_wrong_request_is_refused() {
        let mut rng = Seed(3).stream("test", 0, 0);
        let kind = IntervalKind::Percentile;
        assert!(bootstrap(&[], mean, 10, 0.95, kind, &mut rng).is_err());
        assert!(bootstrap(&[1.0], mean, 0, 0.95, kind, &mut rng).is_err());
        for level in [0.0, 1.0, f64::NAN] {
            assert!(bootstrap(&[1.0], mean, 10, level, kind, &mut rng).is_err());
        }
    }

    proptest! {
        #[test]
        fn the_interval_of_a_constant_sample_is_that_constant(n in 1usize..20, quarters in -40i32..40) {
            let value = f64::from(quarters) / 4.0;
            for kind in [IntervalKind::Percentile, IntervalKind::Basic, IntervalKind::Bca] {
                let found = of(&vec![value; n], kind);
                prop_assert_eq!((found.low, found.estimate, found.high), (value, value, value));
            }
        }

        #[test]
        fn an_interval_lies_within_the_range_of_the_values_and_moves_with_them(
            values in prop::collection::vec(-8i32..8, 2..20),
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let moved: Vec<f64> = values.iter().map(|v| v + 16.0).collect();
            for kind in [IntervalKind::Percentile, IntervalKind::Bca] {
                let (a, b) = (of(&values, kind), of(&moved, kind));
                prop_assert!(a.low <= a.high);
                let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                prop_assert!(a.low >= least - 1e-12);
                prop_assert!((b.low - a.low - 16.0).abs() < 1e-9);
                prop_assert!((b.high - a.high - 16.0).abs() < 1e-9);
            }
        }
    }
}
