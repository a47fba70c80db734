//! A phantom dataset is a dataset: readable, checked without findings of errors, planned, stored.

use liseg_data::{
    CaseStore, Dataset, Fingerprint, Plan, PlanOptions, Severity, Subset, preprocess_dataset,
};
use liseg_phantom::{PhantomConfig, Phase, Resolution, write_nnunet};

#[test]
fn a_phantom_dataset_goes_all_the_way_to_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let config = PhantomConfig::default()
        .with_patients(5, 2, 1)
        .with_phases([Phase::Ged4, Phase::T2])
        .with_resolution(Resolution::Tiny);
    let path = folder.path().join("dataset");
    write_nnunet(&config, &path).unwrap();
    let dataset = Dataset::open(&path).unwrap();
    let errors: Vec<_> = dataset
        .check()
        .into_iter()
        .filter(|f| f.severity == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(dataset.subset(Subset::Labelled).count(), 2);
    assert!(dataset.subset(Subset::Unlabelled).count() >= 2);
    assert!(dataset.subset(Subset::Test).all(|c| c.label.is_some()));
    assert!(
        dataset
            .cases()
            .iter()
            .all(|c| c.phase.is_some() && c.vendor.is_some())
    );

    let options = PlanOptions {
        max_patch_voxels: 24 * 64 * 64,
        ..PlanOptions::default()
    };
    let plan = Plan::new(&dataset, &Fingerprint::of(&dataset).unwrap(), &options).unwrap();
    let store = folder.path().join("store");
    let report = preprocess_dataset(&dataset, &plan, &store, &Default::default(), |_| {}).unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let again = preprocess_dataset(&dataset, &plan, &store, &Default::default(), |_| {}).unwrap();
    assert!(again.written.is_empty(), "work was done twice");
    let store = CaseStore::open(&store).unwrap();
    for case in store.subset(Subset::Labelled) {
        let label = case.label().unwrap();
        assert!(label.iter().any(|&l| l == 1) && label.iter().all(|&l| l == 0 || l == 1));
        let mean = case.image().mean().unwrap();
        assert!(mean.abs() < 0.2, "not normalised: {mean}");
    }
    assert!(
        store
            .subset(Subset::Unlabelled)
            .all(|case| case.label().is_none())
    );
}
