//! Damaged images among sound ones.

use super::{fault, inputs, keep, run};
use crate::common::{path, scan, shared};
use liseg::mri::nifti::write_image;
use liseg::volume::Seed;
use liseg_fuzz::mutate::damaged;

#[test]
fn predict_survives_damaged_images_and_loses_no_sound_one() {
    let study = shared::study();
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let file = |name: &str| images.join(format!("{name}.nii"));
    write_image(file("sound"), &scan(0).0, None).unwrap();
    write_image(file("other"), &scan(1).0, None).unwrap();
    let (sound, other) = (
        std::fs::read(file("sound")).unwrap(),
        std::fs::read(file("other")).unwrap(),
    );
    let count = inputs(40);
    for index in 0..count {
        let mut rng = Seed(11).stream("image", 0, index);
        let bytes = damaged(&sound, &other, &mut rng);
        std::fs::write(file(&format!("damaged_{index:04}")), bytes).unwrap();
    }
    // In parts, for none to take the time of all.
    let parts = count.div_ceil(40);
    for part in 1..=parts {
        let part = format!("{part}/{parts}");
        let run_folder = study.join("runs/cps");
        let ended = run(
            &[
                "predict",
                "--run",
                path(&run_folder),
                "--input",
                "images",
                "--output",
                "masks",
                "--max-memory",
                "1500MB",
                "--part",
                &part,
            ],
            folder.path(),
        );
        if let Some(fault) = fault(&ended) {
            panic!(
                "part {part}: {fault}; kept in {}",
                keep(folder.path(), "images")
            );
        }
    }
    for sound in ["sound", "other"] {
        assert!(
            folder
                .path()
                .join(format!("masks/{sound}.nii.gz"))
                .is_file()
        );
    }
    // Damage that everything survives, or nothing, tries nothing.
    let masks = std::fs::read_dir(folder.path().join("masks"))
        .unwrap()
        .count() as u64;
    assert!((3..count + 2).contains(&masks), "{masks} masks of {count}");
}
