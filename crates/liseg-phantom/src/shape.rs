//! Simple solids as signed distances in millimetres: negative inside, zero on the surface.

use crate::vector::{Point, add, dot, length, scale, sub, turn};

/// An axis-aligned box in the patient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) low: Point,
    pub(crate) high: Point,
}

impl Bounds {
    /// The box around nothing.
    pub(crate) const EMPTY: Self = Self {
        low: [f32::INFINITY; 3],
        high: [f32::NEG_INFINITY; 3],
    };

    pub(crate) fn around(points: &[Point]) -> Self {
        points.iter().fold(Self::EMPTY, |bounds, &p| Self {
            low: std::array::from_fn(|a| bounds.low[a].min(p[a])),
            high: std::array::from_fn(|a| bounds.high[a].max(p[a])),
        })
    }

    pub(crate) fn grown(self, by: f32) -> Self {
        Self {
            low: self.low.map(|v| v - by),
            high: self.high.map(|v| v + by),
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            low: std::array::from_fn(|a| self.low[a].min(other.low[a])),
            high: std::array::from_fn(|a| self.high[a].max(other.high[a])),
        }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        (0..3).all(|a| self.low[a] <= other.high[a] && other.low[a] <= self.high[a])
    }

    #[inline]
    pub(crate) fn contains(&self, p: Point) -> bool {
        (0..3).all(|a| self.low[a] <= p[a] && p[a] <= self.high[a])
    }
}

/// An ellipsoid (exact surface, distance to first order) or a capsule whose radius changes along
/// it.
#[derive(Debug, Clone)]
pub(crate) enum Solid {
    Ellipsoid {
        centre: Point,
        radii: Point,
        /// Rows: the ellipsoid's own axes in the patient.
        axes: [Point; 3],
    },
    Capsule {
        from: Point,
        to: Point,
        radius_from: f32,
        radius_to: f32,
    },
}

impl Solid {
    pub(crate) fn capsule(from: Point, to: Point, radius_from: f32, radius_to: f32) -> Self {
        Self::Capsule {
            from,
            to,
            radius_from,
            radius_to,
        }
    }

    /// A chain of capsules through points (x, y, z, radius).
    pub(crate) fn chain(points: &[(Point, f32)]) -> Vec<Self> {
        points
            .windows(2)
            .map(|pair| Self::capsule(pair[0].0, pair[1].0, pair[0].1, pair[1].1))
            .collect()
    }

    /// The same solid elsewhere.
    pub(crate) fn moved(&self, by: Point) -> Self {
        let mut solid = self.clone();
        match &mut solid {
            Self::Ellipsoid { centre, .. } => *centre = add(*centre, by),
            Self::Capsule { from, to, .. } => (*from, *to) = (add(*from, by), add(*to, by)),
        }
        solid
    }

    #[inline]
    pub(crate) fn distance(&self, p: Point) -> f32 {
        match self {
            Self::Ellipsoid {
                centre,
                radii,
                axes,
            } => {
                let local = turn(axes, sub(p, *centre));
                let unit: Point = std::array::from_fn(|a| local[a] / radii[a]);
                let level = length(unit);
                // First order: the level minus one, divided by the length of its gradient.
                let slope = length(std::array::from_fn(|a| unit[a] / radii[a]));
                if slope > 1e-6 {
                    level * (level - 1.0) / slope
                } else {
                    -radii[0].min(radii[1]).min(radii[2])
                }
            }
            Self::Capsule {
                from,
                to,
                radius_from,
                radius_to,
            } => {
                let axis = sub(*to, *from);
                let offset = sub(p, *from);
                let at = (dot(offset, axis) / dot(axis, axis).max(1e-6)).clamp(0.0, 1.0);
                let radius = radius_from + (radius_to - radius_from) * at;
                length(sub(offset, scale(axis, at))) - radius
            }
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        match self {
            Self::Ellipsoid {
                centre,
                radii,
                axes,
            } => {
                // Extent along a body axis: the norm of the axis seen in the ellipsoid's frame.
                let extent: Point =
                    std::array::from_fn(|a| length(std::array::from_fn(|k| axes[k][a] * radii[k])));
                Bounds {
                    low: sub(*centre, extent),
                    high: add(*centre, extent),
                }
            }
            Self::Capsule {
                from,
                to,
                radius_from,
                radius_to,
            } => Bounds::around(&[*from, *to]).grown(radius_from.max(*radius_to)),
        }
    }
}

/// The union of two solids, rounded over a width of `k` millimetres (polynomial smooth minimum).
#[inline]
pub(crate) fn smooth_min(a: f32, b: f32, k: f32) -> f32 {
    let overlap = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - overlap * overlap * k * 0.25
}

/// The intersection of two solids, rounded over a width of `k` millimetres.
#[inline]
pub(crate) fn smooth_max(a: f32, b: f32, k: f32) -> f32 {
    -smooth_min(-a, -b, k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::rotation;
    use proptest::prelude::*;

    #[test]
    fn a_sphere_and_a_capsule_have_exact_distances() {
        let ball = Solid::Ellipsoid {
            centre: [1.0, 2.0, 3.0],
            radii: [5.0; 3],
            axes: rotation(0.2, 0.3, 0.4),
        };
        assert!((ball.distance([9.0, 2.0, 3.0]) - 3.0).abs() < 1e-4);
        assert!((ball.distance([1.0, 2.0, 5.0]) + 3.0).abs() < 1e-4);
        assert!(ball.distance([1.0, 2.0, 3.0]) < -4.9);
        let rod = Solid::capsule([0.0; 3], [10.0, 0.0, 0.0], 2.0, 4.0);
        assert!((rod.distance([5.0, 7.0, 0.0]) - 4.0).abs() < 1e-5);
        assert!((rod.distance([17.0, 0.0, 0.0]) - 3.0).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn bounds_enclose_every_point_inside(
            p in prop::array::uniform3(-60.0f32..60.0),
            radii in prop::array::uniform3(3.0f32..50.0),
            angles in prop::array::uniform3(-3.0f32..3.0),
        ) {
            let solids = [
                Solid::Ellipsoid {
                    centre: [2.0, -3.0, 5.0],
                    radii,
                    axes: rotation(angles[0], angles[1], angles[2]),
                },
                Solid::capsule(angles, radii, radii[1], radii[2]),
            ];
            for solid in solids {
                if solid.distance(p) < 0.0 {
                    prop_assert!(solid.bounds().grown(0.01).contains(p));
                }
            }
        }

        #[test]
        fn smooth_unions_contain_both_and_sharp_ones_are_met_far_away(
            a in -50.0f32..50.0, b in -50.0f32..50.0,
        ) {
            let joined = smooth_min(a, b, 8.0);
            prop_assert!(joined <= a.min(b) && joined >= a.min(b) - 2.0);
            prop_assert!(smooth_max(a, b, 8.0) >= a.max(b));
            if (a - b).abs() > 8.0 {
                prop_assert!((joined - a.min(b)).abs() < 1e-5);
            }
        }
    }
}
