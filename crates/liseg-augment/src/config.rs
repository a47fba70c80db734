//! What a user can choose about augmentation.

use serde::{Deserialize, Serialize};

use crate::intensity::{Brightness, Contrast, Gamma, GaussianBlur, GaussianNoise};
use crate::spatial::{LowResolution, Mirror, Spatial};
use crate::{Error, Interval, Pipeline, Result};

/// Which transforms are in the pipeline, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The central crop alone; all numbers are ignored.
    None,
    /// Rotation, scaling and mirroring: the usual weak view of semi-supervised training.
    Spatial,
    /// Everything but rotation, scaling and mirroring: what turns a weak view into a strong one.
    Intensity,
    /// Everything, in the order of nnU-Net v2.
    #[default]
    Nnunet,
}

/// An axis of the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Across the slices.
    Z,
    /// Across the rows of a slice.
    Y,
    /// Along a row.
    X,
}

/// The settings of augmentation.
///
/// The preset says which transforms take part, every other field how often and how strongly.
/// Defaults are those of nnU-Net v2 (Isensee et al. 2021, Nature Methods 18; nnunetv2 2.8,
/// `nnUNetTrainer.get_training_transforms`). Probabilities are per patch unless named per
/// channel; a probability of 0 switches a transform off. Ranges are written `[low, high]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Which transforms take part: `"none"`, `"spatial"`, `"intensity"` or `"nnunet"` (default).
    pub preset: Preset,
    /// Patches with max(shape) / slices above this are turned and scaled within their slices
    /// only, and low resolution leaves the slice axis alone. Default 3.
    pub in_plane_ratio: f64,
    /// Probability of a rotation. Default 0.2.
    pub rotation_probability: f64,
    /// Angle around each of the three axes, in degrees. Default −30 to 30.
    pub rotation_degrees: Interval,
    /// The one angle within the slices of a flat patch, in degrees. Default −180 to 180.
    pub rotation_degrees_in_plane: Interval,
    /// Probability of scaling, independent of rotation. Default 0.2.
    pub scaling_probability: f64,
    /// Scale factor, one for all axes; above 1 shrinks what is seen. Default 0.7 to 1.4.
    pub scaling: Interval,
    /// Probability of Gaussian noise. Default 0.1.
    pub noise_probability: f64,
    /// Standard deviation of the noise, in units of the normalised image. Default 0 to 0.1.
    pub noise_sigma: Interval,
    /// Probability of Gaussian blur. Default 0.2.
    pub blur_probability: f64,
    /// Probability that a channel of a blurred patch is blurred. Default 0.5.
    pub blur_channel_probability: f64,
    /// Standard deviation of the blur in voxels, drawn for each axis. Default 0.5 to 1.
    pub blur_sigma: Interval,
    /// Probability of a brightness change. Default 0.15.
    pub brightness_probability: f64,
    /// Factor on the intensities, drawn below and above 1 equally often. Default 0.75 to 1.25.
    pub brightness: Interval,
    /// Probability of a contrast change. Default 0.15.
    pub contrast_probability: f64,
    /// Factor on the distance from the mean, drawn below and above 1 equally often; the range of
    /// intensities is kept. Default 0.75 to 1.25.
    pub contrast: Interval,
    /// Probability of simulated low resolution. Default 0.25.
    pub low_resolution_probability: f64,
    /// Probability that a channel of such a patch is coarsened. Default 0.5.
    pub low_resolution_channel_probability: f64,
    /// Size of the coarse grid over that of the patch, one for all axes. Default 0.5 to 1.
    pub low_resolution: Interval,
    /// Probability of a gamma change of the negated image. Default 0.1.
    pub gamma_inverted_probability: f64,
    /// Its exponent, drawn below and above 1 equally often. Default 0.7 to 1.5.
    pub gamma_inverted: Interval,
    /// Probability of a gamma change. Default 0.3.
    pub gamma_probability: f64,
    /// Its exponent, drawn below and above 1 equally often. Default 0.7 to 1.5.
    pub gamma: Interval,
    /// Probability that each of `mirror_axes` is reversed, drawn axis by axis. Default 0.5.
    pub mirror_probability: f64,
    /// Axes that may be reversed. Default `["z", "y", "x"]`, as nnU-Net; empty for none.
    pub mirror_axes: Vec<Axis>,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            preset: Preset::Nnunet,
            in_plane_ratio: 3.0,
            rotation_probability: 0.2,
            rotation_degrees: Interval::new(-30.0, 30.0),
            rotation_degrees_in_plane: Interval::new(-180.0, 180.0),
            scaling_probability: 0.2,
            scaling: Interval::new(0.7, 1.4),
            noise_probability: 0.1,
            noise_sigma: Interval::new(0.0, 0.1),
            blur_probability: 0.2,
            blur_channel_probability: 0.5,
            blur_sigma: Interval::new(0.5, 1.0),
            brightness_probability: 0.15,
            brightness: Interval::new(0.75, 1.25),
            contrast_probability: 0.15,
            contrast: Interval::new(0.75, 1.25),
            low_resolution_probability: 0.25,
            low_resolution_channel_probability: 0.5,
            low_resolution: Interval::new(0.5, 1.0),
            gamma_inverted_probability: 0.1,
            gamma_inverted: Interval::new(0.7, 1.5),
            gamma_probability: 0.3,
            gamma: Interval::new(0.7, 1.5),
            mirror_probability: 0.5,
            mirror_axes: vec![Axis::Z, Axis::Y, Axis::X],
        }
    }
}

impl AugmentConfig {
    /// The default numbers with the given preset.
    pub fn preset(preset: Preset) -> Self {
        Self {
            preset,
            ..Self::default()
        }
    }

    /// Checks every field, whether the preset uses it or not, and builds the pipeline.
    ///
    /// # Errors
    /// [`Error::Config`] for the first field out of range.
    pub fn build(&self) -> Result<Pipeline> {
        self.check()?;
        let (spatial, intensity) = match self.preset {
            Preset::None => (false, false),
            Preset::Spatial => (true, false),
            Preset::Intensity => (false, true),
            Preset::Nnunet => (true, true),
        };
        // The crop to the final shape always takes place, so the spatial step is always there.
        let mut pipeline = Pipeline::new().with(
            1.0,
            Spatial {
                rotation_probability: if spatial {
                    self.rotation_probability
                } else {
                    0.0
                },
                rotation_degrees: self.rotation_degrees,
                rotation_degrees_in_plane: self.rotation_degrees_in_plane,
                scaling_probability: if spatial {
                    self.scaling_probability
                } else {
                    0.0
                },
                scaling: self.scaling,
                in_plane_ratio: self.in_plane_ratio,
            },
        );
        if intensity {
            let blur = GaussianBlur {
                channel_probability: self.blur_channel_probability,
                sigma: self.blur_sigma,
            };
            let low_resolution = LowResolution {
                channel_probability: self.low_resolution_channel_probability,
                factor: self.low_resolution,
                in_plane_ratio: self.in_plane_ratio,
            };
            let gamma_inverted = Gamma {
                exponent: self.gamma_inverted,
                inverted: true,
            };
            let gamma = Gamma {
                exponent: self.gamma,
                inverted: false,
            };
            pipeline = pipeline
                .with(
                    self.noise_probability,
                    GaussianNoise {
                        sigma: self.noise_sigma,
                    },
                )
                .with(self.blur_probability, blur)
                .with(
                    self.brightness_probability,
                    Brightness {
                        factor: self.brightness,
                    },
                )
                .with(
                    self.contrast_probability,
                    Contrast {
                        factor: self.contrast,
                    },
                )
                .with(self.low_resolution_probability, low_resolution)
                .with(self.gamma_inverted_probability, gamma_inverted)
                .with(self.gamma_probability, gamma);
        }
        if spatial {
            let axes = [Axis::Z, Axis::Y, Axis::X].map(|axis| self.mirror_axes.contains(&axis));
            pipeline = pipeline.with(
                1.0,
                Mirror {
                    probability: self.mirror_probability,
                    axes,
                },
            );
        }
        Ok(pipeline)
    }

    fn check(&self) -> Result<()> {
        let probabilities = [
            ("rotation_probability", self.rotation_probability),
            ("scaling_probability", self.scaling_probability),
            ("noise_probability", self.noise_probability),
            ("blur_probability", self.blur_probability),
            ("blur_channel_probability", self.blur_channel_probability),
            ("brightness_probability", self.brightness_probability),
            ("contrast_probability", self.contrast_probability),
            (
                "low_resolution_probability",
                self.low_resolution_probability,
            ),
            (
                "low_resolution_channel_probability",
                self.low_resolution_channel_probability,
            ),
            (
                "gamma_inverted_probability",
                self.gamma_inverted_probability,
            ),
            ("gamma_probability", self.gamma_probability),
            ("mirror_probability", self.mirror_probability),
        ];
        for (field, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(field, value, "a probability from 0 to 1"));
            }
        }
        let turn = (-360.0, 360.0, "[low, high] within -360 and 360 degrees");
        let factor = (0.01, 100.0, "[low, high] within 0.01 and 100");
        let ranges = [
            ("rotation_degrees", self.rotation_degrees, turn),
            (
                "rotation_degrees_in_plane",
                self.rotation_degrees_in_plane,
                turn,
            ),
            ("scaling", self.scaling, factor),
            (
                "noise_sigma",
                self.noise_sigma,
                (0.0, 1e6, "[low, high] within 0 and 1e6"),
            ),
            (
                "blur_sigma",
                self.blur_sigma,
                (0.0, 100.0, "[low, high] within 0 and 100 voxels"),
            ),
            ("brightness", self.brightness, factor),
            ("contrast", self.contrast, factor),
            (
                "low_resolution",
                self.low_resolution,
                (0.01, 1.0, "[low, high] within 0.01 and 1"),
            ),
            ("gamma_inverted", self.gamma_inverted, factor),
            ("gamma", self.gamma, factor),
        ];
        for (field, Interval { low, high }, (least, most, expected)) in ranges {
            if !(least <= low && low <= high && high <= most) {
                return Err(wrong(field, format!("[{low}, {high}]"), expected));
            }
        }
        if !(self.in_plane_ratio >= 1.0 && self.in_plane_ratio.is_finite()) {
            return Err(wrong(
                "in_plane_ratio",
                self.in_plane_ratio,
                "a number not below 1",
            ));
        }
        Ok(())
    }
}

fn wrong(field: &'static str, found: impl ToString, expected: &'static str) -> Error {
    Error::Config {
        field,
        found: found.to_string(),
        expected,
    }
}
