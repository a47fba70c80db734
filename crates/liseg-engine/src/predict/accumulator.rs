//! Sums of overlapping tiles, for as many slices as a tile is thick.

use half::f16;
use ndarray::{Array4, ArrayView3, ArrayView4, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// In which number format sums of tiles are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// 32-bit floats.
    #[default]
    F32,
    /// Half precision: half the memory; logits are rounded to about a thousandth.
    F16,
}

impl Storage {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A number that sums are kept in.
pub(super) trait Number: Copy + Default + Send + Sync {
    fn plus(self, value: f32) -> Self;
    fn value(self) -> f32;
}

impl Number for f32 {
    fn plus(self, value: f32) -> Self {
        self + value
    }
    fn value(self) -> f32 {
        self
    }
}

impl Number for f16 {
    fn plus(self, value: f32) -> Self {
        f16::from_f32(self.to_f32() + value)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// The weights of a tile's voxels along z, y and x.
pub(super) type Shares<'a> = [&'a [f32]; 3];

/// Sums `[channels, rows, y, x]` of the slices that tiles still add to.
pub(super) enum Accumulator {
    F32(Rows<f32>),
    F16(Rows<f16>),
}

impl Accumulator {
    /// For tiles `shape[0]` slices thick on slices of `shape[1]` × `shape[2]` voxels.
    pub(super) fn new(storage: Storage, channels: usize, shape: [usize; 3]) -> Self {
        match storage {
            Storage::F32 => Self::F32(Rows::new(channels, shape)),
            Storage::F16 => Self::F16(Rows::new(channels, shape)),
        }
    }

    /// Adds a tile `[channels, z, y, x]` that starts at `(y, x)`, each voxel with its share.
    pub(super) fn add(&mut self, tile: ArrayView4<'_, f32>, start: [usize; 2], shares: Shares<'_>) {
        match self {
            Self::F32(rows) => rows.add(tile, start, shares),
            Self::F16(rows) => rows.add(tile, start, shares),
        }
    }

    /// Hands the first `count` slices, which are complete, to `take`, some at a time, and moves on
    /// by as many.
    pub(super) fn finish<E>(
        &mut self,
        count: usize,
        mut take: impl FnMut(usize, ArrayView4<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Slices widened at once from half precision.
        const WIDENED: usize = 8;
        match self {
            Self::F32(rows) => {
                take(0, rows.sums.slice(s![.., ..count, .., ..]))?;
                rows.advance(count);
            }
            Self::F16(rows) => {
                for first in (0..count).step_by(WIDENED) {
                    let end = (first + WIDENED).min(count);
                    let part = rows.sums.slice(s![.., first..end, .., ..]);
                    take(first, part.mapv(Number::value).view())?;
                }
                rows.advance(count);
            }
        }
        Ok(())
    }
}

/// Sums in one number format.
pub(super) struct Rows<T> {
    sums: Array4<T>,
}

impl<T: Number> Rows<T> {
    fn new(channels: usize, [z, y, x]: [usize; 3]) -> Self {
        Self {
            sums: Array4::from_elem((channels, z, y, x), T::default()),
        }
    }

    fn add(&mut self, tile: ArrayView4<'_, f32>, [y, x]: [usize; 2], [wz, wy, wx]: Shares<'_>) {
        let place = s![.., .., y..y + wy.len(), x..x + wx.len()];
        let mut part = self.sums.slice_mut(place);
        for (mut sums, values) in part.outer_iter_mut().zip(tile.outer_iter()) {
            let slices = sums.axis_iter_mut(Axis(0)).into_par_iter();
            let values: ArrayView3<'_, f32> = values;
            slices
                .zip(values.axis_iter(Axis(0)))
                .zip(wz)
                .for_each(|((mut sums, values), &wz)| {
                    for ((mut sums, values), &wy) in
                        sums.rows_mut().into_iter().zip(values.rows()).zip(wy)
                    {
                        let w = wz * wy;
                        if let (Some(sums), Some(values)) = (sums.as_slice_mut(), values.as_slice())
                        {
                            for ((sum, &value), &wx) in sums.iter_mut().zip(values).zip(wx) {
                                *sum = sum.plus(value * (w * wx));
                            }
                        }
                    }
                });
        }
    }

    /// Moves all slices `count` to the front; those that become free are zero.
    fn advance(&mut self, count: usize) {
        let (_, slices, y, x) = self.sums.dim();
        let plane = y * x;
        for mut channel in self.sums.outer_iter_mut() {
            if let Some(values) = channel.as_slice_mut() {
                values.copy_within(count * plane.., 0);
                values[(slices - count) * plane..].fill(T::default());
            }
        }
    }
}
