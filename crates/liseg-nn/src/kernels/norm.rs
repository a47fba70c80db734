//! Instance normalisation with a leaky rectifier behind it, and its gradient.
//!
//! For each channel of each sample, with mean and variance over its voxels,
//!
//! ```text
//! y = rectified((x − mean) / √(variance + ε) · scale + shift + across)
//! ```
//!
//! In libtorch each of these steps reads and writes whole maps, and channels-last maps are summed in f32. Over the few
//! voxels of a network's deepest maps most of a gradient cancels, and those sums' rounding is a digit of what is left.
//! Here a pass takes the sums, in f64, and another one writes the map.

mod passes;

use super::vectorised::vectorised;
use super::{Element, Run, with_own};
use passes::{AddUp, AddUpGradient, Apply, ApplyGradient};
use std::sync::{Mutex, PoisonError};

/// Numbers of a map in a task, about.
const TASK: usize = 16384;
/// Numbers that sums and constants of channels are repeated to, at least: short rows would spend their time on beginning.
const ROW: usize = 256;

/// A map, `[samples, voxels, channels]`, and how it is normalised. What C++ calls `NormShape`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Norm {
    pub(crate) samples: usize,
    pub(crate) channels: usize,
    pub(crate) voxels: usize,
    /// Added to the variance.
    pub(crate) epsilon: f64,
    /// What values below zero are multiplied with: 1 without a rectifier.
    pub(crate) slope: f32,
    /// Whether maps are of bf16 in place of f32.
    pub(crate) bfloat16: bool,
}

/// What the forward pass reads and writes.
#[derive(Debug)]
pub(crate) struct Forward<'a, T> {
    /// The map; `None` where it lies in `y`.
    pub(crate) x: Option<&'a [T]>,
    /// What is added before the rectifier.
    pub(crate) across: Option<&'a [T]>,
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) y: &'a mut [T],
    /// `[samples, 2, channels]`: mean and 1 / deviation.
    pub(crate) statistics: &'a mut [f32],
}

/// What the backward pass reads and writes.
#[derive(Debug)]
pub(crate) struct Backward<'a, T> {
    pub(crate) x: &'a [T],
    /// What the forward pass wrote; may be `None` where `slope` is 1.
    pub(crate) y: Option<&'a [T]>,
    /// The gradient of `y`.
    pub(crate) gradient: &'a [T],
    pub(crate) scale: &'a [f32],
    pub(crate) statistics: &'a [f32],
    pub(crate) of_x: Option<&'a mut [T]>,
    pub(crate) of_across: Option<&'a mut [T]>,
    /// `[2, channels]`: the gradients of scale and shift.
    pub(crate) of_weights: &'a mut [f32],
}

/// Adds to two rows of sums what a task sees.
type Add<'a> = &'a (dyn Fn(usize, &mut [f64], &mut [f64]) + Sync);

impl Norm {
    /// Numbers in a map.
    pub(crate) fn length(&self) -> usize {
        self.samples * self.of_sample()
    }

    fn of_sample(&self) -> usize {
        self.voxels * self.channels
    }

    /// Numbers of a task: whole voxels of one sample.
    fn of_task(&self) -> usize {
        (TASK / self.channels).max(1) * self.channels
    }

    fn tasks_of_sample(&self) -> usize {
        self.of_sample().div_ceil(self.of_task())
    }

    /// Numbers of a row: whole voxels.
    fn row(&self) -> usize {
        self.channels * ROW.div_ceil(self.channels)
    }

    fn fits(&self, maps: &[usize], weights: &[usize]) -> bool {
        self.length() > 0
            && maps.iter().all(|length| *length == self.length())
            && weights.iter().all(|length| *length == self.channels)
    }

    /// The numbers of a map that task `i` sees.
    fn piece<'a, T>(&self, map: &'a [T], i: usize) -> &'a [T] {
        let (sample, part) = (i / self.tasks_of_sample(), i % self.tasks_of_sample());
        let map = &map[sample * self.of_sample()..][..self.of_sample()];
        let begin = part * self.of_task();
        &map[begin..map.len().min(begin + self.of_task())]
    }

    /// The numbers of a map that each task writes.
    fn pieces<'a, T>(&self, map: Option<&'a mut [T]>) -> Vec<Option<&'a mut [T]>> {
        match map {
            Some(map) => map
                .chunks_exact_mut(self.of_sample())
                .flat_map(|sample| sample.chunks_mut(self.of_task()))
                .map(Some)
                .collect(),
            None => (0..self.samples * self.tasks_of_sample())
                .map(|_| None)
                .collect(),
        }
    }

    /// Two sums for each channel, `[samples, 2, channels]`, of what `add` adds for each task to two rows.
    fn sums(&self, run: Run, add: Add<'_>) -> Option<Vec<f64>> {
        let row = self.row();
        let count = self.samples * self.tasks_of_sample();
        let parts: Vec<Mutex<Vec<f64>>> = (0..count).map(|_| Mutex::default()).collect();
        let task = |i: usize| {
            with_own(&parts, i, |part| {
                part.resize(2 * row, 0.0);
                let (first, second) = part.split_at_mut(row);
                add(i, first, second);
            });
        };
        if !run(count, &task) {
            return None;
        }
        let mut sums = vec![0.0; self.samples * 2 * self.channels];
        let of_sample = sums.chunks_exact_mut(2 * self.channels);
        for (parts, sums) in parts.chunks(self.tasks_of_sample()).zip(of_sample) {
            for part in parts {
                let part = part.lock().unwrap_or_else(PoisonError::into_inner);
                let both = sums.chunks_exact_mut(self.channels);
                for (sums, part) in both.zip(part.chunks_exact(row)) {
                    for voxel in part.chunks_exact(self.channels) {
                        sums.iter_mut().zip(voxel).for_each(|(sum, v)| *sum += v);
                    }
                }
            }
        }
        Some(sums)
    }

    /// A number of each channel, repeated to a row.
    fn repeated(&self, of_channel: impl Fn(usize) -> f32) -> Vec<f32> {
        let once: Vec<f32> = (0..self.channels).map(of_channel).collect();
        once.repeat(self.row() / self.channels)
    }

    /// Writes the map and its statistics. False where lengths or threads do not allow it.
    pub(crate) fn forward<T: Element>(&self, maps: Forward<'_, T>, run: Run) -> bool {
        let Forward {
            x,
            across,
            scale,
            shift,
            y,
            statistics,
        } = maps;
        let also = |map: Option<&[T]>| map.map_or(y.len(), <[T]>::len);
        if !self.fits(
            &[y.len(), also(x), also(across)],
            &[scale.len(), shift.len()],
        ) || statistics.len() != self.samples * 2 * self.channels
        {
            return false;
        }
        let map = x.unwrap_or(y);
        let add = |i: usize, sums: &mut [f64], squares: &mut [f64]| {
            let x = self.piece(map, i);
            vectorised(AddUp { x, sums, squares });
        };
        let Some(sums) = self.sums(run, &add) else {
            return false;
        };
        self.describe(&sums, statistics);
        let pieces: Vec<_> = self.pieces(Some(y)).into_iter().map(Mutex::new).collect();
        run(pieces.len(), &|i| {
            with_own(&pieces, i, |y| {
                let of_sample = &statistics[i / self.tasks_of_sample() * 2 * self.channels..];
                let (mean, inverse) = of_sample.split_at(self.channels);
                if let Some(y) = y.as_deref_mut() {
                    vectorised(Apply {
                        x: x.map(|x| self.piece(x, i)),
                        across: across.map(|map| self.piece(map, i)),
                        y,
                        mean: self.repeated(|c| mean[c]),
                        factor: self.repeated(|c| inverse[c] * scale[c]),
                        shift: self.repeated(|c| shift[c]),
                        slope: self.slope,
                    });
                }
            });
        })
    }

    /// Mean and 1 / deviation from Σ x and Σ x².
    fn describe(&self, sums: &[f64], statistics: &mut [f32]) {
        let of_sample = sums.chunks_exact(2 * self.channels);
        for (sums, statistics) in of_sample.zip(statistics.chunks_exact_mut(2 * self.channels)) {
            let (sums, squares) = sums.split_at(self.channels);
            let (means, inverses) = statistics.split_at_mut(self.channels);
            for c in 0..self.channels {
                let mean = sums[c] / self.voxels as f64;
                let variance = (squares[c] / self.voxels as f64 - mean * mean).max(0.0);
                means[c] = mean as f32;
                inverses[c] = (1.0 / (variance + self.epsilon).sqrt()) as f32;
            }
        }
    }

    /// Writes gradients. False where lengths or threads do not allow it.
    ///
    /// With g the gradient in front of the rectifier, d = x − mean, r = 1 / deviation and n voxels: that of scale is
    /// r · Σ g·d, that of shift Σ g, that of x r · scale · (g − Σ g / n − d · r² · Σ g·d / n).
    pub(crate) fn backward<T: Element>(&self, maps: Backward<'_, T>, run: Run) -> bool {
        let Backward {
            x,
            y,
            gradient,
            scale,
            statistics,
            of_x,
            of_across,
            of_weights,
        } = maps;
        let also = |map: Option<usize>| map.unwrap_or(x.len());
        let beside = [&of_x, &of_across].map(|map| also(map.as_deref().map(<[T]>::len)));
        let read = [x.len(), gradient.len(), also(y.map(<[T]>::len))];
        if !self.fits(&read, &[scale.len(), of_weights.len() / 2])
            || y.is_none() && self.slope < 1.0
            || !self.fits(&beside, &[])
            || statistics.len() != self.samples * 2 * self.channels
        {
            return false;
        }
        // Without a rectifier both sides of zero have the slope 1.
        let y = y.unwrap_or(x);
        let of_sample = |i: usize| &statistics[i * 2 * self.channels..][..2 * self.channels];
        let add = |i: usize, sums: &mut [f64], products: &mut [f64]| {
            let mean = of_sample(i / self.tasks_of_sample());
            vectorised(AddUpGradient {
                x: self.piece(x, i),
                y: self.piece(y, i),
                gradient: self.piece(gradient, i),
                mean: self.repeated(|c| mean[c]),
                slope: self.slope,
                sums,
                products,
            });
        };
        let Some(sums) = self.sums(run, &add) else {
            return false;
        };
        self.gather(&sums, statistics, of_weights);
        if of_x.is_none() && of_across.is_none() {
            return true;
        }
        let pieces: Vec<_> = self
            .pieces(of_x)
            .into_iter()
            .zip(self.pieces(of_across))
            .map(Mutex::new)
            .collect();
        run(pieces.len(), &|i| {
            with_own(&pieces, i, |(of_x, of_across)| {
                let sample = i / self.tasks_of_sample();
                let (mean, inverse) = of_sample(sample).split_at(self.channels);
                let sums = &sums[sample * 2 * self.channels..];
                let share = |sum: f64| sum / self.voxels as f64;
                let bent = |c: usize| {
                    let inverse = f64::from(inverse[c]);
                    inverse * inverse * share(sums[self.channels + c])
                };
                vectorised(ApplyGradient {
                    x: self.piece(x, i),
                    y: self.piece(y, i),
                    gradient: self.piece(gradient, i),
                    of_x: of_x.as_deref_mut(),
                    of_across: of_across.as_deref_mut(),
                    mean: self.repeated(|c| mean[c]),
                    moved: self.repeated(|c| share(sums[c]) as f32),
                    bent: self.repeated(|c| bent(c) as f32),
                    factor: self.repeated(|c| inverse[c] * scale[c]),
                    slope: self.slope,
                });
            });
        })
    }

    /// The gradients of scale and shift from Σ g and Σ g·d.
    fn gather(&self, sums: &[f64], statistics: &[f32], of_weights: &mut [f32]) {
        let (of_scale, of_shift) = of_weights.split_at_mut(self.channels);
        let samples = || {
            sums.chunks_exact(2 * self.channels)
                .zip(statistics.chunks_exact(2 * self.channels))
        };
        for c in 0..self.channels {
            let behind = self.channels + c;
            let scale = samples().map(|(sums, s)| sums[behind] * f64::from(s[behind]));
            of_scale[c] = scale.sum::<f64>() as f32;
            of_shift[c] = samples().map(|(sums, _)| sums[c]).sum::<f64>() as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{one_by_one, values};
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    fn norm([samples, channels, voxels]: [usize; 3], slope: f32) -> Norm {
        Norm {
            samples,
            channels,
            voxels,
            epsilon: 1e-5,
            slope,
            bfloat16: false,
        }
    }

    /// Maps and weights of a test, and what the kernel makes of them.
    struct Case {
        norm: Norm,
        x: Vec<f32>,
        across: Vec<f32>,
        gradient: Vec<f32>,
        scale: Vec<f32>,
        shift: Vec<f32>,
    }

    #[derive(Debug, PartialEq)]
    struct Outcome {
        y: Vec<f32>,
        statistics: Vec<f32>,
        of_x: Vec<f32>,
        of_across: Vec<f32>,
        of_weights: Vec<f32>,
    }

    impl Case {
        fn new(norm: Norm) -> Self {
            let count = norm.length();
            Self {
                norm,
                x: values(count, 1).iter().map(|v| 3.0 * v + 2.0).collect(),
                across: values(count, 2),
                gradient: values(count, 3),
                scale: values(norm.channels, 4),
                shift: values(norm.channels, 5),
            }
        }

        fn run(&self, run: Run) -> Outcome {
            let Norm {
                samples, channels, ..
            } = self.norm;
            let empty = || vec![f32::NAN; self.x.len()];
            let (mut y, mut of_x, mut of_across) = (empty(), empty(), empty());
            let mut statistics = vec![f32::NAN; samples * 2 * channels];
            let mut of_weights = vec![f32::NAN; 2 * channels];
            let forward = Forward {
                x: Some(&self.x),
                across: Some(&self.across),
                scale: &self.scale,
                shift: &self.shift,
                y: &mut y,
                statistics: &mut statistics,
            };
            assert!(self.norm.forward(forward, run));
            let backward = Backward {
                x: &self.x,
                y: Some(&y),
                gradient: &self.gradient,
                scale: &self.scale,
                statistics: &statistics,
                of_x: Some(&mut of_x),
                of_across: Some(&mut of_across),
                of_weights: &mut of_weights,
            };
            assert!(self.norm.backward(backward, run));
            Outcome {
                y,
                statistics,
                of_x,
                of_across,
                of_weights,
            }
        }

        /// y in f64, number by number, with `change` added to number `at` of x.
        fn y(&self, at: usize, change: f64) -> Vec<f64> {
            let Norm {
                samples,
                channels,
                voxels,
                epsilon,
                slope,
                ..
            } = self.norm;
            let x = |i: usize| f64::from(self.x[i]) + if i == at { change } else { 0.0 };
            let mut y = vec![0.0; self.x.len()];
            for sample in 0..samples {
                for c in 0..channels {
                    let places = || (0..voxels).map(|v| (sample * voxels + v) * channels + c);
                    let mean = places().map(x).sum::<f64>() / voxels as f64;
                    let variance = places().map(|i| (x(i) - mean).powi(2)).sum::<f64>();
                    let deviation = (variance / voxels as f64 + epsilon).sqrt();
                    for i in places() {
                        let v = (x(i) - mean) / deviation * f64::from(self.scale[c]);
                        let v = v + f64::from(self.shift[c]) + f64::from(self.across[i]);
                        y[i] = if v > 0.0 { v } else { v * f64::from(slope) };
                    }
                }
            }
            y
        }
    }

    proptest! {
        #[test]
        fn every_number_is_as_defined(
            shape in [1usize..3, 1usize..40, 2usize..30],
            slope in prop_oneof![Just(0.01f32), Just(1.0)],
        ) {
            let case = Case::new(norm(shape, slope));
            let outcome = case.run(&one_by_one);
            for (found, expected) in outcome.y.iter().zip(case.y(0, 0.0)) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5);
            }
        }

        /// d Σ y·g / d x by differences, at numbers none of which moves another one across the rectifier's bend.
        #[test]
        fn the_gradient_is_that_of_differences(shape in [1usize..3, 1usize..20, 2usize..9]) {
            let case = Case::new(norm(shape, 1.0));
            let outcome = case.run(&one_by_one);
            let loss = |at: usize, change: f64| -> f64 {
                let y = case.y(at, change);
                y.iter().zip(&case.gradient).map(|(y, g)| y * f64::from(*g)).sum()
            };
            for at in 0..case.x.len() {
                let step = 1e-4;
                let expected = (loss(at, step) - loss(at, -step)) / (2.0 * step);
                let found = f64::from(outcome.of_x[at]);
                prop_assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
            }
        }
    }

    #[test]
    fn what_was_below_zero_gets_the_slopes_share() {
        let case = Case::new(norm([2, 5, 7], 0.01));
        let outcome = case.run(&one_by_one);
        for ((of_across, y), g) in outcome.of_across.iter().zip(&outcome.y).zip(&case.gradient) {
            assert_eq!(*of_across, if *y > 0.0 { *g } else { 0.01 * g });
        }
        let of_shift: f32 = outcome.of_across.iter().skip(3).step_by(5).sum();
        assert!((outcome.of_weights[5 + 3] - of_shift).abs() < 1e-5);
    }

    /// The gradient over two voxels is what is left when nearly all of it cancels. With sums in f32 it is off by 6e-4.
    #[test]
    fn two_voxels_keep_their_digits() {
        let mut case = Case::new(norm([1, 16, 2], 1.0));
        case.x = (0..32).map(|i| 1.0 + 0.1 * (i / 16) as f32).collect();
        let outcome = case.run(&one_by_one);
        for c in 0..16 {
            let [a, b] = [c, 16 + c].map(|i| f64::from(case.gradient[i]));
            let half = f64::from(case.x[16] - case.x[0]) / 2.0;
            let deviation = (half * half + 1e-5).sqrt();
            let expected = f64::from(case.scale[c]) * (a - b) / 2.0 * 1e-5 / deviation.powi(3);
            let found = f64::from(outcome.of_x[c]);
            assert!((found - expected).abs() < 5e-5, "{found} {expected}");
        }
    }

    #[test]
    fn no_order_of_tasks_changes_a_bit() {
        let backwards = |count: usize, task: &(dyn Fn(usize) + Sync)| {
            (0..count).rev().for_each(task);
            true
        };
        for channels in [3, 8, 48] {
            let case = Case::new(norm([2, channels, 2 * TASK / channels + 5], 0.01));
            assert!(case.norm.tasks_of_sample() > 2);
            assert_eq!(case.run(&one_by_one), case.run(&backwards));
        }
    }

    #[test]
    fn a_map_may_be_written_over() {
        let case = Case::new(norm([2, 12, 11], 0.01));
        let expected = case.run(&one_by_one);
        let (mut y, mut statistics) = (case.x.clone(), vec![0.0; 48]);
        let forward = Forward {
            x: None,
            across: Some(&case.across),
            scale: &case.scale,
            shift: &case.shift,
            y: &mut y,
            statistics: &mut statistics,
        };
        assert!(case.norm.forward(forward, &one_by_one));
        assert_eq!((y, statistics), (expected.y, expected.statistics));
    }

    #[test]
    fn maps_of_bf16_are_those_of_f32_rounded() {
        let case = Case::new(norm([1, 8, 50], 0.01));
        let narrow = |map: &[f32]| map.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>();
        let wide = |map: &[bf16]| map.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        let (x, across) = (narrow(&case.x), narrow(&case.across));
        let (mut y, mut statistics) = (narrow(&case.x), vec![0.0; 16]);
        let forward = Forward {
            x: Some(&x),
            across: Some(&across),
            scale: &case.scale,
            shift: &case.shift,
            y: &mut y,
            statistics: &mut statistics,
        };
        assert!(case.norm.forward(forward, &one_by_one));
        let rounded = Case {
            x: wide(&x),
            across: wide(&across),
            ..case
        };
        let expected = rounded.run(&one_by_one);
        assert_eq!(statistics, expected.statistics);
        assert_eq!(y, narrow(&expected.y));
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        let case = Case::new(norm([1, 4, 6], 0.01));
        let mut y = case.x.clone();
        let mut forward = |norm: &Norm, across: &[f32], statistics: usize, run: Run| {
            let forward = Forward {
                x: None,
                across: Some(across),
                scale: &case.scale,
                shift: &case.shift,
                y: &mut y,
                statistics: &mut vec![0.0; statistics],
            };
            norm.forward(forward, run)
        };
        assert!(!forward(&case.norm, &case.across[1..], 8, &one_by_one));
        assert!(!forward(&case.norm, &case.across, 7, &one_by_one));
        assert!(!forward(&case.norm, &case.across, 8, &|_, _| false));
        let other = norm([1, 6, 4], 0.01);
        assert!(!forward(&other, &case.across, 12, &one_by_one));
        assert_eq!(y, case.x);
    }
}
