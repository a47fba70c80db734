//! One measure over many cases.

use crate::{CaseMetrics, Empty, IntervalKind, Measure, bootstrap, percentile};
use liseg_volume::Seed;
use serde::{Deserialize, Serialize};

/// How one measure is distributed over cases.
///
/// Distances are skewed: read median and quartiles first. Cases are counted, never silently left
/// out: `n + n_undefined` is their number.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Cases with a value; the statistics are over these.
    pub n: usize,
    /// Cases without a value, left out of the statistics.
    pub n_undefined: usize,
    /// Cases without a prediction, among all cases.
    pub n_missing: usize,
    /// Cases with a prediction that is empty though the reference is not, among all cases.
    pub n_empty: usize,
    /// Arithmetic mean; `None` without values.
    pub mean: Option<f64>,
    /// Ends of the 95 % bootstrap interval of the mean: percentiles of 2000 samples of the cases,
    /// drawn with a fixed seed; `None` below two values. It takes cases as independent;
    /// [`Comparison`](crate::Comparison) goes by patient.
    #[serde(default)]
    pub mean_interval: Option<[f64; 2]>,
    /// Standard deviation of the sample (divided by n − 1); `None` below two values.
    pub sd: Option<f64>,
    /// Smallest value.
    pub minimum: Option<f64>,
    /// 25th percentile.
    pub first_quartile: Option<f64>,
    /// 50th percentile.
    pub median: Option<f64>,
    /// 75th percentile.
    pub third_quartile: Option<f64>,
    /// Largest value.
    pub maximum: Option<f64>,
}

impl Summary {
    /// Summarises one measure of cases, each with whether its prediction is missing.
    pub(crate) fn of<'a>(
        measure: Measure,
        cases: impl Iterator<Item = (&'a CaseMetrics, bool)>,
    ) -> Self {
        let mut summary = Self::default();
        let mut values = Vec::new();
        for (case, missing) in cases {
            summary.n_missing += usize::from(missing);
            let empty = case.empty() == Some(Empty::Prediction);
            summary.n_empty += usize::from(!missing && empty);
            match case.get(measure) {
                Some(value) => values.push(value),
                None => summary.n_undefined += 1,
            }
        }
        summary.n = values.len();
        summary.mean = mean(values.iter().copied());
        summary.sd = summary.mean.filter(|_| values.len() > 1).map(|mean| {
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            (squares / (values.len() - 1) as f64).sqrt()
        });
        summary.mean_interval = mean_interval(&values);
        let mut at = |q| percentile(&mut values, q).ok();
        summary.minimum = at(0.0);
        summary.first_quartile = at(25.0);
        summary.median = at(50.0);
        summary.third_quartile = at(75.0);
        summary.maximum = at(100.0);
        summary
    }
}

fn mean_interval(values: &[f64]) -> Option<[f64; 2]> {
    const REPLICATES: usize = 2000;
    if values.len() < 2 {
        return None;
    }
    let mut rng = Seed(0).stream("summary", 0, 0);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let kind = IntervalKind::Percentile;
    let found = bootstrap(values, mean, REPLICATES, 0.95, kind, &mut rng).ok()?;
    Some([found.low, found.high])
}

/// The arithmetic mean; `None` without values.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0usize);
    for value in values {
        sum += value;
        n += 1;
    }
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(dice: Option<f64>) -> CaseMetrics {
        CaseMetrics {
            dice,
            n_pred: 0,
            n_ref: 7,
            false_negative: 7,
            ..CaseMetrics::default()
        }
    }

    #[test]
    fn counts_every_case() {
        let cases = [Some(1.0), Some(0.0), None, Some(0.5), Some(0.5)].map(case);
        let missing = [false, true, false, false, false];
        let summary = Summary::of(Measure::Dice, cases.iter().zip(missing));
        assert_eq!(
            (
                summary.n,
                summary.n_undefined,
                summary.n_missing,
                summary.n_empty
            ),
            (4, 1, 1, 4)
        );
        assert_eq!(summary.mean, Some(0.5));
        assert_eq!(summary.median, Some(0.5));
        assert_eq!(summary.first_quartile, Some(0.375));
        let [low, high] = summary.mean_interval.unwrap();
        assert!((0.0..0.5).contains(&low) && (0.5..=1.0).contains(&high));
        // The sample's deviation: squares 0.25 + 0.25 over 3.
        assert!((summary.sd.unwrap() - (0.5f64 / 3.0).sqrt()).abs() < 1e-15);
        let none = Summary::of(Measure::Hd, cases.iter().map(|case| (case, false)));
        assert_eq!((none.n, none.mean, none.median), (0, None, None));
        let one = Summary::of(Measure::Dice, [(&cases[0], false)].into_iter());
        assert_eq!((one.mean, one.sd), (Some(1.0), None));
    }
}
