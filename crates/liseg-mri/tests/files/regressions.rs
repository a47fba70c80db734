//! One test for each defect known from other readers and writers.

use super::common::{numbered, oblique, patched, put};
use flate2::{Compression, write::GzEncoder};
use liseg_mri::Error;
use liseg_mri::nifti::{
    AffineSource, DataType, Version, Warning, read_header, read_image, read_labels, repair,
    write_image, write_labels,
};
use liseg_volume::{Affine, Spacing, Volume};
use ndarray::{Array3, ShapeBuilder};
use std::io::Write;

const VOX_OFFSET: usize = 108;
const SCL_SLOPE: usize = 112;
const SCL_INTER: usize = 116;
const PIXDIM: usize = 76;
const QFORM_CODE: usize = 252;
const SFORM_CODE: usize = 254;
const QUATERN: usize = 256;
const SROW: usize = 280;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn padding_before_the_voxels_is_not_read_as_voxels() {
    let folder = folder();
    let path = patched(folder.path(), "padded.nii", |bytes| {
        bytes.splice(352..352, [7; 160]);
        put(bytes, VOX_OFFSET, 512f32.to_le_bytes());
    });
    let expected = numbered([3, 4, 5], oblique());
    assert_eq!(read_image(path).unwrap().volume.data(), expected.data());
}

#[test]
fn a_slope_that_is_no_number_means_no_scaling() {
    let folder = folder();
    for slope in [f32::NAN, f32::INFINITY, 0.0] {
        let path = patched(folder.path(), "slope.nii", |bytes| {
            put(bytes, SCL_SLOPE, slope.to_le_bytes());
            put(bytes, SCL_INTER, 5f32.to_le_bytes());
        });
        let nifti = read_image(path).unwrap();
        assert_eq!(nifti.volume.data(), numbered([3, 4, 5], oblique()).data());
        assert!(
            nifti
                .warnings
                .contains(&Warning::InterceptIgnored { intercept: 5.0 })
        );
    }
    let path = patched(folder.path(), "scaled.nii", |bytes| {
        put(bytes, SCL_SLOPE, 0.5f32.to_le_bytes());
        put(bytes, SCL_INTER, 3f32.to_le_bytes());
    });
    let nifti = read_image(path).unwrap();
    assert_eq!(nifti.volume.data()[[2, 3, 4]], 0.5 * 234.0 + 3.0);
    assert_eq!(nifti.header.scaling(), Some((0.5, 3.0)));
}

#[test]
fn a_slope_with_an_intercept_that_is_no_number_is_refused() {
    let folder = folder();
    let path = patched(folder.path(), "intercept.nii", |bytes| {
        put(bytes, SCL_INTER, f32::NAN.to_le_bytes());
    });
    let error = read_image(path).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Header {
                field: "scl_inter",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_qform_with_qfac_zero_or_negative_spacing_is_read() {
    let folder = folder();
    // Right-handed, so that a missing qfac means 1.
    let affine = oblique().rows().map(|[x, y, z, o]| [-x, y, z, o]);
    let affine = Affine::from_rows(affine).unwrap();
    let right_handed = numbered([3, 4, 5], affine);
    let plain = folder.path().join("plain.nii");
    write_image(&plain, &right_handed, None).unwrap();
    let original = std::fs::read(&plain).unwrap();
    for (at, value) in [(PIXDIM, 0f32), (PIXDIM + 4, -1.25)] {
        let mut bytes = original.clone();
        put(&mut bytes, SFORM_CODE, 0i16.to_le_bytes());
        put(&mut bytes, at, value.to_le_bytes());
        let path = folder.path().join("qform.nii");
        std::fs::write(&path, bytes).unwrap();
        let nifti = read_image(path).unwrap();
        assert_eq!(nifti.header.affine_source(), AffineSource::Qform);
        assert!(
            nifti
                .volume
                .geometry()
                .is_within(&right_handed.geometry(), 1e-4)
        );
    }
}

#[test]
fn a_quaternion_just_over_unit_length_is_a_half_turn() {
    let folder = folder();
    let path = patched(folder.path(), "half_turn.nii", |bytes| {
        put(bytes, SFORM_CODE, 0i16.to_le_bytes());
        put(bytes, QUATERN, 0f32.to_le_bytes());
        put(bytes, QUATERN + 4, 0f32.to_le_bytes());
        put(bytes, QUATERN + 8, 1.000_001f32.to_le_bytes());
    });
    let [x, y, _] = read_image(path).unwrap().volume.affine().rows();
    assert!((x[0] + 1.25).abs() < 1e-5 && (y[1] + 1.5).abs() < 1e-5);
}

#[test]
fn every_member_of_a_gzip_file_is_read() {
    let folder = folder();
    let path = patched(folder.path(), "members.nii.gz", |bytes| {
        let mut compressed = Vec::new();
        for part in bytes.chunks(100) {
            let mut encoder = GzEncoder::new(&mut compressed, Compression::fast());
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap();
        }
        *bytes = compressed;
    });
    assert_eq!(read_image(path).unwrap().volume, {
        let plain = folder.path().join("unpatched.nii");
        read_image(plain).unwrap().volume
    });
}

#[test]
fn compression_is_told_by_content_and_not_by_name() {
    let folder = folder();
    let volume = numbered([3, 4, 5], oblique());
    let upper = folder.path().join("UPPER.NII.GZ");
    write_image(&upper, &volume, None).unwrap();
    assert_eq!(std::fs::read(&upper).unwrap()[..2], [0x1f, 0x8b]);
    let misnamed = folder.path().join("compressed.nii");
    std::fs::rename(&upper, &misnamed).unwrap();
    assert_eq!(read_image(&misnamed).unwrap().volume.data(), volume.data());
}

#[test]
fn labels_are_never_truncated() {
    let folder = folder();
    for (value, shown) in [
        (1.5f32, "1.5"),
        (f32::NAN, "NaN"),
        (-1.0, "-1"),
        (256.0, "256"),
    ] {
        let mut volume = numbered([3, 4, 5], oblique());
        volume.data_mut()[[2, 1, 3]] = value;
        volume
            .data_mut()
            .mapv_inplace(|v| if v == value || v.is_nan() { v } else { v % 3.0 });
        let path = folder.path().join("probabilities.nii.gz");
        write_image(&path, &volume, None).unwrap();
        let error = read_labels(&path).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Label {
                    voxel: [2, 1, 3],
                    ..
                }
            ),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(shown) && text.contains("probabilities.nii.gz"),
            "{text}"
        );
    }
}

#[test]
fn labels_stored_as_floats_or_scaled_are_exact() {
    let folder = folder();
    let volume = numbered([3, 4, 5], oblique());
    let floats = folder.path().join("floats.nii");
    write_image(&floats, &volume, None).unwrap();
    let expected = volume.map(|&v| v as u8);
    assert_eq!(read_labels(&floats).unwrap().volume.data(), expected.data());
    let path = patched(folder.path(), "scaled.nii", |bytes| {
        for v in bytes[352..].as_chunks_mut::<4>().0 {
            *v = (f32::from_le_bytes(*v) * 10.0).to_le_bytes();
        }
        put(bytes, SCL_SLOPE, 0.1f32.to_le_bytes());
    });
    assert_eq!(read_labels(path).unwrap().volume.data(), expected.data());
}

#[test]
fn trailing_axes_of_one_voxel_are_dropped_and_written_back() {
    let folder = folder();
    let path = patched(folder.path(), "four.nii", |bytes| {
        put(bytes, 40, 5i16.to_le_bytes());
        put(bytes, PIXDIM + 16, 2.5f32.to_le_bytes());
    });
    let nifti = read_labels(path).unwrap();
    assert_eq!(nifti.volume.shape(), [3, 4, 5]);
    assert_eq!(nifti.header.dims(), [5, 4, 3, 1, 1]);
    let result = folder.path().join("result.nii");
    write_labels(&result, &nifti.volume, Some(&nifti.header)).unwrap();
    assert_eq!(read_header(&result).unwrap().dims(), [5, 4, 3, 1, 1]);
    assert_eq!(
        std::fs::read(result).unwrap()[PIXDIM + 16..PIXDIM + 20],
        2.5f32.to_le_bytes()
    );
}

#[test]
fn several_volumes_are_refused_and_described() {
    let folder = folder();
    let path = patched(folder.path(), "series.nii", |bytes| {
        put(bytes, 40, 4i16.to_le_bytes());
        put(bytes, 48, 2i16.to_le_bytes());
        let voxels = bytes[352..].to_vec();
        bytes.extend(voxels);
    });
    let error = read_image(&path).unwrap_err();
    assert!(
        matches!(error, Error::SeveralVolumes { volumes: 2, .. }),
        "{error}"
    );
    assert_eq!(read_header(&path).unwrap().geometry().shape, [3, 4, 5]);
}

#[test]
fn column_major_arrays_are_written_in_file_order() {
    let folder = folder();
    let plain = numbered([3, 4, 5], oblique());
    let mut data = Array3::<f32>::zeros((3, 4, 5).f());
    data.assign(&plain.data());
    let columns = Volume::new(data, oblique()).unwrap();
    let path = folder.path().join("columns.nii");
    write_image(&path, &columns, None).unwrap();
    assert_eq!(read_image(&path).unwrap().volume.data(), plain.data());
}

#[test]
fn nifti_2_is_read_and_written_back_as_nifti_2() {
    let folder = folder();
    // Longer than a NIfTI-1 axis can be.
    let long = Volume::new(Array3::from_elem((1, 1, 40_000), 3u8), oblique()).unwrap();
    let path = folder.path().join("long.nii.gz");
    write_labels(&path, &long, None).unwrap();
    let nifti = read_labels(&path).unwrap();
    assert_eq!(nifti.header.version(), Version::Two);
    assert_eq!(nifti.volume.data(), long.data());
    // NIfTI-2 keeps the affine in f64.
    assert_eq!(nifti.volume.affine(), oblique());
    let short = nifti.volume.map(|&v| v);
    let again = folder.path().join("again.nii.gz");
    write_labels(&again, &short, Some(&nifti.header)).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        std::fs::read(&again).unwrap()
    );
}

#[test]
fn both_forms_say_the_same_unless_the_axes_are_sheared() {
    let folder = folder();
    let path = folder.path().join("forms.nii");
    write_image(&path, &numbered([3, 4, 5], oblique()), None).unwrap();
    let header = read_header(&path).unwrap();
    assert_eq!((header.sform_code(), header.qform_code()), (1, 1));
    assert!(header.warnings().is_empty(), "{:?}", header.warnings());

    let mut rows = oblique().rows();
    rows[0][1] += 0.6;
    let sheared = Affine::from_rows(rows).unwrap();
    write_image(&path, &numbered([3, 4, 5], sheared), None).unwrap();
    let header = read_header(&path).unwrap();
    assert_eq!((header.sform_code(), header.qform_code()), (1, 0));
}

#[test]
fn forms_that_disagree_are_reported() {
    let folder = folder();
    let path = patched(folder.path(), "disagree.nii", |bytes| {
        put(bytes, QUATERN + 12, 10f32.to_le_bytes());
    });
    let nifti = read_image(path).unwrap();
    let found = nifti.warnings.iter().find_map(|w| match w {
        Warning::FormsDisagree { distance_mm } => Some(*distance_mm),
        _ => None,
    });
    assert!((found.unwrap() - 100.5).abs() < 1e-3);
}

#[test]
fn an_sform_without_a_third_axis_gives_way_to_the_qform() {
    let folder = folder();
    let broken = |name: &str, value: f32, qform_code: i16| {
        patched(folder.path(), name, |bytes| {
            for row in 0..3 {
                put(bytes, SROW + 16 * row + 8, value.to_le_bytes());
            }
            put(bytes, QFORM_CODE, qform_code.to_le_bytes());
        })
    };
    let geometry = numbered([3, 4, 5], oblique()).geometry();
    let unusable = |w: &Warning| matches!(w, Warning::SformIsUnusable { .. });
    for value in [0.0, f32::NAN] {
        let path = broken("flat.nii", value, 1);
        let nifti = read_image(&path).unwrap();
        assert_eq!(nifti.header.affine_source(), AffineSource::Qform);
        assert!(nifti.volume.geometry().is_within(&geometry, 1e-3));
        assert!(nifti.warnings.iter().any(unusable), "{:?}", nifti.warnings);

        let copy = folder.path().join("copy.nii");
        let repaired = repair(&path, &copy).unwrap();
        assert!(repaired.found.iter().any(unusable));
        assert_eq!(repaired.left, []);
        let header = read_header(&copy).unwrap();
        assert_eq!(header.affine_source(), AffineSource::Sform);
        assert!(header.geometry().is_within(&geometry, 1e-3));

        // A result does not pass the fault on.
        let mask = folder.path().join("mask.nii");
        write_labels(&mask, &nifti.volume.map(|_| 1), Some(&nifti.header)).unwrap();
        assert_eq!(read_header(&mask).unwrap().warnings(), []);
    }
    let error = read_image(broken("none.nii", 0.0, 0)).unwrap_err();
    assert!(error.to_string().contains("sform is unusable"), "{error}");
}

#[test]
fn a_result_keeps_the_sources_place_bit_by_bit() {
    let folder = folder();
    // A qform alone, with code 3, awkward spacing and no unit.
    let path = patched(folder.path(), "source.nii", |bytes| {
        put(bytes, SFORM_CODE, 0i16.to_le_bytes());
        put(bytes, QFORM_CODE, 3i16.to_le_bytes());
        put(bytes, PIXDIM + 12, 7.699_999f32.to_le_bytes());
        put(bytes, 123, [0]);
        put(bytes, 148, *b"scanner X");
    });
    let source = read_image(&path).unwrap();
    let mask = source.volume.to_canonical().map(|&v| u8::from(v > 100.0));
    let mask = mask.reorient(source.volume.orientation());
    let result = folder.path().join("mask.nii");
    write_labels(&result, &mask, Some(&source.header)).unwrap();
    let (a, b) = (
        std::fs::read(&path).unwrap(),
        std::fs::read(&result).unwrap(),
    );
    // dim, pixdim, description, forms.
    for range in [40..56, 76..108, 148..228, 252..328] {
        assert_eq!(a[range.clone()], b[range.clone()], "bytes {range:?}");
    }
    assert_eq!(b[123], 2, "lengths are declared as millimetres");
    let header = read_header(&result).unwrap();
    assert_eq!(header.data_type(), DataType::U8);
    assert_eq!(header.geometry(), source.header.geometry());
    assert_eq!(header.description(), "scanner X");
}

#[test]
fn a_result_on_another_grid_gets_its_own_affine_and_the_sources_code() {
    let folder = folder();
    let path = patched(folder.path(), "source.nii", |bytes| {
        put(bytes, SFORM_CODE, 2i16.to_le_bytes());
        put(bytes, QFORM_CODE, 1i16.to_le_bytes());
    });
    let source = read_image(&path).unwrap();
    let to = Spacing::new(2.0, 2.0, 2.0).unwrap();
    let coarse = liseg_mri::resample::resample_image(&source.volume, to).unwrap();
    let result = folder.path().join("coarse.nii.gz");
    write_image(&result, &coarse, Some(&source.header)).unwrap();
    let header = read_header(&result).unwrap();
    assert_eq!((header.sform_code(), header.qform_code()), (2, 2));
    assert!(header.geometry().is_within(&coarse.geometry(), 1e-4));
}

#[test]
fn lengths_in_other_units_become_millimetres_and_are_written_back_as_they_were() {
    let folder = folder();
    let path = patched(folder.path(), "metre.nii", |bytes| put(bytes, 123, [1]));
    let source = read_labels(&path).unwrap();
    let [z, _, _] = source.volume.spacing().zyx();
    assert!((z - 7700.0).abs() < 1e-3);
    assert!(
        source
            .warnings
            .contains(&Warning::UnitsConverted { mm_factor: 1000.0 })
    );
    let result = folder.path().join("result.nii");
    write_labels(&result, &source.volume, Some(&source.header)).unwrap();
    assert_eq!(
        read_header(&result).unwrap().geometry(),
        source.header.geometry()
    );
    assert_eq!(std::fs::read(result).unwrap()[123], 1);
}

#[test]
fn names_with_dots_are_used_as_they_are() {
    let folder = folder();
    let volume = numbered([3, 4, 5], oblique());
    for name in ["case.1.nii", "case_v1.2", "case.2.nii.gz"] {
        write_image(folder.path().join(name), &volume, None).unwrap();
        assert_eq!(
            read_image(folder.path().join(name)).unwrap().volume.data(),
            volume.data()
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    let pair = write_image(folder.path().join("pair.img.gz"), &volume, None);
    assert!(matches!(pair, Err(Error::Unsupported { .. })));
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let folder = folder();
    let taken = folder.path().join("taken.nii");
    std::fs::create_dir(&taken).unwrap();
    let error = write_image(&taken, &numbered([3, 4, 5], oblique()), None).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("taken.nii"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn results_get_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let usual = folder.path().join("usual");
    std::fs::write(&usual, "").unwrap();
    let path = folder.path().join("mask.nii");
    write_image(&path, &numbered([3, 4, 5], oblique()), None).unwrap();
    let mode = |p| std::fs::metadata(p).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&usual));
}

#[test]
fn either_name_of_a_pair_opens_it() {
    let folder = folder();
    patched(folder.path(), "pair.hdr", |bytes| {
        put(bytes, 344, *b"ni1\0");
        put(bytes, VOX_OFFSET, 0f32.to_le_bytes());
        let voxels = bytes.split_off(352);
        std::fs::write(folder.path().join("pair.img"), voxels).unwrap();
    });
    for name in ["pair.hdr", "pair.img"] {
        let volume = read_image(folder.path().join(name)).unwrap().volume;
        assert_eq!(volume.data(), numbered([3, 4, 5], oblique()).data());
    }
}

#[test]
fn absurd_spacing_is_read_and_its_resampling_refused() {
    let folder = folder();
    let path = patched(folder.path(), "huge.nii", |bytes| {
        put(bytes, SFORM_CODE, 0i16.to_le_bytes());
        put(bytes, PIXDIM + 4, 1e30f32.to_le_bytes());
    });
    let volume = read_image(path).unwrap().volume;
    let to = Spacing::ISOTROPIC_1MM;
    let error = liseg_mri::resample::resample_image(&volume, to).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}
