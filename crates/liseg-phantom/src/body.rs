//! The container of the organs: skin, fat, muscle wall, ribs, spine, diaphragm.
//!
//! A *template* patient is described once, in millimetres from a point in front of the first lumbar
//! vertebra; [`Body::place`] carries template positions to a patient of another build.

use crate::noise::Noise;
use crate::shape::smooth_max;
use crate::vector::Point;
use rand::{Rng, RngExt};

/// Half the inner width, spine and inner front of the template patient.
const TEMPLATE_HALF_WIDTH: f32 = 134.0;
const TEMPLATE_SPINE_Y: f32 = -35.0;
const TEMPLATE_DEPTH: f32 = 117.0;
/// From one rib to the next and from one vertebra to the next, along the body.
const RIB_STEP_MM: f32 = 27.0;
const VERTEBRA_STEP_MM: f32 = 34.0;

/// The build of one patient.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    half_width: f32,
    half_depth: f32,
    fat: f32,
    wall: f32,
    spine_y: f32,
    scale: Point,
    dome_right: Point,
    dome_left: Point,
    rib_phase: f32,
    vertebra_phase: f32,
    surface: Noise<1>,
}

/// Signed distances to the layers of the trunk, negative inside, in millimetres.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    pub(crate) skin: f32,
    pub(crate) wall: f32,
    pub(crate) cavity: f32,
}

/// Signed distances to the parts of the spine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spine {
    pub(crate) bone: f32,
    pub(crate) disc: f32,
    pub(crate) canal: f32,
    pub(crate) cord: f32,
}

impl Body {
    pub(crate) fn sample(rng: &mut impl Rng) -> Self {
        // Trunk widths of adults, about 29 to 37 cm; stout patients carry more fat.
        let half_width = rng.random_range(147.0..184.0f32);
        let stoutness = (half_width - 147.0) / 37.0;
        let half_depth = half_width * rng.random_range(0.63..0.72);
        let fat = 5.0 + 13.0 * stoutness + rng.random_range(0.0..7.0);
        let wall = rng.random_range(10.0..14.0);
        let spine_y = -half_depth + fat + rng.random_range(52.0..58.0);
        let front = half_depth - fat - 8.0;
        let scale = [
            (half_width - fat - wall) / TEMPLATE_HALF_WIDTH,
            (front - spine_y) / TEMPLATE_DEPTH,
            rng.random_range(0.94..1.07),
        ];
        let mut body = Self {
            half_width,
            half_depth,
            fat,
            wall,
            spine_y,
            scale,
            dome_right: [0.0; 3],
            dome_left: [0.0; 3],
            rib_phase: rng.random_range(0.0..RIB_STEP_MM),
            vertebra_phase: rng.random_range(0.0..VERTEBRA_STEP_MM),
            surface: Noise::new(95.0, rng),
        };
        let right_z = rng.random_range(78.0..92.0);
        let left_z = right_z - rng.random_range(8.0..20.0);
        body.dome_right = body.place([68.0, 6.0, right_z]);
        body.dome_left = body.place([-68.0, 2.0, left_z]);
        body
    }

    /// Where a point of the template lies in this patient.
    pub(crate) fn place(&self, [x, y, z]: Point) -> Point {
        [
            x * self.scale[0],
            self.spine_y + (y - TEMPLATE_SPINE_Y) * self.scale[1],
            z * self.scale[2],
        ]
    }

    /// How much larger organs are than the template's.
    pub(crate) fn size(&self) -> f32 {
        self.scale.iter().product::<f32>().cbrt()
    }

    /// Height of the right dome of the diaphragm.
    pub(crate) fn dome_height(&self) -> f32 {
        self.dome_right[2]
    }

    /// Half the outer width of the trunk.
    pub(crate) fn half_width(&self) -> f32 {
        self.half_width
    }

    /// Half the outer depth of the trunk.
    pub(crate) fn half_depth(&self) -> f32 {
        self.half_depth
    }

    /// The layers of the trunk at a point.
    #[inline]
    pub(crate) fn layers(&self, p: Point) -> Layers {
        let [x, y, _] = p;
        let (u, v) = (x / self.half_width, y / self.half_depth);
        let (u2, v2) = (u * u, v * v);
        // Between an ellipse and a fourth-power superellipse: a trunk is flatter than an ellipse.
        let level = 0.5 * ((u2 + v2).sqrt() + (u2 * u2 + v2 * v2).sqrt().sqrt());
        // Distance along the ray from the body's axis; on the axis there is no ray.
        let radius = (x * x + y * y).sqrt();
        let mut skin = if level > 0.05 {
            radius - radius / level
        } else {
            radius - self.half_depth
        };
        let wave = self.surface.value(p);
        skin += 5.0 * wave;
        if v < 0.0 {
            // The furrow over the spine.
            skin += 6.0 * v2.min(1.0) / (1.0 + x * x / 400.0);
        }
        let wall = skin + self.fat * (1.0 + 0.3 * wave + 0.25 * (u2 - 0.5) - 0.15 * v);
        // Behind the organs lie the muscles of the back; the lungs reach further back at the sides.
        let aside = ((x.abs() - 18.0) / 34.0).clamp(0.0, 1.0);
        let back = self.spine_y - 14.0 - 32.0 * aside * aside * (3.0 - 2.0 * aside) - y;
        let cavity = smooth_max(wall + self.wall - 4.0 * v.max(0.0), back, 18.0);
        Layers { skin, wall, cavity }
    }

    /// Height above (+) or below (−) the diaphragm, in millimetres.
    #[inline]
    pub(crate) fn above_diaphragm(&self, [x, y, z]: Point) -> f32 {
        let dome = |apex: Point, side: f32| {
            // Steep towards the chest wall, flat towards the middle (the central tendon).
            let outward = (x - apex[0]) * side;
            let steepness = if outward > 0.0 { 0.0135 } else { 0.0038 };
            let dy = y - apex[1];
            let depth_steepness = if dy < 0.0 { 0.0115 } else { 0.0075 };
            apex[2] - steepness * outward * outward - depth_steepness * dy * dy
        };
        let height = smooth_max(dome(self.dome_right, 1.0), dome(self.dome_left, -1.0), 16.0);
        // The surface is steep where it meets the wall: shorten to about a distance.
        (z - height) * 0.7
    }

    /// Signed distance to the ribs, which run in the wall and fall towards the front.
    #[inline]
    pub(crate) fn rib(&self, [x, y, z]: Point, layers: Layers) -> f32 {
        let middle = (layers.wall + 0.55 * self.wall).abs() - 3.6;
        let along = (z + 0.55 * y + 0.12 * x.abs() + self.rib_phase) / RIB_STEP_MM;
        let around = ((along - along.floor()) - 0.5).abs() * RIB_STEP_MM - 5.5;
        // The costal margin rises to the breastbone; no ribs beside the spinous processes.
        let below = -62.0 + 0.9 * (y + 60.0).max(0.0) - 0.35 * (x.abs() - 60.0).max(0.0) - z;
        middle.max(around).max(below).max(26.0 - x.abs())
    }

    /// Signed distance to the sheets of fat between the muscles of the wall: along the wall at the
    /// sides, and between the left and the right in front.
    #[inline]
    pub(crate) fn fascia(&self, [x, y, _]: Point, layers: Layers) -> f32 {
        let depth = -layers.wall / self.wall;
        let side = ((x.abs() - 55.0) / 30.0).clamp(0.0, 1.0);
        let layer = (depth - 0.36).abs().min((depth - 0.7).abs()) * self.wall - 0.7 * side;
        let middle = if y > 0.0 {
            x.abs() - 2.5
        } else {
            f32::INFINITY
        };
        let back = if y < self.spine_y - 20.0 {
            ((x.abs() - 27.0).abs() - 1.0).max(self.spine_y - 34.0 - y)
        } else {
            f32::INFINITY
        };
        layer.min(middle).min(back).max(layers.wall)
    }

    /// Whether a point can lie in the spine.
    #[inline]
    pub(crate) fn near_spine(&self, [x, y, _]: Point) -> bool {
        x.abs() < 45.0 && y < self.spine_y + 30.0
    }

    /// The spine at a point.
    #[inline]
    pub(crate) fn spine(&self, [x, y, z]: Point) -> Spine {
        let along = (z + self.vertebra_phase) / VERTEBRA_STEP_MM;
        let from_disc = ((along - along.floor()) - 0.5).abs() * VERTEBRA_STEP_MM;
        let y = y - self.spine_y;
        let size = self.size();
        // A waist half-way between two discs.
        let waist = 2.2 * (from_disc / 17.0).min(1.0);
        let (width, depth) = (23.0 * size - waist, 17.0 * size - waist);
        let level = (x * x / (width * width) + y * y / (depth * depth)).sqrt();
        let column = (level - 1.0) * depth;
        let behind = y + 26.0 * size;
        let from_canal = (x * x + behind * behind).sqrt();
        // The arch around the canal and the spinous process behind it, one for each vertebra.
        let arch = (from_canal - 12.5).max(9.0 - from_disc);
        let process = (x.abs() - 3.2)
            .max(y + 36.0)
            .max(-62.0 - y)
            .max(7.0 - from_disc);
        let foot = (x.abs() - 36.0)
            .max(behind.abs() - 4.5)
            .max((from_disc - 14.0).abs() - 5.0);
        Spine {
            bone: column.min(arch).min(process).min(foot),
            disc: column.max(from_disc - 4.2),
            canal: from_canal - 8.5,
            cord: from_canal - 4.2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;

    #[test]
    fn layers_are_nested_and_the_diaphragm_has_two_domes() {
        for sample in 0..20 {
            let body = Body::sample(&mut Seed(1).stream("body", 0, sample));
            for i in 0..2000u32 {
                let p = [
                    (i % 20) as f32 * 20.0 - 190.0,
                    (i / 20 % 10) as f32 * 25.0 - 112.0,
                    (i / 200) as f32 * 30.0 - 150.0,
                ];
                let layers = body.layers(p);
                assert!(layers.skin < layers.wall && layers.wall < layers.cavity);
            }
            assert!(body.layers(body.place([0.0, 0.0, 0.0])).cavity < -20.0);
            let below = |mut apex: Point, dz: f32| {
                apex[2] += dz;
                body.above_diaphragm(apex)
            };
            for apex in [body.dome_right, body.dome_left] {
                assert!(below(apex, -8.0) < 0.0 && below(apex, 8.0) > 0.0);
            }
            assert!(body.dome_right[2] > body.dome_left[2]);
        }
    }
}
