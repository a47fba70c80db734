//! Choices on reading and writing: one of several volumes, effort, extensions; and sound copies.

use super::common::{numbered, oblique, patched, put};
use liseg_mri::Error;
use liseg_mri::nifti::{
    Warning, WriteOptions, read_header, read_image, read_volume, repair, write_image,
    write_image_with, write_labels_with,
};
use proptest::prelude::*;

/// A file of two volumes; the second is the first with 1 added to every voxel.
fn series(folder: &std::path::Path) -> std::path::PathBuf {
    patched(folder, "series.nii", |bytes| {
        put(bytes, 40, 4i16.to_le_bytes());
        put(bytes, 48, 2i16.to_le_bytes());
        let second: Vec<u8> = bytes[352..]
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|v| (f32::from_le_bytes(*v) + 1.0).to_le_bytes())
            .collect();
        bytes.extend(second);
    })
}

/// A file with a text of 24 and a JSON of 8 bytes behind its header.
fn with_extensions(folder: &std::path::Path) -> std::path::PathBuf {
    patched(folder, "extended.nii", |bytes| {
        let mut block = Vec::new();
        for (code, content) in [(6i32, vec![b't'; 24]), (44, b"{\"a\":1} ".to_vec())] {
            block.extend((content.len() as i32 + 8).to_le_bytes());
            block.extend(code.to_le_bytes());
            block.extend(content);
        }
        put(bytes, 108, (352.0 + block.len() as f32).to_le_bytes());
        bytes[348] = 1;
        bytes.splice(352..352, block);
    })
}

#[test]
fn a_volume_of_several_is_chosen_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = series(folder.path());
    let first = read_volume(&path, 0).unwrap().volume;
    let second = read_volume(&path, 1).unwrap().volume;
    assert_eq!(
        first,
        read_image(folder.path().join("unpatched.nii"))
            .unwrap()
            .volume
    );
    assert_eq!(second.data(), (&first.data() + 1.0).view());
    let error = read_volume(&path, 2).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoSuchVolume {
                index: 2,
                volumes: 2,
                ..
            }
        ),
        "{error}"
    );
    // A result for the chosen volume has three axes.
    let mask = folder.path().join("mask.nii.gz");
    let like = read_header(&path).unwrap();
    write_image(&mask, &second, Some(&like)).unwrap();
    assert_eq!(read_header(&mask).unwrap().volumes(), 1);
}

#[test]
fn more_effort_makes_smaller_files_of_the_same_voxels() {
    let folder = tempfile::tempdir().unwrap();
    let volume = numbered([20, 40, 40], oblique());
    let size = |level: u32| {
        let path = folder.path().join(format!("{level}.nii.gz"));
        let options = WriteOptions {
            level,
            ..WriteOptions::default()
        };
        write_image_with(&path, &volume, None, options).unwrap();
        assert_eq!(read_image(&path).unwrap().volume.data(), volume.data());
        std::fs::metadata(&path).unwrap().len()
    };
    let sizes = [0, 1, 6].map(size);
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    assert_eq!(size(9), size(99));
}

#[test]
fn extensions_are_listed_and_kept_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let source = read_image(with_extensions(folder.path())).unwrap();
    let expected = [(6, &[b't'; 24][..]), (44, b"{\"a\":1} ")];
    assert_eq!(source.header.extensions(), expected);
    assert_eq!(source.volume.data(), numbered([3, 4, 5], oblique()).data());

    let mask = source.volume.map(|&v| v as u8);
    for (name, keep_extensions) in [("kept.nii.gz", true), ("left.nii", false)] {
        let path = folder.path().join(name);
        let options = WriteOptions {
            keep_extensions,
            ..WriteOptions::default()
        };
        write_labels_with(&path, &mask, Some(&source.header), options).unwrap();
        let header = read_header(&path).unwrap();
        assert_eq!(
            header.extensions(),
            if keep_extensions { &expected[..] } else { &[] }
        );
        assert_eq!(
            read_image(&path).unwrap().volume.data(),
            source.volume.data()
        );
    }
}

#[test]
fn a_repaired_copy_reads_as_its_source_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let source = patched(folder.path(), "odd.nii", |bytes| {
        put(bytes, 0, 0i32.to_le_bytes()); // sizeof_hdr
        put(bytes, 72, 8i16.to_le_bytes()); // bitpix
        put(bytes, 80, 99f32.to_le_bytes()); // pixdim[1]
        put(bytes, 108, 0f32.to_le_bytes()); // vox_offset
        put(bytes, 112, f32::NAN.to_le_bytes()); // scl_slope
        put(bytes, 116, 5f32.to_le_bytes()); // scl_inter
        put(bytes, 123, [3u8]); // micrometres
        for at in (80..92).chain(268..328).step_by(4) {
            let scaled = f32::from_le_bytes(std::array::from_fn(|i| bytes[at + i])) * 1000.0;
            put(bytes, at, scaled.to_le_bytes());
        }
        put(bytes, 352, f32::NAN.to_le_bytes());
        put(bytes, 360, f32::INFINITY.to_le_bytes());
    });
    let before = std::fs::read(&source).unwrap();
    let copy = folder.path().join("sound.nii.gz");
    let done = repair(&source, &copy).unwrap();
    assert!(done.found.len() >= 5, "{:?}", done.found);
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert_eq!(done.zeroed, 2);

    let (odd, sound) = (read_image(&source).unwrap(), read_image(&copy).unwrap());
    assert!(sound.warnings.is_empty(), "{:?}", sound.warnings);
    let apart = sound
        .volume
        .geometry()
        .corner_distance_mm(&odd.volume.geometry());
    assert!(apart < 1e-4, "{apart} mm");
    for (a, b) in odd.volume.data().iter().zip(sound.volume.data()) {
        assert_eq!(if a.is_finite() { *a } else { 0.0 }, *b);
    }
    assert_eq!(
        std::fs::read(&source).unwrap(),
        before,
        "the source is untouched"
    );
}

#[test]
fn a_repair_guesses_no_orientation_and_refuses_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = patched(folder.path(), "nowhere.nii", |bytes| {
        put(bytes, 252, [0; 4]); // both codes
        put(bytes, 84, (-1.5f32).to_le_bytes()); // a negative spacing
    });
    let copy = folder.path().join("copy.nii");
    let done = repair(&source, &copy).unwrap();
    assert_eq!(done.left, [Warning::NoForm]);
    assert_eq!(
        read_header(&copy).unwrap().geometry(),
        read_header(&source).unwrap().geometry()
    );

    let cut = patched(folder.path(), "cut.nii", |bytes| bytes.truncate(400));
    let nothing = folder.path().join("nothing.nii");
    assert!(matches!(
        repair(&cut, &nothing),
        Err(Error::Truncated { .. })
    ));
    let broken = patched(folder.path(), "broken.nii.gz", |bytes| {
        bytes.splice(.., [0x1f, 0x8b, 8, 0, 1, 2, 3]);
    });
    assert!(repair(&broken, &nothing).is_err());
    assert!(!nothing.exists());
}

#[test]
fn a_repair_keeps_type_values_and_every_volume() {
    let folder = tempfile::tempdir().unwrap();
    // Big-endian int16 with a slope, two volumes.
    let source = folder.path().join("big.nii");
    let mut bytes = vec![0u8; 352];
    let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| {
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    put(&mut bytes, 0, &348i32.to_be_bytes());
    for (i, n) in [4i16, 3, 2, 2, 2, 1, 1, 1].into_iter().enumerate() {
        put(&mut bytes, 40 + 2 * i, &n.to_be_bytes());
        put(&mut bytes, 76 + 4 * i, &1.5f32.to_be_bytes());
    }
    put(&mut bytes, 70, &4i16.to_be_bytes());
    put(&mut bytes, 72, &16i16.to_be_bytes());
    put(&mut bytes, 108, &352f32.to_be_bytes());
    put(&mut bytes, 112, &0.5f32.to_be_bytes());
    put(&mut bytes, 123, &[2]);
    put(&mut bytes, 252, &1i16.to_be_bytes());
    put(&mut bytes, 344, b"n+1\0");
    bytes.extend((0..24i16).flat_map(|v| (v * 300 - 3000).to_be_bytes()));
    std::fs::write(&source, &bytes).unwrap();
    let copy = folder.path().join("little.nii.gz");
    repair(&source, &copy).unwrap();
    let header = read_header(&copy).unwrap();
    assert!(!header.big_endian() && header.volumes() == 2);
    assert_eq!(
        header.data_type(),
        read_header(&source).unwrap().data_type()
    );
    for index in [0, 1] {
        let of = |path| read_volume(path, index).unwrap().volume;
        assert_eq!(of(&source), of(&copy));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(2)))]

    #[test]
    fn repairing_a_sound_file_changes_nothing(shape in [1usize..5, 1..6, 1..7], gz: bool) {
        let folder = tempfile::tempdir().unwrap();
        let (source, copy) = (folder.path().join("a.nii"), folder.path().join(if gz { "b.nii.gz" } else { "b.nii" }));
        write_image(&source, &numbered(shape, oblique()), None).unwrap();
        let done = repair(&source, &copy).unwrap();
        prop_assert!(done.found.is_empty() && done.left.is_empty() && done.zeroed == 0);
        let (a, b) = (read_image(&source).unwrap(), read_image(&copy).unwrap());
        prop_assert_eq!(a.volume.data(), b.volume.data());
        prop_assert!(a.volume.geometry().is_within(&b.volume.geometry(), 1e-5));
    }
}
