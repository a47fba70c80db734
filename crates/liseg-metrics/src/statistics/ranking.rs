//! Ranks, as challenges order their participants.

/// Ranks from 1 for the smallest value; equal values share the mean of their ranks.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = |&&index: &&usize| values[index].total_cmp(&values[order[start]]).is_eq();
        let end = start + order[start..].iter().take_while(equal).count();
        // Ranks start + 1 … end share their mean.
        let rank = (start + 1 + end) as f64 / 2.0;
        order[start..end]
            .iter()
            .for_each(|&index| ranks[index] = rank);
        start = end;
    }
    ranks
}

/// The mean rank of each method over cases, 1 for the best.
///
/// `values[method][case]`; a case without a value ranks below all values. Methods are ranked case by
/// case and the ranks averaged, as the CARE-Liver and LiQA challenges do for each measure.
pub fn mean_ranks(values: &[Vec<Option<f64>>], higher_is_better: bool) -> Vec<f64> {
    let cases = values.iter().map(Vec::len).min().unwrap_or(0);
    let mut sums = vec![0.0; values.len()];
    for case in 0..cases {
        // Small is good.
        let badness: Vec<f64> = values
            .iter()
            .map(|method| match method[case] {
                Some(value) if higher_is_better => -value,
                Some(value) => value,
                None => f64::INFINITY,
            })
            .collect();
        for (sum, rank) in sums.iter_mut().zip(average_ranks(&badness)) {
            *sum += rank;
        }
    }
    sums.iter().map(|sum| sum / cases.max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_share_their_ranks_and_lost_cases_come_last() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        let dice = [
            vec![Some(0.9), Some(0.8), None],
            vec![Some(0.95), Some(0.8), Some(0.1)],
        ];
        let ranks = mean_ranks(&dice, true);
        assert_eq!(ranks, [(2.0 + 1.5 + 2.0) / 3.0, (1.0 + 1.5 + 1.0) / 3.0]);
    }

    proptest! {
        #[test]
        fn ranks_always_add_up_to_n_times_n_plus_1_over_2(
            values in prop::collection::vec(0u8..6, 1..30),
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let n = values.len() as f64;
            let sum: f64 = average_ranks(&values).iter().sum();
            prop_assert_eq!(sum, n * (n + 1.0) / 2.0);
        }
    }
}
