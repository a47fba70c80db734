//! Random numbers by the million.
//!
//! Sixteen generators xoshiro128++ (Blackman and Vigna 2021) side by side, started by SplitMix64
//! from one seed, and the transformation of Box and Muller (1958). A sequence depends on its seed
//! alone, not on the processor.

use crate::math::{cos_sin_of_turn, log2};
use crate::simd::vectorised;

const LANES: usize = 16;

type Lanes = [u32; LANES];

/// Sixteen generators side by side.
struct Generators {
    state: [Lanes; 4],
}

impl Generators {
    fn new(seed: u64) -> Self {
        let mut at = seed;
        let mut next = || {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = at;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as u32
        };
        let mut state = [[0; LANES]; 4];
        for lane in 0..LANES {
            for word in &mut state {
                word[lane] = next();
            }
            // The one state that a generator would never leave.
            if state.iter().all(|word| word[lane] == 0) {
                state[0][lane] = 1;
            }
        }
        Self { state }
    }

    #[inline(always)]
    fn next(&mut self) -> Lanes {
        let [a, b, c, d] = &mut self.state;
        let mut result = [0; LANES];
        for k in 0..LANES {
            result[k] = a[k].wrapping_add(d[k]).rotate_left(7).wrapping_add(a[k]);
            let t = b[k] << 9;
            c[k] ^= a[k];
            d[k] ^= b[k];
            b[k] ^= c[k];
            a[k] ^= d[k];
            c[k] ^= t;
            d[k] = d[k].rotate_left(11);
        }
        result
    }

    /// 32 normal numbers.
    #[inline(always)]
    fn normals(&mut self, out: &mut [f32; 2 * LANES]) {
        const STEP: f32 = 1.0 / (1 << 24) as f32;
        let (first, second) = (self.next(), self.next());
        for k in 0..LANES {
            // In (0, 1): its logarithm is finite.
            let u = ((first[k] >> 8) as i32 as f32 + 0.5) * STEP;
            let turn = (second[k] >> 8) as i32 as f32 * STEP;
            let radius = (-2.0 * std::f32::consts::LN_2 * log2(u)).max(0.0).sqrt();
            let (cosine, sine) = cos_sin_of_turn(turn);
            out[k] = radius * cosine;
            out[LANES + k] = radius * sine;
        }
    }
}

/// Calls `work` with each block of at most 32 values and as many standard normal numbers.
#[inline(always)]
fn with_normals(values: &mut [f32], seed: u64, work: impl Fn(&mut f32, f32)) {
    let mut generators = Generators::new(seed);
    let mut normals = [0.0; 2 * LANES];
    let mut blocks = values.chunks_exact_mut(2 * LANES);
    for block in &mut blocks {
        generators.normals(&mut normals);
        for (value, normal) in block.iter_mut().zip(&normals) {
            work(value, *normal);
        }
    }
    let rest = blocks.into_remainder();
    generators.normals(&mut normals);
    for (value, normal) in rest.iter_mut().zip(&normals) {
        work(value, *normal);
    }
}

vectorised! {
    /// Adds `sigma` times standard normal numbers.
    pub(crate) fn add_normals(values: &mut [f32], sigma: f32, seed: u64) {
        with_normals(values, seed, |value, normal| *value += sigma * normal);
    }
}

vectorised! {
    /// Fills with standard normal numbers.
    pub(crate) fn fill_normals(values: &mut [f32], seed: u64) {
        with_normals(values, seed, |value, normal| *value = normal);
    }
}

/// Fills with numbers from −1 to 1.
pub(crate) fn fill_uniform(values: &mut [f32], seed: u64) {
    let mut generators = Generators::new(seed);
    for block in values.chunks_mut(LANES) {
        for (value, bits) in block.iter_mut().zip(generators.next()) {
            *value = ((bits >> 8) as i32 as f32 + 0.5) * (2.0 / (1 << 24) as f32) - 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of `values` below `limit`.
    fn below(values: &[f32], limit: f32) -> f64 {
        values.iter().filter(|&&v| v < limit).count() as f64 / values.len() as f64
    }

    #[test]
    fn normal_numbers_are_distributed_as_they_should_be() {
        let mut values = vec![0.0f32; 1_000_003];
        fill_normals(&mut values, 5);
        // Φ(−3), Φ(−2), Φ(−1), Φ(0), Φ(1), Φ(2), Φ(3); five standard errors.
        for (limit, expected) in [
            (-3.0, 0.001_35),
            (-2.0, 0.022_75),
            (-1.0, 0.158_66),
            (0.0, 0.5),
            (1.0, 0.841_34),
            (2.0, 0.977_25),
            (3.0, 0.998_65),
        ] {
            let bound = 5.0 * (expected * (1.0 - expected) / 1e6f64).sqrt();
            let found = below(&values, limit);
            assert!((found - expected).abs() < bound, "below {limit}: {found}");
        }
        // Neighbours, and numbers made of the same pair, are not correlated.
        for lag in [1, 16, 32] {
            let pairs = values.iter().zip(&values[lag..]);
            let sum: f64 = pairs.map(|(a, b)| f64::from(a * b)).sum();
            assert!((sum / 1e6).abs() < 0.005, "lag {lag}: {}", sum / 1e6);
        }
    }

    #[test]
    fn uniform_numbers_fill_their_range_and_seeds_differ() {
        let mut values = vec![0.0f32; 100_000];
        fill_uniform(&mut values, 6);
        assert!(values.iter().all(|v| v.abs() < 1.0));
        assert!((below(&values, -0.5) - 0.25).abs() < 0.007);
        assert!((below(&values, 0.5) - 0.75).abs() < 0.007);
        let mut other = vec![0.0f32; 100_000];
        fill_uniform(&mut other, 7);
        assert_ne!(values, other);
        fill_uniform(&mut other, 6);
        assert_eq!(values, other);
    }
}
