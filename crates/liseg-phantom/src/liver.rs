//! The liver: two lobes under the diaphragm, cut from below by the organs they rest on.

use crate::body::Body;
use crate::islands::Lattice;
use crate::noise::Noise;
use crate::shape::{Bounds, Solid, smooth_max, smooth_min};
use crate::vector::{Point, add, dot, length, rotation, scale, sub};
use crate::vessels::Tree;
use rand::{Rng, RngExt};

/// Volumes are measured on a lattice this fine while the size is searched.
const LATTICE_MM: f32 = 7.0;
/// Pieces that hang on to the liver are looked for on a lattice this fine.
const ISLAND_LATTICE_MM: f32 = 4.0;
/// Halvings of the size interval; the last step changes the volume by less than 1 %.
const SEARCH_STEPS: usize = 8;
/// Width over which impressions are rounded.
const SEAM_MM: f32 = 8.0;
/// The liver ends this far below the diaphragm and inside the cavity.
const LID_MM: f32 = 2.5;
/// Further than this outside the lobes no cut changes the distance.
const FAR_MM: f32 = 14.0;
/// Amplitude of the warp that bends all organs; bounds are grown by it.
pub(crate) const WARP_MM: f32 = 7.0;

/// A point as the organs see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// In the frame that moves with the breath.
    pub(crate) still: Point,
    /// The same, bent by the patient's warp.
    pub(crate) bent: Point,
    /// Distance to the wall of the body's cavity, negative inside.
    pub(crate) cavity: f32,
    /// Height above the diaphragm.
    pub(crate) above_diaphragm: f32,
}

/// How the organs of one patient see points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) body: &'a Body,
    pub(crate) warp: &'a Noise<3>,
}

impl Frame<'_> {
    #[inline]
    pub(crate) fn see(&self, still: Point) -> Place {
        Place {
            still,
            bent: self.bent(still),
            cavity: self.body.layers(still).cavity,
            above_diaphragm: self.body.above_diaphragm(still),
        }
    }

    #[inline]
    fn bent(&self, still: Point) -> Point {
        add(still, scale(self.warp.at(still), WARP_MM))
    }
}

/// A solid that takes away from an organ, with a layer of fat between both.
#[derive(Debug, Clone)]
pub(crate) struct Impression {
    pub(crate) solid: Solid,
    pub(crate) gap: f32,
    /// Outside this box nothing is taken away.
    pub(crate) reach: Bounds,
}

impl Impression {
    pub(crate) fn new(solid: Solid, gap: f32) -> Self {
        // Beyond, the cut lies 20 mm inside: it moves no surface.
        let reach = solid.bounds().grown(gap + 20.0);
        Self { solid, gap, reach }
    }
}

/// One patient's liver with its vessels and lesions.
#[derive(Debug, Clone)]
pub(crate) struct Liver {
    outline: Outline,
    pub(crate) bounds: Bounds,
    pub(crate) portal: Tree,
    pub(crate) hepatic: Tree,
    pub(crate) lesions: Vec<Solid>,
}

/// What the surface of one patient's liver is drawn from.
#[derive(Debug, Clone)]
struct Outline {
    right: Solid,
    left: Solid,
    /// A plane (normal downwards, point on it): the liver lies above it.
    underside: (Point, Point),
    impressions: Vec<Impression>,
    surface: Noise<1>,
    nodules: Noise<1>,
    nodule_mm: f32,
}

/// Draws of one patient that do not depend on the liver's size.
struct Draw {
    right_centre: Point,
    right_radii: Point,
    left_centre: Point,
    left_radii: Point,
    left_turn: Point,
    tilt: (f32, f32),
    height: f32,
}

impl Outline {
    fn new(
        draw: &Draw,
        size: f32,
        body: &Body,
        noises: (Noise<1>, Noise<1>, f32),
        impressions: Vec<Impression>,
    ) -> Self {
        let radii = |r: Point| r.map(|v| v * size * body.size());
        // Larger livers reach further down, less far up: the diaphragm is in the way.
        let on_plane = body.place([125.0, 0.0, draw.height - 95.0 * (size - 1.0)]);
        let (across, depth) = draw.tilt;
        let steepness = (1.0 + across * across + depth * depth).sqrt();
        Self {
            right: Solid::Ellipsoid {
                centre: body.place(draw.right_centre),
                radii: radii(draw.right_radii),
                axes: rotation(0.0, 0.12, 0.0),
            },
            left: Solid::Ellipsoid {
                centre: body.place(draw.left_centre),
                radii: radii(draw.left_radii),
                axes: rotation(draw.left_turn[0], draw.left_turn[1], draw.left_turn[2]),
            },
            underside: (
                [-across / steepness, -depth / steepness, -1.0 / steepness],
                on_plane,
            ),
            impressions,
            surface: noises.0,
            nodules: noises.1,
            nodule_mm: noises.2,
        }
    }

    #[inline]
    fn distance(&self, place: &Place) -> f32 {
        let p = place.bent;
        let lobes = self.lobes(p);
        // Cuts only add to the distance: far outside nothing else matters.
        if lobes > FAR_MM {
            return lobes;
        }
        let lobes = lobes + 4.5 * self.surface.value(p) + self.nodule_mm * self.nodules.value(p);
        let below = self.below(p) + 5.0 * self.surface.value([p[1], p[0], p[2]]);
        let mut distance = smooth_max(lobes, below, 22.0);
        for Impression { solid, gap, reach } in &self.impressions {
            if reach.contains(p) {
                distance = smooth_max(distance, gap - solid.distance(p), SEAM_MM);
            }
        }
        // Last and nearly sharp: the liver fills the dome and touches the wall.
        let lid = place.above_diaphragm.max(place.cavity) + LID_MM;
        smooth_max(distance, lid, 6.0)
    }

    /// Whether a point is nearer than `level`, at most 0, to the surface or beyond it: [`Self::distance`] of most points that
    /// are not is never computed, because it is no less than the height above the lid nor, far outside, than that of the lobes.
    fn contains(&self, still: Point, level: f32, frame: Frame<'_>) -> bool {
        frame.body.above_diaphragm(still) + LID_MM < level
            && self.lobes(frame.bent(still)) <= FAR_MM
            && self.distance(&frame.see(still)) < level
    }

    #[inline]
    fn lobes(&self, bent: Point) -> f32 {
        smooth_min(self.right.distance(bent), self.left.distance(bent), 26.0)
    }

    /// Distance below the underside; negative above it, where the liver is.
    fn below(&self, p: Point) -> f32 {
        let (normal, point) = self.underside;
        dot(normal, p) - dot(normal, point)
    }

    /// Cuts away what the impressions have left of the liver beside its main piece.
    fn sink_islands(&mut self, frame: Frame<'_>) {
        let lattice = Lattice::new(self.bounds(), ISLAND_LATTICE_MM);
        // Cuts only take away: what lies outside before them is not asked for again.
        let inside = |p| self.contains(p, 0.0, frame);
        let before: Vec<bool> = lattice.points().map(inside).collect();
        // First what hangs on by less than a millimetre or so, then what hangs on by nothing; a cut
        // can bare another island.
        for level in [-0.8, 0.0] {
            for _ in 0..3 {
                let asked = lattice.points().zip(&before);
                let inside = asked.map(|(p, &was)| was && self.contains(p, level, frame));
                let islands = lattice.islands(inside.collect());
                if islands.is_empty() {
                    break;
                }
                let balls: Vec<_> = islands
                    .iter()
                    .map(|island| Impression::new(ball_around(island, frame), 0.0))
                    .collect();
                self.impressions.extend(balls);
            }
        }
    }

    fn bounds(&self) -> Bounds {
        self.right.bounds().union(self.left.bounds()).grown(13.0)
    }
}

/// A ball that covers lattice points, in the bent frame.
fn ball_around(points: &[Point], frame: Frame<'_>) -> Solid {
    let points: Vec<Point> = points.iter().map(|p| frame.bent(*p)).collect();
    let count = points.len().max(1) as f32;
    let centre = std::array::from_fn(|a| points.iter().map(|p| p[a]).sum::<f32>() / count);
    let reach = points.iter().map(|p| length(sub(*p, centre)));
    let radius = reach.fold(0.0, f32::max) + ISLAND_LATTICE_MM;
    Solid::capsule(centre, centre, radius, radius)
}

/// Up to `count` random points that lie at least `least` millimetres below the surface.
fn deep_points(inner: &[(Point, f32)], count: usize, least: f32, rng: &mut impl Rng) -> Vec<Point> {
    let deep: Vec<Point> = inner
        .iter()
        .filter(|(_, distance)| *distance < -least)
        .map(|(p, _)| *p)
        .collect();
    if deep.is_empty() {
        return deep;
    }
    (0..count)
        .map(|_| deep[rng.random_range(0..deep.len())])
        .collect()
}

impl Liver {
    /// Draws a liver of about `volume_ml`: the size is searched until the volume fits.
    ///
    /// `stage` is the fibrosis stage, 1 to 4: scarred livers have a nodular surface and a larger
    /// left lobe. `frame` tells how the organs see a point.
    pub(crate) fn sample(
        volume_ml: f32,
        stage: u8,
        impressions: &[Impression],
        frame: Frame<'_>,
        rng: &mut impl Rng,
    ) -> Self {
        let body = frame.body;
        let scarring = f32::from(stage.saturating_sub(1)) / 3.0;
        let mut vary = |by: f32| rng.random_range(-by..by);
        let draw = Draw {
            right_centre: [70.0 + vary(5.0), 2.0 + vary(6.0), 14.0 + vary(8.0)],
            right_radii: [78.0 + vary(6.0), 86.0 + vary(8.0), 92.0 + vary(10.0)],
            left_centre: [
                0.0 + vary(14.0),
                46.0 + vary(7.0),
                34.0 + vary(8.0) - 6.0 * scarring,
            ],
            left_radii: [
                70.0 + vary(17.0) + 10.0 * scarring,
                31.0 + vary(6.0),
                35.0 + vary(8.0) + 5.0 * scarring,
            ],
            left_turn: [vary(0.2), 0.28 + vary(0.2), 0.12 + vary(0.22)],
            tilt: (0.46 + vary(0.14), 0.28 + vary(0.16)),
            height: -78.0 + vary(12.0),
        };
        let noises = (
            Noise::new(48.0, rng),
            Noise::new(11.0, rng),
            0.3 + 1.7 * scarring * scarring,
        );
        let outline =
            |size: f32| Outline::new(&draw, size, body, noises.clone(), impressions.to_vec());
        // Volume grows with size: halve the interval.
        let (mut small, mut large) = (0.6, 1.5);
        for _ in 0..SEARCH_STEPS {
            let middle = 0.5 * (small + large);
            let candidate = outline(middle);
            let inside = Lattice::new(candidate.bounds(), LATTICE_MM)
                .points()
                .filter(|&p| candidate.contains(p, 0.0, frame))
                .count();
            if inside as f32 * LATTICE_MM.powi(3) / 1000.0 < volume_ml {
                small = middle;
            } else {
                large = middle;
            }
        }
        let mut outline = outline(0.5 * (small + large));
        outline.sink_islands(frame);
        let inner: Vec<(Point, f32)> = Lattice::new(outline.bounds(), LATTICE_MM)
            .points()
            .filter(|&p| outline.contains(p, 0.0, frame))
            .map(|p| (p, outline.distance(&frame.see(p))))
            .collect();
        let bounds = Bounds::around(&inner.iter().map(|(p, _)| *p).collect::<Vec<_>>())
            .grown(LATTICE_MM + 2.0);
        // Vessels and lesions are drawn in the bent frame, as organs are.
        let deep = |count: usize, least: f32, rng: &mut _| -> Vec<Point> {
            let points = deep_points(&inner, count, least, rng);
            points.into_iter().map(|p| frame.bent(p)).collect()
        };
        let portal_targets = deep(24, 7.0, rng);
        let portal = Tree::grow(body.place([12.0, 8.0, -34.0]), portal_targets, rng);
        let hepatic_targets = deep(16, 9.0, rng);
        let mut confluence = body.place([21.0, -4.0, 0.0]);
        confluence[2] = body.dome_height() - 24.0;
        let hepatic = Tree::grow(confluence, hepatic_targets, rng);
        let count = if rng.random_bool(0.35) {
            rng.random_range(1..4)
        } else {
            0
        };
        let lesions = deep(count, 10.0, rng)
            .into_iter()
            .map(|centre| {
                let radius = rng.random_range(4.0..13.0);
                Solid::capsule(centre, centre, radius, radius)
            })
            .collect();
        Self {
            outline,
            bounds,
            portal,
            hepatic,
            lesions,
        }
    }

    /// Signed distance to the liver's surface, to first order; negative inside.
    #[inline]
    pub(crate) fn distance(&self, place: &Place) -> f32 {
        self.outline.distance(place)
    }
}
