//! Pretrained weights: looking in, converting, starting a run from them.

use crate::common::{liseg, path, preprocessed, stderr, stdout_json, write_config};
use liseg::nn::tch::Device;
use liseg::nn::{SegmentationNet, TensorMap, Weights, checkpoint};
use liseg::stunet::{StuNet, StuNetConfig};
use liseg::volume::Seed;
use std::collections::BTreeMap;
use std::path::Path;

/// Weights of a small STU-Net of 105 classes, as another framework would hand them over.
fn write_pretrained(file: &Path) {
    let config = StuNetConfig {
        widths: [4, 4, 8, 8, 8, 8],
        ..StuNetConfig::small(105)
    };
    let mut rng = Seed(9).stream("weights", 0, 0);
    let net = StuNet::new(&config, Device::Cpu, &mut rng).unwrap();
    let mut tensors = TensorMap::new();
    net.parameters().save_into("", &mut tensors).unwrap();
    checkpoint::write(file, &tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn inspect_and_convert_keep_every_number_and_overwrite_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pretrained.model");
    write_pretrained(&file);
    let found = stdout_json(&liseg(&["weights", "inspect", path(&file), "--json"]));
    assert_eq!(found["format"], "safetensors");
    assert_eq!(found["config"]["classes"], 105);
    assert_eq!(found["tensors"]["seg_outputs.4.weight"]["shape"][0], 105);

    let output = liseg(&["weights", "convert", path(&file)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let copy = folder.path().join("pretrained.safetensors");
    let (before, after) = (Weights::read(&file).unwrap(), Weights::read(&copy).unwrap());
    assert_eq!(after.facts["source"], "pretrained.model");
    let hash = format!("blake3:{}", before.content_hash().unwrap());
    assert_eq!(
        (&after.facts["hash"], after.facts["classes"].as_str()),
        (&hash, "105")
    );
    let known: serde_json::Value = serde_json::from_str(&after.facts["architecture"]).unwrap();
    assert_eq!(known["widths"], serde_json::json!([4, 4, 8, 8, 8, 8]));
    assert!(
        known.get("strides").is_none(),
        "weights do not tell strides"
    );
    assert_eq!(before.tensors.len(), after.tensors.len());
    for (name, tensor) in &before.tensors {
        assert!(tensor.equal(&after.tensors[name]), "{name}");
    }

    let again = liseg(&["weights", "convert", path(&file)]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
}

#[test]
fn a_run_starts_from_weights_of_another_number_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pretrained.model");
    write_pretrained(&file);
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let train = |weights: &Path| {
        liseg(&[
            "train",
            path(&config),
            "--out",
            path(&run),
            "--set",
            &format!("network.weights={:?}", path(weights)),
            "--set",
            "training.learning_rate=1e-12",
        ])
    };
    let output = train(&file);
    assert!(output.status.success(), "{}", stderr(&output));
    let (trained, _) = checkpoint::read(&run.join("checkpoints/last.safetensors")).unwrap();
    let before = Weights::read(&file).unwrap().tensors;
    let name = "conv_blocks_context.1.0.conv1.weight";
    let moved = (&trained[&format!("network.{name}")] - &before[name])
        .abs()
        .max();
    assert!(
        moved.double_value(&[]) < 1e-6,
        "the encoder was not taken over"
    );
    assert_eq!(trained["network.seg_outputs.4.weight"].size()[0], 2);

    // Something else is refused before anything is written.
    let other = folder.path().join("notes.pth");
    std::fs::write(&other, "not weights").unwrap();
    std::fs::remove_dir_all(&run).unwrap();
    let output = train(&other);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("notes.pth"), "{}", stderr(&output));
    assert!(!run.exists());
}

#[test]
fn weights_predict_once_their_plan_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let output = liseg(&["train", path(&config), "--out", path(&run)]);
    assert!(output.status.success(), "{}", stderr(&output));
    // What another framework would hand over: the network's own names, and no word on images.
    let (trained, facts) = checkpoint::read(&run.join("checkpoints/last.safetensors")).unwrap();
    let bare: TensorMap = trained
        .iter()
        .filter_map(|(name, t)| Some((name.strip_prefix("network.")?.to_owned(), t.copy())))
        .collect();
    let file = folder.path().join("bare.safetensors");
    checkpoint::write(&file, &bare, &BTreeMap::new()).unwrap();

    let predict = |model: &Path, masks: &str| {
        let masks = folder.path().join(masks);
        let images = folder.path().join("Dataset007_Tiny/imagesTr");
        let call = [
            "predict",
            "--model",
            path(model),
            "--input",
            path(&images),
            "--output",
            path(&masks),
        ];
        (liseg(&call), masks)
    };
    let (refused, _) = predict(&file, "none");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("convert FILE --plans"),
        "{}",
        stderr(&refused)
    );

    let model = folder.path().join("model.safetensors");
    let plan = data.join("plan.json");
    let convert = |plan: &Path| {
        liseg(&[
            "weights",
            "convert",
            path(&file),
            path(&model),
            "--plans",
            path(plan),
        ])
    };
    // A plan with another number of labels is of another network.
    let mut other: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&plan).unwrap()).unwrap();
    other["labels"]["tumour"] = 2.into();
    let three = folder.path().join("three.json");
    std::fs::write(&three, other.to_string()).unwrap();
    let output = convert(&three);
    assert!(stderr(&output).contains("2 classes"), "{}", stderr(&output));
    assert!(!model.exists());

    let output = convert(&plan);
    assert!(output.status.success(), "{}", stderr(&output));
    let (by_run, of_run) = predict(&run, "of-run");
    let (by_model, of_model) = predict(&model, "of-model");
    for output in [&by_run, &by_model] {
        assert!(output.status.success(), "{}", stderr(output));
    }
    let mut compared = 0;
    for entry in std::fs::read_dir(&of_run).unwrap() {
        let mask = entry.unwrap().path();
        if mask.extension().is_some_and(|end| end == "gz") {
            let other = of_model.join(mask.file_name().unwrap());
            assert_eq!(std::fs::read(&mask).unwrap(), std::fs::read(other).unwrap());
            compared += 1;
        }
    }
    assert!(compared > 1);

    // A few bytes of text may describe a network of any size.
    let mut described: serde_json::Value = serde_json::from_str(&facts["liseg_model"]).unwrap();
    described["network"]["widths"] = serde_json::json!([16384, 16384, 16384, 16384, 16384, 16384]);
    let claims = BTreeMap::from([("liseg_model".to_owned(), described.to_string())]);
    let huge = folder.path().join("huge.safetensors");
    checkpoint::write(&huge, &trained, &claims).unwrap();
    let (refused, _) = predict(&huge, "huge");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("holds"), "{}", stderr(&refused));
}

#[test]
fn published_containers_convert() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/stunet");
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "tiny_isotropic_nnunet_v1.model",
        "tiny_anisotropic_nnunet_v2.pth",
        "tiny_depth2_two_channels_legacy.model",
        "tiny_half_module_prefix.pth",
    ] {
        let out = folder.path().join(name).with_extension("safetensors");
        let file = reference.join(name);
        let output = liseg(&["weights", "convert", path(&file), path(&out)]);
        assert!(output.status.success(), "{}", stderr(&output));
        let found = stdout_json(&liseg(&["weights", "inspect", path(&out), "--json"]));
        assert!(
            found["network"].as_str().unwrap().starts_with("STU-Net"),
            "{found}"
        );
    }
    let broken = liseg(&[
        "weights",
        "inspect",
        path(&reference.join("truncated.model")),
    ]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(stderr(&broken).contains("truncated.model"));
}

#[test]
fn summary_counts_without_building() {
    let summary = |arguments: &[&str]| liseg(&[&["summary"], arguments].concat());
    let json = |arguments: &[&str]| stdout_json(&summary(&[arguments, &["--json"]].concat()));
    let found = json(&["--size", "H", "--classes", "105"]);
    assert_eq!(found["summary"]["parameters"], 1_457_326_221u64);
    let found = json(&["--unet"]);
    assert_eq!(found["summary"]["parameters"], 31_195_594u64);
    let lean = json(&["--unet", "--checkpointing"]);
    let bytes = |v: &serde_json::Value| v["summary"]["activation_bytes"].as_u64().unwrap();
    assert!(bytes(&lean) < bytes(&found));
    let wrong = summary(&["--size", "S", "--patch", "100,128,128"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("[32, 32, 32]"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn kept_weights_are_named_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pretrained.model");
    write_pretrained(&file);
    let cached = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_liseg"));
        let command = command
            .args(arguments)
            .env("LISEG_CACHE", folder.path().join("cache"));
        command.output().unwrap()
    };
    let kept = stdout_json(&cached(&["weights", "keep", path(&file), "--json"]));
    let name = kept["kept"][0]["weights"].as_str().unwrap().to_owned();
    std::fs::remove_file(&file).unwrap();
    let found = stdout_json(&cached(&["weights", "inspect", &name[..16], "--json"]));
    assert_eq!(found["config"]["classes"], 105);
    assert_eq!(found["hash"], name.as_str());
    assert_eq!(
        stdout_json(&cached(&["weights", "list", "--json"]))["kept"][0]["weights"],
        name
    );
    let none = cached(&["weights", "inspect", "blake3:000000"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("weights keep"), "{}", stderr(&none));
}

/// The plain U-Net instead of STU-Net, from training to a mask.
#[test]
fn a_plain_unet_trains_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let output = liseg(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "network.architecture=unet",
        "--set",
        "network.widths=[4, 6, 8]",
        "--set",
        "network.strides=[[1, 2, 2], [2, 2, 2]]",
        "--set",
        "network.checkpointing=true",
        "--set",
        "training.schedule={ name = \"cosine\" }",
        "--set",
        "training.layer_rates=[{ prefix = \"encoder.\", factor = 0.5 }]",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let last = run.join("checkpoints/last.safetensors");
    let found = stdout_json(&liseg(&["weights", "inspect", path(&last), "--json"]));
    let names = found["tensors"].as_object().unwrap();
    assert!(
        names.contains_key("network.decoder.transpconvs.0.weight"),
        "{names:?}"
    );
    let images = folder.path().join("Dataset007_Tiny/imagesTs");
    let masks = folder.path().join("masks");
    let fixed = ["predict", "--run", path(&run), "--input", path(&images)];
    let output = liseg(&[&fixed[..], &["--output", path(&masks)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(masks.join("case_5.nii.gz").is_file());
}

/// A learning rate that blows the weights up ends the run, names the cases, keeps the checkpoint.
#[test]
fn gradients_that_are_no_numbers_end_the_run_and_name_its_cases() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let output = liseg(&[
        "train",
        path(&config),
        "--out",
        path(&run),
        "--set",
        "training.learning_rate=1e37",
        "--set",
        "training.gradient_clip=1e30",
        "--set",
        "optimiser.name=sgd",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("not finite"), "{message}");
    assert!(message.contains("case_"), "{message}");
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    assert!(!text.contains("NaN"), "{text}");
}

#[test]
fn half_precision_is_refused_where_there_is_no_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let data = preprocessed(folder.path());
    let config = write_config(folder.path(), &data, "supervised");
    let run = folder.path().join("run");
    let set = ["--set", "precision=fp16"];
    let output = liseg(&[&["train", path(&config), "--out", path(&run)], &set[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bf16"), "{}", stderr(&output));
}
