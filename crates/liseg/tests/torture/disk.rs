//! A disk that is full, and a place where nothing can be written: one clear error of every verb.

use super::{FULL, fault, run_with};
use crate::common::shared;
use std::path::Path;

/// Where the root user cannot write either.
#[cfg(target_os = "linux")]
const READ_ONLY: &str = "/sys/liseg";

/// Every verb that writes, on a study, with `OUT` for its output.
const CALLS: &[&str] = &[
    "phantom --out OUT --patients 1 --labelled 1 --test 0 --resolution tiny",
    "import nnunet dataset --out OUT",
    "verify dataset --fix OUT",
    "split dataset --validation 1 --out OUT",
    "plan dataset --out OUT",
    "preprocess dataset --spacing 8,6,6 --patch 16,32,32 --out OUT",
    "augment-preview dataset/imagesTs/patient_003_GED4_0000.nii.gz --samples 1 --out OUT.png",
    "train cps.toml --out OUT --set network.widths=[4,4,8,8,8,8] --set training.epochs=1 \
     --set training.iterations_per_epoch=1",
    "predict --model runs/cps --input dataset/imagesTs --output OUT",
    "bundle runs/cps --output OUT.liseg",
    "submit --model runs/cps --input patients --output OUT",
    "evaluate --predictions dataset/labelsTs --references dataset/labelsTs --out OUT",
    "evaluate --predictions dataset/labelsTs --references dataset/labelsTs --csv OUT",
    "compare metrics.json other.json --replicates 10 --out OUT",
    "report metrics.json --out OUT",
    "weights convert runs/cps/checkpoints/last.safetensors OUT",
    "manual --out OUT",
    "demo --out OUT",
];

/// A study with what the calls need beside it.
fn prepare(folder: &Path) {
    shared::copy_folder(&shared::study(), folder);
    let phantom =
        "phantom --layout liqa --out patients --patients 1 --labelled 1 --test 0 --resolution tiny";
    let judged =
        "evaluate --predictions dataset/labelsTs --references dataset/labelsTs --out metrics.json";
    for call in [phantom, judged] {
        let ended = run_with(&call.split(' ').collect::<Vec<_>>(), folder, &[]);
        assert_eq!(ended.code, Some(0), "{call}: {}", ended.stderr);
    }
    std::fs::copy(folder.join("metrics.json"), folder.join("other.json")).unwrap();
}

/// Makes every call with its output at `out`; each fails, and says so in one line that holds `part`.
fn all_fail(out: &str, environment: &[(&str, String)], part: &str) {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let mut wrong = String::new();
    for (number, call) in CALLS.iter().enumerate() {
        let call = call.replace("OUT", &format!("{out}{number}"));
        let arguments: Vec<&str> = call.split_whitespace().collect();
        let ended = run_with(&arguments, folder.path(), environment);
        let errors: Vec<&str> = (ended.stderr.lines())
            .filter(|line| line.starts_with("liseg: "))
            .collect();
        let clear = fault(&ended).is_none() && ended.code == Some(1);
        if !clear || errors.len() != 1 || !errors[0].contains(part) {
            wrong += &format!("{call}\n{:?} {}\n", ended.code, ended.stderr);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_verb_says_that_the_disk_is_full() {
    all_fail("out", &[("LISEG_FULL_AT_WRITE", "1".to_owned())], FULL);
}

#[cfg(target_os = "linux")]
#[test]
fn every_verb_says_where_it_cannot_write() {
    all_fail(READ_ONLY, &[], READ_ONLY);
}
