//! The distances in one direction, and what is taken from one or both.

use crate::{Result, percentile};

/// From every point of one surface to another surface, in mm.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Directed {
    pub(crate) distances: Vec<f64>,
    /// The area in mm² that each point stands for; `None` where points are counted.
    pub(crate) areas: Option<Vec<f64>>,
}

impl Directed {
    /// What all points weigh together: their area, or their number.
    pub(crate) fn weight(&self) -> f64 {
        match &self.areas {
            Some(areas) => areas.iter().sum(),
            None => self.distances.len() as f64,
        }
    }

    /// The sum of a function of the distances, each as often as its point weighs.
    pub(crate) fn sum(&self, of: impl Fn(f64) -> f64) -> f64 {
        match &self.areas {
            Some(areas) => {
                let weighted = self.distances.iter().zip(areas);
                weighted.map(|(&d, area)| of(d) * area).sum()
            }
            None => self.distances.iter().map(|&d| of(d)).sum(),
        }
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum(|d| d) / self.weight()
    }

    pub(crate) fn max(&self) -> f64 {
        self.distances.iter().copied().fold(0.0, f64::max)
    }

    /// The `q`-th percentile: linear between counted points; between weighted ones the first
    /// distance at which the points so far have `q` percent of the area.
    pub(crate) fn percentile(&self, q: f64) -> Result<f64> {
        match &self.areas {
            None => percentile(&mut self.distances.clone(), q),
            Some(areas) => weighted_percentile(&self.distances, areas, q),
        }
    }

    /// Both lists in one.
    pub(crate) fn pooled(&self, other: &Self) -> Self {
        let join = |a: &[f64], b: &[f64]| [a, b].concat();
        Self {
            distances: join(&self.distances, &other.distances),
            areas: match (&self.areas, &other.areas) {
                (Some(a), Some(b)) => Some(join(a, b)),
                _ => None,
            },
        }
    }
}

/// The first of the sorted values at which the weights so far reach `q` percent of their sum
/// (surface-distance's rule).
fn weighted_percentile(values: &[f64], weights: &[f64], q: f64) -> Result<f64> {
    if !(0.0..=100.0).contains(&q) {
        return Err(crate::Error::Percentile { found: q });
    }
    let mut sorted: Vec<(f64, f64)> = values
        .iter()
        .copied()
        .zip(weights.iter().copied())
        .collect();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let mut reached = 0.0;
    let at = sorted.iter().find(|(_, weight)| {
        reached += weight;
        reached / total >= q / 100.0
    });
    // Rounding can leave the last share a little below 1.
    let found = at.or(sorted.last());
    found.map(|(value, _)| *value).ok_or(crate::Error::NoValues)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weighted_percentile_is_a_step_to_the_next_value() {
        let values = [7.0, 0.0, 1.0, 1.2, 0.0, 2.0, 3.0];
        let weights = [2.0, 1.0, 2.0, 0.25, 0.5, 1.25, 3.0];
        for (q, expected) in [
            (0.0, 0.0),
            (25.0, 1.0),
            (50.0, 2.0),
            (75.0, 3.0),
            (80.0, 3.0),
            (95.0, 7.0),
            (100.0, 7.0),
        ] {
            assert_eq!(
                weighted_percentile(&values, &weights, q).unwrap(),
                expected,
                "{q}"
            );
        }
        assert!(weighted_percentile(&values, &weights, 101.0).is_err());
    }
}
