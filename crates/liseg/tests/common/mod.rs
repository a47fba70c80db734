//! A tiny dataset and the command, for end-to-end tests.

pub(crate) mod shared;

use liseg::mri::nifti::{write_image, write_labels};
use liseg::volume::{Affine, Seed, Volume};
use ndarray::Array3;
use rand::RngExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Voxels of every image, (z, y, x).
const SHAPE: [usize; 3] = [16, 48, 48];

/// A small left-posterior-superior grid, as scanners write it.
pub(crate) fn affine() -> Affine {
    Affine::from_columns(
        [-3.0, 0.0, 0.0],
        [0.0, -3.0, 0.0],
        [0.0, 0.0, 5.0],
        [70.0, 70.0, -40.0],
    )
    .unwrap()
}

/// A bright ellipsoid in noise, off centre, and its mask.
pub(crate) fn scan(index: u64) -> (Volume<f32>, Volume<u8>) {
    let mut rng = Seed(5).stream("scan", 0, index);
    let centre = [8.0, 24.0, 17.0].map(|c: f64| c + rng.random_range(-2.0..2.0));
    let radius = [5.0, 11.0, 10.0].map(|r: f64| r + rng.random_range(-1.5..1.5));
    let mask = Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        let at = [z as f64, y as f64, x as f64];
        let inside: f64 = (0..3)
            .map(|a| ((at[a] - centre[a]) / radius[a]).powi(2))
            .sum();
        u8::from(inside <= 1.0)
    });
    let image = mask.map(|&m| 100.0 + 80.0 * f32::from(m) + rng.random_range(-20.0f32..20.0));
    (
        Volume::new(image, affine()).unwrap(),
        Volume::new(mask, affine()).unwrap(),
    )
}

/// Writes an nnU-Net raw dataset: three labelled cases, two unlabelled ones, one to test on.
pub(crate) fn write_dataset(folder: &Path) -> PathBuf {
    let dataset = folder.join("Dataset007_Tiny");
    for part in ["imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"] {
        std::fs::create_dir_all(dataset.join(part)).unwrap();
    }
    for index in 0..6u64 {
        let (image, mask) = scan(index);
        let (images, labels) = match index {
            0..3 => ("imagesTr", Some("labelsTr")),
            3..5 => ("imagesUn", None),
            _ => ("imagesTs", Some("labelsTs")),
        };
        let file = dataset
            .join(images)
            .join(format!("case_{index}_0000.nii.gz"));
        write_image(&file, &image, None).unwrap();
        if let Some(labels) = labels {
            let file = dataset.join(labels).join(format!("case_{index}.nii.gz"));
            write_labels(&file, &mask, None).unwrap();
        }
    }
    let description = serde_json::json!({
        "name": "Tiny",
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    });
    std::fs::write(dataset.join("dataset.json"), description.to_string()).unwrap();
    dataset
}

/// The settings of a run that takes seconds.
pub(crate) fn write_config(folder: &Path, data: &Path, strategy: &str) -> PathBuf {
    let text = format!(
        "data = {data:?}\nprecision = \"f32\"\n\
         [network]\nwidths = [4, 4, 8, 8, 8, 8]\n\
         [strategy]\nname = \"{strategy}\"\n\
         [training]\nepochs = 4\niterations_per_epoch = 3\nlearning_rate = 3e-3\n\
         [augment]\nmirror_axes = []\n"
    );
    let file = folder.join(format!("{strategy}.toml"));
    std::fs::write(&file, text).unwrap();
    file
}

/// The tiny dataset, preprocessed in `data`.
pub(crate) fn preprocessed(folder: &Path) -> PathBuf {
    shared::copy_folder(&shared::tiny(), folder);
    folder.join("data")
}

/// The command, on one thread: results must not depend on how many there are elsewhere.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_liseg"));
    command
        .args(arguments)
        .args(["--threads", "1", "--device", "cpu"]);
    command
}

pub(crate) fn liseg(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout_json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            stderr(output)
        )
    })
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
