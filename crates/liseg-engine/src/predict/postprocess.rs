//! Cleaning a mask.

use liseg_morphology::{Connectivity, Ties, fill_foreground_holes, keep_largest_foreground};
use liseg_volume::LabelMap;
use serde::{Deserialize, Serialize};

/// What is done to a mask after prediction, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postprocessing {
    /// Keep only the largest connected component (26 neighbours) of the foreground: there is one
    /// liver, and stray islands decide the Hausdorff distance.
    pub keep_largest: bool,
    /// Fill cavities that the foreground encloses.
    pub fill_holes: bool,
}

impl Postprocessing {
    /// Cleans `mask` in place.
    pub fn apply(self, mask: &mut LabelMap) {
        if self.keep_largest {
            keep_largest_foreground(mask, Connectivity::Vertex, Ties::First);
        }
        if self.fill_holes {
            fill_foreground_holes(mask, Connectivity::Vertex);
        }
    }
}
