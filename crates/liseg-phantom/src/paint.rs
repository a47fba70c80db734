//! What lies at a point: the brightness, the organ, and whether it is liver.

use crate::anatomy::Anatomy;
use crate::body::Layers;
use crate::contrast::Palette;
use crate::liver::{Place, WARP_MM};
use crate::shape::Bounds;
use crate::tissue::{Organ, Tissue};
use crate::vector::{Point, sub};

/// What lies at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) brightness: f32,
    pub(crate) organ: Organ,
    pub(crate) liver: bool,
}

/// A painter of one patient in one phase.
pub(crate) struct Painter<'a> {
    anatomy: &'a Anatomy,
    palette: &'a Palette,
    /// How far the breath has moved the organs from where the anatomy puts them.
    breath: Point,
    /// Width over which one tissue gives way to the next: about one voxel.
    softness: f32,
}

/// The organs that can occur in a box, in the order of painting.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Place in the list of parts, and a box outside which it cannot be.
    parts: Vec<(usize, Bounds)>,
    liver: bool,
}

/// Colour under construction: later coats cover earlier ones.
struct Coat {
    brightness: f32,
    organ: Organ,
    softness: f32,
}

impl Coat {
    #[inline]
    fn cover(&mut self, distance: f32, brightness: f32, organ: Organ) {
        let share = (0.5 - distance / self.softness).clamp(0.0, 1.0);
        self.brightness += (brightness - self.brightness) * share;
        if distance < 0.0 {
            self.organ = organ;
        }
    }

    fn dry(self, liver: bool) -> Sample {
        Sample {
            brightness: self.brightness,
            organ: self.organ,
            liver,
        }
    }
}

impl<'a> Painter<'a> {
    pub(crate) fn new(
        anatomy: &'a Anatomy,
        palette: &'a Palette,
        breath: Point,
        softness: f32,
    ) -> Self {
        Self {
            anatomy,
            palette,
            breath,
            softness,
        }
    }

    /// All organs, with the boxes outside which they cannot be.
    pub(crate) fn all(&self) -> Candidates {
        // Waves of the surface and the warp move a boundary by less than this.
        let slack = self.softness + WARP_MM + 4.0;
        let parts = self.anatomy.parts.iter().enumerate();
        Candidates {
            parts: parts
                .map(|(index, part)| (index, part.bounds.grown(slack)))
                .collect(),
            liver: true,
        }
    }

    /// Those of `among` that can occur inside a box of the patient's frame, into `found`.
    pub(crate) fn narrow(&self, among: &Candidates, bounds: Bounds, found: &mut Candidates) {
        let moved = Bounds {
            low: sub(bounds.low, self.breath),
            high: sub(bounds.high, self.breath),
        };
        found.parts.clear();
        let near = among
            .parts
            .iter()
            .filter(|(_, reach)| reach.overlaps(&moved));
        found.parts.extend(near);
        found.liver = among.liver && self.anatomy.liver.bounds.overlaps(&moved);
    }

    /// What lies at a point of the patient's frame, of the given candidates.
    #[inline]
    pub(crate) fn sample(&self, p: Point, candidates: &Candidates) -> Sample {
        let anatomy = self.anatomy;
        let softness = self.softness;
        let mut coat = Coat {
            brightness: self.palette.plain(Tissue::Air),
            organ: Organ::Background,
            softness,
        };
        let layers = anatomy.body.layers(p);
        if layers.skin > softness {
            return coat.dry(false);
        }
        let grain = anatomy.texture.value(p);
        let paint = |tissue: Tissue| self.palette.textured(tissue, grain);
        // Organs stay inside the cavity, which the breath moves by much less than this.
        if layers.cavity > 20.0 {
            self.cover_wall(&mut coat, p, layers, paint);
            return coat.dry(false);
        }
        let place = anatomy.see(sub(p, self.breath));
        let mut liver = f32::INFINITY;
        if candidates.liver && anatomy.liver.bounds.contains(place.still) {
            liver = anatomy.liver.distance(&place);
        }
        // Deep inside the liver nothing below the last coats would be seen.
        if liver > -softness {
            if place.cavity.max(layers.cavity) > -softness {
                self.cover_wall(&mut coat, p, layers, paint);
            }
            coat.cover(place.cavity, paint(Tissue::VisceralFat), Organ::Fat);
            let lung = (place.cavity + 3.0).max(2.0 - place.above_diaphragm);
            if lung < softness {
                coat.cover(lung, paint(Tissue::Lung), Organ::Lungs);
                // Where two fields vanish at once runs a thread: a vessel. Turned, so that the
                // lattice of the fields does not show.
                let [x, y, z] = place.bent;
                let first = anatomy
                    .lobules
                    .value([x + 0.7 * y, y - 0.7 * z, z + 0.7 * x]);
                let second = anatomy
                    .lobules
                    .value([z - 0.7 * y, x + 0.7 * z, y + 0.7 * x]);
                let thread = 9.0 * (first * first + second * second).sqrt() - 1.2;
                let branch = thread.max(lung + 3.0);
                coat.cover(branch, 0.35 * paint(Tissue::HeartBlood), Organ::Lungs);
            }
            if anatomy.body.near_spine(p) {
                let spine = anatomy.body.spine(p);
                coat.cover(spine.bone, paint(Tissue::Marrow), Organ::Spine);
                coat.cover(spine.disc, paint(Tissue::Disc), Organ::Spine);
                coat.cover(spine.canal, paint(Tissue::Fluid), Organ::Spine);
                coat.cover(spine.cord, paint(Tissue::Cord), Organ::Spine);
            }
            for (index, reach) in &candidates.parts {
                if reach.contains(place.still) {
                    let part = &anatomy.parts[*index];
                    let distance =
                        part.distance(&place, &anatomy.surface, &anatomy.lobules, softness);
                    coat.cover(distance, paint(part.tissue), part.organ);
                }
            }
            coat.cover(liver, paint(Tissue::Liver), Organ::Liver);
        } else {
            coat.cover(-softness, paint(Tissue::Liver), Organ::Liver);
        }
        if candidates.liver {
            self.cover_vessels(&mut coat, place, liver, paint);
        }
        coat.dry(liver < 0.0)
    }

    /// Skin, fat, muscles and ribs.
    #[inline]
    fn cover_wall(&self, coat: &mut Coat, p: Point, layers: Layers, paint: impl Fn(Tissue) -> f32) {
        let body = &self.anatomy.body;
        coat.cover(layers.skin, paint(Tissue::Skin), Organ::Fat);
        coat.cover(layers.skin + 2.0, paint(Tissue::Fat), Organ::Fat);
        coat.cover(layers.wall, paint(Tissue::Muscle), Organ::Muscle);
        let fascia = body.fascia(p, layers).max(layers.wall);
        coat.cover(fascia, paint(Tissue::Fat), Organ::Muscle);
        coat.cover(body.rib(p, layers), paint(Tissue::Rib), Organ::Ribs);
    }

    /// Vessels and lesions of the liver; the trunk of the portal vein also outside it.
    #[inline]
    fn cover_vessels(
        &self,
        coat: &mut Coat,
        place: Place,
        surface: f32,
        paint: impl Fn(Tissue) -> f32,
    ) {
        let liver = &self.anatomy.liver;
        let portal = liver.portal.distance(place.bent);
        if surface < self.softness {
            let hepatic = liver.hepatic.distance(place.bent).max(surface);
            coat.cover(hepatic, paint(Tissue::HepaticVein), Organ::LiverVessels);
        }
        coat.cover(portal, paint(Tissue::PortalVein), Organ::LiverVessels);
        if surface < self.softness {
            for lesion in &liver.lesions {
                let lesion = lesion.distance(place.bent).max(surface);
                coat.cover(lesion, paint(Tissue::Lesion), Organ::LiverLesion);
            }
        }
    }
}
