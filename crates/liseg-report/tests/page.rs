//! The page of a small study, and of less than that.

use liseg_metrics::Report;
use liseg_report::{Error, EvaluationSpec, ReportSpec, RunSpec, TableSpec, write_report};
use std::path::Path;

/// Every element that is opened is closed, in order.
fn assert_balanced(html: &str) {
    const VOID: [&str; 4] = ["meta", "img", "br", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        // Quoted attributes hold no brackets, because all text is escaped.
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop(),
                Some(name),
                "before {}",
                &rest[..rest.len().min(80)]
            );
            continue;
        }
        let name = tag.split([' ', '\n']).next().unwrap().trim_end_matches('/');
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn page(spec: &ReportSpec, folder: &Path) -> String {
    let path = write_report(spec, folder).unwrap();
    assert_eq!(path, folder.join("report.html"));
    let html = std::fs::read_to_string(path).unwrap();
    assert_balanced(&html);
    for load in ["http://", "https://", "<script", "<link", "url(", "@import"] {
        assert!(!html.contains(load), "{load}");
    }
    html
}

fn section<'a>(html: &'a str, anchor: &str) -> &'a str {
    let start = html.find(&format!("<section id=\"{anchor}\">")).unwrap();
    &html[start..start + html[start..].find("</section>").unwrap()]
}

#[test]
fn a_study_makes_a_whole_page() {
    let folder = tempfile::tempdir().unwrap();
    let spec = crate::sample::study(folder.path());
    let out = folder.path().join("deep/report");
    let html = page(&spec, &out);
    let cases = section(&html, "cases");
    for (case, phase, vendor) in crate::sample::CASES {
        let case = case.replace('<', "&lt;").replace('>', "&gt;");
        assert!(
            cases.contains(&case) && cases.contains(phase) && cases.contains(vendor),
            "{case}"
        );
    }
    let failures = section(&html, "failures");
    assert!(failures.contains("B2-005_DWI") && failures.contains("no such file &amp; no other"));
    assert!(failures.contains(">Empty<") && failures.contains("B1-003_GED4"));
    assert!(section(&html, "groups").contains("DWI_800"));
    let comparison = section(&html, "comparison");
    assert_eq!(
        comparison.matches("<td class=\"n bad\">1</td>").count(),
        2,
        "{comparison}"
    );
    assert_eq!(comparison.matches("class=\"n best\"").count(), 5);
    // All but the missing and the empty case are dots, twice.
    let distribution = section(&html, "distribution");
    assert_eq!(distribution.matches("class=\"dot\"").count(), 2 * (3 + 5));
    assert_eq!(distribution.matches("class=\"cross\"").count(), 2 * 2);
    // A line for two candidates and three terms of both runs.
    let training = section(&html, "training");
    assert_eq!(training.matches("<polyline").count(), 10);
    let memory = "19.2 GiB<small>on the GPU, 6.8 GiB beside it</small>";
    assert_eq!(training.matches(memory).count(), 2, "{training}");
    let overlays = section(&html, "overlays");
    assert_eq!(
        overlays
            .matches("data:image/png;base64,iVBORw0KGgo")
            .count(),
        6,
        "best, median, worst"
    );
    assert!(overlays.contains("Dice 0.") && overlays.contains("HD95 "));
    assert!(!overlays.contains("Not drawn"));

    // Two measures of the one pair of evaluations, and boxes for each phase and vendor.
    let tests = section(&html, "tests");
    assert_eq!(
        tests.matches("cross-pseudo − supervised").count(),
        2,
        "{tests}"
    );
    assert!(tests.contains("95 % interval") && comparison.contains("[95 % bootstrap interval"));
    let groups = section(&html, "groups");
    assert_eq!(
        groups.matches("class=\"whisker\"").count(),
        2 * 2 * (4 + 3),
        "{groups}"
    );
    // Every case with a prediction is a dot; doubt follows the error exactly.
    let doubt = section(&html, "doubt");
    assert_eq!(doubt.matches("class=\"dot\"").count(), 4 + 5, "{doubt}");
    assert_eq!(doubt.matches("Spearman’s ρ 1.00").count(), 2, "{doubt}");

    let pictures: Vec<_> = std::fs::read_dir(out.join("overlays")).unwrap().collect();
    assert_eq!(pictures.len(), 6);
    let table = std::fs::read_to_string(out.join("cases.csv")).unwrap();
    assert!(table.starts_with("evaluation,case,phase,vendor,label,outcome,Dice,"));
    assert_eq!(table.lines().count(), 1 + 10);
    assert!(table.contains(",missing,0,") && table.contains(",empty,0,"));
    assert_eq!(
        page(&spec, &out),
        html,
        "the same input gives the same page"
    );
}

#[test]
fn less_makes_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let study = crate::sample::study(folder.path());
    let out = folder.path().join("report");
    let mut spec = ReportSpec {
        runs: vec![],
        ..study.clone()
    };
    for evaluation in &mut spec.evaluations {
        evaluation.images.clear();
    }
    let html = page(&spec, &out);
    assert!(html.contains("No folder with images") && !html.contains("id=\"training\""));
    let html = page(
        &ReportSpec {
            evaluations: vec![],
            ..study.clone()
        },
        &out,
    );
    assert!(html.contains("id=\"training\"") && !html.contains("id=\"comparison\""));
    assert!(page(&ReportSpec::default(), &out).contains("Nothing to show"));
    let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
    let table = TableSpec {
        caption: "All runs".into(),
        columns: texts(["method", "DSC"]),
        names: 1,
        rows: vec![texts(["a < b", "0.9\n±"])],
        note: "Means & intervals.".into(),
        folded: false,
    };
    let folded = TableSpec {
        caption: "More".into(),
        folded: true,
        ..table.clone()
    };
    let tables = ReportSpec {
        tables: vec![table, folded],
        ..ReportSpec::default()
    };
    let html = page(&tables, &out);
    assert!(html.contains("<td>a &lt; b</td><td class=\"n\">0.9<small>±</small></td>"));
    assert!(html.contains("id=\"results\"") && html.contains("Means &amp; intervals."));
    assert!(html.contains("<details><summary>More</summary>"));
    assert!(!html.contains("Nothing to show"));
    // Images that are not there are told, not failed on.
    spec.evaluations[0].images = vec![folder.path().join("nowhere")];
    assert!(page(&spec, &out).contains("Not drawn: no image A-001_GED4_0000.nii.gz"));
}

#[test]
fn a_group_of_all_cases_has_no_table_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let spec = crate::sample::study(folder.path());
    let out = folder.path().join("report");
    for evaluation in &spec.evaluations {
        let mut report = Report::read_json(&evaluation.metrics_file).unwrap();
        let cases = report.cases.iter_mut().map(|case| &mut case.group);
        let missing = report.missing.iter_mut().map(|case| &mut case.group);
        for group in cases.chain(missing) {
            group.insert("vendor".into(), "A".into());
        }
        report.write_json(&evaluation.metrics_file).unwrap();
    }
    let html = page(&spec, &out);
    let groups = section(&html, "groups");
    assert!(groups.contains("By phase") && !groups.contains("By vendor"));
    assert!(!groups.contains("by vendor"), "nor boxes");
    // Every case still says where it is from.
    assert!(section(&html, "cases").contains("Vendor"));
}

#[test]
fn a_damaged_file_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let damaged = folder.path().join("damaged.json");
    std::fs::write(&damaged, "{\"metric_per_case\": [").unwrap();
    let run = |metrics_file: &Path| ReportSpec {
        runs: vec![RunSpec {
            name: "r".into(),
            metrics_file: metrics_file.into(),
        }],
        ..ReportSpec::default()
    };
    let evaluation = EvaluationSpec {
        name: "e".into(),
        metrics_file: damaged.clone(),
        images: Vec::new(),
    };
    let evaluation = ReportSpec {
        evaluations: vec![evaluation],
        ..ReportSpec::default()
    };
    let of = |spec: &ReportSpec| write_report(spec, &out).unwrap_err();
    assert!(matches!(of(&evaluation), Error::Evaluation { path, .. } if path == damaged));
    assert!(of(&evaluation).to_string().contains("damaged.json"));
    assert!(matches!(of(&run(&damaged)), Error::Record { path, line: 1, .. } if path == damaged));
    let absent = folder.path().join("absent.jsonl");
    assert!(matches!(of(&run(&absent)), Error::Run { path, .. } if path == absent));
    assert!(!out.exists());
}
