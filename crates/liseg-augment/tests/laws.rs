//! Laws that every transform and every preset must obey.

use liseg_augment::{
    AugmentConfig, ExtraMap, Interval, MapKind, OUTSIDE, OnChannel, Params, PatchInfo, Pipeline,
    Preset, Sample,
    spatial::{ElasticField, ElasticParams, Generation, SpatialParams},
};
use liseg_volume::Seed;
use ndarray::{Array3, Array4, Axis, s};
use proptest::prelude::*;
use rand::RngExt;

/// A wave with noise, scaled; labels 0, 1 and, on two faces, −1.
fn sample(shape: [usize; 3], scale: f32, seed: u64) -> Sample {
    let [z, y, x] = shape;
    let mut rng = Seed(seed).stream("sample", 0, 0);
    let image = Array4::from_shape_fn((1, z, y, x), |(_, z, y, x)| {
        let wave = (z as f32 * 0.4).sin() + (y as f32 * 0.3).cos() * (x as f32 * 0.2).sin();
        scale * (wave + 0.3 * rng.random::<f32>())
    });
    let label = Array3::from_shape_fn((z, y, x), |(z, y, x)| match (z, y, x) {
        (_, 0, _) | (_, _, 0) => OUTSIDE,
        _ => i8::from((z + y + x) % 5 < 2),
    });
    Sample::new(image, label)
}

/// Every transform by itself, certain to happen.
fn catalogue() -> Vec<(&'static str, Pipeline)> {
    let mut config = AugmentConfig::default();
    config.histogram.references = vec![[-2.0, -1.5, -1.0, -0.5, 0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0]];
    let mut all = config.catalogue().unwrap();
    assert_eq!(all.len(), 22);
    for preset in [Preset::NnunetV1, Preset::MidssFull] {
        all.extend(AugmentConfig::preset(preset).catalogue().unwrap());
    }
    all
}

fn moves(name: &str) -> bool {
    ["rotation", "scaling", "elastic", "mirror"].contains(&name)
}

fn run(pipeline: &Pipeline, shape: [usize; 3], sample: Sample, seed: u64) -> Sample {
    let mut rng = Seed(seed).stream("augment", 0, 0);
    pipeline.run(sample, shape, &mut rng).unwrap()
}

fn bits(sample: &Sample) -> Vec<u32> {
    sample.image.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(3)))]

    #[test]
    fn labels_never_gain_values(
        shape in [1usize..8, 2usize..14, 2usize..14], seed in any::<u64>(),
    ) {
        for (name, pipeline) in catalogue() {
            let patch = sample(pipeline.initial_shape(shape), 1.0, seed);
            let result = run(&pipeline, shape, patch, seed);
            let known = |label: &i8| (OUTSIDE..=1).contains(label);
            prop_assert!(result.label.iter().all(known), "{}", name);
        }
    }

    #[test]
    fn intensity_transforms_leave_grid_label_and_maps_untouched(
        shape in [1usize..8, 2usize..14, 2usize..14], seed in any::<u64>(),
    ) {
        for (name, pipeline) in catalogue().into_iter().filter(|(name, _)| !moves(name)) {
            prop_assert_eq!(pipeline.initial_shape(shape), shape);
            let mut patch = sample(shape, 1.0, seed);
            let values = patch.label.mapv(f32::from);
            patch.maps.push(ExtraMap { values, kind: MapKind::Regions });
            let result = run(&pipeline, shape, patch.clone(), seed);
            prop_assert_eq!(&result.label, &patch.label, "{}", name);
            prop_assert_eq!(&result.maps, &patch.maps, "{}", name);
        }
    }

    #[test]
    fn image_label_and_maps_move_together(
        shape in [2usize..8, 3usize..14, 3usize..14], seed in any::<u64>(),
    ) {
        for (name, pipeline) in catalogue().into_iter().filter(|(name, _)| moves(name)) {
            let mut patch = sample(pipeline.initial_shape(shape), 1.0, seed);
            // The image is the label, and so are two maps.
            let values = patch.label.mapv(|label| f32::from(label.max(0)));
            patch.image = values.clone().insert_axis(Axis(0));
            let quantity = ExtraMap { values: values.clone(), kind: MapKind::Quantity };
            patch.maps = vec![quantity, ExtraMap { values, kind: MapKind::Regions }];
            let result = run(&pipeline, shape, patch, seed);
            for ((z, y, x), &label) in result.label.indexed_iter() {
                let share = result.maps[0].values[[z, y, x]];
                // A majority wins; the winner among 0, 1 and the outside has at least a third.
                if share > 0.51 {
                    prop_assert_eq!(label, 1, "{} at {} {} {}", name, z, y, x);
                }
                if label == 1 {
                    prop_assert!(share > 0.32, "{name} at {z} {y} {x}: {share}");
                }
                let region = result.maps[1].values[[z, y, x]];
                prop_assert!([-1.0, 0.0, 1.0].contains(&region), "{}: {}", name, region);
            }
            // The linear image is the linear map; splines of v1 are not.
            let image = result.image.index_axis(Axis(0), 0);
            let agrees = image.iter().zip(&result.maps[0].values).all(|(a, b)| (a - b).abs() < 1e-5);
            let linear = image.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v));
            prop_assert!(agrees || !linear || name != "mirror", "{}", name);
        }
    }

    #[test]
    fn results_are_finite_for_constant_huge_tiny_and_thin_inputs(
        shape in prop_oneof![
            Just([1usize, 9, 9]), Just([9, 1, 9]), Just([9, 9, 1]), Just([1, 1, 1]),
            Just([2, 2, 2]), Just([6, 9, 9]),
        ],
        seed in any::<u64>(),
    ) {
        for (name, pipeline) in catalogue() {
            for scale in [0.0, 1.0, 1e30, 1e-30] {
                let patch = sample(pipeline.initial_shape(shape), scale, seed);
                let result = run(&pipeline, shape, patch, seed);
                let finite = result.image.iter().all(|value| value.is_finite());
                prop_assert!(finite, "{name} of {shape:?} scaled by {scale}");
                prop_assert_eq!(result.shape(), shape);
            }
            let mut patch = sample(pipeline.initial_shape(shape), 1.0, seed);
            patch.image.fill(7.0);
            let result = run(&pipeline, shape, patch, seed);
            let finite = result.image.iter().all(|value| value.is_finite());
            prop_assert!(finite, "{name} of a constant {shape:?}");
        }
    }

    #[test]
    fn every_transform_is_replayed_from_its_logged_parameters(seed in any::<u64>()) {
        let shape = [5, 12, 12];
        for (name, pipeline) in catalogue() {
            let patch = sample(pipeline.initial_shape(shape), 1.0, seed);
            let info = PatchInfo { final_shape: shape, channels: 1 };
            let params = pipeline.draw(&info, &mut Seed(seed).stream("augment", 0, 0));
            let first = Pipeline::apply(&params, patch.clone()).unwrap();
            let text = serde_json::to_string(&params).unwrap();
            let logged: Vec<Params> = serde_json::from_str(&text).unwrap();
            let second = Pipeline::apply(&logged, patch).unwrap();
            prop_assert_eq!(bits(&first), bits(&second), "{}", name);
        }
    }
}

/// An in-plane turn of a slice stack.
fn turn(angle: f64, shape: [usize; 3]) -> Params {
    Params::Spatial(SpatialParams {
        angles_rad: [angle, 0.0, 0.0],
        ..SpatialParams::crop(shape)
    })
}

#[test]
fn a_quarter_turn_four_times_is_the_identity() {
    for side in [8, 9] {
        let shape = [3, side, side];
        let patch = sample(shape, 1.0, 1);
        let quarter = turn(std::f64::consts::FRAC_PI_2, shape);
        let once = quarter.apply(patch.clone()).unwrap();
        assert_ne!(once, patch);
        let mut turned = once;
        for _ in 0..3 {
            turned = quarter.apply(turned).unwrap();
        }
        assert_eq!(turned.label, patch.label);
        for (found, expected) in turned.image.iter().zip(&patch.image) {
            assert!((found - expected).abs() < 1e-5, "{found} not {expected}");
        }
    }
}

#[test]
fn the_kth_part_of_a_turn_k_times_is_the_identity_up_to_interpolation() {
    let shape = [1, 41, 41];
    let smooth = |y: f32, x: f32| (y * 0.12).sin() + (x * 0.1).cos();
    let image = Array4::from_shape_fn((1, 1, 41, 41), |(_, _, y, x)| smooth(y as f32, x as f32));
    let patch = Sample::unlabelled(image);
    for generation in [Generation::V1, Generation::V2] {
        for k in [3, 5, 8] {
            let mut turned = patch.clone();
            for _ in 0..k {
                let params = SpatialParams {
                    angles_rad: [std::f64::consts::TAU / f64::from(k), 0.0, 0.0],
                    generation,
                    ..SpatialParams::crop(shape)
                };
                turned = Params::Spatial(params).apply(turned).unwrap();
            }
            // The middle, which no turn takes outside.
            let middle = s![0, 0, 12..29, 12..29];
            let (found, expected) = (turned.image.slice(middle), patch.image.slice(middle));
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 0.02,
                    "k = {k}: {found} not {expected}"
                );
            }
        }
    }
}

#[test]
fn voxels_outside_stay_zero_where_they_are_masked() {
    let shape = [4, 12, 12];
    let config = AugmentConfig {
        mask_outside: true,
        noise_probability: 1.0,
        brightness_probability: 1.0,
        noise_sigma: Interval::new(0.1, 0.2),
        ..AugmentConfig::preset(Preset::LisegPlus)
    };
    for seed in 0..10 {
        let pipeline = config.build().unwrap();
        let patch = sample(pipeline.initial_shape(shape), 1.0, seed);
        let result = run(&pipeline, shape, patch, seed);
        let pairs = result.image.iter().zip(&result.label);
        let outside: Vec<f32> = pairs.filter(|(_, l)| **l < 0).map(|(v, _)| *v).collect();
        assert!(outside.iter().all(|value| *value == 0.0));
    }
}

#[test]
fn the_strong_view_keeps_the_voxels_of_the_weak_one_in_place() {
    let shape = [4, 16, 16];
    for preset in Preset::ALL {
        let views = AugmentConfig::preset(preset).views().unwrap();
        let patch = sample(views.weak.initial_shape(shape), 1.0, 3);
        let weak = run(&views.weak, shape, patch, 3);
        let mut rng = Seed(4).stream("strong", 0, 0);
        let strong = views.strong.run_on_view(weak.clone(), &mut rng).unwrap();
        assert_eq!(strong.label, weak.label, "{preset}");
        assert_eq!(strong.shape(), weak.shape(), "{preset}");
        assert!(views.strong.steps().all(|(name, _)| name != "mirror"));
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let shape = [4, 14, 14];
    let pipeline = AugmentConfig::preset(Preset::LisegPlus).build().unwrap();
    let make = |index: u64| {
        let patch = sample(pipeline.initial_shape(shape), 1.0, index);
        run(&pipeline, shape, patch, index)
    };
    let alone: Vec<Sample> = (0..24).map(make).collect();
    for threads in [2usize, 5] {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|worker| {
                    let make = &make;
                    let mine = (0..24).skip(worker).step_by(threads);
                    scope.spawn(move || mine.map(|k| (k, make(k))).collect::<Vec<_>>())
                })
                .collect();
            for worker in workers {
                for (index, sample) in worker.join().unwrap() {
                    assert_eq!(
                        bits(&sample),
                        bits(&alone[index as usize]),
                        "{threads} threads"
                    );
                    assert_eq!(sample.label, alone[index as usize].label);
                }
            }
        });
    }
}

#[test]
fn no_displacement_is_the_affine_map_and_displacements_stay_in_their_slices_when_flat() {
    let shape = [4, 12, 12];
    let patch = sample([6, 15, 15], 1.0, 5);
    let affine = SpatialParams {
        angles_rad: [0.2, 0.1, -0.3],
        scale: [1.1; 3],
        ..SpatialParams::crop(shape)
    };
    let expected = Params::Spatial(affine).apply(patch.clone()).unwrap();
    for field in [
        ElasticField::Lattice,
        ElasticField::Periodic,
        ElasticField::ZeroBorder,
    ] {
        let none = ElasticParams {
            field,
            sigma: [3.0; 3],
            magnitude: [0.0; 3],
            seed: 1,
        };
        let elastic = Some(none);
        let params = SpatialParams { elastic, ..affine };
        let found = Params::Spatial(params).apply(patch.clone()).unwrap();
        assert_eq!(found.label, expected.label);
        for (found, expected) in found.image.iter().zip(&expected.image) {
            assert!((found - expected).abs() < 1e-5);
        }
    }
    // A stack whose slices are constant does not change when nothing leaves its slice.
    let mut stack = sample([3, 20, 20], 1.0, 5);
    for (z, mut slice) in stack
        .image
        .index_axis_mut(Axis(0), 0)
        .outer_iter_mut()
        .enumerate()
    {
        slice.fill(z as f32);
    }
    let elastic = Some(ElasticParams {
        field: ElasticField::Lattice,
        sigma: [3.0; 3],
        magnitude: [0.0, 1.5, 1.5],
        seed: 2,
    });
    let params = SpatialParams {
        elastic,
        ..SpatialParams::crop([3, 10, 10])
    };
    let found = Params::Spatial(params).apply(stack).unwrap();
    for ((_, z, _, _), value) in found.image.indexed_iter() {
        assert!((value - z as f32).abs() < 1e-5, "{value} in slice {z}");
    }
}

#[test]
fn simulated_non_contrast_changes_the_organ_alone() {
    let patch = sample([5, 12, 12], 1.0, 8);
    let params = Params::NonContrast {
        shift: -1.0,
        vessels: 0.2,
    };
    let result = params.apply(patch.clone()).unwrap();
    let voxels = result.image.iter().zip(&patch.image).zip(&patch.label);
    let mut changed = 0;
    for ((found, before), label) in voxels {
        if *label > 0 {
            changed += usize::from((found - before).abs() > 0.05);
        } else {
            assert_eq!(found.to_bits(), before.to_bits());
        }
    }
    assert!(changed > 100, "{changed} voxels changed");
}

#[test]
fn a_file_with_a_preset_has_its_numbers_but_for_those_it_gives() {
    for preset in Preset::ALL {
        let config = AugmentConfig::preset(preset);
        let text = format!("preset = \"{preset}\"");
        assert_eq!(
            toml::from_str::<AugmentConfig>(&text).unwrap(),
            config,
            "{preset}"
        );
        let text = toml::to_string(&config).unwrap();
        assert_eq!(
            toml::from_str::<AugmentConfig>(&text).unwrap(),
            config,
            "{preset}"
        );
        assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
        config.build().unwrap();
    }
    let text = "preset = \"midss-full\"\nblur_sigma = [0.5, 1]\n[elastic]\nprobability = 0.1";
    let config: AugmentConfig = toml::from_str(text).unwrap();
    let mut expected = AugmentConfig::preset(Preset::MidssFull);
    expected.blur_sigma = Interval::new(0.5, 1.0);
    expected.elastic.probability = 0.1;
    assert_eq!(config, expected);
    for text in [
        "preset = \"midss\"",
        "[elastic]\nstrength = 1",
        "reversal = 1",
    ] {
        assert!(toml::from_str::<AugmentConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn drawn_parameters_stay_within_the_presets_ranges() {
    let views = AugmentConfig::preset(Preset::MidssFull).views().unwrap();
    let info = PatchInfo {
        final_shape: [32, 64, 64],
        channels: 1,
    };
    let (mut elastic, mut zoomed) = (0, 0);
    for index in 0..400 {
        let mut rng = Seed(7).stream("midss", 0, index);
        for params in views.weak.draw(&info, &mut rng) {
            if let Params::Spatial(p) = params {
                assert!(p.angles_rad[0].to_degrees().abs() <= 20.0);
                assert!(p.angles_rad[1..].iter().all(|a| *a == 0.0));
                assert!(p.scale.iter().all(|s| (1.0 / 1.5..=1.0).contains(s)));
                for (axis, shift) in p.shift.iter().enumerate() {
                    let unseen = (1.0 - p.scale[axis]) * info.final_shape[axis] as f64;
                    assert!(shift.abs() <= unseen / 2.0 + 1e-9);
                }
                elastic += usize::from(p.elastic.is_some());
                zoomed += usize::from(p.scale[0] < 1.0);
            }
        }
        for params in views.strong.draw(&info, &mut rng) {
            match params {
                Params::GaussianBlur { sigmas, .. } => {
                    let [OnChannel { value, .. }] = sigmas[..] else {
                        panic!("one channel, one blur")
                    };
                    assert!(value[0] == 0.0 && (0.1..=2.0).contains(&value[1]));
                }
                Params::Brightness { factors, .. } | Params::Contrast { factors, .. } => {
                    assert!((0.1..=2.0).contains(&factors[0].value));
                }
                _ => {}
            }
        }
    }
    // Half of 400; five standard deviations are 50.
    assert!((150..=250).contains(&elastic) && (150..=250).contains(&zoomed));
}
