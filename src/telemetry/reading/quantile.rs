//! Quantiles of histograms, estimated as Prometheus estimates them.

/// Returns the value that a share `q` of the observations do not exceed: interpolated linearly between the bounds of
/// its bucket, or the last bound if the value is above all of them. Returns `None` if there are no observations.
///
/// `buckets` are not cumulative, and there is one more of them than `bounds`.
pub(crate) fn quantile(buckets: &[u128], bounds: &[u64], q: f64) -> Option<f64> {
    let total = count(buckets);
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let mut below = 0.0;
    let mut lower = 0.0;
    for (&bucket, &bound) in buckets.iter().zip(bounds) {
        let (bucket, upper) = (bucket as f64, bound as f64);
        if bucket > 0.0 && below + bucket >= rank {
            return Some(lower + (upper - lower) * ((rank - below) / bucket).clamp(0.0, 1.0));
        }
        below += bucket;
        lower = upper;
    }
    bounds.last().map(|&bound| bound as f64)
}

/// Returns the number of observations in all buckets.
pub(crate) fn count(buckets: &[u128]) -> u128 {
    buckets.iter().fold(0, |sum, &n| sum.saturating_add(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_bounds_it_is_linear() {
        let bounds = [10, 20, 40];
        assert_eq!(quantile(&[0, 0, 0, 0], &bounds, 0.5), None);
        assert_eq!(quantile(&[4, 0, 0, 0], &bounds, 0.5), Some(5.0));
        assert_eq!(quantile(&[2, 2, 0, 0], &bounds, 0.75), Some(15.0));
        assert_eq!(quantile(&[0, 0, 10, 0], &bounds, 1.0), Some(40.0));
        assert_eq!(quantile(&[1, 0, 0, 99], &bounds, 0.99), Some(40.0));
        assert_eq!(quantile(&[1, 0, 0, 0], &bounds, 0.0), Some(0.0));
    }

    #[test]
    fn numbers_beyond_all_reason_do_no_harm() {
        let found = quantile(&[u128::MAX; 4], &[1, 2, 3], 0.99);
        assert!(found.is_some_and(f64::is_finite));
    }
}
