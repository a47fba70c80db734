//! `liseg plan`.

use super::phases::check_phases;
use super::{Failure, Outcome, Result, Shared, outputs, print_as_json, progress, say, terminal};
use liseg::data::{
    Dataset, Finding, Fingerprint, NnunetPlanner, Normalization, Plan, PlanNetwork, PlanOptions,
    Severity,
};
use liseg::volume::Spacing;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Choose spacing, patch and strides for a dataset.
///
/// The plan is a JSON file to read and to edit; `preprocess --plans` takes it.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanVerb {
    /// An nnU-Net raw dataset: imagesTr, labelsTr, dataset.json; imagesUn for unlabelled images.
    dataset: PathBuf,
    /// Where to write the plan.
    #[arg(long, value_name = "FILE", default_value = "plans.json")]
    out: PathBuf,
    /// Write nnU-Net's own plans too (nnUNetPlans.json), to train nnU-Net beside it on the same data.
    #[arg(long, value_name = "FILE")]
    nnunet: Option<PathBuf>,
    /// Write what the images look like too, with nnU-Net's names (dataset_fingerprint.json).
    #[arg(long, value_name = "FILE")]
    fingerprint: Option<PathBuf>,
    #[command(flatten)]
    wishes: Wishes,
}

/// What to ask of a plan.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub(crate) struct Wishes {
    /// Spacing in mm along z, y and x in place of the median, as in 7.7,2.5,2.5.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_spacing)]
    spacing: Option<Spacing>,
    /// Patch in voxels along z, y and x, as in 32,96,96.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_zyx::<usize>)]
    patch: Option<[usize; 3]>,
    /// Plan the largest patch that this network trains on in --memory-gb: S, B, L or H (STU-Net), or
    /// unet (nnU-Net's). Without it a patch has at most 128³ voxels.
    #[arg(long, value_name = "NETWORK")]
    network: Option<PlanNetwork>,
    /// Memory of the device that trains, in GB, with --network.
    #[arg(long, value_name = "GB", default_value_t = 8.0, requires = "network")]
    memory_gb: f64,
    /// Take the grid of the published STU-Net weights: 1.5 mm, 128³ voxels, their strides.
    #[arg(long, conflicts_with_all = ["network", "spacing", "patch"])]
    pretrained_grid: bool,
    /// How intensities are normalised: zscore, robust_zscore where fluid is very bright (T2), ct,
    /// rescale_to_0_1, rgb_to_0_1 or nonorm.
    #[arg(long, value_name = "SCHEME", default_value = "zscore")]
    normalization: Normalization,
    /// Another normalization for single phases, as in T2WI=robust_zscore,DWI=robust_zscore.
    #[arg(long, value_name = "PHASE=SCHEME", value_delimiter = ',', value_parser = parse_scheme)]
    normalization_for: Vec<(String, Normalization)>,
}

fn parse_scheme(text: &str) -> std::result::Result<(String, Normalization), String> {
    let (phase, scheme) = text
        .split_once('=')
        .ok_or("expected PHASE=SCHEME, as in T2WI=robust_zscore")?;
    Ok((phase.to_owned(), scheme.parse()?))
}

impl Wishes {
    /// Whether nothing was asked for.
    fn are_none(&self) -> bool {
        *self
            == Self {
                spacing: None,
                patch: None,
                network: None,
                memory_gb: self.memory_gb,
                pretrained_grid: false,
                normalization: Normalization::ZScore,
                normalization_for: Vec::new(),
            }
    }

    fn check(&self, dataset: &Dataset) -> Result<()> {
        let phases = self.normalization_for.iter().map(|(phase, _)| phase);
        check_phases("--normalization-for", phases, dataset)
    }

    fn options(&self) -> PlanOptions {
        PlanOptions {
            spacing: self.spacing,
            patch_size: self.patch,
            normalization: self.normalization,
            normalization_by_phase: self.normalization_for.iter().cloned().collect(),
            network: self.network,
            memory_gb: self.memory_gb,
            ..PlanOptions::default()
        }
    }
}

fn parse_spacing(text: &str) -> std::result::Result<Spacing, String> {
    let [z, y, x] = parse_zyx::<f64>(text)?;
    Spacing::new(z, y, x).map_err(|e| e.to_string())
}

/// Three numbers with commas between them.
pub(super) fn parse_zyx<T: FromStr>(text: &str) -> std::result::Result<[T; 3], String> {
    let numbers: Option<Vec<T>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    numbers
        .and_then(|n| n.try_into().ok())
        .ok_or_else(|| "expected three numbers for z, y and x, as in 32,96,96".to_owned())
}

impl PlanVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let outputs = [
            ("--out", Some(self.out.as_path())),
            ("--fingerprint", self.fingerprint.as_deref()),
            ("--nnunet", self.nnunet.as_deref()),
        ];
        outputs::check(&outputs, &[])?;
        let dataset = Dataset::open(&self.dataset)?;
        self.wishes.check(&dataset)?;
        let (plan, fingerprint) = measure_and_plan(&dataset, &self.wishes, shared)?;
        plan.write(&self.out)?;
        if let Some(file) = &self.fingerprint {
            fingerprint.write_nnunet(file)?;
        }
        if let Some(file) = &self.nnunet {
            let name = self.dataset.file_name().map(|n| n.to_string_lossy());
            let name = name.as_deref().unwrap_or(dataset.name());
            NnunetPlanner::new(name, &fingerprint, dataset.labels().len()).write(file)?;
        }
        if shared.json {
            print_as_json(serde_json::to_value(&plan))?;
        } else {
            print_plan(&plan);
            say!("written to {}", self.out.display());
        }
        Ok(Outcome::Done)
    }
}

/// Checks a dataset and plans it.
fn measure_and_plan(
    dataset: &Dataset,
    wishes: &Wishes,
    shared: &Shared,
) -> Result<(Plan, Fingerprint)> {
    let spinner = progress::spinner(shared, "checking and measuring the images");
    let findings = dataset.check();
    let fingerprint = report_findings(&findings).and_then(|()| Ok(Fingerprint::of(dataset)?));
    spinner.finish_and_clear();
    let fingerprint = fingerprint?;
    Ok((plan_of(dataset, &fingerprint, wishes)?, fingerprint))
}

fn plan_of(dataset: &Dataset, fingerprint: &Fingerprint, wishes: &Wishes) -> Result<Plan> {
    let mut plan = Plan::new(dataset, fingerprint, &wishes.options())?;
    if wishes.pretrained_grid {
        let grid = Plan::stunet_pretrained(dataset.name(), dataset.labels().clone());
        plan.spacing = grid.spacing;
        plan.patch_size = grid.patch_size;
        plan.batch_size = grid.batch_size;
        plan.pool_op_kernel_sizes = grid.pool_op_kernel_sizes;
        plan.median_image_size_in_voxels = grid.median_image_size_in_voxels;
        // The weights saw whole images' statistics.
        plan.use_mask_for_norm = grid.use_mask_for_norm;
    }
    Ok(plan)
}

/// Lists what is wrong with a dataset; errors end the work.
pub(crate) fn report_findings(findings: &[Finding]) -> Result<()> {
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .collect();
    for finding in findings.iter().filter(|f| f.severity == Severity::Warning) {
        tracing::warn!("{}", describe(finding));
    }
    let Some((last, others)) = errors.split_last() else {
        return Ok(());
    };
    for finding in others {
        terminal::complain(&describe(finding));
    }
    Err(Failure::work(describe(last)))
}

/// The finding with its file named once.
fn describe(finding: &Finding) -> String {
    let file = finding.file.display().to_string();
    if finding.message.contains(&file) {
        finding.message.clone()
    } else {
        format!("{file}: {}", finding.message)
    }
}

pub(crate) fn print_plan(plan: &Plan) {
    let join = |v: &[usize]| {
        v.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" × ")
    };
    say!("dataset      {}", plan.dataset_name);
    say!("spacing      {} (z × y × x)", plan.spacing);
    say!(
        "patch        {} voxels, batch of {}",
        join(&plan.patch_size),
        plan.batch_size
    );
    let strides: Vec<String> = plan.pool_op_kernel_sizes.iter().map(|s| join(s)).collect();
    say!("strides      {}", strides.join(",  "));
    let masked = if plan.use_mask_for_norm {
        ", masked"
    } else {
        ""
    };
    say!("intensities  {}{masked}", plan.normalization_scheme.name());
    for (phase, scheme) in &plan.normalization_by_phase {
        say!("             {} for {phase}", scheme.name());
    }
    let labels: Vec<String> = plan
        .labels
        .iter()
        .map(|(n, v)| format!("{n} = {v}"))
        .collect();
    say!("labels       {}", labels.join(", "));
}

/// The plan that is given; else that of an earlier run into `out`, so that a second run does what the
/// first one left; else a plan made from every case that can be read.
pub(crate) fn read_or_make(
    file: Option<&Path>,
    dataset: &Dataset,
    wishes: &Wishes,
    out: &Path,
    shared: &Shared,
) -> Result<Plan> {
    if let Some(file) = file {
        return Ok(Plan::read(file)?);
    }
    wishes.check(dataset)?;
    let earlier = out.join("plan.json");
    if wishes.are_none() && earlier.is_file() {
        let plan = Plan::read(&earlier)?;
        if plan.labels == *dataset.labels() {
            let line = format!("taking the plan of an earlier run, {}", earlier.display());
            progress::note(shared, None, &line);
            return Ok(plan);
        }
    }
    let spinner = progress::spinner(shared, "measuring the images");
    let measured = Fingerprint::of_readable(dataset);
    spinner.finish_and_clear();
    // Those that cannot be read fail again, and are listed, when they are preprocessed.
    plan_of(dataset, &measured?.0, wishes)
}
