//! Several methods judged on the same cases: which is better, by how much, and how sure is that?

mod align;

use crate::statistics::{holm, mean_ranks, signed_rank};
use crate::{
    Alternative, Bootstrap, IntervalKind, Measure, Null, Report, Result, SignedRank, Zeros,
    bootstrap, percentile, write,
};
use align::Aligned;
use liseg_volume::Seed;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What is compared, and how finely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComparisonSettings {
    /// The measures to compare.
    pub measures: Vec<Measure>,
    /// Coverage of the intervals.
    pub level: f64,
    /// Samples drawn for an interval.
    pub replicates: usize,
    /// Seed of those samples.
    pub seed: Seed,
}

impl Default for ComparisonSettings {
    /// Dice, HD and HD95; intervals of 95 % from 10 000 samples.
    fn default() -> Self {
        Self {
            measures: vec![Measure::Dice, Measure::Hd, Measure::Hd95],
            level: 0.95,
            replicates: 10_000,
            seed: Seed(0),
        }
    }
}

/// Methods compared on the cases that all of them were judged on.
///
/// Volumes of one patient are not independent: where cases say whose they are
/// (`group["patient"]`), a patient's values are averaged first and the patient is the unit.
///
/// # Examples
/// ```
/// use liseg_metrics::{CaseMetrics, CaseResult, Comparison, ComparisonSettings, Measure, Report};
///
/// let report = |dice: [f64; 6]| {
///     let case = |(i, dice): (usize, f64)| CaseResult {
///         reference_file: format!("references/p{i}.nii.gz"),
///         metrics: [("1".into(), CaseMetrics { dice: Some(dice), ..CaseMetrics::default() })].into(),
///         ..CaseResult::default()
///     };
///     Report { cases: dice.into_iter().enumerate().map(case).collect(), ..Report::default() }
/// };
/// let settings = ComparisonSettings { measures: vec![Measure::Dice], ..Default::default() };
/// let comparison = Comparison::of(
///     &[
///         ("supervised".into(), report([0.90, 0.85, 0.91, 0.88, 0.93, 0.80])),
///         ("cps".into(), report([0.92, 0.88, 0.95, 0.89, 0.98, 0.86])),
///     ],
///     &settings,
/// )?;
/// let pair = &comparison.pairs[0];
/// assert!((pair.mean.estimate - 0.035).abs() < 1e-9 && pair.mean.low > 0.0);
/// assert_eq!(pair.test.p, 0.03125);
/// assert_eq!(comparison.ranking[1].mean_rank, Some(1.0));
/// # Ok::<(), liseg_metrics::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The settings of the comparison.
    pub settings: ComparisonSettings,
    /// What one value stands for: `patient` or `case`.
    pub unit: String,
    /// The units that all methods share.
    pub units: Vec<String>,
    /// Cases that some methods were not judged on, and so left out.
    pub unshared: Vec<String>,
    /// Every method's level, by label and measure.
    pub methods: Vec<MethodSummary>,
    /// Every pair of methods, by label and measure.
    pub pairs: Vec<PairedDifference>,
    /// The methods' ranks as a challenge would give them, in the order of the reports.
    pub ranking: Vec<Ranking>,
}

/// One method, one label, one measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodSummary {
    /// The method.
    pub method: String,
    /// The label.
    pub label: String,
    /// The measure.
    pub measure: Measure,
    /// Units with a value.
    pub n: usize,
    /// The mean with its interval; `None` without values.
    pub mean: Option<Bootstrap>,
    /// The median with its interval; `None` without values.
    pub median: Option<Bootstrap>,
}

/// What the second method changes against the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// The label.
    pub label: String,
    /// The measure.
    pub measure: Measure,
    /// The method compared with.
    pub first: String,
    /// The method compared.
    pub second: String,
    /// Units with a value of both.
    pub n: usize,
    /// Units left out because one of both has no value.
    pub left_out: usize,
    /// Mean of second − first, with its interval.
    pub mean: Bootstrap,
    /// Median of second − first, with its interval.
    pub median: Bootstrap,
    /// Units where the second is better, by the measure's own direction.
    pub better: usize,
    /// Units where it is worse.
    pub worse: usize,
    /// Wilcoxon's signed-rank test, two-sided.
    pub test: SignedRank,
    /// Its p after Holm's correction over all pairs, labels and measures of the comparison.
    pub p_holm: f64,
}

/// How a method ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The method.
    pub method: String,
    /// Its mean rank over the units, by measure; 1 is best. Over the first label.
    pub ranks: Vec<(Measure, f64)>,
    /// The mean of its ranks by DSC and HD, as CARE-Liver and LiQA rank; `None` when the
    /// comparison leaves one of them out and so has only the other, which then stands alone.
    pub mean_rank: Option<f64>,
}

impl Comparison {
    /// Compares reports, each with the name of its method. Cases are matched by the file name of
    /// their reference.
    ///
    /// # Errors
    /// [`crate::Error::Comparison`] for fewer than two reports, names that repeat, or no case in common;
    /// [`crate::Error::Level`] for a level outside (0, 1); [`crate::Error::NoValues`] for 0
    /// replicates.
    pub fn of(reports: &[(String, Report)], settings: &ComparisonSettings) -> Result<Self> {
        let aligned = Aligned::of(reports)?;
        let mut comparison = Self {
            settings: settings.clone(),
            unit: aligned.unit.clone(),
            units: aligned.units.clone(),
            unshared: aligned.unshared.clone(),
            methods: Vec::new(),
            pairs: Vec::new(),
            ranking: Vec::new(),
        };
        for label in &aligned.labels {
            for &measure in &settings.measures {
                comparison.add(&aligned, label, measure)?;
            }
        }
        let p: Vec<f64> = comparison.pairs.iter().map(|pair| pair.test.p).collect();
        for (pair, corrected) in comparison.pairs.iter_mut().zip(holm(&p)) {
            pair.p_holm = corrected;
        }
        comparison.ranking = ranking(&aligned, settings);
        Ok(comparison)
    }

    /// Writes the comparison as JSON; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write::atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            Ok(std::io::Write::write_all(file, b"\n")?)
        })
    }

    fn add(&mut self, aligned: &Aligned, label: &str, measure: Measure) -> Result<()> {
        let values = aligned.values(label, measure);
        for (method, values) in aligned.methods.iter().zip(&values) {
            let values: Vec<f64> = values.iter().copied().flatten().collect();
            let interval = |kind| match values.len() {
                0 => Ok(None),
                _ => self.interval(&values, kind).map(Some),
            };
            let (mean, median) = (interval(Statistic::Mean)?, interval(Statistic::Median)?);
            self.methods.push(MethodSummary {
                method: method.clone(),
                label: label.to_owned(),
                measure,
                n: values.len(),
                mean,
                median,
            });
        }
        for first in 0..values.len() {
            for second in first + 1..values.len() {
                let names = [&aligned.methods[first], &aligned.methods[second]];
                let pair = self.pair(label, measure, names, &values[first], &values[second])?;
                self.pairs.extend(pair);
            }
        }
        Ok(())
    }

    /// `None` when no unit has a value of both methods.
    fn pair(
        &self,
        label: &str,
        measure: Measure,
        [first, second]: [&String; 2],
        a: &[Option<f64>],
        b: &[Option<f64>],
    ) -> Result<Option<PairedDifference>> {
        let both: Vec<(f64, f64)> = a.iter().zip(b).filter_map(|(a, b)| a.zip(*b)).collect();
        if both.is_empty() {
            return Ok(None);
        }
        let (a_values, b_values): (Vec<f64>, Vec<f64>) = both.iter().copied().unzip();
        let differences: Vec<f64> = both.iter().map(|(a, b)| b - a).collect();
        let two_sided = Alternative::TwoSided;
        let test = signed_rank(&a_values, &b_values, two_sided, Zeros::Drop, Null::Auto)?;
        let gains = both
            .iter()
            .filter_map(|(a, b)| Some(measure.badness(*a)? - measure.badness(*b)?));
        let count = |sign: f64| gains.clone().filter(|gain| gain * sign > 1e-9).count();
        Ok(Some(PairedDifference {
            label: label.to_owned(),
            measure,
            first: first.clone(),
            second: second.clone(),
            n: both.len(),
            left_out: a.len() - both.len(),
            mean: self.interval(&differences, Statistic::Mean)?,
            median: self.interval(&differences, Statistic::Median)?,
            better: count(1.0),
            worse: count(-1.0),
            test,
            p_holm: test.p,
        }))
    }

    fn interval(&self, values: &[f64], statistic: Statistic) -> Result<Bootstrap> {
        // One stream for all: methods are then compared on the same resampled units.
        let mut rng = self.settings.seed.stream("comparison", 0, 0);
        let (replicates, level) = (self.settings.replicates, self.settings.level);
        let kind = IntervalKind::Percentile;
        match statistic {
            Statistic::Mean => {
                let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
                bootstrap(values, mean, replicates, level, kind, &mut rng)
            }
            Statistic::Median => {
                let median = |v: &[f64]| percentile(&mut v.to_vec(), 50.0).unwrap_or(f64::NAN);
                bootstrap(values, median, replicates, level, kind, &mut rng)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Statistic {
    Mean,
    Median,
}

fn ranking(aligned: &Aligned, settings: &ComparisonSettings) -> Vec<Ranking> {
    let Some(label) = aligned.labels.first() else {
        return Vec::new();
    };
    let ranks: Vec<(Measure, Vec<f64>)> = settings
        .measures
        .iter()
        .filter(|measure| measure.perfect().is_some())
        .map(|&measure| {
            let badness = aligned.values(label, measure).into_iter().map(|values| {
                let badness = values.into_iter().map(|v| measure.badness(v?));
                badness.collect()
            });
            (measure, mean_ranks(&badness.collect::<Vec<_>>(), false))
        })
        .collect();
    let of_method = |(i, method): (usize, &String)| {
        let ranks: Vec<(Measure, f64)> = ranks.iter().map(|(m, ranks)| (*m, ranks[i])).collect();
        let official = ranks
            .iter()
            .filter(|(m, _)| matches!(m, Measure::Dice | Measure::Hd));
        Ranking {
            method: method.clone(),
            mean_rank: crate::summary::mean(official.map(|(_, rank)| *rank)),
            ranks,
        }
    };
    aligned.methods.iter().enumerate().map(of_method).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaseMetrics, CaseResult, Error};
    use proptest::prelude::*;

    fn report(cases: &[(&str, &str, f64, Option<f64>)]) -> Report {
        let case = |&(name, patient, dice, hd): &(&str, &str, f64, Option<f64>)| CaseResult {
            prediction_file: format!("p/{name}.nii.gz"),
            reference_file: format!("r/{name}.nii.gz"),
            group: [("patient".to_owned(), patient.to_owned())].into(),
            metrics: [(
                "1".to_owned(),
                CaseMetrics {
                    dice: Some(dice),
                    hd,
                    ..CaseMetrics::default()
                },
            )]
            .into(),
        };
        Report {
            cases: cases.iter().map(case).collect(),
            ..Report::default()
        }
    }

    fn settings() -> ComparisonSettings {
        ComparisonSettings {
            measures: vec![Measure::Dice, Measure::Hd],
            replicates: 200,
            ..ComparisonSettings::default()
        }
    }

    #[test]
    fn patients_are_the_units_and_undefined_values_are_left_out() {
        let a = report(&[
            ("a1", "a", 0.8, Some(10.0)),
            ("a2", "a", 0.6, Some(30.0)),
            ("b1", "b", 0.9, None),
            ("only", "c", 0.9, Some(1.0)),
        ]);
        let b = report(&[
            ("b1", "b", 0.8, Some(5.0)),
            ("a2", "a", 0.8, Some(10.0)),
            ("a1", "a", 0.8, Some(10.0)),
        ]);
        let found = Comparison::of(&[("a".into(), a), ("b".into(), b)], &settings()).unwrap();
        assert_eq!((found.unit.as_str(), found.units.len()), ("patient", 2));
        assert_eq!(found.unshared, ["only"]);
        let dice = &found.pairs[0];
        assert!(
            (dice.mean.estimate - 0.0).abs() < 1e-12,
            "0.8 − 0.7 and 0.8 − 0.9"
        );
        assert_eq!((dice.n, dice.better, dice.worse), (2, 1, 1));
        let hd = &found.pairs[1];
        assert_eq!((hd.n, hd.left_out, hd.better), (1, 1, 1));
        assert_eq!(hd.mean.estimate, -10.0);
        // b wins HD on both: a has no value on patient b.
        assert_eq!(
            found.ranking[1].ranks,
            [(Measure::Dice, 1.5), (Measure::Hd, 1.0)]
        );
        assert_eq!(found.ranking[1].mean_rank, Some(1.25));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let a = || ("a".to_owned(), report(&[("x", "x", 0.5, None)]));
        let refused = |reports: &[(String, Report)]| {
            let error = Comparison::of(reports, &settings()).unwrap_err();
            assert!(matches!(error, Error::Comparison { .. }), "{error}");
            error.to_string()
        };
        assert!(refused(&[a()]).contains("two"));
        assert!(refused(&[a(), a()]).contains('a'));
        let other = ("b".to_owned(), report(&[("y", "y", 0.5, None)]));
        assert!(refused(&[a(), other]).contains("in common"));
    }

    proptest! {
        #[test]
        fn a_method_equals_itself(dice in prop::collection::vec(0u8..20, 2..12)) {
            let names: Vec<String> = (0..dice.len()).map(|i| format!("c{i}")).collect();
            let cases: Vec<_> = names
                .iter()
                .zip(&dice)
                .map(|(name, d)| (name.as_str(), name.as_str(), f64::from(*d) / 20.0, Some(f64::from(*d))))
                .collect();
            let reports = [("a".to_owned(), report(&cases)), ("b".to_owned(), report(&cases))];
            let found = Comparison::of(&reports, &settings()).unwrap();
            for pair in &found.pairs {
                prop_assert_eq!((pair.mean.low, pair.mean.high), (0.0, 0.0));
                prop_assert_eq!((pair.p_holm, pair.better, pair.worse), (1.0, 0, 0));
            }
            prop_assert_eq!(found.ranking[0].mean_rank, Some(1.5));
        }
    }
}
