//! Histogram transfer: one volume in the contrast of another.

use rand::{Rng, RngExt};

use super::statistics::extremes;
use crate::simd::vectorised;
use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Transform};

/// The percentiles that describe a volume's histogram, as in the standardisation of Nyúl et al.
/// (2000): the ends are cut off, between them lie the deciles.
pub const LANDMARKS: [f64; 11] = [
    1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0,
];

/// At most this many voxels are looked at: their percentiles are within a fraction of a per cent.
const LOOKED_AT: usize = 16_384;

/// Intensities of a volume or a patch at the percentiles [`LANDMARKS`].
///
/// `inside` says which voxels count, such as those inside the image or above the background; with
/// no such voxel all do. Large volumes are sampled evenly. No voxels give zeros.
pub fn landmarks(image: &[f32], inside: impl Fn(usize) -> bool) -> [f64; 11] {
    let stride = image.len().div_ceil(LOOKED_AT).max(1);
    let some = (0..image.len()).step_by(stride);
    let mut values: Vec<f32> = some
        .clone()
        .filter(|&k| inside(k))
        .map(|k| image[k])
        .collect();
    if values.is_empty() {
        values = some.map(|k| image[k]).collect();
    }
    values.sort_unstable_by(f32::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return [0.0; 11];
    };
    LANDMARKS.map(|percent| {
        let place = percent / 100.0 * last as f64;
        let below = place as usize;
        let (low, high) = (values[below], values[(below + 1).min(last)]);
        f64::from(low) + (f64::from(high) - f64::from(low)) * (place - below as f64)
    })
}

/// Maps each channel's landmarks to those of another volume, or of Nyúl's standard histogram, drawn
/// from a list: piecewise linear between them and straight on beyond.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramTransfer {
    /// Landmarks to choose from, each the intensities at [`LANDMARKS`]; without any nothing
    /// happens.
    pub references: Vec<[f64; 11]>,
    /// How far to go from the patch's own histogram (0) to the other's (1).
    pub share: Interval,
}

impl Transform for HistogramTransfer {
    fn name(&self) -> &'static str {
        "histogram"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        if self.references.is_empty() {
            let targets = Vec::new();
            return Params::Histogram {
                targets,
                share: 0.0,
            };
        }
        Params::Histogram {
            targets: per_channel(info, 1.0, rng, |rng| {
                self.references[rng.random_range(0..self.references.len())].to_vec()
            }),
            share: self.share.draw(rng),
        }
    }
}

/// Brings one channel's landmarks to `targets`, by the given share of the way.
pub(crate) fn transfer(image: &mut [f32], label: &[i8], targets: &[f64], share: f64) {
    if share == 0.0 || targets.len() != LANDMARKS.len() {
        return;
    }
    let own = landmarks(image, |k| label.get(k).is_none_or(|&label| label >= 0));
    let (min, max) = extremes(image);
    // Landmarks at one place cannot be told apart: the first of them counts.
    let mut nodes: Vec<(f64, f64)> = Vec::with_capacity(own.len());
    for (&from, &to) in own.iter().zip(targets) {
        if nodes.last().is_none_or(|&(before, _)| from > before) {
            nodes.push((from, from + share * (to - from)));
        }
    }
    let [first, .., last] = &nodes[..] else {
        // A flat image becomes as bright as the other's median.
        let shift = share * (targets[LANDMARKS.len() / 2] - own[0]);
        image.iter_mut().for_each(|value| *value += shift as f32);
        return;
    };
    let (first, last) = (*first, *last);
    // A table over the range, fine enough to be told from the lines by nobody.
    const STEPS: usize = 1024;
    let (low, high) = (f64::from(min), f64::from(max));
    let range = (high - low).max(f64::MIN_POSITIVE);
    let height = |x: f64| -> f64 {
        let k = nodes
            .partition_point(|&(from, _)| from <= x)
            .clamp(1, nodes.len() - 1);
        let ((x0, y0), (x1, y1)) = match x {
            _ if x < first.0 => (nodes[0], nodes[1]),
            _ if x > last.0 => (nodes[nodes.len() - 2], nodes[nodes.len() - 1]),
            _ => (nodes[k - 1], nodes[k]),
        };
        // Beyond the landmarks no steeper than fourfold: two close ones say little.
        let mut slope = (y1 - y0) / (x1 - x0);
        if x < first.0 || x > last.0 {
            slope = slope.clamp(0.0, 4.0);
        }
        let (x0, y0) = if x > last.0 { (x1, y1) } else { (x0, y0) };
        y0 + slope * (x - x0)
    };
    let table: Vec<f32> = (0..=STEPS + 1)
        .map(|k| height(low + range * (k.min(STEPS)) as f64 / STEPS as f64) as f32)
        .collect();
    let to_steps = (STEPS as f64 / range) as f32;
    look_up(image, &table, min, to_steps);
}

vectorised! {
    fn look_up(image: &mut [f32], table: &[f32], low: f32, to_steps: f32) {
        let last = (table.len() - 2) as f32;
        for value in image {
            let steps = (*value - low) * to_steps;
            let steps = if steps < last { steps } else { last };
            let steps = if steps > 0.0 { steps } else { 0.0 };
            let at = steps as i32;
            let (here, next) = (table[at as usize], table[at as usize + 1]);
            *value = here + (next - here) * (steps - at as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Vec<f32> {
        (0..10_000)
            .map(|k| (k as f32 / 10_000.0).powi(2) * 4.0)
            .collect()
    }

    #[test]
    fn landmarks_of_a_ramp_are_its_percentiles() {
        let image: Vec<f32> = (0..=1000).map(|k| k as f32).collect();
        let found = landmarks(&image, |_| true);
        for (found, percent) in found.iter().zip(LANDMARKS) {
            assert!((found - percent * 10.0).abs() < 1e-6);
        }
        let upper = landmarks(&image, |k| k >= 500);
        assert!((upper[5] - 750.0).abs() < 1e-6);
        assert!(landmarks(&[], |_| true).iter().all(|v| v.abs() < 1e-12));
    }

    #[test]
    fn after_the_transfer_the_landmarks_are_the_others() {
        let targets = LANDMARKS.map(|p| (p / 40.0).sin() + p / 40.0);
        let mut image = ramp();
        let label = vec![0i8; image.len()];
        transfer(&mut image, &label, &targets, 1.0);
        for (found, expected) in landmarks(&image, |_| true).iter().zip(targets) {
            assert!((found - expected).abs() < 0.02, "{found} not {expected}");
        }
        let mut half = ramp();
        let own = landmarks(&half, |_| true);
        transfer(&mut half, &label, &targets, 0.5);
        let middle = landmarks(&half, |_| true)[5];
        assert!((middle - (own[5] + targets[5]) / 2.0).abs() < 0.02);
    }
}
