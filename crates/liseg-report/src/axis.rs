//! Axes with round numbers.

/// Where the values of an axis lie on the page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Place of the lowest value.
    pub(crate) start: f64,
    /// Place of the highest value.
    pub(crate) end: f64,
    step: f64,
}

impl Scale {
    /// An axis over the values, widened to round numbers of about `count` steps but not beyond
    /// `limits`.
    pub(crate) fn round(
        values: impl Iterator<Item = f64>,
        limits: [f64; 2],
        (start, end): (f64, f64),
        count: usize,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= 1e-9 * high.abs().max(1e-6) {
            let half = (high.abs() * 0.05).max(0.01);
            (low, high) = (low - half, high + half);
        }
        let rough = (high - low) / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps
            .into_iter()
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        // Rounding errors must not add a step.
        let low = ((low / step + 1e-9).floor() * step).max(limits[0]);
        let high = ((high / step - 1e-9).ceil() * step).min(limits[1]);
        Self {
            low,
            high,
            start,
            end,
            step,
        }
    }

    /// The place of a value; values beyond the axis lie at its ends.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// The round numbers on the axis and how they are written.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / self.step - 1e-6).ceil();
        let count = ((self.high / self.step + 1e-6).floor() - first).clamp(0.0, 50.0) as usize;
        let values = (0..=count).map(|i| (first + i as f64) * self.step + 0.0);
        values
            .map(|value| (value, format!("{value:.decimals$}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: [f64; 2] = [f64::NEG_INFINITY, f64::INFINITY];

    fn labels(values: &[f64], limits: [f64; 2]) -> Vec<String> {
        let scale = Scale::round(values.iter().copied(), limits, (0.0, 100.0), 5);
        scale.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(labels(&[0.0, 9.7], FREE), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&[0.81, 0.97], [0.0, 1.0]),
            ["0.80", "0.85", "0.90", "0.95", "1.00"]
        );
        assert_eq!(labels(&[-1.0, 0.5], FREE), ["-1.0", "-0.5", "0.0", "0.5"]);
        assert_eq!(
            labels(&[0.0, 999.0], FREE),
            ["0", "200", "400", "600", "800", "1000"]
        );
    }

    #[test]
    fn one_value_and_none_make_an_axis_too() {
        for values in [&[][..], &[0.0], &[1.0], &[-3e6], &[f64::NAN, 2.0]] {
            let scale = Scale::round(values.iter().copied(), FREE, (10.0, 110.0), 5);
            assert!(
                scale.high > scale.low && scale.ticks().len() > 1,
                "{scale:?}"
            );
            assert!((10.0..=110.0).contains(&scale.at(1e12)));
        }
    }
}
