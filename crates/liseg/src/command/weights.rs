//! `liseg weights`.

use super::{Failure, Outcome, Result, Shared, print_json, say};
use liseg::data::Plan;
use liseg::engine::predict::write_model;
use liseg::nn::{Kept, TensorMap, WeightCache, Weights, checkpoint};
use liseg::stunet::Architecture;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Look into files of pretrained weights, convert or keep them; nothing in them is executed.
///
/// Reads what STU-Net publishes (`small_ep4k.model` and its larger siblings), nnU-Net's v1 and v2
/// checkpoints, plain PyTorch state dicts and safetensors. Pickles are parsed as data: nothing in
/// them is executed, and a file that asks for anything but weights is refused.
#[derive(Debug, clap::Args)]
pub(crate) struct WeightsVerb {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say what a file holds: format, network, size, hash; -v lists every tensor.
    Inspect {
        /// A file of weights, or `blake3:` and the beginning of a kept one's hash.
        file: PathBuf,
    },
    /// Write the weights as safetensors, with network, plan, origin and hash in its header.
    ///
    /// `train` starts from either; safetensors load faster and are safe to pass on. `predict` has to know how the
    /// network sees images: with --plans it predicts with what is written.
    Convert {
        /// A file of weights, or `blake3:` and the beginning of a kept one's hash.
        file: PathBuf,
        /// Where to write; the file's own name with `.safetensors` when absent.
        out: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
        /// The plan with which the weights were trained, as `liseg plan` writes it: its spacing, patch, strides,
        /// normalization and labels.
        #[arg(long, value_name = "FILE")]
        plans: Option<PathBuf>,
    },
    /// Copy weights into the cache folder, under the hash of their content.
    ///
    /// A config may then say `weights = "blake3:…"`: the same numbers on every machine that keeps them.
    /// The folder is `weights` in $LISEG_CACHE, else in $XDG_CACHE_HOME/liseg, else in ~/.cache/liseg.
    Keep {
        /// Files of weights.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the weights in the cache folder.
    List,
}

impl WeightsVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        match &self.what {
            What::Inspect { file } => inspect(file, shared),
            What::Convert {
                file,
                out,
                force,
                plans,
            } => {
                let plan = plans.as_deref().map(Plan::read).transpose()?;
                convert(file, (out.as_deref(), *force), plan.as_ref(), shared)
            }
            What::Keep { files } => keep(files, shared),
            What::List => list(shared),
        }
    }
}

/// The name of the network, when it is one of ours.
fn network_name(tensors: &TensorMap) -> Option<(String, Architecture)> {
    let shape = Architecture::of_weights(tensors)?;
    Some((shape.name(), shape))
}

/// A shape without what weights do not tell: an STU-Net's strides.
fn known_of(shape: &Architecture) -> serde_json::Value {
    let mut shape_json = json!(shape);
    if let (Architecture::StuNet(_), Some(fields)) = (shape, shape_json.as_object_mut()) {
        fields.remove("strides");
    }
    shape_json
}

fn keep(files: &[PathBuf], shared: &Shared) -> Result<Outcome> {
    let cache = WeightCache::usual()?;
    let kept = files.iter().map(|file| cache.keep(file));
    let kept = kept.collect::<liseg::nn::Result<Vec<_>>>()?;
    print_kept(&cache, &kept, shared);
    Ok(Outcome::Done)
}

fn list(shared: &Shared) -> Result<Outcome> {
    let cache = WeightCache::usual()?;
    let kept = cache.list()?;
    if kept.is_empty() && !shared.json {
        say!("{}: nothing is kept", cache.folder().display());
        return Ok(Outcome::Done);
    }
    print_kept(&cache, &kept, shared);
    Ok(Outcome::Done)
}

fn print_kept(cache: &WeightCache, kept: &[Kept], shared: &Shared) {
    if shared.json {
        let kept: Vec<_> = kept
            .iter()
            .map(|k| {
                let path = k.path.display().to_string();
                json!({"weights": format!("blake3:{}", k.hash), "path": path, "bytes": k.bytes})
            })
            .collect();
        print_json(&json!({"folder": cache.folder().display().to_string(), "kept": kept}));
        return;
    }
    for k in kept {
        say!("blake3:{}  {:.1} MB", k.hash, k.bytes as f64 / 1e6);
    }
}

fn inspect(file: &Path, shared: &Shared) -> Result<Outcome> {
    let weights = Weights::open(file)?;
    let network = network_name(&weights.tensors);
    let hash = weights.content_hash()?;
    if shared.json {
        let tensors: BTreeMap<_, _> = weights
            .tensors
            .iter()
            .map(|(name, t)| {
                (
                    name,
                    json!({"shape": t.size(), "dtype": format!("{:?}", t.kind())}),
                )
            })
            .collect();
        print_json(&json!({
            "file": file.display().to_string(),
            "format": weights.format.to_string(),
            "container": weights.container,
            "network": network.as_ref().map(|(name, _)| name),
            "config": network.as_ref().map(|(_, config)| config),
            "parameters": weights.count(),
            "hash": format!("blake3:{hash}"),
            "tensors": tensors,
            "facts": weights.facts,
            "skipped": weights.skipped,
        }));
        return Ok(Outcome::Done);
    }
    say!("{}", file.display());
    match &weights.container {
        Some(key) => say!("  format      {}, weights under `{key}`", weights.format),
        None => say!("  format      {}", weights.format),
    }
    match &network {
        Some((name, c)) => say!(
            "  network     {name}; {} input channel(s), {} classes",
            c.input_channels(),
            c.classes()
        ),
        None => say!("  network     neither an STU-Net nor a plain U-Net by its names"),
    }
    say!(
        "  parameters  {} in {} tensors",
        weights.count(),
        weights.tensors.len()
    );
    say!("  hash        blake3:{hash}");
    if !weights.skipped.is_empty() {
        say!(
            "  left out    {} tensors beside the weights",
            weights.skipped.len()
        );
    }
    for (name, fact) in weights.facts.iter().filter(|(_, fact)| fact.len() < 200) {
        say!("  {name:<11} {fact}");
    }
    if shared.verbose > 0 {
        for (name, tensor) in &weights.tensors {
            say!("  {name}  {:?} {:?}", tensor.size(), tensor.kind());
        }
    }
    Ok(Outcome::Done)
}

fn convert(
    file: &Path,
    (out, force): (Option<&Path>, bool),
    plan: Option<&Plan>,
    shared: &Shared,
) -> Result<Outcome> {
    let out = out.map_or_else(|| file.with_extension("safetensors"), Path::to_owned);
    if out.exists() && !force {
        return Err(Failure::usage(format!(
            "{}: is there already; name another file, or replace it with --force",
            out.display()
        )));
    }
    let weights = Weights::open(file)?;
    let mut facts = weights.facts.clone();
    weights.add_origin(file, &mut facts);
    facts.insert(
        "hash".to_owned(),
        format!("blake3:{}", weights.content_hash()?),
    );
    facts.insert(
        "converted_by".to_owned(),
        format!("liseg {}", env!("CARGO_PKG_VERSION")),
    );
    if let Some((name, shape)) = network_name(&weights.tensors) {
        facts.insert("network".to_owned(), name);
        facts.insert("architecture".to_owned(), known_of(&shape).to_string());
        facts.insert("classes".to_owned(), shape.classes().to_string());
    }
    let count = weights.tensors.len();
    match plan {
        Some(plan) => {
            write_model(&out, weights.tensors, plan, facts)?;
        }
        None => checkpoint::write(&out, &weights.tensors, &facts)?,
    }
    if shared.json {
        print_json(&json!({"written": out.display().to_string(), "tensors": count}));
    } else {
        say!("{count} tensors written to {}", out.display());
    }
    Ok(Outcome::Done)
}
