//! Displacements of the output grid.

use super::lattice::Lattice;
use crate::Scratch;

/// The displacement e of every output voxel, in voxels along z, y, x.
#[derive(Debug)]
pub(crate) enum Field {
    /// One number for each axis and voxel: `[axis][z, y, x]`.
    Dense([Vec<f32>; 3]),
    /// Splines over control points.
    Lattice(Lattice),
}

/// The displacements of one row of output voxels, along z, y, x.
pub(crate) type FieldRow<'a> = [&'a [f32]; 3];

impl Field {
    /// The mean displacement along each axis.
    pub(crate) fn mean(&self) -> [f64; 3] {
        match self {
            Self::Dense(axes) => [0, 1, 2].map(|k| {
                let sum: f64 = axes[k].iter().map(|&v| f64::from(v)).sum();
                sum / axes[k].len().max(1) as f64
            }),
            Self::Lattice(lattice) => lattice.mean(),
        }
    }

    /// The displacements of row (z, y) of an output of `rows` rows a slice; `buffers` holds what
    /// is computed.
    pub(crate) fn row<'a>(
        &'a self,
        [z, y]: [usize; 2],
        rows: usize,
        buffers: &'a mut [Vec<f32>; 3],
    ) -> FieldRow<'a> {
        match self {
            Self::Dense(axes) => {
                let nx = buffers[0].len();
                let at = (z * rows + y) * nx;
                [0, 1, 2].map(|k| &axes[k][at..at + nx])
            }
            Self::Lattice(lattice) => {
                lattice.row([z, y], buffers);
                let [a, b, c] = buffers;
                [a, b, c]
            }
        }
    }

    /// Gives buffers back.
    pub(crate) fn recycle(self, scratch: &mut Scratch) {
        match self {
            Self::Dense(axes) => axes.into_iter().for_each(|axis| scratch.give(axis)),
            Self::Lattice(lattice) => lattice.recycle(scratch),
        }
    }
}
