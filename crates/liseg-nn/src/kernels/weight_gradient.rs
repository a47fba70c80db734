//! Gradient of a convolution's weights, summed where the maps lie.
//!
//! For maps `x` and a gradient `g` of the output, both channels-last,
//!
//! ```text
//! dW[o, i, k] = Σ over samples and voxels v of g[v, o] · x[stride · v + k − padding, i]
//! ```
//!
//! oneDNN has no kernel of its own for this in f32 on processors with AVX2 alone: it copies every voxel with its
//! neighbours (27 times the map) and multiplies matrices, which for the 8 to 64 channels of a network's large maps are
//! thin. Here the sums of four input channels, three columns of the kernel and eight output channels stay in registers
//! while rows of both maps pass by.

use super::{Run, with_own};
use std::sync::{Mutex, PoisonError};

/// Output channels in a vector.
const LANES: usize = 8;
/// Columns of every kernel summed here.
const COLUMNS: usize = 3;
/// Input channels whose sums are in registers at once: with three columns they take 12 of 16.
const TILE: usize = 4;
/// Input channels of a task.
const BLOCK: usize = 16;
/// Tasks to cut a gradient into at least, where the maps have planes enough.
const TASKS: usize = 32;
/// Bytes of rows that all tiles of a task see before the next rows come.
const CACHED: usize = 128 << 10;

/// A convolution and the maps it joins; axes are (z, y, x). What C++ calls `ConvolutionShape`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) samples: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) input: [usize; 3],
    pub(crate) output: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) padding: [usize; 3],
}

impl Geometry {
    /// Whether [`add_up`] can sum this gradient.
    fn is_possible(&self) -> bool {
        let reaches = |a: usize| {
            let last = (self.output[a].max(1) - 1) * self.stride[a];
            self.stride[a] > 0 && last < self.input[a] + self.padding[a]
        };
        self.kernel[2] == COLUMNS && self.outputs.is_multiple_of(LANES) && (0..3).all(reaches)
    }

    /// Numbers in the map, in the gradient of the output and in that of the weights.
    pub(crate) fn lengths(&self) -> [usize; 3] {
        let voxels = |shape: [usize; 3]| shape.iter().product::<usize>();
        [
            self.samples * voxels(self.input) * self.inputs,
            self.samples * voxels(self.output) * self.outputs,
            self.outputs * self.inputs * voxels(self.kernel),
        ]
    }

    /// Positions along an axis whose input under position `k` of the kernel lies within the map.
    fn within(&self, axis: usize, k: usize) -> std::ops::Range<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let first = padding.saturating_sub(k).div_ceil(stride);
        let behind = (self.input[axis] + padding)
            .saturating_sub(k)
            .div_ceil(stride);
        first..behind.min(self.output[axis])
    }
}

/// Whether this processor sums gradients faster here than in oneDNN, for a kernel of `columns` along x, a number of
/// `outputs` and rows of `width` voxels in the output. Seen on AMD Zen 3.
pub(crate) fn pays(columns: i64, outputs: i64, width: i64) -> bool {
    columns == COLUMNS as i64
        && outputs % LANES as i64 == 0
        && width >= 6
        && is_supported()
        && !has_wider_kernels()
}

/// Whether this processor can run [`add_up`].
pub(crate) fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether oneDNN has kernels of its own for these gradients.
fn has_wider_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

/// How a gradient is cut into tasks: by input channels, planes of the kernel, and slabs of planes of the output. It
/// depends on the geometry alone, so that the sums do not depend on the number of threads.
#[derive(Debug, Clone, Copy)]
struct Parts {
    blocks: usize,
    kernel_planes: usize,
    slabs: usize,
    planes: usize,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// First input channel, and how many.
    first: usize,
    channels: usize,
    kernel_plane: usize,
    /// Planes of the output, counted through all samples.
    planes: (usize, usize),
}

impl Parts {
    fn new(g: &Geometry) -> Self {
        let blocks = g.inputs.div_ceil(BLOCK);
        let planes = g.samples * g.output[0];
        let of_slab = (blocks * g.kernel[0]).max(1);
        Self {
            blocks,
            kernel_planes: g.kernel[0],
            slabs: TASKS.div_ceil(of_slab).min(planes),
            planes,
        }
    }

    fn count(&self) -> usize {
        self.blocks * self.kernel_planes * self.slabs
    }

    fn get(&self, i: usize, g: &Geometry) -> Part {
        let first = i % self.blocks * BLOCK;
        let i = i / self.blocks;
        let slab = i / self.kernel_planes;
        let cut = |slab: usize| slab * self.planes / self.slabs;
        Part {
            first,
            channels: BLOCK.min(g.inputs - first),
            kernel_plane: i % self.kernel_planes,
            planes: (cut(slab), cut(slab + 1)),
        }
    }
}

/// dW as `[outputs, inputs, z, y, x]` into `weights`. `x` is `[samples, z, y, x, inputs]`, `g` `[samples, z, y, x,
/// outputs]`. False, with nothing written, where geometry, lengths, processor or threads do not allow it.
pub(crate) fn add_up(
    geometry: &Geometry,
    x: &[f32],
    g: &[f32],
    weights: &mut [f32],
    run: Run,
) -> bool {
    let fits = [x.len(), g.len(), weights.len()] == geometry.lengths();
    if !fits || !geometry.is_possible() || !is_supported() {
        return false;
    }
    let parts = Parts::new(geometry);
    let sums: Vec<Mutex<Vec<f32>>> = (0..parts.count()).map(|_| Mutex::default()).collect();
    let task = |i: usize| {
        with_own(&sums, i, |sum| {
            *sum = sum_part(geometry, parts.get(i, geometry), x, g)
        });
    };
    if !run(parts.count(), &task) {
        return false;
    }
    weights.fill(0.0);
    for (i, sum) in sums.into_iter().enumerate() {
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        gather(geometry, parts.get(i, geometry), &sum, weights);
    }
    true
}

/// Adds the sums of a part, `[outputs / 8, y, x, channels, 8]`, to the gradient.
fn gather(geometry: &Geometry, part: Part, sums: &[f32], weights: &mut [f32]) {
    let of_plane = geometry.kernel[1] * COLUMNS;
    let of_channel = geometry.kernel[0] * of_plane;
    for output in 0..geometry.outputs {
        let (block, lane) = (output / LANES, output % LANES);
        let sums = &sums[block * of_plane * part.channels * LANES..];
        let first = output * geometry.inputs + part.first;
        let weights = &mut weights[first * of_channel..][..part.channels * of_channel];
        for (channel, weights) in weights.chunks_exact_mut(of_channel).enumerate() {
            let weights = &mut weights[part.kernel_plane * of_plane..][..of_plane];
            for (tap, weight) in weights.iter_mut().enumerate() {
                *weight += sums[(tap * part.channels + channel) * LANES + lane];
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sum_part(_: &Geometry, _: Part, _: &[f32], _: &[f32]) -> Vec<f32> {
    Vec::new()
}

/// The sums of a part, `[outputs / 8, y, x, channels, 8]`; the processor must be supported.
#[cfg(target_arch = "x86_64")]
fn sum_part(geometry: &Geometry, part: Part, x: &[f32], g: &[f32]) -> Vec<f32> {
    let Geometry {
        inputs, outputs, ..
    } = *geometry;
    let [depth, height, width] = geometry.input;
    let [planes, rows, columns] = geometry.output;
    let of_column = part.channels * LANES;
    let of_block = geometry.kernel[1] * COLUMNS * of_column;
    let mut sums = vec![0.0f32; outputs / LANES * of_block];
    let row = RowPair::new(geometry);
    let bytes = size_of::<f32>() * (width * inputs * geometry.stride[1] + columns * outputs);
    let chunk = (CACHED / bytes.max(1)).max(1);
    for plane in part.planes.0..part.planes.1 {
        let (sample, z) = (plane / planes, plane % planes);
        if !geometry.within(0, part.kernel_plane).contains(&z) {
            continue;
        }
        let z = z * geometry.stride[0] + part.kernel_plane - geometry.padding[0];
        let x = &x[(sample * depth + z) * height * width * inputs..][..height * width * inputs];
        let g = &g[plane * rows * columns * outputs..][..rows * columns * outputs];
        for begin in (0..rows).step_by(chunk) {
            for (block, sums) in sums.chunks_exact_mut(of_block).enumerate() {
                for (k, sums) in sums.chunks_exact_mut(COLUMNS * of_column).enumerate() {
                    let inside = geometry.within(1, k);
                    let inside = inside.start.max(begin)..inside.end.min(begin + chunk);
                    if inside.is_empty() {
                        continue;
                    }
                    let y = inside.start * geometry.stride[1] + k - geometry.padding[1];
                    let x = &x[y * width * inputs + part.first..];
                    let g = &g[inside.start * columns * outputs + block * LANES..];
                    row.sum(x, g, inside.len(), part.channels, sums);
                }
            }
        }
    }
    sums
}

/// How the rows of a map and of a gradient lie to each other.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
struct RowPair {
    /// Floats from a voxel to the next, and from a row to the next of the same part.
    x_step: usize,
    x_row: usize,
    g_step: usize,
    g_row: usize,
    x_width: usize,
    g_width: usize,
    stride: usize,
    padding: usize,
    /// Columns of the gradient under which all three columns of the kernel lie within the map.
    inside: (usize, usize),
}

#[cfg(target_arch = "x86_64")]
impl RowPair {
    fn new(g: &Geometry) -> Self {
        let begin = g.within(2, 0).start.min(g.output[2]);
        Self {
            x_step: g.inputs,
            x_row: g.input[2] * g.inputs * g.stride[1],
            g_step: g.outputs,
            g_row: g.output[2] * g.outputs,
            x_width: g.input[2],
            g_width: g.output[2],
            stride: g.stride[2],
            padding: g.padding[2],
            inside: (begin, g.within(2, COLUMNS - 1).end.max(begin)),
        }
    }

    /// Adds the products of `rows` rows, which begin at the first channels of `x` and `g`, to sums of
    /// `[3, channels, 8]`.
    fn sum(&self, x: &[f32], g: &[f32], rows: usize, channels: usize, sums: &mut [f32]) {
        // What `tile` reads and writes.
        let last_x = (rows - 1) * self.x_row + (self.x_width - 1) * self.x_step + channels;
        let last_g = (rows - 1) * self.g_row + (self.g_width - 1) * self.g_step + LANES;
        assert!(last_x <= x.len() && last_g <= g.len());
        assert_eq!(sums.len(), COLUMNS * channels * LANES);
        for first in (0..channels).step_by(TILE) {
            #[expect(unsafe_code, reason = "instructions are chosen at run time")]
            // SAFETY: the processor was asked for these features before there were parts; the asserted lengths
            // cover all rows and `channels`, of which the tile takes those from `first` on.
            unsafe {
                let x = x.as_ptr().add(first);
                let sums = sums.as_mut_ptr().add(first * LANES);
                match channels - first {
                    1 => self.tile::<1>(x, g.as_ptr(), rows, channels, sums),
                    2 => self.tile::<2>(x, g.as_ptr(), rows, channels, sums),
                    3 => self.tile::<3>(x, g.as_ptr(), rows, channels, sums),
                    _ => self.tile::<TILE>(x, g.as_ptr(), rows, channels, sums),
                }
            }
        }
    }

    /// [`RowPair::sum`] for `C` of the `channels`.
    ///
    /// # Safety
    /// The processor has AVX2 and FMA. `rows` rows of `x_width` voxels of `C` floats lie at `x`, as many of `g_width`
    /// voxels of 8 at `g`, `x_step`, `x_row`, `g_step` and `g_row` apart; `sums` has 3 × `C` vectors, columns
    /// `channels` vectors apart.
    #[target_feature(enable = "avx2,fma")]
    #[expect(unsafe_code, reason = "reads vectors without bounds checks")]
    unsafe fn tile<const C: usize>(
        &self,
        x: *const f32,
        g: *const f32,
        rows: usize,
        channels: usize,
        sums: *mut f32,
    ) {
        use std::arch::x86_64::{
            _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
        };
        let zeros = [0.0f32; C];
        let mut sum = [[_mm256_setzero_ps(); C]; COLUMNS];
        // SAFETY: every address lies in what the caller vouches for: columns of `x` outside of its rows are read from
        // `zeros`, and `inside` holds those of which all three lie in them.
        unsafe {
            let place = |k: usize, c: usize| sums.add((k * channels + c) * LANES);
            for (k, sum) in sum.iter_mut().enumerate() {
                for (c, sum) in sum.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(place(k, c));
                }
            }
            for row in 0..rows {
                let (x, g) = (x.add(row * self.x_row), g.add(row * self.g_row));
                let mut add = |column: usize, x: [*const f32; COLUMNS]| {
                    let g = _mm256_loadu_ps(g.add(column * self.g_step));
                    for (sum, x) in sum.iter_mut().zip(x) {
                        for (c, sum) in sum.iter_mut().enumerate() {
                            *sum = _mm256_fmadd_ps(_mm256_set1_ps(*x.add(c)), g, *sum);
                        }
                    }
                };
                let at_border = |column: usize| {
                    std::array::from_fn(|k| {
                        match (column * self.stride + k).checked_sub(self.padding) {
                            Some(at) if at < self.x_width => x.add(at * self.x_step),
                            _ => zeros.as_ptr(),
                        }
                    })
                };
                let (begin, end) = self.inside;
                for column in 0..begin {
                    add(column, at_border(column));
                }
                for column in begin..end {
                    let x = x.add((column * self.stride - self.padding) * self.x_step);
                    add(column, [x, x.add(self.x_step), x.add(2 * self.x_step)]);
                }
                for column in end..self.g_width {
                    add(column, at_border(column));
                }
            }
            for (k, sum) in sum.iter().enumerate() {
                for (c, sum) in sum.iter().enumerate() {
                    _mm256_storeu_ps(place(k, c), *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{one_by_one, values};
    use super::*;
    use proptest::prelude::*;

    fn maps(g: &Geometry) -> [Vec<f32>; 2] {
        let [of_x, of_g, _] = g.lengths();
        [values(of_x, 1), values(of_g, 2)]
    }

    /// The formula, voxel by voxel.
    fn by_definition(geometry: &Geometry, x: &[f32], g: &[f32]) -> Vec<f64> {
        let Geometry {
            samples,
            inputs,
            outputs,
            input,
            output,
            kernel,
            stride,
            padding,
        } = *geometry;
        let at = |sample: usize, shape: [usize; 3], v: [usize; 3]| {
            ((sample * shape[0] + v[0]) * shape[1] + v[1]) * shape[2] + v[2]
        };
        let all = |shape: [usize; 3]| {
            (0..shape.iter().product::<usize>()).map(move |i| {
                let yx = shape[1] * shape[2];
                [i / yx, i / shape[2] % shape[1], i % shape[2]]
            })
        };
        let taps = kernel.iter().product::<usize>();
        let mut weights = vec![0.0; geometry.lengths()[2]];
        for (tap, k) in all(kernel).enumerate() {
            for (sample, v) in (0..samples).flat_map(|n| all(output).map(move |v| (n, v))) {
                let place: [_; 3] =
                    std::array::from_fn(|a| (v[a] * stride[a] + k[a]).checked_sub(padding[a]));
                let [Some(z), Some(y), Some(w)] = place else {
                    continue;
                };
                if z >= input[0] || y >= input[1] || w >= input[2] {
                    continue;
                }
                let x = &x[at(sample, input, [z, y, w]) * inputs..][..inputs];
                let g = &g[at(sample, output, v) * outputs..][..outputs];
                for (o, g) in g.iter().enumerate() {
                    for (i, x) in x.iter().enumerate() {
                        weights[(o * inputs + i) * taps + tap] += f64::from(*x) * f64::from(*g);
                    }
                }
            }
        }
        weights
    }

    fn geometries() -> impl Strategy<Value = Geometry> {
        let axis = || (1usize..8, 1usize..3, 0usize..2);
        (
            1usize..3,
            1usize..22,
            1usize..4,
            prop_oneof![Just([3, 3, 3]), Just([1, 3, 3]), Just([1, 1, 3])],
            [axis(), axis(), axis()],
        )
            .prop_filter_map(
                "kernel wider than map",
                |(samples, inputs, o, kernel, axes)| {
                    let input = axes.map(|a| a.0);
                    let stride = axes.map(|a| a.1);
                    let padding: [usize; 3] = std::array::from_fn(|a| axes[a].2.min(kernel[a] / 2));
                    let mut output = [0; 3];
                    for a in 0..3 {
                        output[a] =
                            (input[a] + 2 * padding[a]).checked_sub(kernel[a])? / stride[a] + 1;
                    }
                    Some(Geometry {
                        samples,
                        inputs,
                        outputs: o * LANES,
                        input,
                        output,
                        kernel,
                        stride,
                        padding,
                    })
                },
            )
    }

    proptest! {
        #[test]
        fn gradients_are_those_of_the_definition(geometry in geometries()) {
            let [x, g] = maps(&geometry);
            let exact = by_definition(&geometry, &x, &g);
            let sizes = [&x, &g].map(|map| map.iter().map(|v| v.abs()).collect::<Vec<_>>());
            let sizes = by_definition(&geometry, &sizes[0], &sizes[1]);
            // n products in f32 are at most n · ε · Σ |products| off, in whatever order they are added.
            let products = geometry.samples * geometry.output.iter().product::<usize>();
            let allowed = products as f64 * f64::from(f32::EPSILON);
            let mut weights = vec![f32::NAN; geometry.lengths()[2]];
            let summed = add_up(&geometry, &x, &g, &mut weights, &one_by_one);
            prop_assert_eq!(summed, is_supported());
            for (i, found) in weights.iter().enumerate().filter(|_| summed) {
                let off = (f64::from(*found) - exact[i]).abs();
                prop_assert!(off <= allowed * sizes[i], "{i}: {found} in place of {}", exact[i]);
            }
        }
    }

    fn example() -> Geometry {
        Geometry {
            samples: 2,
            inputs: 6,
            outputs: 16,
            input: [5, 9, 11],
            output: [5, 9, 11],
            kernel: [3; 3],
            stride: [1; 3],
            padding: [1; 3],
        }
    }

    #[test]
    fn the_order_of_tasks_changes_no_bit() {
        let [x, g] = maps(&example());
        let mut forwards = vec![0.0; example().lengths()[2]];
        let mut backwards = forwards.clone();
        let summed = add_up(&example(), &x, &g, &mut forwards, &one_by_one);
        assert_eq!(summed, is_supported());
        let reversed = |count, task: &(dyn Fn(usize) + Sync)| {
            (0..count).rev().for_each(task);
            true
        };
        assert_eq!(
            add_up(&example(), &x, &g, &mut backwards, &reversed),
            summed
        );
        assert_eq!(forwards, backwards);
    }

    #[test]
    fn what_cannot_be_summed_is_refused() {
        let [x, g] = maps(&example());
        let mut weights = vec![0.5; example().lengths()[2]];
        let mut sums =
            |geometry: Geometry, x: &[f32]| add_up(&geometry, x, &g, &mut weights, &one_by_one);
        assert!(!sums(example(), &x[1..]));
        let wide = Geometry {
            kernel: [3, 3, 5],
            ..example()
        };
        assert!(!sums(wide, &x));
        let beyond = Geometry {
            stride: [1, 1, 2],
            ..example()
        };
        assert!(!sums(beyond, &x));
        let standing = Geometry {
            stride: [1, 0, 1],
            ..example()
        };
        assert!(!sums(standing, &x));
        assert!(weights.iter().all(|w| *w == 0.5));
    }
}
