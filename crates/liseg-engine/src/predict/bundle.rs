//! A model in one file, for other machines.

use super::description::Description;
use super::{Model, Postprocessing};
use crate::run::json_text;
use crate::{Error, Result, RunFolder};
use liseg_nn::tch::Device;
use liseg_nn::{Precision, TensorMap, checkpoint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The key of a bundle's facts under which its contents are listed, and that of its digest.
const CONTENTS: &str = "liseg_bundle";
const DIGEST: &str = "liseg_digest";

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleContents {
    /// LiSeg's version that made it.
    pub liseg: String,
    /// The runs or checkpoints it was made from, with a hash of the weights' file.
    pub members: Vec<BundleMember>,
    /// How masks are cleaned.
    pub postprocessing: Postprocessing,
}

/// One run or checkpoint of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleMember {
    /// Name of the run's folder or of the file.
    pub name: String,
    /// BLAKE3 of the checkpoint that its weights come from.
    pub checkpoint_blake3: String,
    /// Network, plan and patch, as in the checkpoint.
    pub(crate) model: Description,
}

/// Puts the weights that runs (or checkpoints) predict with, their plan and their post-processing into one
/// file, with hashes of everything in it. Optimisers and other networks stay behind.
///
/// The post-processing is that of the first run. Returns the digest of the bundle, by which others can
/// tell that they have the same.
///
/// # Errors
/// When a run has no checkpoint, the models do not fit together, or the file cannot be written.
pub fn write_bundle(sources: &[PathBuf], output: &Path) -> Result<String> {
    let mut tensors = TensorMap::new();
    let mut members = Vec::new();
    let mut postprocessing = None;
    let mut models = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let (file, cleaning) = weights_of(source)?;
        let bytes = liseg_file::read(&file).map_err(Error::io(&file))?;
        let checkpoint_blake3 = blake3::hash(&bytes).to_hex().to_string();
        drop(bytes);
        let (all, facts) = checkpoint::read(&file)?;
        let model = Description::of_facts(&file, &facts)?;
        models.push(Model::of_tensors(
            &file,
            &all,
            &facts,
            Device::Cpu,
            Precision::F32,
        )?);
        for name in &model.predictors {
            let prefix = format!("{name}.");
            for (key, tensor) in all.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                tensors.insert(format!("{index}/{key}"), tensor.shallow_clone());
            }
        }
        members.push(BundleMember {
            name: source
                .file_name()
                .map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
            checkpoint_blake3,
            model,
        });
        postprocessing.get_or_insert(cleaning);
    }
    Model::ensemble(models)?;
    let contents = BundleContents {
        liseg: env!("CARGO_PKG_VERSION").into(),
        members,
        postprocessing: postprocessing.unwrap_or_default(),
    };
    let text = json_text(output, &contents)?;
    let digest = digest(&text, &tensors)?;
    let facts = BTreeMap::from([
        (CONTENTS.to_owned(), text),
        (DIGEST.to_owned(), digest.clone()),
    ]);
    checkpoint::write(output, &tensors, &facts)?;
    Ok(digest)
}

/// The checkpoint that a run (or a checkpoint) predicts with, and the cleaning chosen for it.
fn weights_of(source: &Path) -> Result<(PathBuf, Postprocessing)> {
    if source.is_file() {
        return Ok((source.to_owned(), Postprocessing::default()));
    }
    let run = RunFolder::open(source)?;
    let chosen = run.postprocessing_file();
    let cleaning = if chosen.is_file() {
        Postprocessing::read(&chosen)?
    } else {
        Postprocessing::default()
    };
    Ok((run.weights()?, cleaning))
}

impl Model {
    /// Opens whatever holds a model: a run's folder, a checkpoint, a bundle.
    ///
    /// # Errors
    /// As [`Model::of_run`], [`Model::load`] and [`Model::of_bundle`].
    pub fn open(path: &Path, device: Device, precision: Precision) -> Result<Self> {
        if path.is_dir() {
            return Self::of_run(&RunFolder::open(path)?, device, precision);
        }
        let beginnings = |facts: &BTreeMap<String, String>| {
            let bundle = facts.contains_key(CONTENTS);
            (!bundle).then(|| Description::predictors(facts)).flatten()
        };
        let (tensors, facts) = checkpoint::read_beginning(path, beginnings)?;
        if facts.contains_key(CONTENTS) {
            return Self::of_contents(path, &tensors, &facts, device, precision);
        }
        Self::of_tensors(path, &tensors, &facts, device, precision)
    }

    /// Loads a bundle, after checking every byte of it against its digest.
    ///
    /// # Errors
    /// [`Error::Run`] when the file was changed since it was made, or is no bundle.
    pub fn of_bundle(path: &Path, device: Device, precision: Precision) -> Result<Self> {
        let (tensors, facts) = checkpoint::read(path)?;
        Self::of_contents(path, &tensors, &facts, device, precision)
    }

    fn of_contents(
        path: &Path,
        tensors: &TensorMap,
        facts: &BTreeMap<String, String>,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let contents = contents(path, tensors, facts)?;
        let mut models = Vec::new();
        for (index, member) in contents.members.iter().enumerate() {
            let prefix = format!("{index}/");
            let own: TensorMap = tensors
                .iter()
                .filter_map(|(key, t)| {
                    Some((key.strip_prefix(&prefix)?.to_owned(), t.shallow_clone()))
                })
                .collect();
            let facts = member.model.facts()?;
            models.push(Self::of_tensors(path, &own, &facts, device, precision)?);
        }
        let mut model = Self::ensemble(models)?;
        model.postprocessing = contents.postprocessing;
        Ok(model)
    }
}

/// What is in a bundle, and its digest.
///
/// # Errors
/// As [`Model::of_bundle`].
pub fn read_bundle(path: &Path) -> Result<(BundleContents, String)> {
    let (tensors, facts) = checkpoint::read(path)?;
    let contents = contents(path, &tensors, &facts)?;
    Ok((contents, facts.get(DIGEST).cloned().unwrap_or_default()))
}

fn contents(
    path: &Path,
    tensors: &TensorMap,
    facts: &BTreeMap<String, String>,
) -> Result<BundleContents> {
    let refuse = |reason: String| Error::Run {
        path: path.to_owned(),
        reason,
    };
    let (Some(text), Some(stated)) = (facts.get(CONTENTS), facts.get(DIGEST)) else {
        return Err(refuse(
            "no model bundle; make one with `liseg bundle RUN -o model.liseg`".into(),
        ));
    };
    let found = digest(text, tensors)?;
    if found != *stated {
        let reason = "the bundle was changed or damaged since it was made: its contents do not have \
                      the digest it states; get it again";
        return Err(refuse(reason.into()));
    }
    serde_json::from_str(text)
        .map_err(|e| refuse(format!("the bundle is of another version of LiSeg: {e}")))
}

/// BLAKE3 of the contents' list and of every tensor's name, format, shape and values, in order of names.
fn digest(contents: &str, tensors: &TensorMap) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(contents.as_bytes());
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        part(name.as_bytes());
        part(format!("{kind:?}{:?}", tensor.size()).as_bytes());
        part(&checkpoint::bytes_of(tensor)?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
