//! Voxels with their place in the patient.

use crate::{Affine, Error, Geometry, Orientation, Region, Result, Spacing};
use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis, s};

/// A 3-D voxel array, axes (z, y, x), with its place in the patient.
///
/// Never empty. The shape can change only through methods that keep the affine true.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume<T> {
    data: Array3<T>,
    affine: Affine,
}

/// How axes move between two orientations.
struct Turn {
    /// For each new array axis the old one that it comes from.
    permutation: [usize; 3],
    /// Which new array axes then run the other way.
    flips: [bool; 3],
    affine: Affine,
}

/// Integer labels on a voxel grid; binary liver is 0 and 1.
pub type LabelMap = Volume<u8>;

impl<T> Volume<T> {
    /// A volume from voxels `[z, y, x]` and the affine of their grid.
    ///
    /// # Errors
    /// [`Error::Empty`] when the array has no voxels.
    pub fn new(data: Array3<T>, affine: Affine) -> Result<Self> {
        if data.is_empty() {
            let (z, y, x) = data.dim();
            return Err(Error::Empty { shape: [z, y, x] });
        }
        Ok(Self { data, affine })
    }

    /// The voxels, `[z, y, x]`.
    pub fn data(&self) -> ArrayView3<'_, T> {
        self.data.view()
    }

    /// The voxels, `[z, y, x]`, to change in place.
    pub fn data_mut(&mut self) -> ArrayViewMut3<'_, T> {
        self.data.view_mut()
    }

    /// Gives the voxels away.
    pub fn into_data(self) -> Array3<T> {
        self.data
    }

    /// From voxel index to RAS+ millimetres.
    pub fn affine(&self) -> Affine {
        self.affine
    }

    /// Voxels along (z, y, x).
    pub fn shape(&self) -> [usize; 3] {
        let (z, y, x) = self.data.dim();
        [z, y, x]
    }

    /// Distance between voxel centres.
    pub fn spacing(&self) -> Spacing {
        self.affine.spacing()
    }

    /// In which directions the stored axes run.
    pub fn orientation(&self) -> Orientation {
        self.affine.orientation()
    }

    /// The grid without the voxels.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            shape: self.shape(),
            affine: self.affine,
        }
    }

    /// Replaces the voxels by `data` on the same grid.
    ///
    /// # Errors
    /// [`Error::Shape`] when `data` has another shape.
    pub fn with_data<U>(&self, data: Array3<U>) -> Result<Volume<U>> {
        let (z, y, x) = data.dim();
        if [z, y, x] != self.shape() {
            return Err(Error::Shape {
                expected: self.shape(),
                found: [z, y, x],
            });
        }
        Ok(Volume {
            data,
            affine: self.affine,
        })
    }

    /// Applies `f` to every voxel.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Volume<U> {
        Volume {
            data: self.data.map(f),
            affine: self.affine,
        }
    }
}

impl<T: Clone> Volume<T> {
    /// The voxels inside a box, at the same place in the patient.
    ///
    /// # Errors
    /// [`Error::Region`] when the box is empty or leaves the volume.
    pub fn crop(&self, region: Region) -> Result<Self> {
        region.check(self.shape())?;
        let Region { start: a, end: b } = region;
        let data = self
            .data
            .slice(s![a[0]..b[0], a[1]..b[1], a[2]..b[2]])
            .to_owned();
        Ok(Self {
            data,
            affine: self.affine.shifted(a.map(|v| v as f64)),
        })
    }

    /// [`Volume::crop`] of a volume that nothing else needs: in C order the voxels move within their own
    /// memory, and no second copy is held.
    ///
    /// # Errors
    /// As [`Volume::crop`].
    pub fn into_crop(self, region: Region) -> Result<Self>
    where
        T: Copy,
    {
        let shape = self.shape();
        region.check(shape)?;
        if !self.data.is_standard_layout() {
            return self.crop(region);
        }
        let Region { start: a, end: b } = region;
        let affine = self.affine.shifted(a.map(|v| v as f64));
        let (mut voxels, offset) = self.data.into_raw_vec_and_offset();
        let [_, ny, nx] = shape;
        let row = b[2] - a[2];
        let mut kept = 0;
        // Rows move towards the beginning, and none over one that is still to come.
        for z in a[0]..b[0] {
            for y in a[1]..b[1] {
                let start = offset.unwrap_or(0) + (z * ny + y) * nx + a[2];
                voxels.copy_within(start..start + row, kept);
                kept += row;
            }
        }
        voxels.truncate(kept);
        voxels.shrink_to_fit();
        let data = Array3::from_shape_vec(region.shape(), voxels).map_err(|_| Error::Region {
            region: region.to_string(),
            shape,
        })?;
        Ok(Self { data, affine })
    }

    /// The volume with `before` and `after` voxels of `value` added along (z, y, x).
    pub fn pad(&self, before: [usize; 3], after: [usize; 3], value: T) -> Self {
        let shape = self.shape();
        let padded: [usize; 3] = std::array::from_fn(|a| before[a] + shape[a] + after[a]);
        let mut data = Array3::from_elem(padded, value);
        data.slice_mut(s![
            before[0]..before[0] + shape[0],
            before[1]..before[1] + shape[1],
            before[2]..before[2] + shape[2]
        ])
        .assign(&self.data);
        Self {
            data,
            affine: self.affine.shifted(before.map(|v| -(v as f64))),
        }
    }

    /// The same voxels stored in another orientation, exactly: axes are permuted and flipped, no
    /// value is interpolated and no voxel moves in the world. Reorienting back restores the volume.
    pub fn reorient(&self, target: Orientation) -> Self {
        if self.orientation() == target {
            return self.clone();
        }
        let Turn {
            permutation,
            flips,
            affine,
        } = self.turn_to(target);
        let mut view = self.data.view().permuted_axes(permutation);
        for axis in (0..3).filter(|&axis| flips[axis]) {
            view.invert_axis(Axis(axis));
        }
        Self {
            data: view.as_standard_layout().into_owned(),
            affine,
        }
    }

    /// [`Volume::reorient`] of a volume that is no longer needed: nothing is copied when axes keep
    /// their order, as between LPS and RAS.
    pub fn into_orientation(self, target: Orientation) -> Self {
        if self.orientation() == target {
            return self;
        }
        let turn = self.turn_to(target);
        if turn.permutation != [0, 1, 2] || !self.data.is_standard_layout() {
            return self.reorient(target);
        }
        let Self { mut data, .. } = self;
        if turn.flips[0] {
            let slices = data.len_of(Axis(0));
            let (mut lower, mut upper) = data.view_mut().split_at(Axis(0), slices / 2);
            // The middle one of an odd number of slices stays where it is.
            for (mut a, mut b) in lower.outer_iter_mut().zip(upper.outer_iter_mut().rev()) {
                a.iter_mut()
                    .zip(&mut b)
                    .for_each(|(a, b)| std::mem::swap(a, b));
            }
        }
        let width = data.len_of(Axis(2));
        for mut slice in data.outer_iter_mut() {
            match (turn.flips[1], turn.flips[2], slice.as_slice_mut()) {
                (true, true, Some(voxels)) => voxels.reverse(),
                (false, true, Some(voxels)) => {
                    voxels.chunks_exact_mut(width).for_each(<[T]>::reverse);
                }
                (true, false, Some(voxels)) => {
                    // Reversing the slice and then every row leaves the rows in reverse order.
                    voxels.reverse();
                    voxels.chunks_exact_mut(width).for_each(<[T]>::reverse);
                }
                _ => {}
            }
        }
        Self {
            data,
            affine: turn.affine,
        }
    }

    /// How the stored axes move to run as `target` says.
    fn turn_to(&self, target: Orientation) -> Turn {
        let (from, to) = (self.orientation().xyz(), target.xyz());
        // For each target file axis: the source file axis it comes from, and whether it is flipped.
        let moves = to.map(|direction| {
            let column = from
                .iter()
                .position(|d| d.world_axis() == direction.world_axis())
                .unwrap_or(0);
            (
                column,
                from[column].is_positive() != direction.is_positive(),
            )
        });
        let shape = self.shape();
        let array_axis = |file_axis: usize| 2 - file_axis;

        let mut corner = [0.0; 3];
        let mut columns = [[0.0; 3]; 3];
        for (target_axis, (source_axis, flip)) in moves.into_iter().enumerate() {
            let step = self.affine.column(source_axis);
            columns[target_axis] = if flip { step.map(|v| -v) } else { step };
            if flip {
                let axis = array_axis(source_axis);
                corner[axis] = (shape[axis] - 1) as f64;
            }
        }
        let origin = self.affine.voxel_to_world(corner);
        let rows =
            std::array::from_fn(|r| [columns[0][r], columns[1][r], columns[2][r], origin[r]]);
        // A permutation with signs of a valid affine is valid.
        let affine = Affine::from_rows(rows).unwrap_or(self.affine);

        Turn {
            permutation: std::array::from_fn(|a| array_axis(moves[array_axis(a)].0)),
            flips: std::array::from_fn(|a| moves[array_axis(a)].1),
            affine,
        }
    }

    /// The volume in RAS, the orientation in which networks see every image.
    pub fn to_canonical(&self) -> Self {
        self.reorient(Orientation::RAS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction;
    use proptest::prelude::*;

    fn numbered(shape: [usize; 3], affine: Affine) -> Volume<u32> {
        let mut n = 0;
        let data = Array3::from_shape_simple_fn(shape, || {
            n += 1;
            n
        });
        Volume::new(data, affine).unwrap()
    }

    fn oblique(mirror: bool, tilt: f64) -> Affine {
        let (s, c) = tilt.sin_cos();
        let x = if mirror { -1.25 } else { 1.25 };
        Affine::from_columns(
            [x * c, x * s, 0.0],
            [-1.5 * s, 1.5 * c, 0.0],
            [0.0, 0.0, 7.7],
            [10.0, -20.0, 30.0],
        )
        .unwrap()
    }

    fn all_orientations() -> Vec<Orientation> {
        let mut found = Vec::new();
        for a in 0..3 {
            for b in (0..3).filter(|&b| b != a) {
                for signs in 0..8 {
                    let axes = [a, b, 3 - a - b];
                    let directions = std::array::from_fn(|i| {
                        Direction::from_world_axis(axes[i], signs >> i & 1 == 1)
                    });
                    found.push(Orientation::new(directions).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn reorientation_moves_no_voxel_and_is_reversible() {
        let volume = numbered([3, 4, 5], oblique(true, 0.1));
        for target in all_orientations() {
            let turned = volume.reorient(target);
            assert_eq!(turned.orientation(), target);
            assert_eq!(volume.clone().into_orientation(target), turned);
            // Every value stays at its place in the world.
            for ((z, y, x), value) in turned.data().indexed_iter() {
                let world = turned
                    .affine()
                    .voxel_to_world([z as f64, y as f64, x as f64]);
                let [a, b, c] = volume
                    .affine()
                    .world_to_voxel(world)
                    .map(|v| v.round() as usize);
                assert_eq!(volume.data()[[a, b, c]], *value);
            }
            let back = turned.reorient(volume.orientation());
            assert_eq!(back.data(), volume.data());
            assert!(back.geometry().is_within(&volume.geometry(), 1e-9));
        }
    }

    proptest! {
        #[test]
        fn any_chain_of_reorientations_and_back_is_the_identity(
            mirror: bool, tilt in -0.6..0.6f64, shape in [1usize..6, 1..6, 1..6],
            chain in prop::collection::vec(0usize..48, 1..5),
        ) {
            let volume = numbered(shape, oblique(mirror, tilt));
            let all = all_orientations();
            let turned = chain.iter().fold(volume.clone(), |v, &i| v.reorient(all[i]));
            // Two ways to one orientation end at the same volume.
            let directly = volume.reorient(turned.orientation());
            prop_assert_eq!(turned.data(), directly.data());
            prop_assert!(turned.geometry().is_within(&directly.geometry(), 1e-9));
            let back = turned.reorient(volume.orientation());
            prop_assert_eq!(back.data(), volume.data());
            prop_assert!(back.geometry().is_within(&volume.geometry(), 1e-9));
        }

        #[test]
        fn crops_and_pads_stay_in_place(
            mirror: bool, tilt in -0.6..0.6f64,
            before in [0usize..4, 0..4, 0..4], after in [0usize..4, 0..4, 0..4],
        ) {
            let volume = numbered([4, 5, 6], oblique(mirror, tilt));
            let padded = volume.pad(before, after, 0);
            let shape = volume.shape();
            let region = Region { start: before, end: std::array::from_fn(|a| before[a] + shape[a]) };
            let back = padded.crop(region).unwrap();
            prop_assert_eq!(back.data(), volume.data());
            prop_assert_eq!(&padded.clone().into_crop(region).unwrap(), &back);
            // Turned axes are another order in memory.
            let turned = Volume::new(padded.data().to_owned().reversed_axes(), padded.affine()).unwrap();
            let region = Region {
                start: [before[2], before[1], before[0]],
                end: [2, 1, 0].map(|a| before[a] + shape[a]),
            };
            prop_assert_eq!(turned.crop(region).unwrap(), turned.into_crop(region).unwrap());
            prop_assert!(back.geometry().corner_distance_mm(&volume.geometry()) < 1e-9);
        }
    }

    #[test]
    fn refuses_no_voxels_and_regions_outside() {
        let affine = Affine::from_spacing(Spacing::ISOTROPIC_1MM);
        assert!(matches!(
            Volume::new(Array3::<u8>::zeros((0, 4, 4)), affine),
            Err(Error::Empty { .. })
        ));
        let volume = numbered([2, 2, 2], affine);
        let outside = Region {
            start: [0, 0, 0],
            end: [3, 2, 2],
        };
        assert!(matches!(volume.crop(outside), Err(Error::Region { .. })));
        let empty = Region {
            start: [1, 1, 1],
            end: [1, 2, 2],
        };
        assert!(matches!(volume.crop(empty), Err(Error::Region { .. })));
        assert!(matches!(volume.into_crop(empty), Err(Error::Region { .. })));
    }
}
