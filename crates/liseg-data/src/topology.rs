//! How often, and along which axes, a network may halve its patch.

/// Steps of down-sampling in a network with six stages, as every STU-Net has.
pub const DOWNSAMPLINGS: usize = 5;

/// The smallest edge, in voxels, that is halved no further.
const MINIMUM_EDGE: f64 = 4.0;

/// The poolings that suit a grid, and the kernels that nnU-Net gives the stages between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Strides of the poolings, fine to coarse, 1 or 2 per axis.
    pub strides: Vec<Vec<usize>>,
    /// Convolution kernels of the stages, one more than there are poolings, 1 or 3 per axis: 1 along
    /// axes that are still twice as coarse as the finest.
    pub kernels: Vec<Vec<usize>>,
    /// What each axis of a patch must be a multiple of: the product of the strides.
    pub divisor: Vec<usize>,
    /// The smallest patch that is no smaller than the one asked for and a multiple of the divisor.
    pub padded: Vec<usize>,
}

impl Topology {
    /// nnU-Net's rule: an axis is halved while it is at least 8 voxels long and less than twice as
    /// coarse as the finest axis that can still be halved. A last axis that would be halved alone must
    /// be at least 12 voxels long.
    ///
    /// `spacing` in mm and `patch` in voxels, of two or three axes in the same order; a patch may be
    /// fractional.
    ///
    /// # Source
    /// nnU-Net v2 (Isensee et al. 2021, Nature Methods 18).
    pub fn new(spacing: &[f64], patch: &[f64]) -> Self {
        let axes = spacing.len().min(patch.len());
        let (mut mm, mut size) = (spacing.to_vec(), patch.to_vec());
        let mut kernel = vec![1; axes];
        let (mut strides, mut kernels) = (Vec::new(), Vec::new());
        loop {
            let long: Vec<usize> = (0..axes)
                .filter(|&a| size[a] >= 2.0 * MINIMUM_EDGE)
                .collect();
            let finest = long.iter().map(|&a| mm[a]).fold(f64::INFINITY, f64::min);
            let chosen: Vec<usize> = long.into_iter().filter(|&a| mm[a] / finest < 2.0).collect();
            match chosen[..] {
                [] => break,
                [alone] if size[alone] < 3.0 * MINIMUM_EDGE => break,
                _ => {}
            }
            let finest_of_all = mm.iter().copied().fold(f64::INFINITY, f64::min);
            for axis in 0..axes {
                if mm[axis] / finest_of_all < 2.0 {
                    kernel[axis] = 3;
                }
            }
            kernels.push(kernel.clone());
            let mut stride = vec![1; axes];
            for axis in chosen {
                stride[axis] = 2;
                mm[axis] *= 2.0;
                size[axis] = (size[axis] / 2.0).ceil();
            }
            strides.push(stride);
        }
        kernels.push(vec![3; axes]);
        let divisor: Vec<usize> = (0..axes)
            .map(|axis| {
                strides
                    .iter()
                    .map(|stride: &Vec<usize>| stride[axis])
                    .product()
            })
            .collect();
        let padded = (0..axes)
            .map(|a| ((patch[a] / divisor[a] as f64).ceil().max(1.0) as usize) * divisor[a])
            .collect();
        Self {
            strides,
            kernels,
            divisor,
            padded,
        }
    }
}

/// The poolings of [`Topology`] in three dimensions: as many as the rule gives.
///
/// STU-Net's convolutions are 3×3×3 in every stage, so that kernels do not matter to it.
///
/// ```
/// let strides = liseg_data::pooling([3.0, 1.2, 1.2], [64.0, 192.0, 160.0]);
/// assert_eq!(strides[..2], [[1, 2, 2], [2, 2, 2]]);
/// ```
pub fn pooling(spacing: [f64; 3], patch: [f64; 3]) -> Vec<[usize; 3]> {
    let strides = Topology::new(&spacing, &patch).strides.into_iter();
    strides
        .map(|stride| std::array::from_fn(|axis| stride.get(axis).copied().unwrap_or(1)))
        .collect()
}

/// [`pooling`] cut, or padded with strides of 1, to the five of a six-stage network.
pub fn five_strides(spacing: [f64; 3], patch: [f64; 3]) -> [[usize; 3]; DOWNSAMPLINGS] {
    let rule = pooling(spacing, patch);
    std::array::from_fn(|stage| rule.get(stage).copied().unwrap_or([1; 3]))
}

/// What each axis of a patch must be a multiple of: the product of the strides.
pub fn divisor(strides: &[[usize; 3]]) -> [usize; 3] {
    std::array::from_fn(|axis| strides.iter().map(|stride| stride[axis]).product())
}

/// The smallest patch that is no smaller than `patch` and a multiple of `divisor`.
pub(crate) fn padded(patch: [f64; 3], divisor: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| ((patch[a] / divisor[a] as f64).ceil().max(1.0) as usize) * divisor[a])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn thick_slices_are_halved_in_plane_first() {
        let strides = five_strides([7.7, 2.5, 2.5], [32.0, 96.0, 96.0]);
        let expected = [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1]];
        assert_eq!(strides, expected);
        assert_eq!(divisor(&strides), [8, 16, 16]);
    }

    #[test]
    fn a_small_patch_has_no_poolings() {
        assert!(pooling([1.0; 3], [7.0; 3]).is_empty());
        // One axis of 11 voxels is not halved alone; one of 12 is.
        assert!(pooling([1.0; 3], [4.0, 4.0, 11.0]).is_empty());
        assert_eq!(pooling([1.0; 3], [4.0, 4.0, 12.0]), [[1, 1, 2]]);
    }

    #[test]
    fn golden_topology() {
        let golden = crate::testing::golden("nnunet/planner.json");
        let rows = crate::testing::table(&golden, "topology");
        assert_eq!(rows.len(), 13);
        for row in rows {
            let spacing: Vec<f64> = from_value(row["spacing"].clone()).unwrap();
            let patch: Vec<f64> = from_value(row["patch_size"].clone()).unwrap();
            let found = Topology::new(&spacing, &patch);
            // The reference lists the stride of the first stage, always 1.
            let mut strides = vec![vec![1; spacing.len()]];
            strides.extend(found.strides.clone());
            assert_eq!(json!(strides), row["strides"], "{row}");
            assert_eq!(json!(found.kernels), row["kernel_sizes"], "{row}");
            assert_eq!(json!(found.divisor), row["divisible_by"], "{row}");
            assert_eq!(json!(found.padded), row["padded_patch_size"], "{row}");
            let pools: Vec<u32> = found.divisor.iter().map(|d| d.ilog2()).collect();
            assert_eq!(json!(pools), row["num_pool_per_axis"], "{row}");
            if let (Ok(spacing), Ok(patch)) =
                (<[f64; 3]>::try_from(spacing), <[f64; 3]>::try_from(patch))
            {
                let multiple = divisor(&pooling(spacing, patch));
                assert_eq!(json!(padded(patch, multiple)), row["padded_patch_size"]);
            }
        }
    }
}
