//! The drawn parameters of every transform.

use serde::{Deserialize, Serialize};

use crate::Scratch;
use crate::intensity::BlurRule;
use crate::spatial::SpatialParams;
use crate::spatial::low_resolution::ReadBack;
use crate::transform::OnChannel;
use crate::{Result, Sample};

/// What one transform drew for one patch: everything needed to do the same again.
///
/// Serialises with the transform's name in the field `transform`. Numbers come back exactly from
/// formats that keep the shortest decimal form (TOML; JSON if the reader does not round).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transform", rename_all = "snake_case", deny_unknown_fields)]
pub enum Params {
    /// Rotation, scaling and deformation in one resampling, or a central crop where none was drawn.
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
        /// The kernel.
        #[serde(default)]
        rule: BlurRule,
    },
    /// Multiplication.
    Brightness {
        /// Factors; finite.
        factors: Vec<OnChannel<f64>>,
        /// Whether voxels count from the channel's minimum and stay below its maximum.
        #[serde(default)]
        from_minimum: bool,
    },
    /// Stretching around the mean.
    Contrast {
        /// Factors; finite.
        factors: Vec<OnChannel<f64>>,
        /// Whether the result is clamped to the old range.
        #[serde(default = "yes")]
        keep_range: bool,
    },
    /// Sampling on a coarser grid and back.
    LowResolution {
        /// Size of the coarse grid over that of the patch along `[z, y, x]`, each in (0, 1].
        factors: Vec<OnChannel<[f64; 3]>>,
        /// How the coarse grid is read.
        #[serde(default)]
        read_back: ReadBack,
    },
    /// Power of the intensities.
    Gamma {
        /// Exponents; positive.
        exponents: Vec<OnChannel<f64>>,
        /// Whether the power acts on the negated image, so that bright voxels take the dark
        /// ones' place.
        inverted: bool,
        /// Whether mean and standard deviation are restored.
        #[serde(default = "yes")]
        keep_statistics: bool,
    },
    /// Reflection of image and label.
    Mirror {
        /// Whether the axis is reversed, `[z, y, x]`.
        axes: [bool; 3],
    },
    /// Zeros where the label is negative.
    MaskOutside {
        /// The channels.
        channels: Vec<usize>,
    },
    /// Multiplication with e to the power of a polynomial.
    BiasField {
        /// The 20 coefficients of a polynomial of the third degree, each within −10 and 10.
        fields: Vec<OnChannel<Vec<f64>>>,
    },
    /// Weaker copies along an axis.
    Ghosting {
        /// The axis: 0 for z, 1 for y, 2 for x.
        axis: usize,
        /// How many.
        ghosts: usize,
        /// Strength, 0 to 1.
        strengths: Vec<OnChannel<f64>>,
    },
    /// Parts of k-space that see the patient elsewhere; all channels alike.
    Motion {
        /// The axis: 0 for z, 1 for y, 2 for x.
        axis: usize,
        /// Where equal parts of k-space, from the middle outwards, see the patient, in voxels; 1 to
        /// 64 finite numbers.
        shifts: Vec<f64>,
    },
    /// A curve over the intensities; mean and standard deviation are restored.
    Curve {
        /// Heights at evenly spaced intensities from a channel's minimum to its maximum; 2 to 32
        /// numbers within 0 and 1.
        points: Vec<OnChannel<Vec<f64>>>,
    },
    /// Reflection of the intensities at their mean.
    Reversal {
        /// The channels.
        channels: Vec<usize>,
    },
    /// The labelled organ moves relative to the rest and its bright voxels are levelled.
    NonContrast {
        /// What is added to the organ, in standard deviations of the channel; finite.
        shift: f64,
        /// Factor on how far voxels of the organ lie above its mean; finite.
        vessels: f64,
    },
    /// The answer of a small random network, mixed with the original.
    Mixing {
        /// Seed of the weights.
        seed: u64,
        /// Layers, 1 to 8.
        layers: usize,
        /// Channels between layers, 1 to 8.
        hidden: usize,
        /// Share of the answer, 0 to 1.
        share: f64,
    },
    /// New intensities for labels and supervoxels.
    Synthetic {
        /// Seed of the intensities.
        seed: u64,
        /// Side of a supervoxel in voxels, at least 2.
        supervoxel: usize,
        /// Classes of supervoxels, 1 to 256.
        tissues: usize,
        /// Share of the texture that is kept, 0 to 1.
        detail: f64,
    },
    /// The histogram of another volume.
    Histogram {
        /// The other's intensities at [`LANDMARKS`](crate::intensity::LANDMARKS); 11 finite numbers.
        targets: Vec<OnChannel<Vec<f64>>>,
        /// How far towards it, 0 to 1.
        share: f64,
    },
}

fn yes() -> bool {
    true
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
            Self::MaskOutside { .. } => "mask_outside",
            Self::BiasField { .. } => "bias_field",
            Self::Ghosting { .. } => "ghosting",
            Self::Motion { .. } => "motion",
            Self::Curve { .. } => "curve",
            Self::Reversal { .. } => "reversal",
            Self::NonContrast { .. } => "non_contrast",
            Self::Mixing { .. } => "mixing",
            Self::Synthetic { .. } => "synthetic",
            Self::Histogram { .. } => "histogram",
        }
    }

    /// Applies the parameters. A pure function: the same sample gives the same result, to the
    /// last bit.
    ///
    /// Only [`Params::Spatial`] makes new arrays; all others work in place. Only it and
    /// [`Params::Mirror`] touch the label and further maps. Buffers are the calling thread's.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch),
    /// [`Error::MapMismatch`](crate::Error::MapMismatch) and [`Error::Shape`](crate::Error::Shape)
    /// when the sample is malformed, [`Error::Parameter`](crate::Error::Parameter) and
    /// [`Error::Channel`](crate::Error::Channel) when the parameters are (they may come from a
    /// file).
    pub fn apply(&self, sample: Sample) -> Result<Sample> {
        Scratch::with(|scratch| self.apply_with(sample, scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use ndarray::{Array3, Array4};

    fn sample() -> Sample {
        Sample::new(Array4::zeros((1, 2, 3, 4)), Array3::zeros((2, 3, 4)))
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let one = |value| vec![OnChannel { channel: 0, value }];
        let list = |value: Vec<f64>| vec![OnChannel { channel: 0, value }];
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
            (
                Params::GaussianBlur {
                    sigmas: three(1e9),
                    rule: BlurRule::SixSigma,
                },
                "sigmas",
            ),
            (
                Params::Brightness {
                    factors: one(f64::INFINITY),
                    from_minimum: false,
                },
                "factors",
            ),
            (
                Params::Contrast {
                    factors: one(f64::NAN),
                    keep_range: true,
                },
                "factors",
            ),
            (
                Params::LowResolution {
                    factors: three(0.0),
                    read_back: ReadBack::Linear,
                },
                "factors",
            ),
            (
                Params::Gamma {
                    exponents: one(0.0),
                    inverted: false,
                    keep_statistics: true,
                },
                "exponents",
            ),
            (
                Params::BiasField {
                    fields: list(vec![0.1; 19]),
                },
                "fields",
            ),
            (
                Params::BiasField {
                    fields: list(vec![11.0; 20]),
                },
                "fields",
            ),
            (
                Params::Ghosting {
                    axis: 3,
                    ghosts: 2,
                    strengths: one(0.5),
                },
                "axis",
            ),
            (
                Params::Ghosting {
                    axis: 0,
                    ghosts: 2,
                    strengths: one(1.5),
                },
                "strengths",
            ),
            (
                Params::Motion {
                    axis: 0,
                    shifts: vec![],
                },
                "shifts",
            ),
            (
                Params::Motion {
                    axis: 0,
                    shifts: vec![f64::NAN],
                },
                "shifts",
            ),
            (
                Params::Curve {
                    points: list(vec![0.5]),
                },
                "points",
            ),
            (
                Params::Curve {
                    points: list(vec![0.5, 1.5]),
                },
                "points",
            ),
            (
                Params::NonContrast {
                    shift: f64::NAN,
                    vessels: 1.0,
                },
                "shift",
            ),
            (
                Params::Mixing {
                    seed: 1,
                    layers: 9,
                    hidden: 2,
                    share: 0.5,
                },
                "layers",
            ),
            (
                Params::Mixing {
                    seed: 1,
                    layers: 2,
                    hidden: 2,
                    share: -0.5,
                },
                "share",
            ),
            (
                Params::Synthetic {
                    seed: 1,
                    supervoxel: 1,
                    tissues: 3,
                    detail: 0.5,
                },
                "supervoxel",
            ),
            (
                Params::Synthetic {
                    seed: 1,
                    supervoxel: 4,
                    tissues: 0,
                    detail: 0.5,
                },
                "tissues",
            ),
            (
                Params::Histogram {
                    targets: list(vec![0.5; 3]),
                    share: 0.5,
                },
                "targets",
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
            from_minimum: false,
        };
        let expected = Error::Channel {
            transform: "brightness",
            channel: 1,
            channels: 1,
        };
        assert_eq!(params.apply(sample()), Err(expected));
    }
}
