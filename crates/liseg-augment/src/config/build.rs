//! From settings to pipelines.

use super::{AugmentConfig, Axis, Preset};
use crate::intensity::{
    BiasField, Brightness, Contrast, Curve, Gamma, GaussianBlur, GaussianNoise, Ghosting,
    HistogramTransfer, MaskOutside, Mixing, Motion, NonContrast, Reversal, SyntheticContrast,
};
use crate::spatial::{Anisotropy, LowResolution, Mirror, Spatial};
use crate::{Pipeline, Result, Transform};

/// Two pipelines for methods that look at a patch twice.
///
/// The weak one takes a patch as it is loaded; the strong one takes what the weak one made, keeps
/// the grid and the label, and changes intensities only, so that predictions for both views can be
/// compared voxel by voxel.
#[derive(Debug)]
pub struct Views {
    /// Rotation, scaling, deformation, crop and mirroring.
    pub weak: Pipeline,
    /// All changes of intensity; run it by [`Pipeline::run_on_view`].
    pub strong: Pipeline,
}

impl AugmentConfig {
    /// Checks every field, whether the preset uses it or not, and builds the pipeline.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for the first field out of range.
    pub fn build(&self) -> Result<Pipeline> {
        self.check()?;
        let (spatial, intensity) = self.parts();
        Ok(self.assemble(spatial, intensity))
    }

    /// Checks every field and builds the two halves of the pipeline apart.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for the first field out of range.
    pub fn views(&self) -> Result<Views> {
        self.check()?;
        let (spatial, intensity) = self.parts();
        Ok(Views {
            weak: self.assemble(spatial, false),
            strong: self.assemble(false, intensity),
        })
    }

    /// Whether spatial and intensity transforms take part.
    fn parts(&self) -> (bool, bool) {
        match self.preset {
            Preset::None => (false, false),
            Preset::Spatial => (true, false),
            Preset::Intensity => (false, true),
            _ => (true, true),
        }
    }

    /// Along which axes (z, y, x) the pipeline mirrors patches. A network that never saw an axis mirrored
    /// must not be asked about mirrored images either.
    pub fn mirrored_axes(&self) -> [bool; 3] {
        let (spatial, _) = self.parts();
        let mirrors = spatial && self.mirror_probability > 0.0;
        flags(&self.mirror_axes).map(|axis| axis && mirrors)
    }

    fn assemble(&self, spatial: bool, intensity: bool) -> Pipeline {
        // The crop to the final shape always takes place, so the spatial step is always there.
        let mut pipeline = Pipeline::new().with(1.0, self.spatial(spatial));
        if intensity {
            pipeline = self.add_contrasts(pipeline);
            pipeline = self.add_artefacts(pipeline);
            pipeline = self.add_nnunet(pipeline);
        }
        if spatial {
            let axes = flags(&self.mirror_axes);
            let probability = self.mirror_probability;
            pipeline = pipeline.with(1.0, Mirror { probability, axes });
        }
        if self.mask_outside && (spatial || intensity) {
            pipeline = pipeline.with(1.0, MaskOutside);
        }
        pipeline
    }

    fn spatial(&self, moves: bool) -> Spatial {
        let if_moves = |probability: f64| if moves { probability } else { 0.0 };
        let mut elastic = self.elastic;
        elastic.probability = if_moves(elastic.probability);
        Spatial {
            rotation_probability: if_moves(self.rotation_probability),
            rotation_degrees: self.rotation_degrees,
            rotation_degrees_in_plane: self.rotation_degrees_in_plane,
            rotation_axes: flags(&self.rotation_axes),
            scaling_probability: if_moves(self.scaling_probability),
            scaling: self.scaling,
            scaling_draw: self.scaling_draw,
            scaling_per_axis: self.scaling_per_axis,
            crop_jitter: self.crop_jitter,
            elastic,
            generation: self.generation,
            in_plane_ratio: self.in_plane_ratio,
        }
    }

    /// What the body would look like in another phase or sequence.
    fn add_contrasts(&self, pipeline: Pipeline) -> Pipeline {
        let synthetic = SyntheticContrast {
            supervoxel: self.synthetic.supervoxel,
            tissues: self.synthetic.tissues,
            detail: self.synthetic.detail,
        };
        let non_contrast = NonContrast {
            shift: self.non_contrast.shift,
            vessels: self.non_contrast.vessels,
        };
        let curve = Curve {
            points: self.curve.points,
            monotone_share: self.curve.monotone_share,
        };
        let mixing = Mixing {
            layers: self.mixing.layers,
            hidden: self.mixing.hidden,
            share: self.mixing.share,
        };
        let histogram = HistogramTransfer {
            references: self.histogram.references.clone(),
            share: self.histogram.share,
        };
        let pipeline = if_ever(pipeline, self.synthetic.probability, synthetic);
        let pipeline = if_ever(pipeline, self.non_contrast.probability, non_contrast);
        let pipeline = if_ever(pipeline, self.curve.probability, curve);
        let pipeline = if_ever(pipeline, self.reversal_probability, Reversal);
        let pipeline = if_ever(pipeline, self.mixing.probability, mixing);
        if_ever(pipeline, self.histogram.probability, histogram)
    }

    /// What happens in the scanner.
    fn add_artefacts(&self, pipeline: Pipeline) -> Pipeline {
        let bias_field = BiasField {
            strength: self.bias_field.strength,
        };
        let ghosting = Ghosting {
            ghosts: self.ghosting.ghosts,
            strength: self.ghosting.strength,
        };
        let motion = Motion {
            jumps: self.motion.jumps,
            distance: self.motion.distance,
        };
        let anisotropy = Anisotropy {
            thickness: self.anisotropy.thickness,
        };
        let pipeline = if_ever(pipeline, self.bias_field.probability, bias_field);
        let pipeline = if_ever(pipeline, self.motion.probability, motion);
        let pipeline = if_ever(pipeline, self.ghosting.probability, ghosting);
        if_ever(pipeline, self.anisotropy.probability, anisotropy)
    }

    /// nnU-Net's list, in its order.
    fn add_nnunet(&self, pipeline: Pipeline) -> Pipeline {
        let noise = GaussianNoise {
            sigma: self.noise_sigma,
        };
        let blur = GaussianBlur {
            channel_probability: self.blur_channel_probability,
            sigma: self.blur_sigma,
            axes: self.blur_axes,
            rule: self.blur_rule,
        };
        let brightness = Brightness {
            factor: self.brightness,
            draw: self.brightness_draw,
            from_minimum: self.brightness_from_minimum,
        };
        let contrast = Contrast {
            factor: self.contrast,
            draw: self.contrast_draw,
        };
        let low_resolution = LowResolution {
            channel_probability: self.low_resolution_channel_probability,
            factor: self.low_resolution,
            in_plane_ratio: self.in_plane_ratio,
            read_back: self.low_resolution_read_back,
        };
        let gamma = |exponent, inverted| Gamma { exponent, inverted };
        pipeline
            .with(self.noise_probability, noise)
            .with(self.blur_probability, blur)
            .with(self.brightness_probability, brightness)
            .with(self.contrast_probability, contrast)
            .with(self.low_resolution_probability, low_resolution)
            .with(
                self.gamma_inverted_probability,
                gamma(self.gamma_inverted, true),
            )
            .with(self.gamma_probability, gamma(self.gamma, false))
    }
}

/// Adds a transform that can happen. One that cannot would still draw a number.
fn if_ever(pipeline: Pipeline, probability: f64, transform: impl Transform + 'static) -> Pipeline {
    if probability > 0.0 {
        pipeline.with(probability, transform)
    } else {
        pipeline
    }
}

/// Which of z, y, x are listed.
fn flags(axes: &[Axis]) -> [bool; 3] {
    [Axis::Z, Axis::Y, Axis::X].map(|axis| axes.contains(&axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrored_axes_are_those_that_patches_are_mirrored_along() {
        assert_eq!(AugmentConfig::default().mirrored_axes(), [true; 3]);
        let of = |change: fn(&mut AugmentConfig)| {
            let mut config = AugmentConfig::default();
            change(&mut config);
            config.mirrored_axes()
        };
        assert_eq!(of(|c| c.mirror_axes = vec![Axis::X]), [false, false, true]);
        assert_eq!(of(|c| c.mirror_probability = 0.0), [false; 3]);
        assert_eq!(of(|c| c.preset = Preset::Intensity), [false; 3]);
    }
}
