//! Elastic deformation.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::field::Field;
use super::lattice::Lattice;
use crate::convolve::{Border, convolve, gaussian};
use crate::noise::{fill_normals, fill_uniform};
use crate::{Error, Interval, Result, Scratch};

/// How smooth random displacements are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ElasticField {
    /// Cubic B-splines over random control points. `scale` is the smoothness over the side of the
    /// patch, `magnitude` the standard deviation of the displacement in voxels. Nearly as smooth as
    /// a Gaussian and many times faster.
    #[default]
    Lattice,
    /// Normal noise smoothed periodically (batchgeneratorsv2). `scale` is the smoothness over the
    /// side of the patch, `magnitude` the largest displacement in voxels.
    Periodic,
    /// Uniform noise smoothed with zeros beyond the border (batchgenerators). `scale` is the
    /// smoothness in voxels (σ), `magnitude` the factor on the smoothed noise (α).
    ZeroBorder,
}

/// Settings of elastic deformation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// How often. Default 0: nnU-Net has it off.
    pub probability: f64,
    /// How displacements are made. Default `"lattice"`.
    pub field: ElasticField,
    /// Smoothness; see [`ElasticField`]. Default 0.08, as MiDSS.
    pub scale: Interval,
    /// Strength; see [`ElasticField`]. Default 3.5 voxels, the strength of MiDSS.
    pub magnitude: Interval,
}

impl Default for Elastic {
    fn default() -> Self {
        Self {
            probability: 0.0,
            field: ElasticField::Lattice,
            scale: Interval::new(0.08, 0.08),
            magnitude: Interval::new(3.5, 3.5),
        }
    }
}

impl Elastic {
    /// Draws a deformation of a patch; one that leaves voxels in their slices if `in_plane`.
    pub(crate) fn sample(
        &self,
        shape: [usize; 3],
        in_plane: bool,
        rng: &mut dyn Rng,
    ) -> ElasticParams {
        let seed = rng.next_u64() >> 11;
        let sides = shape.map(|side| side as f64);
        let (mut sigma, mut magnitude) = match self.field {
            ElasticField::Lattice => {
                let scale = self.scale.draw(rng);
                (
                    sides.map(|side| scale * side),
                    [self.magnitude.draw(rng); 3],
                )
            }
            ElasticField::Periodic => (
                sides.map(|side| self.scale.draw(rng) * side),
                [(); 3].map(|()| self.magnitude.draw(rng)),
            ),
            ElasticField::ZeroBorder => ([self.scale.draw(rng); 3], [self.magnitude.draw(rng); 3]),
        };
        if in_plane {
            magnitude[0] = 0.0;
        }
        sigma = sigma.map(|sigma| sigma.max(0.0));
        ElasticParams {
            field: self.field,
            sigma,
            magnitude,
            seed,
        }
    }
}

/// A drawn deformation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElasticParams {
    /// How displacements are made.
    pub field: ElasticField,
    /// Smoothness in voxels, 0 to 10000: along z, y, x for a lattice; of the displacement along z,
    /// y, x for the others.
    pub sigma: [f64; 3],
    /// Strength of the displacement along z, y, x, at least 0 (0: none); see [`ElasticField`].
    pub magnitude: [f64; 3],
    /// Seed of the noise, below 2⁵³.
    pub seed: u64,
}

impl ElasticParams {
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |field, found: [f64; 3], expected| {
            Err(Error::Parameter {
                transform: "spatial",
                field,
                found: format!("{found:?}"),
                expected,
            })
        };
        if !self.sigma.iter().all(|v| (0.0..=1e4).contains(v)) {
            return wrong("elastic.sigma", self.sigma, "0 to 10000 voxels");
        }
        if !self.magnitude.iter().all(|v| (0.0..=1e6).contains(v)) {
            return wrong("elastic.magnitude", self.magnitude, "0 to 1e6");
        }
        Ok(())
    }

    /// The displacements of an output of `shape`.
    pub(super) fn field(&self, shape: [usize; 3], scratch: &mut Scratch) -> Field {
        if self.field == ElasticField::Lattice {
            let (sigma, magnitude) = (self.sigma, self.magnitude);
            return Field::Lattice(Lattice::random(shape, sigma, magnitude, self.seed, scratch));
        }
        let voxels = shape.iter().product();
        Field::Dense([0, 1, 2].map(|k| {
            let mut values = scratch.floats(voxels);
            let seed = self.seed.wrapping_add(k as u64);
            if self.magnitude[k] <= 0.0 {
                values.fill(0.0);
            } else if self.field == ElasticField::Periodic {
                fill_normals(&mut values, seed);
                smooth_periodic(
                    &mut values,
                    shape,
                    self.sigma[k],
                    self.magnitude[k],
                    scratch,
                );
            } else {
                fill_uniform(&mut values, seed);
                smooth_zero_border(
                    &mut values,
                    shape,
                    self.sigma[k],
                    self.magnitude[k],
                    scratch,
                );
            }
            values
        }))
    }
}

/// Smooths noise periodically with a Gaussian and scales it to a largest absolute value.
///
/// The kernel along an axis of n voxels is the inverse Fourier transform of exp(−2π²σ²f²) at the
/// frequencies f = j/n: what SciPy's `fourier_gaussian` does.
pub(crate) fn smooth_periodic(
    values: &mut [f32],
    shape: [usize; 3],
    sigma: f64,
    largest: f64,
    scratch: &mut Scratch,
) {
    for (axis, side) in shape.into_iter().enumerate() {
        convolve(
            values,
            shape,
            axis,
            &periodic_kernel(side, sigma),
            Border::Periodic,
            scratch,
        );
    }
    let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let gain = (largest / f64::from(most).max(1e-30)) as f32;
    values.iter_mut().for_each(|value| *value *= gain);
}

/// One period of the kernel, centred; an even side splits the voxel opposite the centre in two.
fn periodic_kernel(side: usize, sigma: f64) -> Vec<f32> {
    use std::f64::consts::{PI, TAU};
    let n = side as f64;
    let half = side / 2;
    let at = |distance: usize| -> f64 {
        let sum: f64 = (0..side)
            .map(|j| {
                // Frequencies beyond the middle are negative.
                let f = if 2 * j > side { j as f64 - n } else { j as f64 } / n;
                let damping = (-2.0 * (PI * sigma * f).powi(2)).exp();
                damping * (TAU * (j * distance % side) as f64 / n).cos()
            })
            .sum();
        sum / n
    };
    if side == 1 {
        return vec![1.0];
    }
    let weights: Vec<f64> = (0..=half).map(at).collect();
    let weight = |distance: usize| match 2 * distance == side {
        true => weights[distance] / 2.0,
        false => weights[distance],
    };
    // Weights that no float notices are left out.
    let total = weights[0];
    let needed = (0..=half)
        .rev()
        .find(|&d| weight(d).abs() > 1e-9 * total)
        .unwrap_or(0);
    (0..=2 * needed)
        .map(|k| weight(k.abs_diff(needed)) as f32)
        .collect()
}

/// Smooths noise with a Gaussian cut off at 4 σ and zeros beyond the border, and multiplies it.
pub(crate) fn smooth_zero_border(
    values: &mut [f32],
    shape: [usize; 3],
    sigma: f64,
    alpha: f64,
    scratch: &mut Scratch,
) {
    let kernel = gaussian(sigma, (4.0 * sigma + 0.5) as usize);
    for axis in 0..3 {
        convolve(values, shape, axis, &kernel, Border::Zero, scratch);
    }
    let alpha = alpha as f32;
    values.iter_mut().for_each(|value| *value *= alpha);
}
