//! Gaussian blur.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::convolve::{Border, convolve, gaussian};
use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Scratch, Transform};

/// For which axes a width is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BlurAxes {
    /// One for each axis (batchgeneratorsv2).
    #[default]
    Each,
    /// One for all axes (batchgenerators).
    Same,
    /// One for the axes of a slice, and none across slices.
    InPlane,
}

/// Where a Gaussian kernel ends and how the patch goes on beyond its border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BlurRule {
    /// As batchgeneratorsv2: an odd number of weights near 6 σ + 0.5, reflection at the outermost
    /// voxel.
    #[default]
    SixSigma,
    /// As SciPy and batchgenerators: weights up to ⌊4 σ + 0.5⌋, reflection with the outermost
    /// voxel repeated.
    Scipy,
}

/// Smooths channels with a Gaussian kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianBlur {
    /// Probability that a channel is smoothed.
    pub channel_probability: f64,
    /// Standard deviation in voxels.
    pub sigma: Interval,
    /// For which axes it is drawn.
    pub axes: BlurAxes,
    /// The kernel.
    pub rule: BlurRule,
}

impl Transform for GaussianBlur {
    fn name(&self) -> &'static str {
        "gaussian_blur"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let sigmas = per_channel(info, self.channel_probability, rng, |rng| match self.axes {
            BlurAxes::Each => [(); 3].map(|()| self.sigma.draw(rng)),
            BlurAxes::Same => [self.sigma.draw(rng); 3],
            BlurAxes::InPlane => {
                let sigma = self.sigma.draw(rng);
                [0.0, sigma, sigma]
            }
        });
        let rule = self.rule;
        Params::GaussianBlur { sigmas, rule }
    }
}

/// Smooths one channel of the given shape (`[z, y, x]`) axis by axis, x last.
pub(crate) fn smooth(
    image: &mut [f32],
    shape: [usize; 3],
    sigmas: [f64; 3],
    rule: BlurRule,
    scratch: &mut Scratch,
) {
    for (axis, sigma) in sigmas.into_iter().enumerate() {
        let (kernel, border) = match rule {
            BlurRule::SixSigma => (kernel(sigma), Border::Reflect),
            BlurRule::Scipy => {
                let radius = (4.0 * sigma + 0.5) as usize;
                (gaussian(sigma, radius), Border::Symmetric)
            }
        };
        convolve(image, shape, axis, &kernel, border, scratch);
    }
}

/// The kernel of [`BlurRule::SixSigma`]: its number of weights is the odd integer nearest to
/// 6 σ + 0.5 as batchgeneratorsv2 rounds it: half to even, then away from an even result
/// towards 6 σ + 0.5. One weight for σ = 0.
pub(crate) fn kernel(sigma: f64) -> Vec<f32> {
    let width = 6.0 * sigma + 0.5;
    let mut taps = width.round_ties_even();
    if taps % 2.0 == 0.0 {
        taps += if width >= taps { 1.0 } else { -1.0 };
    }
    gaussian(sigma, taps.max(1.0) as usize / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_sizes_change_at_the_documented_widths() {
        for (sigma, taps) in [
            (0.0, 1),
            (0.58, 3),
            (0.59, 5),
            (0.91, 5),
            (0.92, 7),
            (1.0, 7),
        ] {
            assert_eq!(kernel(sigma).len(), taps, "sigma {sigma}");
        }
    }

    #[test]
    fn a_point_becomes_the_product_of_the_kernels() {
        let (shape, sigmas) = ([9, 8, 7], [0.5, 0.8, 1.0]);
        let mut image = vec![0.0f32; 9 * 8 * 7];
        image[(4 * 8 + 4) * 7 + 3] = 1.0;
        let rule = BlurRule::SixSigma;
        smooth(&mut image, shape, sigmas, rule, &mut Scratch::new());
        let [kz, ky, kx] = sigmas.map(kernel);
        let at = |kernel: &[f32], distance: isize| {
            let index = (kernel.len() / 2) as isize + distance;
            usize::try_from(index)
                .ok()
                .and_then(|k| kernel.get(k).copied())
                .unwrap_or(0.0)
        };
        // Away from the border, where reflection adds nothing.
        for (z, y, x) in [(4, 4, 3), (3, 4, 3), (4, 2, 3), (5, 5, 5), (4, 4, 1)] {
            let expected = at(&kz, z - 4) * at(&ky, y - 4) * at(&kx, x - 3);
            let found = image[((z * 8 + y) * 7 + x) as usize];
            assert!(
                (found - expected).abs() < 1e-7,
                "({z}, {y}, {x}): {found} not {expected}"
            );
        }
    }
}
