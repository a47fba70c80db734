//! Everything a run can be told, in one file.

mod difference;

use crate::{Error, Result};
use liseg_augment::AugmentConfig;
use liseg_data::Balance;
use liseg_nn::{DeviceChoice, OptimiserConfig, Precision, Schedule};
use liseg_ssl::StrategyConfig;
use liseg_stunet::Size;
use liseg_volume::Seed;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A training run. Every field but `data` has a default; the resolved config is saved with the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Folder of preprocessed cases, as `liseg preprocess` makes it; relative to the working folder.
    pub data: PathBuf,
    /// Seed of everything random: first weights, patches, augmentation, folds.
    #[serde(default = "default_seed")]
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub seed: Seed,
    /// Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Number format of activations: `auto`, `f32`, `bf16`, or `fp16` on GPUs without bf16.
    #[serde(default)]
    pub precision: Precision,
    /// Phases whose unlabelled cases are learnt from, as in ["GED4"]; all of them when empty. The sub-tasks
    /// of CARE-Liver are names too: `contrast` for GED4, `non_contrast` for T1WI, T2WI and DWI.
    #[serde(default)]
    pub unlabelled_phases: Vec<String>,
    /// Labelled patients to learn from, drawn by the seed; all of them when absent. Fewer are a part of
    /// more. The scans of the others are learnt from without their labels.
    #[serde(default)]
    pub label_budget: Option<usize>,
    /// The network.
    #[serde(default)]
    pub network: NetworkConfig,
    /// The training strategy and its settings.
    #[serde(default)]
    pub strategy: StrategyConfig,
    /// The optimiser and its constants.
    #[serde(default = "OptimiserConfig::adamw")]
    pub optimiser: OptimiserConfig,
    /// Length of the run, learning rate, clipping.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Random transforms of training patches.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Intensity transforms that make strong views of weak ones, for strategies that ask for them;
    /// those of `augment` when absent. Its spatial transforms are ignored.
    #[serde(default)]
    pub strong_augment: Option<AugmentConfig>,
    /// Threads that prepare patches.
    #[serde(default)]
    pub loader: LoaderSettings,
    /// Labelled cases kept back to choose the best weights.
    #[serde(default)]
    pub validation: ValidationConfig,
}

fn default_seed() -> Seed {
    Seed(1)
}

/// Which architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ArchitectureName {
    /// STU-Net, for which pretrained weights are published.
    #[default]
    StuNet,
    /// nnU-Net's plain U-Net.
    Unet,
}

/// Which network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// `stunet`, or `unet` for nnU-Net's plain U-Net.
    pub architecture: ArchitectureName,
    /// STU-Net's size: `S`, `B`, `L` or `H`; the U-Net has none.
    pub size: Size,
    /// Channels of the stages, finest first, in place of the network's own: six for STU-Net, one more
    /// than there are strides for the U-Net.
    pub widths: Option<Vec<i64>>,
    /// Blocks of each of STU-Net's six stages, or convolutions of every stage of the U-Net (one
    /// number), in place of the network's own.
    pub depths: Option<Vec<usize>>,
    /// Strides between the stages along (z, y, x) in place of the plan's: five for STU-Net.
    pub strides: Option<Vec<[usize; 3]>>,
    /// Whether training sees logits at all decoder scales (nnU-Net, STU-Net) or at the finest alone.
    pub deep_supervision: bool,
    /// Whether STU-Net's coarser logits are enlarged to the patch's grid before the loss, in place of
    /// bringing the labels to theirs.
    pub upscale_logits: bool,
    /// Whether training computes the maps inside a stage again in the backward pass instead of keeping
    /// them: less memory for about a third more time.
    pub checkpointing: bool,
    /// Weights to start from, none when empty: a run's folder, a checkpoint of one, a published STU-Net checkpoint
    /// (`.model`, `.pth`), a safetensors file with the network's parameter names, or `blake3:` and the beginning of a hash
    /// that `liseg weights keep` gave. Heads of another number of classes are drawn afresh; the first
    /// convolutions are repeated along the channels of the image.
    #[serde(deserialize_with = "none_if_empty")]
    pub weights: Option<PathBuf>,
    /// Weights that the second network of CPS starts from in place of `weights`, so that the two
    /// differ from the first step on.
    pub second_weights: Option<PathBuf>,
    /// Whether to draw the segmentation heads afresh even where `weights` has fitting ones. By
    /// default only strategies with several networks from one file do: theirs must start different.
    pub fresh_heads: Option<bool>,
    /// Whether to take from `weights` what fits and leave the rest as drawn; by default everything but
    /// the heads must fit.
    pub partial: bool,
    /// Beginnings of the names of parameters that are not trained, as in ["conv_blocks_context."] for
    /// STU-Net's encoder.
    pub freeze: Vec<String>,
}

/// A learning rate of their own for some parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LayerRate {
    /// Beginning of their names; of several that fit a name the longest counts.
    pub prefix: String,
    /// Factor of the learning rate, 0 or more.
    pub factor: f64,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            architecture: ArchitectureName::default(),
            size: Size::default(),
            widths: None,
            depths: None,
            strides: None,
            deep_supervision: true,
            upscale_logits: false,
            checkpointing: false,
            weights: None,
            second_weights: None,
            fresh_heads: None,
            partial: false,
            freeze: Vec::new(),
        }
    }
}

/// What happens when a sentinel of the strategy sees trouble: pseudo labels without foreground, two
/// networks that have become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnTrouble {
    /// Say so in the log and go on.
    #[default]
    Warn,
    /// Save and end the run with an error.
    Stop,
}

/// How long and how fast to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Number of epochs. An epoch ends with a line in `metrics.jsonl` and a checkpoint.
    pub epochs: u64,
    /// Steps of an epoch; nnU-Net: 250.
    pub iterations_per_epoch: u64,
    /// First learning rate; `schedule` says how it falls.
    pub learning_rate: f64,
    /// How the learning rate falls, step by step: `{ name = "polynomial", exponent = 0.9 }` to zero as
    /// in nnU-Net, `{ name = "cosine", last = 0.0 }`, `{ name = "stairs", every = 2500, factor = 0.1 }`, or `{ name = "constant" }`.
    pub schedule: Schedule,
    /// Parameters that learn faster or slower than the rest, as in
    /// [{ prefix = "conv_blocks_context.", factor = 0.1 }].
    pub layer_rates: Vec<LayerRate>,
    /// Steps over which the learning rate rises linearly at the start.
    pub warm_up: u64,
    /// Largest global norm of the gradients of one network; nnU-Net: 12.
    pub gradient_clip: f64,
    /// Samples that go through the network at once; their gradients add up over the batch, so that a
    /// batch of any size fits where one sample does. 0 picks 1 on a CPU with bf16 (less memory, faster)
    /// and the whole batch otherwise.
    pub micro_batch: usize,
    /// Share of labelled patches that are made to show foreground; nnU-Net: 0.33.
    pub foreground_share: f64,
    /// What patches are spread over evenly: cases, vendors, phases or vendors-and-phases.
    pub balance: Balance,
    /// Patch (z, y, x) in voxels in place of the plan's.
    pub patch_size: Option<[usize; 3]>,
    /// Whether trouble that the strategy's sentinels see is a warning or ends the run.
    pub on_trouble: OnTrouble,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 100,
            iterations_per_epoch: 250,
            learning_rate: 3e-4,
            schedule: Schedule::default(),
            layer_rates: Vec::new(),
            warm_up: 0,
            gradient_clip: 12.0,
            micro_batch: 0,
            foreground_share: 0.33,
            balance: Balance::Cases,
            patch_size: None,
            on_trouble: OnTrouble::Warn,
        }
    }
}

/// How patches are prepared beside the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LoaderSettings {
    /// Threads that cut and augment patches. The result does not depend on their number.
    pub workers: usize,
    /// Batches kept ready.
    pub prefetch: usize,
}

impl Default for LoaderSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            prefetch: 4,
        }
    }
}

/// Which labelled cases are kept back, and how often they are looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Parts the labelled patients are cut into; 0 trains on all of them and keeps the last weights.
    pub folds: usize,
    /// Which part is kept back, from 0.
    pub fold: usize,
    /// A file of folds in place of `folds`: `splits_final.json`, as `liseg split`, an import or nnU-Net
    /// writes it. A name alone is looked for beside the preprocessed cases too.
    pub splits: Option<PathBuf>,
    /// Epochs between two validations; the last epoch always validates.
    pub every: u64,
    /// Whether the weights of the best validation are those that predict; the last ones otherwise, as is fair
    /// where results are reported on the same cases.
    pub keep_best: bool,
    /// Whether to try on the cases kept back, when the run ends, which cleaning of masks helps, and to
    /// keep it with the run as `postprocessing.json`.
    pub postprocessing: bool,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            folds: 0,
            fold: 0,
            splits: None,
            every: 5,
            keep_best: true,
            postprocessing: true,
        }
    }
}

impl RunConfig {
    /// A run with default settings on a folder of preprocessed cases.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            seed: default_seed(),
            device: DeviceChoice::default(),
            precision: Precision::default(),
            unlabelled_phases: Vec::new(),
            label_budget: None,
            network: NetworkConfig::default(),
            strategy: StrategyConfig::default(),
            optimiser: OptimiserConfig::adamw(),
            training: TrainingConfig::default(),
            augment: AugmentConfig::default(),
            strong_augment: None,
            loader: LoaderSettings::default(),
            validation: ValidationConfig::default(),
        }
    }

    /// Reads a TOML file and applies overrides such as `training.epochs=20` in their order. A value
    /// that is no TOML literal is taken as text, so `data=folder` needs no quotes.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Config`] naming the file; a misspelt key is answered with the
    /// nearest right one.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = liseg_file::read_text(path).map_err(Error::io(path))?;
        let refuse = |reason: String| Error::Config {
            path: path.to_owned(),
            reason,
        };
        let mut table: toml::Table =
            toml::from_str(&text).map_err(|e| refuse(one_line(&e.to_string())))?;
        let of_file = table.clone();
        for setting in overrides {
            set(&mut table, setting).map_err(|reason| Error::Config {
                path: PathBuf::from("--set"),
                reason,
            })?;
        }
        let by_file = overrides.is_empty() || Self::deserialize(of_file).is_err();
        let config: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| Error::Config {
                path: if by_file { path.into() } else { "--set".into() },
                reason: explain(&e.to_string()),
            })?;
        config.check()?;
        Ok(config)
    }

    /// The config as a TOML file.
    ///
    /// # Errors
    /// [`Error::Config`] when a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::Config {
            path: PathBuf::from("config.toml"),
            reason: e.to_string(),
        })
    }

    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, reason: String| Err(Error::Setting { field, reason });
        let t = &self.training;
        if t.epochs == 0 || t.iterations_per_epoch == 0 {
            return refuse(
                "training.epochs",
                "a run needs at least one epoch of one step".into(),
            );
        }
        if t.epochs.checked_mul(t.iterations_per_epoch).is_none() {
            let reason = format!("{} epochs have more steps than can be counted", t.epochs);
            return refuse("training.epochs", reason);
        }
        if !(t.learning_rate.is_finite() && t.learning_rate >= 0.0) {
            return refuse(
                "training.learning_rate",
                format!("{} is no rate", t.learning_rate),
            );
        }
        t.schedule.check()?;
        if t.gradient_clip.is_nan() || t.gradient_clip <= 0.0 {
            return refuse(
                "training.gradient_clip",
                format!("{} must be positive", t.gradient_clip),
            );
        }
        if !(0.0..=1.0).contains(&t.foreground_share) {
            let reason = format!("{} must lie in 0..=1", t.foreground_share);
            return refuse("training.foreground_share", reason);
        }
        if self.label_budget == Some(0) {
            let reason = "0 patients; expected 1 or more, or no budget for all of them";
            return refuse("label_budget", reason.into());
        }
        let v = &self.validation;
        if v.fold > 0 && v.folds == 0 && v.splits.is_none() {
            let reason = format!(
                "fold {} of none; say into how many parts by validation.folds, or give validation.splits",
                v.fold
            );
            return refuse("validation.fold", reason);
        }
        if v.folds == 1 || (v.folds > 0 && v.fold >= v.folds) || v.every == 0 {
            return refuse(
                "validation",
                format!(
                    "fold {} of {} every {} epochs; expected 2 or more folds (0 for none), a fold \
                     below their number, and at least 1 epoch",
                    v.fold, v.folds, v.every
                ),
            );
        }
        Ok(())
    }

    /// Steps of the whole run.
    pub fn iterations(&self) -> u64 {
        self.training.epochs * self.training.iterations_per_epoch
    }
}

/// An empty path is none: TOML has no other way to take back what a table below has set.
fn none_if_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = Option::<PathBuf>::deserialize(from)?;
    Ok(path.filter(|path| !path.as_os_str().is_empty()))
}

/// Parts of a key at most: deeper tables would be walked by recursion.
const DEEPEST_KEY: usize = 16;

/// Puts `a.b.c=value` into a table.
fn set(table: &mut toml::Table, setting: &str) -> Result<(), String> {
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| format!("`{setting}` is no setting; expected key=value"))?;
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    if parts.len() > DEEPEST_KEY {
        return Err(format!(
            "its key has {} parts; no setting has more than {DEEPEST_KEY}",
            parts.len()
        ));
    }
    let last = parts
        .pop()
        .filter(|l| !l.is_empty())
        .ok_or("the key is empty")?;
    let mut place = table;
    for part in parts {
        let entry = place
            .entry(part.to_owned())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` in `{key}` is no section"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// serde's message for a config, with the nearest known key when one is misspelt.
fn explain(message: &str) -> String {
    let line = one_line(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if !(message.contains("unknown field") || message.contains("unknown variant")) {
        return line;
    }
    let Some((found, known)) = quoted.split_first() else {
        return line;
    };
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(found, k), *k))
        .min()
        .filter(|(distance, _)| *distance <= 2.max(found.len() / 3));
    match nearest {
        Some((_, key)) => format!("unknown key or value `{found}`; did you mean `{key}`?"),
        None => line,
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, overrides: &[&str]) -> Result<RunConfig> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        RunConfig::read(
            file.path(),
            &overrides
                .iter()
                .map(|s| (*s).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_config_survives_a_round_trip() {
        let text =
            "data = \"d\"\n[strategy]\nname = \"cps\"\nweight = 0.5\n[optimiser]\nname = \"sgd\"\n";
        let config = read(
            text,
            &["training.epochs=3", "data=elsewhere", "network.size=B"],
        )
        .unwrap();
        assert_eq!((config.training.epochs, config.network.size), (3, Size::B));
        assert_eq!(config.data, Path::new("elsewhere"));
        assert_eq!(read(&config.to_toml().unwrap(), &[]).unwrap(), config);
        let default = RunConfig::new("d");
        assert_eq!(read(&default.to_toml().unwrap(), &[]).unwrap(), default);
    }

    #[test]
    fn misspelt_keys_are_answered_with_the_right_one() {
        for (text, overrides, wanted) in [
            ("data = \"d\"\n[training]\nepoch = 3\n", vec![], "`epochs`"),
            (
                "data = \"d\"\n[strategy]\nname = \"csp\"\n",
                vec![],
                "`cps`",
            ),
            (
                "data = \"d\"\n[strategy]\nname = \"cps\"\nwieght = 1.0\n",
                vec![],
                "`weight`",
            ),
            ("data = \"d\"\n", vec!["trainning.epochs=3"], "`training`"),
        ] {
            let message = read(text, &overrides).unwrap_err().to_string();
            assert!(
                message.contains(wanted) && !message.contains('\n'),
                "{message}"
            );
        }
    }

    #[test]
    fn a_key_is_no_deeper_than_settings_are() {
        let deep = format!("{}=1", vec!["a"; 60_000].join("."));
        let message = read("data = \"d\"\n", &[&deep]).unwrap_err().to_string();
        assert!(message.contains("60000 parts"), "{message}");
        // In a file the parser itself ends such a key.
        let message = read(&deep, &[]).unwrap_err().to_string();
        assert!(!message.is_empty() && !message.contains('\n'));
    }

    /// The keys of all values of a table, as in `training.epochs`.
    fn keys(table: &toml::Table, before: &str, found: &mut Vec<String>) {
        for (key, value) in table {
            match value.as_table() {
                Some(inner) => keys(inner, &format!("{before}{key}."), found),
                None => found.push(format!("{before}{key}")),
            }
        }
    }

    #[test]
    fn any_value_in_any_place_is_taken_as_written_or_refused_in_one_line() {
        let default = RunConfig::new("d").to_toml().unwrap();
        let mut found = Vec::new();
        keys(&default.parse().unwrap(), "", &mut found);
        assert!(found.len() > 30, "{found:?}");
        let odd =
            "0 -1 1 0.5 -0.0 1e308 nan inf -inf 9223372036854775807 true \"\" \"x\" [] [0] {}";
        for key in &found {
            for value in odd.split(' ') {
                match read(&default, &[&format!("{key}={value}")]) {
                    Ok(config) => {
                        config.iterations();
                        let text = config.to_toml().unwrap();
                        let again = read(&text, &[]).unwrap();
                        assert_eq!(again.to_toml().unwrap(), text, "{key}={value}");
                    }
                    Err(error) => {
                        let message = error.to_string();
                        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_settings_name_their_field() {
        for (setting, field) in [
            ("training.epochs=0", "training.epochs"),
            ("training.gradient_clip=0", "training.gradient_clip"),
            ("validation.folds=1", "validation"),
            ("label_budget=0", "label_budget"),
            (
                "training.schedule={name=\"stairs\", every=0, factor=0.1}",
                "training.schedule",
            ),
        ] {
            let message = read("data = \"d\"", &[setting]).unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
        }
        assert!(read("data = \"d\"", &["nonsense"]).is_err());
        assert!(read("", &[]).unwrap_err().to_string().contains("data"));
    }
}
