//! Masks of a run made and measured.

use super::config::{Cascade, EvaluateOn, EvaluationSettings, Experiment};
use super::grid::PlannedRun;
use super::prepare::Prepared;
use crate::evaluate::{Evaluation, evaluate};
use crate::predict::{FolderOptions, ImageFile, Model, Postprocessing, predict_cases};
use crate::run::{write_file, write_json};
use crate::{Error, Result, RunConfig, RunFolder};
use liseg_data::{Dataset, Subset, phases_of};
use liseg_metrics::{Report, Settings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How masks are made, and on which cases they are judged; `judging.json` beside them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Judging {
    on: Vec<EvaluateOn>,
    phases: Vec<String>,
    keep_largest: bool,
    fill_holes: bool,
    as_chosen: bool,
    cascade: Option<Cascade>,
}

impl Judging {
    fn of(settings: &EvaluationSettings, run: &PlannedRun) -> Self {
        Self {
            on: settings.on.clone(),
            phases: settings.phases.clone(),
            keep_largest: settings.keep_largest && run.clean,
            fill_holes: settings.fill_holes && run.clean,
            as_chosen: settings.as_chosen && run.clean,
            cascade: run.cascade.clone(),
        }
    }

    /// Whether what lies in a run's folder was made this way.
    fn is_recorded(&self, folder: &Path) -> bool {
        let text = liseg_file::read_text(folder.join("judging.json"));
        let recorded = text.map(|text| serde_json::from_str::<Self>(&text));
        matches!(recorded, Ok(Ok(recorded)) if recorded == *self)
    }

    /// Makes room in a run's folder: what was made in another way goes.
    fn begin(&self, folder: &Path) -> Result<()> {
        if !self.is_recorded(folder) {
            let metrics = folder.join("metrics.json");
            if metrics.is_file() {
                std::fs::remove_file(&metrics).map_err(Error::io(&metrics))?;
            }
            for made in ["masks", "references"].map(|name| folder.join(name)) {
                if made.is_dir() {
                    std::fs::remove_dir_all(&made).map_err(Error::io(&made))?;
                }
            }
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            write_json(&folder.join("judging.json"), self)?;
        }
        Ok(())
    }
}

/// Whether a run was judged, and in the way in which it would be now.
pub(super) fn is_judged(experiment: &Experiment, prepared: &Prepared, run: &PlannedRun) -> bool {
    let judging = Judging::of(&experiment.evaluate, run);
    prepared.metrics_file(&run.id).is_file() && judging.is_recorded(&prepared.run_folder(&run.id))
}

/// A case to judge.
struct Judged {
    id: String,
    image: PathBuf,
    label: PathBuf,
    phase: Option<String>,
}

/// Predicts and measures the cases of a run.
pub(super) fn judge(
    experiment: &Experiment,
    prepared: &Prepared,
    run: &PlannedRun,
    config: &RunConfig,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Report>> {
    let dataset = &prepared.datasets["target"];
    let folder = prepared.run_folder(&run.id);
    let judging = Judging::of(&experiment.evaluate, run);
    judging.begin(&folder)?;
    let run_folder = RunFolder::open(&prepared.training_folder(run))?;
    let cases = cases(&judging, dataset, &run_folder)?;
    let references = folder.join("references");
    std::fs::create_dir_all(&references).map_err(Error::io(&references))?;
    let mut images = Vec::new();
    for case in cases {
        let name = case.label.file_name().unwrap_or_default();
        let copy = references.join(name);
        if !copy.is_file() {
            let bytes = liseg_file::read(&case.label).map_err(Error::io(&case.label))?;
            write_file(&copy, &bytes)?;
        }
        images.push(ImageFile {
            name: PathBuf::from(case.id),
            image: case.image,
            phase: case.phase,
            label: Some(case.label),
        });
    }
    let mut model = model_of(prepared, &run_folder, config, &judging)?;
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

/// What a run learnt, with the way in which its masks are made and cleaned.
fn model_of(
    prepared: &Prepared,
    learnt: &RunFolder,
    config: &RunConfig,
    judging: &Judging,
) -> Result<Model> {
    let device = config.device.resolve()?;
    let mut model = Model::of_run(learnt, device, config.precision)?;
    if !(judging.as_chosen && learnt.postprocessing_file().is_file()) {
        model.postprocessing = Postprocessing::of(judging.keep_largest, judging.fill_holes, None);
    }
    if let Some(cascade) = &judging.cascade {
        let by = cascade.by.as_ref().map(|id| {
            let folder = RunFolder::open(&prepared.training_folder_of(id))?;
            Model::of_run(&folder, device, config.precision)
        });
        model = model.coarse_to_fine(cascade.margin_mm, by.transpose()?);
    }
    Ok(model)
}

/// Refuses an experiment whose runs could not be judged, before any of them is trained.
pub(super) fn check_cases(experiment: &Experiment, folder: &Path) -> Result<()> {
    let (on, phases) = (&experiment.evaluate.on, &experiment.evaluate.phases);
    if !with_labels(on, phases, &Dataset::open(folder)?)?.is_empty() {
        return Ok(());
    }
    let target = &experiment.datasets["target"];
    let way_out = match target.phantom.is_some() && target.path.is_some() {
        true => "; or take datasets.target.path out to let the phantom stand in",
        false => "",
    };
    Err(nothing_to_judge_by(folder, on, phases, way_out))
}

/// The cases that a run is judged on.
fn cases(judging: &Judging, folder: &Path, run: &RunFolder) -> Result<Vec<Judged>> {
    let learnt: BTreeSet<String> = run.training_cases()?.into_iter().collect();
    let (on, phases) = (&judging.on, &judging.phases);
    let mut found = with_labels(on, phases, &Dataset::open(folder)?)?;
    found.retain(|case| !learnt.contains(&case.id));
    if found.is_empty() {
        return Err(nothing_to_judge_by(folder, on, phases, ""));
    }
    Ok(found)
}

/// The cases with a label among those of some subsets and phases, all phases when empty.
fn with_labels(on: &[EvaluateOn], phases: &[String], dataset: &Dataset) -> Result<Vec<Judged>> {
    let phases = phases_of("evaluate.phases", phases, dataset.cases())?;
    let subsets = on.iter().map(|on| match on {
        EvaluateOn::Test => Subset::Test,
        EvaluateOn::HeldBack => Subset::Labelled,
    });
    let cases = subsets.flat_map(|subset| dataset.subset(subset));
    let wanted = cases.filter(|case| {
        let named = |phase: &String| phases.contains(phase);
        phases.is_empty() || case.phase.as_ref().is_some_and(named)
    });
    let judged = wanted.filter_map(|case| {
        Some(Judged {
            id: case.id.clone(),
            image: case.image.clone(),
            label: case.label.clone()?,
            phase: case.phase.clone(),
        })
    });
    Ok(judged.collect())
}

fn nothing_to_judge_by(
    folder: &Path,
    on: &[EvaluateOn],
    phases: &[String],
    way_out: &str,
) -> Error {
    let places = on.iter().map(|on| match on {
        EvaluateOn::Test => "labelsTs",
        EvaluateOn::HeldBack => "labelsTr, not learnt from",
    });
    let places: Vec<&str> = places.collect();
    let phases = match phases {
        [] => String::new(),
        some => format!(" of {}", some.join(", ")),
    };
    Error::Run {
        path: folder.to_owned(),
        reason: format!(
            "no case{phases} has a label to judge by (evaluate.on: {}); add labels, or change evaluate.on or \
             evaluate.phases{way_out}",
            places.join("; ")
        ),
    }
}
