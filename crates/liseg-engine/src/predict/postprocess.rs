//! Cleaning a mask.

use crate::run::write_json;
use crate::{Error, Result};
use liseg_morphology::{
    Connectivity, Ties, bounding_region, fill_foreground_holes, keep_largest,
    keep_largest_foreground, remove_small_foreground,
};
use liseg_volume::LabelMap;
use ndarray::s;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One step of cleaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Step {
    /// Keep only the largest connected component (26 neighbours): there is one liver, and stray
    /// islands decide the Hausdorff distance. Components of exactly the same size are all kept, as
    /// in nnU-Net.
    KeepLargest {
        /// The labels that form components together; all of the foreground when empty.
        #[serde(default)]
        labels: Vec<u8>,
    },
    /// Fill cavities that the foreground encloses.
    FillHoles,
    /// Remove components of the foreground that are smaller.
    MinimumVolume {
        /// In millilitres.
        ml: f64,
    },
}

/// What is done to a mask after prediction, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postprocessing {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Postprocessing {
    /// The common choice: the largest component where `keep_largest`, then `fill_holes`, then no
    /// component below `minimum_ml`.
    pub fn of(keep_largest: bool, fill_holes: bool, minimum_ml: Option<f64>) -> Self {
        let largest = keep_largest.then(|| Step::KeepLargest { labels: Vec::new() });
        let filled = fill_holes.then_some(Step::FillHoles);
        let volume = minimum_ml.map(|ml| Step::MinimumVolume { ml });
        Self {
            steps: largest.into_iter().chain(filled).chain(volume).collect(),
        }
    }

    /// Cleans `mask` in place.
    pub fn apply(&self, mask: &mut LabelMap) {
        for step in &self.steps {
            step.apply(mask);
        }
    }

    /// Reads what [`Postprocessing::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Config`] naming the file for anything unknown in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = liseg_file::read_text(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|e| Error::Config {
            path: path.to_owned(),
            reason: format!("no post-processing: {e}"),
        })
    }

    /// Writes the steps as JSON, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }
}

impl std::fmt::Display for Postprocessing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("none");
        }
        for (i, step) in self.steps.iter().enumerate() {
            let comma = if i > 0 { ", then " } else { "" };
            match step {
                Step::KeepLargest { labels } if labels.is_empty() => {
                    write!(f, "{comma}largest component")?;
                }
                Step::KeepLargest { labels } => {
                    write!(f, "{comma}largest component of labels {labels:?}")?;
                }
                Step::FillHoles => write!(f, "{comma}holes filled")?,
                Step::MinimumVolume { ml } => write!(f, "{comma}components of {ml} ml and more")?,
            }
        }
        Ok(())
    }
}

impl Step {
    /// Applies the step to a mask, in place.
    pub fn apply(&self, mask: &mut LabelMap) {
        match self {
            Self::KeepLargest { labels } if labels.is_empty() => {
                keep_largest_foreground(mask, Connectivity::Vertex, Ties::All);
            }
            Self::KeepLargest { labels } => keep_largest_of(mask, labels),
            Self::FillHoles => {
                fill_foreground_holes(mask, Connectivity::Vertex);
            }
            Self::MinimumVolume { ml } => {
                let voxels = 1000.0 * ml / mask.affine().voxel_volume_mm3();
                let minimum = voxels.max(0.0).ceil() as usize;
                remove_small_foreground(mask, Connectivity::Vertex, minimum);
            }
        }
    }
}

fn keep_largest_of(mask: &mut LabelMap, labels: &[u8]) {
    let Some(region) = bounding_region(mask.data(), |l| labels.contains(l)) else {
        return;
    };
    let (a, b) = (region.start, region.end);
    let mut voxels = mask.data_mut();
    let mut part = voxels.slice_mut(s![a[0]..b[0], a[1]..b[1], a[2]..b[2]]);
    let chosen = part.map(|l| labels.contains(l));
    let kept = keep_largest(chosen.view(), Connectivity::Vertex, Ties::All);
    ndarray::Zip::from(&mut part)
        .and(&chosen)
        .and(&kept)
        .for_each(|label, &chosen, &kept| {
            if chosen && !kept {
                *label = 0;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::{Affine, Spacing, Volume};
    use ndarray::Array3;

    /// Two blocks of label 1 (27 and 8 voxels), a voxel of label 2 on each, a cavity in the first.
    fn mask() -> LabelMap {
        let mut data = Array3::<u8>::zeros((8, 8, 8));
        data.slice_mut(s![0..3, 1..4, 1..4]).fill(1);
        data[[1, 2, 2]] = 0;
        data[[3, 1, 1]] = 2;
        data.slice_mut(s![5..7, 5..7, 5..7]).fill(1);
        data[[7, 7, 7]] = 2;
        Volume::new(data, Affine::from_spacing(Spacing::ISOTROPIC_1MM)).unwrap()
    }

    fn count(mask: &LabelMap, label: u8) -> usize {
        mask.data().iter().filter(|&&l| l == label).count()
    }

    #[test]
    fn steps_do_what_they_say_in_order() {
        let mut all = mask();
        Postprocessing::of(true, true, None).apply(&mut all);
        assert_eq!((count(&all, 1), count(&all, 2)), (27, 1));
        assert_eq!(all.data()[[1, 2, 2]], 1, "the cavity is filled");

        let mut one = mask();
        Step::KeepLargest { labels: vec![1] }.apply(&mut one);
        assert_eq!((count(&one, 1), count(&one, 2)), (26, 2));
        // Ties: both voxels of label 2 are components of size 1.
        Step::KeepLargest { labels: vec![2] }.apply(&mut one);
        assert_eq!(count(&one, 2), 2);

        let mut small = mask();
        Step::MinimumVolume { ml: 0.0095 }.apply(&mut small);
        assert_eq!((count(&small, 1), count(&small, 2)), (26, 1));
    }

    #[test]
    fn survives_a_file_and_refuses_unknown_steps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postprocessing.json");
        let steps = Postprocessing::of(true, true, Some(2.5));
        steps.write(&path).unwrap();
        assert_eq!(Postprocessing::read(&path).unwrap(), steps);
        std::fs::write(&path, r#"{"steps": [{"step": "dilate"}]}"#).unwrap();
        let message = Postprocessing::read(&path).unwrap_err().to_string();
        assert!(message.contains("postprocessing.json") && message.contains("dilate"));
        let text = steps.to_string();
        assert_eq!(
            text,
            "largest component, then holes filled, then components of 2.5 ml and more"
        );
    }
}
