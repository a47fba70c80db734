//! What is written comes back, in any geometry, here and in another reader.

use super::common::{numbered, oblique};
use flate2::Compression;
use flate2::write::GzEncoder;
use liseg_mri::nifti::{read_image, read_labels, write_image, write_labels};
use liseg_volume::{Affine, Orientation, Volume};
use ndarray::Array3;
use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;

/// Rotated, scaled, possibly mirrored axes far from the origin.
fn affines() -> impl Strategy<Value = Affine> {
    let (angle, step, offset) = (-3.1..3.1f64, 0.2..12.0f64, -400.0..400.0f64);
    (
        [angle.clone(), angle.clone(), angle],
        [step.clone(), step.clone(), step],
        [offset.clone(), offset.clone(), offset],
        any::<bool>(),
    )
        .prop_map(|([a, b, c], steps, origin, mirror)| {
            let ((sa, ca), (sb, cb), (sc, cc)) = (a.sin_cos(), b.sin_cos(), c.sin_cos());
            let r = [
                [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
                [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
                [-sb, cb * sa, cb * ca],
            ];
            let sign = if mirror { -1.0 } else { 1.0 };
            let column = |c: usize, s: f64| std::array::from_fn(|i| r[i][c] * steps[c] * s);
            Affine::from_columns(column(0, sign), column(1, 1.0), column(2, 1.0), origin).unwrap()
        })
}

proptest! {
    #[test]
    fn images_come_back(
        affine in affines(), shape in [1usize..6, 1..7, 1..8], values in any::<u64>(), gz: bool,
    ) {
        // Any bit pattern, NaN and infinities included.
        let mut state = values;
        let data = Array3::from_shape_simple_fn(shape, || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from_bits((state >> 32) as u32)
        });
        let volume = Volume::new(data, affine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if gz { "image.nii.gz" } else { "image.nii" });
        write_image(&path, &volume, None).unwrap();
        let read = read_image(&path).unwrap();
        for (a, b) in volume.data().iter().zip(read.volume.data()) {
            prop_assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
        }
        // The header stores f32: 400 mm to a few 1e-5.
        prop_assert!(read.volume.geometry().is_within(&volume.geometry(), 2e-4));
        prop_assert_eq!(read.header.qform_code(), 1);
    }

    #[test]
    fn masks_return_to_their_source_exactly(
        affine in affines(), shape in [1usize..6, 1..7, 1..8], first: u8, gz: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let source_path = folder.path().join("source.nii");
        write_image(&source_path, &numbered(shape, affine), None).unwrap();
        let source = read_image(&source_path).unwrap();
        let mut label = first;
        let labels = source.volume.to_canonical().map(|_| { label = label.wrapping_mul(5).wrapping_add(3); label });
        let labels = labels.reorient(source.volume.orientation());
        let path = folder.path().join(if gz { "mask.nii.gz" } else { "mask.nii" });
        write_labels(&path, &labels, Some(&source.header)).unwrap();
        let read = read_labels(&path).unwrap();
        prop_assert_eq!(read.volume.data(), labels.data());
        // Bit by bit: through canonical orientation and back the affine moved by 1e-13.
        prop_assert_eq!(read.volume.affine(), source.volume.affine());
    }
}

/// A numbered volume as 16-bit integers, compressed in members of the given lengths.
fn short_file(path: &Path, shape: [usize; 3], cuts: &[usize]) {
    let plain = path.with_extension("plain.nii");
    let volume = numbered(shape, oblique());
    write_image(&plain, &volume, None).unwrap();
    let mut bytes = std::fs::read(&plain).unwrap()[..352].to_vec();
    bytes[70..74].copy_from_slice(&[4, 0, 16, 0]);
    bytes.extend(volume.data().iter().flat_map(|&v| (v as i16).to_le_bytes()));
    let mut file = Vec::new();
    let mut rest = &bytes[..];
    for &cut in cuts.iter().chain([&usize::MAX]) {
        let (member, others) = rest.split_at(cut.min(rest.len()));
        let mut encoder = GzEncoder::new(&mut file, Compression::fast());
        encoder.write_all(member).unwrap();
        encoder.finish().unwrap();
        rest = others;
    }
    std::fs::write(path, file).unwrap();
}

proptest! {
    #[test]
    fn members_of_a_compressed_file_do_not_matter(
        shape in [1usize..6, 1..20, 1..40],
        cuts in prop::collection::vec(0usize..500, 0..3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short.nii.gz");
        short_file(&path, shape, &cuts);
        let read = read_image(&path).unwrap();
        let expected = numbered(shape, oblique());
        prop_assert_eq!(read.volume.data(), expected.data());
    }

    #[test]
    fn a_flipped_bit_of_a_compressed_file_never_gives_other_voxels(
        place in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short.nii.gz");
        short_file(&path, [3, 20, 30], &[]);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, bytes).unwrap();
        // Some bits mean nothing, such as the time in the header of a member.
        if let Ok(read) = read_image(&path) {
            let expected = numbered([3, 20, 30], oblique());
            prop_assert_eq!(read.volume.data(), expected.data(), "byte {}", at);
        }
    }
}

#[test]
fn another_reader_sees_the_same_voxels_and_forms() {
    let folder = tempfile::tempdir().unwrap();
    let volume = numbered([3, 4, 5], oblique());
    for name in ["image.nii", "image.nii.gz"] {
        let path = folder.path().join(name);
        write_image(&path, &volume, None).unwrap();
        let object = ReaderOptions::new().read_file(&path).unwrap();
        let header = object.header().clone();
        let [x, y, z] = oblique().rows().map(|row| row.map(|v| v as f32));
        assert_eq!((header.srow_x, header.srow_y, header.srow_z), (x, y, z));
        assert_eq!(
            (header.qform_code, header.sform_code, header.xyzt_units),
            (1, 1, 2)
        );
        assert_eq!(header.pixdim[0], -1.0);
        let voxels = object.into_volume().into_ndarray::<f32>().unwrap();
        let voxels = voxels.reversed_axes();
        assert_eq!(voxels, volume.data().into_dyn());
    }
}

#[test]
fn this_reader_sees_what_another_writer_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.nii.gz");
    let volume = numbered([3, 4, 5], oblique());
    let file_order = volume.data().reversed_axes();
    nifti::writer::WriterOptions::new(&path)
        .write_nifti(&file_order)
        .unwrap();
    assert_eq!(read_image(&path).unwrap().volume.data(), volume.data());
}

#[test]
fn canonical_orientation_survives_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ras.nii.gz");
    let canonical = numbered([3, 4, 5], oblique()).to_canonical();
    write_image(&path, &canonical, None).unwrap();
    assert_eq!(
        read_image(&path).unwrap().volume.orientation(),
        Orientation::RAS
    );
}
