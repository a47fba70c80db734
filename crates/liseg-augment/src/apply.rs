//! How drawn parameters are checked and applied.

use crate::intensity::{
    LANDMARKS, bias_field, blur, brightness, contrast, curve, gamma, histogram, k_space, mixing,
    noise, non_contrast, reversal, synthetic,
};
use crate::spatial::{low_resolution, mirror};
use crate::transform::OnChannel;
use crate::{Error, MapKind, Params, Result, Sample, Scratch};

impl Params {
    /// [`Self::apply`] with the buffers of `scratch`.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_with(&self, sample: Sample, scratch: &mut Scratch) -> Result<Sample> {
        let mut sample = sample.into_checked()?;
        if let Self::Spatial(params) = self {
            return params.apply(sample, scratch);
        }
        self.check()?;
        let shape = sample.shape();
        match self {
            Self::Spatial(_) => {}
            Self::GaussianNoise { sigma, seed } => {
                for_all(&mut sample, |image, _| noise::add(image, *sigma, *seed));
            }
            Self::GaussianBlur { sigmas, rule } => {
                self.for_each(&mut sample, sigmas, |image, _, sigmas| {
                    blur::smooth(image, shape, *sigmas, *rule, scratch);
                })?;
            }
            Self::Brightness {
                factors,
                from_minimum,
            } => self.for_each(&mut sample, factors, |image, _, factor| {
                brightness::multiply(image, *factor, *from_minimum);
            })?,
            Self::Contrast {
                factors,
                keep_range,
            } => self.for_each(&mut sample, factors, |image, _, factor| {
                contrast::stretch(image, *factor, *keep_range);
            })?,
            Self::LowResolution { factors, read_back } => {
                self.for_each(&mut sample, factors, |image, _, factors| {
                    low_resolution::coarsen(image, shape, *factors, *read_back, scratch);
                })?;
            }
            Self::Gamma {
                exponents,
                inverted,
                keep_statistics,
            } => self.for_each(&mut sample, exponents, |image, _, exponent| {
                gamma::raise(image, *exponent, *inverted, *keep_statistics);
            })?,
            Self::Mirror { axes } => flip(&mut sample, *axes),
            Self::MaskOutside { channels } => {
                self.for_each(&mut sample, &listed(channels), |image, label, ()| {
                    for (value, label) in image.iter_mut().zip(label) {
                        *value = if *label < 0 { 0.0 } else { *value };
                    }
                })?;
            }
            Self::BiasField { fields } => {
                self.for_each(&mut sample, fields, |image, _, coefficients| {
                    bias_field::multiply(image, shape, coefficients);
                })?;
            }
            Self::Ghosting {
                axis,
                ghosts,
                strengths,
            } => self.for_each(&mut sample, strengths, |image, _, strength| {
                k_space::ghost(image, shape, *axis, *ghosts, *strength, scratch);
            })?,
            Self::Motion { axis, shifts } => each_channel(&mut sample, |image, _| {
                k_space::jump(image, shape, *axis, shifts, scratch);
            }),
            Self::Curve { points } => self.for_each(&mut sample, points, |image, _, points| {
                curve::bend(image, points);
            })?,
            Self::Reversal { channels } => {
                let channels = listed(channels);
                self.for_each(&mut sample, &channels, |image, _, ()| {
                    reversal::reverse(image)
                })?;
            }
            Self::NonContrast { shift, vessels } => each_channel(&mut sample, |image, label| {
                non_contrast::simulate(image, label, *shift, *vessels);
            }),
            Self::Mixing {
                seed,
                layers,
                hidden,
                share,
            } => {
                let mut seed = *seed;
                each_channel(&mut sample, |image, _| {
                    mixing::mix(image, shape, (*layers, *hidden), *share, seed, scratch);
                    seed = seed.wrapping_add(1);
                });
            }
            Self::Synthetic {
                seed,
                supervoxel,
                tissues,
                detail,
            } => {
                let maps = std::mem::take(&mut sample.maps);
                let regions = maps.iter().find(|map| map.kind == MapKind::Regions);
                let regions = regions.and_then(|map| map.values.as_slice());
                let mut seed = *seed;
                each_channel(&mut sample, |image, label| {
                    let sizes = (*supervoxel, *tissues);
                    synthetic::redraw(image, shape, label, regions, sizes, *detail, seed);
                    seed = seed.wrapping_add(1);
                });
                sample.maps = maps;
            }
            Self::Histogram { targets, share } => {
                self.for_each(&mut sample, targets, |image, label, targets| {
                    histogram::transfer(image, label, targets, *share);
                })?;
            }
        }
        Ok(sample)
    }

    /// Checks what may have come from a file. Spatial parameters check themselves.
    fn check(&self) -> Result<()> {
        match self {
            Self::Spatial(_) | Self::Mirror { .. } => Ok(()),
            Self::MaskOutside { .. } | Self::Reversal { .. } => Ok(()),
            Self::GaussianNoise { sigma, .. } => {
                self.require("sigma", *sigma, *sigma >= 0.0, "a number not below 0")
            }
            Self::GaussianBlur { sigmas, .. } => {
                let mut all = sigmas.iter().flat_map(|on| on.value);
                all.try_for_each(|sigma| {
                    let fits = (0.0..=100.0).contains(&sigma);
                    self.require("sigmas", sigma, fits, "0 to 100 voxels")
                })
            }
            Self::Brightness { factors, .. } | Self::Contrast { factors, .. } => factors
                .iter()
                .try_for_each(|on| self.require("factors", on.value, true, "a finite number")),
            Self::LowResolution { factors, .. } => {
                let mut all = factors.iter().flat_map(|on| on.value);
                all.try_for_each(|factor| {
                    let fits = factor > 0.0 && factor <= 1.0;
                    self.require("factors", factor, fits, "above 0 and at most 1")
                })
            }
            Self::Gamma { exponents, .. } => exponents.iter().try_for_each(|on| {
                self.require("exponents", on.value, on.value > 0.0, "a number above 0")
            }),
            Self::BiasField { fields } => {
                let terms = bias_field::TERMS.len();
                self.lists("fields", fields, terms..=terms, -10.0, 10.0)
            }
            Self::Ghosting {
                axis, strengths, ..
            } => {
                self.axis(*axis)?;
                strengths
                    .iter()
                    .try_for_each(|on| self.share("strengths", on.value))
            }
            Self::Motion { axis, shifts } => {
                self.axis(*axis)?;
                let count = shifts.len() as f64;
                let fits = (1..=64).contains(&shifts.len());
                self.require("shifts", count, fits, "a list of 1 to 64 numbers")?;
                shifts
                    .iter()
                    .try_for_each(|shift| self.require("shifts", *shift, true, "finite numbers"))
            }
            Self::Curve { points } => {
                self.lists("points", points, 2..=curve::MOST_POINTS, 0.0, 1.0)
            }
            Self::NonContrast { shift, vessels } => {
                self.require("shift", *shift, true, "a finite number")?;
                self.require("vessels", *vessels, true, "a finite number")
            }
            Self::Mixing {
                layers,
                hidden,
                share,
                ..
            } => {
                for (field, found) in [("layers", *layers), ("hidden", *hidden)] {
                    let fits = (1..=mixing::MOST).contains(&found);
                    self.require(field, found as f64, fits, "1 to 8")?;
                }
                self.share("share", *share)
            }
            Self::Synthetic {
                supervoxel,
                tissues,
                detail,
                ..
            } => {
                let fits = *supervoxel >= 2;
                self.require("supervoxel", *supervoxel as f64, fits, "at least 2 voxels")?;
                let fits = (1..=256).contains(tissues);
                self.require("tissues", *tissues as f64, fits, "1 to 256")?;
                self.share("detail", *detail)
            }
            Self::Histogram { targets, share } => {
                let count = LANDMARKS.len();
                self.lists("targets", targets, count..=count, f64::MIN, f64::MAX)?;
                self.share("share", *share)
            }
        }
    }

    fn axis(&self, axis: usize) -> Result<()> {
        self.require("axis", axis as f64, axis < 3, "0, 1 or 2")
    }

    fn share(&self, field: &'static str, found: f64) -> Result<()> {
        self.require(field, found, (0.0..=1.0).contains(&found), "0 to 1")
    }

    fn lists(
        &self,
        field: &'static str,
        values: &[OnChannel<Vec<f64>>],
        count: std::ops::RangeInclusive<usize>,
        least: f64,
        most: f64,
    ) -> Result<()> {
        for on in values {
            let found = on.value.len() as f64;
            let fits = count.contains(&on.value.len());
            self.require(field, found, fits, "another number of values")?;
            for value in &on.value {
                let fits = (least..=most).contains(value);
                self.require(field, *value, fits, "values within the documented range")?;
            }
        }
        Ok(())
    }

    fn require(
        &self,
        field: &'static str,
        found: f64,
        fits: bool,
        expected: &'static str,
    ) -> Result<()> {
        if fits && found.is_finite() {
            return Ok(());
        }
        let found = found.to_string();
        Err(Error::Parameter {
            transform: self.name(),
            field,
            found,
            expected,
        })
    }

    /// Runs `work` on the voxels and the label of each named channel.
    fn for_each<T>(
        &self,
        sample: &mut Sample,
        values: &[OnChannel<T>],
        mut work: impl FnMut(&mut [f32], &[i8], &T),
    ) -> Result<()> {
        let channels = sample.channels();
        let voxels = sample.label.len();
        for on in values {
            if on.channel >= channels {
                return Err(Error::Channel {
                    transform: self.name(),
                    channel: on.channel,
                    channels,
                });
            }
            for_all(sample, |image, label| {
                let start = on.channel * voxels;
                work(&mut image[start..start + voxels], label, &on.value);
            });
        }
        Ok(())
    }
}

fn listed(channels: &[usize]) -> Vec<OnChannel<()>> {
    let on = |&channel: &usize| OnChannel { channel, value: () };
    channels.iter().map(on).collect()
}

/// Runs `work` on each channel.
fn each_channel(sample: &mut Sample, mut work: impl FnMut(&mut [f32], &[i8])) {
    let voxels = sample.label.len();
    for_all(sample, |image, label| {
        image
            .chunks_exact_mut(voxels)
            .for_each(|channel| work(channel, label));
    });
}

/// Runs `work` on the whole image in memory order, channel after channel, and the label. A checked
/// sample is contiguous, so there always are such slices.
fn for_all(sample: &mut Sample, work: impl FnOnce(&mut [f32], &[i8])) {
    if let (Some(image), Some(label)) = (sample.image.as_slice_mut(), sample.label.as_slice()) {
        work(image, label);
    }
}

fn flip(sample: &mut Sample, axes: [bool; 3]) {
    let shape = sample.shape();
    each_channel(sample, |channel, _| mirror::flip(channel, shape, axes));
    if let Some(label) = sample.label.as_slice_mut() {
        mirror::flip(label, shape, axes);
    }
    for map in &mut sample.maps {
        if let Some(values) = map.values.as_slice_mut() {
            mirror::flip(values, shape, axes);
        }
    }
}
