//! What several examples begin with: a generated dataset, planned and preprocessed, and the config of a
//! run that takes seconds. `train_and_predict.rs` explains these calls.

use anyhow::Result;
use liseg::data::{Dataset, Fingerprint, Plan, PlanOptions, PreprocessOptions, preprocess_dataset};
use liseg::engine::RunConfig;
use liseg::phantom::{PhantomConfig, Phase, Resolution, write_nnunet};
use std::path::Path;

/// Makes `folder/dataset` (two training patients with labels and one without, two to test on) and
/// `folder/data`, and gives the config of a run on them.
pub(crate) fn prepared(folder: &Path) -> Result<RunConfig> {
    let (raw, data) = (folder.join("dataset"), folder.join("data"));
    let phantom = PhantomConfig::default()
        .with_patients(3, 2, 2)
        .with_phases([Phase::Ged4])
        .with_resolution(Resolution::Tiny);
    write_nnunet(&phantom, &raw)?;
    let dataset = Dataset::open(&raw)?;
    let options = PlanOptions {
        max_patch_voxels: 16 * 32 * 32,
        ..PlanOptions::default()
    };
    let plan = Plan::new(&dataset, &Fingerprint::of(&dataset)?, &options)?;
    let options = PreprocessOptions::default();
    preprocess_dataset(&dataset, &plan, &data, &options, |_| {})?;

    let mut config = RunConfig::new(data);
    config.network.widths = Some(vec![4, 8, 8, 16, 16, 16]);
    config.training.epochs = 2;
    config.training.iterations_per_epoch = 4;
    Ok(config)
}
