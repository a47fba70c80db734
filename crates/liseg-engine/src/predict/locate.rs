//! Finding the liver before segmenting it.

use super::{Model, Tta};
use crate::Result;
use liseg_data::{PreprocessedImage, Restore};
use liseg_morphology::{Connectivity, Ties, bounding_region, keep_largest_foreground};
use liseg_volume::{Region, Volume};

/// Who finds the liver, and how much is kept around it.
#[derive(Debug)]
pub(crate) struct Coarse {
    pub(super) margin_mm: f64,
    pub(super) by: Option<Box<Model>>,
}

/// The box of the largest component of the foreground in the canonical image, by tiles that do not overlap.
/// The outer `None`: stopped; the inner: nothing was found.
pub(super) fn find(
    model: &Model,
    image: &PreprocessedImage,
    on_tile: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Option<Region>>> {
    let window = model.window().moving(1.0, Tta::None)?;
    let Some(maps) = model.labels_with(&window, image, on_tile)? else {
        return Ok(None);
    };
    let mut labels = Volume::new(maps.labels, image.restore.canonical().affine)?;
    keep_largest_foreground(&mut labels, Connectivity::Vertex, Ties::First);
    Ok(Some(bounding_region(labels.data(), |&l| l > 0)))
}

/// A box of the canonical image on the plan's grid, with a margin, and at least as large as a tile where the
/// image is; `None` when it is the whole image anyway.
pub(super) fn on_plan_grid(
    liver: Region,
    margin_mm: f64,
    tile: [usize; 3],
    restore: &Restore,
) -> Option<Region> {
    let (crop, shape) = (restore.region(), restore.plan_shape());
    let (cropped, spacing) = (restore.cropped_shape(), restore.plan_spacing().zyx());
    let along = |a: usize| {
        let scale = shape[a] as f64 / cropped[a] as f64;
        let margin = margin_mm / spacing[a];
        let place = |voxel: usize| voxel.saturating_sub(crop.start[a]) as f64 * scale;
        let start = (place(liver.start[a]) - margin).floor().max(0.0) as usize;
        let end = (place(liver.end[a]) + margin).ceil() as usize;
        let (start, end) = (start.min(shape[a]), end.min(shape[a]));
        let missing = tile[a].saturating_sub(end.saturating_sub(start));
        let start = start.saturating_sub(missing / 2);
        let end = (start + tile[a]).max(end).min(shape[a]);
        (end.saturating_sub(tile[a]).min(start), end)
    };
    let found = Region {
        start: std::array::from_fn(|a| along(a).0),
        end: std::array::from_fn(|a| along(a).1),
    };
    (found != Region::full(shape)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_has_its_margin_and_room_for_a_tile() {
        let affine = liseg_volume::Affine::from_spacing(liseg_volume::Spacing::ISOTROPIC_1MM);
        let grid = serde_json::json!({"shape": [40, 100, 100], "affine": affine});
        let text = serde_json::json!({
            "source": grid,
            "canonical": grid,
            "region": {"start": [0, 10, 0], "end": [40, 90, 100]},
            "plan_spacing": [2.0, 2.0, 2.0],
            "plan_shape": [40, 40, 50],
        });
        let restore: Restore = serde_json::from_value(text).unwrap();
        let liver = Region {
            start: [10, 30, 40],
            end: [20, 50, 60],
        };
        let found = on_plan_grid(liver, 4.0, [8, 8, 8], &restore).unwrap();
        assert_eq!(
            found,
            Region {
                start: [8, 8, 18],
                end: [22, 22, 32]
            }
        );
        let found = on_plan_grid(liver, 0.0, [30, 32, 16], &restore).unwrap();
        assert_eq!(found.shape(), [30, 32, 16]);
        assert!(found.start[0] <= 10 && found.end[0] >= 20);
        assert_eq!(on_plan_grid(liver, 500.0, [8, 8, 8], &restore), None);
    }
}
