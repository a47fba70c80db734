//! Resizing along one axis: half-pixel centres, edge extension, no anti-aliasing.

use super::Interpolation;
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

/// Lines treated at once: their samples lie side by side, so that every step along the lines is one
/// vector operation.
const WIDTH: usize = 16;

type Row = [f64; WIDTH];

/// Pole of the recursive filter that turns samples into cubic B-spline coefficients, √3 − 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// Its gain, (1 − z)(1 − 1/z).
const GAIN: f64 = 6.0;

/// Spline coefficients needed beyond either end of a line.
pub(super) const MARGIN: usize = 2;

/// A linear operator that turns `old` samples of a line into `new` ones.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    old: usize,
    new: usize,
    taps: Taps,
}

#[derive(Debug, Clone)]
enum Taps {
    Same,
    Nearest(Vec<usize>),
    /// The sample below and the fraction of the way to the one above.
    Linear(Vec<(usize, f64)>),
    /// The first of four coefficients, counted with the margin, and their weights.
    Cubic(Vec<(usize, [f64; 4])>),
}

/// The place of output `k` among the input samples: `(k + ½)·old/new − ½`.
fn position(k: usize, old: usize, new: usize) -> f64 {
    (k as f64 + 0.5) * (old as f64 / new as f64) - 0.5
}

/// The input sample nearest to each output; halves go up.
pub(super) fn nearest(old: usize, new: usize) -> Vec<usize> {
    let last = old.saturating_sub(1);
    (0..new)
        .map(|k| {
            let x = position(k, old, new).clamp(0.0, last as f64);
            ((x + 0.5).floor() as usize).min(last)
        })
        .collect()
}

/// For each output the sample below, at most the last, and the fraction of the way to the next.
pub(super) fn linear(old: usize, new: usize) -> Vec<(usize, f64)> {
    let last = old.saturating_sub(1);
    (0..new)
        .map(|k| {
            let x = position(k, old, new).clamp(0.0, last as f64);
            (x as usize, x - x.floor())
        })
        .collect()
}

/// Cubic B-spline weights of the samples −1, 0, 1, 2 around a place the fraction `t` beyond 0.
pub(super) fn cubic_weights(t: f64) -> [f64; 4] {
    let s = 1.0 - t;
    [
        s * s * s / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (1.0 + 3.0 * t + 3.0 * t * t - 3.0 * t * t * t) / 6.0,
        t * t * t / 6.0,
    ]
}

impl Operator {
    pub(super) fn new(old: usize, new: usize, interpolation: Interpolation) -> Self {
        let taps = if old == new {
            Taps::Same
        } else {
            match interpolation {
                Interpolation::Nearest => Taps::Nearest(nearest(old, new)),
                Interpolation::Linear => Taps::Linear(linear(old, new)),
                Interpolation::Cubic => Taps::Cubic(
                    (0..new)
                        .map(|k| {
                            // Not clamped: between the edge and half a voxel beyond it the spline
                            // of the extended line is evaluated.
                            let x = position(k, old, new);
                            let below = x.floor();
                            let first = (below as isize + MARGIN as isize - 1).max(0) as usize;
                            (first.min(old + 2 * MARGIN - 4), cubic_weights(x - below))
                        })
                        .collect(),
                ),
            }
        };
        Self { old, new, taps }
    }

    /// Whether the operator leaves every line as it is.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self.taps, Taps::Same)
    }

    /// Samples of a line after resizing.
    pub(super) fn len(&self) -> usize {
        self.new
    }

    /// Resizes along axis 0: `source` `[old, lines]` becomes `target` `[new, lines]`; `store` turns
    /// results into voxels.
    pub(super) fn apply<S, D>(
        &self,
        source: ArrayView2<'_, S>,
        target: ArrayViewMut2<'_, D>,
        store: impl Fn(f64) -> D,
    ) where
        S: Copy + Into<f64>,
    {
        debug_assert_eq!((source.nrows(), target.nrows()), (self.old, self.new));
        let mut lines = vec![[0.0; WIDTH]; self.old + 2 * MARGIN];
        let mut target = target;
        let blocks = target.axis_chunks_iter_mut(Axis(1), WIDTH);
        for (mut out, block) in blocks.zip(source.axis_chunks_iter(Axis(1), WIDTH)) {
            for (line, row) in lines[MARGIN..].iter_mut().zip(block.rows()) {
                for (l, &v) in line.iter_mut().zip(row) {
                    *l = v.into();
                }
            }
            if let Taps::Cubic(_) = self.taps {
                prefilter(&mut lines);
            }
            for (k, mut row) in out.rows_mut().into_iter().enumerate() {
                let values = self.evaluate(&lines, k);
                for (o, v) in row.iter_mut().zip(values) {
                    *o = store(v);
                }
            }
        }
    }

    /// Output `k` of every line.
    fn evaluate(&self, lines: &[Row], k: usize) -> Row {
        match &self.taps {
            Taps::Same => lines[k + MARGIN],
            Taps::Nearest(index) => lines[index[k] + MARGIN],
            Taps::Linear(taps) => {
                let (below, t) = taps[k];
                let above = (below + 1).min(self.old - 1);
                let (a, b) = (&lines[below + MARGIN], &lines[above + MARGIN]);
                std::array::from_fn(|j| (1.0 - t) * a[j] + t * b[j])
            }
            Taps::Cubic(taps) => {
                let (first, [w0, w1, w2, w3]) = taps[k];
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| &lines[first + i]);
                std::array::from_fn(|j| w0 * a[j] + w1 * b[j] + w2 * c[j] + w3 * d[j])
            }
        }
    }
}

/// Turns samples into the coefficients of the cubic B-spline through them (Unser 1999), in place,
/// and fills the margins.
///
/// The line continues beyond both ends with its edge value for ever. There the recursions have
/// closed forms, so no padding is needed: nnU-Net's reference pads twelve samples and mirrors, which
/// agrees to |z|²⁴ ≈ 2·10⁻¹⁴.
fn prefilter(lines: &mut [Row]) {
    let end = lines.len() - MARGIN;
    // Causal: c⁺[i] = 6·s[i] + z·c⁺[i−1]; a constant s gives 6·s / (1 − z).
    let steady = GAIN / (1.0 - POLE);
    let start: Row = lines[MARGIN].map(|v| steady * v);
    let stop: Row = lines[end - 1].map(|v| steady * v);
    let edge = lines[end - 1];
    lines[..MARGIN].fill(start);
    lines[end..].fill(edge);
    for i in MARGIN..lines.len() {
        let previous = lines[i - 1];
        for (c, p) in lines[i].iter_mut().zip(previous) {
            *c = GAIN * *c + POLE * p;
        }
    }
    // Anticausal: c[i] = z·(c[i+1] − c⁺[i]), so c[last] = −Σ z^(k+1) c⁺[last + k], where
    // c⁺[last + k] = stop + (c⁺[last] − stop)·z^k.
    if let Some(last) = lines.last_mut() {
        for (c, s) in last.iter_mut().zip(stop) {
            *c = -POLE * s / (1.0 - POLE) - POLE * (*c - s) / (1.0 - POLE * POLE);
        }
    }
    for i in (0..lines.len() - 1).rev() {
        let next = lines[i + 1];
        for (c, n) in lines[i].iter_mut().zip(next) {
            *c = POLE * (n - *c);
        }
    }
}

/// Coefficients of the cubic B-spline through the voxels along all three axes, with [`MARGIN`] more on
/// every side.
pub(super) fn coefficients(data: ArrayView3<'_, f32>) -> Array3<f64> {
    let (nz, ny, nx) = data.dim();
    let mut result = Array3::zeros([nz, ny, nx].map(|n| n + 2 * MARGIN));
    let inner = |n: usize| MARGIN as isize..(MARGIN + n) as isize;
    result
        .slice_mut(s![inner(nz), inner(ny), inner(nx)])
        .zip_mut_with(&data, |c, &v| *c = v.into());
    for axis in 0..3 {
        // Planes that hold whole lines along `axis`, filtered side by side.
        let outer = Axis(usize::from(axis == 0));
        let planes = result.axis_iter_mut(outer).into_par_iter();
        planes.for_each(|plane| {
            // What is left of (z, y, x) without `outer`: the axis is the first, except for x.
            prefilter_plane(if axis == 2 {
                plane.reversed_axes()
            } else {
                plane
            });
        });
    }
    result
}

/// Filters along axis 0 of a plane that has its margins already.
fn prefilter_plane(mut plane: ArrayViewMut2<'_, f64>) {
    let mut lines = vec![[0.0; WIDTH]; plane.nrows()];
    for mut block in plane.axis_chunks_iter_mut(Axis(1), WIDTH) {
        for (line, row) in lines.iter_mut().zip(block.rows()) {
            for (l, &v) in line.iter_mut().zip(row) {
                *l = v;
            }
        }
        prefilter(&mut lines);
        for (line, row) in lines.iter().zip(block.rows_mut()) {
            for (&l, v) in line.iter().zip(row) {
                *v = l;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// The operator as a matrix `[new, old]`.
    fn matrix(old: usize, new: usize, interpolation: Interpolation) -> Array2<f64> {
        let mut out = Array2::zeros((new, old));
        Operator::new(old, new, interpolation).apply(
            Array2::<f64>::eye(old).view(),
            out.view_mut(),
            |v| v,
        );
        out
    }

    #[test]
    fn rows_sum_to_one() {
        for interpolation in [
            Interpolation::Nearest,
            Interpolation::Linear,
            Interpolation::Cubic,
        ] {
            for (old, new) in [(1, 1), (1, 5), (2, 3), (3, 2), (40, 17), (17, 40), (33, 1)] {
                for row in matrix(old, new, interpolation).rows() {
                    assert!((row.sum() - 1.0).abs() < 1e-12, "{old} to {new}: {row}");
                }
            }
        }
    }

    #[test]
    fn cubic_reproduces_a_cubic_polynomial_inside() {
        // A cubic spline through samples of a cubic polynomial is that polynomial, away from ends.
        let f = |x: f64| 0.01 * x * x * x - 0.3 * x * x + x - 4.0;
        let (old, new) = (60, 97);
        let m = matrix(old, new, Interpolation::Cubic);
        for k in 0..new {
            let x = position(k, old, new);
            if (24.0..36.0).contains(&x) {
                let value: f64 = (0..old).map(|i| m[[k, i]] * f(i as f64)).sum();
                assert!((value - f(x)).abs() < 1e-9, "{value} at {x}");
            }
        }
    }

    #[test]
    fn nearest_ties_go_up_and_linear_keeps_the_edge() {
        assert_eq!(nearest(6, 3), [1, 3, 5]);
        assert_eq!(nearest(2, 5), [0, 0, 1, 1, 1]);
        assert_eq!(linear(2, 4), [(0, 0.0), (0, 0.25), (0, 0.75), (1, 0.0)]);
    }

    /// The matrices of scikit-image 0.26 with SciPy 1.17, computed from unit impulses, to 1e-12.
    #[test]
    fn operators_equal_scikit_images() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/nnunet/resampling.safetensors"
        );
        let bytes = std::fs::read(file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut compared = 0;
        for (name, tensor) in tensors.iter().filter(|(n, _)| n.starts_with("operator_o")) {
            let interpolation = match &name["operator_o".len()..][..1] {
                "0" => Interpolation::Nearest,
                "1" => Interpolation::Linear,
                _ => Interpolation::Cubic,
            };
            let (new, old) = (tensor.shape()[0], tensor.shape()[1]);
            let found = matrix(old, new, interpolation);
            for (found, expected) in found.iter().zip(tensor.data().chunks_exact(8)) {
                let expected = f64::from_le_bytes(expected.try_into().unwrap());
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{name}: {found} is not {expected}"
                );
            }
            compared += 1;
        }
        assert_eq!(compared, 24);
    }
}
