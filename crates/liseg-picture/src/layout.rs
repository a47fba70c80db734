//! Which sections a picture shows, and how.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A plane through the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// Across the body, seen from the feet: front on top, the patient's right on the left.
    Axial,
    /// Parallel to the front, seen from the front: head on top, the patient's right on the left.
    Coronal,
    /// Parallel to the side, seen from the patient's left: head on top, front on the left.
    Sagittal,
}

impl Plane {
    /// The canonical array axes (0 z, 1 y, 2 x) that run across, down and along the picture.
    pub(crate) fn axes(self) -> [usize; 3] {
        match self {
            Self::Axial => [0, 1, 2],
            Self::Coronal => [1, 0, 2],
            Self::Sagittal => [2, 0, 1],
        }
    }
}

/// Which sections a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrangement {
    /// An axial, a coronal and a sagittal section through the centroid of the first mask that is
    /// not empty, or through the centre of the volume.
    ThreePlanes,
    /// Slices of one plane in a row, equally spaced over the extent of the first mask that is not
    /// empty, or over the volume; from feet to head, back to front, left to right.
    Slices {
        /// The plane.
        plane: Plane,
        /// How many slices, at least 1.
        count: usize,
    },
}

/// What a picture shows of a volume, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layout {
    /// The sections. Default: three planes.
    pub arrangement: Arrangement,
    /// Resolution of the picture, above 0. Default: 1 pixel per millimetre, a section of an
    /// abdomen then has about 350 pixels.
    pub pixels_per_mm: f64,
    /// Percentile of the intensities shown black, 0 to 100. Default: 0.5.
    pub lower_percentile: f64,
    /// Percentile of the intensities shown white, above the lower one. Default: 99.5, so that a
    /// few very bright voxels do not darken the rest.
    pub upper_percentile: f64,
    /// A line of text above the sections. Default: none.
    pub caption: Option<String>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            arrangement: Arrangement::ThreePlanes,
            pixels_per_mm: 1.0,
            lower_percentile: 0.5,
            upper_percentile: 99.5,
            caption: None,
        }
    }
}

impl Layout {
    /// An axial, a coronal and a sagittal section; the rest as by default.
    pub fn three_planes() -> Self {
        Self::default()
    }

    /// `count` slices of one plane in a row; the rest as by default.
    pub fn slices(plane: Plane, count: usize) -> Self {
        Self {
            arrangement: Arrangement::Slices { plane, count },
            ..Self::default()
        }
    }

    /// Sets the line of text above the sections.
    pub fn with_caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    /// Sets the resolution of the picture.
    pub fn with_pixels_per_mm(mut self, pixels_per_mm: f64) -> Self {
        self.pixels_per_mm = pixels_per_mm;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |field, found: String, expected| {
            Err(Error::Layout {
                field,
                found,
                expected,
            })
        };
        if !(self.pixels_per_mm.is_finite() && self.pixels_per_mm > 0.0) {
            let found = self.pixels_per_mm.to_string();
            return refuse("pixels_per_mm", found, "a finite number above 0");
        }
        let (low, high) = (self.lower_percentile, self.upper_percentile);
        if !(0.0..=100.0).contains(&low) {
            return refuse("lower_percentile", low.to_string(), "0 to 100");
        }
        if !(high > low && high <= 100.0) {
            let expected = "a number above `lower_percentile`, up to 100";
            return refuse("upper_percentile", high.to_string(), expected);
        }
        match self.arrangement {
            Arrangement::Slices { count: 0, .. } => {
                refuse("arrangement.count", "0".into(), "at least 1 slice")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_its_field() {
        let good = Layout::slices(Plane::Coronal, 4);
        good.check().unwrap();
        let message = |layout: Layout| layout.check().unwrap_err().to_string();
        assert!(message(good.clone().with_pixels_per_mm(f64::NAN)).contains("pixels_per_mm"));
        assert!(message(good.clone().with_pixels_per_mm(0.0)).contains("pixels_per_mm"));
        assert!(message(Layout::slices(Plane::Axial, 0)).contains("count"));
        let mut layout = good.clone();
        layout.lower_percentile = -1.0;
        assert!(message(layout).contains("lower_percentile"));
        let mut layout = good;
        layout.upper_percentile = 0.5;
        assert!(message(layout).contains("upper_percentile"));
    }
}
