//! Tasks on data sets: preprocessing them, and drawing from what was preprocessed.

use crate::{Failure, best};
use liseg_data::{
    CaseStore, Dataset, Fingerprint, NnunetPlanner, Plan, PlanOptions, PreprocessOptions,
    StoredCase, preprocess_dataset,
};
use liseg_volume::{Seed, Spacing};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// Runs a task of this module; `None` for others.
pub(crate) fn run(task: &str, repeat: usize, files: &[String]) -> Option<Result<f64, Failure>> {
    match task {
        "preprocess" => Some(preprocess(files)),
        "nnunet-plans" => Some(nnunet_plans(files)),
        "foreground-draw" => Some(draw(files)),
        "crop" => Some(crop(repeat, files)),
        _ => None,
    }
}

fn argument(arguments: &[String], index: usize) -> Result<&str, Failure> {
    let found = arguments.get(index).map(String::as_str);
    found.ok_or_else(|| format!("argument {index} is missing").into())
}

/// Seconds for a whole data set: folder, store, jobs and, where not the planned one, the spacing.
/// Fingerprint and plan do not count, as they do not in `nnUNetv2_preprocess`.
fn preprocess(arguments: &[String]) -> Result<f64, Failure> {
    let dataset = Dataset::open(Path::new(argument(arguments, 0)?))?;
    let store = Path::new(argument(arguments, 1)?);
    let mut wishes = PlanOptions::default();
    if let Some(text) = arguments.get(3) {
        let zyx: Vec<f64> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [z, y, x] = zyx[..] else {
            return Err("a spacing has three numbers".into());
        };
        wishes.spacing = Some(Spacing::new(z, y, x)?);
    }
    let plan = Plan::new(&dataset, &Fingerprint::of(&dataset)?, &wishes)?;
    let options = PreprocessOptions {
        jobs: argument(arguments, 2)?.parse()?,
        resume: false,
        ..PreprocessOptions::default()
    };
    let start = Instant::now();
    let report = preprocess_dataset(&dataset, &plan, store, &options, |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    match report.failed.into_iter().next() {
        Some((case, error)) => Err(format!("{case}: {error}").into()),
        None => Ok(seconds),
    }
}

/// Seconds to measure and plan a data set as nnU-Net does; writes its plans: folder, file.
fn nnunet_plans(arguments: &[String]) -> Result<f64, Failure> {
    let folder = Path::new(argument(arguments, 0)?);
    let name = folder.file_name().ok_or("the folder has no name")?;
    let start = Instant::now();
    let dataset = Dataset::open(folder)?;
    let fingerprint = Fingerprint::of(&dataset)?;
    let planner = NnunetPlanner::new(
        &name.to_string_lossy(),
        &fingerprint,
        dataset.labels().len(),
    );
    planner.write(Path::new(argument(arguments, 1)?))?;
    Ok(start.elapsed().as_secs_f64())
}

/// Mean seconds of a random foreground voxel over many draws from all cases of a store.
fn draw(arguments: &[String]) -> Result<f64, Failure> {
    const DRAWS: u64 = 100_000;
    let store = CaseStore::open(Path::new(argument(arguments, 0)?))?;
    let cases: Vec<_> = store
        .cases()
        .iter()
        .filter(|case| case.label().is_some())
        .collect();
    if cases.is_empty() {
        return Err("the store has no labelled case".into());
    }
    let mut rng = Seed(1).stream("peers", 0, 0);
    let start = Instant::now();
    for draw in 0..DRAWS {
        let case = cases[draw as usize % cases.len()];
        black_box(case.random_foreground(&mut rng));
    }
    Ok(start.elapsed().as_secs_f64() / DRAWS as f64)
}

/// Seconds to open a stored case and cut 32×64×64 voxels out of its middle.
fn crop(repeat: usize, arguments: &[String]) -> Result<f64, Failure> {
    let path = Path::new(argument(arguments, 0)?);
    best(repeat, || {
        let case = StoredCase::open(path)?;
        let (shape, size) = (case.shape(), [32, 64, 64]);
        let corner = std::array::from_fn(|a| (shape[a] as i64 - size[a] as i64) / 2);
        Ok(case.cut_image(corner, size))
    })
}
