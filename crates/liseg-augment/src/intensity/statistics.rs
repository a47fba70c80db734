//! Mean, spread and range of one channel.

use crate::simd::vectorised;

/// Partial sums kept side by side: enough to hide the latency of the additions.
const LANES: usize = 16;

/// Mean, population standard deviation and range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Statistics {
    pub(super) mean: f64,
    pub(super) std: f64,
    pub(super) min: f32,
    pub(super) max: f32,
}

impl Statistics {
    /// The statistics of `values`, summed in f64.
    pub(super) fn of(values: &[f32]) -> Self {
        sum(values)
    }
}

vectorised! {
    fn sum(values: &[f32]) -> Statistics {
        // A value of the data as origin: the variance of a bright, flat image does not cancel.
        let origin = f64::from(values.first().copied().unwrap_or(0.0));
        let mut sums = [0.0f64; LANES];
        let mut squares = [0.0f64; LANES];
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut blocks = values.chunks_exact(LANES);
        let mut add = |lane: usize, value: f32| {
            let centred = f64::from(value) - origin;
            sums[lane] += centred;
            squares[lane] += centred * centred;
            // Comparisons, not f32::min: they compile to one instruction.
            min[lane] = if value < min[lane] { value } else { min[lane] };
            max[lane] = if value > max[lane] { value } else { max[lane] };
        };
        for block in &mut blocks {
            for (lane, &value) in block.iter().enumerate() {
                add(lane, value);
            }
        }
        for (lane, &value) in blocks.remainder().iter().enumerate() {
            add(lane, value);
        }
        let count = values.len().max(1) as f64;
        let mean = sums.iter().sum::<f64>() / count;
        let variance = squares.iter().sum::<f64>() / count - mean * mean;
        Statistics {
            mean: mean + origin,
            std: variance.max(0.0).sqrt(),
            min: min.into_iter().fold(f32::INFINITY, f32::min),
            max: max.into_iter().fold(f32::NEG_INFINITY, f32::max),
        }
    }
}

vectorised! {
    /// The smallest and the largest value: all that some transforms need, in a third of the time.
    pub(super) fn extremes(values: &[f32]) -> (f32, f32) {
        const LANES: usize = 64;
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut see = |lane: usize, value: f32| {
            min[lane] = if value < min[lane] { value } else { min[lane] };
            max[lane] = if value > max[lane] { value } else { max[lane] };
        };
        let mut blocks = values.chunks_exact(LANES);
        for block in &mut blocks {
            for (lane, &value) in block.iter().enumerate() {
                see(lane, value);
            }
        }
        for (lane, &value) in blocks.remainder().iter().enumerate() {
            see(lane, value);
        }
        (
            min.into_iter().fold(f32::INFINITY, f32::min),
            max.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    }
}

/// Moves and scales `image` so that it has the mean and the standard deviation of `wanted`. A flat
/// image becomes the mean.
pub(super) fn restore(image: &mut [f32], wanted: &Statistics) {
    let found = Statistics::of(image);
    let gain = match found.std > 0.0 {
        true => (wanted.std / found.std) as f32,
        false => 0.0,
    };
    let gain = if gain.is_finite() { gain } else { 0.0 };
    let (mean, offset) = (found.mean as f32, wanted.mean as f32);
    move_and_scale(image, mean, gain, offset);
}

vectorised! {
    fn move_and_scale(image: &mut [f32], mean: f32, gain: f32, offset: f32) {
        for value in image {
            *value = (*value - mean) * gain + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_ten_numbers() {
        // 1..=10: mean 5.5, variance (10² − 1) / 12 = 8.25. A large offset changes nothing.
        for offset in [0.0f32, 1e5] {
            let values: Vec<f32> = (1..=10).map(|k| k as f32 + offset).collect();
            let found = Statistics::of(&values);
            assert!((found.mean - 5.5 - f64::from(offset)).abs() < 1e-9);
            assert!((found.std - 8.25f64.sqrt()).abs() < 1e-9);
            assert!((found.min - 1.0 - offset).abs() < 1e-9);
            assert!((found.max - 10.0 - offset).abs() < 1e-9);
            assert_eq!(extremes(&values), (found.min, found.max));
        }
    }
}
