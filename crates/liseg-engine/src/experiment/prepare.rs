//! Datasets made ready, and the grid laid out.

use super::config::{DatasetSource, Experiment};
use super::event::ExperimentEvent;
use super::grid::{ExperimentPlan, PlannedRun, SPLIT_FILE};
use super::judge::check_cases;
use crate::trainer::{check_roles, lay_out};
use crate::{Error, Result, run::write_json};
use liseg_data::{
    CaseStore, Dataset, Fingerprint, Plan, PreprocessOptions, SplitProtocol, preprocess_dataset,
    write_splits,
};
use liseg_phantom::PhantomConfig;
use liseg_ssl::StrategyConfig;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Whether the table has a row for a run; one that only prepares others has none, and is not judged.
    pub fn has_row(&self, run: &PlannedRun) -> bool {
        let methods = &self.plan.methods;
        methods.iter().any(|m| m.name == run.method && m.row)
    }

    /// The folder of a run.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.folder.join("runs").join(id)
    }

    /// The folder of what a run learnt, which may be another run's of the same settings.
    pub fn training_folder(&self, run: &PlannedRun) -> PathBuf {
        self.run_folder(&run.trained_as)
    }

    /// The folder of what the run of this name learnt.
    pub(super) fn training_folder_of(&self, id: &str) -> PathBuf {
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
    let prepared = reopen(experiment, folder, on_event)?;
    let Prepared {
        datasets, phantoms, ..
    } = &prepared;
    check_cases(experiment, &datasets["target"])?;
    let mut plans: BTreeMap<&str, Plan> = BTreeMap::new();
    let mut order: Vec<&String> = experiment.datasets.keys().collect();
    order.sort_by_key(|name| experiment.datasets[*name].plan_of.is_some());
    for name in order {
        let source = &experiment.datasets[name];
        let dataset = open(name, source, datasets)?;
        on_event(ExperimentEvent::Preparing {
            dataset: name,
            what: "planning and preprocessing",
        });
        let plan = match source.plan_of.as_deref().and_then(|other| plans.get(other)) {
            Some(plan) => plan.clone(),
            None => Plan::new(&dataset, &Fingerprint::of(&dataset)?, source.plan_options())?,
        };
        if experiment.variants.iter().any(|v| v.dataset == *name) {
            let store = data_folder(folder, name);
            preprocess(&dataset, &plan, &store)?;
            if let Some(protocol) = source.split.as_ref().filter(|_| !phantoms[name]) {
                draw_split(name, protocol, &dataset, &store)?;
            }
        }
        plans.insert(name, plan);
    }
    check_runs(&prepared.plan)?;
    Ok(prepared)
}

/// [`prepare`] where that has been done: nothing is planned or preprocessed, so no image is read. (A phantom that is not
/// there is still drawn; its runs then find no preprocessed cases.)
///
/// # Errors
/// When a dataset is not there, or a variant's settings are wrong.
pub fn reopen(
    experiment: &Experiment,
    folder: &Path,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
) -> Result<Prepared> {
    let sources = experiment.datasets.iter();
    let phantoms = sources.map(|(name, source)| (name.clone(), source.is_phantom()));
    let phantoms: BTreeMap<String, bool> = phantoms.collect();
    // The settings are checked before any work.
    let plan = experiment.plan(&phantoms, &|name: &str| data_folder(folder, name))?;
    let mut datasets = BTreeMap::new();
    for (name, source) in &experiment.datasets {
        if !source.is_joined() {
            let drawn = folder.join("datasets").join(name);
            datasets.insert(name.clone(), raw_dataset(name, source, drawn, on_event)?);
        }
    }
    Ok(Prepared {
        folder: folder.to_owned(),
        datasets,
        phantoms,
        plan,
    })
}

/// Where a dataset's preprocessed cases lie.
fn data_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join("data").join(name)
}

/// Lays out every run, so that the last one's wrong settings are told before the first one is trained.
fn check_runs(plan: &ExperimentPlan) -> Result<()> {
    let mut stores: BTreeMap<&Path, CaseStore> = BTreeMap::new();
    for run in &plan.runs {
        let data = run.config.data.as_path();
        if !stores.contains_key(data) {
            stores.insert(data, CaseStore::open(data)?);
        }
        let strategy = &run.config.strategy;
        let unlabelled = !matches!(strategy, StrategyConfig::Supervised(_));
        lay_out(&run.config, &stores[data])
            .and_then(|(_, roles, _)| check_roles(strategy.name(), unlabelled, &roles))
            .map_err(|error| Error::Config {
                path: PathBuf::from(format!("run `{}`", run.id)),
                reason: error.to_string(),
            })?;
    }
    Ok(())
}

/// The folder of a dataset that is there, else of the phantom that stands in, drawn into `drawn`.
fn raw_dataset(
    name: &str,
    source: &DatasetSource,
    drawn: PathBuf,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
) -> Result<PathBuf> {
    if let Some(given) = source.path.clone().filter(|path| path.is_dir()) {
        return Ok(given);
    }
    let Some(phantom) = &source.phantom else {
        return Err(Error::Run {
            path: source.path.clone().unwrap_or_default(),
            reason: format!(
                "datasets.{name} is not there; give its folder, or a phantom to stand in"
            ),
        });
    };
    let settings = drawn.with_extension("phantom.json");
    refuse_other_phantom(name, phantom, &settings)?;
    if !drawn.join("dataset.json").is_file() {
        let what = "drawing a phantom";
        on_event(ExperimentEvent::Preparing {
            dataset: name,
            what,
        });
        liseg_phantom::write_nnunet(phantom, &drawn).map_err(|e| Error::Run {
            path: drawn.clone(),
            reason: e.to_string(),
        })?;
        write_json(&settings, phantom)?;
    }
    Ok(drawn)
}

/// Refuses a phantom that lies there already and was drawn by other settings.
fn refuse_other_phantom(name: &str, wanted: &PhantomConfig, settings: &Path) -> Result<()> {
    let Ok(text) = liseg_file::read_text(settings) else {
        return Ok(());
    };
    let drawn: Option<PhantomConfig> = serde_json::from_str(&text).ok();
    match drawn.is_none_or(|drawn| drawn == *wanted) {
        true => Ok(()),
        false => Err(Error::Config {
            path: PathBuf::from(format!("datasets.{name}.phantom")),
            reason: format!(
                "another phantom was drawn before, with the settings in {}; choose another --out",
                settings.display()
            ),
        }),
    }
}

/// A dataset of its own, or one made of those that have a folder.
fn open(
    name: &str,
    source: &DatasetSource,
    folders: &BTreeMap<String, PathBuf>,
) -> Result<Dataset> {
    if !source.is_joined() {
        return Ok(Dataset::open(&folders[name])?);
    }
    let each = |names: &[String]| {
        let opened = names.iter().map(|name| Ok(Dataset::open(&folders[name])?));
        opened.collect::<Result<Vec<Dataset>>>()
    };
    let labelled = each(&source.labelled_from)?;
    Ok(Dataset::joined(&labelled, &each(&source.unlabelled_from)?)?)
}

/// Writes the fold of a dataset's protocol beside its cases, where its runs look for it.
fn draw_split(name: &str, protocol: &SplitProtocol, dataset: &Dataset, out: &Path) -> Result<()> {
    let fold = protocol.draw(dataset.cases());
    let fold = fold.map_err(|error| Error::Config {
        path: PathBuf::from(format!("datasets.{name}.split")),
        reason: error.to_string(),
    })?;
    Ok(write_splits(&out.join(SPLIT_FILE), &[fold])?)
}

/// Preprocesses every case, or says which one failed.
fn preprocess(dataset: &Dataset, plan: &Plan, out: &Path) -> Result<()> {
    let options = PreprocessOptions::default();
    let report = preprocess_dataset(dataset, plan, out, &options, |_| {})?;
    match report.failed.into_iter().next() {
        Some((case, error)) => Err(Error::Run {
            path: out.join(case),
            reason: error.to_string(),
        }),
        None => Ok(()),
    }
}
