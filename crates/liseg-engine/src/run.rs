//! A run is a folder.

use crate::tensorboard::EventWriter;
use crate::{Error, Result, RunConfig};
use liseg_data::Plan;
use liseg_nn::runtime::Runtime;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a training run: config, manifest, metrics, checkpoints, validation results.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

/// What a run was made with, for those who want to repeat it.
#[derive(Debug, Clone, Serialize)]
struct Manifest<'a> {
    liseg: &'static str,
    strategy: &'static str,
    device: String,
    precision: String,
    runtime: Runtime,
    plan: &'a Plan,
    training_cases: Vec<String>,
    unlabelled_cases: Vec<String>,
    validation_cases: Vec<String>,
}

/// The cases a run uses, by role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRoles {
    /// Labelled cases to learn from.
    pub labelled: Vec<String>,
    /// Cases to learn from without labels.
    pub unlabelled: Vec<String>,
    /// Labelled cases kept back.
    pub validation: Vec<String>,
}

impl RunFolder {
    /// Makes a new run folder and writes the resolved config into it.
    ///
    /// # Errors
    /// [`Error::Occupied`] when a run is there already; [`Error::Io`].
    pub fn create(path: &Path, config: &RunConfig) -> Result<Self> {
        let run = Self {
            path: path.to_owned(),
        };
        if run.config_file().exists() {
            return Err(Error::Occupied {
                path: path.to_owned(),
            });
        }
        let data = ["dataset.json", "store.json"].map(|name| path.join(name));
        if let Some(found) = data.iter().find(|file| file.exists()) {
            return Err(Error::Run {
                path: path.to_owned(),
                reason: format!(
                    "holds data, {}; choose another folder for the run",
                    found.display()
                ),
            });
        }
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).map_err(Error::io(&checkpoints))?;
        write_file(&run.config_file(), config.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// [`Error::Run`] when there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self {
            path: path.to_owned(),
        };
        if run.config_file().is_file() {
            return Ok(run);
        }
        let reason =
            "no run here: config.toml is missing; give the folder that `liseg train` wrote";
        Err(Error::Run {
            path: path.to_owned(),
            reason: reason.into(),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.
    pub fn config_file(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Everything needed to go on: networks, optimisers, progress.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints/last.safetensors")
    }

    /// The predicting networks as they were when they validated best.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints/best.safetensors")
    }

    /// The weights to predict with: the best ones where validation chose some, else the last.
    ///
    /// # Errors
    /// [`Error::Run`] when there is none yet.
    pub fn weights(&self) -> Result<PathBuf> {
        let found = [self.best_checkpoint(), self.last_checkpoint()]
            .into_iter()
            .find(|p| p.is_file());
        found.ok_or_else(|| Error::Run {
            path: self.path.clone(),
            reason: "no checkpoint yet; let the training finish its first epoch".into(),
        })
    }

    /// The cleaning of masks that was chosen on validation, where it was.
    pub fn postprocessing_file(&self) -> PathBuf {
        self.path.join("postprocessing.json")
    }

    /// One JSON object per epoch.
    pub fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub(crate) fn write_manifest(
        &self,
        strategy: &'static str,
        (device, precision): (String, String),
        plan: &Plan,
        roles: &CaseRoles,
    ) -> Result<()> {
        let manifest = Manifest {
            liseg: env!("CARGO_PKG_VERSION"),
            strategy,
            device,
            precision,
            runtime: Runtime::inspect(),
            plan,
            training_cases: roles.labelled.clone(),
            unlabelled_cases: roles.unlabelled.clone(),
            validation_cases: roles.validation.clone(),
        };
        write_json(&self.path.join("manifest.json"), &manifest)
    }

    /// What was tried on validation to clean masks, and what it did.
    pub(crate) fn write_postprocessing_trials(
        &self,
        decision: &crate::predict::Decision,
    ) -> Result<()> {
        let folder = self.path.join("validation");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        write_json(&folder.join("postprocessing.json"), decision)
    }

    /// The strategy that the run was made with, from its manifest; `None` when there is none.
    pub(crate) fn strategy(&self) -> Option<String> {
        let text = liseg_file::read_text(self.path.join("manifest.json")).ok()?;
        let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(manifest["strategy"].as_str()?.to_owned())
    }

    /// The cases whose labels the run learns from, from its manifest.
    pub(crate) fn training_cases(&self) -> Result<Vec<String>> {
        let path = self.path.join("manifest.json");
        let text = liseg_file::read_text(&path).map_err(Error::io(&path))?;
        let training = serde_json::from_str(&text)
            .and_then(|manifest: serde_json::Value| Vec::deserialize(&manifest["training_cases"]));
        training.map_err(|e| Error::Run {
            path,
            reason: format!("it does not list the training cases: {e}"),
        })
    }

    /// Refuses data that are not those that the run was begun with: preprocessed by another plan, or
    /// other cases. Unlabelled ones may change where the run learns from none. A run without a record of them is
    /// not refused.
    pub(crate) fn refuse_other_data(
        &self,
        plan: &Plan,
        roles: &CaseRoles,
        learns_from_unlabelled: bool,
    ) -> Result<()> {
        let path = self.path.join("manifest.json");
        let recorded = liseg_file::read_text(&path).ok();
        let recorded = recorded.and_then(|text| serde_json::from_str::<Recorded>(&text).ok());
        let Some(recorded) = recorded else {
            return Ok(());
        };
        match recorded.difference(plan, roles, learns_from_unlabelled) {
            None => Ok(()),
            Some(what) => Err(Error::Run {
                path,
                reason: format!(
                    "the run was begun with other data: {what}; bring those back, or begin anew in another \
                     folder (or remove this one)"
                ),
            }),
        }
    }

    /// Appends one object to `metrics.jsonl`.
    pub(crate) fn append_metrics(&self, record: &EpochRecord) -> Result<()> {
        let path = self.metrics_file();
        let io = Error::io(path.clone());
        let line = json_text(&path, record)? + "\n";
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(io)
    }

    /// The epochs recorded so far.
    ///
    /// # Errors
    /// [`Error::Io`]; lines that a kill cut short are passed over.
    pub fn metrics(&self) -> Result<Vec<EpochRecord>> {
        let path = self.metrics_file();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = liseg_file::read_text(&path).map_err(Error::io(&path))?;
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Drops the records of `epoch` and later: they will be made again.
    pub(crate) fn forget_metrics_from(&self, epoch: u64) -> Result<()> {
        let kept: String = self
            .metrics()?
            .iter()
            .filter(|record| record.epoch < epoch)
            .map(|record| Ok(json_text(&self.metrics_file(), record)? + "\n"))
            .collect::<Result<_>>()?;
        write_file(&self.metrics_file(), kept.as_bytes())
    }
}

/// What a manifest says of the data.
#[derive(Debug, Deserialize)]
struct Recorded {
    plan: Plan,
    training_cases: Vec<String>,
    unlabelled_cases: Vec<String>,
    validation_cases: Vec<String>,
}

impl Recorded {
    fn difference(&self, plan: &Plan, roles: &CaseRoles, unlabelled: bool) -> Option<String> {
        if self.plan.preprocessing_hash() != plan.preprocessing_hash() {
            return Some(
                "they were preprocessed by another plan since, whose spacing, orientation or normalization differs"
                    .into(),
            );
        }
        if self.plan.patch_size != plan.patch_size {
            let (was, is) = (self.plan.patch_size, plan.patch_size);
            return Some(format!("patches were of {was:?} voxels and are of {is:?}"));
        }
        let lists = [
            ("labelled", &self.training_cases, &roles.labelled),
            ("validation", &self.validation_cases, &roles.validation),
            ("unlabelled", &self.unlabelled_cases, &roles.unlabelled),
        ];
        let mut lists = lists
            .into_iter()
            .filter(|(role, ..)| unlabelled || *role != "unlabelled");
        let (role, was, is) = lists.find(|(_, was, is)| was != is)?;
        let new = is.iter().find(|id| !was.contains(id));
        let gone = was.iter().find(|id| !is.contains(id));
        let example = match (new, gone) {
            (Some(id), _) => format!(", `{id}` is new"),
            (None, Some(id)) => format!(", `{id}` is gone"),
            (None, None) => String::new(),
        };
        Some(format!(
            "there were {} {role} cases and are {}{example}",
            was.len(),
            is.len()
        ))
    }
}

/// One line of `metrics.jsonl`. A loss or a norm that is not finite is written as `liseg_file::number` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Steps taken since the start of the run.
    pub iteration: u64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Means over the epoch of everything the strategy logged, by name.
    #[serde(with = "liseg_file::number")]
    pub terms: std::collections::BTreeMap<String, f64>,
    /// Mean norm of the gradients before clipping, of all networks together.
    #[serde(with = "liseg_file::number")]
    pub gradient_norm: f64,
    /// Seconds the epoch took, validation left out.
    pub seconds: f64,
    /// Share of that time spent waiting for patches.
    pub data_wait: f64,
    /// Seconds that the loader's threads spent making patches, summed over threads. Patches made
    /// ahead count where they are made. Divided by `seconds` it is how many threads had work.
    #[serde(default)]
    pub preparing: f64,
    /// Where the seconds went.
    #[serde(default)]
    pub parts: StepSeconds,
    /// Largest memory of the process so far, in bytes, where the system says.
    pub peak_memory: Option<u64>,
    /// Largest memory of tensors on the CUDA device so far, in bytes, on a CUDA device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_memory: Option<u64>,
    /// Mean Dice on the validation cases of every candidate, when the epoch validated.
    #[serde(default, with = "liseg_file::number")]
    pub validation: Option<std::collections::BTreeMap<String, f64>>,
    /// Trouble that the sentinels saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Seconds of an epoch's steps by what they were spent on. A GPU works on after it was told what to do:
/// there the parts say for what the loop waited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StepSeconds {
    /// Waiting for patches.
    pub waiting: f64,
    /// Making tensors of patches, on the device.
    pub copying: f64,
    /// The strategy's step: networks forward and backward, and losses.
    pub networks: f64,
    /// Clipping, optimisers, clearing gradients, averages of weights.
    pub optimising: f64,
    /// Reading losses back, and telling the caller.
    pub recording: f64,
}

impl StepSeconds {
    /// The share of everything but networks and their losses.
    pub fn overhead(&self) -> f64 {
        let others = self.waiting + self.copying + self.optimising + self.recording;
        let all = others + self.networks;
        if all > 0.0 { others / all } else { 0.0 }
    }
}

impl EpochRecord {
    /// Writes the record as TensorBoard scalars at its iteration.
    pub(crate) fn write_events(&self, steps: u64, events: &mut EventWriter) -> Result<()> {
        let computing = self.seconds * (1.0 - self.data_wait);
        let mut values = vec![
            (
                "time/computing_per_step".to_owned(),
                computing / steps as f64,
            ),
            (
                "time/waiting_per_step".to_owned(),
                (self.seconds - computing) / steps as f64,
            ),
            ("trouble/warnings".to_owned(), self.warnings.len() as f64),
            ("optimiser/learning_rate".to_owned(), self.learning_rate),
            ("optimiser/gradient_norm".to_owned(), self.gradient_norm),
            (
                "time/seconds_per_step".to_owned(),
                self.seconds / steps as f64,
            ),
            ("time/data_wait".to_owned(), self.data_wait),
            (
                "time/preparing_per_step".to_owned(),
                self.preparing / steps as f64,
            ),
            ("time/overhead".to_owned(), self.parts.overhead()),
        ];
        let memory = [
            ("memory/peak_gib", self.peak_memory),
            ("memory/device_peak_gib", self.peak_device_memory),
        ];
        for (name, bytes) in memory {
            if let Some(bytes) = bytes {
                values.push((name.to_owned(), bytes as f64 / (1u64 << 30) as f64));
            }
        }
        let validation = self.validation.iter().flatten();
        values.extend(self.terms.iter().map(|(k, v)| (format!("terms/{k}"), *v)));
        values.extend(validation.map(|(k, v)| (format!("validation/{k}"), *v)));
        events.scalars(
            self.iteration,
            values.iter().map(|(tag, value)| (tag.as_str(), *value)),
        )
    }
}

/// A value as JSON in one line, for the file `path`.
pub(crate) fn json_text(path: &Path, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::io(path)(e.into()))
}

/// Writes a value as JSON that people can read, whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::io(path)(e.into()))?;
    write_file(path, (text + "\n").as_bytes())
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    liseg_file::write(path, bytes).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(labelled: &[&str], unlabelled: &[&str]) -> CaseRoles {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        CaseRoles {
            labelled: ids(labelled),
            unlabelled: ids(unlabelled),
            validation: Vec::new(),
        }
    }

    fn plan(spacing: f64, patch: usize) -> Plan {
        Plan {
            spacing: liseg_volume::Spacing::new(spacing, 1.0, 1.0).unwrap(),
            patch_size: [patch, 32, 32],
            ..crate::network::tests::plan()
        }
    }

    #[test]
    fn runs_do_not_go_on_with_other_data() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&folder.path().join("run"), &RunConfig::new("data")).unwrap();
        let begun = roles(&["a", "b"], &["u"]);
        // Nothing is known of a run that was killed before its manifest was written.
        run.refuse_other_data(&plan(4.0, 16), &begun, true).unwrap();
        let device = ("cpu".to_owned(), "f32".to_owned());
        run.write_manifest("cps", device, &plan(4.0, 16), &begun)
            .unwrap();
        let told = |plan: &Plan, roles: &CaseRoles, unlabelled: bool| {
            let refused = run.refuse_other_data(plan, roles, unlabelled);
            refused
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let same = plan(4.0, 16);
        assert_eq!(told(&same, &begun, true), "");
        assert!(told(&plan(5.0, 16), &begun, true).contains("another plan"));
        assert!(told(&plan(4.0, 32), &begun, true).contains("[16, 32, 32]"));
        assert!(told(&same, &roles(&["a", "c"], &["u"]), false).contains("`c` is new"));
        assert!(told(&same, &roles(&["a"], &["u"]), false).contains("`b` is gone"));
        let more = roles(&["a", "b"], &["u", "v"]);
        assert!(told(&same, &more, true).contains("1 unlabelled cases and are 2"));
        assert_eq!(told(&same, &more, false), "");
    }

    #[test]
    fn a_loss_that_is_not_finite_stays_in_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&folder.path().join("run"), &RunConfig::new("data")).unwrap();
        let record = |epoch, loss| EpochRecord {
            epoch,
            iteration: epoch + 1,
            learning_rate: 0.1,
            terms: [("loss".to_owned(), loss)].into(),
            gradient_norm: loss,
            seconds: 1.0,
            data_wait: 0.0,
            preparing: 0.0,
            parts: StepSeconds::default(),
            peak_memory: None,
            peak_device_memory: None,
            validation: Some([("network".to_owned(), loss)].into()),
            warnings: Vec::new(),
        };
        for (epoch, loss) in [(0, 0.5), (1, f64::NAN), (2, f64::INFINITY), (3, 0.25)] {
            run.append_metrics(&record(epoch, loss)).unwrap();
        }
        run.forget_metrics_from(3).unwrap();
        let history = run.metrics().unwrap();
        let losses: Vec<f64> = history.iter().map(|record| record.terms["loss"]).collect();
        assert_eq!(losses.len(), 3);
        assert!(losses[1].is_nan() && losses[2].is_infinite());
        assert!(history[2].gradient_norm.is_infinite());
        let scored = history[1].validation.as_ref().unwrap();
        assert!(scored["network"].is_nan());
    }
}
