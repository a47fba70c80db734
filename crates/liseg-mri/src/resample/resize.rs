//! Resizing arrays of intensities.

use super::operator::Operator;
use super::{Interpolation, Resampling, axis_first, separate_axis, used_slices};
use liseg_volume::Spacing;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis};
use rayon::prelude::*;

/// Smallest and largest value; an array of NaN gives an empty range, which clips nothing.
#[derive(Clone, Copy)]
struct Range(f32, f32);

impl Range {
    const EMPTY: Self = Self(f32::INFINITY, f32::NEG_INFINITY);

    fn of<'a>(values: impl IntoIterator<Item = &'a f32>) -> Self {
        values.into_iter().fold(Self::EMPTY, |Self(low, high), &v| {
            Self(low.min(v), high.max(v))
        })
    }

    fn of_volume(data: ArrayView3<'_, f32>) -> Self {
        data.outer_iter()
            .into_par_iter()
            .map(Self::of)
            .reduce(|| Self::EMPTY, |a, b| Self(a.0.min(b.0), a.1.max(b.1)))
    }

    /// Cubic splines overshoot at edges by a tenth of the step; NaN passes.
    fn clip(self, value: f64) -> f32 {
        let value = value as f32;
        if value < self.0 {
            self.0
        } else if value > self.1 {
            self.1
        } else {
            value
        }
    }
}

/// See [`super::resample_array`], whose checks come first.
pub(super) fn resize(
    data: ArrayView3<'_, f32>,
    new_shape: [usize; 3],
    from: Spacing,
    to: Spacing,
    how: Resampling,
) -> Array3<f32> {
    match separate_axis(from, to, how.separate_z) {
        None => resize_volume(data, new_shape, how.interpolation),
        Some(axis) => {
            // Slices are orthogonal to the first axis.
            let (order, inverse) = axis_first(axis);
            let shape = order.map(|a| new_shape[a]);
            let result = resize_slices(data.permuted_axes(order), shape, how);
            let result = result.permuted_axes(inverse);
            if result.is_standard_layout() {
                return result;
            }
            result.as_standard_layout().into_owned()
        }
    }
}

/// All axes alike, clipped to the range of the whole array.
fn resize_volume(
    data: ArrayView3<'_, f32>,
    shape: [usize; 3],
    interpolation: Interpolation,
) -> Array3<f32> {
    let (nz, ny, nx) = data.dim();
    let along_z = Operator::new(nz, shape[0], interpolation);
    let plane = Plane::new([ny, nx], [shape[1], shape[2]], interpolation);
    let range = Range::of_volume(data);
    if along_z.is_identity() {
        return plane.apply_to_all(data, |_| range, |range, v| range.clip(v));
    }
    let middle = plane.apply_to_all(data, |_| (), |(), v| v);
    resize_first_axis(&along_z, middle, |v| range.clip(v))
}

/// Slice by slice, each clipped to its own range, then along the first axis.
fn resize_slices(data: ArrayView3<'_, f32>, shape: [usize; 3], how: Resampling) -> Array3<f32> {
    let (nz, ny, nx) = data.dim();
    let plane = Plane::new([ny, nx], [shape[1], shape[2]], how.interpolation);
    let own_range = |slice: ArrayView2<'_, f32>| Range::of(slice);
    if nz == shape[0] {
        return plane.apply_to_all(data, own_range, |range, v| range.clip(v));
    }
    if how.along_z == Interpolation::Nearest {
        // Only the slices that are used, and each of them once.
        let (used, places) = used_slices(nz, shape[0]);
        let resized = plane.apply_to_slices(data, &used, own_range, |range, v| range.clip(v));
        return if used.len() < places.len() {
            resized.select(Axis(0), &places)
        } else {
            resized
        };
    }
    let middle = plane.apply_to_all(data, own_range, |range, v| f64::from(range.clip(v)));
    resize_first_axis(&Operator::new(nz, shape[0], how.along_z), middle, |v| {
        v as f32
    })
}

/// Resizes along the first axis, in parallel over blocks of neighbouring lines.
fn resize_first_axis(
    operator: &Operator,
    middle: Array3<f64>,
    store: impl Fn(f64) -> f32 + Sync,
) -> Array3<f32> {
    /// A few hundred kilobytes for a hundred slices: stays in a core's own cache.
    const BLOCK: usize = 256;
    let (nz, ny, nx) = middle.dim();
    let mz = operator.len();
    let mut result = Array3::zeros((mz, ny, nx));
    // Both arrays are in standard layout, where slices are rows of one matrix.
    if let (Ok(source), Ok(target)) = (
        middle.view().into_shape_with_order((nz, ny * nx)),
        result.view_mut().into_shape_with_order((mz, ny * nx)),
    ) {
        let mut target = target;
        target
            .axis_chunks_iter_mut(Axis(1), BLOCK)
            .into_par_iter()
            .zip(source.axis_chunks_iter(Axis(1), BLOCK))
            .for_each(|(out, block)| operator.apply(block, out, &store));
    }
    result
}

/// Resizes slices along both of their axes.
struct Plane {
    rows: Operator,
    columns: Operator,
}

impl Plane {
    fn new(old: [usize; 2], new: [usize; 2], interpolation: Interpolation) -> Self {
        Self {
            rows: Operator::new(old[0], new[0], interpolation),
            columns: Operator::new(old[1], new[1], interpolation),
        }
    }

    /// Resizes every slice.
    fn apply_to_all<C, D: Clone + Default + Send + Sync>(
        &self,
        data: ArrayView3<'_, f32>,
        context: impl Fn(ArrayView2<'_, f32>) -> C + Sync,
        store: impl Fn(&C, f64) -> D + Sync,
    ) -> Array3<D> {
        let all: Vec<usize> = (0..data.dim().0).collect();
        self.apply_to_slices(data, &all, context, store)
    }

    /// Resizes the given slices; `context` is computed once for each and handed to `store`.
    fn apply_to_slices<C, D: Clone + Default + Send + Sync>(
        &self,
        data: ArrayView3<'_, f32>,
        slices: &[usize],
        context: impl Fn(ArrayView2<'_, f32>) -> C + Sync,
        store: impl Fn(&C, f64) -> D + Sync,
    ) -> Array3<D> {
        let shape = (slices.len(), self.rows.len(), self.columns.len());
        let mut result = Array3::from_elem(shape, D::default());
        result
            .outer_iter_mut()
            .into_par_iter()
            .zip(slices)
            .for_each(|(out, &slice)| {
                let slice = data.index_axis(Axis(0), slice);
                let context = context(slice);
                self.apply(slice, out, |v| store(&context, v));
            });
        result
    }

    fn apply<D>(
        &self,
        slice: ArrayView2<'_, f32>,
        mut out: ArrayViewMut2<'_, D>,
        store: impl Fn(f64) -> D,
    ) {
        let (_, nx) = slice.dim();
        if self.rows.is_identity() {
            self.columns
                .apply(slice.t(), out.view_mut().reversed_axes(), store);
        } else if self.columns.is_identity() {
            self.rows.apply(slice, out, store);
        } else {
            let mut middle = Array2::<f64>::zeros((self.rows.len(), nx));
            self.rows.apply(slice, middle.view_mut(), |v| v);
            self.columns
                .apply(middle.t(), out.view_mut().reversed_axes(), store);
        }
    }
}
