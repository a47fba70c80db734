//! What a scanner adds to the picture of the body: shading, ghosts, noise, blur.

use crate::vector::Point;
use crate::vendor::Protocol;
use ndarray::ArrayViewMut2;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

/// Coordinates are divided by this in the polynomials of the shading.
const SHADING_SCALE_MM: f32 = 130.0;

/// A slowly varying factor over the patient: coils see near tissue better, and at high field the
/// middle of the body is darkened.
#[derive(Debug, Clone)]
pub(crate) struct Shading {
    linear: Point,
    square: Point,
    centre: Point,
    darkening: f32,
}

impl Shading {
    pub(crate) fn sample(protocol: &Protocol, rng: &mut impl Rng) -> Self {
        let mut vary = |mean: f32, by: f32| protocol.shading * (mean + rng.random_range(-by..by));
        // Brighter at the front and at the edges, darker above and below the coil's middle.
        let linear = [vary(0.0, 0.7), vary(0.35, 0.5), vary(0.0, 0.5)];
        let square = [vary(0.35, 0.3), vary(0.5, 0.3), vary(-0.5, 0.3)];
        Self {
            linear,
            square,
            centre: [
                rng.random_range(-35.0..35.0),
                rng.random_range(-20.0..25.0),
                0.0,
            ],
            darkening: protocol.central_darkening * rng.random_range(0.7..1.2),
        }
    }

    /// The factor at a point of the patient's frame.
    #[inline]
    pub(crate) fn at(&self, p: Point) -> f32 {
        let mut exponent = 0.0;
        let mut from_centre = 0.0;
        for (axis, position) in p.into_iter().enumerate() {
            let u = position / SHADING_SCALE_MM;
            exponent += self.linear[axis] * u + self.square[axis] * (u * u - 0.3);
            if axis < 2 {
                let d = (position - self.centre[axis]) / 65.0;
                from_centre += d * d;
            }
        }
        exponent.exp() * (1.0 - self.darkening / (1.0 + from_centre))
    }
}

/// Adds a ghost half a field of view away along the rows' direction (phase encoding).
pub(crate) fn add_ghost(mut slice: ArrayViewMut2<'_, f32>, strength: f32) {
    if strength <= 0.0 {
        return;
    }
    let source = slice.to_owned();
    let rows = source.nrows();
    for (y, mut row) in slice.rows_mut().into_iter().enumerate() {
        row.scaled_add(strength, &source.row((y + rows / 2) % rows));
    }
}

/// The magnitude of a signal with independent normal noise in both receiver channels: Rician
/// noise (Gudbjartsson and Patz 1995).
pub(crate) fn add_noise(mut slice: ArrayViewMut2<'_, f32>, sigma: f32, rng: &mut impl Rng) {
    for value in &mut slice {
        let (real, imaginary): (f32, f32) =
            (StandardNormal.sample(rng), StandardNormal.sample(rng));
        let (real, imaginary) = (*value + sigma * real, sigma * imaginary);
        *value = (real * real + imaginary * imaginary).sqrt();
    }
}

/// Smooths rows and columns with the kernel (weight, 1 − 2 weight, weight); the border keeps its
/// own value in place of the missing neighbour.
pub(crate) fn blur(mut slice: ArrayViewMut2<'_, f32>, weight: f32) {
    for axis in [ndarray::Axis(0), ndarray::Axis(1)] {
        for mut lane in slice.lanes_mut(axis) {
            let n = lane.len();
            let mut before = lane[0];
            for i in 0..n {
                let here = lane[i];
                let after = lane[(i + 1).min(n - 1)];
                lane[i] = here + weight * (before + after - 2.0 * here);
                before = here;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;
    use ndarray::Array2;

    #[test]
    fn noise_has_the_moments_of_rice_and_rayleigh() {
        let mut rng = Seed(1).stream("noise", 0, 0);
        // Without signal the mean of the magnitude is sigma · sqrt(π/2).
        let mut air = Array2::zeros((200, 200));
        add_noise(air.view_mut(), 10.0, &mut rng);
        assert!((air.mean().unwrap() - 12.533).abs() < 0.2);
        // With strong signal it is sqrt(A² + sigma²), about, with spread sigma.
        let mut body = Array2::from_elem((200, 200), 200.0f32);
        add_noise(body.view_mut(), 10.0, &mut rng);
        assert!((body.mean().unwrap() - 200.25).abs() < 0.3);
        assert!((body.std(0.0) - 10.0).abs() < 0.2);
    }

    #[test]
    fn blur_keeps_the_sum_and_is_local() {
        let mut slice = Array2::zeros((5, 6));
        slice[[2, 3]] = 1.0;
        blur(slice.view_mut(), 0.1);
        assert!((slice.sum() - 1.0f32).abs() < 1e-6);
        assert!((slice[[2, 3]] - 0.64).abs() < 1e-6);
        assert!((slice[[1, 3]] - 0.08).abs() < 1e-6);
        assert!((slice[[1, 2]] - 0.01).abs() < 1e-6);
        assert!(slice[[0, 3]].abs() < 1e-9);
        let mut flat = Array2::from_elem((4, 4), 7.0f32);
        blur(flat.view_mut(), 0.2);
        assert!(flat.iter().all(|v| (v - 7.0).abs() < 1e-6));
    }

    #[test]
    fn the_ghost_lies_half_a_field_of_view_away() {
        let mut slice = Array2::zeros((8, 2));
        slice[[1, 1]] = 100.0;
        add_ghost(slice.view_mut(), 0.05);
        assert!((slice[[5, 1]] - 5.0f32).abs() < 1e-5);
        assert!((slice[[1, 1]] - 100.0f32).abs() < 1e-5);
        assert!((slice.sum() - 105.0).abs() < 1e-4);
    }
}
