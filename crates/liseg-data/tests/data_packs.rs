//! The whole way on real images: check, plan, preprocess, load and restore.

use liseg_augment::AugmentConfig;
use liseg_data::{
    CaseStore, Dataset, Fingerprint, Loader, LoaderConfig, Plan, PlanOptions, Severity, Subset,
    folds, preprocess_dataset,
};
use liseg_mri::nifti;
use liseg_volume::{Seed, Spacing};
use std::path::PathBuf;
use std::sync::Arc;

#[test]
#[ignore = "needs the data packs, whose folder LISEG_DATA names"]
fn real_images_go_all_the_way() {
    let packs = PathBuf::from(std::env::var_os("LISEG_DATA").expect("LISEG_DATA is set"));
    let dataset = Dataset::open(&packs.join("chaos-t2")).unwrap();
    let count = |subset| dataset.subset(subset).count();
    let counts = [Subset::Labelled, Subset::Unlabelled, Subset::Test].map(count);
    assert_eq!(counts, [3, 8, 2]);
    let findings = dataset.check();
    assert!(
        findings.iter().all(|f| f.severity < Severity::Error),
        "{findings:#?}"
    );

    let fingerprint = Fingerprint::of(&dataset).unwrap();
    let plan = Plan::new(&dataset, &fingerprint, &PlanOptions::default()).unwrap();
    for (found, expected) in plan.spacing.zyx().into_iter().zip([7.7, 1.25, 1.25]) {
        assert!((found - expected).abs() < 1e-3, "{}", plan.spacing);
    }
    println!("planned {plan:#?}");

    // A coarse plan keeps the rest of the test short.
    let options = PlanOptions {
        spacing: Some(Spacing::new(7.7, 2.5, 2.5).unwrap()),
        patch_size: Some([32, 96, 96]),
        ..PlanOptions::default()
    };
    let plan = Plan::new(&dataset, &fingerprint, &options).unwrap();
    let out = tempfile::tempdir().unwrap();
    let report =
        preprocess_dataset(&dataset, &plan, out.path(), &Default::default(), |_| {}).unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(report.written.len(), 11);
    let again =
        preprocess_dataset(&dataset, &plan, out.path(), &Default::default(), |_| {}).unwrap();
    assert_eq!(again.unchanged.len(), 11);

    let store = Arc::new(CaseStore::open(out.path()).unwrap());
    for case in store.subset(Subset::Labelled) {
        let path = packs.join(format!("chaos-t2/labelsTr/{}.nii.gz", case.id()));
        let source = nifti::read_labels(path).unwrap().volume;
        let restore = case.restore();
        assert_eq!(restore.source(), source.geometry());
        let cropped = source.to_canonical().crop(restore.region()).unwrap();
        assert_eq!(cropped.shape(), restore.cropped_shape());
        let back = restore.restore_labels(cropped.into_data()).unwrap();
        assert_eq!(back, source);
        // The liver has the same volume on both grids.
        let millilitres =
            |voxels: usize, spacing: Spacing| voxels as f64 * spacing.voxel_volume_mm3() / 1000.0;
        let voxels = source.data().iter().filter(|&&v| v == 1).count();
        let coarse = case.label().unwrap().iter().filter(|&&v| v == 1).count();
        let (before, after) = (
            millilitres(voxels, source.spacing()),
            millilitres(coarse, plan.spacing),
        );
        assert!(
            (before / after - 1.0).abs() < 0.03,
            "{before} ml became {after} ml"
        );
    }

    let parts = folds(dataset.subset(Subset::Labelled), 3, Seed(1)).unwrap();
    let config = LoaderConfig {
        unlabelled: 2,
        patch_size: plan.patch_size,
        labelled_cases: Some(parts[0].training.clone()),
        workers: 2,
        iterations: 3,
        ..LoaderConfig::default()
    };
    let pipeline = Arc::new(AugmentConfig::default().build().unwrap());
    let mut loader = Loader::new(store, config, pipeline, Seed(1)).unwrap();
    for batch in &mut loader {
        let batch = batch.unwrap();
        for patch in &batch.labelled {
            assert_ne!(patch.origin.case, parts[0].validation[0]);
        }
        assert!(batch.labelled[1].label.iter().any(|&v| v == 1));
        assert!(
            batch
                .unlabelled
                .iter()
                .all(|p| p.image.iter().all(|v| v.is_finite()))
        );
    }
    println!("loaded with {:?}", loader.stats());
}
