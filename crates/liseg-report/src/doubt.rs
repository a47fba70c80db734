//! Does doubt find the errors? The networks' uncertainty against the error of each case.

use crate::axis::Scale;
use crate::chart::COLOURS;
use crate::escape;
use crate::evaluation::{Evaluation, Series};
use liseg_metrics::Measure;
use std::collections::BTreeMap;
use std::path::Path;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 270.0;

/// The scores of cases by the name of their mask, from an `uncertainty.csv` of `liseg predict`.
pub(crate) type Scores = BTreeMap<String, Score>;

/// How unsure a case's prediction is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    entropy: f64,
    disagreement: Option<f64>,
}

/// Reads the table in the folder of the predictions; none where there is none.
pub(crate) fn read(folder: &Path) -> Scores {
    let mut scores = Scores::new();
    let Ok(file) = liseg_file::open(folder.join("uncertainty.csv")) else {
        return scores;
    };
    let mut table = csv::Reader::from_reader(file);
    for row in table.records().flatten() {
        let number = |i: usize| row.get(i).and_then(|cell| cell.parse::<f64>().ok());
        if let (Some(case), Some(entropy)) = (row.get(0), number(2)) {
            let disagreement = number(3);
            scores.insert(
                liseg_file::text::of_cell(case).to_owned(),
                Score {
                    entropy,
                    disagreement,
                },
            );
        }
    }
    scores
}

/// A chart of every evaluation that has scores; `None` where none has.
pub(crate) fn section(evaluations: &[Evaluation], series: &[Series<'_>]) -> Option<String> {
    let mut charts = String::new();
    for one in series {
        let evaluation = evaluations.iter().find(|e| e.name == one.evaluation.name)?;
        let points: Vec<(f64, f64, &str)> = one
            .cases()
            .filter_map(|(case, metrics)| {
                let score = evaluation.scores.get(&case.stem)?;
                let doubt = score.disagreement.unwrap_or(score.entropy);
                Some((doubt, 1.0 - metrics.get(Measure::Dice)?, case.id.as_str()))
            })
            .collect();
        if points.is_empty() {
            continue;
        }
        let disagree = evaluation.scores.values().any(|s| s.disagreement.is_some());
        let name = if disagree {
            "Disagreement of the networks"
        } else {
            "Entropy"
        };
        let rank = spearman(&points).map_or(String::new(), |rho| {
            format!(", Spearman’s ρ {rho:.2} over {} cases", points.len())
        });
        charts += &format!(
            "<figure class=\"chart\"><h3>{}{rank}</h3>{}</figure>\n",
            escape::html(&one.name()),
            scatter(one, &points, name)
        );
    }
    let note = "<p class=\"note\">A dot is a case. Where doubt finds the errors, dots rise from the lower left: \
                cases far to the right are those to look at first.</p>\n";
    (!charts.is_empty()).then(|| format!("<div class=\"charts\">{charts}</div>{note}"))
}

fn scatter(one: &Series<'_>, points: &[(f64, f64, &str)], name: &str) -> String {
    let limits = [0.0, f64::INFINITY];
    let along =
        |values: Vec<f64>, ends| Scale::round(values.into_iter().chain([0.0]), limits, ends, 5);
    let x = along(points.iter().map(|p| p.0).collect(), (LEFT, WIDTH - 16.0));
    let y = along(points.iter().map(|p| p.1).collect(), (BOTTOM, 14.0));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{name} against 1 − Dice\">\n"
    );
    for (value, label) in x.ticks() {
        let at = x.at(value);
        svg += &format!(
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"14\" y2=\"{BOTTOM}\"/><text class=\"tick\" \
             x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
            BOTTOM + 17.0
        );
    }
    for (value, label) in y.ticks() {
        let at = y.at(value);
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick\" \
             x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
            WIDTH - 16.0,
            LEFT - 8.0,
            at + 4.0
        );
    }
    svg += &format!(
        "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text><text class=\"axis\" \
         x=\"{LEFT}\" y=\"10\">1 − Dice</text>\n<g class=\"c{}\">",
        (LEFT + WIDTH) / 2.0,
        BOTTOM + 38.0,
        one.index % COLOURS
    );
    for (doubt, error, id) in points {
        svg += &format!(
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}: {doubt:.3}, 1 − Dice {error:.3}\
             </title></circle>\n",
            x.at(*doubt),
            y.at(*error),
            escape::html(id)
        );
    }
    format!("<div class=\"scroll\" tabindex=\"0\">{svg}</g></svg></div>\n")
}

/// Spearman's rank correlation of doubt and error, ties with their mean rank; `None` below three cases or
/// where one of both is constant.
fn spearman(points: &[(f64, f64, &str)]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let a = ranks(&points.iter().map(|p| p.0).collect::<Vec<_>>());
    let b = ranks(&points.iter().map(|p| p.1).collect::<Vec<_>>());
    let mean = (points.len() as f64 + 1.0) / 2.0;
    let sum = |f: &dyn Fn(usize) -> f64| (0..points.len()).map(f).sum::<f64>();
    let covariance = sum(&|i| (a[i] - mean) * (b[i] - mean));
    let spread = sum(&|i| (a[i] - mean).powi(2)) * sum(&|i| (b[i] - mean).powi(2));
    (spread > 0.0).then(|| covariance / spread.sqrt())
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |v: f64| values.iter().filter(|o| **o < v).count() as f64;
    let equal = |v: f64| values.iter().filter(|o| o.total_cmp(&v).is_eq()).count() as f64;
    values
        .iter()
        .map(|&v| below(v) + (equal(v) + 1.0) / 2.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_ties_and_correlate() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        let points = |errors: [f64; 4]| {
            let doubts = [0.1, 0.2, 0.3, 0.4];
            spearman(
                &doubts
                    .into_iter()
                    .zip(errors)
                    .map(|(d, e)| (d, e, ""))
                    .collect::<Vec<_>>(),
            )
        };
        assert!((points([0.1, 0.3, 0.5, 0.9]).unwrap() - 1.0).abs() < 1e-12);
        assert!((points([0.9, 0.5, 0.3, 0.1]).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(points([0.5; 4]), None);
    }

    #[test]
    fn a_table_is_read_and_a_missing_one_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        let text = "case,foreground_ml,entropy,disagreement\np1,1200.0,0.02,0.01\n\"a,b\",3.0,0.5,\n'=c,1.0,0.1,\n";
        std::fs::write(folder.path().join("uncertainty.csv"), text).unwrap();
        let scores = read(folder.path());
        assert_eq!(scores["p1"].disagreement, Some(0.01));
        assert!(scores.contains_key("=c"), "{scores:?}");
        assert_eq!(
            scores["a,b"],
            Score {
                entropy: 0.5,
                disagreement: None
            }
        );
    }
}
