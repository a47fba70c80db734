//! A mask goes through file, orientation, crop and resampling and comes back to where it was.

use liseg_data::{Plan, preprocess_image, preprocess_label};
use liseg_metrics::{Settings, evaluate_case};
use liseg_mri::nifti::{read_image, read_labels, write_image, write_labels};
use liseg_volume::{Affine, Orientation, Spacing, Volume};
use ndarray::Array3;
use proptest::prelude::*;

/// An axis-aligned grid, stored in any of four orientations, in millimetres.
fn grids() -> impl Strategy<Value = Affine> {
    let orientations = prop_oneof![Just("RAS"), Just("LPS"), Just("LAS"), Just("SPR")];
    (orientations, 1.0..3.0f64, 2.0..6.0f64, -0.1..0.1f64).prop_map(|(code, fine, thick, tilt)| {
        let (s, c) = tilt.sin_cos();
        let ras = Affine::from_columns(
            [fine * c, fine * s, 0.0],
            [-fine * s, fine * c, 0.0],
            [0.0, 0.0, thick],
            [-40.0, -30.0, 10.0],
        )
        .unwrap();
        let probe = Volume::new(Array3::<u8>::zeros((12, 30, 36)), ras).unwrap();
        probe
            .reorient(code.parse::<Orientation>().unwrap())
            .affine()
    })
}

fn plan(spacing: Spacing) -> Plan {
    let labels = [("background".to_owned(), 0), ("liver".to_owned(), 1)].into();
    Plan {
        spacing,
        patch_size: [16, 32, 32],
        pool_op_kernel_sizes: [[1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1], [1, 1, 1]],
        ..Plan::stunet_pretrained("test", labels)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(3)))]
    #[test]
    fn a_mask_returns_to_its_place(affine in grids(), mm in 1.5..3.0f64) {
        let folder = tempfile::tempdir().unwrap();
        let shape = [20, 24, 28];
        let mask = Array3::from_shape_fn(shape, |(z, y, x)| {
            let d = [z as f64 - 9.0, y as f64 - 12.0, x as f64 - 13.0];
            u8::from(d.iter().map(|v| v * v).sum::<f64>() < 49.0)
        });
        let image = mask.map(|&m| 1.0 + f32::from(m));
        let (image_file, mask_file) = (folder.path().join("i.nii.gz"), folder.path().join("m.nii"));
        write_image(&image_file, &Volume::new(image, affine).unwrap(), None).unwrap();
        write_labels(&mask_file, &Volume::new(mask, affine).unwrap(), None).unwrap();
        let (image, mask) = (read_image(&image_file).unwrap(), read_labels(&mask_file).unwrap());

        let plan = plan(Spacing::new(mm, mm, mm).unwrap());
        let prepared = preprocess_image(&image.volume, &plan).unwrap();
        let label = preprocess_label(&mask.volume, &prepared.restore).unwrap();
        prop_assert_eq!(label.dim(), prepared.image.dim());

        // The way of a prediction: resample the foreground, threshold, restore.
        let soft = label.map(|&l| f32::from(l) - 0.5);
        let back = liseg_mri::resample::resample_array(
            soft.view(),
            prepared.restore.cropped_shape(),
            prepared.restore.plan_spacing(),
            prepared.restore.source_spacing(),
            liseg_mri::resample::Resampling::LOGITS,
        );
        let restored = prepared.restore.restore_labels(back.mapv(|v| u8::from(v > 0.0))).unwrap();
        prop_assert_eq!(restored.affine(), image.volume.affine());
        let case = evaluate_case(&restored, &mask.volume, 1, &Settings::default()).unwrap();
        // Two resamplings cost at most about a voxel at the surface.
        let worst = mask.volume.spacing().zyx().iter().fold(mm, |a, b| a.max(*b));
        prop_assert!(case.hd.unwrap() <= 2.0 * worst, "HD {:?}, voxel {}", case.hd, worst);
        prop_assert!(case.dice.unwrap() > 0.75, "Dice {:?}", case.dice);
    }
}
