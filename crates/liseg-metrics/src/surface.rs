//! Distances between two surfaces, and the measures taken from them.

use crate::confusion::{Counts, compare};
use crate::directed::Directed;
use crate::{Error, MeanRule, PercentileRule, Points, Result, SurfaceRule, surfel};
use liseg_morphology::{boundary, squared_distances_at};
use liseg_volume::{Region, Spacing};
use ndarray::{Array3, ArrayView3, s};
use std::borrow::Cow;

/// A distance this much, in millimetres, above a tolerance still counts as within it: spacings
/// read from files carry the rounding of f32, and six voxels of 1.2 mm must lie within 7.2 mm.
const TOLERANCE_SLACK_MM: f64 = 1e-5;

/// The distances from every surface point of each of two masks to the surface of the other, in
/// millimetres.
///
/// Exists only when both surfaces have points, so that its measures are always defined.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    prediction_to_reference: Directed,
    reference_to_prediction: Directed,
}

impl SurfaceDistances {
    /// Measures between two masks on one grid.
    ///
    /// # Shapes and units
    /// Both masks `[z, y, x]`; `spacing` in mm.
    /// # Errors
    /// [`Error::Shape`] when the shapes differ, [`Error::EmptyMask`] when a mask is empty,
    /// [`Error::NoBoundary`] when one fills the image and what lies beyond it counts as object,
    /// [`Error::MixedPoints`] when the rule measures between the dual grid and voxels.
    ///
    /// # Examples
    /// ```
    /// use liseg_metrics::{SurfaceDistances, SurfaceRule};
    /// use liseg_volume::Spacing;
    /// use ndarray::{Array3, s};
    ///
    /// let mut reference = Array3::from_elem((6, 8, 8), false);
    /// reference.slice_mut(s![1..4, 2..6, 2..6]).fill(true);
    /// let mut prediction = Array3::from_elem((6, 8, 8), false);
    /// prediction.slice_mut(s![2..5, 2..6, 2..6]).fill(true); // one slice too high
    ///
    /// let spacing = Spacing::new(5.0, 1.0, 1.0)?;
    /// let rule = SurfaceRule::default();
    /// let distances = SurfaceDistances::between(prediction.view(), reference.view(), spacing, rule)?;
    /// assert_eq!(distances.hausdorff(), 5.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn between(
        prediction: ArrayView3<'_, bool>,
        reference: ArrayView3<'_, bool>,
        spacing: Spacing,
        rule: SurfaceRule,
    ) -> Result<Self> {
        let (counts, region) = compare(prediction, reference, |&inside| inside)?;
        Self::within(
            prediction,
            reference,
            |&inside| inside,
            (counts, region),
            spacing,
            rule,
        )
    }

    /// As [`SurfaceDistances::between`] once [`compare`] has found the counts and the joint box.
    ///
    /// All points and targets lie in that box, so nothing outside it is looked at. It is grown by
    /// one voxel: where the image goes on, the voxels beyond an object are then background, and
    /// only at the edge of the image itself does the rule say what lies outside.
    pub(crate) fn within<T: Clone>(
        prediction: ArrayView3<'_, T>,
        reference: ArrayView3<'_, T>,
        is_object: impl Fn(&T) -> bool,
        (counts, region): (Counts, Option<Region>),
        spacing: Spacing,
        rule: SurfaceRule,
    ) -> Result<Self> {
        let region = match (counts.empty(), region) {
            (None, Some(region)) => region,
            (empty, _) => return Err(Error::EmptyMask(empty.unwrap_or(crate::Empty::Both))),
        };
        let (depth, height, width) = reference.dim();
        let Region { start, end } = region.dilated([1; 3], [depth, height, width]);
        let inside = s![start[0]..end[0], start[1]..end[1], start[2]..end[2]];
        let crop = |voxels: ArrayView3<'_, T>| voxels.slice(inside).map(&is_object);

        let (prediction, reference) = (crop(prediction), crop(reference));
        let prediction = Surface::of(&prediction, spacing, rule, "prediction")?;
        let reference = Surface::of(&reference, spacing, rule, "reference")?;
        let (prediction_to_reference, reference_to_prediction) = rayon::join(
            || prediction.distances_to(&reference, spacing),
            || reference.distances_to(&prediction, spacing),
        );
        Ok(Self {
            prediction_to_reference,
            reference_to_prediction,
        })
    }

    /// From every surface point of the prediction to the surface of the reference, in mm.
    pub fn prediction_to_reference(&self) -> &[f64] {
        &self.prediction_to_reference.distances
    }

    /// From every surface point of the reference to the surface of the prediction, in mm.
    pub fn reference_to_prediction(&self) -> &[f64] {
        &self.reference_to_prediction.distances
    }

    /// Hausdorff distance, the largest distance of both directions, in mm.
    pub fn hausdorff(&self) -> f64 {
        let [a, b] = self.directions();
        a.max().max(b.max())
    }

    /// The directed Hausdorff distances in mm: from the prediction to the reference, and back.
    pub fn directed_hausdorff(&self) -> [f64; 2] {
        self.directions().map(Directed::max)
    }

    /// The directed average surface distances in mm: from the prediction to the reference, and
    /// back. On the dual grid each distance counts by its area.
    pub fn directed_averages(&self) -> [f64; 2] {
        self.directions().map(Directed::mean)
    }

    /// The `q`-th percentile of the distances, in mm; at 100 the Hausdorff distance.
    ///
    /// Percentiles are linear between order statistics ([`percentile`](crate::percentile)). On the
    /// dual grid they are weighted by area: the first distance within which `q` percent of it lie.
    ///
    /// # Errors
    /// [`Error::Percentile`] when `q` is outside 0 to 100.
    pub fn hausdorff_percentile(&self, q: f64, rule: PercentileRule) -> Result<f64> {
        let [a, b] = self.directions();
        Ok(match rule {
            PercentileRule::MaxOfDirected => a.percentile(q)?.max(b.percentile(q)?),
            PercentileRule::MeanOfDirected => (a.percentile(q)? + b.percentile(q)?) / 2.0,
            PercentileRule::Pooled => a.pooled(b).percentile(q)?,
        })
    }

    /// Average surface distance over both directions, in mm.
    ///
    /// Pooled (ASSD; Heimann et al. 2009): (Σ D_RP + Σ D_PR) / (|∂R| + |∂P|). Mean of means (MASD):
    /// (mean D_RP + mean D_PR) / 2. On the dual grid each distance counts by its area.
    pub fn average(&self, rule: MeanRule) -> f64 {
        let [a, b] = self.directions();
        match rule {
            MeanRule::Pooled => self.sum(|d| d) / self.weight(),
            MeanRule::MeanOfMeans => (a.mean() + b.mean()) / 2.0,
        }
    }

    /// Root of the mean squared distance over the points of both surfaces, in mm.
    pub fn root_mean_square(&self) -> f64 {
        (self.sum(|d| d * d) / self.weight()).sqrt()
    }

    /// Surface Dice (NSD; Nikolov et al. 2021), from 0 to 1: the share of both surfaces that lies
    /// within `tolerance_mm`, itself included, of the other surface.
    ///
    /// Points are counted, as in MONAI and Metrics Reloaded; on the dual grid they are weighted by
    /// area.
    ///
    /// # Errors
    /// [`Error::Setting`] when the tolerance is negative or not finite.
    pub fn surface_dice(&self, tolerance_mm: f64) -> Result<f64> {
        let limit = limit_of(tolerance_mm)?;
        let within = self.sum(|distance| f64::from(u8::from(distance <= limit)));
        Ok(within / self.weight())
    }

    /// Surface overlap, from 0 to 1: the share of the prediction's surface within `tolerance_mm`
    /// of the reference's, and that of the reference's surface within it of the prediction's.
    ///
    /// # Errors
    /// As [`SurfaceDistances::surface_dice`].
    pub fn surface_overlap(&self, tolerance_mm: f64) -> Result<[f64; 2]> {
        let limit = limit_of(tolerance_mm)?;
        let within = |distance| f64::from(u8::from(distance <= limit));
        let directions = self.directions();
        Ok(directions.map(|directed| directed.sum(within) / directed.weight()))
    }

    fn directions(&self) -> [&Directed; 2] {
        [&self.prediction_to_reference, &self.reference_to_prediction]
    }

    fn sum(&self, of: impl Fn(f64) -> f64) -> f64 {
        self.directions()
            .map(|directed| directed.sum(&of))
            .iter()
            .sum()
    }

    fn weight(&self) -> f64 {
        self.directions().map(Directed::weight).iter().sum()
    }
}

/// The largest distance that counts as within a tolerance.
fn limit_of(tolerance_mm: f64) -> Result<f64> {
    if tolerance_mm.is_finite() && tolerance_mm >= 0.0 {
        Ok(tolerance_mm + TOLERANCE_SLACK_MM)
    } else {
        Err(Error::Setting {
            name: "nsd_tolerance_mm",
            found: tolerance_mm,
        })
    }
}

/// The points of one mask: those to measure from and those to measure to.
struct Surface<'a> {
    points: Cow<'a, Array3<bool>>,
    /// The area that each point stands for, where points are weighted.
    areas: Option<Vec<f64>>,
    /// `None`: the same points.
    targets: Option<Cow<'a, Array3<bool>>>,
}

impl<'a> Surface<'a> {
    fn of(
        mask: &'a Array3<bool>,
        spacing: Spacing,
        rule: SurfaceRule,
        name: &'static str,
    ) -> Result<Self> {
        if (rule.points == Points::DualGrid) != (rule.targets == Points::DualGrid) {
            return Err(Error::MixedPoints);
        }
        let choose = |points| match points {
            Points::AllVoxels => (Cow::Borrowed(mask), None),
            Points::Boundary(connectivity) => {
                let boundary = boundary(mask.view(), connectivity, rule.outside);
                (Cow::Owned(boundary), None)
            }
            Points::DualGrid => {
                let (points, areas) = dual_grid(mask, spacing);
                (Cow::Owned(points), Some(areas))
            }
        };
        let (points, areas) = choose(rule.points);
        let targets = (rule.targets != rule.points).then(|| choose(rule.targets).0);
        let has_points = |points: &Array3<bool>| points.iter().any(|&on| on);
        if has_points(&points) && targets.as_ref().is_none_or(|targets| has_points(targets)) {
            Ok(Self {
                points,
                areas,
                targets,
            })
        } else {
            Err(Error::NoBoundary { mask: name })
        }
    }

    fn distances_to(&self, other: &Self, spacing: Spacing) -> Directed {
        let targets = other.targets.as_ref().unwrap_or(&other.points);
        let mut distances = squared_distances_at(targets.view(), self.points.view(), spacing);
        for distance in &mut distances {
            *distance = distance.sqrt();
        }
        Directed {
            distances,
            areas: self.areas.clone(),
        }
    }
}

/// The corners that the surface passes, and the area of each in storage order, as
/// [`squared_distances_at`] answers.
fn dual_grid(mask: &Array3<bool>, spacing: Spacing) -> (Array3<bool>, Vec<f64>) {
    let patterns = surfel::patterns(mask.view());
    let table = surfel::areas(spacing);
    let on_surface = patterns.iter().filter(|&&p| surfel::is_on_surface(p));
    let areas = on_surface.map(|&p| table[usize::from(p)]).collect();
    (patterns.mapv(surfel::is_on_surface), areas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pairs;
    use crate::{Convention, Empty};
    use proptest::prelude::*;

    const SPACING: [f64; 3] = [2.5, 1.2, 0.8];

    fn measure(p: &Array3<bool>, r: &Array3<bool>, rule: SurfaceRule) -> Result<SurfaceDistances> {
        SurfaceDistances::between(p.view(), r.view(), SPACING.try_into().unwrap(), rule)
    }

    proptest! {
        #[test]
        fn distances_there_are_those_back_with_the_roles_exchanged((p, r) in pairs()) {
            for (_, convention) in Convention::NAMED {
                let rule = convention.rule();
                match (measure(&p, &r, rule), measure(&r, &p, rule)) {
                    (Ok(a), Ok(b)) => {
                        prop_assert_eq!(a.prediction_to_reference(), b.reference_to_prediction());
                    }
                    // Undefined one way is undefined the other way.
                    (a, b) => prop_assert_eq!(a.is_ok(), b.is_ok()),
                }
            }
        }

        #[test]
        fn equals_the_definition((p, r) in pairs()) {
            // Every pair of boundary voxels, on the whole image.
            for (_, convention) in Convention::NAMED {
                let rule = convention.rule();
                let Ok(found) = measure(&p, &r, rule) else { continue };
                let points = |mask: &Array3<bool>, points| -> Vec<[usize; 3]> {
                    let on = match points {
                        Points::AllVoxels => mask.clone(),
                        Points::Boundary(c) => boundary(mask.view(), c, rule.outside),
                        Points::DualGrid => {
                            surfel::patterns(mask.view()).mapv(surfel::is_on_surface)
                        }
                    };
                    on.indexed_iter().filter(|&(_, &v)| v).map(|((z, y, x), _)| [z, y, x]).collect()
                };
                let directed = |from: &Array3<bool>, to: &Array3<bool>| {
                    let targets = points(to, rule.targets);
                    let nearest = |at: &[usize; 3]| {
                        let squared = |other: &[usize; 3]| (0..3).map(|a| {
                            (SPACING[a] * at[a].abs_diff(other[a]) as f64).powi(2)
                        }).sum::<f64>();
                        targets.iter().map(squared).fold(f64::INFINITY, f64::min).sqrt()
                    };
                    let mut all: Vec<f64> = points(from, rule.points).iter().map(nearest).collect();
                    all.sort_by(f64::total_cmp);
                    all
                };
                for (found, expected) in [
                    (found.prediction_to_reference(), directed(&p, &r)),
                    (found.reference_to_prediction(), directed(&r, &p)),
                ] {
                    let mut found = found.to_vec();
                    found.sort_by(f64::total_cmp);
                    prop_assert_eq!(found.len(), expected.len());
                    for (a, b) in found.iter().zip(&expected) {
                        prop_assert!((a - b).abs() < 1e-12);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_and_everything_have_no_distance() {
        let (full, none) = (
            Array3::from_elem((3, 4, 5), true),
            Array3::from_elem((3, 4, 5), false),
        );
        let monai = Convention::Monai.rule();
        for (p, r, which) in [
            (&none, &none, Empty::Both),
            (&none, &full, Empty::Prediction),
            (&full, &none, Empty::Reference),
        ] {
            let error = measure(p, r, monai).unwrap_err();
            assert!(matches!(error, Error::EmptyMask(found) if found == which));
        }
        assert!(measure(&full, &full, monai).is_ok());
        let error = measure(&full, &full, Convention::Chaos.rule()).unwrap_err();
        assert!(matches!(error, Error::NoBoundary { mask: "prediction" }));
    }

    #[test]
    fn a_tolerance_takes_in_the_rounding_of_files() {
        let mut p = Array3::from_elem((1, 1, 8), false);
        let mut r = p.clone();
        p[[0, 0, 0]] = true;
        r[[0, 0, 5]] = true;
        let spacing = Spacing::new(1.0, 1.0, f64::from(1.2f32)).unwrap(); // 1.2000000477
        let rule = SurfaceRule::default();
        let found = SurfaceDistances::between(p.view(), r.view(), spacing, rule).unwrap();
        assert!(found.hausdorff() > 6.0 && found.surface_dice(6.0).unwrap() >= 1.0);
        assert!(found.surface_dice(-1.0).is_err());
    }
}
