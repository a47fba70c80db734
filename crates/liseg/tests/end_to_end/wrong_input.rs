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
    let large = train(&["--set", "training.patch_size=[640, 640, 640]"]);
    refused(&large, 2, &["training.patch_size", "GiB", "smaller patch"]);
    let larger = train(&["--set", "training.patch_size=[2048, 2048, 2048]"]);
    refused(&larger, 2, &["training.patch_size", "at most 4096"]);
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
    let (label, described) = (
        format!("{labels}/case_0.nii.gz"),
        format!("{set}/dataset.json"),
    );
    let (picture, result) = (at("sheet.png"), at("metrics.json"));
    let named = ["a", "b"].map(|name| format!("{name}={result}"));
    std::fs::write(&result, "{}").unwrap();
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
        (&["preprocess", set, "--out", set], "the dataset itself"),
        (&["augment-preview", &image, "--out", "sheet.jpg"], ".png"),
        (
            &[
                "augment-preview",
                &image,
                "--out",
                &picture,
                "--patch",
                "4096,4096,4096",
            ],
            "1 to 512",
        ),
        (&["plan", set, "--out", &described], "something else"),
        (
            &["split", set, "--folds", "2", "--out", &image],
            "something else",
        ),
        (
            &["plan", set, "--out", &new, "--nnunet", &new],
            "--out names the same file",
        ),
        (
            &[&["evaluate", "--out", &label], &masks[..]].concat(),
            "something else",
        ),
        (
            &["compare", &named[0], &named[1], "--out", &result],
            "an input of this call",
        ),
        (
            &["compare", &result, &result, "--replicates", "4000000000"],
            "4000000000",
        ),
        (
            &["summary", "--patch", "18446744073709551584,32,32"],
            "at most 4096",
        ),
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

/// A NIfTI file of 20 000³ voxels of bytes, of which the disk holds the header alone.
fn write_vast(path: &Path) {
    let grid = Affine::from_spacing(Spacing::new(0.02, 0.02, 0.02).unwrap());
    let small = Volume::new(ndarray::Array3::<u8>::zeros((2, 2, 2)), grid).unwrap();
    write_labels(path, &small, None).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    for axis in 0..3 {
        bytes[42 + 2 * axis..][..2].copy_from_slice(&20_000i16.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(352 + 20_000u64.pow(3)).unwrap();
}

#[test]
fn a_file_beyond_all_memory_fails_by_name_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let dataset = folder.path().join("Dataset007_Tiny");
    let [references, predictions] = ["references", "predictions"].map(|name| {
        let made = folder.path().join(name);
        std::fs::create_dir(&made).unwrap();
        let (_, mask) = crate::common::scan(1);
        write_labels(made.join("good.nii.gz"), &mask, None).unwrap();
        made
    });
    write_vast(&references.join("vast.nii"));
    write_vast(&predictions.join("vast.nii"));
    let judged = liseg(&[
        "evaluate",
        "--predictions",
        path(&predictions),
        "--references",
        path(&references),
        "--json",
    ]);
    let told = String::from_utf8_lossy(&judged.stdout);
    assert_eq!(judged.status.code(), Some(1), "{told}{}", stderr(&judged));
    assert!(
        told.contains("good.nii.gz") && told.contains("GiB"),
        "{told}"
    );

    std::fs::remove_file(dataset.join("imagesUn/case_3_0000.nii.gz")).unwrap();
    write_vast(&dataset.join("imagesUn/case_3_0000.nii"));
    for call in [
        vec!["verify", path(&dataset)],
        vec![
            "plan",
            path(&dataset),
            "--out",
            path(&folder.path().join("p.json")),
        ],
    ] {
        let output = liseg(&call);
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let one = told.lines().filter(|line| line.contains("GiB are free"));
        assert_eq!(
            one.filter(|line| line.contains("case_3_0000.nii")).count(),
            1,
            "{told}"
        );
    }
    let out = folder.path().join("again");
    let plan = data.join("plan.json");
    let output = liseg(&[
        "preprocess",
        path(&dataset),
        "--plans",
        path(&plan),
        "--out",
        path(&out),
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("case_3"), "{}", stderr(&output));
    let names = std::fs::read_dir(&out).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let made: Vec<String> = names
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    assert_eq!(made.len(), 4, "the other training cases of {made:?}");
}
