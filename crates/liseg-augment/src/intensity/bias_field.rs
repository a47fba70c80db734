//! Bias field: intensities that drift through the volume, as near a surface coil.

use rand::Rng;

use super::statistics::extremes;
use crate::math::exp2;
use crate::simd::vectorised;
use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Transform};

/// Terms of a polynomial of the third degree in three variables, as powers of (z, y, x).
pub(crate) const TERMS: [[i32; 3]; 20] = [
    [0, 0, 0],
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
    [2, 0, 0],
    [1, 1, 0],
    [1, 0, 1],
    [0, 2, 0],
    [0, 1, 1],
    [0, 0, 2],
    [3, 0, 0],
    [2, 1, 0],
    [2, 0, 1],
    [1, 2, 0],
    [1, 1, 1],
    [1, 0, 2],
    [0, 3, 0],
    [0, 2, 1],
    [0, 1, 2],
    [0, 0, 3],
];

/// The field never exceeds e² or falls below e⁻².
const STEEPEST: f32 = 2.0;

/// Multiplies each channel with e to the power of a random polynomial of the third degree
/// (Van Leemput et al. 1999; Sudre et al. 2017), where voxels count from the channel's minimum:
/// normalised intensities are signed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BiasField {
    /// Largest coefficient; all are drawn between its negative and itself.
    pub strength: Interval,
}

impl Transform for BiasField {
    fn name(&self) -> &'static str {
        "bias_field"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::BiasField {
            fields: per_channel(info, 1.0, rng, |rng| {
                let most = self.strength.draw(rng);
                let range = Interval::new(-most, most);
                // A constant factor would be brightness.
                let drawn = TERMS[1..].iter().map(|_| range.draw(rng));
                std::iter::once(0.0).chain(drawn).collect()
            }),
        }
    }
}

/// y = (x − lo) exp(p(z, y, x)) + lo, with the polynomial over −1..1 along each axis.
pub(crate) fn multiply(image: &mut [f32], shape: [usize; 3], coefficients: &[f64]) {
    if coefficients.iter().all(|&c| c == 0.0) {
        return;
    }
    let [nz, ny, nx] = shape;
    let (low, _) = extremes(image);
    let at = |k: usize, n: usize| match n {
        1 => 0.0,
        _ => 2.0 * k as f64 / (n - 1) as f64 - 1.0,
    };
    for (row, voxels) in image.chunks_exact_mut(nx).enumerate() {
        let (z, y) = (at(row / ny, nz), at(row % ny, ny));
        // Along the row a polynomial in x remains.
        let mut along = [0.0f64; 4];
        for ([p, q, r], c) in TERMS.iter().zip(coefficients) {
            along[*r as usize] += c * z.powi(*p) * y.powi(*q);
        }
        let along = along.map(|c| c as f32);
        multiply_row(voxels, along, low);
    }
}

vectorised! {
    fn multiply_row(row: &mut [f32], along: [f32; 4], low: f32) {
        let [a, b, c, d] = along;
        let count = row.len();
        let step = match count {
            1 => 0.0,
            _ => 2.0 / (count - 1) as f32,
        };
        let start = if count == 1 { 0.0 } else { -1.0 };
        for (k, value) in row.iter_mut().enumerate() {
            let x = start + step * k as i32 as f32;
            let power = ((d * x + c) * x + b) * x + a;
            let power = if power > STEEPEST { STEEPEST } else { power };
            let power = if power < -STEEPEST { -STEEPEST } else { power };
            *value = (*value - low) * exp2(power * std::f32::consts::LOG2_E) + low;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_e_to_the_polynomial() {
        let shape = [3, 4, 5];
        let mut image = vec![3.0f32; 60];
        image[0] = 1.0; // the minimum, where voxels count from
        let coefficients: Vec<f64> = (0..20).map(|k| f64::from(k % 7) * 0.02 - 0.05).collect();
        multiply(&mut image, shape, &coefficients);
        let (z, y, x): (f64, f64, f64) = (0.0, 1.0 / 3.0, 0.5); // voxel (1, 2, 3)
        let power: f64 = TERMS
            .iter()
            .zip(&coefficients)
            .map(|([p, q, r], c)| c * z.powi(*p) * y.powi(*q) * x.powi(*r))
            .sum();
        let expected = 1.0 + 2.0 * power.exp();
        let found = f64::from(image[(4 + 2) * 5 + 3]);
        assert!((found - expected).abs() < 1e-5, "{found} not {expected}");
        assert!((image[0] - 1.0).abs() < 1e-6);
    }
}
