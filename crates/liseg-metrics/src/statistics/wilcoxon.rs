//! Wilcoxon's signed-rank test on paired values.

use super::{average_ranks, normal};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Differences are rounded to this before they are compared with each other and with zero, so that
/// the noise of floating-point numbers breaks no ties.
const RESOLUTION: f64 = 1e-9;

/// Up to this many ranked pairs the exact distribution is used by default.
const LARGEST_EXACT: usize = 50;

/// What becomes of pairs without a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zeros {
    /// They are left out (Wilcoxon 1945).
    #[default]
    Drop,
    /// They are ranked, then left out (Pratt 1959).
    Pratt,
    /// They are ranked and their ranks halved between both signs.
    Split,
}

/// What is tested against "no difference".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alternative {
    /// The differences lean to either side.
    #[default]
    TwoSided,
    /// The second values are greater.
    Greater,
    /// The second values are less.
    Less,
}

/// The distribution that the statistic is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Null {
    /// [`Null::Exact`] up to 50 ranked pairs, else [`Null::Normal`].
    #[default]
    Auto,
    /// All ways to give the ranks signs, each as likely; right with ties as well.
    Exact,
    /// A normal distribution with the variance corrected for ties.
    Normal,
    /// The same with a continuity correction of ½.
    NormalCorrected,
}

/// The outcome of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// Pairs that were ranked and count.
    pub n: usize,
    /// Sum of the ranks of positive differences.
    pub w_plus: f64,
    /// Sum of the ranks of negative differences.
    pub w_minus: f64,
    /// min(W⁺, W⁻) for the two-sided test, else W⁺.
    pub statistic: f64,
    /// Probability of a statistic as far out when there is no difference; 1 without any difference.
    pub p: f64,
    /// (W⁺ − W⁻) / (W⁺ + W⁻), from −1 to 1: how consistently the second values are greater. 0
    /// without any difference.
    pub rank_biserial: f64,
}

/// Tests whether `second − first` leans to one side (Wilcoxon 1945).
///
/// # Errors
/// [`Error::Pairs`] when the lengths differ, [`Error::NoValues`] without pairs,
/// [`Error::NotFinite`] for values that are no numbers.
///
/// # Examples
/// ```
/// use liseg_metrics::{Alternative, Null, Zeros, signed_rank};
///
/// let (a, b) = ([0.90, 0.85, 0.91, 0.88, 0.93], [0.92, 0.88, 0.95, 0.89, 0.98]);
/// let test = signed_rank(&a, &b, Alternative::TwoSided, Zeros::Drop, Null::Auto)?;
/// assert_eq!(test.p, 0.0625); // the smallest that five pairs can give
/// assert_eq!(test.rank_biserial, 1.0);
/// # Ok::<(), liseg_metrics::Error>(())
/// ```
pub fn signed_rank(
    first: &[f64],
    second: &[f64],
    alternative: Alternative,
    zeros: Zeros,
    null: Null,
) -> Result<SignedRank> {
    let ranked = Ranked::new(&differences(first, second)?, zeros);
    let (w_plus, w_minus) = (ranked.sum(true), ranked.sum(false));
    let two_sided = alternative == Alternative::TwoSided;
    let statistic = if two_sided {
        w_plus.min(w_minus)
    } else {
        w_plus
    };
    let exact = match null {
        Null::Exact => true,
        Null::Auto => ranked.signed.len() <= LARGEST_EXACT && ranked.split == 0.0,
        _ => false,
    };
    let p = if w_plus + w_minus == 0.0 {
        1.0
    } else if exact {
        ranked.exact_p(w_plus, alternative)
    } else {
        ranked.normal_p(statistic, alternative, null == Null::NormalCorrected)
    };
    let sum = w_plus + w_minus;
    Ok(SignedRank {
        n: ranked.signed.len(),
        w_plus,
        w_minus,
        statistic,
        p,
        rank_biserial: if sum > 0.0 {
            (w_plus - w_minus) / sum
        } else {
            0.0
        },
    })
}

fn differences(first: &[f64], second: &[f64]) -> Result<Vec<f64>> {
    if first.len() != second.len() {
        return Err(Error::Pairs {
            first: first.len(),
            second: second.len(),
        });
    }
    if first.is_empty() {
        return Err(Error::NoValues);
    }
    if first.iter().chain(second).any(|v| !v.is_finite()) {
        return Err(Error::NotFinite);
    }
    let pairs = first.iter().zip(second);
    Ok(pairs.map(|(a, b)| ((b - a) / RESOLUTION).round()).collect())
}

/// Differences with their ranks.
struct Ranked {
    /// Rank and sign of each difference that is not zero.
    signed: Vec<(f64, bool)>,
    /// What each side gets of the ranks of zeros.
    split: f64,
    /// Mean and variance of the sum of ranks when signs are drawn.
    mean: f64,
    variance: f64,
}

impl Ranked {
    fn new(differences: &[f64], zeros: Zeros) -> Self {
        let used: Vec<f64> = match zeros {
            Zeros::Drop => differences
                .iter()
                .copied()
                .filter(|d| d.abs() > 0.0)
                .collect(),
            _ => differences.to_vec(),
        };
        let sizes: Vec<f64> = used.iter().map(|d| d.abs()).collect();
        let ranks = average_ranks(&sizes);
        let is_zero = |i: &usize| sizes[*i] == 0.0;
        let signed: Vec<(f64, bool)> = (0..used.len())
            .filter(|i| !is_zero(i))
            .map(|i| (ranks[i], used[i] > 0.0))
            .collect();
        let zero_ranks: f64 = (0..used.len()).filter(is_zero).map(|i| ranks[i]).sum();

        let n = used.len() as f64;
        let z = (0..used.len()).filter(is_zero).count() as f64;
        let mut mean = n * (n + 1.0) / 4.0;
        let mut variance = n * (n + 1.0) * (2.0 * n + 1.0);
        let mut tied: Vec<f64> = sizes.clone();
        if zeros == Zeros::Pratt {
            mean -= z * (z + 1.0) / 4.0;
            variance -= z * (z + 1.0) * (2.0 * z + 1.0);
            tied.retain(|size| *size > 0.0);
        }
        variance -= 0.5 * tie_term(&mut tied);
        Self {
            signed,
            split: if zeros == Zeros::Split {
                zero_ranks / 2.0
            } else {
                0.0
            },
            mean,
            variance: variance / 24.0,
        }
    }

    fn sum(&self, positive: bool) -> f64 {
        let of_sign = self.signed.iter().filter(|(_, sign)| *sign == positive);
        self.split + of_sign.map(|(rank, _)| rank).sum::<f64>()
    }

    fn normal_p(&self, statistic: f64, alternative: Alternative, corrected: bool) -> f64 {
        if self.variance <= 0.0 {
            return 1.0;
        }
        let away = statistic - self.mean;
        let step = match alternative {
            Alternative::TwoSided if away == 0.0 => 0.0,
            Alternative::TwoSided => 0.5 * away.signum(),
            Alternative::Greater => 0.5,
            Alternative::Less => -0.5,
        };
        let z = (away - if corrected { step } else { 0.0 }) / self.variance.sqrt();
        match alternative {
            Alternative::TwoSided => (2.0 * normal::tail(z.abs())).min(1.0),
            Alternative::Greater => normal::tail(z),
            Alternative::Less => normal::cumulative(z),
        }
    }

    /// Counts the sign patterns by their W⁺. Ranks are halves, so their doubles are whole.
    fn exact_p(&self, w_plus: f64, alternative: Alternative) -> f64 {
        let doubled: Vec<usize> = self
            .signed
            .iter()
            .map(|(r, _)| (2.0 * r) as usize)
            .collect();
        let mut share = vec![0.0; doubled.iter().sum::<usize>() + 1];
        share[0] = 1.0;
        let mut reached = 0;
        for rank in doubled {
            reached += rank;
            for sum in (0..=reached).rev() {
                let with = if sum >= rank { share[sum - rank] } else { 0.0 };
                share[sum] = 0.5 * (share[sum] + with);
            }
        }
        let found = (2.0 * (w_plus - self.split)) as usize;
        let up_to: f64 = share[..=found].iter().sum();
        let from: f64 = share[found..].iter().sum();
        match alternative {
            Alternative::TwoSided => (2.0 * up_to.min(from)).min(1.0),
            Alternative::Greater => from.min(1.0),
            Alternative::Less => up_to.min(1.0),
        }
    }
}

/// Σ (t³ − t) over groups of t equal values.
fn tie_term(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let groups = values.chunk_by(|a, b| a.total_cmp(b).is_eq());
    groups
        .map(|group| group.len() as f64)
        .map(|t| t * t * t - t)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn test(a: &[f64], b: &[f64], alternative: Alternative, null: Null) -> SignedRank {
        signed_rank(a, b, alternative, Zeros::Drop, null).unwrap()
    }

    #[test]
    fn wrong_pairs_are_refused_and_equal_ones_show_nothing() {
        let of = |a: &[f64], b: &[f64]| {
            signed_rank(a, b, Alternative::TwoSided, Zeros::Drop, Null::Auto)
        };
        assert!(matches!(
            of(&[1.0], &[]),
            Err(Error::Pairs {
                first: 1,
                second: 0
            })
        ));
        assert!(matches!(of(&[], &[]), Err(Error::NoValues)));
        assert!(matches!(of(&[1.0], &[f64::NAN]), Err(Error::NotFinite)));
        let equal = of(&[1.0, 2.0], &[1.0, 2.0]).unwrap();
        assert_eq!((equal.n, equal.p, equal.rank_biserial), (0, 1.0, 0.0));
    }

    proptest! {
        #[test]
        fn exchanging_the_methods_keeps_p_and_turns_the_effect(
            pairs in prop::collection::vec((0i32..12, 0i32..12), 1..20),
        ) {
            let a: Vec<f64> = pairs.iter().map(|p| f64::from(p.0)).collect();
            let b: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
            for null in [Null::Exact, Null::Normal, Null::NormalCorrected] {
                let (x, y) = (
                    test(&a, &b, Alternative::TwoSided, null),
                    test(&b, &a, Alternative::TwoSided, null),
                );
                prop_assert!((x.p - y.p).abs() < 1e-12);
                prop_assert_eq!(x.rank_biserial, -y.rank_biserial);
                let (up, down) = (
                    test(&a, &b, Alternative::Greater, null),
                    test(&b, &a, Alternative::Less, null),
                );
                prop_assert!((up.p - down.p).abs() < 1e-12);
            }
        }

        #[test]
        fn exact_p_equals_the_share_of_all_sign_patterns(
            differences in prop::collection::vec(-6i32..7, 1..9),
        ) {
            let b: Vec<f64> = differences.iter().map(|&d| f64::from(d)).collect();
            let a = vec![0.0; b.len()];
            let found = test(&a, &b, Alternative::Greater, Null::Exact);
            let nonzero: Vec<f64> = b.iter().map(|d| d.abs()).filter(|d| *d > 0.0).collect();
            prop_assume!(!nonzero.is_empty());
            let ranks = average_ranks(&nonzero);
            let patterns = 1u32 << ranks.len();
            let as_large = (0..patterns).filter(|pattern| {
                let sum: f64 = (0..ranks.len())
                    .filter(|i| pattern >> i & 1 == 1)
                    .map(|i| ranks[i])
                    .sum();
                sum >= found.w_plus
            });
            let expected = as_large.count() as f64 / f64::from(patterns);
            prop_assert!((found.p - expected).abs() < 1e-12);
        }
    }
}
