//! The conventions in which surface distances are measured.
//!
//! Libraries agree on the formulas and disagree on which points form a surface, on what lies
//! beyond the image, and on how both directions are put together. The names here are those of the
//! libraries whose numbers a convention reproduces.

use crate::{Error, Result};
use liseg_morphology::{Connectivity, Outside};
use serde::{Deserialize, Serialize};

/// A named convention for surface distances.
///
/// Serialised by name, as in `convention = "medpy"`; a rule of one's own as
/// `{ custom = { … } }`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Convention {
    /// MONAI: boundary by faces, outside is background, HD95 is the larger of both directions,
    /// average over the points of both surfaces.
    #[default]
    Monai,
    /// Metrics Reloaded: as MONAI. Its MASD is [`MeanRule::MeanOfMeans`].
    MetricsReloaded,
    /// MedPy 0.5.2 and later with `connectivity=1`: as MONAI, but HD95 is the percentile of both
    /// directions in one list.
    #[serde(rename = "medpy")]
    MedPy,
    /// MedPy up to 0.4: as MedPy, but ASSD is the mean of the two directed means.
    #[serde(rename = "medpy-0.4")]
    MedPy04,
    /// The script of the CHAOS challenge: boundary by faces, outside is object.
    Chaos,
    /// SimpleITK's contour and Maurer distance map, `fullyConnected`: boundary by corners, outside
    /// is object, HD95 over one list. The default of seg-metrics.
    #[serde(rename = "simpleitk-contour")]
    SimpleItkContour,
    /// The same with contours by faces; distances still run to the contour by corners, because the
    /// distance map always measures to it.
    #[serde(rename = "simpleitk-contour-face")]
    SimpleItkContourFace,
    /// SimpleITK's `HausdorffDistanceImageFilter`: every object voxel is a point.
    #[serde(rename = "simpleitk-filter")]
    SimpleItkFilter,
    /// DeepMind's `surface-distance`, and MONAI with `use_subvoxels`: points at voxel corners, each
    /// weighted by the area of the surface that passes it; HD95 by area, the larger of both
    /// directions; the mean of both directed averages.
    SurfaceDistance,
    /// A rule of one's own.
    Custom(SurfaceRule),
}

impl Convention {
    /// The conventions that have a name.
    pub const NAMED: [(&'static str, Self); 9] = [
        ("monai", Self::Monai),
        ("metrics-reloaded", Self::MetricsReloaded),
        ("medpy", Self::MedPy),
        ("medpy-0.4", Self::MedPy04),
        ("chaos", Self::Chaos),
        ("simpleitk-contour", Self::SimpleItkContour),
        ("simpleitk-contour-face", Self::SimpleItkContourFace),
        ("simpleitk-filter", Self::SimpleItkFilter),
        ("surface-distance", Self::SurfaceDistance),
    ];

    /// What the convention chooses.
    pub fn rule(self) -> SurfaceRule {
        let monai = SurfaceRule::default();
        let faces = Points::Boundary(Connectivity::Face);
        let corners = Points::Boundary(Connectivity::Vertex);
        match self {
            Self::Monai | Self::MetricsReloaded => monai,
            Self::MedPy => SurfaceRule {
                percentile: PercentileRule::Pooled,
                ..monai
            },
            Self::MedPy04 => SurfaceRule {
                mean: MeanRule::MeanOfMeans,
                ..Self::MedPy.rule()
            },
            Self::Chaos => SurfaceRule {
                outside: Outside::Object,
                ..monai
            },
            Self::SimpleItkContour => SurfaceRule {
                points: corners,
                targets: corners,
                outside: Outside::Object,
                percentile: PercentileRule::Pooled,
                mean: MeanRule::Pooled,
            },
            Self::SimpleItkContourFace => SurfaceRule {
                points: faces,
                ..Self::SimpleItkContour.rule()
            },
            Self::SimpleItkFilter => SurfaceRule {
                points: Points::AllVoxels,
                targets: Points::AllVoxels,
                mean: MeanRule::MeanOfMeans,
                ..monai
            },
            Self::SurfaceDistance => SurfaceRule {
                points: Points::DualGrid,
                targets: Points::DualGrid,
                mean: MeanRule::MeanOfMeans,
                ..monai
            },
            Self::Custom(rule) => rule,
        }
    }
}

impl std::str::FromStr for Convention {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = Self::NAMED.iter().find(|(name, _)| *name == text);
        named.map(|&(_, convention)| convention).ok_or_else(|| {
            let names = Self::NAMED.map(|(name, _)| name);
            Error::Convention {
                found: text.to_owned(),
                expected: names.join(", "),
            }
        })
    }
}

impl std::fmt::Display for Convention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = Self::NAMED
            .iter()
            .find(|(_, convention)| convention == self);
        f.write_str(named.map_or("custom", |(name, _)| name))
    }
}

/// Every choice that a convention for surface distances makes. The default is MONAI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SurfaceRule {
    /// The points from which distances are measured.
    pub points: Points,
    /// The points of the other mask to which they are measured.
    pub targets: Points,
    /// What lies beyond the edge of the image.
    pub outside: Outside,
    /// How the percentiles of both directions are put together.
    pub percentile: PercentileRule,
    /// How the means of both directions are put together.
    pub mean: MeanRule,
}

impl Default for SurfaceRule {
    fn default() -> Self {
        Self {
            points: Points::Boundary(Connectivity::Face),
            targets: Points::Boundary(Connectivity::Face),
            outside: Outside::Background,
            percentile: PercentileRule::MaxOfDirected,
            mean: MeanRule::Pooled,
        }
    }
}

/// Which points of a mask stand for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Points {
    /// Object voxels with a neighbour, of that connectivity, that is not object.
    Boundary(Connectivity),
    /// Every object voxel.
    AllVoxels,
    /// Voxel corners that the surface passes, each weighted by its area. What lies outside is
    /// background whatever the rule says.
    DualGrid,
}

/// How a percentile of distances is taken over both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PercentileRule {
    /// The larger of the two directed percentiles.
    MaxOfDirected,
    /// The mean of the two directed percentiles.
    MeanOfDirected,
    /// The percentile of all distances in one list.
    Pooled,
}

/// How a mean of distances is taken over both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeanRule {
    /// The mean of all distances in one list (ASSD).
    Pooled,
    /// The mean of the two directed means (MASD).
    MeanOfMeans,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        for (name, convention) in Convention::NAMED {
            assert_eq!(serde_json::to_value(convention).unwrap(), name);
            assert_eq!(name.parse::<Convention>().unwrap(), convention);
            assert_eq!(convention.to_string(), name);
        }
        let error = "monay".parse::<Convention>().unwrap_err();
        assert!(error.to_string().contains("metrics-reloaded"), "{error}");
        let custom = r#"{"custom":{"points":{"boundary":"edge"},"outside":"object"}}"#;
        let custom: Convention = serde_json::from_str(custom).unwrap();
        assert_eq!(custom.rule().points, Points::Boundary(Connectivity::Edge));
        assert_eq!(custom.rule().percentile, PercentileRule::MaxOfDirected);
    }
}
