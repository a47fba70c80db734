//! Random intensity curves.

use rand::{Rng, RngExt};

use super::statistics::{Statistics, restore};
use crate::simd::vectorised;
use crate::transform::{chance, per_channel};
use crate::{Params, PatchInfo, Transform};

/// Most points of a curve.
pub(crate) const MOST_POINTS: usize = 32;

/// Sends the intensities of each channel through a random curve and restores mean and standard
/// deviation (after Zhou et al. 2021, Models Genesis: non-linear intensity transformation).
///
/// A monotone curve keeps the order of tissues, as another gain or window does; any other may swap
/// them, as another phase or sequence does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Points of the curve, evenly spaced over the channel's range; straight lines between.
    pub points: usize,
    /// How often a curve is monotone.
    pub monotone_share: f64,
}

impl Transform for Curve {
    fn name(&self) -> &'static str {
        "curve"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Curve {
            points: per_channel(info, 1.0, rng, |rng| {
                let monotone = chance(rng, self.monotone_share);
                let mut points: Vec<f64> = (0..self.points).map(|_| rng.random()).collect();
                if monotone {
                    points.sort_by(f64::total_cmp);
                }
                points
            }),
        }
    }
}

/// Sends one channel through the curve with the given heights.
pub(crate) fn bend(image: &mut [f32], points: &[f64]) {
    let straight = 1.0 / (points.len().max(2) - 1) as f64;
    let is_identity = |(k, y): (usize, &f64)| (y - k as f64 * straight).abs() < 1e-12;
    if points.iter().enumerate().all(is_identity) {
        return;
    }
    let before = Statistics::of(image);
    // As starts and slopes, one more than there are pieces: the maximum begins the last.
    let mut pieces = [(0.0f32, 0.0f32); MOST_POINTS];
    for (k, piece) in pieces.iter_mut().enumerate().take(points.len()) {
        let next = points.get(k + 1).unwrap_or(&points[k]);
        *piece = (points[k] as f32, (next - points[k]) as f32);
    }
    let range = f64::from(before.max) - f64::from(before.min);
    let to_steps = match range > 0.0 {
        true => ((points.len() - 1) as f64 / range) as f32,
        false => 0.0,
    };
    let last = (points.len() - 1) as f32;
    let low = before.min;
    follow(image, &pieces, low, to_steps, last);
    restore(image, &before);
}

vectorised! {
    fn follow(
        image: &mut [f32],
        pieces: &[(f32, f32); MOST_POINTS],
        low: f32,
        to_steps: f32,
        last: f32,
    ) {
        for value in image {
            let steps = (*value - low) * to_steps;
            let steps = if steps < last { steps } else { last };
            let steps = if steps > 0.0 { steps } else { 0.0 };
            let piece = steps as i32;
            let (start, slope) = pieces[piece as usize % MOST_POINTS];
            *value = start + slope * (steps - piece as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_passes_through_its_points_up_to_mean_and_spread() {
        let image: Vec<f32> = (0..=40).map(|k| 2.0 + k as f32 * 0.1).collect();
        let points = [0.2, 0.9, 0.1, 0.4, 1.0];
        let mut bent = image.clone();
        bend(&mut bent, &points);
        // Voxels 0, 10, … 40 lie on points: their differences keep their ratios.
        let at = |k: usize| f64::from(bent[10 * k]);
        let gain = (at(1) - at(0)) / 0.7;
        for k in 1..4 {
            let expected = (points[k + 1] - points[k]) * gain;
            assert!((at(k + 1) - at(k) - expected).abs() < 1e-5);
        }
        let (before, after) = (Statistics::of(&image), Statistics::of(&bent));
        assert!((before.mean - after.mean).abs() < 1e-5);
        assert!((before.std - after.std).abs() < 1e-5);
    }
}
