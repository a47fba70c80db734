//! From a collection to preprocessed cases, with what goes wrong on the way.

use crate::common::{liseg, path, stderr, stdout_json, write_config, write_dataset};
use std::path::Path;

/// Text of every file of a store by name.
fn contents(store: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(store)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The whole promise: the others are finished, the broken one is named with its reason, the status
/// is 1; a second run does only what is missing, a third nothing.
#[test]
fn a_broken_case_does_not_keep_the_others_from_being_preprocessed() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let (plans, data) = (folder.path().join("plans.json"), folder.path().join("data"));
    let planned = liseg(&[
        "plan",
        path(&dataset),
        "--out",
        path(&plans),
        "--patch",
        "16,32,32",
    ]);
    assert!(planned.status.success(), "{}", stderr(&planned));
    let image = dataset.join("imagesTr/case_1_0000.nii.gz");
    let whole = std::fs::read(&image).unwrap();
    std::fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    let arguments = [
        "preprocess",
        path(&dataset),
        "--out",
        path(&data),
        "--plans",
        path(&plans),
        "--jobs",
        "2",
        "--json",
    ];

    let first = liseg(&arguments);
    assert_eq!(first.status.code(), Some(1), "{}", stderr(&first));
    let report = stdout_json(&first);
    assert_eq!(report["written"].as_array().unwrap().len(), 4);
    let failed = report["failed"].as_array().unwrap();
    assert_eq!((failed.len(), &failed[0]["case"]), (1, &"case_1".into()));
    let reason = failed[0]["reason"].as_str().unwrap();
    assert!(reason.contains("case_1_0000.nii.gz"), "{reason}");
    assert!(
        stderr(&first).contains("liseg: case_1: "),
        "{}",
        stderr(&first)
    );
    assert!(!data.join("case_1.safetensors").exists());

    // Still broken: nothing is done again, and it is said again.
    let before = contents(&data);
    let again = liseg(&arguments);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        stdout_json(&again)["unchanged"].as_array().unwrap().len(),
        4
    );
    assert_eq!(contents(&data), before);

    std::fs::write(&image, &whole).unwrap();
    let second = liseg(&arguments);
    assert!(second.status.success(), "{}", stderr(&second));
    let report = stdout_json(&second);
    assert_eq!(report["written"], serde_json::json!(["case_1"]));
    assert_eq!(report["unchanged"].as_array().unwrap().len(), 4);
    let third = stdout_json(&liseg(&arguments));
    assert_eq!(third["written"], serde_json::json!([]));

    // A damaged file is noticed and made again, to the bit.
    let finished = contents(&data);
    let stored = data.join("case_2.safetensors");
    let mut bytes = std::fs::read(&stored).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    let verified = liseg(&["verify", path(&data), "--json"]);
    assert_eq!(verified.status.code(), Some(1), "{}", stderr(&verified));
    assert_eq!(stdout_json(&verified)["errors"], 1);
    assert_eq!(
        stdout_json(&liseg(&arguments))["written"],
        serde_json::json!(["case_2"])
    );
    assert_eq!(contents(&data), finished);
}

/// Without a plan at hand one is made of the sound cases, and kept for the second run.
#[test]
fn a_broken_case_does_not_keep_a_plan_from_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, data) = (write_dataset(folder.path()), folder.path().join("data"));
    let image = dataset.join("imagesUn/case_4_0000.nii.gz");
    let whole = std::fs::read(&image).unwrap();
    std::fs::write(&image, "no image").unwrap();
    let arguments = ["preprocess", path(&dataset), "--out", path(&data), "--json"];
    let first = liseg(&arguments);
    assert_eq!(first.status.code(), Some(1), "{}", stderr(&first));
    let report = stdout_json(&first);
    assert_eq!(report["written"].as_array().unwrap().len(), 4);
    assert_eq!(report["failed"][0]["case"], "case_4");
    std::fs::write(&image, whole).unwrap();
    let second = liseg(&arguments);
    assert!(second.status.success(), "{}", stderr(&second));
    assert_eq!(
        stdout_json(&second)["written"],
        serde_json::json!(["case_4"])
    );
}

#[test]
fn a_collection_is_imported_verified_split_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let done = |arguments: &[&str]| {
        let output = liseg(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        output
    };
    let (source, dataset) = (at("liqa"), at("Dataset001_LiQA"));
    done(&[
        "phantom",
        "--out",
        path(&source),
        "--layout",
        "liqa",
        "--patients",
        "2",
        "--labelled",
        "2",
        "--test",
        "1",
        "--resolution",
        "tiny",
    ]);
    let errors =
        |folder: &Path| stdout_json(&done(&["verify", path(folder), "--json"]))["errors"].clone();
    assert_eq!(errors(&source), 0);
    let report = stdout_json(&done(&[
        "import",
        "liqa",
        path(&source),
        "--out",
        path(&dataset),
        "--json",
    ]));
    assert_eq!(report["labelled"], 2);
    assert_eq!(errors(&dataset), 0);
    let cases = std::fs::read_to_string(dataset.join("cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&cases).unwrap();
    for field in [
        "id", "patient", "phase", "vendor", "labelled", "split", "source",
    ] {
        assert!(
            !cases[0][field].is_null(),
            "{field} is missing in {}",
            cases[0]
        );
    }
    let occupied = liseg(&["import", "liqa", path(&source), "--out", path(&dataset)]);
    assert_eq!(occupied.status.code(), Some(2));
    let unknown = liseg(&["import", "dicom", path(&source), "--out", path(&at("x"))]);
    assert_eq!(unknown.status.code(), Some(2));

    let split = stdout_json(&done(&[
        "split",
        path(&dataset),
        "--validation",
        "1",
        "--labelled",
        "1",
        "--seed",
        "3",
        "--json",
    ]));
    let fold = &split[0];
    assert_eq!(fold["train"].as_array().unwrap().len(), 1);
    let data = at("data");
    done(&[
        "preprocess",
        path(&dataset),
        "--out",
        path(&data),
        "--patch",
        "16,32,32",
        "--spacing",
        "10,6,6",
        "--precision",
        "f16",
        "--normalization-for",
        "T2WI=robust_zscore",
    ]);
    assert!(data.join("splits_final.json").is_file());

    let config = write_config(folder.path(), &data, "supervised");
    let run = at("run");
    done(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "validation.splits=\"splits_final.json\"",
        "--set",
        "training.epochs=1",
    ]);
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let roles = |role: &str| manifest[format!("{role}_cases")].clone();
    assert_eq!(roles("training"), fold["train"]);
    assert_eq!(roles("validation"), fold["val"]);
    assert_eq!(roles("unlabelled"), fold["unlabelled"]);
}
