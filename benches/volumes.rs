//! Resampling, distances, components and augmentation at the size of clinical volumes.

use benches::{image, organ};
use criterion::{BatchSize, Bencher, Criterion, Throughput, criterion_group, criterion_main};
use liseg_augment::{AugmentConfig, Pipeline, Preset, Sample};
use liseg_morphology::{Connectivity, connected_components, squared_distance_to};
use liseg_mri::resample::{Resampling, resample_array};
use liseg_volume::{Seed, Spacing};
use ndarray::Axis;
use std::hint::black_box;

/// The median LiQA volume, (z, y, x).
const VOLUME: [usize; 3] = [64, 320, 384];

fn spacing(z: f64, y: f64, x: f64) -> Spacing {
    Spacing::new(z, y, x).unwrap_or(Spacing::ISOTROPIC_1MM)
}

fn resampling(c: &mut Criterion) {
    let volume = image(VOLUME);
    let (from, to) = (spacing(2.5, 1.0, 1.0), spacing(2.5, 1.3, 1.3));
    let new = [64, 246, 295];
    let mut group = c.benchmark_group("resample");
    group.throughput(Throughput::Elements(new.iter().product::<usize>() as u64));
    group.sample_size(10);
    for (name, how) in [("cubic", Resampling::IMAGE), ("linear", Resampling::LOGITS)] {
        group.bench_function(format!("{name}/64x320x384"), |b| {
            b.iter(|| black_box(resample_array(volume.view(), new, from, to, how)));
        });
    }
    group.finish();
}

fn morphology(c: &mut Criterion) {
    let mask = organ(VOLUME);
    let mut group = c.benchmark_group("morphology");
    group.throughput(Throughput::Elements(mask.len() as u64));
    group.sample_size(10);
    group.bench_function("distance/64x320x384", |b| {
        b.iter(|| black_box(squared_distance_to(mask.view(), spacing(2.5, 1.0, 1.0))));
    });
    group.bench_function("components26/64x320x384", |b| {
        b.iter(|| black_box(connected_components(mask.view(), Connectivity::Vertex).count()));
    });
    group.finish();
}

/// Whole lists and, at one size, every transform by itself.
fn augmentation(c: &mut Criterion) {
    let mut group = c.benchmark_group("augment");
    group.sample_size(20);
    for (name, shape) in [
        ("32x96x96", [32, 96, 96]),
        ("64x160x160", [64, 160, 160]),
        ("128x128x128", [128, 128, 128]),
    ] {
        for preset in [Preset::Nnunet, Preset::MidssFull, Preset::LisegPlus] {
            if let Ok(pipeline) = AugmentConfig::preset(preset).build() {
                group.bench_function(format!("{preset}/{name}"), |b| run(b, &pipeline, shape));
            }
        }
    }
    let single = AugmentConfig::default().catalogue().unwrap_or_default();
    for (name, pipeline) in single {
        let shape = [64, 160, 160];
        group.bench_function(format!("{name}/64x160x160"), |b| run(b, &pipeline, shape));
    }
    group.finish();
}

/// Samples of one random stream after another.
fn run(bencher: &mut Bencher<'_>, pipeline: &Pipeline, final_shape: [usize; 3]) {
    let shape = pipeline.initial_shape(final_shape);
    let label = organ(shape).mapv(i8::from);
    let patch = Sample::new(image(shape).insert_axis(Axis(0)), label);
    let mut sample = 0;
    let next = || patch.clone();
    bencher.iter_batched(
        next,
        |patch| {
            sample += 1;
            let mut rng = Seed(1).stream("bench", 0, sample);
            black_box(pipeline.run(patch, final_shape, &mut rng))
        },
        BatchSize::PerIteration,
    );
}

criterion_group!(benches, resampling, morphology, augmentation);
criterion_main!(benches);
