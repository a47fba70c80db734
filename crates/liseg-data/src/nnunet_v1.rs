//! One stage of nnU-Net v1's planner (plans v2.1), which the published STU-Net weights go back to.

use serde::{Deserialize, Serialize};

/// Numbers of feature maps that a device of version 1 holds.
const LIMIT: f64 = 520e6 * 32.0 / 30.0;

/// What nnU-Net v1 plans for one grid, with its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NnunetV1Stage {
    /// Patches per step.
    pub batch_size: usize,
    /// Poolings along each axis.
    pub num_pool_per_axis: [usize; 3],
    /// What the network sees at once, in voxels.
    pub patch_size: [usize; 3],
    /// Strides of the poolings, fine to coarse.
    pub pool_op_kernel_sizes: Vec<[usize; 3]>,
    /// Kernels of the stages, one more than there are poolings.
    pub conv_kernel_sizes: Vec<[usize; 3]>,
    /// Whether patches are augmented slice by slice.
    #[serde(rename = "do_dummy_2D_data_aug")]
    pub do_dummy_2d_data_aug: bool,
}

/// Poolings of a patch under version 1's rule.
struct Shape {
    patch: [usize; 3],
    pools: Vec<[usize; 3]>,
    kernels: Vec<[usize; 3]>,
    divisor: [usize; 3],
}

impl Shape {
    fn new(spacing: [f64; 3], patch: [f64; 3]) -> Self {
        let (mut mm, mut size) = (spacing, patch);
        let (mut pools, mut kernels) = (Vec::new(), Vec::new());
        loop {
            // The largest set of axes that are all within a factor of two of one of them.
            let near = |a: usize| -> Vec<usize> {
                (0..3)
                    .filter(|&i| mm[i] / mm[a] < 2.0 && mm[a] / mm[i] < 2.0)
                    .collect()
            };
            let alike = (1..3).fold(near(0), |best, a| {
                let other = near(a);
                if other.len() > best.len() {
                    other
                } else {
                    best
                }
            });
            let finest = mm.iter().copied().fold(f64::INFINITY, f64::min);
            let chosen: Vec<usize> = (0..3)
                .filter(|&i| mm[i] / finest < 2.0 && size[i] >= 8.0)
                .collect();
            if chosen.is_empty() {
                break;
            }
            pools.push(std::array::from_fn(
                |i| if chosen.contains(&i) { 2 } else { 1 },
            ));
            kernels.push(std::array::from_fn(
                |i| if alike.contains(&i) { 3 } else { 1 },
            ));
            for axis in chosen {
                mm[axis] *= 2.0;
                size[axis] = (size[axis] / 2.0).ceil();
            }
        }
        kernels.push([3; 3]);
        let divisor = crate::topology::divisor(&pools);
        Self {
            patch: crate::topology::padded(patch, divisor),
            pools,
            kernels,
            divisor,
        }
    }

    fn numbers(&self, channels: usize, classes: usize) -> f64 {
        let mut size = self.patch;
        let voxels = |size: [usize; 3]| size.iter().product::<usize>() as f64;
        let mut features = 32usize;
        let mut sum = (5 * 32 + channels + classes) as f64 * voxels(size);
        for (index, pool) in self.pools.iter().enumerate() {
            size = std::array::from_fn(|a| size[a] / pool[a]);
            features = (2 * features).min(320);
            let maps = if index + 1 < self.pools.len() { 5 } else { 2 };
            sum += (maps * features) as f64 * voxels(size);
        }
        sum
    }
}

impl NnunetV1Stage {
    /// Plans a grid: `spacing` in mm, the median shape of the images on it, how many images, channels
    /// and classes (background included) there are.
    ///
    /// # Source
    /// nnU-Net 1.7.1, plans v2.1.
    pub fn new(
        spacing: [f64; 3],
        median_shape: [f64; 3],
        cases: usize,
        channels: usize,
        classes: usize,
    ) -> Self {
        let median = median_shape.map(f64::round_ties_even);
        let finest = spacing
            .map(|mm| 1.0 / mm)
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        let scale = 512.0 / finest;
        let start = std::array::from_fn(|a| (scale / spacing[a]).round_ties_even().min(median[a]));
        let mut shape = Shape::new(spacing, start);
        while shape.numbers(channels, classes) > LIMIT {
            let share = |a: &usize| shape.patch[*a] as f64 / median[*a];
            let axis = (0..3)
                .max_by(|a, b| share(a).total_cmp(&share(b)))
                .unwrap_or(2);
            let shorter = |step: usize| {
                let mut size = shape.patch.map(|n| n as f64);
                size[axis] -= step as f64;
                size
            };
            let step = Shape::new(spacing, shorter(shape.divisor[axis])).divisor[axis];
            let next = Shape::new(spacing, shorter(step));
            if next.patch == shape.patch {
                break;
            }
            shape = next;
        }
        let voxels = shape.patch.iter().product::<usize>() as f64;
        let share = 0.05 * median.iter().product::<f64>() * cases as f64 / voxels;
        let most = share.round_ties_even().max(2.0);
        let fitting = (2.0 * (LIMIT / shape.numbers(channels, classes)).max(1.0)).floor();
        let longest = shape.patch.iter().max().copied().unwrap_or(0);
        Self {
            batch_size: fitting.min(most).max(1.0) as usize,
            num_pool_per_axis: shape.divisor.map(|d| d.ilog2() as usize),
            patch_size: shape.patch,
            pool_op_kernel_sizes: shape.pools,
            conv_kernel_sizes: shape.kernels,
            do_dummy_2d_data_aug: longest as f64 / shape.patch[0] as f64 > 3.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::from_value;

    #[test]
    fn golden_v1_stage_plans() {
        let golden = testing::golden("nnunet/planner.json");
        let rows = testing::table(&golden, "v1_stage_plans");
        assert_eq!(rows.len(), 6);
        for row in rows {
            let floats = |name: &str| from_value::<[f64; 3]>(row[name].clone()).unwrap();
            let count = |name: &str| row[name].as_u64().unwrap() as usize;
            let planned = NnunetV1Stage::new(
                floats("spacing"),
                floats("median_shape"),
                count("n_cases"),
                count("channels"),
                count("classes_with_background"),
            );
            let expected: NnunetV1Stage = from_value(row.clone()).unwrap();
            assert_eq!(planned, expected, "{row}");
        }
    }
}
