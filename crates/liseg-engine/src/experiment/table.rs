//! What became of an experiment, in numbers.

use super::config::{Experiment, PaperFigure};
use super::grid::{Method, PlannedRun};
use super::prepare::Prepared;
use crate::run::{write_file, write_json};
use crate::{Error, Result};
use liseg_metrics::{Bootstrap, Comparison, ComparisonSettings, Measure, Report};
use liseg_volume::Seed;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A mean with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Level {
    /// The mean over patients.
    pub mean: f64,
    /// Lower end of the 95 % bootstrap interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a method changes in a distance against its control, on the same patients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Mean difference in mm with its interval: below zero is better.
    pub difference: Level,
    /// Patients in which the method is better.
    pub better: usize,
    /// Patients in which it is worse.
    pub worse: usize,
    /// Wilcoxon's signed-rank test, two-sided, by itself.
    pub p: f64,
}

/// What a method changes against its control, on the same patients; counts and tests are of Dice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Versus {
    /// The control.
    pub control: String,
    /// Mean difference of Dice with its interval.
    pub difference: Level,
    /// Patients in which the method is better.
    pub better: usize,
    /// Patients in which it is worse.
    pub worse: usize,
    /// Wilcoxon's signed-rank test, two-sided.
    pub p: f64,
    /// The same after Holm's correction over the whole table.
    pub p_holm: f64,
    /// What changes in the Hausdorff distance; `None` where no patient has one of both.
    pub hd: Option<Change>,
    /// What changes in its 95th percentile.
    pub hd95: Option<Change>,
}

/// A method on one phase, inside or outside the distribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The method.
    pub method: String,
    /// Labelled patients, where the experiment varies them.
    pub labels: Option<usize>,
    /// The phase; `all` for all of them.
    pub phase: String,
    /// `all`, `in` or `out` of distribution.
    pub distribution: String,
    /// Patients (or cases, where patients are unknown).
    pub n: usize,
    /// Cases whose mask was missing or empty; they count as such.
    pub without_mask: usize,
    /// Seeds and folds that were averaged case by case.
    pub runs: usize,
    /// Dice.
    pub dice: Option<Level>,
    /// Hausdorff distance, mm.
    pub hd: Option<Level>,
    /// Its 95th percentile, mm.
    pub hd95: Option<Level>,
    /// Standard deviation between seeds of the mean Dice; `None` for one seed.
    pub dice_sd_of_seeds: Option<f64>,
    /// Against its control.
    pub versus: Option<Versus>,
    /// Published Dice and HD, where the data are those of the paper.
    pub paper: Option<[f64; 2]>,
}

/// All rows of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultTable {
    /// The experiment.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Whether a phantom stood in for the data that results are judged on.
    pub phantom: bool,
    /// The other datasets for which a phantom stood in, such as one that weights come from.
    pub stand_ins: Vec<String>,
    /// Whether figures of the paper are left out because its networks were pretrained and these were not.
    pub untrained: bool,
    /// The rows.
    pub rows: Vec<Row>,
}

impl ResultTable {
    pub(crate) fn of(
        experiment: &Experiment,
        prepared: &Prepared,
        reports: &[(&PlannedRun, Report)],
    ) -> Result<Self> {
        let budgets: BTreeSet<Option<usize>> = reports.iter().map(|(run, _)| run.budget).collect();
        let everything: Vec<&Report> = reports.iter().map(|(_, report)| report).collect();
        let groups = groups(experiment, &everything);
        let mut rows = Vec::new();
        let mut untrained = false;
        for budget in budgets {
            for (phase, distribution) in &groups {
                for method in prepared.plan.methods.iter().filter(|m| m.row) {
                    let of = |name: &str| -> Vec<(u64, Report)> {
                        let keep = |report: &Report| part(report, phase, distribution, experiment);
                        reports
                            .iter()
                            .filter(|(run, _)| run.method == name && run.budget == budget)
                            .map(|(run, report)| (run.seed, keep(report)))
                            .filter(|(_, report)| {
                                !report.cases.is_empty() || !report.missing.is_empty()
                            })
                            .collect()
                    };
                    let own = of(&method.name);
                    if own.is_empty() {
                        continue;
                    }
                    let control = method.control.as_ref().map(|name| (name, of(name)));
                    let mut row = row(experiment, &own, control)?;
                    row.method.clone_from(&method.name);
                    row.labels = budget;
                    row.phase.clone_from(phase);
                    row.distribution.clone_from(distribution);
                    let figures = &experiment.variants[method.variant].paper;
                    let shown = experiment.datasets["target"].paper
                        && experiment.variants[method.variant].name == method.name
                        && !learns_from_a_phantom(experiment, prepared, method);
                    let figure = figures
                        .iter()
                        .find(|f| shown && f.phase == *phase && f.distribution == *distribution);
                    let started_so =
                        |f: &&PaperFigure| !f.pretrained || is_pretrained(prepared, method);
                    row.paper = figure.filter(started_so).map(|f| [f.dice, f.hd]);
                    untrained |= figure.is_some() && row.paper.is_none();
                    rows.push(row);
                }
            }
        }
        correct(&mut rows);
        Ok(Self {
            name: experiment.name.clone(),
            description: experiment.description.clone(),
            phantom: prepared.phantoms["target"],
            stand_ins: stand_ins(experiment, prepared),
            untrained,
            rows,
        })
    }

    /// Writes `table.json`, `table.csv` and `table.md` into a folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("table.json"), self)?;
        for (name, text) in [("table.csv", self.csv()), ("table.md", self.markdown())] {
            write_file(&folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

/// The datasets but the one judged on for which a phantom stood in.
fn stand_ins(experiment: &Experiment, prepared: &Prepared) -> Vec<String> {
    let sources = experiment.datasets.iter();
    let standing = sources.filter(|(name, source)| {
        name.as_str() != "target" && source.path.is_some() && prepared.phantoms[*name]
    });
    standing.map(|(name, _)| name.clone()).collect()
}

/// Whether a method, or one that it starts from, learns from phantoms, or is judged on them.
fn learns_from_a_phantom(experiment: &Experiment, prepared: &Prepared, method: &Method) -> bool {
    let source = &experiment.datasets[&method.dataset];
    let parts = source.labelled_from.iter().chain(&source.unlabelled_from);
    let mut names = parts.chain([&method.dataset]);
    let methods = &prepared.plan.methods;
    let first = method.after.as_ref();
    let first = first.and_then(|name| methods.iter().find(|method| method.name == *name));
    prepared.phantoms["target"]
        || names.any(|name| prepared.phantoms[name])
        || first.is_some_and(|first| learns_from_a_phantom(experiment, prepared, first))
}

/// Whether a method's network, or the one that it starts from, started from weights of a file.
fn is_pretrained(prepared: &Prepared, method: &Method) -> bool {
    let plan = &prepared.plan;
    let run = plan.runs.iter().find(|run| run.method == method.name);
    let first = method.after.as_ref();
    let first = first.and_then(|name| plan.methods.iter().find(|method| method.name == *name));
    run.is_some_and(|run| run.config.network.weights.is_some())
        || first.is_some_and(|first| is_pretrained(prepared, first))
}

/// Phases and distributions that occur: every phase with all vendors, and apart where both kinds do.
fn groups(experiment: &Experiment, reports: &[&Report]) -> Vec<(String, String)> {
    let mut phases = BTreeSet::new();
    let (mut inside, mut outside) = (false, false);
    for case in reports.iter().flat_map(|report| report.cases.iter()) {
        phases.extend(case.group.get("phase").cloned());
        let out = is_outside(&case.group, experiment);
        inside |= !out;
        outside |= out;
    }
    let mut names: Vec<String> = phases.into_iter().collect();
    if names.len() != 1 {
        names.push("all".into());
    }
    let distributions: &[&str] = if inside && outside {
        &["all", "in", "out"]
    } else {
        &["all"]
    };
    let pairs = names.iter().flat_map(|phase| {
        let each = distributions.iter();
        each.map(move |d| (phase.clone(), (*d).to_owned()))
    });
    pairs.collect()
}

fn is_outside(group: &BTreeMap<String, String>, experiment: &Experiment) -> bool {
    let vendor = group.get("vendor");
    vendor.is_some_and(|v| experiment.evaluate.out_of_distribution.contains(v))
}

/// The cases of a report that belong to a phase and a distribution.
fn part(report: &Report, phase: &str, distribution: &str, experiment: &Experiment) -> Report {
    let belongs = |group: &BTreeMap<String, String>| {
        let right_phase = phase == "all" || group.get("phase").is_some_and(|p| p == phase);
        let outside = is_outside(group, experiment);
        right_phase
            && match distribution {
                "in" => !outside,
                "out" => outside,
                _ => true,
            }
    };
    let mut report = report.clone();
    report.cases.retain(|case| belongs(&case.group));
    report.missing.retain(|case| belongs(&case.group));
    report
}

fn averaged(runs: &[(u64, Report)]) -> Report {
    let reports: Vec<Report> = runs.iter().map(|(_, report)| report.clone()).collect();
    Report::averaged(&reports)
}

const MEASURES: [Measure; 3] = [Measure::Dice, Measure::Hd, Measure::Hd95];

fn row(
    experiment: &Experiment,
    own: &[(u64, Report)],
    control: Option<(&String, Vec<(u64, Report)>)>,
) -> Result<Row> {
    let settings = ComparisonSettings {
        measures: MEASURES.to_vec(),
        replicates: experiment.evaluate.replicates,
        seed: Seed(0),
        ..ComparisonSettings::default()
    };
    let control = control.filter(|(_, reports)| !reports.is_empty());
    // Without a control the method is its own: the levels are wanted all the same.
    let baseline = control.as_ref().map_or(own, |(_, reports)| reports);
    let compared = [
        ("control".to_owned(), averaged(baseline)),
        ("method".to_owned(), averaged(own)),
    ];
    let comparison = Comparison::of(&compared, &settings).map_err(Error::Metrics)?;
    let level = |measure: Measure| {
        let mut methods = comparison.methods.iter();
        let found = methods.find(|m| m.method == "method" && m.measure == measure)?;
        found.mean.as_ref().map(interval)
    };
    let pair = |measure| comparison.pairs.iter().find(|p| p.measure == measure);
    let change = |measure| {
        let pair = pair(measure).filter(|pair| pair.n > 0)?;
        Some(Change {
            difference: interval(&pair.mean),
            better: pair.better,
            worse: pair.worse,
            p: pair.test.p,
        })
    };
    let versus = control.and_then(|(name, _)| {
        let pair = pair(Measure::Dice)?;
        Some(Versus {
            control: name.clone(),
            difference: interval(&pair.mean),
            better: pair.better,
            worse: pair.worse,
            p: pair.test.p,
            p_holm: pair.p_holm,
            hd: change(Measure::Hd),
            hd95: change(Measure::Hd95),
        })
    });
    let empty = own
        .iter()
        .flat_map(|(_, report)| &report.cases)
        .filter(|case| {
            let mut metrics = case.metrics.values();
            metrics
                .next()
                .is_some_and(|m| m.get(Measure::VolumeMl) == Some(0.0))
        });
    let missing: usize = own.iter().map(|(_, report)| report.missing.len()).sum();
    Ok(Row {
        method: String::new(),
        labels: None,
        phase: String::new(),
        distribution: String::new(),
        n: comparison.units.len(),
        without_mask: empty.count() + missing,
        runs: own.len(),
        dice: level(Measure::Dice),
        hd: level(Measure::Hd),
        hd95: level(Measure::Hd95),
        dice_sd_of_seeds: spread(own),
        versus,
        paper: None,
    })
}

fn interval(found: &Bootstrap) -> Level {
    Level {
        mean: found.estimate,
        low: found.low,
        high: found.high,
    }
}

/// The standard deviation between seeds of the mean Dice over cases.
fn spread(own: &[(u64, Report)]) -> Option<f64> {
    let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (seed, report) in own {
        let scored = report.cases.iter().map(|c| &c.metrics);
        let all = scored.chain(report.missing.iter().map(|c| &c.metrics));
        let dice = all.filter_map(|m| m.values().next()?.dice);
        by_seed.entry(*seed).or_default().extend(dice);
    }
    let means: Vec<f64> = by_seed
        .values()
        .filter(|values| !values.is_empty())
        .map(|values| values.iter().sum::<f64>() / values.len() as f64)
        .collect();
    if means.len() < 2 {
        return None;
    }
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    let squares: f64 = means.iter().map(|m| (m - mean).powi(2)).sum();
    Some((squares / (means.len() - 1) as f64).sqrt())
}

/// Holm's correction over all tests of the table.
fn correct(rows: &mut [Row]) {
    let tested = rows.iter_mut().filter_map(|row| row.versus.as_mut());
    let mut tested: Vec<&mut Versus> = tested.collect();
    tested.sort_by(|a, b| a.p.total_cmp(&b.p));
    let count = tested.len();
    let mut largest = 0.0f64;
    for (i, versus) in tested.into_iter().enumerate() {
        largest = largest.max((versus.p * (count - i) as f64).min(1.0));
        versus.p_holm = largest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_metrics::{CaseMetrics, CaseResult};

    fn report(dice: &[f64]) -> Report {
        let case = |(i, &dice): (usize, &f64)| CaseResult {
            reference_file: format!("references/p{i}.nii.gz"),
            group: BTreeMap::from([
                ("phase".to_owned(), "T2WI".to_owned()),
                (
                    "vendor".to_owned(),
                    if i == 0 { "C" } else { "A" }.to_owned(),
                ),
            ]),
            metrics: BTreeMap::from([(
                "1".to_owned(),
                CaseMetrics {
                    dice: Some(dice),
                    hd95: Some(100.0 * (1.0 - dice)),
                    ..CaseMetrics::default()
                },
            )]),
            ..CaseResult::default()
        };
        Report {
            cases: dice.iter().enumerate().map(case).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn seeds_are_averaged_case_by_case() {
        let runs = [(1, report(&[0.5, 0.7])), (2, report(&[0.7, 0.9]))];
        let mean = averaged(&runs);
        let dice = |i: usize| mean.cases[i].metrics["1"].dice.unwrap();
        assert!((dice(0) - 0.6).abs() < 1e-12 && (dice(1) - 0.8).abs() < 1e-12);
        let sd = spread(&runs).unwrap();
        assert!((sd - 0.2f64 / 2f64.sqrt()).abs() < 1e-12, "{sd}");
        assert!(spread(&runs[..1]).is_none());
    }

    #[test]
    fn rows_part_by_phase_and_distribution() {
        let text = "name = \"e\"\ndatasets.target.path = \"d\"\nvariants = [{name = \"v\"}]\n";
        let experiment: Experiment = toml::from_str(text).unwrap();
        let whole = report(&[0.5, 0.7, 0.9]);
        let found = groups(&experiment, &[&whole]);
        let expected = ["all", "in", "out"].map(|d| ("T2WI".to_owned(), d.to_owned()));
        assert_eq!(found, expected);
        let count = |distribution| part(&whole, "T2WI", distribution, &experiment).cases.len();
        assert_eq!([count("all"), count("in"), count("out")], [3, 2, 1]);
        let own = [(1, report(&[0.6, 0.8, 0.95, 0.9, 0.9, 0.9]))];
        let control = (
            &"supervised".to_owned(),
            vec![(1, report(&[0.5, 0.7, 0.9, 0.8, 0.8, 0.8]))],
        );
        let row = row(&experiment, &own, Some(control)).unwrap();
        let versus = row.versus.unwrap();
        assert_eq!((versus.better, versus.worse, row.n), (6, 0, 6));
        assert!(versus.difference.low > 0.0 && versus.p < 0.04);
        // A distance is better where it is shorter; cases here have no plain one.
        let hd95 = versus.hd95.unwrap();
        assert!(hd95.difference.high < 0.0 && hd95.p < 0.04);
        assert!((hd95.difference.mean + 100.0 * versus.difference.mean).abs() < 1e-9);
        assert_eq!((hd95.better, hd95.worse, versus.hd), (6, 0, None));
    }
}
