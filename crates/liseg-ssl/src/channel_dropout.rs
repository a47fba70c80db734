//! Complementary channel dropout: two views see different halves of the features.

use crate::Result;
use liseg_nn::tch::Tensor;
use rand::{Rng, RngExt};

/// Factors on the channels of both views of every sample, f32 `[2 n, channels, 1, 1, 1]`: first
/// those of view 1 of all samples, then those of view 2.
///
/// A factor is 0 or 2 with equal chance in view 1 and 2 minus that in view 2, so that every channel
/// reaches one of the views. For `spared` samples all factors are 1 (Yang et al., UniMatch V2, 2025).
///
/// # Errors
/// When libtorch fails.
pub fn complementary_factors(kept: &[Vec<bool>], spared: &[usize]) -> Result<Tensor> {
    let channels = kept.first().map_or(0, Vec::len);
    let view = |first: bool| {
        kept.iter().enumerate().flat_map(move |(sample, kept)| {
            kept.iter().map(move |&k| {
                if spared.contains(&sample) {
                    1.0f32
                } else if k == first {
                    2.0
                } else {
                    0.0
                }
            })
        })
    };
    let factors: Vec<f32> = view(true).chain(view(false)).collect();
    let shape = [2 * kept.len() as i64, channels as i64, 1, 1, 1];
    Ok(Tensor::f_from_slice(&factors)?.f_view(shape)?)
}

/// Which channels view 1 keeps, each with chance ½.
pub fn draw_kept(channels: usize, rng: &mut impl Rng) -> Vec<bool> {
    (0..channels).map(|_| rng.random::<bool>()).collect()
}

/// ⌊n / 2⌋ of n samples, drawn without replacement: those that are spared.
pub fn draw_spared(samples: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    for i in (1..samples).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order.truncate(samples / 2);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_two_factors_of_a_channel_sum_to_two(seed: u64, samples in 1usize..5, channels in 1usize..9) {
            let mut rng = Seed(seed).stream("dropout", 0, 0);
            let kept: Vec<_> = (0..samples).map(|_| draw_kept(channels, &mut rng)).collect();
            let spared = draw_spared(samples, &mut rng);
            prop_assert_eq!(spared.iter().collect::<BTreeSet<_>>().len(), samples / 2);
            let factors = complementary_factors(&kept, &spared).unwrap();
            let n = samples as i64;
            let sum = factors.narrow(0, 0, n) + factors.narrow(0, n, n);
            prop_assert!(sum.equal(&(sum.ones_like() * 2.0)));
            for sample in spared {
                let of = factors.get(sample as i64);
                prop_assert!(of.equal(&of.ones_like()));
            }
        }
    }
}
