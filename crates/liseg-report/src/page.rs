//! The page.

use crate::evaluation::{Evaluation, Series};
use crate::overlay::{Figure, PREDICTION, REFERENCE};
use crate::run::Run;
use crate::{ReportSpec, boxes, chart, curves, doubt, escape, significance, table};
use liseg_metrics::{EmptyPolicy, Measure};
use std::collections::BTreeSet;

const STYLE: &str = include_str!("style.css");

/// A part of the page: its anchor, its heading and its content, as HTML.
type Section = (&'static str, &'static str, String);

pub(crate) fn html(
    spec: &ReportSpec,
    runs: &[Run],
    evaluations: &[Evaluation],
    galleries: &[Vec<Figure>],
) -> String {
    let series = Series::all(evaluations);
    let sections = sections(spec, runs, evaluations, &series, galleries);
    let title = escape::html(&spec.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; img-src data:\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
    );
    if !spec.summary.is_empty() {
        page += "<dl class=\"facts\">\n";
        for (name, value) in &spec.summary {
            let (name, value) = (escape::html(name), escape::html(value));
            page += &format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n");
        }
        page += "</dl>\n";
    }
    page += "<nav>";
    for (anchor, heading, _) in &sections {
        page += &format!("<a href=\"#{anchor}\">{heading}</a> ");
    }
    page += "</nav>\n</header>\n<main>\n";
    for (anchor, heading, content) in &sections {
        page += &format!("<section id=\"{anchor}\">\n<h2>{heading}</h2>\n{content}</section>\n");
    }
    page += &format!("</main>\n{}</body>\n</html>\n", footer(evaluations));
    page
}

fn sections(
    spec: &ReportSpec,
    runs: &[Run],
    evaluations: &[Evaluation],
    series: &[Series<'_>],
    galleries: &[Vec<Figure>],
) -> Vec<Section> {
    let mut sections = Vec::new();
    if !spec.tables.is_empty() {
        let tables = spec.tables.iter().map(table::of_texts).collect();
        sections.push(("results", "Results", tables));
    }
    if series.is_empty() && runs.is_empty() && spec.tables.is_empty() {
        let nothing = "<p>No run and no evaluated case was given.</p>\n";
        sections.push(("nothing", "Nothing to show", nothing.to_owned()));
    }
    if !series.is_empty() {
        sections.push(("comparison", "Comparison", table::comparison(series)));
        if let Some(tests) = significance::section(evaluations) {
            sections.push(("tests", "Paired differences", tests));
        }
        let strips = [Measure::Dice, Measure::Hd95].map(|measure| {
            format!(
                "<figure class=\"chart\"><h3>{}</h3>{}</figure>\n",
                table::heading(measure),
                chart::strip(series, measure)
            )
        });
        let note = "<p class=\"note\">A dot is a case; boxes span the quartiles, the thick line is \
                    the median. Failed cases, missing or empty, stand aside as crosses; the box \
                    counts them at the value that the tables give them, and is cut at the end of \
                    the axis where that lies beyond it.</p>\n";
        let strips = format!("<div class=\"charts\">{}</div>{note}", strips.concat());
        sections.push(("distribution", "Distribution", strips));
        let groups = table::groups(evaluations, series);
        if !groups.is_empty() {
            let mut html = String::new();
            for (kind, table) in groups {
                html += &table;
                html += &group_boxes(evaluations, series, &kind);
            }
            sections.push(("groups", "Phases and vendors", html));
        }
    }
    if !runs.is_empty() {
        let curves = format!(
            "{}<div class=\"charts\">{}</div>\n",
            curves::overview(runs),
            curves::charts(runs)
        );
        sections.push(("training", "Training", curves));
    }
    if !series.is_empty() {
        sections.push(("overlays", "Overlays", overlays(evaluations, galleries)));
        if let Some(doubt) = doubt::section(evaluations, series) {
            sections.push(("doubt", "Uncertainty and error", doubt));
        }
        let failures = table::failures(series).unwrap_or_else(|| {
            "<p>None: every case has a prediction that is not empty.</p>\n".to_owned()
        });
        sections.push(("failures", "Failures", failures));
        sections.push(("cases", "Cases", table::cases(evaluations, series)));
    }
    sections
}

/// Box plots of the members of a kind of group; of patients, one or two volumes each, none.
fn group_boxes(evaluations: &[Evaluation], series: &[Series<'_>], kind: &str) -> String {
    if kind == "patient" {
        return String::new();
    }
    let plots = [Measure::Dice, Measure::Hd95].map(|measure| {
        let plot = boxes::by_group(evaluations, series, kind, measure);
        format!(
            "<figure class=\"chart\"><h3>{} by {}</h3>{plot}</figure>\n",
            table::heading(measure),
            escape::html(kind)
        )
    });
    let legend: String = series
        .iter()
        .map(|one| format!("<li>{}</li>", table::series_name(one)))
        .collect();
    format!(
        "<ul class=\"legend\">{legend}</ul><div class=\"charts\">{}</div>\n<p class=\"note\">Boxes span the \
         quartiles of all cases, failed ones included, thin lines the whole range.</p>\n",
        plots.concat()
    )
}

fn overlays(evaluations: &[Evaluation], galleries: &[Vec<Figure>]) -> String {
    if evaluations
        .iter()
        .all(|evaluation| evaluation.images.is_empty())
    {
        return "<p>No folder with images was given, so no case is pictured.</p>\n".to_owned();
    }
    let key = |name: &str, [r, g, b]: [u8; 3]| {
        format!("<li><span class=\"key\" style=\"background:rgb({r},{g},{b})\"></span>{name}</li>")
    };
    let mut html = format!(
        "<ul class=\"legend\">{}{}</ul>\n<p class=\"note\">Axial, coronal and sagittal section \
         through the centre of the reference; the patient’s right is on the left. Ranked by Dice.\
         </p>\n",
        key("Reference", REFERENCE),
        key("Prediction", PREDICTION)
    );
    for (evaluation, figures) in evaluations.iter().zip(galleries) {
        html += &format!("<h3>{}</h3>\n", escape::html(&evaluation.name));
        if figures.is_empty() {
            html += "<p>No case to picture.</p>\n";
        }
        for figure in figures {
            let [rank, case, group, facts] =
                [&figure.rank, &figure.case, &figure.group, &figure.facts]
                    .map(|text| escape::html(text));
            html += "<figure class=\"overlay\">";
            html += &match &figure.picture {
                Ok((png, [width, height])) => format!(
                    "<img width=\"{width}\" height=\"{height}\" alt=\"{case}: outlines of reference \
                     and prediction, {facts}\" src=\"data:image/png;base64,{}\">",
                    escape::base64(png)
                ),
                Err(why) => format!("<p class=\"bad\">Not drawn: {}</p>", escape::html(why)),
            };
            let group = if group.is_empty() {
                group
            } else {
                format!(" ({group})")
            };
            html += &format!(
                "<figcaption><b>{rank}</b> {case}{group}<span>{facts}</span></figcaption></figure>\n"
            );
        }
    }
    html
}

fn footer(evaluations: &[Evaluation]) -> String {
    let mut html = String::from("<footer>\n<h2>What the measures mean</h2>\n<dl>\n");
    let join = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join(", ");
    let tolerances = evaluations
        .iter()
        .map(|e| e.settings.nsd_tolerance_mm.to_string());
    let tolerance = match join(tolerances.collect()) {
        none if none.is_empty() => "a tolerance".to_owned(),
        found => format!("{found} mm"),
    };
    let meanings = [
        ("Dice", "Overlap: twice the common volume over the sum of both volumes. 0 to 1, 1 is best.".to_owned()),
        ("HD", "Hausdorff distance: the largest distance from a point of one surface to the other surface, in mm. A single stray voxel decides it.".to_owned()),
        ("HD95", "The 95th percentile of these distances, in mm: robust against a few stray voxels.".to_owned()),
        ("ASSD", "Average symmetric surface distance: their mean, in mm.".to_owned()),
        ("NSD", format!("Surface Dice: the share of both surfaces within {tolerance} of the other. 0 to 1, 1 is best.")),
        ("Missing, empty", failures(evaluations)),
    ];
    for (name, meaning) in meanings {
        html += &format!(
            "<div><dt>{name}</dt><dd>{}</dd></div>\n",
            escape::html(&meaning)
        );
    }
    html += "</dl>\n<p>Distances are skewed: trust the median before the mean. ";
    let conventions = evaluations
        .iter()
        .map(|evaluation| evaluation.settings.convention.to_string());
    let conventions = join(conventions.collect());
    if !conventions.is_empty() {
        html += &format!(
            "Surface distances follow the convention <b>{}</b>. ",
            escape::html(&conventions)
        );
    }
    html += "All numbers are in <b>cases.csv</b>, all pictures in <b>overlays</b>, beside this page.</p>\n\
             <p>Made by LiSeg. For research, not for diagnosis.</p>\n</footer>\n";
    html
}

/// What the empty policies do, in words.
fn failures(evaluations: &[Evaluation]) -> String {
    let policies: BTreeSet<String> = evaluations
        .iter()
        .map(|evaluation| match evaluation.settings.empty {
            EmptyPolicy::Exclude => "are left out of the means of the distances".to_owned(),
            EmptyPolicy::Value(mm) => format!("count with {mm} mm in the distances"),
            EmptyPolicy::Worst | EmptyPolicy::BothEmptyIsPerfect => {
                "count with the worst value: 0 for a share, the diagonal of the image for a distance"
                    .to_owned()
            }
        })
        .collect();
    let policies: Vec<String> = policies.into_iter().collect();
    match policies.len() {
        0 => "Cases without a prediction, or with a prediction without a voxel.".to_owned(),
        _ => format!(
            "Cases without a prediction, or with a prediction without a voxel, {}.",
            policies.join(" or, in other evaluations, ")
        ),
    }
}
