//! The drawn parameters of every transform, and how they are applied.

use serde::{Deserialize, Serialize};

use crate::spatial::{SpatialParams, low_resolution, mirror};
use crate::transform::OnChannel;
use crate::{Error, Result, Sample, intensity};

/// What one transform drew for one patch: everything needed to do the same again.
///
/// Serialises with the transform's name in the field `transform`. Numbers come back exactly from
/// formats that keep the shortest decimal form (TOML; JSON if the reader does not round).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transform", rename_all = "snake_case", deny_unknown_fields)]
pub enum Params {
    /// Rotation and scaling in one resampling, or a central crop where neither was drawn.
    Spatial(SpatialParams),
    /// Normal noise, independent from voxel to voxel.
    GaussianNoise {
        /// Standard deviation, in units of the image; not negative.
        sigma: f64,
        /// Seed of the noise, below 2⁵³ so that every file format keeps it.
        seed: u64,
    },
    /// Smoothing with a Gaussian kernel.
    GaussianBlur {
        /// Standard deviations in voxels along `[z, y, x]`, each in 0..=100 (0: not smoothed).
        sigmas: Vec<OnChannel<[f64; 3]>>,
    },
    /// Multiplication.
    Brightness {
        /// Factors; finite.
        factors: Vec<OnChannel<f64>>,
    },
    /// Stretching around the mean, clamped to the old range.
    Contrast {
        /// Factors; finite.
        factors: Vec<OnChannel<f64>>,
    },
    /// Sampling on a coarser grid and back.
    LowResolution {
        /// Size of the coarse grid over that of the patch along `[z, y, x]`, each in (0, 1].
        factors: Vec<OnChannel<[f64; 3]>>,
    },
    /// Power of the intensities, with mean and standard deviation kept.
    Gamma {
        /// Exponents; positive.
        exponents: Vec<OnChannel<f64>>,
        /// Whether the power acts on the negated image, so that bright voxels take the dark
        /// ones' place.
        inverted: bool,
    },
    /// Reflection of image and label.
    Mirror {
        /// Whether the axis is reversed, `[z, y, x]`.
        axes: [bool; 3],
    },
}

impl Params {
    /// The name of the transform that draws these parameters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Spatial(_) => "spatial",
            Self::GaussianNoise { .. } => "gaussian_noise",
            Self::GaussianBlur { .. } => "gaussian_blur",
            Self::Brightness { .. } => "brightness",
            Self::Contrast { .. } => "contrast",
            Self::LowResolution { .. } => "low_resolution",
            Self::Gamma { .. } => "gamma",
            Self::Mirror { .. } => "mirror",
        }
    }

    /// Applies the parameters. A pure function: the same sample gives the same result, to the
    /// last bit.
    ///
    /// Only [`Params::Spatial`] makes new arrays; all others work in place. Only it and
    /// [`Params::Mirror`] touch the label.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] and [`Error::Shape`] when the sample is malformed,
    /// [`Error::Parameter`] and [`Error::Channel`] when the parameters are (they may come from a
    /// file).
    pub fn apply(&self, sample: Sample) -> Result<Sample> {
        let mut sample = sample.into_checked()?;
        match self {
            Self::Spatial(params) => return params.apply(sample),
            Self::GaussianNoise { sigma, seed } => {
                self.require("sigma", *sigma, *sigma >= 0.0, "a number not below 0")?;
                for_all(&mut sample, |image| {
                    intensity::noise::add(image, *sigma, *seed)
                });
            }
            Self::GaussianBlur { sigmas } => {
                for sigma in sigmas.iter().flat_map(|on| on.value) {
                    self.require(
                        "sigmas",
                        sigma,
                        (0.0..=100.0).contains(&sigma),
                        "0 to 100 voxels",
                    )?;
                }
                let shape = sample.shape();
                self.for_each(&mut sample, sigmas, |image, sigmas| {
                    intensity::blur::smooth(image, shape, sigmas);
                })?;
            }
            Self::Brightness { factors } => {
                self.require_finite("factors", factors)?;
                self.for_each(&mut sample, factors, intensity::brightness::multiply)?;
            }
            Self::Contrast { factors } => {
                self.require_finite("factors", factors)?;
                self.for_each(&mut sample, factors, intensity::contrast::stretch)?;
            }
            Self::LowResolution { factors } => {
                for factor in factors.iter().flat_map(|on| on.value) {
                    let fits = factor > 0.0 && factor <= 1.0;
                    self.require("factors", factor, fits, "above 0 and at most 1")?;
                }
                let shape = sample.shape();
                self.for_each(&mut sample, factors, |image, factors| {
                    low_resolution::coarsen(image, shape, factors);
                })?;
            }
            Self::Gamma {
                exponents,
                inverted,
            } => {
                for on in exponents {
                    let fits = on.value > 0.0 && on.value.is_finite();
                    self.require("exponents", on.value, fits, "a number above 0")?;
                }
                self.for_each(&mut sample, exponents, |image, exponent| {
                    intensity::gamma::raise(image, exponent, *inverted);
                })?;
            }
            Self::Mirror { axes } => {
                let shape = sample.shape();
                for_all(&mut sample, |image| {
                    for channel in image.chunks_exact_mut(shape.iter().product()) {
                        mirror::flip(channel, shape, *axes);
                    }
                });
                if let Some(label) = sample.label.as_slice_mut() {
                    mirror::flip(label, shape, *axes);
                }
            }
        }
        Ok(sample)
    }

    /// Runs `work` on the voxels of each named channel.
    fn for_each<T: Copy>(
        &self,
        sample: &mut Sample,
        values: &[OnChannel<T>],
        mut work: impl FnMut(&mut [f32], T),
    ) -> Result<()> {
        let channels = sample.channels();
        let voxels = sample.label.len();
        for on in values {
            if on.channel >= channels {
                return Err(Error::Channel {
                    transform: self.name(),
                    channel: on.channel,
                    channels,
                });
            }
            for_all(sample, |image| {
                let start = on.channel * voxels;
                work(&mut image[start..start + voxels], on.value);
            });
        }
        Ok(())
    }

    fn require_finite(&self, field: &'static str, values: &[OnChannel<f64>]) -> Result<()> {
        values.iter().try_for_each(|on| {
            self.require(field, on.value, on.value.is_finite(), "a finite number")
        })
    }

    fn require(
        &self,
        field: &'static str,
        found: f64,
        fits: bool,
        expected: &'static str,
    ) -> Result<()> {
        if fits && found.is_finite() {
            return Ok(());
        }
        let found = found.to_string();
        Err(Error::Parameter {
            transform: self.name(),
            field,
            found,
            expected,
        })
    }
}

/// Runs `work` on the whole image in memory order, channel after channel. A checked sample is
/// contiguous, so there always is such a slice.
fn for_all(sample: &mut Sample, work: impl FnOnce(&mut [f32])) {
    if let Some(image) = sample.image.as_slice_mut() {
        work(image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, Array4};

    fn sample() -> Sample {
        Sample {
            image: Array4::zeros((1, 2, 3, 4)),
            label: Array3::zeros((2, 3, 4)),
        }
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let one = |value| vec![OnChannel { channel: 0, value }];
        let three = |value| {
            vec![OnChannel {
                channel: 0,
                value: [1.0, value, 1.0],
            }]
        };
        let bad = [
            (
                Params::GaussianNoise {
                    sigma: -0.1,
                    seed: 1,
                },
                "sigma",
            ),
            (
                Params::GaussianNoise {
                    sigma: f64::NAN,
                    seed: 1,
                },
                "sigma",
            ),
            (Params::GaussianBlur { sigmas: three(1e9) }, "sigmas"),
            (
                Params::Brightness {
                    factors: one(f64::INFINITY),
                },
                "factors",
            ),
            (
                Params::Contrast {
                    factors: one(f64::NAN),
                },
                "factors",
            ),
            (
                Params::LowResolution {
                    factors: three(0.0),
                },
                "factors",
            ),
            (
                Params::Gamma {
                    exponents: one(0.0),
                    inverted: false,
                },
                "exponents",
            ),
        ];
        for (params, named) in bad {
            match params.apply(sample()) {
                Err(Error::Parameter {
                    transform, field, ..
                }) => {
                    assert_eq!((transform, field), (params.name(), named));
                }
                other => panic!("{params:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn a_missing_channel_is_an_error() {
        let params = Params::Brightness {
            factors: vec![OnChannel {
                channel: 1,
                value: 1.0,
            }],
        };
        let expected = Error::Channel {
            transform: "brightness",
            channel: 1,
            channels: 1,
        };
        assert_eq!(params.apply(sample()), Err(expected));
    }
}
