//! From axes to runs.

use super::config::{AxisValue, Cascade, Control, Experiment, Variant};
use crate::{Error, Result, RunConfig};
use liseg_ssl::StrategyConfig;
use liseg_volume::Seed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A row of the table: a variant under one value of every axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// How tables call it.
    pub name: String,
    /// The method it is compared with.
    pub control: Option<String>,
    /// Whether it has a row.
    pub row: bool,
    /// The dataset it trains on.
    pub dataset: String,
    /// The method whose weights it starts from.
    pub after: Option<String>,
    /// How its masks are made in two stages; `by` is a method.
    pub cascade: Option<Cascade>,
    /// Whether its masks are cleaned.
    pub clean: bool,
    /// The variant it was made from; the position in the experiment.
    pub variant: usize,
    /// Its settings without data, seed, budget and fold.
    settings: toml::Table,
}

/// One training run.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// The name of its folder.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Labelled patients, all of them when `None`.
    pub budget: Option<usize>,
    /// The seed.
    pub seed: u64,
    /// The run whose weights it starts from.
    pub after: Option<String>,
    /// The run whose training it shares: the first of the same settings, itself where none comes before it.
    pub trained_as: String,
    /// How its masks are made in two stages; `by` is a run.
    pub cascade: Option<Cascade>,
    /// Whether its masks are cleaned.
    pub clean: bool,
    /// Its config; the weights to start from are filled in when they exist.
    pub config: RunConfig,
}

impl PlannedRun {
    /// The runs that have to be done before this one: whose weights it starts from, whose training it shares, and which
    /// finds the liver for it.
    pub fn depends_on(&self) -> impl Iterator<Item = &str> {
        let by = self
            .cascade
            .as_ref()
            .and_then(|cascade| cascade.by.as_ref());
        let shared = (self.trained_as != self.id).then_some(&self.trained_as);
        let all = [self.after.as_ref(), shared, by];
        all.into_iter().flatten().map(String::as_str)
    }
}

/// All runs of an experiment, each after those it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentPlan {
    /// The rows of the table.
    pub methods: Vec<Method>,
    /// The runs.
    pub runs: Vec<PlannedRun>,
}

impl Experiment {
    /// Lays out the grid. `phantoms` says which datasets are phantoms, `data` where a dataset's
    /// preprocessed cases lie.
    ///
    /// # Errors
    /// [`Error::Config`] naming the variant whose settings are wrong.
    pub fn plan(
        &self,
        phantoms: &BTreeMap<String, bool>,
        data: &dyn Fn(&str) -> PathBuf,
    ) -> Result<ExperimentPlan> {
        let methods = self.methods(phantoms)?;
        let mut runs: Vec<PlannedRun> = Vec::new();
        for method in &methods {
            let budgets: Vec<Option<usize>> = match (method.row, &self.label_budgets[..]) {
                (true, budgets @ [_, ..]) => budgets.iter().copied().map(Some).collect(),
                _ => vec![None],
            };
            let folds: Vec<Option<usize>> = match (method.row, &self.folds[..]) {
                (true, folds @ [_, ..]) => folds.iter().copied().map(Some).collect(),
                _ => vec![None],
            };
            for &budget in &budgets {
                for &fold in &folds {
                    for &seed in &self.seeds {
                        let config = configure(method, data, (budget, fold, seed))?;
                        // A preparation has no budget and no fold.
                        let run_of = |name: &String| {
                            let other = methods.iter().find(|m| m.name == *name);
                            let prepared = other.is_some_and(|m| !m.row);
                            let cell = if prepared {
                                (None, None)
                            } else {
                                (budget, fold)
                            };
                            id(name, cell, seed)
                        };
                        let id = id(&method.name, (budget, fold), seed);
                        let after = method.after.as_ref().map(run_of);
                        let same = |run: &&PlannedRun| run.config == config && run.after == after;
                        let trained = runs.iter().find(same).map(|run| run.id.clone());
                        runs.push(PlannedRun {
                            trained_as: trained.unwrap_or_else(|| id.clone()),
                            id,
                            method: method.name.clone(),
                            budget,
                            seed,
                            after,
                            cascade: method.cascade.as_ref().map(|cascade| Cascade {
                                by: cascade.by.as_ref().map(run_of),
                                ..*cascade
                            }),
                            clean: method.clean,
                            config,
                        });
                    }
                }
            }
        }
        refuse_one_folder_for_two(&runs)?;
        Ok(ExperimentPlan { methods, runs })
    }

    fn methods(&self, phantoms: &BTreeMap<String, bool>) -> Result<Vec<Method>> {
        let mut methods: Vec<Method> = Vec::new();
        for (number, variant) in self.variants.iter().enumerate() {
            let phantom = phantoms.get(&variant.dataset).copied().unwrap_or(false);
            for combination in self.combinations(variant) {
                let mut settings = self.run.clone();
                if phantom {
                    merge(&mut settings, &self.phantom_run);
                } else if self.has_split(&variant.dataset) {
                    merge(&mut settings, &with_split());
                }
                for value in &combination {
                    merge(&mut settings, &value.set);
                }
                merge(&mut settings, &variant.set);
                if phantom {
                    merge(&mut settings, &variant.phantom_set);
                }
                let named = |variant: &str| {
                    let parts = combination.iter().map(|value| value.name.as_str());
                    let all: Vec<&str> = std::iter::once(variant).chain(parts).collect();
                    all.join(" / ")
                };
                let mut method = Method {
                    name: named(&variant.name),
                    control: None,
                    row: variant.row,
                    dataset: variant.dataset.clone(),
                    after: self.method_of(variant.after.as_ref(), &named),
                    cascade: variant.cascade.as_ref().map(|cascade| Cascade {
                        by: self.method_of(cascade.by.as_ref(), &named),
                        ..*cascade
                    }),
                    clean: variant.clean,
                    variant: number,
                    settings,
                };
                let strategy = run_config(&method, Path::new(""), 0)?.strategy;
                let supervised = matches!(strategy, StrategyConfig::Supervised(_));
                if let Some(other) = &self.compare_with {
                    let another = variant.row && variant.name != *other;
                    method.control = another.then(|| named(other));
                } else if self.control == Control::Supervised && variant.row && !supervised {
                    let control = self.control_of(&method, &strategy, &methods, &named)?;
                    method.control = Some(control.name.clone());
                    if !methods.iter().any(|m| m.name == control.name) {
                        methods.push(control);
                    }
                }
                methods.push(method);
            }
        }
        Ok(methods)
    }

    fn has_split(&self, dataset: &str) -> bool {
        let source = self.datasets.get(dataset);
        source.is_some_and(|source| source.split.is_some())
    }

    /// The method of another variant under the same values of the axes; a preparation has none of its own.
    fn method_of(&self, name: Option<&String>, named: &dyn Fn(&str) -> String) -> Option<String> {
        let name = name?;
        let other = self.variants.iter().find(|v| v.name == *name)?;
        Some(if other.row { named(name) } else { name.clone() })
    }

    /// One value of every axis, in all ways.
    fn combinations(&self, variant: &Variant) -> Vec<Vec<&AxisValue>> {
        if !variant.row {
            return vec![Vec::new()];
        }
        let mut all: Vec<Vec<&AxisValue>> = vec![Vec::new()];
        for axis in &self.axes {
            let mut longer = Vec::new();
            for some in &all {
                for value in &axis.values {
                    let mut more = some.clone();
                    more.push(value);
                    longer.push(more);
                }
            }
            all = longer;
        }
        all
    }

    /// The same settings, loss on labels included, with labelled patches alone. Methods whose controls are the same share it.
    fn control_of(
        &self,
        method: &Method,
        strategy: &StrategyConfig,
        methods: &[Method],
        named: &dyn Fn(&str) -> String,
    ) -> Result<Method> {
        let mut settings = method.settings.clone();
        let batch = i64::try_from(strategy.labelled_patches()).unwrap_or(2);
        let mut supervised = toml::Table::from_iter([
            ("name".to_owned(), toml::Value::from("supervised")),
            ("batch_size".to_owned(), toml::Value::from(batch)),
        ]);
        let own = settings.get("strategy").and_then(toml::Value::as_table);
        if let Some(loss) = own.and_then(|strategy| strategy.get("loss")) {
            supervised.insert("loss".into(), loss.clone());
        }
        settings.insert("strategy".into(), supervised.into());
        // What concerns unlabelled volumes alone makes no other control.
        settings.remove("strong_augment");
        settings.remove("unlabelled_phases");
        let mut control = Method {
            settings,
            ..method.clone()
        };
        let wanted = run_config(&control, Path::new(""), 0)?;
        let same = |m: &&Method| {
            let config = run_config(m, Path::new(""), 0);
            m.dataset == control.dataset
                && m.after == control.after
                && m.cascade == control.cascade
                && m.clean == control.clean
                && config.is_ok_and(|config| config == wanted)
        };
        if let Some(found) = methods.iter().find(same) {
            return Ok(found.clone());
        }
        let plain = named("supervised");
        let taken = methods.iter().any(|m| m.name == plain)
            || self.variants.iter().any(|v| v.name == "supervised");
        control.name = if taken {
            format!("supervised for {}", method.name)
        } else {
            plain
        };
        Ok(control)
    }
}

/// The name of the fold that a dataset's protocol draws, beside its preprocessed cases.
pub(super) const SPLIT_FILE: &str = "split.json";

/// The settings that make a run take that fold.
fn with_split() -> toml::Table {
    let splits = toml::Table::from_iter([("splits".to_owned(), SPLIT_FILE.into())]);
    toml::Table::from_iter([("validation".to_owned(), splits.into())])
}

/// Puts the settings of one table on top of another; a strategy of another name replaces the first
/// whole, since their settings differ.
fn merge(below: &mut toml::Table, above: &toml::Table) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new))
                if new
                    .get("name")
                    .is_none_or(|name| old.get("name") == Some(name)) =>
            {
                merge(old, new);
            }
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

fn run_config(method: &Method, data: &Path, seed: u64) -> Result<RunConfig> {
    let refuse = |reason: String| Error::Config {
        path: PathBuf::from(format!("variant `{}`", method.name)),
        reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let mut table = method.settings.clone();
    table.insert("data".into(), data.display().to_string().into());
    let mut config: RunConfig = table
        .try_into()
        .map_err(|e: toml::de::Error| refuse(e.to_string()))?;
    config.seed = Seed(seed);
    config.check().map_err(|e| refuse(e.to_string()))?;
    Ok(config)
}

fn configure(
    method: &Method,
    data: &dyn Fn(&str) -> PathBuf,
    (budget, fold, seed): (Option<usize>, Option<usize>, u64),
) -> Result<RunConfig> {
    let mut config = run_config(method, &data(&method.dataset), seed)?;
    if budget.is_some() {
        config.label_budget = budget;
    }
    if let Some(fold) = fold {
        config.validation.fold = fold;
        config.check()?;
    }
    Ok(config)
}

/// Names that differ in signs alone give one folder, as does a seed that is listed twice.
fn refuse_one_folder_for_two(runs: &[PlannedRun]) -> Result<()> {
    let mut taken: BTreeMap<&str, &PlannedRun> = BTreeMap::new();
    for run in runs {
        if let Some(other) = taken.insert(&run.id, run) {
            let what = match other.method == run.method {
                true => "a seed, label budget or fold is listed twice".into(),
                false => format!(
                    "`{}` and `{}` have the same letters; give one another name",
                    other.method, run.method
                ),
            };
            return Err(Error::Config {
                path: PathBuf::from(format!("run `{}`", run.id)),
                reason: what,
            });
        }
    }
    Ok(())
}

/// A name of letters, digits and dashes.
fn id(method: &str, (budget, fold): (Option<usize>, Option<usize>), seed: u64) -> String {
    let mut name: String = method
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    let mut name = name.trim_matches('-').to_ascii_lowercase();
    if let Some(budget) = budget {
        name += &format!("-labels{budget}");
    }
    if let Some(fold) = fold {
        name += &format!("-fold{fold}");
    }
    format!("{name}-seed{seed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(text: &str) -> Experiment {
        let start = "name = \"e\"\n[datasets.target]\npath = \"somewhere\"\n";
        toml::from_str(&format!("{start}{text}")).unwrap()
    }

    fn plan(text: &str) -> ExperimentPlan {
        let phantoms = BTreeMap::from([("target".to_owned(), true)]);
        let data = |name: &str| PathBuf::from(format!("data/{name}"));
        experiment(text).plan(&phantoms, &data).unwrap()
    }

    #[test]
    fn a_control_runs_beside_every_method_and_is_shared() {
        let text = "[[variants]]\nname = \"CPS\"\nset.strategy.name = \"cps\"\n\
                    [[variants]]\nname = \"BCP\"\nset.strategy.name = \"bcp\"\n\
                    set.unlabelled_phases = [\"T2WI\"]\n\
                    [[variants]]\nname = \"wide\"\nset.strategy.name = \"cps\"\nset.network.size = \"B\"\n";
        let plan = plan(text);
        let names: Vec<&str> = plan.methods.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            ["supervised", "CPS", "BCP", "supervised for wide", "wide"]
        );
        assert_eq!(plan.methods[2].control.as_deref(), Some("supervised"));
        assert_eq!(
            plan.methods[4].control.as_deref(),
            Some("supervised for wide")
        );
        assert_eq!(plan.runs.len(), 5);
    }

    #[test]
    fn a_control_can_be_given_or_forgone() {
        let text = "[[variants]]\nname = \"baseline\"\n\
                    [[variants]]\nname = \"CPS\"\nset.strategy.name = \"cps\"\n";
        let given = plan(text);
        assert_eq!(given.methods[1].control.as_deref(), Some("baseline"));
        let none = Experiment {
            control: Control::None,
            ..experiment(text)
        };
        let none = none.plan(&BTreeMap::new(), &|_| PathBuf::new()).unwrap();
        assert!(none.methods.iter().all(|m| m.control.is_none()));
    }

    #[test]
    fn the_grid_is_the_product_of_its_axes() {
        let mut wanted = experiment(
            "[[axes]]\nname = \"backbone\"\n\
             values = [{name = \"S\", set.network.size = \"S\"}, {name = \"B\", set.network.size = \"B\"}]\n\
             [[variants]]\nname = \"base\"\nrow = false\n\
             [[variants]]\nname = \"CPS\"\nafter = \"base\"\nset.strategy.name = \"cps\"\n",
        );
        wanted.seeds = vec![1, 2, 3];
        wanted.label_budgets = vec![1, 4];
        let plan = wanted.plan(&BTreeMap::new(), &|_| PathBuf::new()).unwrap();
        // One preparation, and CPS and its control for each backbone.
        assert_eq!(plan.methods.len(), 5);
        assert_eq!(plan.runs.len(), 3 + 4 * 2 * 3);
        let run = &plan.runs[plan.runs.len() - 1];
        assert_eq!(run.id, "cps-b-labels4-seed3");
        assert_eq!(run.after.as_deref(), Some("base-seed3"));
        assert_eq!(run.config.label_budget, Some(4));
        let ids: std::collections::BTreeSet<&str> =
            plan.runs.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids.len(), plan.runs.len());
    }

    #[test]
    fn a_cascade_names_the_run_of_the_same_cell_that_finds_the_liver() {
        let mut wanted = experiment(
            "[[variants]]\nname = \"coarse\"\nrow = false\n\
             [[variants]]\nname = \"fine\"\n\
             [[variants]]\nname = \"both\"\ncascade = { by = \"coarse\" }\nset.strategy.name = \"cps\"\n\
             [[variants]]\nname = \"twice fine\"\ncascade = { by = \"fine\", margin_mm = 5.0 }\n",
        );
        wanted.label_budgets = vec![2];
        let plan = wanted.plan(&BTreeMap::new(), &|_| PathBuf::new()).unwrap();
        let cascade = |id: &str| {
            let run = plan.runs.iter().find(|run| run.id == id).unwrap();
            run.cascade.clone().unwrap()
        };
        let by = |id: &str| cascade(id).by.unwrap();
        assert_eq!(by("both-labels2-seed1"), "coarse-seed1");
        assert_eq!(by("twice-fine-labels2-seed1"), "fine-labels2-seed1");
        assert_eq!(cascade("twice-fine-labels2-seed1").margin_mm, 5.0);
        // The control of a method is judged in two stages as well, so it is no other method's.
        let both = plan.methods.iter().find(|m| m.name == "both").unwrap();
        assert_ne!(both.control.as_deref(), Some("fine"));
        // It is trained like one, though, and that once.
        let trained = |id: &str| {
            let run = plan.runs.iter().find(|run| run.id == id).unwrap();
            run.trained_as.clone()
        };
        for id in [
            "fine-labels2-seed1",
            "supervised-labels2-seed1",
            "twice-fine-labels2-seed1",
        ] {
            assert_eq!(trained(id), "fine-labels2-seed1");
        }
        assert_eq!(trained("both-labels2-seed1"), "both-labels2-seed1");
        assert_eq!(trained("coarse-seed1"), "coarse-seed1");
    }

    #[test]
    fn phantoms_scale_runs_down_and_wrong_settings_name_their_variant() {
        let text = "[run.training]\nepochs = 36\n[phantom_run.training]\nepochs = 2\n\
                    [[variants]]\nname = \"plain\"\n";
        assert_eq!(plan(text).runs[0].config.training.epochs, 2);
        let wrong = experiment("[[variants]]\nname = \"odd\"\nset.training.epoch = 3\n");
        let error = wrong
            .plan(&BTreeMap::new(), &|_| PathBuf::new())
            .unwrap_err();
        assert!(error.to_string().contains("variant `odd`"), "{error}");
    }

    #[test]
    fn methods_are_compared_with_one_of_them_where_it_is_named() {
        let text = "compare_with = \"all\"\n[[variants]]\nname = \"plain\"\n\
                    [[variants]]\nname = \"all\"\nset.strategy.name = \"cps\"\n\
                    [[variants]]\nname = \"not cleaned\"\nclean = false\nset.strategy.name = \"cps\"\n";
        let start = "name = \"e\"\n";
        let file = format!("{start}{text}[datasets.target]\npath = \"somewhere\"\n");
        let wanted: Experiment = toml::from_str(&file).unwrap();
        let plan = wanted.plan(&BTreeMap::new(), &|_| PathBuf::new()).unwrap();
        let compared = plan.methods.iter().map(|m| m.control.as_deref());
        assert_eq!(
            compared.collect::<Vec<_>>(),
            [Some("all"), None, Some("all")]
        );
        // The masks differ, not the training.
        let [.., all, left] = &plan.runs[..] else {
            panic!("three runs")
        };
        assert_eq!((all.clean, left.clean), (true, false));
        assert_eq!(left.trained_as, all.id);
    }

    #[test]
    fn two_runs_never_share_a_folder() {
        let planned = |experiment: &Experiment| {
            let plan = experiment.plan(&BTreeMap::new(), &|_| PathBuf::new());
            plan.map_err(|e| e.to_string())
        };
        let alike = "[[variants]]\nname = \"CPS+\"\n[[variants]]\nname = \"cps\"\n";
        let error = planned(&experiment(alike)).unwrap_err();
        assert!(error.contains("`CPS+` and `cps`"), "{error}");
        let mut twice = experiment("[[variants]]\nname = \"CPS\"\n");
        twice.seeds = vec![2, 2];
        let error = planned(&twice).unwrap_err();
        assert!(error.contains("run `cps-seed2`"), "{error}");
    }
}
