//! Gaussian noise.

use rand::Rng;

use crate::noise::add_normals;
use crate::{Interval, Params, PatchInfo, Transform};

/// Adds normal noise with one standard deviation for all channels, independent in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianNoise {
    /// Standard deviation, in units of the image.
    pub sigma: Interval,
}

impl Transform for GaussianNoise {
    fn name(&self) -> &'static str {
        "gaussian_noise"
    }

    fn sample(&self, _: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let sigma = self.sigma.draw(rng);
        // 53 bits: a number that TOML and every JSON reader keep.
        Params::GaussianNoise {
            sigma,
            seed: rng.next_u64() >> 11,
        }
    }
}

/// Adds the noise of `seed`, with standard deviation `sigma`, to all channels.
pub(crate) fn add(image: &mut [f32], sigma: f64, seed: u64) {
    let sigma = sigma as f32;
    if sigma == 0.0 {
        return;
    }
    add_normals(image, sigma, seed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intensity::statistics::Statistics;

    #[test]
    fn noise_has_the_asked_spread_and_depends_on_its_seed() {
        let make = |seed| {
            let mut image = vec![2.0f32; 40_000];
            add(&mut image, 0.1, seed);
            image
        };
        let found = Statistics::of(&make(7));
        // Five standard errors: 5 · 0.1 / √40000 and 5 · 0.1 / √80000.
        assert!((found.mean - 2.0).abs() < 0.0025 && (found.std - 0.1).abs() < 0.0018);
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }
}
