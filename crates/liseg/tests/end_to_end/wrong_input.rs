//! Wrong input gets one line that names the file and says what to do.

use crate::common::{liseg, path, preprocessed, stderr, write_config, write_dataset};
use liseg::mri::nifti::write_labels;
use liseg::volume::{Affine, Spacing, Volume};
use std::path::Path;
use std::process::Output;

/// One line of error, with every one of `parts`, and the exit status.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("liseg: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for part in parts {
        assert!(
            errors[0].contains(part),
            "`{part}` is missing in: {}",
            errors[0]
        );
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn plan(dataset: &Path) -> Output {
    liseg(&[
        "plan",
        path(dataset),
        "--out",
        path(&dataset.join("plans.json")),
    ])
}

#[test]
fn a_missing_folder() {
    refused(
        &plan(Path::new("/no/such/dataset")),
        1,
        &["/no/such/dataset"],
    );
}

#[test]
fn a_label_on_another_grid() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let (_, mask) = crate::common::scan(1);
    let moved = mask.affine().shifted([0.0, 4.0, 0.0]);
    let moved = Volume::new(mask.into_data(), moved).unwrap();
    write_labels(dataset.join("labelsTr/case_1.nii.gz"), &moved, None).unwrap();
    refused(&plan(&dataset), 1, &["labelsTr/case_1.nii.gz", "mm"]);
    assert!(!dataset.join("plans.json").exists());
}

#[test]
fn a_label_of_another_shape() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let small = Volume::new(
        ndarray::Array3::<u8>::ones((4, 8, 8)),
        Affine::from_spacing(Spacing::ISOTROPIC_1MM),
    );
    write_labels(
        dataset.join("labelsTr/case_2.nii.gz"),
        &small.unwrap(),
        None,
    )
    .unwrap();
    refused(&plan(&dataset), 1, &["labelsTr/case_2.nii.gz"]);
}

#[test]
fn a_label_with_value_seven() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let (_, mut mask) = crate::common::scan(0);
    mask.data_mut()[[3, 3, 3]] = 7;
    write_labels(dataset.join("labelsTr/case_0.nii.gz"), &mask, None).unwrap();
    refused(&plan(&dataset), 1, &["labelsTr/case_0.nii.gz", "7"]);
}

#[test]
fn a_truncated_image() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let image = dataset.join("imagesTr/case_0_0000.nii.gz");
    let bytes = std::fs::read(&image).unwrap();
    std::fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    refused(&plan(&dataset), 1, &["imagesTr/case_0_0000.nii.gz"]);
    refused(
        &liseg(&["info", path(&image)]),
        1,
        &["imagesTr/case_0_0000.nii.gz"],
    );
}

#[test]
fn an_empty_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    for part in ["imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"] {
        std::fs::remove_dir_all(dataset.join(part)).unwrap();
    }
    refused(&plan(&dataset), 1, &["Dataset007_Tiny"]);
}

#[test]
fn settings_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let train = |extra: &[&str]| {
        liseg(&[&["train", path(&config), "--out", path(&run)][..], extra].concat())
    };
    let misspelt = train(&["--set", "training.epoch=3"]);
    refused(
        &misspelt,
        2,
        &["--set", "`epoch`", "did you mean `epochs`?"],
    );
    let large = train(&["--set", "training.patch_size=[2048, 2048, 2048]"]);
    refused(&large, 2, &["training.patch_size", "GiB", "smaller patch"]);
    let odd = train(&["--set", "training.patch_size=[16, 33, 32]"]);
    refused(&odd, 2, &["33"]);
    assert!(!run.exists(), "a refused run left a folder");
}

#[test]
fn calls_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (set, new, lost) = (path(&dataset), at("new"), at("lost/plan.json"));
    let within = format!("{set}/imagesTr/data");
    let labels = format!("{set}/labelsTr");
    let masks = ["--predictions", &labels, "--references", &labels];
    let image = format!("{set}/imagesTs/case_5_0000.nii.gz");
    for (call, part) in [
        (
            &["phantom", "--out", &new, "--patients", "0"][..],
            "patients",
        ),
        (
            &["phantom", "--out", &new, "--patients", "-1"],
            "-1 is not in",
        ),
        (
            &[
                "phantom",
                "--out",
                &new,
                "--patients",
                "2",
                "--labelled",
                "5",
            ],
            "labelled",
        ),
        (&["phantom", "--out", set], "not an empty folder"),
        (&["demo", "--out", set], "not an empty folder"),
        (
            &["import", "nnunet", set, "--out", set],
            "not an empty folder",
        ),
        (
            &[
                "import",
                "nnunet",
                set,
                "--out",
                &new,
                "--foreground",
                "spleen",
            ],
            "liver",
        ),
        (
            &["plan", set, "--out", &new, "--patch", "16,64,65"],
            "nearest valid patch",
        ),
        (&["plan", set, "--normalization-for", "XX=zscore"], "XX"),
        (&["split", set, "--folds", "0"], "folds"),
        (&["split", set, "--validation", "5"], "5"),
        (&["split", set, "--unlabelled-phases", "GED9"], "GED9"),
        (&["preprocess", set, "--out", &within], "imagesTr"),
        (&["augment-preview", &image, "--out", "sheet.jpg"], ".png"),
        (
            &[&["evaluate", "--nsd-tolerance", "-1"], &masks[..]].concat(),
            "-1",
        ),
    ] {
        let output = liseg(call);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{call:?}: {text}");
        assert!(text.contains(part), "{call:?}: {text}");
    }
    assert!(!Path::new(&new).exists() && !Path::new(&within).exists());
    refused(
        &liseg(&["plan", set, "--out", &lost]),
        1,
        &["there is no folder", "lost"],
    );
}

#[test]
fn folders_and_files_of_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write_dataset(folder.path());
    let [empty, file] = ["empty", "short.nii.gz"].map(|name| folder.path().join(name));
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(&file, "short\n").unwrap();
    refused(&plan(&empty), 1, &["empty", "no dataset.json", "imagesTr"]);
    refused(&plan(&file), 1, &["short.nii.gz", "is a file"]);
    refused(&liseg(&["info", path(&file)]), 1, &["6 bytes", "too short"]);
    let preview = |store: &Path| {
        let case = store.join("case_0");
        liseg(&["augment-preview", path(&case), "--out", "sheet.png"])
    };
    refused(&preview(&empty), 1, &["not finished"]);
    refused(&preview(&dataset), 1, &["raw dataset", "liseg preprocess"]);
    refused(&preview(Path::new("/no/store")), 1, &["no such folder"]);
}

#[test]
fn cuda_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_liseg"))
        .args([
            "train",
            path(&config),
            "--out",
            path(&folder.path().join("run")),
        ])
        .args(["--device", "cuda"])
        // A GPU of this machine is hidden from it.
        .env("CUDA_VISIBLE_DEVICES", "")
        .output()
        .unwrap();
    refused(&output, 2, &["cuda:0", "--device cpu"]);
}

#[test]
fn a_folder_without_a_run_and_a_file_that_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let image = write_dataset(folder.path()).join("imagesTs");
    let out = folder.path().join("masks");
    let fixed = ["predict", "--input", path(&image), "--output", path(&out)];
    let no_run = liseg(&[&fixed[..], &["--run", path(folder.path())]].concat());
    refused(&no_run, 1, &[path(folder.path()), "liseg train"]);
    let file = folder.path().join("weights.safetensors");
    std::fs::write(&file, b"these are no weights").unwrap();
    let no_weights = liseg(&[&fixed[..], &["--weights", path(&file)]].concat());
    refused(&no_weights, 1, &["weights.safetensors"]);
    assert!(!out.exists());
}
