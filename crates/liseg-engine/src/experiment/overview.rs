//! The table of an experiment at a glance: a line for every method, a column for every phase.

use super::table::{Level, ResultTable, Row};
use std::collections::BTreeSet;

/// Dice of all methods with one number of labelled patients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Labelled patients, where the experiment varies them.
    pub labels: Option<usize>,
    /// `method`, the phases, and in and out of distribution where both kinds occur.
    pub headings: Vec<String>,
    /// A text for each heading: mean Dice, and on a second line the difference from the control with its
    /// interval, marked * where it is significant after Holm's correction (p < 0.05).
    pub rows: Vec<Vec<String>>,
}

impl ResultTable {
    /// The table at a glance, for every number of labelled patients.
    pub fn overviews(&self) -> Vec<Overview> {
        let budgets: BTreeSet<Option<usize>> = self.rows.iter().map(|row| row.labels).collect();
        budgets
            .into_iter()
            .map(|labels| self.overview(labels))
            .collect()
    }

    /// How to read the table at a glance.
    pub fn overview_note(&self) -> String {
        format!(
            "Mean Dice; below, the difference from {} with its interval, * significant after Holm's correction",
            self.baseline()
        )
    }

    /// What methods are compared with: a method's name where it is the same for all.
    pub(super) fn baseline(&self) -> String {
        let named = self.rows.iter().filter_map(|row| row.versus.as_ref());
        let named: BTreeSet<&str> = named.map(|versus| versus.control.as_str()).collect();
        match named.first() {
            Some(name) if named.len() == 1 => format!("“{name}”"),
            _ => "the method's own control".to_owned(),
        }
    }

    fn overview(&self, labels: Option<usize>) -> Overview {
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.labels == labels)
            .collect();
        let mut columns: Vec<(&str, &str)> = Vec::new();
        for row in &rows {
            let column = (row.phase.as_str(), row.distribution.as_str());
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        // In and out of distribution over all phases, or of the only one.
        let whole = columns.last().map_or("all", |(phase, _)| *phase);
        columns.retain(|(phase, distribution)| *distribution == "all" || *phase == whole);
        let heading = |(phase, distribution): &(&str, &str)| match (*phase, *distribution) {
            ("all", "all") => "all phases".to_owned(),
            (phase, "all") => phase.to_owned(),
            (_, "out") => "out of distribution".to_owned(),
            (_, distribution) => format!("{distribution} distribution"),
        };
        let mut methods: Vec<&str> = Vec::new();
        for row in &rows {
            if !methods.contains(&row.method.as_str()) {
                methods.push(&row.method);
            }
        }
        let texts = methods.into_iter().map(|method| {
            let cell = |column: &(&str, &str)| {
                let found = rows.iter().find(|row| {
                    row.method == method
                        && (row.phase.as_str(), row.distribution.as_str()) == *column
                });
                found.map_or(String::new(), |row| text(row))
            };
            std::iter::once(method.to_owned())
                .chain(columns.iter().map(cell))
                .collect()
        });
        Overview {
            labels,
            headings: std::iter::once("method".to_owned())
                .chain(columns.iter().map(heading))
                .collect(),
            rows: texts.collect(),
        }
    }
}

fn text(row: &Row) -> String {
    let dice = row
        .dice
        .map_or("–".to_owned(), |dice| format!("{:.3}", dice.mean));
    let Some(versus) = &row.versus else {
        return dice;
    };
    let star = if versus.p_holm < 0.05 { "*" } else { "" };
    format!("{dice}\n{}{star}", difference(&versus.difference, 3))
}

/// A difference with its interval.
pub(super) fn difference(found: &Level, digits: usize) -> String {
    let Level { mean, low, high } = found;
    format!("{mean:+.digits$} [{low:+.digits$}, {high:+.digits$}]").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::super::table::Versus;
    use super::*;

    fn row(method: &str, phase: &str, distribution: &str, dice: f64, p_holm: Option<f64>) -> Row {
        let level = |mean: f64| Level {
            mean,
            low: mean - 0.01,
            high: mean + 0.01,
        };
        Row {
            method: method.into(),
            labels: Some(1),
            phase: phase.into(),
            distribution: distribution.into(),
            n: 3,
            without_mask: 0,
            runs: 1,
            dice: Some(level(dice)),
            hd: None,
            hd95: None,
            dice_sd_of_seeds: None,
            versus: p_holm.map(|p_holm| Versus {
                control: "supervised".into(),
                difference: level(0.02),
                better: 3,
                worse: 0,
                p: p_holm,
                p_holm,
                hd: None,
                hd95: None,
            }),
            paper: None,
        }
    }

    #[test]
    fn methods_are_lines_and_phases_columns() {
        let mut rows = Vec::new();
        for phase in ["GED4", "T2WI", "all"] {
            for distribution in ["all", "in", "out"] {
                rows.push(row("supervised", phase, distribution, 0.8, None));
                rows.push(row("CPS", phase, distribution, 0.82, Some(0.04)));
            }
        }
        let table = ResultTable {
            name: "e".into(),
            description: String::new(),
            phantom: false,
            stand_ins: Vec::new(),
            untrained: false,
            rows,
        };
        let found = table.overviews();
        assert_eq!(found.len(), 1);
        let headings = [
            "method",
            "GED4",
            "T2WI",
            "all phases",
            "in distribution",
            "out of distribution",
        ];
        assert_eq!(found[0].headings, headings);
        assert_eq!(found[0].rows[0][..2], ["supervised", "0.800"]);
        assert_eq!(found[0].rows[1][5], "0.820\n+0.020 [+0.010, +0.030]*");
        assert!(table.overview_note().contains("“supervised”"));
    }

    #[test]
    fn several_controls_are_not_called_by_one_name() {
        let mut rows = vec![row("CPS", "all", "all", 0.8, Some(1.0)); 2];
        if let Some(versus) = &mut rows[1].versus {
            versus.control = "supervised, for liseg-plus".into();
            versus.difference.low = -0.01;
        }
        let table = ResultTable {
            name: "e".into(),
            description: String::new(),
            phantom: false,
            stand_ins: Vec::new(),
            untrained: false,
            rows,
        };
        assert!(table.overview_note().contains("own control"));
        assert!(text(&table.rows[1]).ends_with("[−0.010, +0.030]"));
    }
}
