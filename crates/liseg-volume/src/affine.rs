//! The map from voxel indices to the patient.

use crate::{Direction, Error, Orientation, Result, Spacing};
use serde::{Deserialize, Serialize};

/// Maps a voxel index in file order (x, y, z) to RAS+ world millimetres.
///
/// The rows of a 3×4 matrix: `world = M[:, 0..3] · index + M[:, 3]`. Invertible and finite by
/// construction. Serialised as its three rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[[f64; 4]; 3]", into = "[[f64; 4]; 3]")]
pub struct Affine {
    rows: [[f64; 4]; 3],
}

impl Affine {
    /// An affine from the rows of its 3×4 matrix.
    ///
    /// # Errors
    /// [`Error::Affine`] when an entry is not finite or the three voxel axes do not span space.
    pub fn from_rows(rows: [[f64; 4]; 3]) -> Result<Self> {
        if rows.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Error::Affine {
                reason: "it has an entry that is not finite".into(),
            });
        }
        let affine = Self { rows };
        let lengths = affine.column_lengths();
        if lengths.iter().any(|&l| l <= 0.0) {
            return Err(Error::Affine {
                reason: "a voxel axis has length zero".into(),
            });
        }
        // Relative to the voxel's size: 1 for orthogonal axes, 0 for axes in one plane.
        let volume = affine.determinant().abs() / lengths.iter().product::<f64>();
        if volume.is_nan() || volume < 1e-6 {
            return Err(Error::Affine {
                reason: "its voxel axes lie in one plane".into(),
            });
        }
        Ok(affine)
    }

    /// An affine from the world vectors of one voxel step along x, y and z, and the world position
    /// of voxel (0, 0, 0), all in millimetres.
    ///
    /// # Errors
    /// As [`Affine::from_rows`].
    pub fn from_columns(x: [f64; 3], y: [f64; 3], z: [f64; 3], origin: [f64; 3]) -> Result<Self> {
        Self::from_rows(std::array::from_fn(|r| [x[r], y[r], z[r], origin[r]]))
    }

    /// The axis-aligned RAS affine of a spacing, with voxel (0, 0, 0) at the world origin.
    pub fn from_spacing(spacing: Spacing) -> Self {
        let [x, y, z] = spacing.xyz();
        Self {
            rows: [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]],
        }
    }

    /// The rows of the 3×4 matrix.
    pub fn rows(&self) -> [[f64; 4]; 3] {
        self.rows
    }

    /// The world vector, in millimetres, of one voxel step along file axis 0 (x), 1 (y) or 2 (z);
    /// column 3 is the world position of voxel (0, 0, 0).
    ///
    /// # Panics
    /// When `column` is above 3.
    pub fn column(&self, column: usize) -> [f64; 3] {
        self.rows.map(|row| row[column])
    }

    /// The world position of voxel (0, 0, 0), in millimetres.
    pub fn origin(&self) -> [f64; 3] {
        self.column(3)
    }

    /// The length of one voxel step along each axis.
    pub fn spacing(&self) -> Spacing {
        let [x, y, z] = self.column_lengths();
        // Lengths are positive and finite by construction.
        Spacing::new(z, y, x).unwrap_or(Spacing::ISOTROPIC_1MM)
    }

    /// The world position, in RAS+ millimetres, of a (possibly fractional) index (z, y, x).
    pub fn voxel_to_world(&self, [z, y, x]: [f64; 3]) -> [f64; 3] {
        self.rows.map(|[a, b, c, d]| a * x + b * y + c * z + d)
    }

    /// The fractional index (z, y, x) of a world position in RAS+ millimetres.
    pub fn world_to_voxel(&self, world: [f64; 3]) -> [f64; 3] {
        let m = self.inverse_linear();
        let d: [f64; 3] = std::array::from_fn(|i| world[i] - self.rows[i][3]);
        let [x, y, z] = m.map(|[a, b, c]| a * d[0] + b * d[1] + c * d[2]);
        [z, y, x]
    }

    /// The same axes with voxel (0, 0, 0) moved to the given (possibly fractional) index (z, y, x).
    pub fn shifted(&self, index: [f64; 3]) -> Self {
        let origin = self.voxel_to_world(index);
        let mut rows = self.rows;
        for (row, o) in rows.iter_mut().zip(origin) {
            row[3] = o;
        }
        Self { rows }
    }

    /// The affine of a grid resampled from `shape` to `new_shape` voxels (z, y, x) over the same
    /// extent, with half-pixel centres: `old = (new + ½)·old_n/new_n − ½`.
    ///
    /// # Errors
    /// [`Error::Empty`] when a shape has a zero axis.
    pub fn resampled(&self, shape: [usize; 3], new_shape: [usize; 3]) -> Result<Self> {
        if shape.contains(&0) || new_shape.contains(&0) {
            return Err(Error::Empty { shape: new_shape });
        }
        let zoom: [f64; 3] = std::array::from_fn(|a| shape[a] as f64 / new_shape[a] as f64);
        let mut rows = self.shifted(zoom.map(|s| 0.5 * s - 0.5)).rows;
        for row in &mut rows {
            for (column, axis) in [(0, 2), (1, 1), (2, 0)] {
                row[column] *= zoom[axis];
            }
        }
        Ok(Self { rows })
    }

    /// The orientation code closest to the voxel axes: for file axes x, y, z the anatomical
    /// direction in which the index grows.
    ///
    /// The axes are matched jointly, the strongest direction cosine first, so every body axis is
    /// used once even for strongly oblique affines.
    pub fn orientation(&self) -> Orientation {
        let lengths = self.column_lengths();
        let mut directions = [Direction::Right; 3];
        let (mut used_column, mut used_row) = ([false; 3], [false; 3]);
        for _ in 0..3 {
            let mut best = (0, 0, -1.0);
            for column in (0..3).filter(|&c| !used_column[c]) {
                for row in (0..3).filter(|&r| !used_row[r]) {
                    let cosine = (self.rows[row][column] / lengths[column]).abs();
                    if cosine > best.2 {
                        best = (column, row, cosine);
                    }
                }
            }
            let (column, row, _) = best;
            used_column[column] = true;
            used_row[row] = true;
            directions[column] = Direction::from_world_axis(row, self.rows[row][column] >= 0.0);
        }
        Orientation::from_matched(directions)
    }

    /// The determinant of the 3×3 part, in cubic millimetres; negative for left-handed axes.
    pub fn determinant(&self) -> f64 {
        let [[a, b, c, _], [d, e, f, _], [g, h, i, _]] = self.rows;
        a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    }

    /// The volume of one voxel, in cubic millimetres: less than the product of the spacings where the
    /// axes are sheared.
    pub fn voxel_volume_mm3(&self) -> f64 {
        self.determinant().abs()
    }

    fn column_lengths(&self) -> [f64; 3] {
        std::array::from_fn(|c| self.column(c).iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    fn inverse_linear(&self) -> [[f64; 3]; 3] {
        let [[a, b, c, _], [d, e, f, _], [g, h, i, _]] = self.rows;
        let s = 1.0 / self.determinant();
        [
            [
                (e * i - f * h) * s,
                (c * h - b * i) * s,
                (b * f - c * e) * s,
            ],
            [
                (f * g - d * i) * s,
                (a * i - c * g) * s,
                (c * d - a * f) * s,
            ],
            [
                (d * h - e * g) * s,
                (b * g - a * h) * s,
                (a * e - b * d) * s,
            ],
        ]
    }
}

impl TryFrom<[[f64; 4]; 3]> for Affine {
    type Error = Error;

    fn try_from(rows: [[f64; 4]; 3]) -> Result<Self> {
        Self::from_rows(rows)
    }
}

impl From<Affine> for [[f64; 4]; 3] {
    fn from(affine: Affine) -> Self {
        affine.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rotated, scaled, possibly mirrored axes.
    pub(crate) fn affines() -> impl Strategy<Value = Affine> {
        let angle = -3.1..3.1f64;
        let step = 0.3..8.0f64;
        (
            [angle.clone(), angle.clone(), angle],
            [step.clone(), step.clone(), step],
            [-300.0..300.0f64, -300.0..300.0, -300.0..300.0],
            any::<bool>(),
        )
            .prop_map(|([a, b, c], steps, origin, mirror)| {
                let ((sa, ca), (sb, cb), (sc, cc)) = (a.sin_cos(), b.sin_cos(), c.sin_cos());
                let r = [
                    [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
                    [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
                    [-sb, cb * sa, cb * ca],
                ];
                let sign = if mirror { -1.0 } else { 1.0 };
                let column = |c: usize, s: f64| std::array::from_fn(|i| r[i][c] * steps[c] * s);
                Affine::from_columns(column(0, sign), column(1, 1.0), column(2, 1.0), origin)
                    .unwrap()
            })
    }

    proptest! {
        #[test]
        fn world_and_voxel_are_inverse(affine in affines(), i in [-50.0..200.0f64, -50.0..200.0, -50.0..200.0]) {
            let back = affine.world_to_voxel(affine.voxel_to_world(i));
            for (a, b) in i.iter().zip(back) {
                prop_assert!((a - b).abs() < 1e-8, "{i:?} came back as {back:?}");
            }
        }

        #[test]
        fn an_affine_is_its_origin_and_its_columns(affine in affines(), i in [-50.0..200.0f64, -50.0..200.0, -50.0..200.0]) {
            // voxel (z, y, x) lies at origin + x·column 0 + y·column 1 + z·column 2
            let origin = affine.voxel_to_world([0.0; 3]);
            let columns = [0, 1, 2].map(|axis| affine.column(axis));
            let world = affine.voxel_to_world(i);
            for k in 0..3 {
                let sum = origin[k] + i[2] * columns[0][k] + i[1] * columns[1][k] + i[0] * columns[2][k];
                prop_assert!((world[k] - sum).abs() < 1e-9);
            }
            // The spacing is the length of the columns.
            for (spacing, column) in affine.spacing().zyx().iter().rev().zip(columns) {
                let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
                prop_assert!((spacing - length).abs() < 1e-9);
            }
            let rebuilt = Affine::from_columns(columns[0], columns[1], columns[2], origin).unwrap();
            prop_assert_eq!(rebuilt, affine);
        }

        #[test]
        fn resampling_keeps_the_extent(affine in affines(), shape in [2usize..40, 2..40, 2..40], new in [2usize..40, 2..40, 2..40]) {
            // The outer corner of the first and of the last voxel stay where they are.
            let resampled = affine.resampled(shape, new).unwrap();
            for (old, now) in [
                ([-0.5; 3], [-0.5; 3]),
                (shape.map(|n| n as f64 - 0.5), new.map(|n| n as f64 - 0.5)),
            ] {
                let (a, b) = (affine.voxel_to_world(old), resampled.voxel_to_world(now));
                for k in 0..3 {
                    prop_assert!((a[k] - b[k]).abs() < 1e-8);
                }
            }
        }
    }

    #[test]
    fn a_leaning_axis_makes_a_voxel_no_larger() {
        let slice = [[-2.0, 0.0, 0.0], [0.0, 3.0, 0.0]];
        let volume = |z| {
            let affine = Affine::from_columns(slice[0], slice[1], z, [0.0; 3]).unwrap();
            affine.voxel_volume_mm3()
        };
        assert!((volume([0.0, 0.0, 5.0]) - 30.0).abs() < 1e-12);
        assert!((volume([1.0, 2.0, 5.0]) - 30.0).abs() < 1e-12);
    }

    #[test]
    fn refuses_flat_and_broken_axes() {
        let flat =
            Affine::from_columns([1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0; 3]);
        assert!(matches!(flat, Err(Error::Affine { .. })));
        let nan = Affine::from_columns(
            [f64::NAN, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
            [0.0; 3],
        );
        assert!(matches!(nan, Err(Error::Affine { .. })));
    }
}
