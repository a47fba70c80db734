//! A voxel grid without its voxels.

use crate::{Affine, Orientation, Spacing};
use serde::{Deserialize, Serialize};

/// How far apart, in millimetres, two grids may place the same corner voxel and still be one grid.
///
/// Everything that compares grids asks [`Geometry::same_grid`], so that a mask that one verb accepts is
/// accepted by all. Above it lies what files lose though nothing moved: affines in f32 (3e-5 mm at 500 mm),
/// qforms rebuilt from quaternions in f32 and sforms rounded to text (up to 0.01 mm in public abdominal MRI),
/// spacings written with four decimals (0.05 mm over 1000 voxels). Below it lies what a shift of one voxel
/// is: the finest abdominal images have 0.4 mm. Surface distances, at tolerances of millimetres, cannot
/// tell it.
pub const GRID_TOLERANCE_MM: f64 = 0.1;

/// A voxel grid in the patient: how many voxels, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Voxels along (z, y, x).
    pub shape: [usize; 3],
    /// From voxel index to RAS+ millimetres.
    pub affine: Affine,
}

impl Geometry {
    /// Distance between voxel centres.
    pub fn spacing(&self) -> Spacing {
        self.affine.spacing()
    }

    /// The volume of one voxel, in cubic millimetres.
    pub fn voxel_volume_mm3(&self) -> f64 {
        self.affine.voxel_volume_mm3()
    }

    /// In which directions the stored axes run.
    pub fn orientation(&self) -> Orientation {
        self.affine.orientation()
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// The largest distance, in millimetres, between the places that two grids give to the same
    /// corner voxel; 0 for equal grids.
    ///
    /// Differences of 1e-6 in a direction cosine are harmless and differences of a voxel are not:
    /// the distance at the far corner tells them apart, where comparing matrix entries does not.
    pub fn corner_distance_mm(&self, other: &Self) -> f64 {
        let mut largest = 0.0f64;
        for corner in 0..8 {
            let index = std::array::from_fn(|a| {
                if corner >> a & 1 == 1 {
                    self.shape[a].saturating_sub(1) as f64
                } else {
                    0.0
                }
            });
            let (a, b) = (
                self.affine.voxel_to_world(index),
                other.affine.voxel_to_world(index),
            );
            let squared: f64 = (0..3).map(|k| (a[k] - b[k]).powi(2)).sum();
            largest = largest.max(squared.sqrt());
        }
        largest
    }

    /// Whether both grids have one shape and no corner is further apart than [`GRID_TOLERANCE_MM`].
    pub fn same_grid(&self, other: &Self) -> bool {
        self.is_within(other, GRID_TOLERANCE_MM)
    }

    /// Whether both grids have one shape and no corner is further apart than `tolerance_mm`.
    pub fn is_within(&self, other: &Self, tolerance_mm: f64) -> bool {
        self.shape == other.shape && self.corner_distance_mm(other) <= tolerance_mm
    }

    /// Length of the diagonal between the first and the last voxel centre, in millimetres.
    pub fn diagonal_mm(&self) -> f64 {
        let spacing = self.spacing().zyx();
        (0..3)
            .map(|a| (self.shape[a].saturating_sub(1) as f64 * spacing[a]).powi(2))
            .sum::<f64>()
            .sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corner_distance_sees_a_small_tilt_at_the_far_end() {
        let affine = Affine::from_spacing(Spacing::ISOTROPIC_1MM);
        let mut rows = affine.rows();
        rows[0][2] = 0.01;
        let tilted = Affine::from_rows(rows).unwrap();
        let (a, b) = (
            Geometry {
                shape: [101, 5, 5],
                affine,
            },
            Geometry {
                shape: [101, 5, 5],
                affine: tilted,
            },
        );
        assert!((a.corner_distance_mm(&b) - 1.0).abs() < 1e-12);
        assert!(a.is_within(&b, 1.1) && !a.is_within(&b, 0.9));
    }

    fn shifted(mm: f64) -> Geometry {
        let mut rows = Affine::from_spacing(Spacing::ISOTROPIC_1MM).rows();
        rows[1][3] = mm;
        Geometry {
            shape: [4, 5, 6],
            affine: Affine::from_rows(rows).unwrap(),
        }
    }

    #[test]
    fn one_grid_is_what_lies_within_the_tolerance() {
        let here = shifted(0.0);
        assert!(here.same_grid(&shifted(0.09)) && !here.same_grid(&shifted(0.11)));
        let taller = Geometry {
            shape: [5, 5, 6],
            ..here
        };
        assert!(!here.same_grid(&taller));
    }

    #[test]
    fn rounding_of_files_is_within_the_tolerance() {
        // 512 oblique voxels of 0.9765625 mm, far from the origin, in f32 and in four decimals.
        let (sin, cos) = 0.37f64.sin_cos();
        let d = 0.976_562_5;
        let exact = Affine::from_columns(
            [d * cos, d * sin, 0.0],
            [-d * sin, d * cos, 0.0],
            [0.0, 0.0, 3.333_333_3],
            [-312.345_678, 287.654_321, -1_021.123_456],
        );
        let exact = exact.unwrap();
        let with = |round: fn(f64) -> f64| Geometry {
            shape: [100, 512, 512],
            affine: Affine::from_rows(exact.rows().map(|row| row.map(round))).unwrap(),
        };
        let grid = with(|v| v);
        for round in [(|v| f64::from(v as f32)) as fn(f64) -> f64, |v| {
            (v * 1e4).round() / 1e4
        }] {
            let stored = with(round);
            assert!(grid.corner_distance_mm(&stored) > 0.0 && grid.same_grid(&stored));
        }
    }
}
