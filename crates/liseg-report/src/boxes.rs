//! Box plots by phase, by vendor, by any other kind of group.

use crate::axis::Scale;
use crate::chart::COLOURS;
use crate::escape;
use crate::evaluation::{Evaluation, Series, group_names};
use crate::table::{heading, number};
use liseg_metrics::Measure;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 120.0;
const TOP: f64 = 10.0;
/// Height of one box with the room around it, and of the gap between groups.
const ROW: f64 = 20.0;
const GAP: f64 = 14.0;

/// One box: five numbers of sorted values.
struct Five([f64; 5]);

impl Five {
    /// Least, quartiles (linear between neighbours) and greatest of values in ascending order.
    fn of(values: &[f64]) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, t) = (place.floor() as usize, place.fract());
            values[below] + t * (values[(below + 1).min(last)] - values[below])
        };
        Some(Self([0.0, 0.25, 0.5, 0.75, 1.0].map(at)))
    }
}

/// For every member of a kind of group a box for each series, over all cases with a value: missing and
/// empty ones count with the value that the tables give them. Empty where no case has the kind.
pub(crate) fn by_group(
    evaluations: &[Evaluation],
    series: &[Series<'_>],
    kind: &str,
    measure: Measure,
) -> String {
    let values = |one: &Series<'_>, name: &str| -> Vec<f64> {
        let members = one
            .cases()
            .filter(|(case, _)| case.group.get(kind).is_some_and(|found| found == name));
        let mut values: Vec<f64> = members.filter_map(|(_, m)| m.get(measure)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let groups: Vec<(&str, Vec<Vec<f64>>)> = group_names(evaluations, kind)
        .into_iter()
        .map(|name| (name, series.iter().map(|one| values(one, name)).collect()))
        .collect();
    if groups.is_empty() {
        return String::new();
    }
    let limits = [
        0.0,
        if measure.is_distance() {
            f64::INFINITY
        } else {
            1.0
        },
    ];
    let all = groups
        .iter()
        .flat_map(|(_, rows)| rows.iter().flatten().copied());
    let zero = measure.is_distance().then_some(0.0);
    let scale = Scale::round(all.chain(zero), limits, (LEFT, WIDTH - 16.0), 6);
    let tall = series.len() as f64 * ROW + GAP;
    let bottom = TOP + tall * groups.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{} by {}\">\n",
        bottom + 46.0,
        measure.name(),
        escape::html(kind)
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
        (LEFT + WIDTH - 16.0) / 2.0,
        bottom + 38.0,
        heading(measure)
    );
    for (place, (name, rows)) in groups.iter().enumerate() {
        let top = TOP + tall * place as f64;
        svg += &format!(
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}<title>{}</title></text>\n",
            LEFT - 12.0,
            top + tall / 2.0 + 4.0,
            escape::html(&escape::shorten(name, 14)),
            escape::html(name)
        );
        for (row, (one, values)) in series.iter().zip(rows).enumerate() {
            let middle = top + GAP / 2.0 + ROW * (row as f64 + 0.5);
            svg += &one_box(one, values, measure, &scale, middle, name);
        }
    }
    format!("<div class=\"scroll\" tabindex=\"0\">{svg}</svg></div>\n")
}

fn one_box(
    one: &Series<'_>,
    values: &[f64],
    measure: Measure,
    scale: &Scale,
    middle: f64,
    group: &str,
) -> String {
    let Some(Five(five)) = Five::of(values) else {
        return String::new();
    };
    let [least, left, centre, right, greatest] = five.map(|value| scale.at(value));
    let half = ROW / 2.0 - 3.0;
    let shown = five.map(|value| number(measure, Some(value)));
    format!(
        "<g class=\"c{}\"><title>{}, {}: {} cases, {} to {}, quartiles {} and {}, median {}</title>\
         <line class=\"whisker\" x1=\"{least:.1}\" x2=\"{greatest:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <rect class=\"box\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>\
         <line class=\"median\" x1=\"{centre:.1}\" x2=\"{centre:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/></g>\n",
        one.index % COLOURS,
        escape::html(&one.name()),
        escape::html(group),
        values.len(),
        shown[0],
        shown[4],
        shown[1],
        shown[3],
        shown[2],
        middle - half,
        (right - left).max(1.0),
        2.0 * half,
        middle - half,
        middle + half
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_numbers_are_linear_between_neighbours() {
        let five = |values: &[f64]| Five::of(values).map(|f| f.0);
        assert_eq!(five(&[]), None);
        assert_eq!(five(&[3.0]), Some([3.0; 5]));
        assert_eq!(
            five(&[0.0, 1.0, 2.0, 3.0, 8.0]),
            Some([0.0, 1.0, 2.0, 3.0, 8.0])
        );
        assert_eq!(five(&[0.0, 1.0]), Some([0.0, 0.25, 0.5, 0.75, 1.0]));
    }
}
