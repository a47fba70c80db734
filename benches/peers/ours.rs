//! LiSeg's side of the comparison with other tools: runs one task on files and prints the best of
//! several times in seconds.
//!
//! Started by `run.py` beside this file; `RAYON_NUM_THREADS` says how many threads there are.
#![expect(clippy::print_stdout, reason = "the result is what it prints")]

mod stored;

use liseg_augment::intensity::BlurRule;
use liseg_augment::spatial::{ElasticField, ElasticParams, SpatialParams};
use liseg_augment::{AugmentConfig, OnChannel, Params, Sample};
use liseg_metrics::{MeanRule, PercentileRule, SurfaceDistances, SurfaceRule};
use liseg_morphology::{Connectivity, connected_components, squared_distance_to};
use liseg_mri::nifti::{read_image, read_labels};
use liseg_mri::resample::{Resampling, resample_array};
use liseg_volume::{Seed, Spacing};
use ndarray::{Array3, Axis};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, repeat, files @ ..] = &arguments[..] else {
        return Err("expected TASK REPEAT FILE…".into());
    };
    let seconds = run(task, repeat.parse()?, files)?;
    println!("{seconds}");
    Ok(())
}

fn run(task: &str, repeat: usize, files: &[String]) -> Result<f64, Failure> {
    if let Some(seconds) = stored::run(task, repeat, files) {
        return seconds;
    }
    let file = |i: usize| files.get(i).map(Path::new).ok_or("a file is missing");
    match task {
        "read" => best(repeat, || Ok(read_image(file(0)?)?)),
        "hd95" | "distances" => {
            let (p, r) = (read_labels(file(0)?)?, read_labels(file(1)?)?);
            let (p, r) = (p.volume.map(|&v| v > 0), r.volume.map(|&v| v > 0));
            best(repeat, || surface(task, p.data(), r.data(), r.spacing()))
        }
        "edt" | "components" => {
            let mask = read_labels(file(0)?)?.volume;
            let spacing = mask.spacing();
            let mask = mask.data().map(|&v| v > 0);
            if task == "edt" {
                return best(repeat, || Ok(squared_distance_to(mask.view(), spacing)));
            }
            best(repeat, || {
                Ok(connected_components(mask.view(), Connectivity::Vertex).labels())
            })
        }
        "resample-isotropic" | "resample-anisotropic" => {
            let image = read_image(file(0)?)?.volume;
            let (from, to) = if task == "resample-isotropic" {
                (Spacing::new(2.0, 1.0, 1.0)?, Spacing::new(1.5, 1.25, 1.25)?)
            } else {
                (Spacing::new(5.0, 1.0, 1.0)?, Spacing::new(4.0, 1.25, 1.25)?)
            };
            let new = scaled(image.shape(), from, to);
            best(repeat, || {
                Ok(resample_array(
                    image.data(),
                    new,
                    from,
                    to,
                    Resampling::IMAGE,
                ))
            })
        }
        "nnunet" => {
            let sides = files.get(1).ok_or("the patch is missing")?;
            let sides: Vec<usize> = sides.split(',').map(str::parse).collect::<Result<_, _>>()?;
            let final_shape = sides
                .try_into()
                .map_err(|_| "the patch has no three sides")?;
            let image = read_image(file(0)?)?.volume.data().to_owned();
            whole_list(repeat, &image, final_shape)
        }
        _ => transform(
            task,
            repeat,
            &read_image(file(0)?)?.volume.data().to_owned(),
        ),
    }
}

fn scaled(shape: [usize; 3], from: Spacing, to: Spacing) -> [usize; 3] {
    let (from, to) = (from.zyx(), to.zyx());
    std::array::from_fn(|a| (shape[a] as f64 * from[a] / to[a]).round() as usize)
}

fn surface(
    task: &str,
    prediction: ndarray::ArrayView3<'_, bool>,
    reference: ndarray::ArrayView3<'_, bool>,
    spacing: Spacing,
) -> Result<[f64; 3], Failure> {
    let rule = SurfaceRule::default();
    let found = SurfaceDistances::between(prediction, reference, spacing, rule)?;
    let hd95 = found.hausdorff_percentile(95.0, PercentileRule::MaxOfDirected)?;
    Ok(if task == "hd95" {
        [hd95; 3]
    } else {
        [found.hausdorff(), hd95, found.average(MeanRule::Pooled)]
    })
}

/// Seconds of one transform of fixed strength on a patch.
fn transform(task: &str, repeat: usize, image: &Array3<f32>) -> Result<f64, Failure> {
    let (depth, height, width) = image.dim();
    let on_first = |value| vec![OnChannel { channel: 0, value }];
    let params = match task {
        "blur" => Params::GaussianBlur {
            sigmas: vec![OnChannel {
                channel: 0,
                value: [1.0; 3],
            }],
            rule: BlurRule::SixSigma,
        },
        "noise" => Params::GaussianNoise {
            sigma: 0.1,
            seed: 3,
        },
        // The peers leave mean and spread as they become, unless told otherwise.
        "gamma" | "gamma-kept" => Params::Gamma {
            exponents: on_first(1.3),
            inverted: false,
            keep_statistics: task == "gamma-kept",
        },
        "affine" => Params::Spatial(SpatialParams {
            angles_rad: [0.3, 0.2, 0.4],
            scale: [1.1; 3],
            ..SpatialParams::crop([depth, height, width])
        }),
        // Seven control points along each side, as TorchIO draws them.
        "elastic" => Params::Spatial(SpatialParams {
            elastic: Some(ElasticParams {
                field: ElasticField::Lattice,
                sigma: [depth, height, width].map(|side| side as f64 / 4.0 / 3f64.sqrt()),
                magnitude: [3.0; 3],
                seed: 3,
            }),
            ..SpatialParams::crop([depth, height, width])
        }),
        _ => return Err(format!("no task `{task}`").into()),
    };
    let mut best = f64::INFINITY;
    // The first call fetches its buffers and is not counted, as with the peers.
    for call in 0..=repeat {
        // Making the copy is no part of the transform. It leaves the patch in the caches, where the
        // peers, who read one patch again and again, have theirs.
        let sample = Sample::unlabelled(image.clone().insert_axis(Axis(0)));
        let start = Instant::now();
        let result = black_box(params.apply(sample)?);
        if call > 0 {
            best = best.min(start.elapsed().as_secs_f64());
        }
        drop(result);
    }
    Ok(best)
}

/// Mean seconds of nnU-Net's whole list on one thread, over `repeat` samples.
fn whole_list(repeat: usize, image: &Array3<f32>, final_shape: [usize; 3]) -> Result<f64, Failure> {
    let pipeline = AugmentConfig::default().build()?;
    let patch = image;
    let label = patch.map(|&v| i8::from(v > 0.5));
    let mut seconds = 0.0;
    for index in 0..repeat as u64 {
        let sample = Sample::new(patch.clone().insert_axis(Axis(0)), label.clone());
        let mut rng = Seed(1).stream("peers", 0, index);
        let start = Instant::now();
        black_box(pipeline.run(sample, final_shape, &mut rng)?);
        seconds += start.elapsed().as_secs_f64();
    }
    Ok(seconds / repeat as f64)
}

fn best<T>(repeat: usize, mut work: impl FnMut() -> Result<T, Failure>) -> Result<f64, Failure> {
    let mut best = f64::INFINITY;
    for _ in 0..repeat {
        let start = Instant::now();
        let result = black_box(work()?);
        best = best.min(start.elapsed().as_secs_f64());
        drop(result);
    }
    Ok(best)
}
