//! What settings may be.

use super::AugmentConfig;
use crate::{Error, Interval, Result};

impl AugmentConfig {
    pub(super) fn check(&self) -> Result<()> {
        let probabilities = [
            ("rotation_probability", self.rotation_probability),
            ("scaling_probability", self.scaling_probability),
            ("noise_probability", self.noise_probability),
            ("blur_probability", self.blur_probability),
            ("blur_channel_probability", self.blur_channel_probability),
            ("brightness_probability", self.brightness_probability),
            ("contrast_probability", self.contrast_probability),
            (
                "low_resolution_probability",
                self.low_resolution_probability,
            ),
            (
                "low_resolution_channel_probability",
                self.low_resolution_channel_probability,
            ),
            (
                "gamma_inverted_probability",
                self.gamma_inverted_probability,
            ),
            ("gamma_probability", self.gamma_probability),
            ("mirror_probability", self.mirror_probability),
            ("crop_jitter", self.crop_jitter),
            ("elastic.probability", self.elastic.probability),
            ("bias_field.probability", self.bias_field.probability),
            ("ghosting.probability", self.ghosting.probability),
            ("motion.probability", self.motion.probability),
            ("anisotropy.probability", self.anisotropy.probability),
            ("curve.probability", self.curve.probability),
            ("curve.monotone_share", self.curve.monotone_share),
            ("reversal_probability", self.reversal_probability),
            ("non_contrast.probability", self.non_contrast.probability),
            ("mixing.probability", self.mixing.probability),
            ("synthetic.probability", self.synthetic.probability),
            ("histogram.probability", self.histogram.probability),
        ];
        for (field, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(field, value, "a probability from 0 to 1"));
            }
        }
        let turn = (-360.0, 360.0, "[low, high] within -360 and 360 degrees");
        let share = (0.0, 1.0, "[low, high] within 0 and 1");
        let any = (-100.0, 100.0, "[low, high] within -100 and 100");
        let factor = (0.01, 100.0, "[low, high] within 0.01 and 100");
        let ranges = [
            ("rotation_degrees", self.rotation_degrees, turn),
            (
                "rotation_degrees_in_plane",
                self.rotation_degrees_in_plane,
                turn,
            ),
            ("scaling", self.scaling, factor),
            (
                "noise_sigma",
                self.noise_sigma,
                (0.0, 1e6, "[low, high] within 0 and 1e6"),
            ),
            (
                "blur_sigma",
                self.blur_sigma,
                (0.0, 100.0, "[low, high] within 0 and 100 voxels"),
            ),
            ("brightness", self.brightness, factor),
            ("contrast", self.contrast, factor),
            (
                "low_resolution",
                self.low_resolution,
                (0.01, 1.0, "[low, high] within 0.01 and 1"),
            ),
            ("gamma_inverted", self.gamma_inverted, factor),
            ("gamma", self.gamma, factor),
            (
                "elastic.scale",
                self.elastic.scale,
                (0.0, 1000.0, "[low, high] within 0 and 1000"),
            ),
            (
                "elastic.magnitude",
                self.elastic.magnitude,
                (0.0, 1e4, "[low, high] within 0 and 10000"),
            ),
            (
                "bias_field.strength",
                self.bias_field.strength,
                (0.0, 10.0, "[low, high] within 0 and 10"),
            ),
            (
                "ghosting.ghosts",
                self.ghosting.ghosts,
                (2.0, 100.0, "[low, high] within 2 and 100"),
            ),
            ("ghosting.strength", self.ghosting.strength, share),
            (
                "motion.jumps",
                self.motion.jumps,
                (1.0, 63.0, "[low, high] within 1 and 63"),
            ),
            (
                "motion.distance",
                self.motion.distance,
                (0.0, 1000.0, "[low, high] within 0 and 1000 voxels"),
            ),
            (
                "anisotropy.thickness",
                self.anisotropy.thickness,
                (1.0, 100.0, "[low, high] within 1 and 100 voxels"),
            ),
            ("non_contrast.shift", self.non_contrast.shift, any),
            ("non_contrast.vessels", self.non_contrast.vessels, any),
            ("mixing.share", self.mixing.share, share),
            ("synthetic.detail", self.synthetic.detail, share),
            ("histogram.share", self.histogram.share, share),
        ];
        for (field, Interval { low, high }, (least, most, expected)) in ranges {
            if !(least <= low && low <= high && high <= most) {
                return Err(wrong(field, format!("[{low}, {high}]"), expected));
            }
        }
        if !(self.in_plane_ratio >= 1.0 && self.in_plane_ratio.is_finite()) {
            return Err(wrong(
                "in_plane_ratio",
                self.in_plane_ratio,
                "a number not below 1",
            ));
        }
        let counts = [
            ("curve.points", self.curve.points, 2..=32, "2 to 32"),
            ("mixing.layers", self.mixing.layers, 1..=8, "1 to 8"),
            ("mixing.hidden", self.mixing.hidden, 1..=8, "1 to 8"),
            (
                "synthetic.supervoxel",
                self.synthetic.supervoxel,
                2..=1000,
                "2 to 1000",
            ),
            (
                "synthetic.tissues",
                self.synthetic.tissues,
                1..=256,
                "1 to 256",
            ),
        ];
        for (field, found, range, expected) in counts {
            if !range.contains(&found) {
                return Err(wrong(field, found, expected));
            }
        }
        let references = &self.histogram.references;
        if let Some(row) = references
            .iter()
            .find(|row| row.iter().any(|v| !v.is_finite()))
        {
            let expected = "rows of 11 finite numbers";
            return Err(wrong("histogram.references", format!("{row:?}"), expected));
        }
        Ok(())
    }
}

fn wrong(field: &'static str, found: impl ToString, expected: &'static str) -> Error {
    Error::Config {
        field,
        found: found.to_string(),
        expected,
    }
}
