//! Which voxels of a label are remembered, so that patches with foreground are found at once.

use ndarray::ArrayView3;
use rand::{Rng, RngExt};
use std::collections::BTreeMap;

/// Remembered voxels by label: flat C-order indices, ascending.
pub(crate) type Foreground = BTreeMap<u8, Vec<u32>>;

/// How many of `voxels` are remembered: all up to 10 000, then 10 000 or 1 %, whatever is more.
pub(crate) fn remembered(voxels: usize) -> usize {
    voxels.min(10_000).max(voxels.div_ceil(100))
}

/// Draws voxels of every foreground label without replacement.
///
/// A label without voxels has no entry. The array must have at most `u32::MAX` voxels.
pub(crate) fn sample<R: Rng + ?Sized>(label: ArrayView3<'_, u8>, rng: &mut R) -> Foreground {
    let mut left = crate::check::value_counts(label.iter().copied());
    left.remove(&0);
    let mut wanted: BTreeMap<u8, usize> = left
        .iter()
        .map(|(&value, &count)| (value, remembered(count)))
        .collect();
    let mut chosen = Foreground::new();
    // Selection sampling (Knuth, volume 2, algorithm S): one pass, sorted, no second array.
    for (index, &value) in label.iter().enumerate() {
        let (Some(left), Some(wanted)) = (left.get_mut(&value), wanted.get_mut(&value)) else {
            continue;
        };
        if *wanted > 0 && rng.random_range(0..*left) < *wanted {
            chosen.entry(value).or_default().push(index as u32);
            *wanted -= 1;
        }
        *left -= 1;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use liseg_volume::Seed;
    use ndarray::Array3;
    use serde_json::from_value;

    #[test]
    fn golden_counts() {
        let golden = testing::golden("nnunet/sampling.json");
        for row in testing::table(&golden, "class_location_count") {
            let count = |name: &str| from_value::<usize>(row[name].clone()).unwrap();
            assert_eq!(remembered(count("voxels")), count("stored"), "{row}");
        }
    }

    #[test]
    fn remembers_voxels_of_the_right_label_evenly() {
        let label = Array3::from_shape_fn((30, 40, 50), |(z, _, x)| match (z, x) {
            (0, 0..3) => 2,
            (_, 10..40) => 1,
            _ => 0,
        });
        let chosen = sample(label.view(), &mut Seed(1).stream("foreground", 0, 0));
        let flat: Vec<u8> = label.iter().copied().collect();
        for (value, indices) in &chosen {
            let total = flat.iter().filter(|v| *v == value).count();
            assert_eq!(indices.len(), remembered(total));
            assert!(indices.iter().all(|&i| flat[i as usize] == *value));
            assert!(indices.windows(2).all(|w| w[0] < w[1]));
        }
        assert_eq!(chosen[&2].len(), 120);
        // 10 000 of 36 000, spread over the slices: half of them in the first half.
        let early = chosen[&1].iter().filter(|&&i| i < 30_000).count();
        assert!((4_700..5_300).contains(&early), "{early}");
    }
}
