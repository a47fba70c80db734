//! Learning curves.

use crate::axis::Scale;
use crate::chart::COLOURS;
use crate::escape;
use crate::run::{Epoch, Run};
use crate::table;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 46.0;
/// More points than pixels help nobody.
const MOST_POINTS: usize = 700;

struct Line {
    name: String,
    /// Which of the colours and, counted on, which of the dash patterns.
    index: usize,
    points: Vec<(f64, f64)>,
}

/// The losses of every run, one line per term, and the validation Dice of all runs.
pub(crate) fn charts(runs: &[Run]) -> String {
    let mut html = String::new();
    let line = |index: usize, name: String, run: &Run, value: &dyn Fn(&Epoch) -> Option<f64>| {
        let points = run
            .epochs
            .iter()
            .filter_map(|e| Some((e.epoch, value(e)?)))
            .collect();
        Line {
            name,
            index,
            points,
        }
    };
    let mut validation = Vec::new();
    for run in runs {
        let candidates = run.candidates();
        for candidate in &candidates {
            let name = match candidates.len() {
                1 => run.name.clone(),
                _ => format!("{}, {candidate}", run.name),
            };
            let value = |e: &Epoch| e.validation.get(*candidate).copied();
            validation.push(line(validation.len(), name, run, &value));
        }
    }
    if !validation.is_empty() {
        html += &chart("Validation Dice", "Mean Dice", &validation, [0.0, 1.0]);
    }
    for run in runs {
        let terms = run.terms().into_iter().enumerate();
        let lines: Vec<Line> = terms
            .map(|(index, term)| line(index, term.to_owned(), run, &|e| e.terms.get(term).copied()))
            .collect();
        if !lines.is_empty() {
            let title = format!("{}: terms of the loss", run.name);
            html += &chart(
                &title,
                "Mean over the epoch",
                &lines,
                [f64::NEG_INFINITY, f64::INFINITY],
            );
        }
    }
    html
}

fn chart(title: &str, y_label: &str, lines: &[Line], limits: [f64; 2]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (mut first, mut last) = (f64::INFINITY, f64::NEG_INFINITY);
    for (x, _) in points() {
        (first, last) = (first.min(*x), last.max(*x));
    }
    let free = [f64::NEG_INFINITY, f64::INFINITY];
    // The curves fill the width; only the heights are widened to round numbers.
    let ends = if last > first { [first, last] } else { free };
    let across = Scale::round(points().map(|p| p.0), ends, (LEFT, RIGHT), 7);
    let up = Scale::round(points().map(|p| p.1), limits, (BOTTOM, TOP), 5);

    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape::html(title)
    );
    for (value, label) in up.ticks() {
        let y = up.at(value);
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
            LEFT - 8.0,
            y + 4.0
        );
    }
    svg += &format!(
        "<line class=\"rule\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\n"
    );
    // Half an epoch is no place to look for.
    for (value, label) in across
        .ticks()
        .into_iter()
        .filter(|(value, _)| value.fract() == 0.0)
    {
        let x = across.at(value);
        let label = label.split('.').next().unwrap_or_default();
        svg += &format!(
            "<line class=\"rule\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
            BOTTOM + 5.0,
            BOTTOM + 19.0
        );
    }
    svg += &format!(
        "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">Epoch</text>\
         <text class=\"axis\" transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">\
         {}</text>\n",
        (LEFT + RIGHT) / 2.0,
        HEIGHT - 6.0,
        (TOP + BOTTOM) / 2.0,
        escape::html(y_label)
    );
    let mut legend = String::new();
    for line in lines {
        let class = format!("c{} d{}", line.index % COLOURS, line.index / COLOURS % 3);
        let step = line.points.len().div_ceil(MOST_POINTS).max(1);
        let end = line.points.len().saturating_sub(1);
        let shown = line
            .points
            .iter()
            .enumerate()
            .filter(|(i, _)| i % step == 0 || *i == end);
        let places: Vec<(f64, f64)> = shown.map(|(_, p)| (across.at(p.0), up.at(p.1))).collect();
        let path: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let name = escape::html(&line.name);
        svg += &format!(
            "<g class=\"{class}\"><polyline class=\"line\" points=\"{}\"><title>{name}</title>\
             </polyline>",
            path.join(" ")
        );
        if places.len() <= 40 {
            for (x, y) in places {
                svg += &format!("<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\"/>");
            }
        }
        svg += "</g>\n";
        let last = line
            .points
            .last()
            .map(|p| format!(" <small>{}</small>", brief(p.1)));
        legend += &format!(
            "<li><span class=\"key {class}\"></span>{name}{}</li>",
            last.unwrap_or_default()
        );
    }
    format!(
        "<figure class=\"chart\"><h3>{}</h3><ul class=\"legend\">{legend}</ul>\
         <div class=\"scroll\" tabindex=\"0\">{svg}</svg></div></figure>\n",
        escape::html(title)
    )
}

/// Three significant digits or so.
fn brief(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

/// How long every run took, and where it was best.
pub(crate) fn overview(runs: &[Run]) -> String {
    let head = [
        "Run",
        "Epochs",
        "Steps",
        "Time",
        "Waiting for data",
        "Peak memory",
        "Best validation Dice",
    ];
    let head = head.iter().enumerate().map(|(index, name)| match index {
        0 => format!("<th scope=\"col\">{name}</th>"),
        _ => format!("<th scope=\"col\" class=\"n\">{name}</th>"),
    });
    let mut body = String::new();
    for run in runs {
        let none = || "–".to_owned();
        let last = run.epochs.last();
        let seconds: f64 = run.epochs.iter().filter_map(|e| e.seconds).sum();
        let waited = run
            .epochs
            .iter()
            .filter_map(|e| Some(e.data_wait? * e.seconds?))
            .sum::<f64>();
        let largest =
            |of: fn(&Epoch) -> Option<f64>| run.epochs.iter().filter_map(of).reduce(f64::max);
        let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
        let device = largest(|e| e.peak_device_memory).map(gib);
        let memory = match (largest(|e| e.peak_memory).map(gib), device) {
            // Of a run on a GPU its memory is the scarce one.
            (Some(process), Some(device)) => {
                format!("{device}<small>on the GPU, {process} beside it</small>")
            }
            (process, device) => device.or(process).unwrap_or_else(none),
        };
        let best = run.best().map(|(dice, epoch, candidate)| {
            format!(
                "{dice:.3}<small>{}, epoch {epoch}</small>",
                escape::html(candidate)
            )
        });
        let cells = [
            run.epochs.len().to_string(),
            last.and_then(|e| e.iteration)
                .map_or_else(none, |steps| steps.to_string()),
            if seconds > 0.0 {
                duration(seconds)
            } else {
                none()
            },
            if seconds > 0.0 {
                format!("{:.0} %", 100.0 * waited / seconds)
            } else {
                none()
            },
            memory,
            best.unwrap_or_else(none),
        ];
        let cells = cells
            .map(|cell| format!("<td class=\"n\">{cell}</td>"))
            .concat();
        body += &format!(
            "<tr><th scope=\"row\">{}</th>{cells}</tr>\n",
            escape::html(&run.name)
        );
    }
    table::boxed("", &format!("<tr>{}</tr>", head.collect::<String>()), &body)
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds:.1} s"),
        (0, _) => format!("{minutes} min {} s", whole % 60),
        _ => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(duration(3725.0), "1 h 2 min");
        assert_eq!(duration(65.0), "1 min 5 s");
        assert_eq!(duration(2.34), "2.3 s");
        assert_eq!(brief(-0.98765), "-0.988");
        assert_eq!(brief(1e-5), "1.00e-5");
    }

    #[test]
    fn a_long_run_keeps_its_first_and_last_point() {
        let points = (0..5000)
            .map(|i| (f64::from(i), 1.0 / f64::from(i + 1)))
            .collect();
        let svg = chart(
            "t",
            "y",
            &[Line {
                name: "<l>".into(),
                index: 9,
                points,
            }],
            [0.0, 1.0],
        );
        assert!(
            svg.contains(&format!("points=\"{LEFT:.1},")) && svg.contains(&format!("{RIGHT:.1},"))
        );
        assert!(svg.matches(',').count() < 1000 && svg.contains("c1 d1") && !svg.contains("<l>"));
    }
}
