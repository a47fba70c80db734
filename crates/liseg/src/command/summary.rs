//! `liseg summary`.

use super::plan::parse_zyx;
use super::{Failure, Outcome, Result, Shared, print_json, say};
use liseg::data::Plan;
use liseg::nn::Weights;
use liseg::stunet::{Architecture, Size, StuNetConfig, UnetConfig};
use liseg::volume::Spacing;
use serde_json::json;
use std::path::PathBuf;

/// Voxels of a patch along an axis, at most, as in plans.
const LONGEST: usize = 4096;

/// What a network costs on a patch: parameters, operations and memory.
///
/// Nothing is built or allocated. Operations are multiply-accumulates of the convolutions, all heads
/// included; STU-Net's paper calls them FLOPs.
///
/// Examples: `liseg summary --size B --classes 105`, `liseg summary --size S --plans plans.json`,
/// `liseg summary --weights base_ep4k.model --patch 64,160,160`
#[derive(Debug, clap::Args)]
pub(crate) struct SummaryVerb {
    /// An STU-Net of that size: S, B, L or H; S when nothing else is said.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with_all = ["unet", "weights"])]
    size: Option<Size>,
    /// nnU-Net's plain U-Net.
    #[arg(long, conflicts_with = "weights")]
    unet: bool,
    /// The network that a file of weights belongs to.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Patch in voxels along z, y and x.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_zyx::<usize>, default_value = "128,128,128")]
    patch: [usize; 3],
    /// Output classes, background included.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        conflicts_with = "weights"
    )]
    classes: i64,
    /// Image channels.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "weights"
    )]
    channels: i64,
    /// Count the memory of training with checkpointing.
    #[arg(long)]
    checkpointing: bool,
    /// A plan whose patch, strides and classes to take.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["patch", "classes", "weights"])]
    plans: Option<PathBuf>,
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

impl SummaryVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let plan = self.plans.as_deref().map(Plan::read).transpose()?;
        let shape = self.shape(plan.as_ref())?;
        let patch = plan.map_or(self.patch, |plan| plan.patch_size);
        if patch.iter().any(|&side| side > LONGEST) {
            let text =
                format!("--patch {patch:?}: expected at most {LONGEST} voxels along an axis");
            return Err(Failure::usage(text));
        }
        let summary = shape
            .summary(patch)
            .map_err(|e| Failure::usage(e.to_string()))?;
        let name = shape.name();
        if shared.json {
            print_json(&json!({"network": name, "config": shape, "summary": summary}));
        } else {
            say!("{name}, {} classes", shape.classes());
            say!("{summary}");
        }
        Ok(Outcome::Done)
    }

    fn shape(&self, plan: Option<&Plan>) -> Result<Architecture> {
        if let Some(file) = &self.weights {
            let weights = Weights::open(file)?;
            let shape = Architecture::of_weights(&weights.tensors);
            let shape = shape.ok_or_else(|| {
                let file = file.display();
                Failure::usage(format!(
                    "{file}: neither an STU-Net nor a plain U-Net by its names"
                ))
            })?;
            return Ok(self.with_checkpointing(shape));
        }
        let classes = plan.map_or(self.classes, |plan| plan.classes() as i64);
        let input_channels = self.channels;
        let strides = plan.map_or([[2; 3]; 5], |plan| plan.pool_op_kernel_sizes);
        Ok(self.with_checkpointing(if self.unet {
            let isotropic =
                Spacing::new(1.0, 1.0, 1.0).map_err(|e| Failure::usage(e.to_string()))?;
            let spacing = plan.map_or(isotropic, |plan| plan.spacing);
            let config = UnetConfig::for_grid(spacing, &strides, classes);
            UnetConfig {
                input_channels,
                ..config
            }
            .into()
        } else {
            let config = StuNetConfig::new(self.size.unwrap_or_default(), classes);
            StuNetConfig {
                input_channels,
                strides,
                ..config
            }
            .into()
        }))
    }

    fn with_checkpointing(&self, shape: Architecture) -> Architecture {
        match shape {
            Architecture::StuNet(mut config) => {
                config.checkpointing = self.checkpointing;
                config.into()
            }
            Architecture::Unet(mut config) => {
                config.checkpointing = self.checkpointing;
                config.into()
            }
        }
    }
}
