//! Organs other than the liver, from a table of solids in the template patient.

use crate::body::Body;
use crate::liver::{Impression, Place};
use crate::noise::Noise;
use crate::shape::{Bounds, Solid, smooth_max, smooth_min};
use crate::tissue::{Organ, Tissue};
use crate::vector::{Point, rotation, scale};
use rand::{Rng, RngExt};

/// A piece of an organ made of one tissue.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) organ: Organ,
    pub(crate) tissue: Tissue,
    /// United with rounded seams.
    pub(crate) solids: Vec<Solid>,
    /// The part lies this far inside the solids: a content within its wall.
    pub(crate) inset: f32,
    /// Amplitude of the surface's waves at two wavelengths (33 and 13 mm).
    pub(crate) roughness: [f32; 2],
    /// Only above this height y: gas over fluid in a patient who lies on the back.
    pub(crate) above_y: Option<f32>,
    /// Kept inside the cavity and below the diaphragm.
    pub(crate) confined: bool,
    /// What takes away from it.
    pub(crate) impressions: Vec<Impression>,
    /// Distance the liver keeps from it; `None`: the liver takes no notice of it.
    pub(crate) dents_liver_mm: Option<f32>,
    pub(crate) bounds: Bounds,
}

impl Part {
    fn new(organ: Organ, tissue: Tissue, solids: Vec<Solid>) -> Self {
        let bounds = solids
            .iter()
            .fold(Bounds::EMPTY, |all, solid| all.union(solid.bounds()));
        Self {
            organ,
            tissue,
            solids,
            inset: 0.0,
            roughness: [1.0, 0.0],
            above_y: None,
            confined: true,
            impressions: Vec::new(),
            dents_liver_mm: None,
            bounds,
        }
    }

    fn rough(mut self, coarse: f32, fine: f32) -> Self {
        self.roughness = [coarse, fine];
        self
    }

    /// A tissue inside this part, `inset` millimetres below its surface.
    fn content(&self, tissue: Tissue, inset: f32) -> Self {
        Self {
            tissue,
            inset: self.inset + inset,
            dents_liver_mm: None,
            ..self.clone()
        }
    }

    /// Signed distance to the part, or some distance above `enough`; the noises are those of
    /// [`Part::roughness`].
    #[inline]
    pub(crate) fn distance(
        &self,
        place: &Place,
        surface: &Noise<1>,
        lobules: &Noise<1>,
        enough: f32,
    ) -> f32 {
        let p = place.bent;
        let mut distance = self
            .solids
            .iter()
            .map(|solid| solid.distance(p))
            .reduce(|a, b| smooth_min(a, b, 9.0))
            .unwrap_or(f32::INFINITY)
            + self.inset;
        // The waves can lift the surface by their amplitude; cuts only add to the distance.
        distance -= self.roughness[0] + self.roughness[1];
        if distance > enough {
            return distance;
        }
        if self.roughness[0] > 0.0 {
            distance += self.roughness[0] * (1.0 + surface.value(p));
        }
        if self.roughness[1] > 0.0 {
            distance += self.roughness[1] * (1.0 + lobules.value(p));
        }
        for Impression { solid, gap, reach } in &self.impressions {
            if reach.contains(p) {
                distance = smooth_max(distance, gap - solid.distance(p), 6.0);
            }
        }
        if let Some(level) = self.above_y {
            distance = distance.max(level - place.still[1]);
        }
        if self.confined {
            let lid = place.cavity.max(place.above_diaphragm) + 3.0 + self.inset;
            distance = smooth_max(distance, lid, 5.0);
        }
        distance
    }
}

/// Draws all organs but the liver, in the order in which they are painted.
pub(crate) fn sample(body: &Body, stage: u8, rng: &mut impl Rng) -> Vec<Part> {
    let mut parts = Vec::new();
    heart(body, rng, &mut parts);
    muscles(body, &mut parts);
    bowel(body, rng, &mut parts);
    let kidneys = kidneys(body, rng);
    let stomach = stomach(body, rng);
    parts.extend(pancreas(body, rng));
    parts.push(spleen(body, stage, &kidneys, &stomach, rng));
    parts.extend(kidneys);
    parts.extend(stomach);
    vessels(body, rng, &mut parts);
    gallbladder(body, rng, &mut parts);
    parts
}

fn heart(body: &Body, rng: &mut impl Rng, parts: &mut Vec<Part>) {
    let free = |mut part: Part| {
        part.confined = false;
        part
    };
    let mediastinum = Solid::chain(&[
        (body.place([0.0, -8.0, 60.0]), 26.0),
        (body.place([0.0, 0.0, 190.0]), 30.0),
    ]);
    parts.push(free(
        Part::new(Organ::Fat, Tissue::VisceralFat, mediastinum).rough(4.0, 0.0),
    ));
    let height = body.dome_height() + rng.random_range(22.0..30.0);
    let mut centre = body.place([-26.0, 36.0, 0.0]);
    centre[2] = height;
    let heart = |thicker: f32| Solid::Ellipsoid {
        centre,
        radii: [60.0, 42.0, 40.0].map(|r: f32| r * body.size() + thicker),
        axes: rotation(0.1, 0.25, 0.5),
    };
    let around = vec![heart(9.0)];
    let around = free(Part::new(Organ::Fat, Tissue::VisceralFat, around).rough(5.0, 2.0));
    let muscle = vec![heart(0.0)];
    let muscle = free(Part::new(Organ::Heart, Tissue::HeartMuscle, muscle).rough(3.0, 0.0));
    let blood = muscle.content(Tissue::HeartBlood, 10.0).rough(7.0, 3.0);
    parts.extend([around, muscle, blood]);
}

fn muscles(body: &Body, parts: &mut Vec<Part>) {
    for side in [-1.0, 1.0] {
        let psoas = Solid::chain(&[
            (body.place([side * 27.0, -38.0, 8.0]), 7.0),
            (body.place([side * 40.0, -36.0, -80.0]), 17.0),
            (body.place([side * 52.0, -22.0, -190.0]), 22.0),
        ]);
        let crus = Solid::chain(&[
            (body.place([side * 16.0, -8.0, 55.0]), 5.0),
            (body.place([side * 13.0, -20.0, -25.0]), 5.0),
        ]);
        for solids in [psoas, crus] {
            let mut part = Part::new(Organ::Muscle, Tissue::Muscle, solids);
            part.confined = false;
            parts.push(part);
        }
    }
}

fn bowel(body: &Body, rng: &mut impl Rng, parts: &mut Vec<Part>) {
    let mut add = |solids: Vec<Solid>, wall: f32, content: Tissue, gas_from: Option<f32>| {
        let tube = Part::new(Organ::Bowel, Tissue::BowelWall, solids).rough(3.0, 2.5);
        let inside = tube.content(content, wall);
        let mut gas = tube.content(Tissue::Gas, wall + 1.0);
        gas.above_y = gas_from;
        parts.extend([tube, inside]);
        parts.extend(gas_from.map(|_| gas));
    };
    for _ in 0..80 {
        let from = [
            rng.random_range(-92.0..92.0),
            rng.random_range(-6.0..70.0),
            rng.random_range(-140.0..-4.0f32),
        ];
        let to = std::array::from_fn(|a| from[a] + rng.random_range(-30.0..30.0));
        let radius = rng.random_range(9.0..15.0) * body.size();
        let solid = Solid::capsule(body.place(from), body.place(to), radius, radius);
        let content = if rng.random_bool(0.7) {
            Tissue::BowelFluid
        } else {
            Tissue::Stool
        };
        add(vec![solid], 3.0, content, None);
    }
    // The colon: up on the right, across, down on the left.
    let wide = rng.random_range(14.0..21.0) * body.size();
    let sag = rng.random_range(-25.0..15.0);
    let ascending = [
        ([100.0, -8.0, -195.0], wide),
        ([100.0, 2.0, -92.0], wide * 1.1),
    ];
    let transverse = [
        ([98.0, 24.0, -84.0], wide),
        ([20.0, 62.0, -74.0 + sag], wide * 0.85),
        ([-60.0, 56.0, -38.0 + 0.5 * sag], wide * 0.85),
        ([-96.0, 20.0, -8.0], wide * 0.9),
    ];
    let descending = [
        ([-104.0, -8.0, -20.0], wide * 0.8),
        ([-106.0, -14.0, -195.0], wide * 0.7),
    ];
    for (points, gas) in [
        (&ascending[..], false),
        (&transverse[..], true),
        (&descending[..], false),
    ] {
        let points: Vec<_> = points.iter().map(|(p, r)| (body.place(*p), *r)).collect();
        let level = points.iter().map(|(p, _)| p[1]).fold(f32::MIN, f32::max);
        let gas = (gas && rng.random_bool(0.7)).then_some(level + rng.random_range(-4.0..8.0));
        add(Solid::chain(&points), 3.0, Tissue::Stool, gas);
    }
}

fn kidneys(body: &Body, rng: &mut impl Rng) -> Vec<Part> {
    let mut parts = Vec::new();
    for (organ, side, height) in [
        (Organ::RightKidney, 1.0, -50.0),
        (Organ::LeftKidney, -1.0, -34.0),
    ] {
        let mut vary = |by: f32| rng.random_range(-by..by);
        let middle = [
            side * (61.0 + vary(4.0)),
            -42.0 + vary(4.0),
            height + vary(14.0),
        ];
        let centre = body.place(middle);
        let size = body.size() * (1.0 + vary(0.1));
        // The upper pole leans to the spine, the hilum looks to the front and the middle.
        let axes = rotation(0.1 + vary(0.1), side * 0.2 + vary(0.08), side * -0.45);
        let ellipsoid = |offset: Point, radii: Point| Solid::Ellipsoid {
            centre: std::array::from_fn(|a| centre[a] + offset[a] * size),
            radii: scale(radii, size),
            axes,
        };
        let mut cortex = Part::new(
            organ,
            Tissue::KidneyCortex,
            vec![ellipsoid([0.0; 3], [29.0, 25.0, 54.0])],
        )
        .rough(1.5, 0.5);
        cortex.confined = false;
        cortex.dents_liver_mm = (organ == Organ::RightKidney).then_some(4.0);
        let medulla = cortex.content(Tissue::KidneyMedulla, 10.0).rough(0.0, 8.0);
        let sinus = Part::new(
            organ,
            Tissue::KidneySinus,
            vec![ellipsoid([side * -13.0, 8.0, 0.0], [17.0, 11.0, 27.0])],
        )
        .rough(1.0, 5.0);
        let mut sinus = sinus;
        sinus.confined = false;
        parts.extend([cortex, medulla, sinus]);
    }
    parts
}

fn stomach(body: &Body, rng: &mut impl Rng) -> Vec<Part> {
    let full = rng.random_range(0.85..1.25) * body.size();
    let mut vary = |by: f32| rng.random_range(-by..by);
    let points = [
        ([-66.0 + vary(8.0), 2.0, 52.0 + vary(6.0)], 33.0 * full),
        ([-62.0, 32.0, 22.0 + vary(8.0)], 29.0 * full),
        ([-38.0, 54.0, -10.0 + vary(10.0)], 21.0 * full),
        ([-2.0, 54.0, -24.0 + vary(8.0)], 15.0 * full),
        ([24.0, 38.0, -22.0], 10.0 * full),
    ];
    let points: Vec<_> = points.iter().map(|(p, r)| (body.place(*p), *r)).collect();
    let wall =
        Part::new(Organ::Stomach, Tissue::StomachWall, Solid::chain(&points)).rough(4.0, 0.8);
    let fluid = wall.content(Tissue::StomachFluid, 4.5);
    let mut gas = wall.content(Tissue::Gas, 5.0);
    gas.above_y = Some(body.place([0.0, rng.random_range(34.0..66.0), 0.0])[1]);
    vec![wall, fluid, gas]
}

fn pancreas(body: &Body, rng: &mut impl Rng) -> Vec<Part> {
    let mut vary = |by: f32| rng.random_range(-by..by);
    let points = [
        ([32.0, 10.0, -46.0 + vary(8.0)], 13.0),
        ([26.0, 14.0, -26.0], 12.0),
        ([4.0, 20.0, -16.0 + vary(6.0)], 9.0),
        ([-32.0, 16.0, -8.0 + vary(6.0)], 10.0),
        ([-66.0, -10.0, 8.0 + vary(8.0)], 11.0),
    ];
    let points: Vec<_> = points
        .iter()
        .map(|(p, r)| (body.place(*p), *r * body.size()))
        .collect();
    vec![Part::new(Organ::Pancreas, Tissue::Pancreas, Solid::chain(&points)).rough(2.0, 4.0)]
}

fn spleen(body: &Body, stage: u8, kidneys: &[Part], stomach: &[Part], rng: &mut impl Rng) -> Part {
    // Scarring of the liver dams the portal blood and the spleen grows.
    let scarring = f32::from(stage.saturating_sub(1)) / 3.0;
    let size =
        body.size() * (rng.random_range(0.92..1.16) + 0.28 * scarring * rng.random_range(0.0..1.0));
    let mut vary = |by: f32| rng.random_range(-by..by);
    let solid = Solid::Ellipsoid {
        centre: body.place([-96.0 + vary(4.0), -34.0 + vary(7.0), 26.0 + vary(9.0)]),
        radii: scale([31.0, 50.0, 54.0], size),
        axes: rotation(-0.35 + vary(0.15), -0.2 + vary(0.1), -0.35 + vary(0.12)),
    };
    let mut part = Part::new(Organ::Spleen, Tissue::Spleen, vec![solid]).rough(3.5, 0.5);
    let impress = |organs: &[Part], organ: Organ, gap: f32| -> Vec<Impression> {
        let wanted = organs.iter().filter(|p| p.organ == organ && p.inset == 0.0);
        let solids = wanted.take(1).flat_map(|p| p.solids.iter().cloned());
        solids.map(|solid| Impression::new(solid, gap)).collect()
    };
    part.impressions = impress(kidneys, Organ::LeftKidney, 4.0);
    part.impressions
        .extend(impress(stomach, Organ::Stomach, 3.0));
    part
}

fn vessels(body: &Body, rng: &mut impl Rng, parts: &mut Vec<Part>) {
    let mut vary = |by: f32| rng.random_range(-by..by);
    let size = body.size();
    let mut tube = |organ, tissue, points: &[(Point, f32)], dent: Option<f32>| {
        let points: Vec<_> = points
            .iter()
            .map(|(p, r)| (body.place(*p), *r * size))
            .collect();
        let mut part = Part::new(organ, tissue, Solid::chain(&points)).rough(0.6, 0.0);
        part.confined = false;
        part.dents_liver_mm = dent;
        parts.push(part);
    };
    let sway = vary(7.0);
    tube(
        Organ::Aorta,
        Tissue::Aorta,
        &[
            ([-15.0, -10.0, 200.0], 11.5),
            ([-11.0, -5.0, 60.0], 11.0),
            ([-8.0 + sway, -4.0, -30.0], 10.0),
            ([-4.0, -6.0, -195.0], 8.5),
        ],
        Some(7.0),
    );
    tube(
        Organ::VenaCava,
        Tissue::VenaCava,
        &[
            ([17.0, -8.0, -195.0], 10.5),
            ([21.0 + vary(3.0), -9.0, -60.0], 11.0),
            ([23.0, -9.0, 20.0], 12.0),
            ([20.0, -3.0, 70.0], 12.5),
            ([12.0, 8.0, 108.0], 13.0),
        ],
        Some(0.5),
    );
    // Superior mesenteric and splenic vein, to the root of the portal tree.
    let confluence = [12.0, 8.0, -34.0];
    tube(
        Organ::LiverVessels,
        Tissue::PortalVein,
        &[([8.0, 14.0, -180.0], 5.0), (confluence, 6.5)],
        None,
    );
    tube(
        Organ::LiverVessels,
        Tissue::PortalVein,
        &[
            (confluence, 5.5),
            ([-30.0, 8.0, -8.0], 4.5),
            ([-70.0, -20.0, 12.0], 4.0),
        ],
        None,
    );
}

fn gallbladder(body: &Body, rng: &mut impl Rng, parts: &mut Vec<Part>) {
    // About one adult in seven has lost it.
    let present = rng.random_bool(0.86);
    let full = rng.random_range(0.7..1.3) * body.size();
    let mut vary = |by: f32| rng.random_range(-by..by);
    let solid = Solid::Ellipsoid {
        centre: body.place([50.0 + vary(7.0), 40.0 + vary(6.0), -38.0 + vary(6.0)]),
        radii: scale([12.0, 23.0, 15.0], full),
        axes: rotation(0.5 + vary(0.2), 0.0, 0.35 + vary(0.2)),
    };
    if present {
        let mut part = Part::new(Organ::Gallbladder, Tissue::Bile, vec![solid]).rough(1.0, 0.0);
        part.dents_liver_mm = Some(1.0);
        parts.push(part);
    }
}
