//! Is one evaluation better than another? Paired differences with intervals and tests.

use crate::escape;
use crate::evaluation::Evaluation;
use crate::table::{boxed, heading, number};
use liseg_metrics::{Comparison, ComparisonSettings, Measure, PairedDifference};

/// Pairs beyond this many are left to `liseg compare`.
const MOST: usize = 28;

/// The section's content; `None` where there is nothing to compare.
pub(crate) fn section(evaluations: &[Evaluation]) -> Option<String> {
    if evaluations.len() < 2 {
        return None;
    }
    let reports: Vec<_> = evaluations
        .iter()
        .map(|evaluation| (evaluation.name.clone(), evaluation.report.clone()))
        .collect();
    let settings = ComparisonSettings {
        measures: vec![Measure::Dice, Measure::Hd95],
        replicates: 5000,
        ..ComparisonSettings::default()
    };
    let comparison = match Comparison::of(&reports, &settings) {
        Ok(comparison) => comparison,
        Err(error) => {
            return Some(format!(
                "<p>Not compared: {}.</p>\n",
                escape::html(&error.to_string())
            ));
        }
    };
    let head = [
        "Label",
        "Measure",
        "Second − first",
        "Mean difference",
        "95 % interval",
        "Better",
        "Worse",
        "p",
        "p (Holm)",
    ];
    let head: String = head
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let class = if i > 2 { " class=\"n\"" } else { "" };
            format!("<th scope=\"col\"{class}>{name}</th>")
        })
        .collect();
    let rows: String = comparison.pairs.iter().take(MOST).map(row).collect();
    let (units, unit) = (comparison.units.len(), &comparison.unit);
    let mut html = boxed(
        &format!(
            "{units} {unit}s that all evaluations share; intervals by bootstrap over {unit}s, Wilcoxon’s \
             signed-rank test, Holm’s correction over all rows; bold: p (Holm) below 0.05"
        ),
        &format!("<tr>{head}</tr>"),
        &rows,
    );
    if comparison.pairs.len() > MOST {
        html += "<p class=\"note\">Further pairs: <code>liseg compare</code>.</p>\n";
    }
    if !comparison.unshared.is_empty() {
        html += &format!(
            "<p class=\"note\">Left out, because not every evaluation has them: {}.</p>\n",
            escape::html(&comparison.unshared.join(", "))
        );
    }
    Some(html)
}

fn row(pair: &PairedDifference) -> String {
    let signed = |value: f64| {
        let shown = number(pair.measure, Some(value.abs()));
        format!("{}{shown}", if value < 0.0 { '−' } else { '+' })
    };
    let p = |p: f64| {
        if p < 0.0001 {
            "< 0.0001".into()
        } else {
            format!("{p:.4}")
        }
    };
    let class = if pair.p_holm < 0.05 { "n best" } else { "n" };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"pair\">{} − {}</td><td class=\"{class}\">{}</td>\
         <td class=\"n\">{} to {}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"{class}\">{}</td></tr>\n",
        escape::html(&pair.label),
        heading(pair.measure),
        escape::html(&pair.second),
        escape::html(&pair.first),
        signed(pair.mean.estimate),
        signed(pair.mean.low),
        signed(pair.mean.high),
        pair.better,
        pair.worse,
        p(pair.test.p),
        p(pair.p_holm)
    )
}
