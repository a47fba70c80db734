//! `liseg demo`.

use super::evaluate::{cases_beside, evaluate_with_progress, print_report};
use super::occupied::refuse_occupied;
use super::plan::{print_plan, report_findings};
use super::predict::predict_with_progress;
use super::train::{apply_shared, train_with_progress};
use super::{Failure, Outcome, Result, Shared, print_json, progress, say};
use liseg::augment::{AugmentConfig, Axis};
use liseg::data::{Dataset, Fingerprint, Plan, PlanOptions, preprocess_dataset};
use liseg::engine::evaluate::Evaluation;
use liseg::engine::predict::{FolderOptions, Model, Postprocessing, find_images};
use liseg::engine::{RunConfig, RunFolder, TrainOutcome};
use liseg::metrics::{Measure, Report, Settings};
use liseg::nn::Precision;
use liseg::phantom::{PhantomConfig, Resolution, write_nnunet};
use liseg::report::{EvaluationSpec, ReportSpec, RunSpec, write_report};
use liseg::ssl::{CpsConfig, StrategyConfig};
use liseg::volume::Seed;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything on generated data: from a phantom dataset to masks, metrics and a report.
///
/// Makes a small multi-phase, multi-vendor dataset in which few scans have labels, trains a network
/// on the labelled ones, goes on with cross pseudo supervision on the unlabelled ones, segments
/// held-out patients with both, and compares them. A few minutes on two CPU cores. After an interruption
/// the same call goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Folder for everything: a new one, an empty one, or that of a demo with the same options, which goes on.
    #[arg(long, value_name = "DIR", default_value = "liseg-demo")]
    out: PathBuf,
    /// Patients of the phantom dataset, held-out ones included.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(8..))]
    patients: u16,
    /// Training steps of each of the two stages.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
}

/// Patients with labels, and held-out ones.
const LABELLED: usize = 4;
const TEST: usize = 3;
/// A network of half STU-Net-S's width: enough for the phantom, and quick.
const WIDTHS: [i64; 6] = [8, 16, 32, 64, 128, 128];

impl Demo {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        self.begin(shared)?;
        let start = Instant::now();
        let stages = Stages {
            out: &self.out,
            shared,
        };
        stages.say(1, "making a phantom dataset");
        let dataset = stages.dataset(self.patients.into())?;
        stages.say(2, "planning and preprocessing");
        stages.preprocess(&dataset)?;
        stages.say(3, "training on the labelled scans");
        let steps = u64::from(self.steps);
        let supervised = stages.train("supervised", &stages.supervised(steps))?;
        stages.say(4, "cross pseudo supervision with the unlabelled scans");
        let config = stages.cps(steps, &supervised.last_checkpoint());
        let cps = stages.train("cps", &config)?;
        stages.say(5, "segmenting held-out patients and measuring");
        let mut reports = Vec::new();
        for (name, run) in [("supervised", &supervised), ("cps", &cps)] {
            reports.push((name, stages.judge(name, run, &dataset)?));
        }
        stages.say(6, "writing the report");
        let page = stages.report(&reports, start)?;
        summarize(&reports, &page, start, shared);
        Ok(Outcome::Done)
    }
}

impl Demo {
    /// Takes the folder: one that this demo began before, or one that holds nothing.
    fn begin(&self, shared: &Shared) -> Result<()> {
        let failed = |path: &Path, e| Failure::work(format!("{}: {e}", path.display()));
        let record = self.out.join("demo.json");
        let settings = json!({
            "patients": self.patients,
            "steps": self.steps,
            "seed": shared.seed,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let found = liseg_file::read_text(&record).ok();
        let found = found.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let out = self.out.display();
        match found {
            Some(found) if found == settings => {
                progress::note(shared, None, &format!("going on with the demo in {out}"));
                return Ok(());
            }
            Some(found) => {
                return Err(Failure::usage(format!(
                    "{out} holds a demo with other settings ({found}); give the same, remove it, or choose another --out"
                )));
            }
            None => refuse_occupied(&self.out)?,
        }
        std::fs::create_dir_all(&self.out).map_err(|e| failed(&self.out, e))?;
        liseg_file::write(&record, format!("{settings:#}\n")).map_err(|e| failed(&record, e))
    }
}

/// The steps of the demo, all in one folder.
struct Stages<'a> {
    out: &'a Path,
    shared: &'a Shared,
}

impl Stages<'_> {
    fn say(&self, number: usize, what: &str) {
        progress::note(self.shared, None, &format!("[{number}/6] {what}"));
    }

    fn at(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn seed(&self) -> Seed {
        Seed(self.shared.seed.unwrap_or(1))
    }

    fn dataset(&self, patients: usize) -> Result<Dataset> {
        let folder = self.at("dataset");
        // It has its name since it was whole.
        if folder.is_dir() {
            return Ok(Dataset::open(&folder)?);
        }
        let config = PhantomConfig::default()
            .with_seed(self.seed())
            .with_patients(patients.saturating_sub(TEST), LABELLED, TEST)
            .with_resolution(Resolution::Small);
        let spinner = progress::spinner(self.shared, "drawing patients");
        let written = write_nnunet(&config, &folder);
        spinner.finish_and_clear();
        written?;
        Ok(Dataset::open(&folder)?)
    }

    fn preprocess(&self, dataset: &Dataset) -> Result<()> {
        report_findings(&dataset.check())?;
        let options = PlanOptions {
            max_patch_voxels: 32 * 80 * 80,
            ..PlanOptions::default()
        };
        let plan = Plan::new(dataset, &Fingerprint::of(dataset)?, &options)?;
        if !self.shared.quiet && !self.shared.json {
            print_plan(&plan);
        }
        let report = preprocess_dataset(
            dataset,
            &plan,
            &self.at("data"),
            &Default::default(),
            |_| {},
        )?;
        match report.failed.into_iter().next() {
            Some((case, error)) => Err(Failure::work(format!("{case}: {error}"))),
            None => Ok(()),
        }
    }

    /// Everything the two stages share.
    fn config(&self, steps: u64) -> RunConfig {
        let mut config = RunConfig::new(self.at("data"));
        config.seed = self.seed();
        config.unlabelled_phases = vec!["GED4".into()];
        config.network.widths = Some(WIDTHS.to_vec());
        config.training.iterations_per_epoch = steps.div_ceil(5).max(1);
        config.training.epochs = steps.div_ceil(config.training.iterations_per_epoch);
        config.training.warm_up = 10;
        // The liver is on the right: no left-right mirroring.
        config.augment = AugmentConfig {
            mirror_axes: vec![Axis::Z],
            ..AugmentConfig::default()
        };
        apply_shared(&mut config, self.shared);
        config
    }

    fn supervised(&self, steps: u64) -> RunConfig {
        let mut config = self.config(steps);
        config.training.learning_rate = 2e-3;
        config
    }

    fn cps(&self, steps: u64, weights: &Path) -> RunConfig {
        let mut config = self.config(steps);
        config.strategy = StrategyConfig::Cps(CpsConfig::default());
        config.network.weights = Some(weights.to_owned());
        config.training.learning_rate = 1e-3;
        config
    }

    fn train(&self, name: &str, config: &RunConfig) -> Result<RunFolder> {
        let folder = self.at(name);
        match train_with_progress(config, &folder, true, self.shared)? {
            TrainOutcome::Finished => Ok(RunFolder::open(&folder)?),
            TrainOutcome::Stopped { .. } => Err(stopped()),
        }
    }

    fn judge(&self, name: &str, run: &RunFolder, dataset: &Dataset) -> Result<Report> {
        let device = self.shared.device.unwrap_or_default().resolve()?;
        let mut model = Model::of_run(run, device, Precision::Auto)?;
        model.postprocessing = Postprocessing::of(true, false, None);
        let masks = self.at("masks").join(name);
        let images = find_images(&dataset.folder().join("imagesTs"), Some(&masks))?.images;
        let quiet = Shared {
            quiet: true,
            ..self.shared.clone()
        };
        let outcome = predict_with_progress(
            &mut model,
            &images,
            &masks,
            FolderOptions {
                resume: true,
                ..FolderOptions::default()
            },
            &quiet,
        )?;
        if outcome.stopped {
            return Err(stopped());
        }
        let references = dataset.folder().join("labelsTs");
        let report = evaluate_with_progress(
            &Evaluation {
                predictions: masks,
                cases: cases_beside(&references),
                references,
                labels: Vec::new(),
                settings: Settings::default(),
            },
            self.shared,
        )?;
        report.write_json(&self.metrics_file(name))?;
        report.write_csv(&self.at(&format!("metrics-{name}.csv")))?;
        Ok(report)
    }

    fn metrics_file(&self, name: &str) -> PathBuf {
        self.at(&format!("metrics-{name}.json"))
    }

    fn report(&self, reports: &[(&str, Report)], start: Instant) -> Result<PathBuf> {
        let names = reports.iter().map(|(name, _)| (*name).to_owned());
        let spec = ReportSpec {
            title: "LiSeg demo: few labels, many scans".into(),
            summary: vec![
                (
                    "data".into(),
                    "phantom: generated multi-phase abdominal MRI".into(),
                ),
                ("labelled scans".into(), format!("{LABELLED} (GED4 only)")),
                ("held-out patients".into(), TEST.to_string()),
                ("network".into(), "STU-Net at half the width of S".into()),
                ("seed".into(), self.seed().0.to_string()),
                (
                    "time".into(),
                    format!("{:.0} s", start.elapsed().as_secs_f64()),
                ),
                ("LiSeg".into(), env!("CARGO_PKG_VERSION").into()),
            ],
            runs: names
                .clone()
                .map(|name| RunSpec {
                    metrics_file: self.at(&name).join("metrics.jsonl"),
                    name,
                })
                .collect(),
            evaluations: names
                .map(|name| EvaluationSpec {
                    metrics_file: self.metrics_file(&name),
                    images: vec![self.at("dataset/imagesTs")],
                    name,
                })
                .collect(),
            worst_cases: 1,
            ..ReportSpec::default()
        };
        Ok(write_report(&spec, &self.at("report"))?)
    }
}

fn stopped() -> Failure {
    Failure::work("stopped; the same call goes on")
}

fn summarize(reports: &[(&str, Report)], page: &Path, start: Instant, shared: &Shared) {
    if shared.json {
        let metrics: serde_json::Map<String, serde_json::Value> = reports
            .iter()
            .map(|(name, report)| ((*name).to_owned(), report.to_summary_json()))
            .collect();
        print_json(&json!({
            "report": page,
            "metrics": metrics,
            "seconds": start.elapsed().as_secs_f64(),
        }));
        return;
    }
    for (name, report) in reports {
        say!("\n{name}");
        print_report(report);
    }
    let mean = |report: &Report, measure| {
        let aggregates = report.aggregates();
        aggregates
            .get("1")
            .and_then(|m| m.get(&measure))
            .and_then(|s| s.mean)
    };
    for (name, report) in reports {
        if let (Some(dice), Some(hd95)) = (mean(report, Measure::Dice), mean(report, Measure::Hd95))
        {
            say!("{name:<12} mean Dice {dice:.4}, mean HD95 {hd95:.1} mm");
        }
    }
    say!(
        "\ndone in {:.0} s; open {} in a browser",
        start.elapsed().as_secs_f64(),
        page.display()
    );
}

#[cfg(test)]
mod tests {
    use crate::command::{Arguments, Verb};
    use clap::Parser;

    #[test]
    fn a_second_call_goes_on_and_nothing_of_others_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |name: &str, options: &[&str]| {
            let out = folder.path().join(name);
            let call = ["liseg", "-q", "demo", "--out", out.to_str().unwrap()];
            let arguments = Arguments::try_parse_from(call.iter().chain(options)).unwrap();
            let Verb::Demo(demo) = &arguments.verb else {
                panic!("{arguments:?}")
            };
            demo.begin(&arguments.shared)
                .map_err(|failure| failure.to_string())
        };
        begin("demo", &[]).unwrap();
        std::fs::write(folder.path().join("demo/report"), "").unwrap();
        begin("demo", &[]).unwrap();
        for other in [["--steps", "7"], ["--seed", "2"]] {
            let refused = begin("demo", &other).unwrap_err();
            assert!(refused.contains("other settings"), "{refused}");
        }
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(folder.path().join("mine/notes"), "").unwrap();
        let refused = begin("mine", &[]).unwrap_err();
        assert!(refused.contains("not an empty folder"), "{refused}");
        assert!(!folder.path().join("mine/demo.json").exists());
    }
}
