//! From a patient to the voxels of one phase.

use crate::anatomy::Anatomy;
use crate::artefact::{Shading, add_ghost, add_noise, blur};
use crate::contrast::{Constitution, Palette};
use crate::paint::{Candidates, Painter};
use crate::shape::Bounds;
use crate::vector::{Point, add, rotation, scale, turn};
use crate::vendor::Protocol;
use crate::{PhantomConfig, Phase, Result, Vendor};
use liseg_volume::{Affine, LabelMap, Orientation, Seed, Volume};
use ndarray::{Array3, Axis};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Voxels of a row that share a list of the organs near them.
const RUN: usize = 12;

/// One phase of one patient.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The phase.
    pub phase: Phase,
    /// The image; whole numbers, as scanners store.
    pub image: Volume<f32>,
    /// 1 in the liver with its vessels and lesions, 0 elsewhere; on the image's grid.
    pub liver: LabelMap,
    /// [`Organ`](crate::Organ) labels on the image's grid.
    pub organs: LabelMap,
    /// How far the breath has moved the organs, in RAS+ millimetres of the world: the only
    /// difference, in the world, between the livers of two phases.
    pub breath_mm: [f64; 3],
}

/// How a patient lies in the scanner: the same in all phases.
#[derive(Debug, Clone)]
pub(crate) struct Pose {
    /// Rows: the patient's frame from the world's.
    to_patient: [Point; 3],
    /// Rows: the world's frame from the patient's.
    to_world: [Point; 3],
    /// The patient's origin in the world.
    origin: Point,
}

impl Pose {
    pub(crate) fn sample(rng: &mut impl Rng) -> Self {
        let mut vary = |by: f32| rng.random_range(-by..by);
        let to_world = rotation(vary(0.03), vary(0.03), vary(0.07));
        let to_patient = std::array::from_fn(|i| std::array::from_fn(|j| to_world[j][i]));
        Self {
            to_patient,
            to_world,
            origin: [vary(18.0), vary(15.0), vary(80.0)],
        }
    }

    fn world(&self, p: Point) -> Point {
        add(turn(&self.to_world, p), self.origin)
    }

    fn patient(&self, world: Point) -> Point {
        turn(&self.to_patient, crate::vector::sub(world, self.origin))
    }
}

/// A patient to be scanned.
pub(crate) struct Subject<'a> {
    pub(crate) seed: Seed,
    pub(crate) index: u64,
    pub(crate) vendor: Vendor,
    pub(crate) anatomy: &'a Anatomy,
    pub(crate) constitution: &'a Constitution,
    pub(crate) pose: &'a Pose,
}

/// Takes one phase of one patient.
///
/// Every random stream depends on seed, patient and phase (and slice), so neither the other phases
/// nor the number of threads change a voxel.
pub(crate) fn acquire(subject: &Subject<'_>, phase: Phase, config: &PhantomConfig) -> Result<Scan> {
    let protocol = Protocol::new(subject.vendor, phase, config.resolution);
    let mut rng = (subject.seed).stream(&format!("phantom scan {phase}"), 0, subject.index);
    let palette = Palette::new(subject.constitution, phase, &protocol, &mut rng);
    let shading = Shading::sample(&protocol, &mut rng);
    let breath = breath(phase, &mut rng);
    let (affine, shape) = grid(subject, &protocol, breath, &mut rng)?;

    // The slices are thick: their signal is a mean over their depth.
    let sections: &[f32] = if protocol.slice_mm > 2.5 {
        &[0.0, -1.0 / 3.0, 1.0 / 3.0]
    } else {
        &[0.0]
    };
    let softness = protocol.pixel_mm as f32;
    let painter = Painter::new(subject.anatomy, &palette, breath, softness);
    let all = painter.all();
    let pose = subject.pose;
    let step = |column: usize| -> Point {
        let world = affine.column(column).map(|v| v as f32);
        turn(&pose.to_patient, world)
    };
    let (along_x, along_z) = (step(0), step(2));

    let mut image = Array3::<f32>::zeros(shape);
    let mut organs = Array3::<u8>::zeros(shape);
    let mut liver = Array3::<u8>::zeros(shape);
    image
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(organs.axis_iter_mut(Axis(0)).into_par_iter())
        .zip(liver.axis_iter_mut(Axis(0)).into_par_iter())
        .enumerate()
        .for_each(|(z, ((mut image, mut organs), mut liver))| {
            let (mut in_row, mut candidates) = (Candidates::default(), Candidates::default());
            let (rows, columns) = image.dim();
            for y in 0..rows {
                let start = affine.voxel_to_world([z as f64, y as f64, 0.0]);
                let start = pose.patient(start.map(|v| v as f32));
                let run = |first: usize, count: usize| {
                    let ends = [first, first + count].map(|x| add(start, scale(along_x, x as f32)));
                    Bounds::around(&ends).grown(0.5 * protocol.slice_mm as f32)
                };
                painter.narrow(&all, run(0, columns), &mut in_row);
                for x in 0..columns {
                    if x % RUN == 0 {
                        painter.narrow(&in_row, run(x, RUN), &mut candidates);
                    }
                    let centre = add(start, scale(along_x, x as f32));
                    let mut sum = 0.0;
                    for (number, &section) in sections.iter().enumerate() {
                        let p = add(centre, scale(along_z, section));
                        let sample = painter.sample(p, &candidates);
                        sum += sample.brightness;
                        if number == 0 {
                            organs[[y, x]] = sample.organ.label();
                            liver[[y, x]] = u8::from(sample.liver);
                        }
                    }
                    image[[y, x]] = sum / sections.len() as f32 * shading.at(centre);
                }
            }
            let purpose = format!("phantom noise {phase}");
            let mut rng = subject.seed.stream(&purpose, z as u64, subject.index);
            add_ghost(image.view_mut(), protocol.ghost);
            add_noise(image.view_mut(), protocol.noise, &mut rng);
            blur(image.view_mut(), protocol.blur);
            image.mapv_inplace(|v| (v * protocol.gain).round());
        });

    let orientation: Orientation = subject.vendor.orientation().parse()?;
    let stored = |labels: Array3<u8>| -> Result<LabelMap> {
        Ok(Volume::new(labels, affine)?.reorient(orientation))
    };
    Ok(Scan {
        phase,
        image: Volume::new(image, affine)?.reorient(orientation),
        liver: stored(liver)?,
        organs: stored(organs)?,
        breath_mm: turn(&pose.to_world, breath).map(f64::from),
    })
}

/// How far the breath has moved the organs: along the body and a little to the front.
fn breath(phase: Phase, rng: &mut impl Rng) -> Point {
    // Contrast phases are taken in breath-holds, which are repeated within some millimetres; T2
    // and diffusion while the patient breathes.
    let sigma = match phase {
        Phase::T2 | Phase::Dwi => 5.0,
        _ => 2.5,
    };
    let normal: f32 = StandardNormal.sample(rng);
    let down = (sigma * normal).clamp(-2.0 * sigma, 2.0 * sigma);
    [0.0, 0.2 * down, -down]
}

/// Where the voxels lie: a box around the liver and across the whole trunk, roughly.
fn grid(
    subject: &Subject<'_>,
    protocol: &Protocol,
    breath: Point,
    rng: &mut impl Rng,
) -> Result<(Affine, [usize; 3])> {
    let body = &subject.anatomy.body;
    // Vendors set their pixels to fit the patient: no two scans have exactly one spacing.
    let round = |mm: f64| (mm * 1e4).round() / 1e4;
    let pixel = round(protocol.pixel_mm * rng.random_range(0.96..1.04));
    let slice = round(protocol.slice_mm * rng.random_range(0.97..1.03));
    let width = f64::from(2.0 * body.half_width() + rng.random_range(8.0..45.0f32));
    let eight = |n: f64| (n / 8.0).ceil() as usize * 8;
    let columns = eight(width / pixel).clamp(protocol.columns.0, protocol.columns.1);
    let depth = f64::from(2.0 * body.half_depth() + 20.0);
    let rows = eight((columns as f64 * protocol.rows_share).max(depth / pixel)).min(columns);

    let liver = subject.anatomy.liver_bounds();
    let margins = [rng.random_range(6.0..24.0f32), rng.random_range(6.0..22.0)];
    // The slices' tilt and the patient's lift the liver's ends by some millimetres.
    let lift = 5.0 + 90.0 * protocol.tilt as f32;
    let low = liver.low[2] + breath[2] - margins[0] - lift;
    let high = liver.high[2] + breath[2] + margins[1] + lift;
    let slices = (f64::from(high - low) / slice).ceil() as usize;

    let middle = subject.pose.world([0.0, 0.0, 0.5 * (low + high)]);
    // The table is centred by eye, not on the patient's axis.
    let centre = [
        0.25 * middle[0] + rng.random_range(-6.0..6.0),
        0.6 * middle[1] + rng.random_range(-6.0..6.0),
        middle[2],
    ]
    .map(f64::from);
    let tilt = if protocol.tilt > 0.0 {
        rng.random_range(-protocol.tilt..protocol.tilt)
    } else {
        0.0
    };
    let (sin, cos) = tilt.sin_cos();
    let axes = [
        [pixel, 0.0, 0.0],
        [0.0, pixel * cos, pixel * sin],
        [0.0, -slice * sin, slice * cos],
    ];
    let half = [columns, rows, slices].map(|n| (n - 1) as f64 / 2.0);
    let origin = std::array::from_fn(|row| {
        centre[row] - (0..3).map(|axis| half[axis] * axes[axis][row]).sum::<f64>()
    });
    let affine = Affine::from_columns(axes[0], axes[1], axes[2], origin)?;
    Ok((affine, [slices, rows, columns]))
}
