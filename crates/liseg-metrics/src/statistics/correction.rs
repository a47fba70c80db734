//! Many tests at once.

/// Holm's step-down correction: p-values that keep the chance of any false finding among all of them
/// below the level they are compared with (Holm 1979, Scandinavian Journal of Statistics 6).
///
/// With p sorted ascending, the i-th of m becomes max over j ≤ i of (m − j + 1) p_j, at most 1. The
/// order of the input is kept.
///
/// # Examples
/// ```
/// let corrected = liseg_metrics::holm(&[0.04, 0.01, 0.03]);
/// assert_eq!(corrected, [0.06, 0.03, 0.06]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut largest = 0.0f64;
    for (place, &index) in order.iter().enumerate() {
        let factor = (p_values.len() - place) as f64;
        largest = largest.max((factor * p_values[index]).min(1.0));
        corrected[index] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holm_keeps_the_order_and_never_lowers_a_p_value(
            p in prop::collection::vec(0.0f64..=1.0, 1..20),
        ) {
            let corrected = holm(&p);
            for (a, b) in p.iter().zip(&corrected) {
                prop_assert!(b >= a && *b <= 1.0);
            }
            for i in 0..p.len() {
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || corrected[i] <= corrected[j]);
                }
            }
            let smallest = p.iter().copied().fold(1.0, f64::min);
            let expected = (smallest * p.len() as f64).min(1.0);
            prop_assert_eq!(corrected.iter().copied().fold(1.0, f64::min), expected);
        }
    }
}
