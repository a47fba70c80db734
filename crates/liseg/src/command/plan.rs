//! `liseg plan`.

use super::{Failure, Outcome, Result, Shared, print_json, progress};
use liseg::data::{Dataset, Finding, Fingerprint, Normalization, Plan, PlanOptions, Severity};
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
    #[command(flatten)]
    wishes: Wishes,
}

/// What to ask of a plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Wishes {
    /// Spacing in mm along z, y and x in place of the median, as in 7.7,2.5,2.5.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_spacing)]
    spacing: Option<Spacing>,
    /// Patch in voxels along z, y and x, as in 32,96,96.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_zyx::<usize>)]
    patch: Option<[usize; 3]>,
    /// How intensities are normalised: zscore, or robust_zscore where fluid is very bright (T2).
    #[arg(long, value_name = "SCHEME", default_value = "zscore")]
    normalization: Normalization,
}

impl Wishes {
    fn options(&self) -> PlanOptions {
        PlanOptions {
            spacing: self.spacing,
            patch_size: self.patch,
            normalization: self.normalization,
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
        let dataset = Dataset::open(&self.dataset)?;
        let plan = make_plan(&dataset, &self.wishes, shared)?;
        plan.write(&self.out)?;
        if shared.json {
            print_json(&serde_json::to_value(&plan).unwrap_or_default());
        } else {
            print_plan(&plan);
            println!("written to {}", self.out.display());
        }
        Ok(Outcome::Done)
    }
}

/// Checks a dataset and plans it.
pub(crate) fn make_plan(dataset: &Dataset, wishes: &Wishes, shared: &Shared) -> Result<Plan> {
    let spinner = progress::spinner(shared, "checking and measuring the images");
    let findings = dataset.check();
    let fingerprint =
        report_findings(&findings, shared).and_then(|()| Ok(Fingerprint::of(dataset)?));
    spinner.finish_and_clear();
    Ok(Plan::new(dataset, &fingerprint?, &wishes.options())?)
}

/// Lists what is wrong with a dataset; errors end the work.
pub(crate) fn report_findings(findings: &[Finding], shared: &Shared) -> Result<()> {
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .collect();
    for finding in findings.iter().filter(|f| f.severity == Severity::Warning) {
        let line = format!("warning: {}: {}", finding.file.display(), finding.message);
        progress::note(shared, None, &line);
    }
    let Some((first, others)) = errors.split_first() else {
        return Ok(());
    };
    for finding in others {
        eprintln!("liseg: {}", describe(finding));
    }
    Err(Failure::work(describe(first)))
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
    println!("dataset      {}", plan.dataset_name);
    println!("spacing      {} (z × y × x)", plan.spacing);
    println!(
        "patch        {} voxels, batch of {}",
        join(&plan.patch_size),
        plan.batch_size
    );
    let strides: Vec<String> = plan.pool_op_kernel_sizes.iter().map(|s| join(s)).collect();
    println!("strides      {}", strides.join(",  "));
    println!("intensities  {}", plan.normalization_scheme.name());
    let labels: Vec<String> = plan
        .labels
        .iter()
        .map(|(n, v)| format!("{n} = {v}"))
        .collect();
    println!("labels       {}", labels.join(", "));
}

/// Reads a plan, or makes one when none is given.
pub(crate) fn read_or_make(
    file: Option<&Path>,
    dataset: &Dataset,
    wishes: &Wishes,
    shared: &Shared,
) -> Result<Plan> {
    match file {
        Some(file) => Ok(Plan::read(file)?),
        None => make_plan(dataset, wishes, shared),
    }
}
