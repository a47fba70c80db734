//! Pictures of the best and the worst validation case.

use crate::tensorboard::EventWriter;
use crate::{Error, Result};
use liseg_data::StoredCase;
use liseg_picture::{Layout, overlay};
use liseg_volume::{Affine, Volume};
use ndarray::Array3;
use std::sync::Arc;

/// Outlines of reference and prediction, as in reports: amber and blue are apart for the colour-blind,
/// and apart from grey.
const REFERENCE: [u8; 3] = [255, 176, 32];
const PREDICTION: [u8; 3] = [64, 196, 255];

/// A case with what was predicted for it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) case: Arc<StoredCase>,
    pub(crate) dice: f64,
    /// Foreground on the plan's grid.
    pub(crate) mask: Array3<u8>,
}

/// The best and the worst of the cases seen, the first of equals.
#[derive(Debug, Default)]
pub(crate) struct Extremes {
    best: Option<Shown>,
    /// `None` while there is but one case.
    worst: Option<Shown>,
}

impl Extremes {
    /// Looks at one more case.
    pub(crate) fn see(&mut self, case: Shown) {
        let Some(best) = &self.best else {
            self.best = Some(case);
            return;
        };
        if case.dice > best.dice {
            let former = self.best.replace(case);
            self.worst = self.worst.take().or(former);
        } else if self
            .worst
            .as_ref()
            .is_none_or(|worst| case.dice < worst.dice)
        {
            self.worst = Some(case);
        }
    }

    /// Draws both in three planes, each with its reference and its prediction, as `overlay/best` and
    /// `overlay/worst`.
    pub(crate) fn write_events(&self, step: u64, events: &mut EventWriter) -> Result<()> {
        for (tag, shown) in [("overlay/best", &self.best), ("overlay/worst", &self.worst)] {
            let Some(shown) = shown else { continue };
            // A case too long for a picture is left out; training goes on.
            match picture(shown) {
                Ok(picture) => {
                    let size = (picture.width, picture.height);
                    let png = picture.to_png().map_err(unseen)?;
                    events.image(step, tag, size, &png)?;
                }
                Err(error) => tracing::warn!("{}: {error}", shown.case.id()),
            }
        }
        Ok(())
    }
}

fn unseen(error: liseg_picture::Error) -> Error {
    Error::Setting {
        field: "validation",
        reason: format!("a picture of a case cannot be made: {error}"),
    }
}

fn picture(shown: &Shown) -> Result<liseg_picture::Picture> {
    let Shown { case, dice, mask } = shown;
    let affine = Affine::from_spacing(case.restore().plan_spacing());
    let image = Volume::new(case.image().into_owned(), affine)?;
    let mut outlines = Vec::new();
    if let Some(label) = case.label() {
        let label = label.mapv(|label| u8::from(label > 0));
        outlines.push((Volume::new(label, affine)?, REFERENCE));
    }
    outlines.push((Volume::new(mask.clone(), affine)?, PREDICTION));
    let outlines: Vec<_> = outlines.iter().map(|(mask, c)| (mask, *c)).collect();
    let caption = format!(
        "{}: Dice {dice:.3}; reference amber, prediction blue",
        case.id()
    );
    let layout = Layout::three_planes().with_caption(caption);
    overlay(&image, &outlines, &layout).map_err(unseen)
}
