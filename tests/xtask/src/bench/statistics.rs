//! Medians and extremes of repeated measurements.
//! Means are not offered: one interruption of a busy machine would decide them.

/// The middle value, or the mean of the two middle ones; None without samples.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(lower.midpoint(upper))
}

/// The smallest and the largest value; None without samples.
pub(crate) fn extremes(samples: &[f64]) -> Option<(f64, f64)> {
    let first = *samples.first()?;
    Some(samples.iter().fold((first, first), |(low, high), sample| (low.min(*sample), high.max(*sample))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(&[7.5]), Some(7.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn extremes_enclose_all() {
        assert_eq!(extremes(&[3.0, 1.0, 100.0]), Some((1.0, 100.0)));
        assert_eq!(extremes(&[]), None);
    }
}
