//! `liseg weights`.

use super::plan::parse_zyx;
use super::{Failure, Outcome, Result, Shared, print_json};
use liseg::data::Plan;
use liseg::nn::{TensorMap, Weights, checkpoint};
use liseg::stunet::{Size, StuNetConfig};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Look into files of pretrained weights, convert them, or see what a network costs.
///
/// Reads what STU-Net publishes (`small_ep4k.model` and its larger siblings), nnU-Net's v1 and v2
/// checkpoints, plain PyTorch state dicts and safetensors. Pickles are parsed as data: nothing in
/// them is executed.
#[derive(Debug, clap::Args)]
pub(crate) struct WeightsVerb {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say what a file holds: format, network, size; -v lists every tensor.
    Inspect {
        /// A file of weights.
        file: PathBuf,
    },
    /// Write the weights as safetensors, with their network and origin in its header.
    ///
    /// `train` and `predict` read either; safetensors load faster and are safe to pass on.
    Convert {
        /// A file of weights.
        file: PathBuf,
        /// Where to write; the file's own name with `.safetensors` when absent.
        out: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// What an STU-Net costs: parameters, operations and memory, stage by stage.
    Summary {
        /// S, B, L or H.
        #[arg(value_parser = parse_size)]
        size: Size,
        /// Patch in voxels along z, y and x.
        #[arg(long, value_name = "Z,Y,X", value_parser = parse_zyx::<usize>, default_value = "128,128,128")]
        patch: [usize; 3],
        /// Output classes, background included.
        #[arg(long, value_name = "N", default_value_t = 2)]
        classes: i64,
        /// A plan whose patch, strides and classes to take.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["patch", "classes"])]
        plans: Option<PathBuf>,
    },
}

fn parse_size(text: &str) -> std::result::Result<Size, String> {
    match text {
        "S" | "s" => Ok(Size::S),
        "B" | "b" => Ok(Size::B),
        "L" | "l" => Ok(Size::L),
        "H" | "h" => Ok(Size::H),
        _ => Err("expected S, B, L or H".to_owned()),
    }
}

impl WeightsVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        match &self.what {
            What::Inspect { file } => inspect(file, shared),
            What::Convert { file, out, force } => convert(file, out.as_deref(), *force, shared),
            What::Summary {
                size,
                patch,
                classes,
                plans,
            } => match plans {
                Some(plans) => {
                    let plan = Plan::read(plans)?;
                    let config = StuNetConfig {
                        strides: plan.pool_op_kernel_sizes,
                        ..StuNetConfig::new(*size, plan.classes() as i64)
                    };
                    summarize(*size, &config, plan.patch_size, shared)
                }
                None => summarize(*size, &StuNetConfig::new(*size, *classes), *patch, shared),
            },
        }
    }
}

/// The name of the network, when it is an STU-Net.
fn network_name(tensors: &TensorMap) -> Option<(String, StuNetConfig)> {
    let config = StuNetConfig::of_weights(tensors)?;
    let name = match config.published_size() {
        Some(size) => size.to_string(),
        None => format!(
            "STU-Net of widths {:?}, depths {:?}",
            config.widths, config.depths
        ),
    };
    Some((name, config))
}

fn summarize(
    size: Size,
    config: &StuNetConfig,
    patch: [usize; 3],
    shared: &Shared,
) -> Result<Outcome> {
    let summary = config
        .summary(patch)
        .map_err(|e| Failure::usage(e.to_string()))?;
    if shared.json {
        print_json(&json!({"network": size.to_string(), "summary": summary}));
    } else {
        println!("{size}, {} classes", config.classes);
        println!("{summary}");
    }
    Ok(Outcome::Done)
}

fn inspect(file: &Path, shared: &Shared) -> Result<Outcome> {
    let weights = Weights::read(file)?;
    let network = network_name(&weights.tensors);
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
            "tensors": tensors,
            "facts": weights.facts,
            "skipped": weights.skipped,
        }));
        return Ok(Outcome::Done);
    }
    println!("{}", file.display());
    match &weights.container {
        Some(key) => println!("  format      {}, weights under `{key}`", weights.format),
        None => println!("  format      {}", weights.format),
    }
    match &network {
        Some((name, c)) => println!(
            "  network     {name}; {} input channel(s), {} classes",
            c.input_channels, c.classes
        ),
        None => println!("  network     not an STU-Net by its names"),
    }
    println!(
        "  parameters  {} in {} tensors",
        weights.count(),
        weights.tensors.len()
    );
    if !weights.skipped.is_empty() {
        println!(
            "  left out    {} tensors beside the weights",
            weights.skipped.len()
        );
    }
    for (name, fact) in weights.facts.iter().filter(|(_, fact)| fact.len() < 200) {
        println!("  {name:<11} {fact}");
    }
    if shared.verbose > 0 {
        for (name, tensor) in &weights.tensors {
            println!("  {name}  {:?} {:?}", tensor.size(), tensor.kind());
        }
    }
    Ok(Outcome::Done)
}

fn convert(file: &Path, out: Option<&Path>, force: bool, shared: &Shared) -> Result<Outcome> {
    let out = out.map_or_else(|| file.with_extension("safetensors"), Path::to_owned);
    if out.exists() && !force {
        return Err(Failure::usage(format!(
            "{}: is there already; name another file, or replace it with --force",
            out.display()
        )));
    }
    let weights = Weights::read(file)?;
    let mut facts = weights.facts.clone();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    facts.insert("source".to_owned(), name.into_owned());
    facts.insert("source_format".to_owned(), weights.format.to_string());
    facts.insert(
        "converted_by".to_owned(),
        format!("liseg {}", env!("CARGO_PKG_VERSION")),
    );
    if let Some((name, config)) = network_name(&weights.tensors) {
        facts.insert("network".to_owned(), name);
        facts.insert("config".to_owned(), json!(config).to_string());
    }
    checkpoint::write(&out, &weights.tensors, &facts)?;
    if shared.json {
        print_json(
            &json!({"written": out.display().to_string(), "tensors": weights.tensors.len()}),
        );
    } else {
        println!(
            "{} tensors written to {}",
            weights.tensors.len(),
            out.display()
        );
    }
    Ok(Outcome::Done)
}
