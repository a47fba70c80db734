//! Convolution along one axis of a volume.

use crate::Scratch;
use crate::simd::vectorised;

/// How a line goes on beyond its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// Zeros.
    Zero,
    /// From the other end.
    Periodic,
    /// Mirrored at the outermost voxel: … 2 1 | 0 1 2 … (NumPy's and torch's "reflect").
    Reflect,
    /// Mirrored at the outer face of the outermost voxel: … 1 0 | 0 1 2 … (SciPy's "reflect").
    Symmetric,
}

impl Border {
    /// The voxel of a line of `count` that stands at `index`; `None` for a zero.
    fn voxel(self, index: isize, count: usize) -> Option<usize> {
        let n = count as isize;
        if (0..n).contains(&index) {
            return Some(index as usize);
        }
        let found = match self {
            Self::Zero => return None,
            Self::Periodic => index.rem_euclid(n),
            Self::Reflect if n == 1 => 0,
            Self::Reflect => {
                let at = index.rem_euclid(2 * n - 2);
                at.min(2 * n - 2 - at)
            }
            Self::Symmetric => {
                let at = index.rem_euclid(2 * n);
                at.min(2 * n - 1 - at)
            }
        };
        Some(found as usize)
    }
}

/// Convolves one volume of the given shape (`[z, y, x]`) along an axis, in place: voxel k becomes
/// Σ `kernel[j]` · voxel k + j − r, with r half the (odd) length of the kernel.
///
/// A kernel of one weight does nothing: callers normalise.
pub(crate) fn convolve(
    volume: &mut [f32],
    shape: [usize; 3],
    axis: usize,
    kernel: &[f32],
    border: Border,
    scratch: &mut Scratch,
) {
    if kernel.len() <= 1 || volume.is_empty() {
        return;
    }
    run(volume, shape, axis, kernel, border, scratch);
}

vectorised! {
    fn run(
        volume: &mut [f32],
        shape: [usize; 3],
        axis: usize,
        kernel: &[f32],
        border: Border,
        scratch: &mut Scratch,
    ) {
        let [nz, ny, nx] = shape;
        let radius = kernel.len() / 2;
        match axis {
            0 => {
                // The rows of all slices at one y.
                let mut copy = scratch.floats(nz * nx);
                for y in 0..ny {
                    let start = |z: usize| (z * ny + y) * nx;
                    for (z, row) in copy.chunks_exact_mut(nx).enumerate() {
                        row.copy_from_slice(&volume[start(z)..][..nx]);
                    }
                    for z in 0..nz {
                        let out = &mut volume[start(z)..][..nx];
                        combine(out, &copy, z, nz, kernel, border);
                    }
                }
                scratch.give(copy);
            }
            1 => {
                let mut copy = scratch.floats(ny * nx);
                for slice in volume.chunks_exact_mut(ny * nx) {
                    copy.copy_from_slice(slice);
                    for (y, out) in slice.chunks_exact_mut(nx).enumerate() {
                        combine(out, &copy, y, ny, kernel, border);
                    }
                }
                scratch.give(copy);
            }
            _ => {
                let mut padded = scratch.floats(nx + 2 * radius);
                for row in volume.chunks_exact_mut(nx) {
                    padded[radius..radius + nx].copy_from_slice(row);
                    for k in 0..radius {
                        let value = |index| border.voxel(index, nx).map_or(0.0, |at| row[at]);
                        let (before, after) = (k as isize - radius as isize, (nx + k) as isize);
                        let (before, after) = (value(before), value(after));
                        padded[k] = before;
                        padded[radius + nx + k] = after;
                    }
                    sum(row, kernel, |j| Some(&padded[j..]));
                }
                scratch.give(padded);
            }
        }
    }
}

/// `out` = Σ weight · row around row `at` of the `count` rows in `rows`.
#[inline(always)]
fn combine(out: &mut [f32], rows: &[f32], at: usize, count: usize, kernel: &[f32], border: Border) {
    let length = out.len();
    let radius = (kernel.len() / 2) as isize;
    sum(out, kernel, |j| {
        let row = border.voxel(at as isize + j as isize - radius, count)?;
        Some(&rows[row * length..])
    });
}

/// `out` = Σ weight · row, where `row(j)` belongs to weight j. Four rows at a time, so that `out`
/// is not read and written for each.
#[inline(always)]
fn sum<'a>(out: &mut [f32], kernel: &[f32], row: impl Fn(usize) -> Option<&'a [f32]>) {
    let n = out.len();
    let mut waiting: [(f32, &[f32]); 4] = [(0.0, &[]); 4];
    let mut count = 0;
    let mut fresh = true;
    for (j, &weight) in kernel.iter().enumerate() {
        if weight == 0.0 {
            continue;
        }
        let Some(row) = row(j) else { continue };
        waiting[count] = (weight, &row[..n]);
        count += 1;
        if count == 4 {
            add_four(out, &waiting, fresh);
            (count, fresh) = (0, false);
        }
    }
    if fresh && count == 0 {
        out.fill(0.0);
    }
    for (k, (weight, row)) in waiting[..count].iter().enumerate() {
        if fresh && k == 0 {
            for (sum, value) in out.iter_mut().zip(*row) {
                *sum = weight * value;
            }
        } else {
            for (sum, value) in out.iter_mut().zip(*row) {
                *sum += weight * value;
            }
        }
    }
}

#[inline(always)]
fn add_four(out: &mut [f32], rows: &[(f32, &[f32]); 4], fresh: bool) {
    let n = out.len();
    let [(u, a), (v, b), (w, c), (t, d)] = *rows;
    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
    if fresh {
        for k in 0..n {
            out[k] = (u * a[k] + v * b[k]) + (w * c[k] + t * d[k]);
        }
    } else {
        for k in 0..n {
            out[k] += (u * a[k] + v * b[k]) + (w * c[k] + t * d[k]);
        }
    }
}

/// exp(−x² / 2σ²) at the whole x from −`radius` to `radius`, normalised to a sum of one.
pub(crate) fn gaussian(sigma: f64, radius: usize) -> Vec<f32> {
    if radius == 0 || sigma <= 0.0 {
        return vec![1.0];
    }
    let weights: Vec<f64> = (0..=2 * radius)
        .map(|k| (-0.5 * ((k as f64 - radius as f64) / sigma).powi(2)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn borders_continue_a_line_of_three() {
        let line = |border: Border| -> Vec<Option<usize>> {
            (-4..7).map(|k| border.voxel(k, 3)).collect()
        };
        let some = |voxels: [usize; 11]| voxels.map(Some).to_vec();
        assert_eq!(
            line(Border::Reflect),
            some([0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2])
        );
        assert_eq!(
            line(Border::Symmetric),
            some([2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0])
        );
        assert_eq!(
            line(Border::Periodic),
            some([2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
        );
        assert_eq!(line(Border::Zero).iter().flatten().count(), 3);
        assert_eq!(Border::Reflect.voxel(-3, 1), Some(0));
    }

    proptest! {
        #[test]
        fn convolution_agrees_with_its_formula(
            shape in [1usize..6, 1usize..6, 1usize..9], axis in 0usize..3, radius in 0usize..6,
            border in prop_oneof![
                Just(Border::Zero), Just(Border::Periodic), Just(Border::Reflect),
                Just(Border::Symmetric),
            ],
        ) {
            let [nz, ny, nx] = shape;
            let volume: Vec<f32> = (0..nz * ny * nx).map(|k| (k as f32 * 1.7).sin()).collect();
            let kernel: Vec<f32> = (0..2 * radius + 1).map(|k| (k as f32).cos()).collect();
            let mut found = volume.clone();
            convolve(&mut found, shape, axis, &kernel, border, &mut Scratch::new());
            for (flat, found) in found.iter().enumerate() {
                let at = [flat / (ny * nx), flat / nx % ny, flat % nx];
                let mut expected = 0.0;
                for (j, weight) in kernel.iter().enumerate() {
                    let index = at[axis] as isize + j as isize - radius as isize;
                    if let Some(voxel) = border.voxel(index, shape[axis]) {
                        let mut at = at;
                        at[axis] = voxel;
                        expected += weight * volume[(at[0] * ny + at[1]) * nx + at[2]];
                    }
                }
                if radius == 0 {
                    expected = volume[flat];
                }
                prop_assert!((found - expected).abs() < 1e-5);
            }
        }
    }
}
