//! Datasets made ready, runs trained, masks judged.

use super::config::{DatasetSource, EvaluateOn, EvaluationSettings, Experiment};
use super::grid::{ExperimentPlan, PlannedRun};
use super::table::ResultTable;
use crate::evaluate::{Evaluation, evaluate};
use crate::predict::{FolderOptions, ImageFile, Model, Postprocessing, predict_cases};
use crate::{Error, Result, RunConfig, RunFolder, TrainEvent, TrainOptions, TrainOutcome, train};
use liseg_data::{Dataset, Fingerprint, Plan, PreprocessOptions, Subset, preprocess_dataset};
use liseg_metrics::{Report, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What happens while an experiment runs.
#[derive(Debug)]
pub enum ExperimentEvent<'a> {
    /// A dataset is being made ready.
    Preparing {
        /// Its name.
        dataset: &'a str,
        /// What is being done.
        what: &'a str,
    },
    /// A run begins.
    Run {
        /// The run.
        run: &'a PlannedRun,
        /// Its place, from 0.
        index: usize,
        /// How many there are.
        total: usize,
        /// Whether its result is there already.
        finished: bool,
    },
    /// What the training of the current run tells.
    Training(TrainEvent<'a>),
    /// The masks of the current run are being made and judged.
    Judging,
}

/// An experiment whose datasets are ready and whose runs are laid out.
#[derive(Debug)]
pub struct Prepared {
    /// The folder of the experiment.
    pub folder: PathBuf,
    /// The raw datasets by name, without those made of others.
    pub datasets: BTreeMap<String, PathBuf>,
    /// Which of them are phantoms.
    pub phantoms: BTreeMap<String, bool>,
    /// The grid.
    pub plan: ExperimentPlan,
}

impl Prepared {
    /// The folder of a run.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.folder.join("runs").join(id)
    }

    /// The folder of what a run learnt, which may be another run's of the same settings.
    pub fn training_folder(&self, run: &PlannedRun) -> PathBuf {
        self.run_folder(&run.trained_as)
    }

    /// The folder of what the run of this name learnt.
    fn training_folder_of(&self, id: &str) -> PathBuf {
        let run = self.plan.runs.iter().find(|run| run.id == id);
        run.map_or_else(|| self.run_folder(id), |run| self.training_folder(run))
    }

    /// What a run is judged as; absent until it is.
    pub fn metrics_file(&self, id: &str) -> PathBuf {
        self.run_folder(id).join("metrics.json")
    }
}

/// Makes phantoms where data are missing, plans every dataset, preprocesses those that are trained on, and lays
/// out the runs. What is there already is left as it is.
///
/// # Errors
/// When a dataset is neither there nor can be made, or a variant's settings are wrong.
pub fn prepare(
    experiment: &Experiment,
    folder: &Path,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
) -> Result<Prepared> {
    let data = |name: &str| folder.join("data").join(name);
    let given = |source: &DatasetSource| source.path.clone().filter(|path| path.is_dir());
    let sources = experiment.datasets.iter();
    let phantoms = sources.map(|(name, source)| (name.clone(), source.is_phantom()));
    let phantoms: BTreeMap<String, bool> = phantoms.collect();
    // The settings are checked before any work.
    let plan = experiment.plan(&phantoms, &data)?;
    let mut datasets = BTreeMap::new();
    let own = |(_, source): &(&String, &DatasetSource)| !source.is_joined();
    for (name, source) in experiment.datasets.iter().filter(own) {
        let path = match (given(source), &source.phantom) {
            (Some(path), _) => path,
            (None, Some(phantom)) => {
                let path = folder.join("datasets").join(name);
                if !path.join("dataset.json").is_file() {
                    let what = "drawing a phantom";
                    on_event(ExperimentEvent::Preparing {
                        dataset: name,
                        what,
                    });
                    let failed = |e: liseg_phantom::Error| Error::Run {
                        path: path.clone(),
                        reason: e.to_string(),
                    };
                    liseg_phantom::write_nnunet(phantom, &path).map_err(failed)?;
                }
                path
            }
            (None, None) => {
                return Err(Error::Run {
                    path: source.path.clone().unwrap_or_default(),
                    reason: format!(
                        "datasets.{name} is not there; give its folder, or a phantom to stand in"
                    ),
                });
            }
        };
        datasets.insert(name.clone(), path);
    }
    let mut plans: BTreeMap<&str, Plan> = BTreeMap::new();
    let mut order: Vec<&String> = experiment.datasets.keys().collect();
    order.sort_by_key(|name| experiment.datasets[*name].plan_of.is_some());
    for name in order {
        let source = &experiment.datasets[name];
        let open = |names: &[String]| {
            let opened = names.iter().map(|name| Ok(Dataset::open(&datasets[name])?));
            opened.collect::<Result<Vec<Dataset>>>()
        };
        let dataset = match source.is_joined() {
            true => Dataset::joined(
                &open(&source.labelled_from)?,
                &open(&source.unlabelled_from)?,
            )?,
            false => Dataset::open(&datasets[name])?,
        };
        on_event(ExperimentEvent::Preparing {
            dataset: name,
            what: "planning and preprocessing",
        });
        let plan = match source.plan_of.as_deref().and_then(|other| plans.get(other)) {
            Some(plan) => plan.clone(),
            None => Plan::new(&dataset, &Fingerprint::of(&dataset)?, &source.plan)?,
        };
        if experiment.variants.iter().any(|v| v.dataset == *name) {
            let options = PreprocessOptions::default();
            let report = preprocess_dataset(&dataset, &plan, &data(name), &options, |_| {})?;
            if let Some((case, error)) = report.failed.into_iter().next() {
                return Err(Error::Run {
                    path: data(name).join(case),
                    reason: error.to_string(),
                });
            }
        }
        plans.insert(name, plan);
    }
    Ok(Prepared {
        folder: folder.to_owned(),
        datasets,
        phantoms,
        plan,
    })
}

/// Does every run that is not done yet and makes the table; `None` when it was told to stop.
///
/// A run is done when its `metrics.json` is there; one that was interrupted goes on from its last
/// checkpoint.
///
/// # Errors
/// When a run fails, or was made with other settings than the experiment says now.
pub fn run_experiment(
    experiment: &Experiment,
    prepared: &Prepared,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<Option<ResultTable>> {
    let total = prepared.plan.runs.len();
    let mut reports = Vec::new();
    for (index, run) in prepared.plan.runs.iter().enumerate() {
        let file = prepared.metrics_file(&run.id);
        let method = prepared.plan.methods.iter().find(|m| m.name == run.method);
        let has_row = method.is_some_and(|m| m.row);
        // A preparation is not judged; training says at once that it is done.
        let finished = has_row && file.is_file();
        on_event(ExperimentEvent::Run {
            run,
            index,
            total,
            finished,
        });
        if finished {
            refuse_other_settings(prepared, run)?;
        } else {
            let config = ready(prepared, run)?;
            let options = TrainOptions {
                folder: prepared.training_folder(run),
                resume: true,
            };
            let mut tell = |event: TrainEvent<'_>| on_event(ExperimentEvent::Training(event));
            if train(&config, &options, &mut tell, stop)? != TrainOutcome::Finished {
                return Ok(None);
            }
            if !has_row {
                continue;
            }
            on_event(ExperimentEvent::Judging);
            let Some(report) = judge(experiment, prepared, run, &config, stop)? else {
                return Ok(None);
            };
            report.write_json(&file)?;
        }
        if stop() {
            return Ok(None);
        }
        reports.push((run, Report::read_json(&file)?));
    }
    Ok(Some(ResultTable::of(experiment, prepared, &reports)?))
}

/// The run's config, with the weights that it starts from.
fn ready(prepared: &Prepared, run: &PlannedRun) -> Result<RunConfig> {
    let mut config = run.config.clone();
    if let Some(after) = &run.after {
        let weights = RunFolder::open(&prepared.training_folder_of(after))?.weights()?;
        config.network.weights = Some(weights);
    }
    Ok(config)
}

fn refuse_other_settings(prepared: &Prepared, run: &PlannedRun) -> Result<()> {
    let folder = RunFolder::open(&prepared.training_folder(run))?;
    let recorded = RunConfig::read(&folder.config_file(), &[])?;
    let comparable = |config: &RunConfig| RunConfig {
        loader: Default::default(),
        device: Default::default(),
        ..config.clone()
    };
    if comparable(&recorded) == comparable(&ready(prepared, run)?) {
        return Ok(());
    }
    Err(Error::Run {
        path: folder.path().to_owned(),
        reason:
            "this run was made with other settings; remove its folder to do it anew, or choose \
                 another --out"
                .into(),
    })
}

/// A case to judge.
struct Judged {
    id: String,
    image: PathBuf,
    label: PathBuf,
    phase: Option<String>,
}

/// Predicts and measures the cases of a run.
fn judge(
    experiment: &Experiment,
    prepared: &Prepared,
    run: &PlannedRun,
    config: &RunConfig,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Report>> {
    let settings = &experiment.evaluate;
    let dataset = &prepared.datasets["target"];
    let folder = prepared.run_folder(&run.id);
    let run_folder = RunFolder::open(&prepared.training_folder(run))?;
    let cases = cases(settings, dataset, &run_folder)?;
    let references = folder.join("references");
    std::fs::create_dir_all(&references).map_err(Error::io(&references))?;
    let mut images = Vec::new();
    for case in cases {
        let name = case.label.file_name().unwrap_or_default();
        let copy = references.join(name);
        if !copy.is_file() {
            std::fs::copy(&case.label, &copy).map_err(Error::io(&case.label))?;
        }
        images.push(ImageFile {
            name: PathBuf::from(case.id),
            image: case.image,
            phase: case.phase,
        });
    }
    let device = config.device.resolve()?;
    let mut model = Model::of_run(&run_folder, device, config.precision)?;
    if !(settings.as_chosen && run_folder.postprocessing_file().is_file()) {
        model.postprocessing = Postprocessing::of(settings.keep_largest, settings.fill_holes, None);
    }
    if let Some(cascade) = &run.cascade {
        let by = cascade.by.as_ref().map(|id| {
            let folder = RunFolder::open(&prepared.training_folder_of(id))?;
            Model::of_run(&folder, device, config.precision)
        });
        model = model.coarse_to_fine(cascade.margin_mm, by.transpose()?);
    }
    let masks = folder.join("masks");
    let options = FolderOptions {
        resume: true,
        ..FolderOptions::default()
    };
    let outcome = predict_cases(&mut model, &images, &masks, options, &mut |_| !stop())?;
    if outcome.stopped {
        return Ok(None);
    }
    if let Some((_, error)) = outcome.failed.into_iter().next() {
        return Err(error);
    }
    let listed = dataset.join("cases.json");
    let judged = Evaluation {
        predictions: masks,
        references,
        cases: listed.is_file().then_some(listed),
        labels: Vec::new(),
        settings: Settings::default(),
    };
    Ok(Some(evaluate(&judged, &|_, _| {})?))
}

/// The cases that a run is judged on.
fn cases(settings: &EvaluationSettings, folder: &Path, run: &RunFolder) -> Result<Vec<Judged>> {
    let dataset = Dataset::open(folder)?;
    let learnt: BTreeSet<String> = run.training_cases()?.into_iter().collect();
    let mut found = Vec::new();
    for on in &settings.on {
        let subset = match on {
            EvaluateOn::Test => Subset::Test,
            EvaluateOn::HeldBack => Subset::Labelled,
        };
        for case in dataset.subset(subset) {
            let Some(label) = &case.label else { continue };
            let phase = case.phase.as_ref();
            let wanted = settings.phases.is_empty()
                || phase.is_some_and(|phase| settings.phases.contains(phase));
            if wanted && !learnt.contains(&case.id) {
                found.push(Judged {
                    id: case.id.clone(),
                    image: case.image.clone(),
                    label: label.clone(),
                    phase: phase.cloned(),
                });
            }
        }
    }
    if found.is_empty() {
        return Err(Error::Run {
            path: folder.to_owned(),
            reason: "no case with a label to judge by; see evaluate.on and evaluate.phases".into(),
        });
    }
    Ok(found)
}
