//! How often, and along which axes, a network may halve its patch.

/// Steps of down-sampling in a network with six stages, as every STU-Net has.
pub const DOWNSAMPLINGS: usize = 5;

/// The smallest edge, in voxels, that is halved no further.
const MINIMUM_EDGE: f64 = 4.0;

/// The poolings that suit a voxel grid: an axis is halved while it is at least 8 voxels long and
/// less than twice as coarse as the finest axis that can still be halved. A last axis that would be
/// halved alone must be at least 12 voxels long.
///
/// `spacing` in mm and `patch` in voxels, same axis order; a patch may be fractional. The result has
/// as many entries as the rule gives, each 1 or 2 per axis.
///
/// # Source
/// nnU-Net v2's rule for pooling (Isensee et al. 2021, Nature Methods 18), without its kernel sizes:
/// STU-Net's convolutions are 3×3×3 in every stage.
///
/// ```
/// let strides = liseg_data::pooling([3.0, 1.2, 1.2], [64.0, 192.0, 160.0]);
/// assert_eq!(strides[..2], [[1, 2, 2], [2, 2, 2]]);
/// ```
pub fn pooling(spacing: [f64; 3], patch: [f64; 3]) -> Vec<[usize; 3]> {
    let (mut spacing, mut size) = (spacing, patch);
    let mut strides = Vec::new();
    loop {
        let long = |axis: &usize| size[*axis] >= 2.0 * MINIMUM_EDGE;
        let finest = (0..3)
            .filter(long)
            .map(|a| spacing[a])
            .fold(f64::INFINITY, f64::min);
        let chosen: Vec<usize> = (0..3)
            .filter(long)
            .filter(|&a| spacing[a] / finest < 2.0)
            .collect();
        match chosen[..] {
            [] => break,
            [alone] if size[alone] < 3.0 * MINIMUM_EDGE => break,
            _ => {}
        }
        let mut stride = [1; 3];
        for axis in chosen {
            stride[axis] = 2;
            spacing[axis] *= 2.0;
            size[axis] = (size[axis] / 2.0).ceil();
        }
        strides.push(stride);
    }
    strides
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
        let Some(golden) = crate::testing::golden("nnunet/planner.json") else {
            return;
        };
        let mut compared = 0;
        for row in crate::testing::case(&golden, "topology")["outputs"]["table"]
            .as_array()
            .unwrap()
        {
            let Ok(spacing) = serde_json::from_value::<[f64; 3]>(row["spacing"].clone()) else {
                continue; // The two-dimensional rows.
            };
            let patch: [f64; 3] = serde_json::from_value(row["patch_size"].clone()).unwrap();
            let strides = pooling(spacing, patch);
            let expected: Vec<[usize; 3]> = serde_json::from_value(row["strides"].clone()).unwrap();
            // The reference lists the stride of the first stage, always 1.
            assert_eq!(strides[..], expected[1..], "{row}");
            let multiple: [usize; 3] = serde_json::from_value(row["divisible_by"].clone()).unwrap();
            assert_eq!(divisor(&strides), multiple, "{row}");
            let larger: [usize; 3] =
                serde_json::from_value(row["padded_patch_size"].clone()).unwrap();
            assert_eq!(padded(patch, multiple), larger, "{row}");
            compared += 1;
        }
        assert!(compared >= 9);
    }
}
