//! From logits on the network's grid to masks and maps on the file's grid, slice by slice.

use super::uncertainty::{Sums, entropy};
use crate::Result;
use liseg_data::Restore;
use liseg_mri::resample::{GridMap, Resampling, Tap};
use liseg_volume::{LabelMap, Region, Volume};
use ndarray::{Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

/// Logits `[classes, z, y, x]` of the preprocessed image → the label map in the file's own geometry.
///
/// As nnU-Net: the logits are interpolated to the image's own grid, then the class with the largest
/// one is taken (the first on a tie); outside the non-zero box everything is background. Both are
/// done voxel by voxel, so no logits are held at full resolution.
///
/// # Errors
/// When the logits do not have the grid that `restore` remembers.
pub fn labels_on_source_grid(logits: &Array4<f32>, restore: &Restore) -> Result<LabelMap> {
    let maps = export_whole(logits, restore, Outputs::default())?;
    Ok(restore.restore_whole(maps.labels)?)
}

/// The probability of each class on the file's grid, in the file's orientation; outside the
/// non-zero box the background has probability 1.
///
/// # Errors
/// When the logits do not have the grid that `restore` remembers.
pub fn probabilities_on_source_grid(
    logits: &Array4<f32>,
    restore: &Restore,
) -> Result<Vec<Volume<f32>>> {
    let outputs = Outputs {
        probabilities: true,
        uncertainty: false,
    };
    let maps = export_whole(logits, restore, outputs)?;
    let mut background = Array3::from_elem(maps.labels.raw_dim(), 1.0f32);
    for class in &maps.probabilities {
        background -= class;
    }
    background.mapv_inplace(|p| p.max(0.0));
    std::iter::once(background)
        .chain(maps.probabilities)
        .map(|map| Ok(restore.restore_whole(map)?))
        .collect()
}

fn export_whole(logits: &Array4<f32>, restore: &Restore, outputs: Outputs) -> Result<Maps> {
    let (classes, z, y, x) = logits.dim();
    if [z, y, x] != restore.plan_shape() {
        return Err(liseg_data::Error::Shape {
            what: "the logits to export",
            expected: restore.plan_shape(),
            found: [z, y, x],
        }
        .into());
    }
    let layout = Layout {
        classes,
        margin: false,
        disagreement: false,
    };
    let mut exporter = Exporter::new(restore, None, layout, outputs);
    exporter.take(0, logits.view());
    Ok(exporter.finish())
}

/// What is wanted beside the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outputs {
    /// The probability of each foreground class.
    pub probabilities: bool,
    /// Entropy and, with several networks, their disagreement; scores of the case.
    pub uncertainty: bool,
}

/// What the channels of logits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) classes: usize,
    /// One channel stands for two classes: the second's logit minus the first's.
    pub(super) margin: bool,
    /// The last channel is the networks' disagreement.
    pub(super) disagreement: bool,
}

impl Layout {
    fn logits(self) -> usize {
        if self.margin { 1 } else { self.classes }
    }
}

/// Maps of the whole canonical image, `[z, y, x]`.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) labels: Array3<u8>,
    /// Of the foreground classes, in order; empty when not asked for.
    pub(super) probabilities: Vec<Array3<f32>>,
    pub(super) entropy: Option<Array3<f32>>,
    pub(super) disagreement: Option<Array3<f32>>,
    pub(super) sums: Sums,
    /// The largest probability of foreground on the plan's grid; of several classes, that of one
    /// against the background alone.
    pub(super) largest_probability: Option<f64>,
}

/// Turns slices of logits into maps as they come.
pub(super) struct Exporter {
    map: GridMap,
    layout: Layout,
    /// Where new voxel (first, first, first) of the map lies in the canonical image.
    origin: [usize; 3],
    maps: Maps,
    /// The last slice so far, `[channels, y, x]`: new slices may lie between it and the next.
    last: Option<Array3<f32>>,
    /// New slices made so far.
    done: usize,
}

impl Exporter {
    /// For logits of the preprocessed image, or of a box of it; outside that box everything is
    /// background.
    pub(super) fn new(
        restore: &Restore,
        inside: Option<Region>,
        layout: Layout,
        outputs: Outputs,
    ) -> Self {
        let mut map = GridMap::new(
            restore.plan_shape(),
            restore.cropped_shape(),
            (restore.plan_spacing(), restore.source_spacing()),
            Resampling::LOGITS,
        );
        if let Some(region) = inside {
            map = map.restricted(std::array::from_fn(|a| region.start[a]..region.end[a]));
        }
        let crop = restore.region().start;
        let origin = std::array::from_fn(|a| crop[a] + map.axes[a].first());
        let shape = restore.canonical().shape;
        let zeros = || Array3::<f32>::zeros(shape);
        let maps = Maps {
            labels: Array3::zeros(shape),
            probabilities: if outputs.probabilities {
                (1..layout.classes).map(|_| zeros()).collect()
            } else {
                Vec::new()
            },
            entropy: outputs.uncertainty.then(zeros),
            disagreement: (outputs.uncertainty && layout.disagreement).then(zeros),
            sums: Sums::default(),
            largest_probability: None,
        };
        Self {
            map,
            layout,
            origin,
            maps,
            last: None,
            done: 0,
        }
    }

    /// Takes the slices `[channels, slices, y, x]` that begin with slice `first`, and makes every new
    /// slice that they complete.
    pub(super) fn take(&mut self, first: usize, logits: ArrayView4<'_, f32>) {
        let (_, slices, _, _) = logits.dim();
        let taps = self.map.axes[0].taps();
        let ready = taps[self.done..].partition_point(|tap| tap.above < first + slices);
        let from = self.done;
        self.done += ready;
        let last = self.last.as_ref().map(|l| l.view());
        // Slice `i` of the image: one of the new ones, or the last of those before.
        let slice = |i: usize| match last {
            Some(last) if i < first => last,
            _ => logits.index_axis(Axis(1), i.saturating_sub(first)),
        };
        let [_, rows, columns] = &self.map.axes;
        let work = Work {
            layout: self.layout,
            rows: rows.taps(),
            columns: columns.taps(),
            copy_columns: columns.is_identity() && columns.taps().len() == logits.dim().3,
        };
        let [z, y, x] = self.origin;
        let place = || {
            [
                z + from..z + from + ready,
                y..y + work.rows.len(),
                x..x + work.columns.len(),
            ]
        };
        let mut jobs: Vec<Job<'_>> = slices_of(&mut self.maps.labels, place())
            .into_iter()
            .zip(&taps[from..])
            .map(|(labels, tap)| Job {
                tap: *tap,
                labels,
                probabilities: Vec::new(),
                entropy: None,
                disagreement: None,
            })
            .collect();
        for map in &mut self.maps.probabilities {
            let slices = slices_of(map, place());
            jobs.iter_mut()
                .zip(slices)
                .for_each(|(job, s)| job.probabilities.push(s));
        }
        if let Some(map) = &mut self.maps.entropy {
            let slices = slices_of(map, place());
            jobs.iter_mut()
                .zip(slices)
                .for_each(|(job, s)| job.entropy = Some(s));
        }
        if let Some(map) = &mut self.maps.disagreement {
            let slices = slices_of(map, place());
            jobs.iter_mut()
                .zip(slices)
                .for_each(|(job, s)| job.disagreement = Some(s));
        }
        let sums: Vec<Sums> = jobs
            .into_par_iter()
            .map(|job| {
                let (below, above) = (slice(job.tap.below), slice(job.tap.above));
                work.make(job, below, above)
            })
            .collect();
        for part in sums {
            self.maps.sums.add(&part);
        }
        let margin = largest_margin(self.layout, logits);
        let p = 1.0 / (1.0 + (-f64::from(margin)).exp());
        let largest = &mut self.maps.largest_probability;
        *largest = Some(largest.unwrap_or(0.0).max(p));
        if let Some(end) = slices.checked_sub(1) {
            self.last = Some(logits.index_axis(Axis(1), end).to_owned());
        }
    }

    /// The maps; slices that no logits came for are background.
    pub(super) fn finish(self) -> Maps {
        self.maps
    }
}

/// The largest logit of a foreground class over the background's.
fn largest_margin(layout: Layout, logits: ArrayView4<'_, f32>) -> f32 {
    let slices = logits.axis_iter(Axis(1)).into_par_iter();
    let of_slice = |slice: ArrayView3<'_, f32>| {
        let background = slice.index_axis(Axis(0), 0);
        if layout.margin {
            return background.fold(f32::NEG_INFINITY, |most, &v| most.max(v));
        }
        (1..layout.classes).fold(f32::NEG_INFINITY, |most, class| {
            let pairs = slice.index_axis_move(Axis(0), class);
            let pairs = pairs.iter().zip(&background);
            pairs.fold(most, |most, (c, b)| most.max(c - b))
        })
    };
    slices.map(of_slice).reduce(|| f32::NEG_INFINITY, f32::max)
}

/// The part of a map at `place`, slice by slice.
fn slices_of<'a, T>(
    map: &'a mut Array3<T>,
    [z, y, x]: [std::ops::Range<usize>; 3],
) -> Vec<ArrayViewMut2<'a, T>> {
    let mut slices = Vec::with_capacity(z.len());
    let mut rest = map.slice_mut(s![z, y, x]);
    while rest.dim().0 > 0 {
        let (first, others) = rest.split_at(Axis(0), 1);
        slices.push(first.index_axis_move(Axis(0), 0));
        rest = others;
    }
    slices
}

/// One new slice.
struct Job<'a> {
    tap: Tap,
    labels: ArrayViewMut2<'a, u8>,
    probabilities: Vec<ArrayViewMut2<'a, f32>>,
    entropy: Option<ArrayViewMut2<'a, f32>>,
    disagreement: Option<ArrayViewMut2<'a, f32>>,
}

/// What all new slices share.
struct Work<'a> {
    layout: Layout,
    rows: &'a [Tap],
    columns: &'a [Tap],
    /// Whether columns are taken over as they are.
    copy_columns: bool,
}

impl Work<'_> {
    /// Interpolates the logits of a slice row by row and decides every voxel.
    fn make(
        &self,
        mut job: Job<'_>,
        below: ArrayView3<'_, f32>,
        above: ArrayView3<'_, f32>,
    ) -> Sums {
        let channels = below.dim().0;
        let width = self.columns.len();
        let mut old = vec![0.0f32; below.dim().2];
        let mut new = vec![vec![0.0f32; width]; channels];
        let mut best = vec![0.0f32; width];
        let mut sums = Sums::default();
        let soft = job.entropy.is_some() || !job.probabilities.is_empty();
        for (j, tap) in self.rows.iter().enumerate() {
            for (channel, new) in new.iter_mut().enumerate() {
                let (a, b) = (
                    below.index_axis(Axis(0), channel),
                    above.index_axis(Axis(0), channel),
                );
                let rows = [
                    (a.row(tap.below), (1.0 - job.tap.t) * (1.0 - tap.t)),
                    (a.row(tap.above), (1.0 - job.tap.t) * tap.t),
                    (b.row(tap.below), job.tap.t * (1.0 - tap.t)),
                    (b.row(tap.above), job.tap.t * tap.t),
                ];
                let target: &mut [f32] = if self.copy_columns { new } else { &mut old };
                target.fill(0.0);
                for (row, weight) in rows.iter().filter(|(_, weight)| *weight > 0.0) {
                    // Neighbours along x lie side by side; slices are added without looking up strides.
                    match row.to_slice() {
                        Some(row) => target
                            .iter_mut()
                            .zip(row)
                            .for_each(|(t, &v)| *t += weight * v),
                        None => target
                            .iter_mut()
                            .zip(row)
                            .for_each(|(t, &v)| *t += weight * v),
                    }
                }
                if !self.copy_columns {
                    for (value, tap) in new.iter_mut().zip(self.columns) {
                        let (p, q) = (old[tap.below], old[tap.above]);
                        *value = p + tap.t * (q - p);
                    }
                }
            }
            let mut labels = job.labels.row_mut(j);
            if self.layout.margin {
                let decided = labels.iter_mut().zip(&new[0]);
                decided.for_each(|(label, &margin)| *label = u8::from(margin > 0.0));
            } else {
                best.copy_from_slice(&new[0]);
                labels.fill(0);
                for (class, values) in new.iter().enumerate().take(self.layout.logits()).skip(1) {
                    for ((label, best), &value) in labels.iter_mut().zip(&mut best).zip(values) {
                        if value > *best {
                            *best = value;
                            *label = class as u8;
                        }
                    }
                }
            }
            if soft {
                self.soften(&mut new, &mut best);
                for (class, map) in job.probabilities.iter_mut().enumerate() {
                    let values = map.row_mut(j).into_iter().zip(&new[self.place(class + 1)]);
                    values.for_each(|(p, &v)| *p = v);
                }
            }
            if let Some(map) = &mut job.entropy {
                let foreground = self.place(1)..self.layout.logits();
                let differ = self.layout.disagreement.then(|| &new[channels - 1][..]);
                let mut values = map.row_mut(j);
                for (i, value) in values.iter_mut().enumerate() {
                    let p = new[foreground.clone()].iter().map(|c| c[i]);
                    *value = entropy(p.clone(), self.layout.classes);
                    let p: f32 = p.sum();
                    let differ = differ.map_or(0.0, |d| d[i]);
                    sums.count(labels[i] > 0, p, *value, differ);
                }
                if let (Some(map), Some(differ)) = (&mut job.disagreement, differ) {
                    map.row_mut(j)
                        .iter_mut()
                        .zip(differ)
                        .for_each(|(m, &d)| *m = d);
                }
            }
        }
        sums
    }

    /// The channel of a class' logit or probability.
    fn place(&self, class: usize) -> usize {
        if self.layout.margin { class - 1 } else { class }
    }

    /// Logits of a row become probabilities. `largest` holds the largest logit where there are
    /// several channels.
    fn soften(&self, row: &mut [Vec<f32>], largest: &mut [f32]) {
        if self.layout.margin {
            row[0]
                .iter_mut()
                .for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
            return;
        }
        let logits = &mut row[..self.layout.logits()];
        for channel in logits.iter_mut() {
            channel
                .iter_mut()
                .zip(&*largest)
                .for_each(|(v, l)| *v = (*v - l).exp());
        }
        largest.fill(0.0);
        for channel in logits.iter() {
            largest
                .iter_mut()
                .zip(channel)
                .for_each(|(sum, v)| *sum += v);
        }
        for channel in logits.iter_mut() {
            channel
                .iter_mut()
                .zip(&*largest)
                .for_each(|(v, sum)| *v /= sum);
        }
    }
}
