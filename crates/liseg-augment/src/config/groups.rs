//! Settings of the transforms that nnU-Net does not have.

use serde::{Deserialize, Serialize};

use crate::Interval;

/// Settings of [`BiasField`](crate::intensity::BiasField).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct BiasFieldSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// Largest coefficient of the polynomial. Default 0 to 0.3; TorchIO takes 0.5, with which
    /// corners may be five times brighter than the middle.
    pub strength: Interval,
}

impl Default for BiasFieldSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            strength: Interval::new(0.0, 0.3),
        }
    }
}

/// Settings of [`Ghosting`](crate::intensity::Ghosting).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct GhostingSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// How many ghosts. Default 4 to 10, as TorchIO.
    pub ghosts: Interval,
    /// Their strength. Default 0.1 to 0.4.
    pub strength: Interval,
}

impl Default for GhostingSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            ghosts: Interval::new(4.0, 10.0),
            strength: Interval::new(0.1, 0.4),
        }
    }
}

/// Settings of [`Motion`](crate::intensity::Motion).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct MotionSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// How many jumps. Default 2 to 4.
    pub jumps: Interval,
    /// Largest distance from the first place in voxels. Default 1 to 4.
    pub distance: Interval,
}

impl Default for MotionSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            jumps: Interval::new(2.0, 4.0),
            distance: Interval::new(1.0, 4.0),
        }
    }
}

/// Settings of [`Anisotropy`](crate::spatial::Anisotropy).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct AnisotropySettings {
    /// How often. Default 0.
    pub probability: f64,
    /// How many voxels become one slice. Default 1.5 to 5, as TorchIO.
    pub thickness: Interval,
}

impl Default for AnisotropySettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            thickness: Interval::new(1.5, 5.0),
        }
    }
}

/// Settings of [`Curve`](crate::intensity::Curve).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct CurveSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// Points of a curve. Default 6.
    pub points: usize,
    /// How often a curve is monotone. Default 0.5.
    pub monotone_share: f64,
}

impl Default for CurveSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            points: 6,
            monotone_share: 0.5,
        }
    }
}

/// Settings of [`NonContrast`](crate::intensity::NonContrast).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct NonContrastSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// What is added to the organ, in standard deviations of the channel. Default −1.5 to 0.
    pub shift: Interval,
    /// Factor on how far voxels of the organ lie above its mean. Default −0.5 to 1.
    pub vessels: Interval,
}

impl Default for NonContrastSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            shift: Interval::new(-1.5, 0.0),
            vessels: Interval::new(-0.5, 1.0),
        }
    }
}

/// Settings of [`Mixing`](crate::intensity::Mixing).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct MixingSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// Layers. Default 4, as Ouyang et al. 2022.
    pub layers: usize,
    /// Channels between layers. Default 2, as Ouyang et al. 2022.
    pub hidden: usize,
    /// Share of the network's answer. Default 0 to 1, as Ouyang et al. 2022.
    pub share: Interval,
}

impl Default for MixingSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            layers: 4,
            hidden: 2,
            share: Interval::new(0.0, 1.0),
        }
    }
}

/// Settings of [`SyntheticContrast`](crate::intensity::SyntheticContrast).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct SyntheticSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// Side of a supervoxel in voxels. Default 10.
    pub supervoxel: usize,
    /// Classes of unlabelled supervoxels. Default 8.
    pub tissues: usize,
    /// Share of the texture that is kept. Default 0.3 to 1.
    pub detail: Interval,
}

impl Default for SyntheticSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            supervoxel: 10,
            tissues: 8,
            detail: Interval::new(0.3, 1.0),
        }
    }
}

/// Settings of [`HistogramTransfer`](crate::intensity::HistogramTransfer).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(default))]
#[serde(deny_unknown_fields)]
pub struct HistogramSettings {
    /// How often. Default 0.
    pub probability: f64,
    /// How far to go to the other histogram. Default 0.5 to 1.
    pub share: Interval,
    /// Histograms to choose from: rows of intensities at the percentiles 1, 10, 20, … 90, 99.
    /// Default none, with which nothing happens; [`landmarks`](crate::intensity::landmarks)
    /// computes a row.
    pub references: Vec<[f64; 11]>,
}

impl Default for HistogramSettings {
    fn default() -> Self {
        Self {
            probability: 0.0,
            share: Interval::new(0.5, 1.0),
            references: Vec::new(),
        }
    }
}
