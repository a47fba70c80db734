//! What an experiment can be told.

use crate::{Error, Result};
use liseg_data::{PlanOptions, SplitProtocol};
use liseg_phantom::PhantomConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An experiment, as its file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name, also that of its folder.
    pub name: String,
    /// What it is about, printed above the table.
    #[serde(default)]
    pub description: String,
    /// The datasets by name. Runs take `target` unless their variant names another one.
    pub datasets: BTreeMap<String, DatasetSource>,
    /// Settings of every run, as in a run's config; `data` and `seed` come from the grid.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "serde_json::Map<String, serde_json::Value>")
    )]
    pub run: toml::Table,
    /// Settings that go on top where a phantom stands in for the data: a smaller network, fewer steps.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "serde_json::Map<String, serde_json::Value>")
    )]
    pub phantom_run: toml::Table,
    /// Seeds of first weights, patches, budgets and folds.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Labelled patients to learn from; one run for each number, all patients when empty.
    #[serde(default)]
    pub label_budgets: Vec<usize>,
    /// Values of `validation.fold`; the runs' own when empty.
    #[serde(default)]
    pub folds: Vec<usize>,
    /// Further axes of the grid, such as backbones or augmentations.
    #[serde(default)]
    pub axes: Vec<Axis>,
    /// The methods to compare.
    pub variants: Vec<Variant>,
    /// What semi-supervised methods are compared with.
    #[serde(default)]
    pub control: Control,
    /// In place of `control`: the variant that every other one is compared with, such as a recipe whose
    /// ingredients the others lack one at a time.
    #[serde(default)]
    pub compare_with: Option<String>,
    /// How the results are judged.
    #[serde(default)]
    pub evaluate: EvaluationSettings,
}

/// Where a dataset comes from: a folder where it is there, else a phantom; or the cases of others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DatasetSource {
    /// An nnU-Net raw dataset.
    pub path: Option<PathBuf>,
    /// The phantom to make where `path` is not there.
    pub phantom: Option<PhantomConfig>,
    /// In place of `path` and `phantom`: the datasets whose labelled training cases it has, such as phantoms
    /// or scans of another modality.
    pub labelled_from: Vec<String>,
    /// With `labelled_from`: the datasets whose training images it has without their labels.
    pub unlabelled_from: Vec<String>,
    /// How it is planned.
    pub plan: PlanOptions,
    /// How it is planned where a phantom stands in, in place of `plan`.
    pub phantom_plan: Option<PlanOptions>,
    /// The dataset whose plan is taken, so that weights fit both.
    pub plan_of: Option<String>,
    /// Which patients of `path` are kept back and which unlabelled scans are learnt from, the same for every
    /// run, in place of `run.validation.folds`. A phantom that stands in takes the latter.
    pub split: Option<SplitProtocol>,
    /// Whether `path` holds the data of the paper: only then its figures are shown.
    pub paper: bool,
}

/// What semi-supervised methods are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// The same settings trained on the labelled patches alone, run beside them.
    #[default]
    Supervised,
    /// Nothing.
    None,
}

/// One axis of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// What varies, for the reader.
    pub name: String,
    /// Its values.
    pub values: Vec<AxisValue>,
}

/// One value of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AxisValue {
    /// How tables call it.
    pub name: String,
    /// Settings it stands for.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "serde_json::Map<String, serde_json::Value>")
    )]
    pub set: toml::Table,
}

/// A method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// How tables call it.
    pub name: String,
    /// The dataset it trains on; judged is always `target`.
    #[serde(default = "target")]
    pub dataset: String,
    /// The variant, listed before it, whose weights it starts from.
    #[serde(default)]
    pub after: Option<String>,
    /// Whether its masks are made in two stages: the liver is found first, then segmented.
    #[serde(default)]
    pub cascade: Option<Cascade>,
    /// Whether its masks are cleaned as `evaluate` says; else they stay as predicted.
    #[serde(default = "yes")]
    pub clean: bool,
    /// Whether it has a row of its own; a mere preparation has none, no budget and no fold.
    #[serde(default = "yes")]
    pub row: bool,
    /// Its settings.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "serde_json::Map<String, serde_json::Value>")
    )]
    pub set: toml::Table,
    /// Settings that go on top where a phantom stands in for its dataset.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "serde_json::Map<String, serde_json::Value>")
    )]
    pub phantom_set: toml::Table,
    /// Figures that were published for it.
    #[serde(default)]
    pub paper: Vec<PaperFigure>,
}

/// Coarse localisation, then the fine mask within a box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Cascade {
    /// The variant, listed before it, that finds the liver, such as one trained on coarser images; its
    /// own network, by tiles that do not overlap, when absent.
    pub by: Option<String>,
    /// What is kept around the liver that was found, mm on every side.
    pub margin_mm: f64,
}

impl Default for Cascade {
    fn default() -> Self {
        Self {
            by: None,
            margin_mm: 20.0,
        }
    }
}

/// A published result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PaperFigure {
    /// The phase.
    pub phase: String,
    /// `all`, `in` or `out` of distribution.
    #[serde(default = "all")]
    pub distribution: String,
    /// Dice, 0 to 1.
    pub dice: f64,
    /// Hausdorff distance, mm.
    pub hd: f64,
    /// Whether its network started from pretrained weights: it is then shown beside rows that did alone.
    #[serde(default = "yes")]
    pub pretrained: bool,
}

/// On which cases a run is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EvaluateOn {
    /// `imagesTs` with `labelsTs`.
    Test,
    /// Labelled training cases whose labels the run did not learn from: those of the validation fold
    /// and those beyond the label budget. The run may have seen the latter's images.
    HeldBack,
}

/// How results are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSettings {
    /// On which cases.
    pub on: Vec<EvaluateOn>,
    /// Phases to judge, or `contrast` for GED4 and `non_contrast` for T1WI, T2WI and DWI as in CARE-Liver's
    /// sub-tasks; all that have references when empty.
    pub phases: Vec<String>,
    /// Vendors that no training case comes from: the rows "out of distribution".
    pub out_of_distribution: Vec<String>,
    /// Keep the largest component of every mask.
    pub keep_largest: bool,
    /// Fill holes in every mask.
    pub fill_holes: bool,
    /// Clean masks as each run found best on its validation cases, where it has any, in place of
    /// `keep_largest` and `fill_holes`.
    pub as_chosen: bool,
    /// Samples for the bootstrap intervals.
    pub replicates: usize,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            on: vec![EvaluateOn::Test],
            phases: Vec::new(),
            out_of_distribution: vec!["C".into()],
            keep_largest: true,
            fill_holes: false,
            as_chosen: false,
            replicates: 10_000,
        }
    }
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

fn target() -> String {
    "target".into()
}

fn yes() -> bool {
    true
}

fn all() -> String {
    "all".into()
}

/// Runs of an experiment, at most: they are laid out one by one before the first begins.
const MOST_RUNS: usize = 10_000;

impl Experiment {
    /// Reads an experiment's file.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Config`] naming the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = liseg_file::read_text(path).map_err(Error::io(path))?;
        let refuse = |reason: String| Error::Config {
            path: path.to_owned(),
            reason,
        };
        let experiment: Self = toml::from_str(&text).map_err(|e| {
            let message = e.to_string();
            refuse(message.split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        experiment.check().map_err(refuse)?;
        Ok(experiment)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.variants.is_empty() || self.seeds.is_empty() {
            return Err("an experiment needs at least one variant and one seed".into());
        }
        let lists = [self.variants.len(), self.seeds.len()];
        let lists = lists
            .into_iter()
            .chain([&self.folds, &self.label_budgets].map(|l| l.len().max(1)));
        let lists = lists.chain(self.axes.iter().map(|axis| axis.values.len()));
        let runs = lists.fold(1usize, usize::saturating_mul);
        if runs > MOST_RUNS {
            return Err(format!(
                "variants, axes, seeds, folds and label_budgets make {runs} runs together; expected at most {MOST_RUNS}"
            ));
        }
        if !self.datasets.contains_key("target") {
            return Err("datasets.target is missing: it is what the results are judged on".into());
        }
        for (name, source) in &self.datasets {
            self.check_source(name, source)?;
            self.check_plan_of(name, source)?;
        }
        if let Some(other) = &self.compare_with
            && !self.variants.iter().any(|v| v.name == *other && v.row)
        {
            return Err(format!(
                "compare_with: no variant with a row is called `{other}`"
            ));
        }
        for (i, variant) in self.variants.iter().enumerate() {
            let name = &variant.name;
            if !self.datasets.contains_key(&variant.dataset) {
                return Err(format!(
                    "variant `{name}`: there is no dataset `{}`",
                    variant.dataset
                ));
            }
            if self.variants[..i].iter().any(|v| v.name == *name) {
                return Err(format!("two variants are called `{name}`"));
            }
            let by = variant.cascade.as_ref().and_then(|c| c.by.as_ref());
            for needed in variant.after.iter().chain(by) {
                if !self.variants[..i].iter().any(|v| v.name == *needed) {
                    return Err(format!(
                        "variant `{name}`: no variant before it is called `{needed}`"
                    ));
                }
            }
            if let Some(Cascade { margin_mm, .. }) = variant.cascade
                && !(margin_mm.is_finite() && margin_mm >= 0.0)
            {
                return Err(format!(
                    "variant `{name}`: cascade.margin_mm is {margin_mm}; expected 0 or more"
                ));
            }
        }
        Ok(())
    }

    /// A plan is taken from a dataset that has one of its own.
    fn check_plan_of(&self, name: &str, source: &DatasetSource) -> std::result::Result<(), String> {
        let Some(other) = &source.plan_of else {
            return Ok(());
        };
        match self.datasets.get(other) {
            None => Err(format!(
                "datasets.{name}.plan_of: there is no dataset `{other}`"
            )),
            Some(DatasetSource {
                plan_of: Some(its), ..
            }) => Err(format!(
                "datasets.{name}.plan_of: `{other}` has the plan of `{its}`; name a dataset that has its own"
            )),
            Some(_) => Ok(()),
        }
    }

    /// A dataset has a place of its own, or is made of others that have.
    fn check_source(&self, name: &str, source: &DatasetSource) -> std::result::Result<(), String> {
        let own = source.path.is_some() || source.phantom.is_some();
        match (own, source.is_joined()) {
            (false, false) => Err(format!(
                "datasets.{name} has neither `path` nor `phantom` nor `labelled_from`"
            )),
            (false, true) if source.split.is_some() => Err(format!(
                "datasets.{name}.split: a dataset of others has none; give run.validation"
            )),
            (true, true) => Err(format!(
                "datasets.{name}: `labelled_from` and `unlabelled_from` stand in place of `path` and `phantom`"
            )),
            (true, false) => Ok(()),
            (false, true) if name == "target" => Err(
                "datasets.target is what the results are judged on, so it has a `path` or a `phantom`".into(),
            ),
            (false, true) => {
                for part in source.labelled_from.iter().chain(&source.unlabelled_from) {
                    if self.datasets.get(part).is_none_or(DatasetSource::is_joined) {
                        return Err(format!(
                            "datasets.{name}: no dataset `{part}` has a `path` or a `phantom`"
                        ));
                    }
                }
                Ok(())
            }
        }
    }
}

impl DatasetSource {
    /// Whether a phantom stands in for it.
    pub fn is_phantom(&self) -> bool {
        let given = self.path.as_ref().is_some_and(|path| path.is_dir());
        !given && !self.is_joined()
    }

    /// How it is planned: where a phantom stands in, as that is.
    pub(crate) fn plan_options(&self) -> &PlanOptions {
        let phantom = self.phantom_plan.as_ref().filter(|_| self.is_phantom());
        phantom.unwrap_or(&self.plan)
    }

    /// Whether it is made of the cases of others.
    pub(crate) fn is_joined(&self) -> bool {
        !(self.labelled_from.is_empty() && self.unlabelled_from.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_from_a_dataset_with_its_own() {
        let with = |plan_of: &str| {
            let text = format!(
                "name = \"e\"\n[datasets.target]\npath = \"a\"\nplan_of = \"other\"\n\
                 [datasets.other]\npath = \"b\"\n{plan_of}\n[[variants]]\nname = \"v\"\n"
            );
            let experiment: Experiment = toml::from_str(&text).unwrap();
            experiment.check()
        };
        assert_eq!(with(""), Ok(()));
        for wrong in ["target", "other", "nothing"] {
            let error = with(&format!("plan_of = \"{wrong}\"")).unwrap_err();
            assert!(error.contains("plan_of"), "{error}");
        }
    }

    #[test]
    fn a_grid_beyond_all_patience_is_refused_before_it_is_laid_out() {
        let axis = "[[axes]]\nname = \"a\"\nvalues = [{ name = \"1\" }, { name = \"2\" }]\n";
        let with = |axes: usize| {
            let text = format!(
                "name = \"e\"\n[datasets.target]\npath = \"a\"\n[[variants]]\nname = \"v\"\n{}",
                axis.repeat(axes)
            );
            let experiment: Experiment = toml::from_str(&text).unwrap();
            experiment.check()
        };
        assert_eq!(with(13), Ok(()));
        let error = with(40).unwrap_err();
        assert!(error.contains("at most 10000"), "{error}");
    }
}
