//! Descriptions, plans, configs and results with one value exchanged.

use super::{Ended, fault, inputs, keep, run};
use crate::common::{path, shared};
use liseg::nn::checkpoint;
use liseg::volume::Seed;
use rand::{Rng, RngExt};
use serde_json::{Value, json};
use std::path::Path;

/// Places of all values of a document, the document itself left out.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    let mut go = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        let place = format!("{here}/{key}");
        places(value, &place, found);
        found.push(place);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| go(key, value)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(i, v)| go(&i.to_string(), v)),
        _ => {}
    }
}

/// A document with one value exchanged for an odd one, and what was done.
fn exchanged(document: &Value, rng: &mut impl Rng) -> (Value, String) {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(0.5),
        json!(1e308),
        json!(-1e308),
        json!(1e-300),
        json!(255),
        json!(65536),
        json!(4_294_967_296u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("../../elsewhere"),
        json!("\u{1b}[31m\n\u{0}"),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!(vec![0; 10_000]),
        json!({"": null}),
    ];
    let mut all = Vec::new();
    places(document, "", &mut all);
    let place = &all[rng.random_range(0..all.len())];
    let value = &odd[rng.random_range(0..odd.len())];
    let mut changed = document.clone();
    *changed.pointer_mut(place).unwrap() = value.clone();
    let shown: String = value.to_string().chars().take(40).collect();
    (changed, format!("{place} = {shown}"))
}

/// Exchanges values of a document, of which `attempt` makes a call; none may end otherwise than by itself.
fn survive(name: &str, document: &Value, few: u64, attempt: &dyn Fn(&Value, &Path) -> Ended) {
    let sound = tempfile::tempdir().unwrap();
    let ended = attempt(document, sound.path());
    assert_eq!(ended.code, Some(0), "{name} as it was: {}", ended.stderr);
    let count = inputs(few);
    for index in 0..count {
        let mut rng = Seed(12).stream(name, 0, index);
        let (changed, what) = exchanged(document, &mut rng);
        let folder = tempfile::tempdir().unwrap();
        let ended = attempt(&changed, folder.path());
        if let Some(fault) = fault(&ended) {
            let kept = keep(folder.path(), name);
            panic!("{name}, {what}: {fault}; kept in {kept}");
        }
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn write(file: &Path, value: &Value) {
    std::fs::write(file, value.to_string()).unwrap();
}

/// The study in a folder of its own, since calls write into it.
fn copy_of_study(folder: &Path) {
    shared::copy_folder(&shared::study(), folder);
}

#[test]
fn descriptions_of_models() {
    let study = shared::study();
    let sound = study.join("runs/cps/checkpoints/last.safetensors");
    let (tensors, facts) = checkpoint::read(&sound).unwrap();
    let description = serde_json::from_str(&facts["liseg_model"]).unwrap();
    let images = study.join("dataset/imagesTs");
    survive("description", &description, 8, &|changed, folder| {
        let mut facts = facts.clone();
        facts.insert("liseg_model".into(), changed.to_string());
        let file = folder.join("model.safetensors");
        checkpoint::write(&file, &tensors, &facts).unwrap();
        let call = ["predict", "--model", path(&file), "--input", path(&images)];
        run(
            &[&call[..], &["--output", "masks", "--max-memory", "1500MB"]].concat(),
            folder,
        )
    });
}

#[test]
fn states_of_runs() {
    let study = shared::study();
    let sound = study.join("runs/cps/checkpoints/last.safetensors");
    let (tensors, facts) = checkpoint::read(&sound).unwrap();
    // Every fact by itself; those that are JSON as what they hold.
    let document: serde_json::Map<String, Value> = facts
        .iter()
        .map(|(name, text)| {
            let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            (name.clone(), value)
        })
        .collect();
    survive("state", &Value::Object(document), 6, &|changed, folder| {
        copy_of_study(folder);
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let facts = changed.as_object().unwrap().iter();
        let facts = facts
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        let file = folder.join("runs/cps/checkpoints/last.safetensors");
        checkpoint::write(&file, &tensors, &facts).unwrap();
        resume(folder)
    });
}

#[test]
fn records_of_epochs() {
    let records = std::fs::read_to_string(shared::study().join("runs/cps/metrics.jsonl")).unwrap();
    let first = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    survive("record", &first, 6, &|changed, folder| {
        copy_of_study(folder);
        std::fs::write(
            folder.join("runs/cps/metrics.jsonl"),
            format!("{changed}\n"),
        )
        .unwrap();
        resume(folder)
    });
}

fn resume(folder: &Path) -> Ended {
    let settings = [
        "network.widths=[4,4,8,8,8,8]",
        "training.epochs=1",
        "training.iterations_per_epoch=2",
    ];
    let mut call = vec!["train", "cps.toml", "--out", "runs/cps", "--resume"];
    call.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    run(&call, folder)
}

#[test]
fn configs_of_runs() {
    let text = std::fs::read_to_string(shared::study().join("runs/cps/config.toml")).unwrap();
    let config: toml::Value = toml::from_str(&text).unwrap();
    let mut document = serde_json::to_value(config).unwrap();
    document["data"] = json!("data");
    survive("config", &document, 8, &|changed, folder| {
        copy_of_study(folder);
        // JSON has values that TOML lacks; a config without them is a config.
        let mut changed = changed.clone();
        without_nulls(&mut changed);
        let Ok(text) = toml::to_string(&changed) else {
            return Ended {
                code: Some(2),
                stderr: "no TOML".into(),
            };
        };
        std::fs::write(folder.join("changed.toml"), text).unwrap();
        let short = [
            "--set",
            "training.epochs=1",
            "--set",
            "training.iterations_per_epoch=1",
        ];
        run(
            &[&["train", "changed.toml", "--out", "new"][..], &short].concat(),
            folder,
        )
    });
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => {
            list.retain(|value| !value.is_null());
            list.iter_mut().for_each(without_nulls);
        }
        _ => {}
    }
}

#[test]
fn plans() {
    let plan = read(&shared::study().join("data/plan.json"));
    let dataset = shared::study().join("dataset");
    survive("plan", &plan, 8, &|changed, folder| {
        write(&folder.join("plans.json"), changed);
        let call = ["preprocess", path(&dataset), "--plans", "plans.json"];
        run(&[&call[..], &["--out", "data"]].concat(), folder)
    });
}

#[test]
fn descriptions_of_datasets() {
    let description = read(&shared::study().join("dataset/dataset.json"));
    survive("dataset", &description, 8, &|changed, folder| {
        copy_of_study(folder);
        write(&folder.join("dataset/dataset.json"), changed);
        run(&["verify", "dataset"], folder)
    });
}

#[test]
fn results() {
    let study = shared::study();
    let folder = tempfile::tempdir().unwrap();
    let references = study.join("dataset/labelsTs");
    let call = [
        "evaluate",
        "--predictions",
        path(&references),
        "--references",
        path(&references),
        "--out",
        "metrics.json",
    ];
    assert_eq!(run(&call, folder.path()).code, Some(0));
    let results = read(&folder.path().join("metrics.json"));
    survive("results", &results, 8, &|changed, folder| {
        write(&folder.join("a.json"), &results);
        write(&folder.join("b.json"), changed);
        run(&["compare", "a.json", "b.json"], folder)
    });
}
