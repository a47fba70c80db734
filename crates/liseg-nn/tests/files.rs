//! Weights in every file format, and what damaged or hostile files do: nothing but an error.

use liseg_nn::tch::{Kind, Tensor};
use liseg_nn::{Format, TensorMap, Weights, checkpoint, runtime};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/weights")
        .join(name)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn check(tensors: &TensorMap) {
    let sizes = tensors.iter().map(|(n, t)| (n.as_str(), t.size()));
    let sizes: BTreeMap<_, _> = sizes.collect();
    assert_eq!(sizes.len(), 11, "{sizes:?}");
    assert_eq!(sizes["plain.weight"], [2, 3, 4]);
    assert_eq!(sizes["transposed.weight"], [4, 3, 2]);
    assert_eq!(sizes["empty"], [0, 3]);
    assert_eq!(sizes["scalar"], [0i64; 0]);
    let at = |name: &str| values(&tensors[name]);
    let all: Vec<f64> = (0..24).map(f64::from).collect();
    assert_eq!(at("plain.weight"), all);
    // Element (x, y, z) of the transposed is (z, y, x) of the plain.
    let t = &tensors["transposed.weight"];
    assert_eq!(t.double_value(&[3, 1, 1]), 12.0 + 4.0 + 3.0);
    assert_eq!(at("expanded.bias"), [1.5; 3]);
    assert_eq!(at("shared.first"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(at("shared.second"), [3.0, 5.0, 7.0]);
    assert_eq!(at("scalar"), [7.0]);
    assert_eq!(at("double"), [0.1]);
    for (name, kind) in [("half", Kind::Half), ("brain", Kind::BFloat16)] {
        assert_eq!(tensors[name].kind(), kind);
        assert_eq!(at(name), [0.5, -2.0]);
    }
    assert_eq!(tensors["flag"].kind(), Kind::Bool);
    assert_eq!(at("flag"), [1.0, 0.0]);
}

#[test]
fn every_container_gives_the_same_weights() {
    for (name, container) in [
        ("plain.pth", None),
        ("legacy.pth", None),
        ("nnunet_v2.pth", Some("network_weights")),
        ("nested.pt", Some("model.state_dict")),
    ] {
        let weights = Weights::read(&file(name)).unwrap();
        assert_eq!(weights.format, Format::PyTorch);
        assert_eq!(weights.container.as_deref(), container, "{name}");
        check(&weights.tensors);
    }
}

#[test]
fn what_a_checkpoint_says_about_its_training_is_kept() {
    let weights = Weights::read(&file("nnunet_v2.pth")).unwrap();
    assert_eq!(weights.facts["trainer"], "nnUNetTrainer");
    assert_eq!(weights.facts["epoch"], "3");
    assert_eq!(weights.facts["mirroring_axes"], "[0,1,2]");
    let plan: serde_json::Value = serde_json::from_str(&weights.facts["plan"]).unwrap();
    assert_eq!(plan["spacing"][0], 3.0);
    let moment = "optimizer_state.state.0.momentum_buffer";
    assert_eq!(weights.skipped, [moment]);
}

#[test]
fn hostile_files_are_refused_by_name_and_run_nothing() {
    let message = Weights::read(&file("hostile.pth")).unwrap_err().to_string();
    assert!(message.contains("`posix.system`"), "{message}");
    assert!(message.contains("hostile.pth"), "{message}");
    assert!(!Path::new("it-ran").exists());
    let message = Weights::read(&file("expanded.pth"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("claim far more"), "{message}");
    let message = Weights::read(&file("strided.pth")).unwrap_err().to_string();
    assert!(message.contains("read many times"), "{message}");
}

#[test]
fn equal_weights_have_equal_hashes_whatever_file_they_came_in() {
    let hash = |path: &Path| Weights::read(path).unwrap().content_hash().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.safetensors");
    let weights = Weights::read(&file("plain.pth")).unwrap();
    checkpoint::write(&copy, &weights.tensors, &weights.facts).unwrap();
    let expected = hash(&file("plain.pth"));
    assert_eq!(hash(&copy), expected);
    assert_eq!(hash(&file("nested.pt")), expected);
    let mut changed = weights.tensors;
    changed.insert("scalar".into(), Tensor::from(8i64));
    checkpoint::write(&copy, &changed, &BTreeMap::new()).unwrap();
    assert_ne!(hash(&copy), expected);
}

/// Overwrites, removes and repeats a few bytes.
fn mutated(original: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..rng.random_range(1..6) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..6) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + rng.random_range(1..32)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                // Lengths and offsets that are far too large.
                let value = [u64::MAX, i64::MAX as u64, 1 << 40, 1 << 31][rng.random_range(0..4)];
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
        }
    }
    bytes
}

/// A seeded stand-in for a fuzzer: no mutation of a good file panics, hangs or takes memory that the
/// file does not have.
#[test]
fn mutated_files_never_panic_and_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let safetensors = folder.path().join("good.safetensors");
    let good = Weights::read(&file("plain.pth")).unwrap();
    let facts = BTreeMap::from([("architecture".to_owned(), "STU-Net-S".to_owned())]);
    checkpoint::write(&safetensors, &good.tensors, &facts).unwrap();
    let names = [
        "plain.pth",
        "legacy.pth",
        "nnunet_v2.pth",
        "nested.pt",
        "hostile.pth",
    ];
    let mut files: Vec<Vec<u8>> = names
        .iter()
        .map(|n| std::fs::read(file(n)).unwrap())
        .collect();
    files.push(std::fs::read(&safetensors).unwrap());

    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let path = folder.path().join("mutated");
    let before = runtime::peak_memory_bytes();
    let (mut read, mut refused) = (0, 0);
    for round in 0..3000 {
        let bytes = mutated(&files[round % files.len()], &mut rng);
        std::fs::write(&path, &bytes).unwrap();
        match Weights::read(&path) {
            Ok(weights) => {
                let held: usize = weights.tensors.values().map(Tensor::numel).sum();
                assert!(
                    held <= 4 * bytes.len(),
                    "{held} numbers from {} bytes",
                    bytes.len()
                );
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("mutated"), "{error}");
                refused += 1;
            }
        }
    }
    // Most mutations break a file; some only change a number.
    assert!(
        read > 50 && refused > 1000,
        "{read} read, {refused} refused"
    );
    if let (Some(before), Some(after)) = (before, runtime::peak_memory_bytes()) {
        assert!(
            after - before < 256 << 20,
            "memory grew by {} bytes",
            after - before
        );
    }
}
