//! How cases are distributed: one strip of dots with a box per series.

use crate::axis::Scale;
use crate::escape;
use crate::evaluation::{Outcome, Series};
use crate::table::{heading, number};
use liseg_metrics::Measure;

/// How many colours the style sheet has.
pub(crate) const COLOURS: usize = 8;
const WIDTH: f64 = 640.0;
const LEFT: f64 = 150.0;
const ROW: f64 = 62.0;
const TOP: f64 = 10.0;
/// Room for the dots of failed cases.
const GUTTER: f64 = 76.0;
const RADIUS: f64 = 3.6;

/// Dots for cases, a box for the quartiles and a line for the median, by series.
///
/// Cases without a segmentation stand aside: their distance, the diagonal of the image, would
/// flatten all others. The box counts them, as the tables do.
pub(crate) fn strip(series: &[Series<'_>], measure: Measure) -> String {
    let measured = |one: &Series<'_>| -> Vec<(f64, String)> {
        let cases = one
            .cases()
            .filter(|(case, m)| case.outcome(m) == Outcome::Measured);
        let mut values: Vec<(f64, String)> = cases
            .filter_map(|(case, m)| Some((m.get(measure)?, case.id.clone())))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values
    };
    let failed = |one: &Series<'_>| -> Vec<(String, &str)> {
        let outcomes = one
            .cases()
            .map(|(case, m)| (case.id.clone(), case.outcome(m)));
        let named = outcomes.filter_map(|(id, outcome)| match outcome {
            Outcome::Measured => None,
            Outcome::Empty => Some((id, "empty")),
            Outcome::Missing => Some((id, "missing")),
        });
        named.collect()
    };
    let rows: Vec<_> = series
        .iter()
        .map(|one| (one, measured(one), failed(one)))
        .collect();
    let gutter = if rows.iter().any(|(_, _, failed)| !failed.is_empty()) {
        GUTTER
    } else {
        0.0
    };
    let right = WIDTH - 16.0 - gutter;
    let limits = [
        0.0,
        if measure.is_distance() {
            f64::INFINITY
        } else {
            1.0
        },
    ];
    let values = rows
        .iter()
        .flat_map(|(_, values, _)| values.iter().map(|(value, _)| *value));
    // A distance is judged by how far it is from 0.
    let zero = measure.is_distance().then_some(0.0);
    let scale = Scale::round(values.chain(zero), limits, (LEFT, right), 6);

    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + 46.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{} by evaluation\">\n",
        measure.name()
    );
    for (value, label) in scale.ticks() {
        let x = scale.at(value);
        svg += &format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
            bottom + 17.0
        );
    }
    svg += &format!(
        "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
        (LEFT + right) / 2.0,
        bottom + 38.0,
        heading(measure)
    );
    if gutter > 0.0 {
        let x = right + 20.0;
        svg += &format!(
            "<line class=\"rule\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">failed</text>\n",
            x + (WIDTH - x) / 2.0,
            bottom + 17.0
        );
    }
    for (row, (one, values, failed)) in rows.iter().enumerate() {
        let middle = TOP + ROW * (row as f64 + 0.5);
        svg += &format!(
            "<g class=\"c{}\"><text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">\
             {}<title>{}</title></text>\n",
            one.index % COLOURS,
            LEFT - 14.0,
            middle + 4.0,
            escape::html(&escape::shorten(&one.name(), 20)),
            escape::html(&one.name())
        );
        svg += &quartiles(one, measure, &scale, middle);
        let places: Vec<f64> = values.iter().map(|(value, _)| scale.at(*value)).collect();
        for ((value, id), (x, dy)) in values.iter().zip(swarm(&places)) {
            svg += &format!(
                "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"{RADIUS}\"><title>{}: {}\
                 </title></circle>\n",
                middle + dy,
                escape::html(id),
                number(measure, Some(*value))
            );
        }
        let start = right + 34.0;
        let columns = ((WIDTH - start) / 11.0).floor().max(1.0) as usize;
        for (index, (id, what)) in failed.iter().enumerate().take(columns * 5) {
            let x = start + 11.0 * (index % columns) as f64;
            let lines = failed.len().min(columns * 5).div_ceil(columns) as f64;
            let y = middle + 11.0 * ((index / columns) as f64 - (lines - 1.0) / 2.0);
            svg += &format!(
                "<path class=\"cross\" d=\"M{:.1} {:.1}l6 6m0 -6l-6 6\"><title>{}: {what}</title>\
                 </path>\n",
                x - 3.0,
                y - 3.0,
                escape::html(id)
            );
        }
        svg += "</g>\n";
    }
    format!("<div class=\"scroll\" tabindex=\"0\">{svg}</svg></div>\n")
}

fn quartiles(one: &Series<'_>, measure: Measure, scale: &Scale, middle: f64) -> String {
    let summary = one.summaries.get(&measure);
    let of = |s: &liseg_metrics::Summary| Some([s.first_quartile?, s.median?, s.third_quartile?]);
    let Some([first, median, third]) = summary.and_then(of) else {
        return String::new();
    };
    let (left, right, centre) = (scale.at(first), scale.at(third), scale.at(median));
    let half = ROW / 2.0 - 8.0;
    format!(
        "<rect class=\"box\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"3\">\
         <title>quartiles {} to {}, median {}</title></rect>\
         <line class=\"median\" x1=\"{centre:.1}\" x2=\"{centre:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\n",
        middle - half,
        (right - left).max(1.0),
        2.0 * half,
        number(measure, Some(first)),
        number(measure, Some(third)),
        number(measure, Some(median)),
        middle - half,
        middle + half
    )
}

/// Moves dots off the line until they no longer hide each other, as long as the row has room.
/// Places must ascend.
fn swarm(places: &[f64]) -> Vec<(f64, f64)> {
    const APART: f64 = 2.0 * RADIUS + 0.4;
    let mut dots: Vec<(f64, f64)> = Vec::with_capacity(places.len());
    // 0, up, down, twice up, …
    let offsets = || (0..7).map(|i| f64::from((i + 1) / 2) * if i % 2 == 1 { -6.6 } else { 6.6 });
    for &x in places {
        let near = || dots.iter().rev().take_while(|(other, _)| x - other < APART);
        let free = |dy: &f64| near().all(|(ox, oy)| (x - ox).hypot(dy - oy) >= APART * 0.88);
        // A full row gets transparent dots above each other.
        let crowded = near().count();
        let dy = offsets()
            .find(free)
            .or_else(|| offsets().nth(crowded % 7))
            .unwrap_or(0.0);
        dots.push((x, dy));
    }
    dots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_stays_in_its_row_and_keeps_the_values() {
        let places: Vec<f64> = (0..60).map(|i| f64::from(i) * 0.7).collect();
        let dots = swarm(&places);
        assert!(
            dots.iter()
                .zip(&places)
                .all(|(dot, x)| dot.0.to_bits() == x.to_bits())
        );
        assert!(dots.iter().all(|dot| dot.1.abs() < ROW / 2.0));
        let apart = swarm(&[0.0, 50.0, 100.0]);
        assert!(apart.iter().all(|dot| dot.1 == 0.0));
        let pair = swarm(&[10.0, 10.0]);
        assert_ne!(pair[0], pair[1]);
    }
}
