//! The tables of the page.

use crate::TableSpec;
use crate::escape;
use crate::evaluation::{Case, Evaluation, Outcome, Series, group_kinds, group_names};
use liseg_metrics::{CaseMetrics, Measure};
use std::collections::{BTreeMap, BTreeSet};

/// The measures of the comparison.
const COMPARED: [Measure; 5] = [
    Measure::Dice,
    Measure::Hd,
    Measure::Hd95,
    Measure::Assd,
    Measure::Nsd,
];

/// A value as tables show it: shares with three decimals, millimetres with two.
pub(crate) fn number(measure: Measure, value: Option<f64>) -> String {
    match value {
        Some(value) if measure.is_distance() => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
        None => "–".into(),
    }
}

/// The name of a measure with its unit.
pub(crate) fn heading(measure: Measure) -> String {
    if measure.is_distance() {
        format!("{measure} (mm)")
    } else {
        measure.name().to_owned()
    }
}

/// The mark of a series: its colour and its name.
pub(crate) fn series_name(series: &Series<'_>) -> String {
    let colour = series.index % crate::chart::COLOURS;
    format!(
        "<span class=\"key c{colour}\"></span>{}",
        escape::html(&series.name())
    )
}

/// A table in a box of its own that scrolls on narrow screens.
pub(crate) fn boxed(caption: &str, head: &str, body: &str) -> String {
    let caption = match caption {
        "" => String::new(),
        text => format!("<span>{}</span>", escape::html(text)),
    };
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><caption>{caption}</caption>\n<thead>{head}</thead>\n\
         <tbody>{body}</tbody></table></div>\n"
    )
}

/// A table that was given as texts, with its note.
pub(crate) fn of_texts(table: &TableSpec) -> String {
    let class = |column: usize| match column < table.names {
        true => "",
        false => " class=\"n\"",
    };
    let head: String = (0..)
        .zip(&table.columns)
        .map(|(k, name)| format!("<th scope=\"col\"{}>{}</th>", class(k), escape::html(name)))
        .collect();
    let row = |cells: &Vec<String>| -> String {
        let cells = (0..).zip(cells);
        let cells: String = cells
            .map(|(k, text)| format!("<td{}>{}</td>", class(k), lines(text)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = table.rows.iter().map(row).collect();
    let caption = if table.folded { "" } else { &table.caption };
    let mut html = boxed(caption, &format!("<tr>{head}</tr>"), &body);
    if !table.note.is_empty() {
        html += &format!("<p class=\"note\">{}</p>\n", escape::html(&table.note));
    }
    if table.folded {
        let summary = escape::html(&table.caption);
        html = format!("<details><summary>{summary}</summary>\n{html}</details>\n");
    }
    html
}

/// A text whose further lines are small.
fn lines(text: &str) -> String {
    let (first, more) = text.split_once('\n').unwrap_or((text, ""));
    let more = match more {
        "" => String::new(),
        // An interval stays in one piece.
        more => format!(
            "<small>{}</small>",
            escape::html(more).replace(", ", ",&nbsp;")
        ),
    };
    escape::html(first) + &more
}

/// Mean ± sd, median and counts of every series; the best mean is bold.
pub(crate) fn comparison(series: &[Series<'_>]) -> String {
    let mut head = String::from("<tr><th scope=\"col\">Evaluation</th>");
    for measure in COMPARED {
        head += &format!("<th scope=\"col\" class=\"n\">{}</th>", heading(measure));
    }
    head += "<th scope=\"col\" class=\"n\">Cases</th><th scope=\"col\" class=\"n\">Missing</th>\
             <th scope=\"col\" class=\"n\">Empty</th></tr>";
    let best = COMPARED.map(|measure| best(measure, series.iter().map(|s| mean(s, measure))));
    let mut body = String::new();
    for one in series {
        body += &format!("<tr><th scope=\"row\">{}</th>", series_name(one));
        for (measure, best) in COMPARED.into_iter().zip(&best) {
            let Some(summary) = one.summaries.get(&measure) else {
                body += "<td class=\"n\">–</td>";
                continue;
            };
            let mean = number(measure, summary.mean);
            let class = if best.as_ref() == Some(&mean) {
                "n best"
            } else {
                "n"
            };
            let sd = summary
                .sd
                .map(|sd| format!(" ± {}", number(measure, Some(sd))));
            let left_out = match summary.n_undefined {
                0 => String::new(),
                _ => format!(", n {}", summary.n),
            };
            let interval = summary.mean_interval.map(|[low, high]| {
                let [low, high] = [low, high].map(|end| number(measure, Some(end)));
                format!("<small>[{low}, {high}]</small>")
            });
            body += &format!(
                "<td class=\"{class}\"><span class=\"mean\">{mean}</span>{}{}<small>median \
                 {}{left_out}</small></td>",
                sd.unwrap_or_default(),
                interval.unwrap_or_default(),
                number(measure, summary.median)
            );
        }
        let [mut missing, mut empty, mut all] = [0; 3];
        for (case, metrics) in one.cases() {
            all += 1;
            match case.outcome(metrics) {
                Outcome::Missing => missing += 1,
                Outcome::Empty => empty += 1,
                Outcome::Measured => {}
            }
        }
        body += &format!(
            "<td class=\"n\">{all}</td>{}{}</tr>\n",
            count(missing),
            count(empty)
        );
    }
    boxed(
        "Mean ± standard deviation over cases, [95 % bootstrap interval of the mean]; the best mean is bold",
        &head,
        &body,
    )
}

fn count(failures: usize) -> String {
    let class = if failures > 0 { "n bad" } else { "n" };
    format!("<td class=\"{class}\">{failures}</td>")
}

fn mean(series: &Series<'_>, measure: Measure) -> Option<f64> {
    series.summaries.get(&measure)?.mean
}

/// The best value as it is shown, so that ties are all bold; `None` where nothing is compared.
fn best(measure: Measure, values: impl Iterator<Item = Option<f64>>) -> Option<String> {
    let values: Vec<f64> = values.flatten().collect();
    let far = |value: &f64| measure.badness(*value).unwrap_or(0.0);
    let best = values
        .iter()
        .copied()
        .min_by(|a, b| far(a).total_cmp(&far(b)));
    let shown = number(measure, Some(best?));
    let all_equal = values
        .iter()
        .all(|&value| number(measure, Some(value)) == shown);
    (!all_equal).then_some(shown)
}

/// For every kind of group with two members or more, a table of mean Dice and mean HD95, groups by series.
/// A single member's would say what the comparison says.
pub(crate) fn groups<'a>(
    evaluations: &'a [Evaluation],
    series: &[Series<'a>],
) -> Vec<(String, String)> {
    let table = |kind: &str, names: BTreeSet<&str>| {
        let mut body = String::new();
        for name in names {
            body += &format!("<tr><th scope=\"row\">{}</th>", escape::html(name));
            let members = |one: &Series<'a>| -> Vec<&'a CaseMetrics> {
                let of = |case: &Case| case.group.get(kind).is_some_and(|found| found == name);
                one.cases()
                    .filter(|(case, _)| of(case))
                    .map(|(_, metrics)| metrics)
                    .collect()
            };
            let members: Vec<_> = series.iter().map(members).collect();
            let counts: BTreeSet<usize> = members.iter().map(Vec::len).collect();
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            body += &format!("<td class=\"n\">{}</td>", counts.join("–"));
            let means: Vec<[Option<f64>; 2]> = members
                .iter()
                .map(|cases| {
                    [Measure::Dice, Measure::Hd95].map(|measure| {
                        let values = cases.iter().filter_map(|case| case.get(measure));
                        let (sum, n) =
                            values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
                        (n > 0).then(|| sum / f64::from(n))
                    })
                })
                .collect();
            for (place, measure) in [Measure::Dice, Measure::Hd95].into_iter().enumerate() {
                let best = best(measure, means.iter().map(|mean| mean[place]));
                for mean in &means {
                    let shown = number(measure, mean[place]);
                    let class = if best.as_ref() == Some(&shown) {
                        "n best"
                    } else {
                        "n"
                    };
                    body += &format!("<td class=\"{class}\">{shown}</td>");
                }
            }
            body += "</tr>\n";
        }
        let head = two_rows(
            &[capital(kind), "Cases".into()],
            &[Measure::Dice, Measure::Hd95].map(|measure| format!("Mean {}", heading(measure))),
            &vec![series.iter().map(series_name).collect(); 2],
        );
        boxed(&format!("By {kind}; the best mean is bold"), &head, &body)
    };
    let kinds = group_kinds(evaluations).into_iter();
    let kinds = kinds.map(|kind| (kind, group_names(evaluations, kind)));
    kinds
        .filter(|(_, names)| names.len() > 1)
        .map(|(kind, names)| (kind.to_owned(), table(kind, names)))
        .collect()
}

/// A head whose upper row spans the columns below it. The columns are HTML already.
fn two_rows(first: &[String], spans: &[String], columns: &[Vec<String>]) -> String {
    let mut head = String::from("<tr>");
    for (index, name) in first.iter().enumerate() {
        let class = if index > 0 && name == "Cases" {
            " class=\"n\""
        } else {
            ""
        };
        head += &format!(
            "<th scope=\"col\" rowspan=\"2\"{class}>{}</th>",
            escape::html(name)
        );
    }
    for (span, columns) in spans.iter().zip(columns) {
        let width = columns.len();
        head += &format!("<th scope=\"colgroup\" colspan=\"{width}\" class=\"span\">{span}</th>");
    }
    head += "</tr><tr>";
    for column in columns.iter().flatten() {
        head += &format!("<th scope=\"col\" class=\"n\">{column}</th>");
    }
    head + "</tr>"
}

pub(crate) fn capital(text: &str) -> String {
    let mut signs = text.chars();
    signs
        .next()
        .map(|first| first.to_uppercase().chain(signs).collect())
        .unwrap_or_default()
}

/// Every case with its groups and its measures by series, in the order of names.
pub(crate) fn cases(evaluations: &[Evaluation], series: &[Series<'_>]) -> String {
    const SHOWN: [Measure; 3] = [Measure::Dice, Measure::Hd95, Measure::Assd];
    let kinds = group_kinds(evaluations);
    let mut all: BTreeMap<&str, &BTreeMap<String, String>> = BTreeMap::new();
    for case in evaluations.iter().flat_map(|evaluation| &evaluation.cases) {
        let group = all.entry(&case.id).or_insert(&case.group);
        if group.is_empty() {
            *group = &case.group;
        }
    }
    let mut body = String::new();
    for (id, group) in &all {
        body += &format!("<tr><th scope=\"row\">{}</th>", escape::html(id));
        for kind in &kinds {
            let name = group.get(*kind).map(String::as_str).unwrap_or("–");
            body += &format!("<td>{}</td>", escape::html(name));
        }
        for one in series {
            let Some((case, metrics)) = one.case(id) else {
                body += &format!(
                    "<td colspan=\"{}\" class=\"absent\">not evaluated</td>",
                    SHOWN.len()
                );
                continue;
            };
            let class = match case.outcome(metrics) {
                Outcome::Measured => "n",
                Outcome::Empty | Outcome::Missing => "n bad",
            };
            let note = match case.outcome(metrics) {
                Outcome::Measured => "",
                Outcome::Empty => "<small>empty</small>",
                Outcome::Missing => "<small>missing</small>",
            };
            for (index, measure) in SHOWN.into_iter().enumerate() {
                let note = if index == 0 { note } else { "" };
                let shown = number(measure, metrics.get(measure));
                body += &format!("<td class=\"{class}\">{shown}{note}</td>");
            }
        }
        body += "</tr>\n";
    }
    let first: Vec<String> = std::iter::once("Case".to_owned())
        .chain(kinds.iter().map(|kind| capital(kind)))
        .collect();
    let head = two_rows(
        &first,
        &series.iter().map(series_name).collect::<Vec<_>>(),
        &vec![SHOWN.map(heading).to_vec(); series.len()],
    );
    boxed(
        &format!("{} cases; all measures are in cases.csv", all.len()),
        &head,
        &body,
    )
}

/// What is missing, what is empty, and what has no value; `None` where nothing failed.
pub(crate) fn failures(series: &[Series<'_>]) -> Option<String> {
    let mut body = String::new();
    for one in series {
        for (case, metrics) in one.cases() {
            let (kind, why) = match case.outcome(metrics) {
                Outcome::Missing => ("Missing", case.reason.clone().unwrap_or_default()),
                Outcome::Empty => ("Empty", "the prediction has no voxel of the label".into()),
                Outcome::Measured => {
                    let undefined = COMPARED.into_iter().find(|m| metrics.get(*m).is_none());
                    let Some(measure) = undefined else { continue };
                    let why = metrics.reasons.get(&measure).cloned().unwrap_or_default();
                    ("Undefined", format!("{measure}: {why}"))
                }
            };
            let group: Vec<&str> = case.group.values().map(String::as_str).collect();
            body += &format!(
                "<tr><td class=\"bad\">{kind}</td><th scope=\"row\">{}</th><td>{}</td><td>{}</td>\
                 <td class=\"why\">{}</td></tr>\n",
                escape::html(&case.id),
                escape::html(&group.join(", ")),
                series_name(one),
                escape::html(&why)
            );
        }
    }
    let head = ["What", "Case", "Group", "Evaluation", "Why"]
        .map(|name| format!("<th scope=\"col\">{name}</th>"))
        .concat();
    (!body.is_empty()).then(|| boxed("", &format!("<tr>{head}</tr>"), &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_nearest_to_perfect_and_ties_share_it() {
        let dice = [Some(0.9), None, Some(0.9501), Some(0.9499)];
        assert_eq!(best(Measure::Dice, dice.into_iter()), Some("0.950".into()));
        assert_eq!(
            best(Measure::Hd, [Some(3.0), Some(2.0)].into_iter()),
            Some("2.00".into())
        );
        assert_eq!(best(Measure::Hd, [Some(3.0), None].into_iter()), None);
        assert_eq!(best(Measure::Hd, [None].into_iter()), None);
    }
}
