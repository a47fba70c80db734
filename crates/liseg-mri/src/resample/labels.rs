//! Resizing label maps: labels are never mixed, their shares of a place are compared.

use super::operator::{linear, nearest};
use super::{SeparateZ, axis_first, separate_axis, used_slices};
use liseg_volume::Spacing;
use ndarray::{Array3, ArrayView3, ArrayViewMut1, Axis, s};
use rayon::prelude::*;

/// Where an output looks along one axis.
#[derive(Clone, Copy)]
struct Taps {
    below: usize,
    above: usize,
    /// The share of the sample above; the one below has the rest.
    fraction: f64,
    nearest: usize,
}

impl Taps {
    fn along(old: usize, new: usize) -> Vec<Self> {
        linear(old, new)
            .into_iter()
            .zip(nearest(old, new))
            .map(|((below, fraction), nearest)| Self {
                below,
                above: (below + 1).min(old - 1),
                fraction,
                nearest,
            })
            .collect()
    }

    /// Looks at one sample only.
    fn at(index: usize) -> Self {
        Self {
            below: index,
            above: index,
            fraction: 0.0,
            nearest: index,
        }
    }
}

/// See [`super::resample_labels_array`], whose checks come first.
pub(super) fn resize<L: Copy + Ord + Send + Sync>(
    labels: ArrayView3<'_, L>,
    new_shape: [usize; 3],
    from: Spacing,
    to: Spacing,
    separate_z: SeparateZ,
) -> Array3<L> {
    let Some(axis) = separate_axis(from, to, separate_z) else {
        let taps = Taps::along(labels.dim().0, new_shape[0]);
        return resize_slices(labels, &taps, new_shape);
    };
    let (order, inverse) = axis_first(axis);
    let labels = labels.permuted_axes(order);
    let (used, places) = used_slices(labels.dim().0, new_shape[axis]);
    let taps: Vec<_> = used.iter().map(|&i| Taps::at(i)).collect();
    let resized = resize_slices(labels, &taps, order.map(|a| new_shape[a]));
    let resized = if used.len() == places.len() {
        resized
    } else {
        resized.select(Axis(0), &places)
    };
    resized
        .permuted_axes(inverse)
        .as_standard_layout()
        .into_owned()
}

/// One output slice for each of `along_z`, in parallel.
fn resize_slices<L: Copy + Ord + Send + Sync>(
    labels: ArrayView3<'_, L>,
    along_z: &[Taps],
    shape: [usize; 3],
) -> Array3<L> {
    let labels = labels.as_standard_layout();
    let (_, ny, nx) = labels.dim();
    let (along_y, along_x) = (Taps::along(ny, shape[1]), Taps::along(nx, shape[2]));
    let mut result = Array3::from_elem((along_z.len(), shape[1], shape[2]), labels[[0, 0, 0]]);
    result
        .outer_iter_mut()
        .into_par_iter()
        .zip(along_z)
        .for_each(|(mut slice, z)| {
            for (row, y) in slice.rows_mut().into_iter().zip(&along_y) {
                resize_row(labels.view(), z, y, &along_x, row);
            }
        });
    result
}

/// The label with the largest share of each output's eight neighbours; ties go to the nearest
/// sample's label if it is among them, else to the smallest.
///
/// Weights are multiplied and summed in the order of SciPy's spline code, so that shares that tie
/// there tie here.
fn resize_row<L: Copy + Ord>(
    labels: ArrayView3<'_, L>,
    z: &Taps,
    y: &Taps,
    along_x: &[Taps],
    mut out: ArrayViewMut1<'_, L>,
) {
    let line = |z: usize, y: usize| labels.slice_move(s![z, y, ..]);
    let lines = [
        line(z.below, y.below),
        line(z.below, y.above),
        line(z.above, y.below),
        line(z.above, y.above),
    ];
    let centre = line(z.nearest, y.nearest);
    let weights = [
        (1.0 - z.fraction) * (1.0 - y.fraction),
        (1.0 - z.fraction) * y.fraction,
        z.fraction * (1.0 - y.fraction),
        z.fraction * y.fraction,
    ];
    for (out, x) in out.iter_mut().zip(along_x) {
        let found: [L; 8] =
            std::array::from_fn(|i| lines[i / 2][if i % 2 == 0 { x.below } else { x.above }]);
        *out = if found.iter().all(|l| *l == found[0]) {
            found[0]
        } else {
            let shares = std::array::from_fn(|i| {
                weights[i / 2]
                    * if i % 2 == 0 {
                        1.0 - x.fraction
                    } else {
                        x.fraction
                    }
            });
            winner(found, shares, centre[x.nearest])
        };
    }
}

fn winner<L: Copy + Ord>(found: [L; 8], shares: [f64; 8], nearest: L) -> L {
    let mut labels = found;
    let mut scores = [0.0f64; 8];
    let mut count = 0;
    for (label, share) in found.into_iter().zip(shares) {
        let place = labels[..count]
            .iter()
            .position(|l| *l == label)
            .unwrap_or(count);
        labels[place] = label;
        scores[place] += share;
        count = count.max(place + 1);
    }
    // The reference clips each indicator to [0, 1] before it compares.
    let score = |place: usize| scores[place].min(1.0);
    let top = (0..count).map(score).fold(0.0, f64::max);
    let tied = || (0..count).filter(|&p| score(p) >= top).map(|p| labels[p]);
    if tied().any(|l| l == nearest) {
        nearest
    } else {
        tied().min().unwrap_or(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_prefer_the_nearest_then_the_smallest() {
        let found = [3, 3, 3, 3, 5, 5, 5, 5];
        assert_eq!(winner(found, [0.125; 8], 5), 5);
        assert_eq!(winner(found, [0.125; 8], 9), 3);
        let mut shares = [0.125; 8];
        shares[7] += 1e-9;
        assert_eq!(winner(found, shares, 3), 5);
    }
}
