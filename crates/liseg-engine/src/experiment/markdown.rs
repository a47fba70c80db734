//! The table as text.

use super::overview::difference;
use super::table::{Change, Level, ResultTable, Row, Versus};
use liseg_file::text::field;

/// Headings of the CSV file.
const COLUMNS: &str = "method,labels,phase,distribution,n,without_mask,runs,dice,dice_low,dice_high,\
dice_sd_of_seeds,hd,hd_low,hd_high,hd95,hd95_low,hd95_high,control,dice_difference,difference_low,\
difference_high,better,worse,p,p_holm,hd_difference,hd_difference_low,hd_difference_high,hd_p,\
hd95_difference,hd95_difference_low,hd95_difference_high,hd95_p,paper_dice,paper_hd";

impl ResultTable {
    /// The table as comma-separated values; what is unknown is empty.
    pub fn csv(&self) -> String {
        let mut text = format!("{COLUMNS}\n");
        for row in &self.rows {
            let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            let level = |level: &Option<Level>| {
                let part = |f: fn(&Level) -> f64| number(level.as_ref().map(f));
                [part(|l| l.mean), part(|l| l.low), part(|l| l.high)]
            };
            let mut fields = vec![
                field(&row.method),
                row.labels.map_or(String::new(), |n| n.to_string()),
                field(&row.phase),
                field(&row.distribution),
                row.n.to_string(),
                row.without_mask.to_string(),
                row.runs.to_string(),
            ];
            fields.extend(level(&row.dice));
            fields.push(number(row.dice_sd_of_seeds));
            fields.extend(level(&row.hd));
            fields.extend(level(&row.hd95));
            match &row.versus {
                Some(v) => {
                    let change = |change: &Option<Change>| {
                        let difference = level(&change.as_ref().map(|c| c.difference));
                        let p = number(change.as_ref().map(|c| c.p));
                        difference.into_iter().chain([p])
                    };
                    fields.extend([
                        field(&v.control),
                        v.difference.mean.to_string(),
                        v.difference.low.to_string(),
                        v.difference.high.to_string(),
                        v.better.to_string(),
                        v.worse.to_string(),
                        v.p.to_string(),
                        v.p_holm.to_string(),
                    ]);
                    fields.extend(change(&v.hd).chain(change(&v.hd95)));
                }
                None => fields.extend(std::iter::repeat_n(String::new(), 16)),
            }
            fields.extend([
                number(row.paper.map(|p| p[0])),
                number(row.paper.map(|p| p[1])),
            ]);
            text += &fields.join(",");
            text.push('\n');
        }
        text
    }

    /// Whether rows differ in the number of labelled patients, and whether there are published figures.
    fn has(&self) -> (bool, bool) {
        let labels = self.rows.iter().any(|row| row.labels.is_some());
        (labels, self.rows.iter().any(|row| row.paper.is_some()))
    }

    /// How many of the first columns say what a row is about.
    pub fn name_columns(&self) -> usize {
        if self.has().0 { 4 } else { 3 }
    }

    /// The headings of the table as people read it.
    pub fn headings(&self) -> Vec<&'static str> {
        let (labels, paper) = self.has();
        let of_labels = labels.then_some("labels");
        let of_paper = paper.then_some("paper: DSC / HD");
        let always = [
            "phase",
            "distribution",
            "method",
            "n",
            "DSC",
            "HD mm",
            "HD95 mm",
            "p (Holm)",
        ];
        of_labels
            .into_iter()
            .chain(always)
            .chain(of_paper)
            .collect()
    }

    /// A row's texts under [`ResultTable::headings`].
    pub fn texts(&self, row: &Row) -> Vec<String> {
        let (labels, paper) = self.has();
        let of_labels = labels.then(|| row.labels.map_or("all".into(), |n| n.to_string()));
        let of_paper = paper.then(|| {
            let figures = row.paper.map(|[dice, hd]| format!("{dice:.4} / {hd:.2}"));
            figures.unwrap_or_default()
        });
        let names = [&row.phase, &row.distribution, &row.method].map(Clone::clone);
        let versus = row.versus.as_ref();
        let change = |of: fn(&Versus) -> &Option<Change>| Some(&of(versus?).as_ref()?.difference);
        let levels = [
            row.n.to_string(),
            with_change(&row.dice, versus.map(|v| &v.difference), 3),
            with_change(&row.hd, change(|v| &v.hd), 1),
            with_change(&row.hd95, change(|v| &v.hd95), 1),
            versus.map_or(String::new(), |v| format!("{:.3}", v.p_holm)),
        ];
        let always = names.into_iter().chain(levels);
        of_labels
            .into_iter()
            .chain(always)
            .chain(of_paper)
            .collect()
    }

    /// What has to be known to read the table.
    pub fn note(&self) -> String {
        let phantom = match self.phantom {
            true => {
                "A phantom stood in for the data: these figures are not comparable with the paper's. "
            }
            false => "",
        };
        let others = match &self.stand_ins[..] {
            [] => String::new(),
            names => format!(
                "A phantom stood in for datasets.{}: rows that learn from it are not the paper's. ",
                names.join(" and datasets.")
            ),
        };
        let untrained = match self.untrained {
            true => {
                "The paper's networks were pretrained: its figures are left out beside those that were not \
                 (network.weights). "
            }
            false => "",
        };
        format!(
            "{phantom}{others}{untrained}Means over patients, with 95 % bootstrap intervals; seeds and folds are averaged case by \
             case first. Below stands the difference from {} on the same patients; distances are better below zero. p is Wilcoxon's \
             signed-rank test of Dice with Holm's correction over the table; table.csv has those of distances.",
            self.baseline()
        )
    }

    /// The table in Markdown, with the paper's figures where the data are the paper's.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.name);
        if !self.description.is_empty() {
            text += &format!("{}\n\n", self.description.trim());
        }
        for overview in self.overviews() {
            if let Some(labels) = overview.labels {
                text += &format!("Labelled patients: {labels}\n\n");
            }
            text += &line(overview.headings.iter().cloned());
            text += &line(overview.headings.iter().map(|_| "---".to_owned()));
            for row in overview.rows {
                text += &line(row.into_iter());
            }
            text.push('\n');
        }
        text += &format!("{}.\n\nAll rows:\n\n", self.overview_note());
        let headings = self.headings();
        text += &line(headings.iter().map(|h| (*h).to_owned()));
        text += &line(headings.iter().map(|_| "---".to_owned()));
        for row in &self.rows {
            text += &line(self.texts(row).into_iter());
        }
        text + &format!("\n{}\n", self.note())
    }
}

fn line(fields: impl Iterator<Item = String>) -> String {
    let fields: Vec<String> = fields
        .map(|f| f.replace('|', "\\|").replace('\n', " "))
        .collect();
    format!("| {} |\n", fields.join(" | "))
}

fn with_interval(level: &Option<Level>, digits: usize) -> String {
    level.map_or("–".into(), |l| {
        format!(
            "{:.digits$} [{:.digits$}, {:.digits$}]",
            l.mean, l.low, l.high
        )
    })
}

/// A mean, and below it what changes against the control.
fn with_change(level: &Option<Level>, change: Option<&Level>, digits: usize) -> String {
    let own = with_interval(level, digits);
    match change {
        Some(change) => format!("{own}\n{}", difference(change, digits)),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ResultTable {
        let level = Level {
            mean: 0.9,
            low: 0.85,
            high: 0.95,
        };
        let row = Row {
            method: "CPS, wide".into(),
            labels: Some(4),
            phase: "GED4".into(),
            distribution: "in".into(),
            n: 6,
            without_mask: 0,
            runs: 3,
            dice: Some(level),
            hd: None,
            hd95: Some(level),
            dice_sd_of_seeds: Some(0.01),
            versus: Some(Versus {
                control: "supervised".into(),
                difference: Level {
                    mean: 0.02,
                    low: -0.01,
                    high: 0.05,
                },
                better: 4,
                worse: 2,
                p: 0.2,
                p_holm: 0.4,
                hd: None,
                hd95: Some(Change {
                    difference: Level {
                        mean: -3.0,
                        low: -7.25,
                        high: 1.0,
                    },
                    better: 5,
                    worse: 1,
                    p: 0.09,
                }),
            }),
            paper: Some([0.9685, 25.56]),
        };
        ResultTable {
            name: "t".into(),
            description: String::new(),
            phantom: false,
            stand_ins: Vec::new(),
            untrained: false,
            rows: vec![row],
        }
    }

    #[test]
    fn every_line_of_csv_has_the_columns_of_the_first() {
        let mut table = table();
        table.rows[0].method = "CPS".into();
        table.rows[0].phase = "=1+1".into();
        table.rows.push(Row {
            versus: None,
            paper: None,
            dice: None,
            ..table.rows[0].clone()
        });
        let csv = table.csv();
        let counts: Vec<usize> = csv.lines().map(|l| l.split(',').count()).collect();
        assert!(counts.iter().all(|&n| n == counts[0]), "{csv}");
        assert!(csv.contains(",'=1+1,"), "{csv}");
    }

    #[test]
    fn markdown_shows_the_papers_figures_only_where_there_are_some() {
        let mut table = table();
        let text = table.markdown();
        assert!(text.contains("0.9685 / 25.56") && text.contains("+0.020 [−0.010, +0.050]"));
        assert!(
            text.contains("0.9 [0.8, 0.9] −3.0 [−7.2, +1.0] |"),
            "{text}"
        );
        table.rows[0].paper = None;
        table.phantom = true;
        let text = table.markdown();
        assert!(!text.contains("paper: DSC") && text.contains("phantom"));
        table.stand_ins = vec!["atlas".into()];
        assert!(table.note().contains("datasets.atlas"));
    }
}
