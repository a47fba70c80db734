//! What must hold for every sample and every draw.

use liseg_augment::{
    AugmentConfig, Axis, Interval, OUTSIDE, OnChannel, Params, PatchInfo, Pipeline, Preset, Sample,
    intensity::BlurRule,
    spatial::{ReadBack, SpatialParams},
};
use liseg_volume::Seed;
use ndarray::{Array3, Array4};
use proptest::prelude::*;
use rand::RngExt;

/// A sample of blobs and noise with labels −1..=2, made from a seed.
fn sample(channels: usize, shape: [usize; 3], seed: u64) -> Sample {
    let [z, y, x] = shape;
    let mut rng = Seed(seed).stream("sample", 0, 0);
    let image = Array4::from_shape_fn((channels, z, y, x), |(c, z, y, x)| {
        let wave =
            (z as f32 * 0.3 + c as f32).sin() + (y as f32 * 0.2).cos() * (x as f32 * 0.25).sin();
        wave + rng.random::<f32>()
    });
    let label = Array3::from_shape_fn((z, y, x), |(z, y, x)| match (z + y * x) % 7 {
        0 if z == 0 || x == 0 => OUTSIDE,
        1 | 2 => 1,
        3 => 2,
        _ => 0,
    });
    Sample::new(image, label)
}

/// The default ranges with everything likely.
#[expect(clippy::unwrap_used, reason = "a test may stop here")]
fn eager(preset: Preset) -> Pipeline {
    let config = AugmentConfig {
        rotation_probability: 0.7,
        scaling_probability: 0.7,
        noise_probability: 0.7,
        blur_probability: 0.7,
        brightness_probability: 0.7,
        contrast_probability: 0.7,
        low_resolution_probability: 0.7,
        gamma_inverted_probability: 0.7,
        gamma_probability: 0.7,
        ..AugmentConfig::preset(preset)
    };
    config.build().unwrap()
}

/// Shapes on both sides of the limit between full and in-slice rotation.
fn shapes() -> impl Strategy<Value = [usize; 3]> {
    [1usize..10, 1usize..16, 1usize..16]
}

fn on_first<T>(value: T) -> Vec<OnChannel<T>> {
    vec![OnChannel { channel: 0, value }]
}

/// The label values that occur.
fn labels(sample: &Sample) -> Vec<i8> {
    let mut labels: Vec<i8> = sample.label.iter().copied().collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn bits(sample: &Sample) -> Vec<u32> {
    sample.image.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn a_patch_is_replayed_from_its_logged_parameters(
        shape in shapes(), channels in 1usize..3, seed in any::<u64>(),
    ) {
        let pipeline = eager(Preset::Nnunet);
        let patch = sample(channels, pipeline.initial_shape(shape), seed);
        let info = PatchInfo { final_shape: shape, channels };
        let stream = || Seed(seed).stream("augment", 0, 0);
        let params = pipeline.draw(&info, &mut stream());
        let first = Pipeline::apply(&params, patch.clone()).unwrap();

        let text = serde_json::to_string(&params).unwrap();
        let logged: Vec<Params> = serde_json::from_str(&text).unwrap();
        let second = Pipeline::apply(&logged, patch.clone()).unwrap();
        prop_assert_eq!(bits(&first), bits(&second));
        prop_assert_eq!(&first.label, &second.label);

        // The same stream gives the same patch, drawn and applied at once.
        let third = pipeline.run(patch, shape, &mut stream()).unwrap();
        prop_assert_eq!(bits(&first), bits(&third));
    }

    #[test]
    fn results_have_the_final_shape_are_finite_and_invent_no_label(
        shape in shapes(), seed in any::<u64>(),
    ) {
        let pipeline = eager(Preset::Nnunet);
        let patch = sample(2, pipeline.initial_shape(shape), seed);
        let mut known = labels(&patch);
        known.push(OUTSIDE);
        let result = pipeline.run(patch, shape, &mut Seed(seed).stream("augment", 0, 0)).unwrap();
        prop_assert_eq!(result.shape(), shape);
        prop_assert!(result.image.iter().all(|value| value.is_finite()));
        prop_assert!(labels(&result).iter().all(|label| known.contains(label)));
    }

    #[test]
    fn intensity_transforms_keep_the_label(shape in shapes(), seed in any::<u64>()) {
        let patch = sample(2, shape, seed);
        let label = patch.label.clone();
        let mut rng = Seed(seed).stream("augment", 0, 0);
        let result = eager(Preset::Intensity).run(patch, shape, &mut rng).unwrap();
        prop_assert_eq!(result.label, label);
    }

    #[test]
    fn mirroring_twice_is_the_identity(shape in shapes(), axes: [bool; 3], seed in any::<u64>()) {
        let patch = sample(2, shape, seed);
        let mirror = Params::Mirror { axes };
        let once = mirror.apply(patch.clone()).unwrap();
        prop_assert_eq!(mirror.apply(once).unwrap(), patch);
    }

    #[test]
    fn mirroring_agrees_with_reversed_axes(shape in shapes(), axes: [bool; 3], seed in any::<u64>()) {
        let patch = sample(2, shape, seed);
        let mut expected = patch.clone();
        for axis in (0..3).filter(|&axis| axes[axis]) {
            expected.image.invert_axis(ndarray::Axis(axis + 1));
            expected.label.invert_axis(ndarray::Axis(axis));
        }
        prop_assert_eq!(Params::Mirror { axes }.apply(patch).unwrap(), expected);
    }

    #[test]
    fn neutral_parameters_are_the_identity(shape in shapes(), seed in any::<u64>()) {
        let patch = sample(1, shape, seed);
        let one = || vec![OnChannel { channel: 0, value: 1.0 }];
        let each = |value| vec![OnChannel { channel: 0, value: [value; 3] }];
        let neutral = [
            Params::Spatial(SpatialParams::crop(shape)),
            Params::GaussianNoise { sigma: 0.0, seed },
            Params::GaussianBlur { sigmas: each(0.0), rule: BlurRule::SixSigma },
            Params::GaussianBlur { sigmas: each(0.0), rule: BlurRule::Scipy },
            Params::Brightness { factors: one(), from_minimum: false },
            Params::Brightness { factors: one(), from_minimum: true },
            Params::Contrast { factors: one(), keep_range: true },
            Params::LowResolution { factors: each(1.0), read_back: ReadBack::Linear },
            Params::LowResolution { factors: each(1.0), read_back: ReadBack::Cubic },
            Params::Gamma { exponents: one(), inverted: false, keep_statistics: true },
            Params::Gamma { exponents: one(), inverted: true, keep_statistics: true },
            Params::Mirror { axes: [false; 3] },
            Params::BiasField { fields: on_first(vec![0.0; 20]) },
            Params::Ghosting { axis: 1, ghosts: 4, strengths: on_first(0.0) },
            Params::Motion { axis: 2, shifts: vec![0.0, 0.0] },
            Params::Curve { points: on_first(vec![0.0, 0.5, 1.0]) },
            Params::NonContrast { shift: 0.0, vessels: 1.0 },
            Params::Mixing { seed, layers: 4, hidden: 2, share: 0.0 },
            Params::Histogram { targets: on_first(vec![0.3; 11]), share: 0.0 },
        ];
        for params in neutral {
            prop_assert_eq!(&params.apply(patch.clone()).unwrap(), &patch, "{:?}", params);
        }
    }

    /// The fast path inside a row and the careful one at its ends, against the plain formula.
    #[test]
    fn resampling_agrees_with_the_formula(
        shape in [2usize..9, 2usize..9, 2usize..9], out in [1usize..9, 1usize..9, 1usize..9],
        angles_rad in [-2.0f64..2.0, -2.0f64..2.0, -2.0f64..2.0],
        scale in [0.5f64..2.0, 0.5f64..2.0, 0.5f64..2.0],
        in_slice: bool, seed in any::<u64>(),
    ) {
        let patch = sample(1, shape, seed);
        let mut params = SpatialParams { angles_rad, scale, ..SpatialParams::crop(out) };
        if in_slice {
            params.final_shape[0] = shape[0];
            params.angles_rad = [angles_rad[0], 0.0, 0.0];
            params.scale[0] = 1.0;
        }
        let found = Params::Spatial(params).apply(patch.clone()).unwrap();
        for ((z, y, x), _) in found.label.indexed_iter() {
            let centred = [z, y, x].iter().zip(params.final_shape)
                .map(|(&k, length)| k as f64 - (length as f64 - 1.0) / 2.0).collect::<Vec<_>>();
            let turned = turn(&params, [centred[0], centred[1], centred[2]]);
            let at = [0, 1, 2].map(|axis| turned[axis] + (shape[axis] as f64 - 1.0) / 2.0);
            let expected = linear(&patch.image, at);
            let found = f64::from(found.image[[0, z, y, x]]);
            prop_assert!((found - expected).abs() < 1e-5, "{found} not {expected} at {z} {y} {x}");
        }
    }
}

/// Rz Ry Rx diag(scale), one rotation after another.
fn turn(params: &SpatialParams, point: [f64; 3]) -> [f64; 3] {
    let [z, y, x] = [0, 1, 2].map(|axis| point[axis] * params.scale[axis]);
    let [a, b, c] = params.angles_rad;
    let [z, y, x] = [z, y * a.cos() - x * a.sin(), y * a.sin() + x * a.cos()];
    let [z, y, x] = [z * b.cos() + x * b.sin(), y, x * b.cos() - z * b.sin()];
    [z * c.cos() - y * c.sin(), z * c.sin() + y * c.cos(), x]
}

/// Trilinear interpolation with zeros outside.
fn linear(image: &Array4<f32>, at: [f64; 3]) -> f64 {
    let mut sum = 0.0;
    for corner in 0..8 {
        let mut weight = 1.0;
        let mut index = [0i64; 3];
        for axis in 0..3 {
            let upper = corner >> axis & 1;
            let share = at[axis] - at[axis].floor();
            weight *= if upper == 1 { share } else { 1.0 - share };
            index[axis] = at[axis].floor() as i64 + upper;
        }
        let [z, y, x] = index.map(|k| usize::try_from(k).unwrap_or(usize::MAX));
        sum += weight * f64::from(image.get([0, z, y, x]).copied().unwrap_or(0.0));
    }
    sum
}

#[test]
fn every_transform_takes_part_in_its_preset() {
    let names = |preset| {
        let pipeline = AugmentConfig::preset(preset).build().unwrap();
        pipeline.steps().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let intensity = [
        "gaussian_noise",
        "gaussian_blur",
        "brightness",
        "contrast",
        "low_resolution",
        "gamma_inverted",
        "gamma",
    ];
    assert_eq!(names(Preset::None), ["spatial"]);
    assert_eq!(names(Preset::Spatial), ["spatial", "mirror"]);
    assert_eq!(
        names(Preset::Intensity),
        [&["spatial"][..], &intensity].concat()
    );
    assert_eq!(
        names(Preset::Nnunet),
        [&["spatial"][..], &intensity, &["mirror"]].concat()
    );
}

#[test]
fn patches_are_loaded_larger_only_where_they_are_turned_or_scaled() {
    let shape = [64, 96, 96];
    for preset in [Preset::None, Preset::Intensity] {
        assert_eq!(
            AugmentConfig::preset(preset)
                .build()
                .unwrap()
                .initial_shape(shape),
            shape
        );
    }
    let scaled = AugmentConfig {
        rotation_probability: 0.0,
        ..AugmentConfig::default()
    };
    assert_eq!(scaled.build().unwrap().initial_shape(shape), [75, 112, 112]);
    // Ten per cent of shrinking need ten per cent of room.
    let little = AugmentConfig {
        scaling: Interval::new(0.9, 1.1),
        ..scaled
    };
    assert_eq!(little.build().unwrap().initial_shape(shape), [70, 105, 105]);
}

#[test]
fn draws_happen_as_often_as_configured() {
    let pipeline = AugmentConfig::default().build().unwrap();
    let info = PatchInfo {
        final_shape: [32, 32, 32],
        channels: 1,
    };
    let rounds = 4000;
    let mut counts = std::collections::BTreeMap::new();
    let mut turned = 0;
    for round in 0..rounds {
        for params in pipeline.draw(&info, &mut Seed(3).stream("augment", 0, round)) {
            if let Params::Spatial(spatial) = &params {
                turned += usize::from(spatial.angles_rad[0] != 0.0);
            }
            let inverted = matches!(params, Params::Gamma { inverted: true, .. });
            *counts.entry((params.name(), inverted)).or_insert(0usize) += 1;
        }
    }
    counts.insert(("rotation", false), turned);
    let expected = [
        ("rotation", false, 0.2),
        ("gaussian_noise", false, 0.1),
        ("gaussian_blur", false, 0.2),
        ("brightness", false, 0.15),
        ("contrast", false, 0.15),
        ("low_resolution", false, 0.25),
        ("gamma", true, 0.1),
        ("gamma", false, 0.3),
    ];
    for (name, inverted, probability) in expected {
        let share = counts[&(name, inverted)] as f64 / rounds as f64;
        // Five standard deviations.
        let bound = 5.0 * (probability * (1.0f64 - probability) / rounds as f64).sqrt();
        assert!(
            (share - probability).abs() < bound,
            "{name}: {share}, not {probability}"
        );
    }
}

#[test]
fn the_configuration_survives_toml_and_json() {
    let config = AugmentConfig {
        preset: Preset::Spatial,
        rotation_degrees: Interval::new(-15.0, 12.3),
        mirror_axes: vec![Axis::X],
        ..AugmentConfig::default()
    };
    let text = toml::to_string(&config).unwrap();
    assert!(text.contains("rotation_degrees = [-15.0, 12.3]"), "{text}");
    assert_eq!(toml::from_str::<AugmentConfig>(&text).unwrap(), config);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(
        serde_json::from_str::<AugmentConfig>(&text).unwrap(),
        config
    );

    let short = "preset = \"none\"\nscaling = [1, 2]\nmirror_axes = [\"y\", \"x\"]";
    let config: AugmentConfig = toml::from_str(short).unwrap();
    assert_eq!(config.preset, Preset::None);
    assert_eq!(config.scaling, Interval::new(1.0, 2.0));
    assert_eq!(config.mirror_axes, [Axis::Y, Axis::X]);
    assert_eq!(config.gamma, AugmentConfig::default().gamma);
    let unknown = toml::from_str::<AugmentConfig>("rotations = 3")
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("rotations"), "{unknown}");
}

#[test]
fn settings_out_of_range_are_named() {
    let ok = AugmentConfig::default();
    let wrong = [
        (
            "gamma_probability",
            AugmentConfig {
                gamma_probability: 1.1,
                ..ok.clone()
            },
        ),
        (
            "noise_probability",
            AugmentConfig {
                noise_probability: f64::NAN,
                ..ok.clone()
            },
        ),
        (
            "scaling",
            AugmentConfig {
                scaling: Interval::new(0.0, 1.0),
                ..ok.clone()
            },
        ),
        (
            "gamma",
            AugmentConfig {
                gamma: Interval::new(1.5, 0.7),
                ..ok.clone()
            },
        ),
        (
            "low_resolution",
            AugmentConfig {
                low_resolution: Interval::new(0.5, 1.5),
                ..ok.clone()
            },
        ),
        (
            "blur_sigma",
            AugmentConfig {
                blur_sigma: Interval::new(f64::NAN, 1.0),
                ..ok.clone()
            },
        ),
        (
            "in_plane_ratio",
            AugmentConfig {
                in_plane_ratio: 0.0,
                ..ok
            },
        ),
    ];
    for (field, config) in wrong {
        let message = config.build().unwrap_err().to_string();
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
}

#[test]
fn malformed_spatial_parameters_are_refused() {
    let patch = sample(1, [4, 5, 6], 0);
    let ok = SpatialParams::crop([4, 4, 4]);
    let wrong = [
        (
            "final_shape",
            SpatialParams {
                final_shape: [0, 4, 4],
                ..ok
            },
        ),
        (
            "final_shape",
            SpatialParams {
                final_shape: [30_000; 3],
                ..ok
            },
        ),
        (
            "angles_rad",
            SpatialParams {
                angles_rad: [f64::INFINITY, 0.0, 0.0],
                ..ok
            },
        ),
        (
            "scale",
            SpatialParams {
                scale: [1.0, 1.0, 0.0],
                ..ok
            },
        ),
    ];
    for (field, params) in wrong {
        let message = Params::Spatial(params)
            .apply(patch.clone())
            .unwrap_err()
            .to_string();
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn pipelines_cross_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Pipeline>();
}
