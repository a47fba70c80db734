//! Collections in other layouts, generated with everything that is odd about the real ones, imported
//! and checked.

use liseg_data::{
    CaseAttributes, Dataset, DatasetDescription, Error, ImportOptions, ImportReport, Layout,
    Placement, RemarkKind, Severity, Subset, import, read_splits,
};
use liseg_mri::nifti::{read_header, read_image, read_labels, write_image, write_labels};
use liseg_volume::{Affine, LabelMap, Spacing, Volume};
use ndarray::Array3;
use std::path::{Path, PathBuf};

/// An image whose voxels depend on `number`, with positive and negative values.
fn image(number: usize) -> Volume<f32> {
    let voxels = Array3::from_shape_fn((4, 6, 5), |(z, y, x)| {
        ((z * 31 + y * 7 + x * 3 + number) % 17) as f32 - 4.0
    });
    Volume::new(
        voxels,
        Affine::from_spacing(Spacing::new(3.0, 1.5, 1.5).unwrap()),
    )
    .unwrap()
}

/// A block of `values` along x in the middle of the grid of [`image`].
fn label(values: [u8; 2]) -> LabelMap {
    let grid = image(0).affine();
    let voxels = Array3::from_shape_fn((4, 6, 5), |(z, y, x)| match (z, y, x) {
        (1..3, 2..5, 1) => values[0],
        (1..3, 2..5, 2..4) => values[1],
        _ => 0,
    });
    LabelMap::new(voxels, grid).unwrap()
}

fn put(path: PathBuf, number: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_image(path, &image(number), None).unwrap();
}

fn put_label(path: PathBuf, values: [u8; 2]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_labels(path, &label(values), None).unwrap();
}

/// Turns an uncompressed three-dimensional file into one of four axes, the last with one voxel.
fn add_axis(path: &Path) {
    let plain = path.with_file_name("plain.nii");
    liseg_mri::nifti::squeeze(path, &plain).unwrap();
    let mut bytes = std::fs::read(&plain).unwrap();
    bytes[40..42].copy_from_slice(&4i16.to_le_bytes());
    std::fs::remove_file(&plain).unwrap();
    // Compression is recognised by content, so plain bytes may stand under either name.
    std::fs::write(path, bytes).unwrap();
    assert_eq!(read_header(path).unwrap().dims().len(), 4);
}

fn run(layout: Layout, source: &Path, out: &Path, options: &ImportOptions) -> ImportReport {
    import(layout.survey(source).unwrap(), out, options, |_, _| {}).unwrap()
}

fn messages(report: &ImportReport, kind: RemarkKind) -> Vec<String> {
    let of_kind = report.remarks.iter().filter(|remark| remark.kind == kind);
    let told = of_kind.map(|r| format!("{}: {}", r.file.display(), r.message));
    told.collect()
}

fn errors(dataset: &Dataset) -> Vec<String> {
    let findings = dataset.check().into_iter();
    let errors = findings.filter(|f| f.severity == Severity::Error);
    errors.map(|f| f.message).collect()
}

/// Three ways to write a vendor's folder, one number in two centres, missing phases, `T2WI`, two
/// diffusion images, a fourth axis, a mask of other values, files that do not belong.
fn write_liqa(root: &Path) {
    let train = root.join("LiQA_training_data");
    let file = |case: &str, name: &str| train.join(case).join(name);
    put(file("Vendor_A/1053-A-S3", "GED4.nii.gz"), 1);
    put(file("Vendor_A/1053-A-S3", "T1.nii.gz"), 2);
    put(file("Vendor_A/1053-A-S3", "DWI_800.nii.gz"), 3);
    put(file("Vendor_A/1053-A-S3", "DWI_50.nii.gz"), 4);
    put_label(file("Vendor_A/1053-A-S3", "mask_GED4.nii.gz"), [1, 1]);
    put(file("Vendor_A/1054-A-S1", "GED4.nii.gz"), 12);
    put_label(file("Vendor_A/1054-A-S1", "mask_GED4.nii.gz"), [1, 1]);
    put(file("Vendor-B1/0241-B1-S2", "GED4.nii.gz"), 5);
    add_axis(&file("Vendor-B1/0241-B1-S2", "GED4.nii.gz"));
    put_label(file("Vendor-B1/0241-B1-S2", "mask_GED4.nii.gz"), [255, 1]);
    put(file("VendorB2/1053-B2-S3", "GED4.nii.gz"), 6);
    put(file("VendorB2/1053-B2-S3", "T2WI.nii.gz"), 7);
    std::fs::write(file("VendorB2/1053-B2-S3", "notes.txt"), "").unwrap();
    put(file("VendorB2/1053-B2-S3", "localizer.nii.gz"), 8);
    let held_out = root.join("LiQA_val/Data");
    put(held_out.join("Vendor_A/2001-A/GED4.nii.gz"), 9);
    put(held_out.join("Vendor_A/2001-A/T2.nii.gz"), 10);
    let table = "\u{feff}Case,Vendor,Missing Modality\n2001-A,A,T2;DWI_800\n2002-A,A,\n";
    std::fs::write(root.join("LiQA_val/info.csv"), table).unwrap();
}

#[test]
fn liqa_with_all_its_oddities() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("liqa");
    write_liqa(&source);
    assert_eq!(Layout::detect(&source), Some(Layout::Liqa));
    // The collection can be checked where it is.
    let unimported = Layout::Liqa.open(&source).unwrap();
    assert_eq!(errors(&unimported), [""; 0]);
    let odd: Vec<String> = unimported.check().into_iter().map(|f| f.message).collect();
    assert!(odd.iter().any(|m| m.contains("value 255")), "{odd:?}");

    let out = folder.path().join("Dataset001_LiQA");
    let report = run(Layout::Liqa, &source, &out, &ImportOptions::default());
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!((report.labelled, report.unlabelled, report.test), (3, 4, 2));
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(errors(&dataset), [""; 0]);
    let ids: Vec<(&str, Subset)> = dataset
        .cases()
        .iter()
        .map(|c| (c.id.as_str(), c.subset))
        .collect();
    use Subset::{Labelled, Test, Unlabelled};
    assert_eq!(
        ids,
        [
            ("0241-B1-S2_GED4", Labelled),
            ("1053-A-S3_DWI", Unlabelled),
            ("1053-A-S3_GED4", Labelled),
            ("1053-A-S3_T1WI", Unlabelled),
            ("1053-B2-S3_GED4", Unlabelled),
            ("1053-B2-S3_T2WI", Unlabelled),
            ("1054-A-S1_GED4", Labelled),
            ("2001-A_GED4", Test),
            ("2001-A_T2WI", Test),
        ]
    );
    let case = &dataset.cases()[5];
    assert_eq!(case.patient.as_deref(), Some("1053-B2-S3"));
    assert_eq!(
        (case.phase.as_deref(), case.vendor.as_deref()),
        (Some("T2WI"), Some("B2"))
    );
    assert_eq!(case.split.as_deref(), Some("train"));
    let from = "LiQA/LiQA_training_data/VendorB2/1053-B2-S3/T2WI.nii.gz";
    assert_eq!(case.source.as_deref(), Some(from));
    assert_eq!(dataset.cases()[7].split.as_deref(), Some("val"));

    // What does not change keeps its bytes; the fourth axis goes, voxels stay; the mask is binary.
    let bytes = |path: PathBuf| std::fs::read(path).unwrap();
    assert_eq!(
        bytes(out.join("imagesUn/1053-B2-S3_T2WI_0000.nii.gz")),
        bytes(source.join("LiQA_training_data/VendorB2/1053-B2-S3/T2WI.nii.gz"))
    );
    assert_eq!(
        bytes(out.join("labelsTr/1053-A-S3_GED4.nii.gz")),
        bytes(source.join("LiQA_training_data/Vendor_A/1053-A-S3/mask_GED4.nii.gz"))
    );
    let flat = out.join("imagesTr/0241-B1-S2_GED4_0000.nii.gz");
    assert_eq!(read_header(&flat).unwrap().dims(), [5, 6, 4]);
    assert_eq!(read_image(&flat).unwrap().volume.data(), image(5).data());
    let mask = read_labels(out.join("labelsTr/0241-B1-S2_GED4.nii.gz"))
        .unwrap()
        .volume;
    assert_eq!(mask.data(), label([1, 1]).data());

    let has = |kind, parts: [&str; 2]| {
        let told = messages(&report, kind);
        let found = told
            .iter()
            .any(|m| parts.iter().all(|part| m.contains(part)));
        assert!(found, "{parts:?} is not in {told:#?}");
    };
    has(
        RemarkKind::Merged,
        ["0241-B1-S2", "6 voxels of 255 became 1"],
    );
    has(
        RemarkKind::Renamed,
        ["1053-B2-S3", "T2WI.nii.gz is taken as T2WI"],
    );
    has(RemarkKind::Rewritten, ["0241-B1-S2", "4 axes became three"]);
    has(
        RemarkKind::Skipped,
        ["DWI_50.nii.gz", "another image of DWI"],
    );
    has(RemarkKind::Skipped, ["localizer.nii.gz", "no known phase"]);
    has(RemarkKind::Skipped, ["notes.txt", "no image"]);
    has(
        RemarkKind::Noted,
        ["info.csv", "calls T2 of case 2001-A missing"],
    );
    has(RemarkKind::Noted, ["info.csv", "lists case 2002-A"]);
    assert_eq!(report.split, None);
    assert!(!out.join("splits_final.json").exists());
}

#[test]
fn a_split_that_comes_with_the_data_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("liqa");
    write_liqa(&source);
    let split = r#"{"Patient_w_mask": {"Vendor_A": {"Train": ["1053-A-S3"], "Val": ["1054-A-S1"]},
        "Vendor_B1": {"Train": ["0241-B1-S2"], "Val": []}},
        "Patient_wo_mask": {"Vendor_B2": {"Train": [], "Val": ["1053-B2-S3"]}}}"#;
    std::fs::write(source.join("info.json"), split).unwrap();
    let out = folder.path().join("out");
    let report = run(Layout::Liqa, &source, &out, &ImportOptions::default());
    let folds = read_splits(&out.join("splits_final.json")).unwrap();
    assert_eq!(report.split.as_ref(), folds.first());
    let [fold] = &folds[..] else {
        panic!("{folds:?}")
    };
    assert_eq!(fold.training, ["0241-B1-S2_GED4", "1053-A-S3_GED4"]);
    assert_eq!(fold.validation, ["1054-A-S1_GED4"]);
    assert_eq!(
        fold.unlabelled.as_deref().unwrap(),
        ["1053-A-S3_DWI", "1053-A-S3_T1WI"]
    );

    let wrong = split.replace("\"Train\"", "\"Tain\"");
    std::fs::write(source.join("info.json"), wrong).unwrap();
    let error = Layout::Liqa.survey(&source).unwrap_err().to_string();
    assert!(
        error.contains("info.json") && error.contains("`Tain`"),
        "{error}"
    );
}

#[test]
fn atlas_becomes_whole_livers() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("atlas-train-dataset-1.0.1/train");
    for number in [0, 2, 10] {
        put(root.join(format!("imagesTr/im{number}.nii.gz")), number);
    }
    put_label(root.join("labelsTr/lb0.nii.gz"), [1, 2]);
    put_label(root.join("labelsTr/lb10.nii.gz"), [1, 1]);
    put_label(root.join("labelsTr/lb7.nii.gz"), [1, 1]);
    let patients = r#"{"0": {"machine": "Aera", "sequence": "VIBE", "contrast_phase": "Portal venous",
        "date": 2019}, "2": {"machine": " ", "contrast_phase": null}, "10": {"contrast_phase": "arterial"}}"#;
    std::fs::write(root.join("patient_info_train.json"), patients).unwrap();
    let theirs = r#"{"labels": {"0": "background", "1": "liver", "2": "tumor"}}"#;
    std::fs::write(root.join("dataset.json"), theirs).unwrap();

    assert_eq!(Layout::detect(folder.path()), Some(Layout::Atlas));
    let unimported = Layout::Atlas.open(folder.path()).unwrap();
    assert_eq!(
        (errors(&unimported).len(), unimported.labels().len()),
        (0, 3)
    );
    let out = folder.path().join("Dataset002_ATLAS");
    let report = run(
        Layout::Atlas,
        folder.path(),
        &out,
        &ImportOptions::default(),
    );
    assert_eq!((report.labelled, report.unlabelled, report.test), (2, 1, 0));
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(errors(&dataset), [""; 0]);
    let about: Vec<_> = dataset
        .cases()
        .iter()
        .map(|c| (c.id.as_str(), c.phase.as_deref(), c.vendor.as_deref()))
        .collect();
    assert_eq!(
        about,
        [
            ("atlas_000", Some("portal"), Some("Aera")),
            ("atlas_002", None, None),
            ("atlas_010", Some("arterial"), None),
        ]
    );
    let merged = read_labels(out.join("labelsTr/atlas_000.nii.gz")).unwrap();
    assert_eq!(merged.volume.data(), label([1, 1]).data());
    assert!(
        merged
            .volume
            .geometry()
            .is_within(&label([1, 1]).geometry(), 1e-6)
    );
    // A liver without a tumour is not written anew.
    assert_eq!(
        std::fs::read(out.join("labelsTr/atlas_010.nii.gz")).unwrap(),
        std::fs::read(root.join("labelsTr/lb10.nii.gz")).unwrap()
    );
    let merged = messages(&report, RemarkKind::Merged);
    assert!(
        merged
            .iter()
            .any(|m| m.contains("lb0") && m.contains("12 voxels of 2 became 1"))
    );
    assert!(messages(&report, RemarkKind::Skipped)[0].contains("label without im7"));
    let description = DatasetDescription::read(&out.join("dataset.json")).unwrap();
    assert_eq!(description.licence.as_deref(), Some("CC BY-NC-SA 4.0"));
    assert_eq!(description.training, Some(2));
}

/// A version 1 data set of two channels with an organ, a tumour and a label to leave out.
fn write_channels(root: &Path) {
    for (case, training) in [("a", true), ("b", true), ("t", false)] {
        let (images, labels) = if training {
            ("imagesTr", "labelsTr")
        } else {
            ("imagesTs", "none")
        };
        put(root.join(format!("{images}/{case}_0000.nii.gz")), 1);
        put(root.join(format!("{images}/{case}_0001.nii.gz")), 2);
        if training {
            let values = if case == "a" { [1, 2] } else { [1, 3] };
            put_label(root.join(format!("{labels}/{case}.nii.gz")), values);
        }
    }
    let description = r#"{"name": "Two", "modality": {"0": "T1", "1": "DWI b=800"},
        "labels": {"0": "background", "1": "liver", "2": "tumour", "3": "spleen"}, "numTraining": 2,
        "training": [], "test": []}"#;
    std::fs::write(root.join("dataset.json"), description).unwrap();
}

#[test]
fn channels_become_cases_and_labels_a_liver() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("Task001_Two");
    write_channels(&source);
    let error = Dataset::open(&source).unwrap_err().to_string();
    assert!(error.contains("liseg import nnunet"), "{error}");

    let options = ImportOptions {
        foreground: vec!["liver".into(), "2".into()],
        placement: Placement::Symlink,
        ..ImportOptions::default()
    };
    let out = folder.path().join("out");
    let report = run(Layout::Nnunet, &source, &out, &options);
    assert_eq!((report.labelled, report.unlabelled, report.test), (4, 0, 2));
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(errors(&dataset), [""; 0]);
    let case = &dataset.cases()[0];
    assert_eq!(case.id, "a_DWI-b-800");
    assert_eq!(
        (case.patient.as_deref(), case.phase.as_deref()),
        (Some("a"), Some("DWI b=800"))
    );
    assert!(case.image.symlink_metadata().unwrap().is_symlink());
    let voxels = |path: &Path| read_labels(path).unwrap().volume.into_data();
    assert_eq!(voxels(case.label.as_ref().unwrap()), label([1, 1]).data());
    let other = &dataset.cases()[2];
    assert_eq!(voxels(other.label.as_ref().unwrap()), label([1, 0]).data());

    // A channel is what its suffix says, also where others are missing.
    std::fs::remove_file(source.join("imagesTs/t_0000.nii.gz")).unwrap();
    put(source.join("imagesTr/b_0007.nii.gz"), 3);
    let fewer = folder.path().join("fewer");
    let report = run(Layout::Nnunet, &source, &fewer, &options);
    let told = refused(&report);
    assert!(
        told.len() == 1 && told[0].contains("no channel 7"),
        "{told:?}"
    );
    let dataset = Dataset::open(&fewer).unwrap();
    let left = dataset
        .cases()
        .iter()
        .find(|case| case.id.starts_with("t_"));
    let left = left.unwrap();
    assert_eq!(left.id, "t_DWI-b-800");
    assert_eq!(left.phase.as_deref(), Some("DWI b=800"));

    let unknown = ImportOptions {
        foreground: vec!["kidney".into()],
        ..ImportOptions::default()
    };
    let survey = Layout::Nnunet.survey(&source).unwrap();
    let error = import(survey, &folder.path().join("no"), &unknown, |_, _| {}).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Setting {
                field: "foreground",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_same_layout_survives_in_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    put(source.join("imagesTr/a_0000.nii.gz"), 1);
    put_label(source.join("labelsTr/a.nii.gz"), [1, 1]);
    put(source.join("imagesUn/u_0000.nii.gz"), 2);
    put(source.join("imagesTs/t_0000.nii.gz"), 3);
    let description = DatasetDescription::new("Same", [("background", 0), ("liver", 1)]);
    description
        .write(&source.join("dataset.json"), Default::default())
        .unwrap();
    let cases = r#"[{"id": "a", "patient": "p", "phase": "GED4", "vendor": "B1", "more": 3}]"#;
    std::fs::write(source.join("cases.json"), cases).unwrap();
    for version_1 in [false, true] {
        let out = folder.path().join(format!("out_{version_1}"));
        let options = ImportOptions {
            version_1,
            placement: Placement::Hardlink,
            ..ImportOptions::default()
        };
        run(Layout::Nnunet, &source, &out, &options);
        let dataset = Dataset::open(&out).unwrap();
        assert_eq!(dataset.check(), []);
        let list = CaseAttributes::read_list(&out.join("cases.json")).unwrap();
        let expected = CaseAttributes {
            id: "a".into(),
            patient: Some("p".into()),
            phase: Some("GED4".into()),
            vendor: Some("B1".into()),
            labelled: Some(true),
            label: Some("labelsTr/a.nii.gz".into()),
            split: Some("train".into()),
            source: Some("Same/imagesTr/a_0000.nii.gz".into()),
        };
        assert_eq!(list[0], expected);
        assert_eq!(
            (list[1].split.as_deref(), list[1].labelled),
            (Some("test"), Some(false))
        );
        let text = std::fs::read_to_string(out.join("dataset.json")).unwrap();
        assert_eq!(text.contains("tensorImageSize"), version_1);
    }
}

#[test]
fn failures_are_listed_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("liqa");
    write_liqa(&source);
    let broken = source.join("LiQA_training_data/Vendor_A/1053-A-S3");
    std::fs::write(broken.join("T1.nii.gz"), "no image").unwrap();
    std::fs::write(broken.join("mask_GED4.nii.gz"), "no mask").unwrap();
    let out = folder.path().join("out");
    let report = run(Layout::Liqa, &source, &out, &ImportOptions::default());
    let failed: Vec<&str> = report.failed.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(failed, ["1053-A-S3_GED4", "1053-A-S3_T1WI"]);
    assert!(report.failed[1].1.to_string().contains("T1.nii.gz"));
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(dataset.cases().len(), 7);
    assert_eq!(errors(&dataset), [""; 0]);

    let survey = Layout::Liqa.survey(&source).unwrap();
    let error = import(survey, &out, &ImportOptions::default(), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    let leftovers = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(leftovers, 2, "a temporary folder was left");
    assert!(Layout::Atlas.survey(&source).is_err());
    assert_eq!(
        Layout::detect(folder.path().join("nowhere").as_path()),
        None
    );
}

fn refused(report: &ImportReport) -> Vec<String> {
    let failed = report.failed.iter();
    failed.map(|(id, error)| format!("{id}: {error}")).collect()
}

#[test]
fn files_that_claim_one_case_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    let train = folder.path().join("liqa/LiQA_train");
    let file = |name: &str| train.join("Vendor_A").join(name);
    put(file("1001-A-S1/GED4.nii.gz"), 1);
    put(file("1001-A-S1/GED4.nii"), 2);
    put(file("1002-A-S1/GED4.nii.gz"), 3);
    put_label(file("1002-A-S1/mask_GED4.nii.gz"), [1, 1]);
    let apart = folder.path().join("liqa/LiQA_train_masks/1002-A-S1");
    put_label(apart.join("mask_GED4.nii.gz"), [1, 0]);
    put(file("1003-A-S1/GED4.NII.GZ"), 4);
    // The same case in another folder: once the same bytes, once not.
    put(train.join("Vendor_A/1004-A-S1/T2.nii.gz"), 5);
    put(train.join("copy/Vendor_A/1004-A-S1/T2.nii.gz"), 5);
    put(train.join("Vendor_A/1005-A-S1/T2.nii.gz"), 6);
    put(train.join("copy/Vendor_A/1005-A-S1/T2.nii.gz"), 7);
    let out = folder.path().join("out");
    let report = run(
        Layout::Liqa,
        &folder.path().join("liqa"),
        &out,
        &ImportOptions::default(),
    );
    let told = refused(&report);
    assert_eq!(told.len(), 3, "{told:#?}");
    for (line, parts) in told.iter().zip([
        ["1001-A-S1_GED4: ", "GED4.nii, ", "GED4.nii.gz: several"],
        [
            "1002-A-S1_GED4: ",
            "LiQA_train/Vendor_A",
            "LiQA_train_masks",
        ],
        ["1005-A-S1_T2WI: ", "copy/Vendor_A", "LiQA_train/Vendor_A"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(messages(&report, RemarkKind::Skipped)[0].contains("the same bytes"));
    let ids = |dataset: &Dataset| -> Vec<String> {
        dataset.cases().iter().map(|c| c.id.clone()).collect()
    };
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(ids(&dataset), ["1003-A-S1_GED4", "1004-A-S1_T2WI"]);
    let unimported = Layout::Liqa.open(&folder.path().join("liqa")).unwrap();
    assert_eq!(errors(&unimported).len(), 3);
}

#[test]
fn numbers_that_two_files_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("atlas");
    put(source.join("imagesTr/im1.nii.gz"), 1);
    put(source.join("imagesTr/im2.nii.gz"), 2);
    put_label(source.join("labelsTr/lb2.nii.gz"), [1, 2]);
    put_label(source.join("labelsTr/lb2.nii"), [1, 1]);
    put(source.join("imagesTr/scan.nii.gz"), 3);
    let out = folder.path().join("out");
    let report = run(Layout::Atlas, &source, &out, &ImportOptions::default());
    let told = refused(&report);
    assert!(told.len() == 1 && told[0].contains("lb2.nii, "), "{told:?}");
    let skipped = messages(&report, RemarkKind::Skipped);
    assert!(skipped[0].contains("scan.nii.gz"), "{skipped:?}");
}

#[test]
fn one_id_in_two_folders_of_an_nnunet_data_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    put(source.join("imagesTr/a_0000.nii.gz"), 1);
    put(source.join("imagesTs/a_0000.nii.gz"), 2);
    put(source.join("imagesTr/b_0000.nii.gz"), 3);
    put_label(source.join("labelsTr/b_0000.NII"), [1, 1]);
    DatasetDescription::new("Twice", [("background", 0), ("liver", 1)])
        .write(&source.join("dataset.json"), Default::default())
        .unwrap();
    let out = folder.path().join("out");
    let report = run(Layout::Nnunet, &source, &out, &ImportOptions::default());
    let told = refused(&report);
    assert!(told.len() == 1 && told[0].starts_with("a: "), "{told:?}");
    assert_eq!((report.labelled, report.unlabelled, report.test), (1, 0, 0));
    assert_eq!(messages(&report, RemarkKind::Noted).len(), 2);
}

#[cfg(unix)]
#[test]
fn links_to_nothing_and_names_that_are_no_text_are_named() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("liqa");
    put(source.join("Vendor_A/1001-A-S1/GED4.nii.gz"), 1);
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, source.join(name)).unwrap();
    };
    link("/nowhere/Vendor_B", "Vendor_B");
    link("/nowhere/1002", "Vendor_A/1002-A-S1");
    link("/nowhere/T2", "Vendor_A/1001-A-S1/T2.nii.gz");
    let name = std::ffi::OsStr::from_bytes(b"1003-M\xfc-S1");
    let text = std::fs::create_dir(source.join("Vendor_A").join(name)).is_ok();
    let out = folder.path().join("out");
    let report = run(Layout::Liqa, &source, &out, &ImportOptions::default());
    let told = refused(&report);
    assert_eq!(told.len(), 3 + usize::from(text), "{told:#?}");
    assert!(told[0].starts_with("1001-A-S1_T2WI") && told[0].contains("T2.nii.gz"));
    let ends: Vec<bool> = told.iter().map(|t| t.contains("does not exist")).collect();
    assert!(ends[1] && ends[told.len() - 1], "{told:#?}");
}

#[test]
fn the_list_of_version_1_names_the_labels_to_import() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for case in ["a", "b"] {
        put(source.join(format!("imagesTr/{case}_0000.nii.gz")), 1);
        put_label(source.join(format!("labelsTr/{case}.nii.gz")), [1, 0]);
    }
    put_label(source.join("second/a.nii.gz"), [1, 1]);
    let description = r#"{"name": "List", "modality": {"0": "MR"}, "labels": {"0": "background",
        "1": "liver"}, "numTraining": 1, "training": [
        {"image": "./imagesTr/a.nii.gz", "label": "./second/a.nii.gz"}]}"#;
    std::fs::write(source.join("dataset.json"), description).unwrap();
    let out = folder.path().join("out");
    let report = run(Layout::Nnunet, &source, &out, &ImportOptions::default());
    assert_eq!((report.labelled, report.unlabelled, report.test), (1, 0, 0));
    assert_eq!(
        std::fs::read(out.join("labelsTr/a.nii.gz")).unwrap(),
        std::fs::read(source.join("second/a.nii.gz")).unwrap()
    );
    assert!(messages(&report, RemarkKind::Noted)[0].contains("does not list b_0000.nii.gz"));
}

#[test]
fn masks_of_any_values_become_livers() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("liqa");
    let case = |name: &str| source.join("Vendor_A").join(name);
    let values = [0.99998, 0.5, 1000.0, -1.0, 255.0, f32::NAN];
    for (number, value) in values.into_iter().enumerate() {
        let case = case(&format!("100{number}-A-S1"));
        put(case.join("GED4.nii.gz"), number);
        // NaN lies outside, where others have 0.
        let (inside, outside) = if value.is_nan() {
            (1.0, value)
        } else {
            (value, 0.0)
        };
        let mask = label([1, 1]).map(|&v| if v > 0 { inside } else { outside });
        write_image(case.join("mask_GED4.nii.gz"), &mask, None).unwrap();
    }
    assert_eq!(errors(&Layout::Liqa.open(&source).unwrap()), [""; 0]);
    let out = folder.path().join("out");
    let report = run(Layout::Liqa, &source, &out, &ImportOptions::default());
    assert_eq!((report.labelled, report.failed.len()), (6, 0));
    for number in 0..values.len() {
        let mask = out.join(format!("labelsTr/100{number}-A-S1_GED4.nii.gz"));
        let mask = read_labels(mask).unwrap().volume;
        assert_eq!(mask.data(), label([1, 1]).data(), "{number}");
    }
    let merged = messages(&report, RemarkKind::Merged);
    assert_eq!(merged.len(), values.len(), "{merged:#?}");
    assert!(merged[0].contains("18 voxels of values that are no labels became 1"));
    assert!(merged[5].contains("102 voxels that are no numbers became 0"));
}
