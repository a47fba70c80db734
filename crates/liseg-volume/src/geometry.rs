//! A voxel grid without its voxels.

use crate::{Affine, Orientation, Spacing};
use serde::{Deserialize, Serialize};

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

    /// Whether both grids have one shape and no corner is further apart than `tolerance_mm`.
    pub fn same_grid(&self, other: &Self, tolerance_mm: f64) -> bool {
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
        assert!(a.same_grid(&b, 1.1) && !a.same_grid(&b, 0.9));
    }
}
