//! Named sets of numbers.

use serde::{Deserialize, Serialize};

use super::{
    AnisotropySettings, AugmentConfig, Axis, BiasFieldSettings, CurveSettings, GhostingSettings,
    HistogramSettings, MixingSettings, MotionSettings, NonContrastSettings, SyntheticSettings,
};
use crate::intensity::{BlurAxes, BlurRule};
use crate::spatial::low_resolution::ReadBack;
use crate::spatial::{Elastic, Generation};
use crate::{Draw, Interval};

/// Where the numbers of an [`AugmentConfig`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The central crop alone; all numbers are ignored.
    None,
    /// Rotation, scaling, deformation and mirroring: the usual weak view of semi-supervised
    /// training.
    Spatial,
    /// Everything else: what turns a weak view into a strong one.
    Intensity,
    /// The list of nnU-Net v2.
    #[default]
    Nnunet,
    /// The list of nnU-Net v1 (`nnUNetTrainerV2`) and of v2 up to 2.3.
    NnunetV1,
    /// The full list of MiDSS (Ma et al., CVPR 2024) in three dimensions.
    MidssFull,
    /// MiDSS without elastic deformation, rotation and zoom: its ablation "weak".
    MidssWeak,
    /// nnU-Net v2 and transforms that change the contrast between tissues, for phases and sequences
    /// of which there are no labels.
    ContrastRobust,
    /// All of it, in moderation: contrast, elastic deformation and scanner artefacts beside nnU-Net
    /// v2.
    LisegPlus,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Spatial,
        Self::Intensity,
        Self::Nnunet,
        Self::NnunetV1,
        Self::MidssFull,
        Self::MidssWeak,
        Self::ContrastRobust,
        Self::LisegPlus,
    ];

    /// The name in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spatial => "spatial",
            Self::Intensity => "intensity",
            Self::Nnunet => "nnunet",
            Self::NnunetV1 => "nnunet-v1",
            Self::MidssFull => "midss-full",
            Self::MidssWeak => "midss-weak",
            Self::ContrastRobust => "contrast-robust",
            Self::LisegPlus => "liseg-plus",
        }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no preset `{name}`; choose one of {names}")
        })
    }
}

impl AugmentConfig {
    /// The numbers of a preset.
    pub fn preset(preset: Preset) -> Self {
        let numbers = match preset {
            Preset::None | Preset::Spatial | Preset::Intensity | Preset::Nnunet => Self::default(),
            Preset::NnunetV1 => nnunet_v1(),
            Preset::MidssFull => midss_full(),
            Preset::MidssWeak => Self {
                rotation_probability: 0.0,
                scaling_probability: 0.0,
                elastic: Elastic::default(),
                ..midss_full()
            },
            Preset::ContrastRobust => contrast_robust(),
            Preset::LisegPlus => liseg_plus(),
        };
        Self { preset, ..numbers }
    }
}

/// nnunet 1.7.1, `nnUNetTrainerV2` with batchgenerators 0.25.
fn nnunet_v1() -> AugmentConfig {
    AugmentConfig {
        generation: Generation::V1,
        scaling_draw: Draw::AroundOne,
        brightness_draw: Draw::Uniform,
        blur_axes: BlurAxes::Same,
        blur_rule: BlurRule::Scipy,
        low_resolution_read_back: ReadBack::Cubic,
        ..AugmentConfig::default()
    }
}

/// Ma et al. 2024 with its parameters for MR images of hearts and prostates, carried over to three
/// dimensions: zoom along three axes, rotation around the slice axis, left-right flips, and an
/// elastic field of the same strength (3.5 voxels). Blur stays within slices.
fn midss_full() -> AugmentConfig {
    let range = Interval::new(0.1, 2.0);
    let turn = Interval::new(-20.0, 20.0);
    AugmentConfig {
        rotation_probability: 0.5,
        rotation_degrees: turn,
        rotation_degrees_in_plane: turn,
        rotation_axes: vec![Axis::Z],
        scaling_probability: 0.5,
        scaling: Interval::new(1.0, 1.5),
        scaling_draw: Draw::Inverse,
        scaling_per_axis: true,
        crop_jitter: 1.0,
        elastic: Elastic {
            probability: 0.5,
            ..Elastic::default()
        },
        noise_probability: 0.0,
        blur_probability: 1.0,
        blur_channel_probability: 1.0,
        blur_sigma: Interval::new(0.1, 2.0),
        blur_axes: BlurAxes::InPlane,
        brightness_probability: 1.0,
        brightness: range,
        brightness_draw: Draw::Uniform,
        brightness_from_minimum: true,
        contrast_probability: 1.0,
        contrast: range,
        contrast_draw: Draw::Uniform,
        low_resolution_probability: 0.0,
        gamma_inverted_probability: 0.0,
        gamma_probability: 0.0,
        mirror_axes: vec![Axis::X],
        ..AugmentConfig::default()
    }
}

/// Each change of contrast in a fifth of the patches or less: about half of them keep the contrast
/// that they were acquired with.
fn contrast_robust() -> AugmentConfig {
    AugmentConfig {
        curve: CurveSettings {
            probability: 0.2,
            ..CurveSettings::default()
        },
        reversal_probability: 0.1,
        non_contrast: NonContrastSettings {
            probability: 0.2,
            ..NonContrastSettings::default()
        },
        mixing: MixingSettings {
            probability: 0.1,
            ..MixingSettings::default()
        },
        synthetic: SyntheticSettings {
            probability: 0.1,
            ..SyntheticSettings::default()
        },
        histogram: HistogramSettings {
            probability: 0.2,
            ..HistogramSettings::default()
        },
        ..AugmentConfig::default()
    }
}

fn liseg_plus() -> AugmentConfig {
    AugmentConfig {
        elastic: Elastic {
            probability: 0.2,
            magnitude: Interval::new(0.5, 3.5),
            ..Elastic::default()
        },
        bias_field: BiasFieldSettings {
            probability: 0.2,
            ..BiasFieldSettings::default()
        },
        ghosting: GhostingSettings {
            probability: 0.05,
            ..GhostingSettings::default()
        },
        motion: MotionSettings {
            probability: 0.05,
            ..MotionSettings::default()
        },
        anisotropy: AnisotropySettings {
            probability: 0.1,
            ..AnisotropySettings::default()
        },
        ..contrast_robust()
    }
}
