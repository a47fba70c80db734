//! Percentiles by selection.

use crate::{Error, Result};

/// The `q`-th percentile, linear between the two nearest order statistics; reorders `values`.
///
/// With the values sorted and h = (n − 1)·q/100, k = ⌊h⌋: a_k + (h − k)·(a_{k+1} − a_k), the
/// default of NumPy and of torch ("type 7"). Linear in the number of values: nothing is sorted.
///
/// # Errors
/// [`Error::Percentile`] when `q` is outside 0 to 100, [`Error::NoValues`] when there are none.
///
/// # Examples
/// ```
/// let mut values = [16.0, 1.0, 8.0, 2.0, 4.0];
/// assert_eq!(liseg_metrics::percentile(&mut values, 90.0)?, 12.8);
/// # Ok::<(), liseg_metrics::Error>(())
/// ```
pub fn percentile(values: &mut [f64], q: f64) -> Result<f64> {
    if !(0.0..=100.0).contains(&q) {
        return Err(Error::Percentile { found: q });
    }
    let Some(last) = values.len().checked_sub(1) else {
        return Err(Error::NoValues);
    };
    let h = last as f64 * q / 100.0;
    let k = (h as usize).min(last);
    let (_, &mut low, above) = values.select_nth_unstable_by(k, f64::total_cmp);
    // What follows the k-th value in order is the smallest of those above it.
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    let fraction = h - k as f64;
    Ok(if fraction > 0.0 {
        low + fraction * (high - low)
    } else {
        low
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_percentile() {
        for bad in [-0.1, 100.1, f64::NAN] {
            let result = percentile(&mut [1.0], bad);
            assert!(matches!(result, Err(Error::Percentile { .. })));
        }
        assert!(matches!(percentile(&mut [], 50.0), Err(Error::NoValues)));
    }
}
