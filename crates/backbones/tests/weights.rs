//! Checkpoints: both formats, wrappers, round trip, and files that are not what they seem.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle::{DType, Device, Tensor};
use candle_nn::ModuleT;
use common::{filled, fixture, flat, images, tensor, value};
use phiz_backbones::{
    IResNet, IResNetConfig, iresnet, load_pytorch, save_pytorch, select, var_builder,
};

const CONFIG: IResNetConfig = IResNetConfig {
    image_size: 16,
    in_channels: 1,
    embedding_dim: 4,
    base_channels: 2,
    dropout: 0.,
};

/// A file of this name under the test's own folder, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn both_formats_hold_the_state_dict() {
    let (pickle, safe) = (
        load_pytorch(fixture("weights.pt")).unwrap(),
        load_pytorch(fixture("weights.safetensors")).unwrap(),
    );
    assert_eq!(
        pickle.keys().collect::<Vec<_>>(),
        safe.keys().collect::<Vec<_>>()
    );
    assert!(!safe.keys().any(|k| k.ends_with("num_batches_tracked")));
    for (name, t) in &safe {
        assert_eq!(t.dims(), pickle[name].dims(), "{name}");
        assert_eq!(flat(t), flat(&pickle[name]), "{name}");
        assert_eq!(
            flat(t),
            flat(&tensor(value(name, t.dims()), t.dims(), DType::F32)),
            "{name}"
        );
    }
}

#[test]
fn a_loaded_network_computes_what_the_filled_one_does() {
    let x = images(&[2, 1, 16, 16], DType::F32);
    let want = IResNet::new([1, 1, 1, 1], CONFIG, filled(DType::F32).0)
        .unwrap()
        .forward_t(&x, false)
        .unwrap();
    for file in ["weights.pt", "weights.safetensors"] {
        let vb = var_builder(
            load_pytorch(fixture(file)).unwrap(),
            DType::F32,
            &Device::Cpu,
        );
        let got = IResNet::new([1, 1, 1, 1], CONFIG, vb)
            .unwrap()
            .forward_t(&x, false)
            .unwrap();
        assert_eq!(flat(&got), flat(&want), "{file}");
    }
}

#[test]
fn the_fixed_scale_goes_out_and_comes_back() {
    let file = load_pytorch(fixture("weights.safetensors")).unwrap();
    let ours = iresnet::from_pytorch(file.clone()).unwrap();
    let asked = filled(DType::F32);
    IResNet::new([1, 1, 1, 1], CONFIG, asked.0).unwrap();
    assert!(ours.keys().eq(asked.1.lock().unwrap().keys()));
    let theirs = iresnet::to_pytorch(ours).unwrap();
    assert!(theirs.keys().eq(file.keys()));
    assert_eq!(
        flat(&theirs["features.weight"]),
        flat(&file["features.weight"])
    );
    let scaled = BTreeMap::from([(
        "features.weight".to_owned(),
        (&file["features.weight"] * 2.).unwrap(),
    )]);
    assert!(
        iresnet::from_pytorch(scaled.clone())
            .unwrap_err()
            .to_string()
            .contains("entry 0 is 2")
    );
    assert!(
        iresnet::to_pytorch(scaled)
            .unwrap_err()
            .to_string()
            .contains("features.bias")
    );
}

#[test]
fn another_architecture_is_an_error_that_names_a_tensor() {
    let weights = load_pytorch(fixture("weights.safetensors")).unwrap();
    let deeper = IResNet::new(
        [2, 1, 1, 1],
        CONFIG,
        var_builder(weights.clone(), DType::F32, &Device::Cpu),
    );
    assert!(deeper.unwrap_err().to_string().contains("layer1.1"));
    let wider = IResNetConfig {
        base_channels: 4,
        ..CONFIG
    };
    let wider = IResNet::new(
        [1, 1, 1, 1],
        wider,
        var_builder(weights, DType::F32, &Device::Cpu),
    );
    assert!(wider.unwrap_err().to_string().contains("conv1.weight"));
}

#[test]
fn wrappers_are_taken_off() {
    let nested = load_pytorch(fixture("nested.pt")).unwrap();
    assert_eq!(
        nested.keys().collect::<Vec<_>>(),
        ["conv1.weight", "prelu.weight"]
    );
    assert_eq!(
        flat(&nested["prelu.weight"]),
        flat(&load_pytorch(fixture("weights.pt")).unwrap()["prelu.weight"])
    );
}

#[test]
fn a_prefix_that_not_all_names_carry_stays() {
    let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let map = BTreeMap::from([
        ("module.backbone.a".to_owned(), one.clone()),
        ("module.head.b".to_owned(), one),
    ]);
    let file = Scratch::new("mixed.safetensors", &[]);
    save_pytorch(&file.0, &map).unwrap();
    let back = load_pytorch(&file.0).unwrap();
    assert_eq!(back.keys().collect::<Vec<_>>(), ["backbone.a", "head.b"]);
    assert_eq!(select(&back, "backbone.").keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn round_trip() {
    let weights = load_pytorch(fixture("weights.pt")).unwrap();
    let file = Scratch::new("round.safetensors", &[]);
    save_pytorch(&file.0, &weights).unwrap();
    let back = load_pytorch(&file.0).unwrap();
    assert_eq!(back.len(), weights.len());
    for (name, t) in &weights {
        assert_eq!(flat(t), flat(&back[name]), "{name}");
    }
    let transposed = BTreeMap::from([("w".to_owned(), weights["fc.weight"].t().unwrap())]);
    save_pytorch(&file.0, &transposed).unwrap();
    assert_eq!(
        flat(&load_pytorch(&file.0).unwrap()["w"]),
        flat(&transposed["w"])
    );
}

#[test]
fn a_pickle_that_would_run_a_command_does_not() {
    let text = load_pytorch(fixture("hostile.pt")).unwrap_err().to_string();
    assert!(text.contains("hostile.pt"), "{text}");
    assert!(!PathBuf::from("phiz-backbones-hostile-pickle-was-executed").exists());
}

#[test]
fn files_that_are_not_checkpoints_say_what_is_wrong() {
    let safe = std::fs::read(fixture("weights.safetensors")).unwrap();
    let zip = std::fs::read(fixture("weights.pt")).unwrap();
    let legacy = std::fs::read(fixture("legacy.pt")).unwrap();
    let mut long_header = safe.clone();
    long_header[..8].copy_from_slice(&(u64::MAX - 3).to_le_bytes());
    for (bytes, words) in [
        (&[][..], "is empty"),
        (&b"hello, this is text"[..], "neither safetensors nor"),
        (&[1, 2, 3], "neither safetensors nor"),
        (&legacy, "bare pickle"),
        (&safe[..safe.len() / 2], "not a sound safetensors file"),
        (&safe[..40], "cut short"),
        (&long_header, "cut short"),
        (&zip[..zip.len() / 2], "not a sound torch.save archive"),
        (&zip[..4], "not a sound torch.save archive"),
    ] {
        let file = Scratch::new("bad", bytes);
        let text = load_pytorch(&file.0).unwrap_err().to_string();
        assert!(
            text.contains(words) && text.contains("bad") && !text.contains('\n'),
            "{text}"
        );
    }
    assert!(
        load_pytorch("no/such/file.pt")
            .unwrap_err()
            .to_string()
            .contains("no/such/file.pt")
    );
}

#[test]
fn a_header_whose_length_begins_like_a_pickle_is_read() {
    // Headers are padded to 8 bytes, so that one in 32 files begins with 0x80, as a pickle does.
    for length in [128usize, 384] {
        let mut header =
            br#"{"fc.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_vec();
        header.resize(length, b' ');
        let mut file = (length as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(1.5f32.to_le_bytes());
        let path =
            std::env::temp_dir().join(format!("phiz-{}-{length}.safetensors", std::process::id()));
        std::fs::write(&path, &file).unwrap();
        let read = load_pytorch(&path);
        std::fs::remove_file(&path).unwrap();
        let value = read.unwrap()["fc.bias"].to_vec1::<f32>().unwrap();
        assert_eq!(value, [1.5]);
    }
}
