//! Scanners: what a vendor's images have in common.

use crate::{Error, Phase, Resolution};
use serde::{Deserialize, Serialize};

/// A scanner with its habits, named as the centres of the LiQA challenge.
///
/// They differ in brightness scale, noise, shading, sharpness, fat suppression, ghosts, field of
/// view, spacing and stored orientation; see [`Vendor::orientation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Vendor {
    /// Sharp, little noise, rectangular field of view, stored LPS.
    A,
    /// Strong central shading as at 3 T, values in the thousands, oblique, stored LAS.
    B1,
    /// Noisy, weak fat suppression, T2 without it, slight ghosts, stored RAS.
    B2,
    /// Blurred, strong shading from the surface coil, stored sagittal first (PIR). In the
    /// challenge this centre occurs in the test data only.
    C,
}

impl Vendor {
    /// All vendors.
    pub const ALL: [Self; 4] = [Self::A, Self::B1, Self::B2, Self::C];

    /// The code of the orientation in which this vendor's volumes are stored.
    pub fn orientation(self) -> &'static str {
        match self {
            Self::A => "LPS",
            Self::B1 => "LAS",
            Self::B2 => "RAS",
            Self::C => "PIR",
        }
    }
}

impl std::fmt::Display for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B1 => "B1",
            Self::B2 => "B2",
            Self::C => "C",
        })
    }
}

impl std::str::FromStr for Vendor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|v| v.to_string() == text);
        found.ok_or_else(|| Error::Name {
            what: "vendor",
            found: text.to_owned(),
            expected: "A, B1, B2 or C",
        })
    }
}

/// How one vendor takes one phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Protocol {
    /// Distance between pixels and between slices, in millimetres.
    pub(crate) pixel_mm: f64,
    pub(crate) slice_mm: f64,
    /// Pixels along a row, at least and at most.
    pub(crate) columns: (usize, usize),
    /// Rows as a share of the columns.
    pub(crate) rows_share: f64,
    /// Largest tilt of the slices, in radians.
    pub(crate) tilt: f64,
    /// 0: fat as bright as it is; 1: dark.
    pub(crate) fat_suppression: f32,
    /// Stored value for brightness 1.
    pub(crate) gain: f32,
    /// Standard deviation of the noise in each of the two receiver channels, as brightness.
    pub(crate) noise: f32,
    /// Strength of the surface coil's shading, and of the darkening in the body's middle.
    pub(crate) shading: f32,
    pub(crate) central_darkening: f32,
    /// Weight of each neighbour in the in-plane smoothing, 0 to 1/3.
    pub(crate) blur: f32,
    /// Brightness of the ghost half a field of view away.
    pub(crate) ghost: f32,
}

impl Protocol {
    pub(crate) fn new(vendor: Vendor, phase: Phase, resolution: Resolution) -> Self {
        // Full is near LiQA's: GED4 1×1×3 mm, T2WI slices of 7 mm, DWI pixels of 1.6 mm.
        let (pixel, slice, columns) = match resolution {
            Resolution::Tiny => (6.6, 14.0, (48, 56)),
            Resolution::Small => (3.3, 7.0, (96, 112)),
            Resolution::Medium => (2.0, 4.5, (160, 192)),
            Resolution::Full => (1.0, 3.0, (304, 448)),
        };
        let (pixel_factor, slice_factor) = match (phase, resolution) {
            (Phase::T2, Resolution::Tiny | Resolution::Small) => (1.02, 1.08),
            (Phase::T2, Resolution::Medium) => (0.95, 1.45),
            (Phase::T2, Resolution::Full) => (1.2, 2.3),
            (Phase::Dwi, Resolution::Tiny | Resolution::Small) => (1.1, 1.12),
            (Phase::Dwi, Resolution::Medium) => (1.2, 1.45),
            (Phase::Dwi, Resolution::Full) => (1.6, 2.2),
            (Phase::T1, _) => (1.0, 1.03),
            _ => (1.0, 1.0),
        };
        let noise = match phase {
            Phase::Dwi => 27.0,
            Phase::T2 => 20.0,
            _ => 19.0,
        } * match resolution {
            // Smaller voxels hold less signal.
            Resolution::Tiny => 0.7,
            Resolution::Small => 0.85,
            Resolution::Medium => 1.0,
            Resolution::Full => 1.25,
        };
        // Echo-planar images have a ghost at half the field of view whatever the vendor.
        let planar_ghost = if phase == Phase::Dwi { 0.025 } else { 0.0 };
        let base = Self {
            pixel_mm: pixel * pixel_factor,
            slice_mm: slice * slice_factor,
            columns: match phase {
                Phase::Dwi | Phase::T2 if resolution == Resolution::Full => (192, 320),
                Phase::Dwi | Phase::T2 if resolution == Resolution::Medium => (128, 192),
                _ => columns,
            },
            rows_share: 1.0,
            tilt: 0.0,
            fat_suppression: 0.95,
            gain: 1.0,
            noise,
            shading: 0.25,
            central_darkening: 0.0,
            blur: 0.06,
            ghost: planar_ghost,
        };
        match vendor {
            Vendor::A => Self {
                pixel_mm: base.pixel_mm * 0.97,
                rows_share: 0.84,
                gain: 1.1,
                shading: 0.22,
                noise: noise * 0.9,
                ..base
            },
            Vendor::B1 => Self {
                slice_mm: base.slice_mm * 0.95,
                tilt: 0.05,
                gain: 4.3,
                central_darkening: 0.42,
                noise: noise * 0.8,
                fat_suppression: 0.98,
                blur: 0.03,
                ..base
            },
            Vendor::B2 => Self {
                pixel_mm: base.pixel_mm * 1.04,
                slice_mm: base.slice_mm * 1.06,
                rows_share: 0.9,
                tilt: 0.02,
                gain: 0.45,
                noise: noise * 1.7,
                shading: 0.3,
                fat_suppression: if phase == Phase::T2 { 0.15 } else { 0.72 },
                blur: 0.1,
                ghost: planar_ghost + 0.02,
                ..base
            },
            Vendor::C => Self {
                pixel_mm: base.pixel_mm * 1.06,
                slice_mm: base.slice_mm * 1.02,
                gain: 9.0,
                noise: noise * 1.2,
                shading: 0.75,
                central_darkening: 0.1,
                fat_suppression: 0.85,
                blur: 0.2,
                ..base
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Orientation;

    #[test]
    fn names_and_orientations_are_readable() {
        for vendor in Vendor::ALL {
            assert_eq!(vendor.to_string().parse::<Vendor>().unwrap(), vendor);
            vendor.orientation().parse::<Orientation>().unwrap();
        }
        let error = "D".parse::<Vendor>().unwrap_err().to_string();
        assert!(error.contains("`D`") && error.contains("B2"), "{error}");
    }
}
