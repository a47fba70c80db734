//! What users of the phantom rely on.

use liseg_phantom::{Organ, Patient, PhantomConfig, Phase, Resolution, Scan, Vendor, patient};
use liseg_volume::{LabelMap, Seed};
use std::collections::BTreeSet;

fn config() -> PhantomConfig {
    PhantomConfig {
        missing_phase_probability: 0.0,
        ..PhantomConfig::default().with_seed(Seed(11))
    }
}

/// The same in coarse voxels, where they are as good.
fn coarse() -> PhantomConfig {
    config().with_resolution(Resolution::Tiny)
}

/// World positions of the voxels with a label.
fn positions(labels: &LabelMap, wanted: u8) -> Vec<[f64; 3]> {
    let found = labels.data();
    let found = found.indexed_iter().filter(|(_, label)| **label == wanted);
    found
        .map(|((z, y, x), _)| labels.affine().voxel_to_world([z, y, x].map(|i| i as f64)))
        .collect()
}

fn centroid(points: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|a| points.iter().map(|p| p[a]).sum::<f64>() / points.len() as f64)
}

/// The share of `points` that lie in a voxel of the mask.
fn share_inside(points: impl ExactSizeIterator<Item = [f64; 3]>, mask: &LabelMap) -> f64 {
    let count = points.len() as f64;
    let inside = points.filter(|p| {
        let index = mask.affine().world_to_voxel(*p).map(f64::round);
        let shape = mask.shape();
        (0..3).all(|a| index[a] >= 0.0 && index[a] < shape[a] as f64)
            && mask.data()[index.map(|i| i as usize)] == 1
    });
    inside.count() as f64 / count
}

/// Pieces of a mask whose voxels touch by their faces.
fn pieces(mask: &LabelMap) -> usize {
    let points = mask.data();
    let points = points.indexed_iter().filter(|(_, v)| **v == 1);
    let mut open: BTreeSet<[usize; 3]> = points.map(|((z, y, x), _)| [z, y, x]).collect();
    let mut count = 0;
    while let Some(start) = open.pop_first() {
        count += 1;
        let mut stack = vec![start];
        while let Some(p) = stack.pop() {
            for axis in 0..3 {
                for next in [p[axis].wrapping_sub(1), p[axis] + 1] {
                    let mut q = p;
                    q[axis] = next;
                    if open.remove(&q) {
                        stack.push(q);
                    }
                }
            }
        }
    }
    count
}

/// The best Dice that any threshold on the image reaches.
fn best_threshold_dice(scan: &Scan) -> f64 {
    let image = scan.image.data();
    let mut voxels: Vec<(f32, u8)> = image
        .iter()
        .copied()
        .zip(scan.liver.data().iter().copied())
        .collect();
    voxels.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let liver = voxels.iter().filter(|v| v.1 == 1).count() as f64;
    let (mut hits, mut best) = (0.0, 0.0f64);
    for (index, (_, label)) in voxels.iter().enumerate() {
        hits += f64::from(*label);
        best = best.max(2.0 * hits / (index as f64 + 1.0 + liver));
    }
    best
}

fn mean(scan: &Scan, organ: Organ) -> f64 {
    let organs = scan.organs.data();
    let image = scan.image.data();
    let voxels = image.iter().zip(organs).filter(|v| *v.1 == organ.label());
    let (sum, count) = voxels.fold((0.0, 0.0), |(s, n), v| (s + f64::from(*v.0), n + 1.0));
    sum / count
}

#[test]
fn the_seed_decides_every_voxel_whatever_the_number_of_threads() {
    let config = coarse().with_phases([Phase::Ged4, Phase::Dwi]);
    let with_threads = |threads: usize, index: usize| -> Patient {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| patient(&config, index).unwrap())
    };
    let first = with_threads(1, 1);
    assert_eq!(first, with_threads(3, 1));
    // Neither the number of patients nor the other phases change a scan.
    let other = PhantomConfig {
        patients: 40,
        ..config.clone().with_phases([Phase::T2, Phase::Ged4])
    };
    let other = patient(&other, 1).unwrap();
    assert_eq!(first.scan(Phase::Ged4), other.scan(Phase::Ged4));
    assert_ne!(first, with_threads(3, 4));
    let reseeded = patient(&config.with_seed(Seed(12)), 1).unwrap();
    assert_ne!(first.scans, reseeded.scans);
}

#[test]
fn masks_are_whole_livers_on_the_right_and_agree_with_the_organs() {
    let configs = [config(), config(), config(), coarse()];
    for (config, index) in configs.iter().zip([0, 1, 15, 2]) {
        let patient = patient(config, index).unwrap();
        assert_eq!(patient.scans.len(), 4);
        for scan in &patient.scans {
            let name = format!("{} {}", patient.id, scan.phase);
            assert!(scan.image.geometry().is_within(&scan.liver.geometry(), 0.0));
            assert!(
                scan.image
                    .geometry()
                    .is_within(&scan.organs.geometry(), 0.0)
            );
            let livers = positions(&scan.liver, 1);
            let voxel_ml = scan.liver.spacing().voxel_volume_mm3() / 1000.0;
            let volume_ml = livers.len() as f64 * voxel_ml;
            assert!((900.0..2300.0).contains(&volume_ml), "{name}: {volume_ml}");
            assert_eq!(pieces(&scan.liver), 1, "{name}");
            // Right of the spine, left of it the spleen.
            let spine = centroid(&positions(&scan.organs, Organ::Spine.label()));
            let spleen = centroid(&positions(&scan.organs, Organ::Spleen.label()));
            assert!(centroid(&livers)[0] > spine[0] + 20.0, "{name}");
            assert!(spleen[0] < spine[0] - 40.0, "{name}");
            // Not cut by the edge of the image.
            let [z, y, x] = scan.liver.shape();
            let canonical = scan.liver.to_canonical();
            let edge = canonical
                .data()
                .indexed_iter()
                .any(|((k, _, _), v)| *v == 1 && (k == 0 || k + 1 == canonical.shape()[0]));
            assert!(!edge, "{name}: {z}×{y}×{x}");
            for (liver, organ) in scan.liver.data().iter().zip(scan.organs.data()) {
                let of_liver = [Organ::Liver, Organ::LiverVessels, Organ::LiverLesion]
                    .iter()
                    .any(|o| o.label() == *organ);
                assert!(*liver == 0 || of_liver, "{name}");
                assert!(*organ != Organ::Liver.label() || *liver == 1, "{name}");
            }
        }
        let ged4 = patient.scan(Phase::Ged4).unwrap();
        for organ in Organ::ALL {
            let optional = matches!(organ, Organ::Gallbladder | Organ::LiverLesion);
            let present = ged4.organs.data().iter().any(|v| *v == organ.label());
            assert!(optional || present, "{}: no {organ:?}", patient.id);
        }
    }
}

#[test]
fn phases_differ_in_grid_and_agree_up_to_the_breath() {
    for index in 0..3 {
        let patient = patient(&config(), index).unwrap();
        let reference = patient.scan(Phase::Ged4).unwrap();
        let from = positions(&reference.liver, 1);
        for scan in patient.scans.iter().filter(|s| s.phase != Phase::Ged4) {
            assert_ne!(scan.image.geometry(), reference.image.geometry());
            let breath: [f64; 3] =
                std::array::from_fn(|a| scan.breath_mm[a] - reference.breath_mm[a]);
            let moved: Vec<_> = from
                .iter()
                .map(|p| std::array::from_fn(|a| p[a] + breath[a]))
                .collect();
            let (a, b) = (centroid(&moved), centroid(&positions(&scan.liver, 1)));
            for axis in 0..3 {
                assert!(
                    (a[axis] - b[axis]).abs() < 0.8,
                    "{} {a:?} {b:?}",
                    scan.phase
                );
            }
            let share = share_inside(moved.into_iter(), &scan.liver);
            assert!(share > 0.93, "{} {share}", scan.phase);
        }
    }
}

#[test]
fn a_threshold_fails() {
    let config = config().with_phases([Phase::Ged4]);
    let scores: Vec<f64> = (0..9)
        .map(|index| best_threshold_dice(&patient(&config, index).unwrap().scans[0]))
        .collect();
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    assert!(mean < 0.75, "{mean}: {scores:?}");
}

#[test]
fn contrasts_reverse_between_phases() {
    for index in 0..4 {
        let patient = patient(&coarse(), index).unwrap();
        let ratio = |phase: Phase| {
            let scan = patient.scan(phase).unwrap();
            mean(scan, Organ::Liver) / mean(scan, Organ::Spleen)
        };
        assert!(ratio(Phase::T2) < 0.85, "T2WI {}", ratio(Phase::T2));
        assert!(ratio(Phase::Dwi) < 0.85, "DWI {}", ratio(Phase::Dwi));
        let (t1, t2) = (ratio(Phase::T1), ratio(Phase::T2));
        assert!(t1 > 1.5 * t2, "{t1} {t2}");
    }
}

#[test]
fn vendors_store_and_scale_differently() {
    let config = PhantomConfig {
        vendors: Vendor::ALL.to_vec(),
        ..coarse().with_phases([Phase::Ged4])
    };
    let mut levels = Vec::new();
    for (index, vendor) in Vendor::ALL.into_iter().enumerate() {
        let patient = patient(&config, index).unwrap();
        assert_eq!(patient.vendor, vendor);
        let scan = &patient.scans[0];
        assert_eq!(scan.image.orientation().to_string(), vendor.orientation());
        levels.push(mean(scan, Organ::Liver));
    }
    levels.sort_by(f64::total_cmp);
    assert!(
        levels.windows(2).all(|pair| pair[1] > 1.3 * pair[0]),
        "{levels:?}"
    );
}

#[test]
fn phases_go_missing_but_never_ged4() {
    let config = PhantomConfig {
        missing_phase_probability: 1.0,
        ..coarse()
    };
    let patient = patient(&config, 0).unwrap();
    let phases: Vec<_> = patient.scans.iter().map(|s| s.phase).collect();
    assert_eq!(phases, [Phase::Ged4]);
}
