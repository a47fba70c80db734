//! Bringing volumes to the grid of another one, whatever the two affines are.

use super::operator::{self, MARGIN, cubic_weights};
use super::{Interpolation, LARGEST};
use crate::{Error, Result};
use liseg_volume::{Affine, Geometry, LabelMap, Volume};
use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis};
use rayon::prelude::*;

/// Output voxels of one block, (z, y, x): its sources lie close together along every axis, so that
/// they stay in the cache even where the grids' axes are exchanged.
const BLOCK: [usize; 3] = [8, 16, 32];

/// How far beyond half a voxel a place may lie and still count as inside: rounding of affines.
const EDGE: f64 = 1e-6;

/// Resamples an image onto another grid, which may be rotated, sheared, mirrored or larger.
///
/// Each voxel of `grid` takes the value of `volume` at its place in the patient. Up to half a voxel
/// beyond the outermost centres the image is continued by its edge value; further out `outside` is
/// written. Computed in f64 and, for [`Interpolation::Cubic`], clipped to the range of the image. There
/// is no anti-aliasing: apply [`super::smooth_for`] first where the grid is much coarser.
///
/// # Errors
/// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Grid`] for a grid without voxels or
/// with absurdly many.
pub fn resample_image_onto(
    volume: &Volume<f32>,
    grid: &Geometry,
    interpolation: Interpolation,
    outside: f32,
) -> Result<Volume<f32>> {
    check_grid(grid)?;
    crate::summary::check_finite(volume.data())?;
    let data = volume.data();
    let map = IndexMap::new(grid.affine, volume.affine());
    let result = match interpolation {
        Interpolation::Nearest => fill(grid, &map, volume.shape(), outside, |at| {
            data[nearest(at, volume.shape())]
        }),
        Interpolation::Linear => fill(grid, &map, volume.shape(), outside, |at| linear(data, at)),
        Interpolation::Cubic => {
            let coefficients = operator::coefficients(data);
            let (low, high) = data
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| {
                    (l.min(v), h.max(v))
                });
            fill(grid, &map, volume.shape(), outside, |at| {
                (cubic(coefficients.view(), at) as f32).clamp(low, high)
            })
        }
    };
    Ok(Volume::new(result, grid.affine)?)
}

/// Puts a label map onto another grid, as for giving a mask back on the grid of its image: the label
/// of the nearest voxel, halves going up; `outside` beyond half a voxel from the outermost centres.
///
/// # Errors
/// [`Error::Grid`] for a grid without voxels or with absurdly many.
///
/// # Examples
/// ```
/// use liseg_mri::resample::resample_labels_onto;
/// use liseg_volume::{Affine, Orientation, Spacing, Volume};
/// use ndarray::Array3;
///
/// let affine = Affine::from_spacing(Spacing::new(3.0, 1.0, 1.0)?);
/// let mask = Volume::new(Array3::from_shape_fn((4, 6, 6), |(z, _, _)| u8::from(z > 1)), affine)?;
/// let scanner = mask.reorient("LPS".parse::<Orientation>()?).geometry();
/// let there = resample_labels_onto(&mask, &scanner, 0)?;
/// let back = resample_labels_onto(&there, &mask.geometry(), 0)?;
/// assert_eq!(back, mask);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn resample_labels_onto(volume: &LabelMap, grid: &Geometry, outside: u8) -> Result<LabelMap> {
    check_grid(grid)?;
    let (data, shape) = (volume.data(), volume.shape());
    let map = IndexMap::new(grid.affine, volume.affine());
    let result = fill(grid, &map, shape, outside, |at| data[nearest(at, shape)]);
    Ok(Volume::new(result, grid.affine)?)
}

fn check_grid(grid: &Geometry) -> Result<()> {
    let voxels = grid.shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    match voxels {
        Some(1..=LARGEST) => Ok(()),
        _ => Err(Error::Grid {
            shape: grid.shape,
            limit: LARGEST,
        }),
    }
}

/// From indices (z, y, x) of one grid to those of another.
struct IndexMap {
    origin: [f64; 3],
    steps: [[f64; 3]; 3],
}

impl IndexMap {
    fn new(from: Affine, to: Affine) -> Self {
        let place = |index| to.world_to_voxel(from.voxel_to_world(index));
        let origin = place([0.0; 3]);
        let steps = std::array::from_fn(|axis| {
            let mut unit = [0.0; 3];
            unit[axis] = 1.0;
            let end = place(unit);
            std::array::from_fn(|k| end[k] - origin[k])
        });
        Self { origin, steps }
    }

    fn at(&self, index: [usize; 3]) -> [f64; 3] {
        let [z, y, x] = index.map(|i| i as f64);
        let [sz, sy, sx] = &self.steps;
        std::array::from_fn(|k| {
            let place = self.origin[k] + z * sz[k] + y * sy[k] + x * sx[k];
            // Grids that coincide must give whole indices, and ties must not hang on rounding.
            let near = (place * 2.0).round() / 2.0;
            if (place - near).abs() < 1e-8 {
                near
            } else {
                place
            }
        })
    }
}

/// Evaluates `value` for every voxel of the grid whose place lies inside, block by block in parallel.
fn fill<T: Copy + Send + Sync>(
    grid: &Geometry,
    map: &IndexMap,
    shape: [usize; 3],
    outside: T,
    value: impl Fn([f64; 3]) -> T + Sync,
) -> Array3<T> {
    let mut result = Array3::from_elem(grid.shape, outside);
    let last = shape.map(|n| n as f64 - 1.0);
    let block = |first: [usize; 3], mut out: ArrayViewMut3<'_, T>| {
        for ((z, y, x), out) in out.indexed_iter_mut() {
            let at = map.at([first[0] + z, first[1] + y, first[2] + x]);
            let inside = (0..3).all(|a| at[a] >= -0.5 - EDGE && at[a] <= last[a] + 0.5 + EDGE);
            if inside {
                *out = value(std::array::from_fn(|a| at[a].clamp(0.0, last[a])));
            }
        }
    };
    result
        .axis_chunks_iter_mut(Axis(0), BLOCK[0])
        .into_par_iter()
        .enumerate()
        .for_each(|(k, slab)| {
            for (j, rows) in chunks(slab, Axis(1), BLOCK[1]) {
                for (i, out) in chunks(rows, Axis(2), BLOCK[2]) {
                    block([k * BLOCK[0], j * BLOCK[1], i * BLOCK[2]], out);
                }
            }
        });
    result
}

/// The parts of at most `size` along an axis, numbered.
fn chunks<T>(
    view: ArrayViewMut3<'_, T>,
    axis: Axis,
    size: usize,
) -> Vec<(usize, ArrayViewMut3<'_, T>)> {
    let mut parts = Vec::new();
    let mut rest = view;
    while rest.len_of(axis) > size {
        let (part, tail) = rest.split_at(axis, size);
        parts.push((parts.len(), part));
        rest = tail;
    }
    parts.push((parts.len(), rest));
    parts
}

fn nearest(at: [f64; 3], shape: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| ((at[a] + 0.5).floor() as usize).min(shape[a] - 1))
}

fn linear(data: ArrayView3<'_, f32>, at: [f64; 3]) -> f32 {
    let shape = data.dim();
    let below = at.map(|v| v as usize);
    let above = [
        (below[0] + 1).min(shape.0 - 1),
        (below[1] + 1).min(shape.1 - 1),
        (below[2] + 1).min(shape.2 - 1),
    ];
    let t: [f64; 3] = std::array::from_fn(|a| at[a] - below[a] as f64);
    let mix = |a: f64, b: f64, t: f64| (1.0 - t) * a + t * b;
    let line = |z, y| {
        let v = |x| f64::from(data[[z, y, x]]);
        mix(v(below[2]), v(above[2]), t[2])
    };
    let slice = |z| mix(line(z, below[1]), line(z, above[1]), t[1]);
    mix(slice(below[0]), slice(above[0]), t[0]) as f32
}

/// The spline of coefficients with a margin on every side.
fn cubic(coefficients: ArrayView3<'_, f64>, at: [f64; 3]) -> f64 {
    let first = at.map(|v| v as usize + MARGIN - 1);
    let weights: [[f64; 4]; 3] = std::array::from_fn(|a| cubic_weights(at[a].fract()));
    let mut sum = 0.0;
    for (k, wz) in weights[0].iter().enumerate() {
        for (j, wy) in weights[1].iter().enumerate() {
            let mut line = 0.0;
            for (i, wx) in weights[2].iter().enumerate() {
                line += wx * coefficients[[first[0] + k, first[1] + j, first[2] + i]];
            }
            sum += wz * wy * line;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Orientation;
    use proptest::prelude::*;

    const ALL: [Interpolation; 3] = [
        Interpolation::Nearest,
        Interpolation::Linear,
        Interpolation::Cubic,
    ];

    fn oblique(angle: f64) -> Affine {
        let (s, c) = angle.sin_cos();
        Affine::from_columns(
            [-1.25 * c, -1.25 * s, 0.0],
            [-1.5 * s, 1.5 * c, 0.0],
            [0.0, 0.0, 3.0],
            [10.0, -20.0, 30.0],
        )
        .unwrap()
    }

    fn orientation(axes: [usize; 3], signs: u8) -> Orientation {
        let letter = |i: usize| ["LR", "PA", "IS"][axes[i]].as_bytes()[usize::from(signs >> i & 1)];
        let code: String = (0..3).map(|i| char::from(letter(i))).collect();
        code.parse().unwrap()
    }

    fn textured(shape: [usize; 3], affine: Affine) -> Volume<f32> {
        let data = Array3::from_shape_fn(shape, |(z, y, x)| ((7 * z + 5 * y * x + x) % 11) as f32);
        Volume::new(data, affine).unwrap()
    }

    #[test]
    fn far_places_get_the_value_for_outside_and_near_ones_the_edge() {
        let affine = Affine::from_spacing(liseg_volume::Spacing::ISOTROPIC_1MM);
        let volume = textured([3, 4, 5], affine).map(|_| 2.0f32);
        let grid = Geometry {
            shape: [3, 4, 9],
            affine: affine.shifted([0.0, 0.0, -2.4]),
        };
        for interpolation in ALL {
            let found = resample_image_onto(&volume, &grid, interpolation, -1.0).unwrap();
            let row: Vec<f32> = found.data().iter().take(9).copied().collect();
            let expected = [-1.0, -1.0, 2.0, 2.0, 2.0, 2.0, 2.0, -1.0, -1.0];
            assert!(
                row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6),
                "{row:?}"
            );
        }
    }

    #[test]
    fn impossible_grids_and_nan_are_refused() {
        let volume = textured([3, 4, 5], oblique(0.2));
        for shape in [[0, 3, 3], [usize::MAX, 2, 2], [1 << 20, 1 << 20, 2]] {
            let grid = Geometry {
                shape,
                affine: volume.affine(),
            };
            let error = resample_image_onto(&volume, &grid, Interpolation::Linear, 0.0);
            assert!(matches!(error, Err(Error::Grid { .. })));
        }
        let broken = volume.map(|v| v / 0.0);
        let error = resample_image_onto(&broken, &volume.geometry(), Interpolation::Cubic, 0.0);
        assert!(matches!(error, Err(Error::NotFinite { .. })));
    }

    proptest! {
        #[test]
        fn resampling_onto_the_own_grid_is_the_identity(angle in -3.0..3.0f64, shape in [1usize..9, 1..9, 1..9]) {
            let volume = textured(shape, oblique(angle));
            for interpolation in ALL {
                let found = resample_image_onto(&volume, &volume.geometry(), interpolation, -1.0).unwrap();
                for (a, b) in found.data().iter().zip(volume.data()) {
                    prop_assert!((a - b).abs() < 1e-5, "{a} is not {b}");
                }
            }
        }

        #[test]
        fn a_linear_ramp_is_exact_inside_on_every_oblique_grid(angle in -3.0..3.0f64, tilt in -0.3..0.3f64) {
            // The intensity is a linear function of the place in the patient.
            let ramp = |[x, y, z]: [f64; 3]| 0.5 * x - 0.25 * y + 0.75 * z;
            let affine = oblique(angle);
            let data = Array3::from_shape_fn((24, 24, 24), |(z, y, x)| {
                ramp(affine.voxel_to_world([z as f64, y as f64, x as f64])) as f32
            });
            let volume = Volume::new(data, affine).unwrap();
            let centre = affine.voxel_to_world([11.5; 3]);
            let turned = oblique(angle + tilt).rows();
            let rows = std::array::from_fn(|r| [0.5 * turned[r][0], 0.5 * turned[r][1], 0.5 * turned[r][2], centre[r]]);
            let grid = Geometry { shape: [3, 4, 5], affine: Affine::from_rows(rows).unwrap() };
            for interpolation in [Interpolation::Linear, Interpolation::Cubic] {
                let found = resample_image_onto(&volume, &grid, interpolation, f32::NAN).unwrap();
                for ((z, y, x), value) in found.data().indexed_iter() {
                    let expected = ramp(grid.affine.voxel_to_world([z as f64, y as f64, x as f64]));
                    prop_assert!((f64::from(*value) - expected).abs() < 1e-3, "{value} is not {expected}");
                }
            }
        }

        #[test]
        fn resampling_onto_commutes_with_reorientation(axes in Just([0usize, 1, 2]).prop_shuffle(), signs in 0..8u8, shift in -2.0..2.0f64) {
            let target = orientation(axes, signs);
            let volume = textured([5, 6, 7], oblique(0.3));
            let grid = Geometry { shape: [4, 5, 6], affine: oblique(0.4).shifted([0.3, shift, 0.2]) };
            for interpolation in [Interpolation::Linear, Interpolation::Cubic] {
                let plain = resample_image_onto(&volume, &grid, interpolation, 0.0).unwrap();
                let turned = resample_image_onto(&volume.reorient(target), &grid, interpolation, 0.0).unwrap();
                for (a, b) in plain.data().iter().zip(turned.data()) {
                    prop_assert!((a - b).abs() < 1e-4, "{a} is not {b}");
                }
            }
        }

        #[test]
        fn masks_put_onto_another_orientation_and_back_are_the_same(axes in Just([0usize, 1, 2]).prop_shuffle(), signs in 0..8u8) {
            let mask = textured([5, 6, 7], oblique(0.3)).map(|&v| v as u8);
            let turned = mask.reorient(orientation(axes, signs));
            let there = resample_labels_onto(&mask, &turned.geometry(), 99).unwrap();
            prop_assert_eq!(there.data(), turned.data());
            let back = resample_labels_onto(&there, &mask.geometry(), 99).unwrap();
            prop_assert_eq!(back.data(), mask.data());
        }
    }
}
