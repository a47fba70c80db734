//! Simulated phases without contrast agent.

use rand::Rng;

use super::statistics::Statistics;
use crate::simd::vectorised;
use crate::{Interval, Params, PatchInfo, Transform};

/// Moves the intensities of the labelled organ relative to the rest and levels its vessels.
///
/// Contrast agent brightens liver and vessels. Without it the liver is darker against its
/// surroundings and vessels stand out less or, dark, the other way round. The label says where the
/// liver is; patches without foreground stay as they are. (The idea of MA2's
/// `simulate_noncontrast`, which subtracts a random constant from the liver.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonContrast {
    /// What is added to the organ, in standard deviations of the channel.
    pub shift: Interval,
    /// Factor on how far voxels of the organ lie above its mean: 1 leaves vessels bright, 0 levels
    /// them, below 0 makes them dark.
    pub vessels: Interval,
}

impl Transform for NonContrast {
    fn name(&self) -> &'static str {
        "non_contrast"
    }

    fn sample(&self, _: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::NonContrast {
            shift: self.shift.draw(rng),
            vessels: self.vessels.draw(rng),
        }
    }
}

/// Inside the label, with m the mean there and s the channel's standard deviation:
/// y = m + d + shift · s where d = x − m below m and vessels · (x − m) above.
#[expect(clippy::float_cmp, reason = "only doing nothing is the identity")]
pub(crate) fn simulate(image: &mut [f32], label: &[i8], shift: f64, vessels: f64) {
    if shift == 0.0 && vessels == 1.0 {
        return;
    }
    let (mut sum, mut count) = (0.0f64, 0usize);
    for (value, _) in image.iter().zip(label).filter(|(_, label)| **label > 0) {
        sum += f64::from(*value);
        count += 1;
    }
    if count == 0 {
        return;
    }
    let mean = (sum / count as f64) as f32;
    let shift = (shift * Statistics::of(image).std) as f32;
    run(image, label, mean, shift, vessels as f32);
}

vectorised! {
    fn run(image: &mut [f32], label: &[i8], mean: f32, shift: f32, vessels: f32) {
        for (value, &label) in image.iter_mut().zip(label) {
            let above = *value - mean;
            let factor = if above > 0.0 { vessels } else { 1.0 };
            let moved = mean + factor * above + shift;
            *value = if label > 0 { moved } else { *value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organ_moves_its_vessels_shrink_and_the_rest_stays() {
        let mut image = vec![0.0f32, 4.0, 1.0, 2.0, 3.0];
        let label = [0, 0, 1, 1, 1];
        // Mean of the organ 2, variance of the channel (4 + 4 + 1 + 0 + 1) / 5 = 2.
        simulate(&mut image, &label, -1.0, 0.5);
        let s = 2f32.sqrt();
        let expected = [0.0, 4.0, 1.0 - s, 2.0 - s, 2.5 - s];
        for (found, expected) in image.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{image:?}");
        }
    }
}
