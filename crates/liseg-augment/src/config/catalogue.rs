//! Every transform by itself.

use super::{AugmentConfig, Axis, Preset};
use crate::{Pipeline, Result};

impl AugmentConfig {
    /// Every transform that there is, each certain to happen and alone, with the numbers of this
    /// configuration: to look at, to test, to time.
    ///
    /// Rotation, scaling and elastic deformation, one resampling in use, come one by one. Histogram
    /// transfer needs `histogram.references` and is left out without any.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for the first field out of range.
    pub fn catalogue(&self) -> Result<Vec<(&'static str, Pipeline)>> {
        type Change = fn(&mut AugmentConfig);
        let mut entries: Vec<(&'static str, Change)> = vec![
            ("rotation", |c| c.rotation_probability = 1.0),
            ("scaling", |c| c.scaling_probability = 1.0),
            ("elastic", |c| c.elastic.probability = 1.0),
            ("mirror", |c| {
                c.mirror_probability = 1.0;
                c.mirror_axes = vec![Axis::X];
            }),
            ("gaussian noise", |c| c.noise_probability = 1.0),
            ("gaussian blur", |c| {
                c.blur_probability = 1.0;
                c.blur_channel_probability = 1.0;
            }),
            ("brightness", |c| c.brightness_probability = 1.0),
            ("contrast", |c| c.contrast_probability = 1.0),
            ("low resolution", |c| {
                c.low_resolution_probability = 1.0;
                c.low_resolution_channel_probability = 1.0;
            }),
            ("gamma, inverted", |c| c.gamma_inverted_probability = 1.0),
            ("gamma", |c| c.gamma_probability = 1.0),
            ("bias field", |c| c.bias_field.probability = 1.0),
            ("ghosting", |c| c.ghosting.probability = 1.0),
            ("motion", |c| c.motion.probability = 1.0),
            ("anisotropy", |c| c.anisotropy.probability = 1.0),
            ("curve, monotone", |c| {
                c.curve.probability = 1.0;
                c.curve.monotone_share = 1.0;
            }),
            ("curve, any", |c| {
                c.curve.probability = 1.0;
                c.curve.monotone_share = 0.0;
            }),
            ("reversal", |c| c.reversal_probability = 1.0),
            ("non-contrast", |c| c.non_contrast.probability = 1.0),
            ("mixing", |c| c.mixing.probability = 1.0),
            ("synthetic", |c| c.synthetic.probability = 1.0),
        ];
        if !self.histogram.references.is_empty() {
            entries.push(("histogram", |c| c.histogram.probability = 1.0));
        }
        let still = self.still();
        let build = |(name, change): (&'static str, Change)| {
            let mut config = still.clone();
            change(&mut config);
            Ok((name, config.build()?))
        };
        entries.into_iter().map(build).collect()
    }

    /// The same numbers with nothing ever happening.
    fn still(&self) -> Self {
        let mut config = self.clone();
        config.preset = match self.preset {
            Preset::None | Preset::Spatial | Preset::Intensity => Preset::Nnunet,
            other => other,
        };
        for probability in [
            &mut config.rotation_probability,
            &mut config.scaling_probability,
            &mut config.elastic.probability,
            &mut config.mirror_probability,
            &mut config.noise_probability,
            &mut config.blur_probability,
            &mut config.brightness_probability,
            &mut config.contrast_probability,
            &mut config.low_resolution_probability,
            &mut config.gamma_inverted_probability,
            &mut config.gamma_probability,
            &mut config.bias_field.probability,
            &mut config.ghosting.probability,
            &mut config.motion.probability,
            &mut config.anisotropy.probability,
            &mut config.curve.probability,
            &mut config.reversal_probability,
            &mut config.non_contrast.probability,
            &mut config.mixing.probability,
            &mut config.synthetic.probability,
            &mut config.histogram.probability,
        ] {
            *probability = 0.0;
        }
        config
    }
}
