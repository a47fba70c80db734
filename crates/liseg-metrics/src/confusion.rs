//! Counting voxels, and the measures that follow from the four counts.

use crate::{Empty, Error, Result};
use liseg_volume::Region;
use ndarray::ArrayView3;
use rayon::prelude::*;

/// How many voxels prediction and reference agree and disagree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counts {
    /// In both.
    pub true_positive: u64,
    /// In the prediction alone.
    pub false_positive: u64,
    /// In the reference alone.
    pub false_negative: u64,
    /// In neither.
    pub true_negative: u64,
}

impl Counts {
    /// Compares two masks on one grid.
    ///
    /// # Shapes
    /// Both `[z, y, x]`.
    /// # Errors
    /// [`Error::Shape`] when the shapes differ.
    ///
    /// # Examples
    /// ```
    /// use liseg_metrics::Counts;
    /// use ndarray::arr3;
    ///
    /// let prediction = arr3(&[[[true, true, false, false]]]);
    /// let reference = arr3(&[[[false, true, true, true]]]);
    /// let counts = Counts::of_masks(prediction.view(), reference.view())?;
    /// assert_eq!(counts.dice()?, 2.0 / 5.0);
    /// # Ok::<(), liseg_metrics::Error>(())
    /// ```
    pub fn of_masks(
        prediction: ArrayView3<'_, bool>,
        reference: ArrayView3<'_, bool>,
    ) -> Result<Self> {
        compare(prediction, reference, |&inside| inside).map(|(counts, _)| counts)
    }

    /// Compares the voxels that have a label in two label arrays on one grid.
    ///
    /// # Shapes
    /// Both `[z, y, x]`.
    /// # Errors
    /// [`Error::Shape`] when the shapes differ.
    pub fn of_label(
        prediction: ArrayView3<'_, u8>,
        reference: ArrayView3<'_, u8>,
        label: u8,
    ) -> Result<Self> {
        compare(prediction, reference, |&found| found == label).map(|(counts, _)| counts)
    }

    /// Voxels of the prediction: TP + FP.
    pub fn predicted(&self) -> u64 {
        self.true_positive + self.false_positive
    }

    /// Voxels of the reference: TP + FN.
    pub fn referenced(&self) -> u64 {
        self.true_positive + self.false_negative
    }

    /// Which of the masks are empty.
    pub fn empty(&self) -> Option<Empty> {
        match (self.predicted(), self.referenced()) {
            (0, 0) => Some(Empty::Both),
            (0, _) => Some(Empty::Prediction),
            (_, 0) => Some(Empty::Reference),
            _ => None,
        }
    }

    /// Dice similarity coefficient, 2·TP / (2·TP + FP + FN), from 0 to 1; symmetric.
    ///
    /// # Errors
    /// [`Error::EmptyMask`] when both masks are empty; 0 when one is.
    pub fn dice(&self) -> Result<f64> {
        self.overlap(2 * self.true_positive, self.predicted() + self.referenced())
    }

    /// Intersection over union (Jaccard), TP / (TP + FP + FN), from 0 to 1; symmetric.
    ///
    /// # Errors
    /// [`Error::EmptyMask`] when both masks are empty; 0 when one is.
    pub fn iou(&self) -> Result<f64> {
        self.overlap(self.true_positive, self.predicted() + self.false_negative)
    }

    /// F_β, (1 + β²)·TP / ((1 + β²)·TP + β²·FN + FP), from 0 to 1: a β above 1 weighs recall more
    /// than precision; at 1 it is Dice.
    ///
    /// # Errors
    /// [`Error::EmptyMask`] when both masks are empty; 0 when one is. [`Error::Setting`] when β is
    /// negative or not finite.
    pub fn f_beta(&self, beta: f64) -> Result<f64> {
        if !(beta.is_finite() && beta >= 0.0) {
            return Err(Error::Setting {
                name: "beta",
                found: beta,
            });
        }
        if self.empty() == Some(Empty::Both) {
            return Err(Error::EmptyMask(Empty::Both));
        }
        let squared = beta * beta;
        let right = (1.0 + squared) * self.true_positive as f64;
        let wrong = squared * self.false_negative as f64 + self.false_positive as f64;
        // Only at β = 0 can nothing be wrong with an empty prediction: no precision, no score.
        let all = right + wrong;
        Ok(if all > 0.0 { right / all } else { 0.0 })
    }

    /// How alike the volumes are whatever their place, 1 − |FN − FP| / (2·TP + FP + FN), from 0 to
    /// 1 (Taha and Hanbury 2015). SimpleITK calls a signed relative difference by this name.
    ///
    /// # Errors
    /// [`Error::EmptyMask`] when both masks are empty; 0 when one is.
    pub fn volume_similarity(&self) -> Result<f64> {
        let difference = self.false_negative.abs_diff(self.false_positive);
        let total = self.predicted() + self.referenced();
        Ok(1.0 - self.overlap(difference, total)?)
    }

    /// The part of the prediction that is right, TP / (TP + FP): precision.
    ///
    /// # Errors
    /// [`Error::ZeroDenominator`] when the prediction is empty.
    pub fn precision(&self) -> Result<f64> {
        let predicted = self.predicted() as f64;
        ratio("precision", self.true_positive as f64, predicted, PREDICTED)
    }

    /// The part of the reference that is found, TP / (TP + FN): recall, or sensitivity.
    ///
    /// # Errors
    /// [`Error::ZeroDenominator`] when the reference is empty.
    pub fn recall(&self) -> Result<f64> {
        let referenced = self.referenced() as f64;
        ratio("recall", self.true_positive as f64, referenced, REFERENCED)
    }

    /// The part of the background that is left alone, TN / (TN + FP). Depends on the field of
    /// view: two crops of one image differ.
    ///
    /// # Errors
    /// [`Error::ZeroDenominator`] when the reference fills the image.
    pub fn specificity(&self) -> Result<f64> {
        let negatives = (self.true_negative + self.false_positive) as f64;
        ratio(
            "specificity",
            self.true_negative as f64,
            negatives,
            "the number of voxels outside the reference",
        )
    }

    /// The relative volume error (|P| − |R|) / |R|: negative when the prediction is too small.
    ///
    /// # Errors
    /// [`Error::ZeroDenominator`] when the reference is empty.
    pub fn relative_volume_error(&self) -> Result<f64> {
        let difference = self.predicted() as f64 - self.referenced() as f64;
        let referenced = self.referenced() as f64;
        ratio("relative_volume_error", difference, referenced, REFERENCED)
    }

    /// Matthews correlation coefficient, from −1 to 1.
    ///
    /// # Errors
    /// [`Error::ZeroDenominator`] when a mask is empty or fills the image.
    pub fn matthews_correlation(&self) -> Result<f64> {
        // In floating point: the product of four counts overflows integers.
        let [tp, fp, fn_, tn] = [
            self.true_positive,
            self.false_positive,
            self.false_negative,
            self.true_negative,
        ]
        .map(|count| count as f64);
        let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        ratio(
            "Matthews correlation",
            tp * tn - fp * fn_,
            product.sqrt(),
            "the size of a mask or of its background",
        )
    }

    fn overlap(&self, numerator: u64, denominator: u64) -> Result<f64> {
        match denominator {
            0 => Err(Error::EmptyMask(Empty::Both)),
            _ => Ok(numerator as f64 / denominator as f64),
        }
    }
}

const PREDICTED: &str = "the number of voxels of the prediction";
const REFERENCED: &str = "the number of voxels of the reference";

fn ratio(
    measure: &'static str,
    numerator: f64,
    denominator: f64,
    name: &'static str,
) -> Result<f64> {
    if denominator > 0.0 {
        Ok(numerator / denominator)
    } else {
        Err(Error::ZeroDenominator {
            measure,
            denominator: name,
        })
    }
}

/// Counts, and the smallest box around both masks (`None` when both are empty), in one pass.
pub(crate) fn compare<T: Clone + Sync>(
    prediction: ArrayView3<'_, T>,
    reference: ArrayView3<'_, T>,
    is_object: impl Fn(&T) -> bool + Sync,
) -> Result<(Counts, Option<Region>)> {
    let shape = |view: &ArrayView3<'_, T>| [view.dim().0, view.dim().1, view.dim().2];
    let (expected, found) = (shape(&reference), shape(&prediction));
    if expected != found {
        return Err(Error::Shape { expected, found });
    }
    // Row by row on contiguous memory; copies only views that are not.
    let (prediction, reference) = (
        prediction.as_standard_layout(),
        reference.as_standard_layout(),
    );
    let slices = prediction.outer_iter().into_par_iter();
    let slices = slices.zip(reference.outer_iter()).enumerate();
    let total = slices.map(|(z, (prediction, reference))| {
        let mut total = Tally::default();
        for (y, (p, r)) in prediction
            .outer_iter()
            .zip(reference.outer_iter())
            .enumerate()
        {
            if let (Some(p), Some(r)) = (p.to_slice(), r.to_slice()) {
                total.add_row([z, y], p, r, &is_object);
            }
        }
        total
    });
    let total = total.reduce(Tally::default, Tally::merged);
    let voxels = expected.iter().map(|&n| n as u64).product::<u64>();
    let counts = Counts {
        true_positive: total.both,
        false_positive: total.predicted - total.both,
        false_negative: total.referenced - total.both,
        true_negative: voxels + total.both - total.predicted - total.referenced,
    };
    Ok((counts, total.region))
}

#[derive(Default, Clone, Copy)]
struct Tally {
    predicted: u64,
    referenced: u64,
    both: u64,
    region: Option<Region>,
}

impl Tally {
    fn add_row<T>(
        &mut self,
        [z, y]: [usize; 2],
        prediction: &[T],
        reference: &[T],
        is_object: impl Fn(&T) -> bool,
    ) {
        let before = self.predicted + self.referenced;
        // Up to 255 voxels are counted in bytes, which the compiler turns into vectors.
        let chunks = prediction.chunks(255).zip(reference.chunks(255));
        for (prediction, reference) in chunks {
            let (mut predicted, mut referenced, mut both) = (0u8, 0u8, 0u8);
            for (p, r) in prediction.iter().zip(reference) {
                let (p, r) = (u8::from(is_object(p)), u8::from(is_object(r)));
                predicted += p;
                referenced += r;
                both += p & r;
            }
            self.predicted += u64::from(predicted);
            self.referenced += u64::from(referenced);
            self.both += u64::from(both);
        }
        if self.predicted + self.referenced == before {
            return;
        }
        let inside = |(p, r): (&T, &T)| is_object(p) || is_object(r);
        let first = prediction.iter().zip(reference).position(inside);
        let last = prediction.iter().zip(reference).rposition(inside);
        if let (Some(first), Some(last)) = (first, last) {
            self.enclose(Region {
                start: [z, y, first],
                end: [z + 1, y + 1, last + 1],
            });
        }
    }

    fn enclose(&mut self, other: Region) {
        self.region = Some(self.region.map_or(other, |region| Region {
            start: std::array::from_fn(|a| region.start[a].min(other.start[a])),
            end: std::array::from_fn(|a| region.end[a].max(other.end[a])),
        }));
    }

    fn merged(mut self, other: Self) -> Self {
        self.predicted += other.predicted;
        self.referenced += other.referenced;
        self.both += other.both;
        if let Some(region) = other.region {
            self.enclose(region);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pairs;
    use liseg_morphology::bounding_region;
    use ndarray::Array3;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_and_box_are_those_of_the_masks((p, r) in pairs()) {
            let (counts, region) = compare(p.view(), r.view(), |&v| v).unwrap();
            let count = |wanted: (bool, bool)| {
                p.iter().zip(&r).filter(|&(&p, &r)| (p, r) == wanted).count() as u64
            };
            prop_assert_eq!(counts.true_positive, count((true, true)));
            prop_assert_eq!(counts.false_positive, count((true, false)));
            prop_assert_eq!(counts.false_negative, count((false, true)));
            prop_assert_eq!(counts.true_negative, count((false, false)));
            let union = Array3::from_shape_fn(p.dim(), |i| p[i] || r[i]);
            prop_assert_eq!(region, bounding_region(union.view(), |&v| v));
        }

        #[test]
        fn overlap_is_symmetric_and_bounded((p, r) in pairs()) {
            let a = Counts::of_masks(p.view(), r.view()).unwrap();
            let b = Counts::of_masks(r.view(), p.view()).unwrap();
            if a.empty() == Some(Empty::Both) {
                prop_assert!(matches!(a.dice(), Err(Error::EmptyMask(Empty::Both))));
                return Ok(());
            }
            for (x, y) in [
                (a.dice().unwrap(), b.dice().unwrap()),
                (a.iou().unwrap(), b.iou().unwrap()),
                (a.volume_similarity().unwrap(), b.volume_similarity().unwrap()),
            ] {
                prop_assert!((x - y).abs() < 1e-15 && (0.0..=1.0).contains(&x));
            }
            let dice = a.dice().unwrap();
            prop_assert!((a.iou().unwrap() - dice / (2.0 - dice)).abs() < 1e-12);
            match (a.precision(), b.recall()) {
                (Ok(x), Ok(y)) => prop_assert!((x - y).abs() < 1e-15),
                (x, y) => prop_assert!(x.is_err() && y.is_err()),
            }
        }
    }

    #[test]
    fn counts_do_not_overflow() {
        // More voxels of each kind than a byte holds, in one row.
        let p = Array3::from_elem((1, 1, 1000), 3u8);
        let counts = Counts::of_label(p.view(), p.view(), 3).unwrap();
        assert_eq!(counts.true_positive, 1000);
        let large = Counts {
            true_positive: 1 << 30,
            false_positive: 1 << 20,
            false_negative: 1 << 20,
            true_negative: 1 << 34,
        };
        assert!(large.matthews_correlation().unwrap() > 0.99);
    }

    #[test]
    fn shapes_must_agree() {
        let a = Array3::from_elem((1, 2, 3), true);
        let b = Array3::from_elem((1, 3, 2), true);
        let error = Counts::of_masks(a.view(), b.view()).unwrap_err();
        assert!(error.to_string().contains("[1, 2, 3]"), "{error}");
    }

    #[test]
    fn f_beta_weighs_recall_by_the_square_of_beta() {
        let counts = Counts {
            true_positive: 6,
            false_positive: 2,
            false_negative: 4,
            true_negative: 10,
        };
        // 1.25 · 6 / (1.25 · 6 + 0.25 · 4 + 2) and 10 · 6 / (10 · 6 + 9 · 4 + 2).
        assert!((counts.f_beta(0.5).unwrap() - 7.5 / 10.5).abs() < 1e-15);
        assert!((counts.f_beta(3.0).unwrap() - 60.0 / 98.0).abs() < 1e-15);
        assert_eq!(counts.f_beta(1.0).unwrap(), counts.dice().unwrap());
        for beta in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(matches!(counts.f_beta(beta), Err(Error::Setting { .. })));
        }
        let missed = Counts {
            true_positive: 0,
            false_positive: 0,
            ..counts
        };
        assert_eq!(missed.f_beta(0.0).unwrap(), 0.0);
    }
}
