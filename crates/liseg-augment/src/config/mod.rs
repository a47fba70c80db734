//! What a user can choose about augmentation.

mod build;
mod catalogue;
mod check;
mod groups;
mod preset;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::intensity::{BlurAxes, BlurRule};
use crate::spatial::low_resolution::ReadBack;
use crate::spatial::{Elastic, Generation};
use crate::{Draw, Interval};

pub use build::Views;
pub use groups::{
    AnisotropySettings, BiasFieldSettings, CurveSettings, GhostingSettings, HistogramSettings,
    MixingSettings, MotionSettings, NonContrastSettings, SyntheticSettings,
};
pub use preset::Preset;

/// An axis of the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
/// A file names a [`Preset`] and whatever should differ from its numbers; without a preset they are
/// those of nnU-Net v2 (Isensee et al. 2021, Nature Methods 18; nnunetv2 2.8,
/// `nnUNetTrainer.get_training_transforms`), which are the defaults below. Probabilities are per
/// patch unless named per channel; a probability of 0 switches a transform off. Ranges are written
/// `[low, high]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct AugmentConfig {
    /// Where the numbers come from: `"nnunet"` (default), `"nnunet-v1"`, `"midss-full"`,
    /// `"midss-weak"`, `"contrast-robust"` or `"liseg-plus"`; `"none"`, `"spatial"` and
    /// `"intensity"` are nnU-Net's with parts switched off for good.
    pub preset: Preset,
    /// Patches with max(shape) / slices above this are turned and scaled within their slices
    /// only, and low resolution leaves the slice axis alone. Default 3.
    pub in_plane_ratio: f64,
    /// Conventions of the one resampling: `"v2"` (default) or `"v1"`.
    pub generation: Generation,
    /// Probability of a rotation. Default 0.2.
    pub rotation_probability: f64,
    /// Angle around each of the three axes, in degrees. Default −30 to 30.
    pub rotation_degrees: Interval,
    /// The one angle within the slices of a flat patch, in degrees. Default −180 to 180.
    pub rotation_degrees_in_plane: Interval,
    /// Axes around which a patch that is not flat is turned. Default all.
    pub rotation_axes: Vec<Axis>,
    /// Probability of scaling, independent of rotation. Default 0.2.
    pub scaling_probability: f64,
    /// Scale factor; above 1 shrinks what is seen. Default 0.7 to 1.4.
    pub scaling: Interval,
    /// How it is drawn: `"uniform"` (default), `"around_one"` (below and above 1 equally often) or
    /// `"inverse"` (the range is of magnifications).
    pub scaling_draw: Draw,
    /// Whether each axis has its own factor. Default false.
    pub scaling_per_axis: bool,
    /// How far a magnified patch may look away from the centre, 0 (default) to 1.
    pub crop_jitter: f64,
    /// Elastic deformation; off by default.
    pub elastic: Elastic,
    /// Probability of Gaussian noise. Default 0.1.
    pub noise_probability: f64,
    /// Standard deviation of the noise, in units of the normalised image. Default 0 to 0.1.
    pub noise_sigma: Interval,
    /// Probability of Gaussian blur. Default 0.2.
    pub blur_probability: f64,
    /// Probability that a channel of a blurred patch is blurred. Default 0.5.
    pub blur_channel_probability: f64,
    /// Standard deviation of the blur in voxels. Default 0.5 to 1.
    pub blur_sigma: Interval,
    /// For which axes it is drawn: `"each"` (default), `"same"` or `"in_plane"`.
    pub blur_axes: BlurAxes,
    /// Length of the kernel and continuation of the patch: `"six_sigma"` (default) or `"scipy"`.
    pub blur_rule: BlurRule,
    /// Probability of a brightness change. Default 0.15.
    pub brightness_probability: f64,
    /// Factor on the intensities. Default 0.75 to 1.25.
    pub brightness: Interval,
    /// How it is drawn. Default `"around_one"`.
    pub brightness_draw: Draw,
    /// Whether voxels count from the channel's minimum and stay below its maximum. Default false.
    pub brightness_from_minimum: bool,
    /// Probability of a contrast change. Default 0.15.
    pub contrast_probability: f64,
    /// Factor on the distance from the mean; the range of intensities is kept. Default 0.75 to
    /// 1.25.
    pub contrast: Interval,
    /// How it is drawn. Default `"around_one"`.
    pub contrast_draw: Draw,
    /// Probability of simulated low resolution. Default 0.25.
    pub low_resolution_probability: f64,
    /// Probability that a channel of such a patch is coarsened. Default 0.5.
    pub low_resolution_channel_probability: f64,
    /// Size of the coarse grid over that of the patch, one for all axes. Default 0.5 to 1.
    pub low_resolution: Interval,
    /// How the coarse grid is read back: `"linear"` (default) or `"cubic"`.
    pub low_resolution_read_back: ReadBack,
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
    /// Whether voxels outside the image are set to 0 at the end, as nnU-Net does with images that
    /// were normalised inside their non-zero mask. Default false.
    pub mask_outside: bool,
    /// Drift of the intensities through the patch; off by default.
    pub bias_field: BiasFieldSettings,
    /// Ghosts along one axis; off by default.
    pub ghosting: GhostingSettings,
    /// Jumps during the acquisition; off by default.
    pub motion: MotionSettings,
    /// Thick slices along one axis; off by default.
    pub anisotropy: AnisotropySettings,
    /// Random intensity curves; off by default.
    pub curve: CurveSettings,
    /// Probability that the contrast is reversed. Default 0.
    pub reversal_probability: f64,
    /// A liver without contrast agent; off by default.
    pub non_contrast: NonContrastSettings,
    /// Random shallow convolutions; off by default.
    pub mixing: MixingSettings,
    /// New intensities for labels and supervoxels; off by default.
    pub synthetic: SyntheticSettings,
    /// Histograms of other volumes; off by default.
    pub histogram: HistogramSettings,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            preset: Preset::Nnunet,
            in_plane_ratio: 3.0,
            generation: Generation::V2,
            rotation_probability: 0.2,
            rotation_degrees: Interval::new(-30.0, 30.0),
            rotation_degrees_in_plane: Interval::new(-180.0, 180.0),
            rotation_axes: vec![Axis::Z, Axis::Y, Axis::X],
            scaling_probability: 0.2,
            scaling: Interval::new(0.7, 1.4),
            scaling_draw: Draw::Uniform,
            scaling_per_axis: false,
            crop_jitter: 0.0,
            elastic: Elastic::default(),
            noise_probability: 0.1,
            noise_sigma: Interval::new(0.0, 0.1),
            blur_probability: 0.2,
            blur_channel_probability: 0.5,
            blur_sigma: Interval::new(0.5, 1.0),
            blur_axes: BlurAxes::Each,
            blur_rule: BlurRule::SixSigma,
            brightness_probability: 0.15,
            brightness: Interval::new(0.75, 1.25),
            brightness_draw: Draw::AroundOne,
            brightness_from_minimum: false,
            contrast_probability: 0.15,
            contrast: Interval::new(0.75, 1.25),
            contrast_draw: Draw::AroundOne,
            low_resolution_probability: 0.25,
            low_resolution_channel_probability: 0.5,
            low_resolution: Interval::new(0.5, 1.0),
            low_resolution_read_back: ReadBack::Linear,
            gamma_inverted_probability: 0.1,
            gamma_inverted: Interval::new(0.7, 1.5),
            gamma_probability: 0.3,
            gamma: Interval::new(0.7, 1.5),
            mirror_probability: 0.5,
            mirror_axes: vec![Axis::Z, Axis::Y, Axis::X],
            mask_outside: false,
            bias_field: BiasFieldSettings::default(),
            ghosting: GhostingSettings::default(),
            motion: MotionSettings::default(),
            anisotropy: AnisotropySettings::default(),
            curve: CurveSettings::default(),
            reversal_probability: 0.0,
            non_contrast: NonContrastSettings::default(),
            mixing: MixingSettings::default(),
            synthetic: SyntheticSettings::default(),
            histogram: HistogramSettings::default(),
        }
    }
}

impl Serialize for AugmentConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for AugmentConfig {
    /// Fields that are not given have the preset's numbers, in nested tables too.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let given = serde_json::Map::deserialize(deserializer)?;
        let preset = match given.get("preset") {
            Some(name) => Preset::deserialize(name).map_err(D::Error::custom)?,
            None => Preset::default(),
        };
        let mut all = serde_json::to_value(Self::preset(preset)).map_err(D::Error::custom)?;
        merge(&mut all, serde_json::Value::Object(given));
        Self::deserialize(all).map_err(D::Error::custom)
    }
}

/// Puts what is given in the place of what is there, table by table.
fn merge(there: &mut serde_json::Value, given: serde_json::Value) {
    use serde_json::Value::Object;
    match (there, given) {
        (Object(there), Object(given)) => {
            for (key, value) in given {
                merge(there.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (there, given) => *there = given,
    }
}
