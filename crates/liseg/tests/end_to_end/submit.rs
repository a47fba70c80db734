//! A mock of a challenge's run of the container: patients without some phases, odd orientations,
//! a read-only input, files that cannot be read.

use crate::common::{liseg, path, preprocessed, scan, stderr, stdout_json, write_config};
use liseg::mri::nifti::{read_header, read_labels, write_image};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every file below a folder with its bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

fn set_read_only(folder: &Path, read_only: bool) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_read_only(&path, read_only);
        }
    }
    let mut permissions = std::fs::metadata(folder).unwrap().permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(
        &mut permissions,
        if read_only { 0o555 } else { 0o755 },
    );
    #[cfg(not(unix))]
    permissions.set_readonly(read_only);
    std::fs::set_permissions(folder, permissions).unwrap();
}

#[test]
fn the_organisers_run_gets_a_mask_for_every_image_that_has_a_grid() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let output = liseg(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "training.epochs=2",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let bundle = folder.path().join("model.liseg");
    assert!(
        liseg(&["bundle", path(&run), "-o", path(&bundle)])
            .status
            .success()
    );

    let input = folder.path().join("input");
    let put = |case: &str, phase: &str, index: u64, orientation: &str| {
        let at = input.join(case);
        std::fs::create_dir_all(&at).unwrap();
        let (image, _) = scan(index);
        let file = at.join(format!("{phase}.nii.gz"));
        write_image(&file, &image.reorient(orientation.parse().unwrap()), None).unwrap();
        file
    };
    for (i, phase) in ["GED1", "GED4", "T1", "T2", "DWI_800"]
        .into_iter()
        .enumerate()
    {
        put("Vendor_A/1-A", phase, i as u64, "LPS");
    }
    put("Vendor_A/2-A", "GED4", 1, "PIR");
    put("Vendor_B2/3-B2", "T2", 2, "SAL");
    let truncated = put("Vendor_B2/3-B2", "T1", 3, "LPS");
    let bytes = std::fs::read(&truncated).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let garbage = put("Vendor_B2/4-B2", "GED4", 3, "LPS");
    std::fs::write(&garbage, b"this is no image").unwrap();
    std::fs::create_dir_all(input.join("Vendor_B2/5-B2")).unwrap();
    std::fs::write(input.join("info.csv"), "case,vendor\n").unwrap();
    let before = tree(&input);
    set_read_only(&input, true);

    let out = folder.path().join("output");
    let output = liseg(&[
        "submit",
        "--input",
        path(&input),
        "--output",
        path(&out),
        "--model",
        path(&bundle),
        "--json",
    ]);
    set_read_only(&input, false);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(tree(&input) == before, "the input was changed");
    let summary = stdout_json(&output);
    assert_eq!(
        (&summary["images"], &summary["masks"]),
        (&8.into(), &7.into())
    );
    assert_eq!(summary["failed"].as_array().unwrap().len(), 2);

    let masks = out.join("LiSeg_pred");
    let names: Vec<String> = tree(&masks)
        .keys()
        .map(|p| p.strip_prefix(&masks).unwrap().display().to_string())
        .collect();
    let expected = [
        "1-A/DWI_800_pred.nii.gz",
        "1-A/GED4_pred.nii.gz",
        "1-A/T1_pred.nii.gz",
        "1-A/T2_pred.nii.gz",
        "2-A/GED4_pred.nii.gz",
        "3-B2/T1_pred.nii.gz",
        "3-B2/T2_pred.nii.gz",
    ];
    assert_eq!(names, expected);
    for (mask, image) in [
        ("1-A/T2", "Vendor_A/1-A/T2"),
        ("2-A/GED4", "Vendor_A/2-A/GED4"),
        ("3-B2/T2", "Vendor_B2/3-B2/T2"),
        ("3-B2/T1", "Vendor_B2/3-B2/T1"),
    ] {
        let mask = read_labels(masks.join(format!("{mask}_pred.nii.gz"))).unwrap();
        let image = read_header(input.join(format!("{image}.nii.gz"))).unwrap();
        assert_eq!(mask.volume.geometry(), image.geometry());
    }
    // Turned on its side, the same scan gives the same liver.
    let volume = |name: &str| {
        let mask = read_labels(masks.join(name)).unwrap().volume;
        mask.reorient("LPS".parse().unwrap()).into_data()
    };
    assert_eq!(
        volume("1-A/GED4_pred.nii.gz"),
        volume("2-A/GED4_pred.nii.gz")
    );
    assert!(
        read_labels(masks.join("3-B2/T1_pred.nii.gz"))
            .unwrap()
            .volume
            .data()
            .iter()
            .all(|&l| l == 0)
    );
}
