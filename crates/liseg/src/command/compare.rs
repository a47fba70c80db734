//! `liseg compare`.

use super::named::grouped;
use super::{Failure, Outcome, Result, Shared, outputs, print_as_json, progress, say};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use liseg::metrics::{
    Bootstrap, Comparison, ComparisonSettings, Measure, MethodSummary, PairedDifference, Report,
};
use liseg::volume::Seed;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Is one method better than another? Paired differences with intervals, tests and ranks.
///
/// Takes the JSON files that `liseg evaluate --out` wrote. Cases are matched by the file name of
/// their reference; where a `cases.json` told whose they are, a patient's volumes are averaged
/// first. Files of one NAME, such as a method's seeds, are averaged case by case. Intervals are bootstrap percentiles over those units, p is Wilcoxon's signed-rank test,
/// corrected by Holm over all rows of the table.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// Two or more metrics files, each as FILE or NAME=FILE; the first is the baseline. Several of one NAME
    /// are averaged.
    #[arg(required = true, num_args = 2.., value_name = "METRICS.json")]
    metrics: Vec<String>,
    /// Measures to compare.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,…",
        default_value = "Dice,HD,HD95"
    )]
    measures: Vec<String>,
    /// Only cases of one group, such as phase=T2WI or vendor=C, as `cases.json` told them.
    #[arg(long, value_name = "KIND=NAME")]
    only: Option<String>,
    /// Coverage of the intervals.
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.95,
        allow_negative_numbers = true
    )]
    level: f64,
    /// Bootstrap samples of each interval.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    replicates: u32,
    /// Where to write the comparison as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Compare {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let settings = ComparisonSettings {
            measures: self
                .measures
                .iter()
                .map(|n| measure(n))
                .collect::<Result<_>>()?,
            level: self.level,
            replicates: self.replicates as usize,
            seed: Seed(shared.seed.unwrap_or(0)),
        };
        let files = grouped(&self.metrics)?;
        let inputs: Vec<PathBuf> = files.iter().flat_map(|(_, files)| files).cloned().collect();
        outputs::check(&[("--out", self.out.as_deref())], &inputs)?;
        let reports = files
            .into_iter()
            .map(|(name, files)| Ok((name, self.read(&files)?)))
            .collect::<Result<Vec<_>>>()?;
        if reports.len() < 2 {
            return Err(Failure::usage(
                "one method alone; give the files of another one",
            ));
        }
        let spinner = progress::spinner(shared, "resampling");
        let comparison = Comparison::of(&reports, &settings);
        spinner.finish_and_clear();
        let comparison = comparison?;
        if shared.json {
            print_as_json(serde_json::to_value(&comparison))?;
        } else {
            print(&comparison);
        }
        if let Some(file) = &self.out {
            comparison.write_json(file)?;
        }
        Ok(Outcome::Done)
    }
}

impl Compare {
    /// The report of a method, averaged over its files.
    fn read(&self, files: &[PathBuf]) -> Result<Report> {
        let each = files.iter().map(|file| {
            let mut report = Report::read_json(file)?;
            self.keep_group(&mut report, file)?;
            Ok(report)
        });
        let mut each = each.collect::<Result<Vec<_>>>()?;
        match each.len() {
            1 => Ok(each.remove(0)),
            _ => Ok(Report::averaged(&each)),
        }
    }

    fn keep_group(&self, report: &mut Report, file: &Path) -> Result<()> {
        let Some(only) = &self.only else {
            return Ok(());
        };
        let Some((kind, name)) = only.split_once('=') else {
            return Err(Failure::usage(format!(
                "--only {only}: expected KIND=NAME, such as phase=T2WI"
            )));
        };
        let there = groups_there(report, kind);
        let belongs = |group: &BTreeMap<String, String>| group.get(kind).is_some_and(|n| n == name);
        report.cases.retain(|case| belongs(&case.group));
        report.missing.retain(|case| belongs(&case.group));
        if report.cases.is_empty() && report.missing.is_empty() {
            let file = file.display();
            return Err(Failure::usage(format!(
                "{file}: no case with {only}; {there}"
            )));
        }
        Ok(())
    }
}

/// The groups of a kind, or else the kinds, that cases belong to.
fn groups_there(report: &Report, kind: &str) -> String {
    let cases = report.cases.iter().map(|case| &case.group);
    let groups: Vec<_> = cases
        .chain(report.missing.iter().map(|case| &case.group))
        .collect();
    let list = |names: BTreeSet<&String>| {
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        names.join(", ")
    };
    let names: BTreeSet<&String> = groups.iter().filter_map(|group| group.get(kind)).collect();
    let kinds: BTreeSet<&String> = groups.iter().flat_map(|group| group.keys()).collect();
    match (names.is_empty(), kinds.is_empty()) {
        (false, _) => format!("there are {}", list(names)),
        (true, false) => format!("the kinds of groups are {}", list(kinds)),
        (true, true) => "it tells no groups; `liseg evaluate --cases` adds them".to_owned(),
    }
}

fn measure(name: &str) -> Result<Measure> {
    let found = Measure::ALL
        .into_iter()
        .find(|measure| measure.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names = Measure::ALL.map(Measure::name).join(", ");
        Failure::usage(format!("--measures {name}: expected one of {names}"))
    })
}

fn print(comparison: &Comparison) {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let n = comparison.units.len();
    say!(
        "{n} {}{} that all methods share",
        comparison.unit,
        plural(n)
    );
    if !comparison.unshared.is_empty() {
        say!(
            "left out, not in all files: {}",
            comparison.unshared.join(", ")
        );
    }
    let percent = 100.0 * comparison.settings.level;
    say!("\nlevel, with {percent:.0} % intervals");
    say!("{}", levels(comparison));
    say!("\ndifference of the second from the first");
    say!("{}", differences(comparison));
    say!("\nmean rank, 1 is best; the last column as CARE-Liver ranks");
    say!("{}", ranking(comparison));
    if n < 6 {
        say!(
            "\n{n} {}{} cannot show a difference: the smallest two-sided p is {:.3}",
            comparison.unit,
            plural(n),
            2f64.powi(1 - i32::try_from(n).unwrap_or(i32::MAX)).min(1.0)
        );
    }
}

fn table(heads: &[&str], texts: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(heads);
    for i in texts..heads.len() {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn levels(comparison: &Comparison) -> Table {
    let mut table = table(&["label", "measure", "method", "n", "mean", "median"], 3);
    for row in &comparison.methods {
        let MethodSummary {
            label,
            measure,
            method,
            n,
            mean,
            median,
        } = row;
        let shown = |value: &Option<Bootstrap>| {
            value
                .as_ref()
                .map_or("–".into(), |v| interval(v, *measure, false))
        };
        table.add_row([
            label.clone(),
            measure.to_string(),
            method.clone(),
            n.to_string(),
            shown(mean),
            shown(median),
        ]);
    }
    table
}

fn differences(comparison: &Comparison) -> Table {
    let heads = [
        "label",
        "measure",
        "second − first",
        "n",
        "mean",
        "median",
        "better",
        "worse",
        "effect",
        "p",
        "p (Holm)",
    ];
    let mut table = table(&heads, 3);
    for pair in &comparison.pairs {
        let PairedDifference { measure, test, .. } = pair;
        table.add_row([
            pair.label.clone(),
            measure.to_string(),
            format!("{} − {}", pair.second, pair.first),
            pair.n.to_string(),
            interval(&pair.mean, *measure, true),
            interval(&pair.median, *measure, true),
            pair.better.to_string(),
            pair.worse.to_string(),
            format!("{:+.2}", test.rank_biserial),
            p_value(test.p),
            p_value(pair.p_holm),
        ]);
    }
    table
}

fn ranking(comparison: &Comparison) -> Table {
    let Some(first) = comparison.ranking.first() else {
        return Table::new();
    };
    let names: Vec<String> = first.ranks.iter().map(|(m, _)| m.to_string()).collect();
    let mut heads = vec!["method"];
    heads.extend(names.iter().map(String::as_str));
    heads.push("Dice and HD");
    let mut table = table(&heads, 1);
    for row in &comparison.ranking {
        let mut cells = vec![row.method.clone()];
        cells.extend(row.ranks.iter().map(|(_, rank)| format!("{rank:.2}")));
        cells.push(
            row.mean_rank
                .map_or("–".into(), |rank| format!("{rank:.2}")),
        );
        table.add_row(cells);
    }
    table
}

fn interval(value: &Bootstrap, measure: Measure, signed: bool) -> String {
    let number = |v: f64| match (measure.is_share(), signed) {
        (true, true) => format!("{v:+.4}"),
        (true, false) => format!("{v:.4}"),
        (false, true) => format!("{v:+.2}"),
        (false, false) => format!("{v:.2}"),
    };
    format!(
        "{} [{}, {}]",
        number(value.estimate),
        number(value.low),
        number(value.high)
    )
}

fn p_value(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".into()
    } else {
        format!("{p:.3}")
    }
}
