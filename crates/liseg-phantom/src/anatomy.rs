//! One patient: where every organ is.

use crate::body::Body;
use crate::liver::{Frame, Impression, Liver, Place};
use crate::noise::Noise;
use crate::organs::{self, Part};
use crate::shape::{Bounds, Solid};
use crate::tissue::Organ;
use crate::vector::Point;
use liseg_volume::Seed;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

/// The anatomy of one patient, in millimetres from a point in front of the first lumbar vertebra:
/// x to the right, y to the front, z to the head.
#[derive(Debug, Clone)]
pub(crate) struct Anatomy {
    pub(crate) body: Body,
    pub(crate) liver: Liver,
    /// Organs other than the liver, in the order in which they are painted.
    pub(crate) parts: Vec<Part>,
    /// Fibrosis stage, 1 to 4.
    pub(crate) stage: u8,
    pub(crate) warp: Noise<3>,
    pub(crate) surface: Noise<1>,
    pub(crate) lobules: Noise<1>,
    pub(crate) texture: Noise<1>,
}

impl Anatomy {
    /// The anatomy of patient `index`: depends on the seed and the index alone.
    pub(crate) fn sample(seed: Seed, index: u64) -> Self {
        let mut rng = seed.stream("phantom anatomy", 0, index);
        let body = Body::sample(&mut rng);
        let warp = Noise::<3>::new(75.0, &mut rng);
        // The shares of the four stages are about equal in LiQA's training data.
        let stage = rng.random_range(1..=4u8);
        // Adult livers: about 1500 ± 300 ml, larger in larger patients.
        let normal: f32 = StandardNormal.sample(&mut rng);
        let volume_ml = ((1500.0 + 230.0 * normal) * body.size().powi(2)).clamp(1020.0, 2080.0);
        let parts = organs::sample(&body, stage, &mut rng);
        let mut impressions = Vec::new();
        for part in &parts {
            let Some(gap) = part.dents_liver_mm else {
                continue;
            };
            // No slip of liver behind the kidney or below the gallbladder.
            let lee = match part.organ {
                Organ::RightKidney => Some([0.0, -26.0, -4.0]),
                Organ::Gallbladder => Some([0.0, 8.0, -16.0]),
                _ => None,
            };
            for solid in &part.solids {
                impressions.push(Impression::new(solid.clone(), gap));
                impressions.extend(lee.map(|by| Impression::new(solid.moved(by), gap)));
            }
        }
        // The spine keeps the liver off the middle of the back.
        let spine = [[4.0, -32.0, -120.0], [4.0, -32.0, 120.0]].map(|p| body.place(p));
        impressions.push(Impression::new(
            Solid::capsule(spine[0], spine[1], 9.0, 9.0),
            20.0,
        ));
        // So do the left crus of the diaphragm and the adrenal gland.
        let crus = [[-34.0, -26.0, -120.0], [-34.0, -26.0, 64.0]].map(|p| body.place(p));
        impressions.push(Impression::new(
            Solid::capsule(crus[0], crus[1], 14.0, 14.0),
            6.0,
        ));
        // The fissure of the round ligament parts the left lobe from the right in front.
        let fissure = [[14.0, 84.0, -30.0], [10.0, 60.0, 14.0]].map(|p| body.place(p));
        impressions.push(Impression::new(
            Solid::capsule(fissure[0], fissure[1], 4.0, 2.0),
            0.5,
        ));
        let frame = Frame {
            body: &body,
            warp: &warp,
        };
        let liver = Liver::sample(volume_ml, stage, &impressions, frame, &mut rng);
        Self {
            liver,
            parts,
            stage,
            surface: Noise::new(33.0, &mut rng),
            lobules: Noise::new(13.0, &mut rng),
            texture: Noise::new(5.5, &mut rng),
            warp,
            body,
        }
    }

    /// How the organs see a point of the frame that moves with the breath.
    #[inline]
    pub(crate) fn see(&self, p: Point) -> Place {
        let Self { body, warp, .. } = self;
        Frame { body, warp }.see(p)
    }

    /// From the lowest to the highest point of the liver.
    pub(crate) fn liver_bounds(&self) -> Bounds {
        self.liver.bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::sub;
    use std::collections::HashMap;

    fn lattice_points(anatomy: &Anatomy, step: i32) -> Vec<[i32; 3]> {
        let bounds = anatomy.liver_bounds();
        let range = |a: usize| {
            let index = |v: f32| (v / step as f32).floor() as i32;
            index(bounds.low[a])..=index(bounds.high[a]) + 1
        };
        let mut inside = Vec::new();
        for z in range(2) {
            for y in range(1) {
                for x in range(0) {
                    let p = [x, y, z].map(|i| (i * step) as f32);
                    if anatomy.liver.distance(&anatomy.see(p)) < 0.0 {
                        inside.push([x, y, z]);
                    }
                }
            }
        }
        inside
    }

    fn pieces(points: &[[i32; 3]]) -> usize {
        let mut open: HashMap<[i32; 3], bool> = points.iter().map(|p| (*p, true)).collect();
        let mut count = 0;
        for start in points {
            if !std::mem::replace(open.get_mut(start).unwrap(), false) {
                continue;
            }
            count += 1;
            let mut stack = vec![*start];
            while let Some(p) = stack.pop() {
                for axis in 0..3 {
                    for step in [-1, 1] {
                        let mut q = p;
                        q[axis] += step;
                        if let Some(flag) = open.get_mut(&q)
                            && std::mem::replace(flag, false)
                        {
                            stack.push(q);
                        }
                    }
                }
            }
        }
        count
    }

    #[test]
    fn thirty_livers_have_human_volumes_and_are_in_one_piece_on_the_right() {
        let mut volumes = Vec::new();
        for index in 0..30 {
            let anatomy = Anatomy::sample(Seed(2024), index);
            let points = lattice_points(&anatomy, 4);
            let volume_ml = points.len() as f32 * 0.064;
            assert!((900.0..2300.0).contains(&volume_ml), "{index}: {volume_ml}");
            assert_eq!(pieces(&points), 1, "patient {index}");
            let mean_x = points.iter().map(|p| p[0] as f32).sum::<f32>() / points.len() as f32;
            assert!(mean_x * 4.0 > 25.0, "{index}: {mean_x}");
            volumes.push(volume_ml);
        }
        volumes.sort_by(f32::total_cmp);
        assert!(volumes[29] - volumes[0] > 500.0, "{volumes:?}");
    }

    #[test]
    fn no_two_livers_are_alike() {
        let livers: Vec<Vec<[i32; 3]>> = (0..6)
            .map(|i| lattice_points(&Anatomy::sample(Seed(7), i), 5))
            .collect();
        let centred = |points: &[[i32; 3]]| -> std::collections::HashSet<[i32; 3]> {
            let centre: Point = std::array::from_fn(|a| {
                points.iter().map(|p| p[a] as f32).sum::<f32>() / points.len() as f32
            });
            let shift = |p: &[i32; 3]| sub(p.map(|v| v as f32), centre).map(|v| v.round() as i32);
            points.iter().map(shift).collect()
        };
        for (i, a) in livers.iter().enumerate() {
            for b in &livers[i + 1..] {
                let (a, b) = (centred(a), centred(b));
                let dice = 2.0 * a.intersection(&b).count() as f32 / (a.len() + b.len()) as f32;
                assert!(dice < 0.9, "{dice}");
            }
        }
    }
}
