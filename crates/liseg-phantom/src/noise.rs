//! Smooth random fields: what makes no two organs alike.

use crate::vector::Point;
use rand::{Rng, RngExt};

/// Knots along each side of the table; the field repeats after as many wavelengths.
const SIDE: usize = 16;

/// A smooth random field with `N` components between −1 and 1, with mean 0.
///
/// Uniform random values on a cubic lattice, blended by 6t⁵ − 15t⁴ + 10t³, whose first and second
/// derivatives vanish at the knots: the field has continuous curvature (value noise).
#[derive(Debug, Clone)]
pub(crate) struct Noise<const N: usize> {
    knots: Vec<[f32; N]>,
    per_mm: f32,
}

impl<const N: usize> Noise<N> {
    /// A field whose knots are `wavelength_mm` apart.
    pub(crate) fn new(wavelength_mm: f32, rng: &mut impl Rng) -> Self {
        let knot = |_| std::array::from_fn(|_| rng.random_range(-1.0..1.0));
        Self {
            knots: (0..SIDE.pow(3)).map(knot).collect(),
            per_mm: 1.0 / wavelength_mm,
        }
    }

    /// The field at a point.
    #[inline]
    pub(crate) fn at(&self, p: Point) -> [f32; N] {
        let mut low = [0usize; 3];
        let mut high = [0usize; 3];
        let mut weight = [0.0f32; 3];
        for axis in 0..3 {
            let place = p[axis] * self.per_mm;
            // Rounds down; `f32::floor` is a call into the mathematics library on plain x86-64.
            let towards_zero = place as i32;
            let floor = towards_zero - i32::from(place < towards_zero as f32);
            let t = place - floor as f32;
            weight[axis] = t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
            // Two's complement makes the mask a true modulo for negative knots too.
            low[axis] = (floor as usize) & (SIDE - 1);
            high[axis] = (low[axis] + 1) & (SIDE - 1);
        }
        let knot = |z: usize, y: usize, x: usize| self.knots[(z * SIDE + y) * SIDE + x];
        let blend = |a: [f32; N], b: [f32; N], t: f32| -> [f32; N] {
            std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
        };
        let row = |z: usize, y: usize| blend(knot(z, y, low[0]), knot(z, y, high[0]), weight[0]);
        let plane = |z: usize| blend(row(z, low[1]), row(z, high[1]), weight[1]);
        blend(plane(low[2]), plane(high[2]), weight[2])
    }
}

impl Noise<1> {
    /// The field at a point, as a number.
    #[inline]
    pub(crate) fn value(&self, p: Point) -> f32 {
        self.at(p)[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;

    #[test]
    fn the_field_is_bounded_continuous_and_centred() {
        let noise = Noise::<1>::new(20.0, &mut Seed(3).stream("noise", 0, 0));
        let (mut sum, mut count, mut previous) = (0.0, 0, noise.value([-400.0, 3.0, -273.0]));
        for i in -4000..4000 {
            let value = noise.value([i as f32 * 0.1, 3.0, 7.0 + i as f32 * 0.07]);
            assert!((-1.0..=1.0).contains(&value));
            // The steepest blend of two knots 2 apart over 20 mm has slope 15/8 · 2/20 per mm.
            assert!((value - previous).abs() < 0.06, "jump at {i}");
            previous = value;
            sum += value;
            count += 1;
        }
        assert!((sum / count as f32).abs() < 0.2);
    }

    #[test]
    fn knots_are_met_exactly() {
        let noise = Noise::<3>::new(10.0, &mut Seed(3).stream("noise", 0, 1));
        let corner = 2 * SIDE * SIDE + SIDE - 1;
        for (place, knot) in [([0.0; 3], 0), ([-10.0, 0.0, 20.0], corner)] {
            for (value, expected) in noise.at(place).iter().zip(noise.knots[knot]) {
                assert!((value - expected).abs() < 1e-6);
            }
        }
    }
}
