//! The masked auto-encoder: loss and every gradient against the f64 statement of `fixtures/pretrain/make_mae.py`, and
//! what it learns.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use candle::{DType, Device, Result, Tensor, Var};
use candle_nn::{ModuleT, VarBuilder, VarMap};
use phiz_backbones::{VisionTransformer, VisionTransformerConfig};
use phiz_pretrain::{Mae, MaeConfig, Mask, Method, Moment, TokenShape, Tokens, Trunk, Views};
use phiz_train::{GroupRules, Optimizer, OptimizerConfig, Parameters, Streams};
use serde_json::Value;

struct Vit(VisionTransformer);

impl Trunk for Vit {
    fn features(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self.0.forward_t(images, train)
    }

    fn tokens(&self) -> Option<&dyn Tokens> {
        Some(self)
    }
}

impl Tokens for Vit {
    fn patches(&self, images: &Tensor) -> Result<Tensor> {
        self.0.patches(images)
    }

    fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        self.0.encode(tokens)
    }
}

fn tensor(value: &Value) -> Tensor {
    let numbers = |value: &Value| -> Vec<f64> {
        let array = value.as_array().unwrap().iter();
        array.map(|x| x.as_f64().unwrap()).collect()
    };
    let shape: Vec<usize> = numbers(&value["shape"])
        .iter()
        .map(|n| *n as usize)
        .collect();
    Tensor::from_vec(numbers(&value["values"]), shape, &Device::Cpu).unwrap()
}

#[test]
fn loss_and_every_gradient_equal_the_statement() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/pretrain/mae.json"
    );
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let size = |name: &str| golden[name].as_u64().unwrap() as usize;
    let vars: BTreeMap<String, Var> = golden["parameters"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), Var::from_tensor(&tensor(value)).unwrap()))
        .collect();
    let tensors = vars.iter();
    let tensors = tensors.map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    let vb = VarBuilder::from_tensors(tensors.collect(), DType::F64, &Device::Cpu);
    let trunk = VisionTransformerConfig {
        image_size: size("image"),
        patch_size: size("patch"),
        in_channels: 2,
        dim: size("dim"),
        depth: 1,
        heads: size("heads"),
        ..Default::default()
    };
    let trunk = Vit(VisionTransformer::new(trunk, vb.pp("backbone")).unwrap());
    let images = tensor(&golden["images"]);
    let part = |name: &str, image: usize| -> Vec<usize> {
        let all = golden[name][image].as_array().unwrap().iter();
        all.map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let masks: Vec<Mask> = (0..3)
        .map(|image| Mask {
            seen: part("seen", image),
            hidden: part("hidden", image),
        })
        .collect();
    let shape = TokenShape {
        dim: size("dim"),
        image: size("image"),
        patch: size("patch"),
        channels: 2,
    };
    for case in golden["cases"].as_array().unwrap() {
        let config = MaeConfig {
            dim: size("width"),
            depth: 2,
            heads: size("decoder_heads"),
            normalised: case["normalised"].as_bool().unwrap(),
            ..MaeConfig::default()
        };
        let mae = Mae::new(&config, shape, vb.clone()).unwrap();
        let (loss, encoded, blind) = mae.reconstruct(&trunk, &images, &masks).unwrap();
        assert_eq!(encoded.dims(), [3, 5, size("dim")]);
        assert!(blind > 0.9 && blind < 1.1, "{blind}");
        let (found, wanted) = (
            loss.to_scalar::<f64>().unwrap(),
            case["loss"].as_f64().unwrap(),
        );
        assert!((found - wanted).abs() < 1e-12 * wanted, "{found} {wanted}");
        let gradients = loss.backward().unwrap();
        assert_eq!(case["gradients"].as_object().unwrap().len(), vars.len());
        for (name, wanted) in case["gradients"].as_object().unwrap() {
            let found = gradients
                .get(&vars[name])
                .unwrap_or_else(|| panic!("{name}: none"));
            let apart = (found - tensor(wanted)).unwrap().abs().unwrap();
            let apart = apart.flatten_all().unwrap().max(0).unwrap();
            let apart = apart.to_scalar::<f64>().unwrap();
            assert!(apart < 1e-11, "{name}: {apart}");
        }
        // A mask that names a patch twice, or another number of patches for one image.
        let mut wrong = masks.clone();
        wrong[0].seen[0] = wrong[0].seen[1];
        assert!(mae.reconstruct(&trunk, &images, &wrong).is_err());
        assert!(mae.reconstruct(&trunk, &images, &masks[1..]).is_err());
    }
}

/// Rows, columns or diagonals, one of them an image, in a strength of its own: what is hidden follows from what is seen.
fn stripes(step: u64) -> Tensor {
    let value = |b: usize, y: usize, x: usize| {
        let phase = match (b as u64 + step) % 3 {
            0 => x,
            1 => y,
            _ => x + y,
        };
        ((phase % 4) as f32 - 1.5) * (1. + b as f32)
    };
    let values = (0..8usize)
        .flat_map(|b| (0..16usize).flat_map(move |y| (0..16usize).map(move |x| value(b, y, x))));
    Tensor::from_iter(values, &Device::Cpu)
        .unwrap()
        .reshape((8, 1, 16, 16))
        .unwrap()
}

#[test]
fn it_learns_to_tell_hidden_patches_and_is_a_function_of_seed_and_step() {
    let config = VisionTransformerConfig {
        image_size: 16,
        patch_size: 4,
        in_channels: 1,
        dim: 16,
        depth: 2,
        heads: 2,
        ..Default::default()
    };
    let shape = TokenShape {
        dim: 16,
        image: 16,
        patch: 4,
        channels: 1,
    };
    let mae = MaeConfig {
        hidden: 0.5,
        dim: 16,
        depth: 1,
        heads: 2,
        ..MaeConfig::default()
    };
    let run = |steps: u64| -> Vec<f64> {
        let parameters = Parameters::new(Streams::new(3), DType::F32, &Device::Cpu);
        let vb = parameters.var_builder();
        let trunk = Vit(VisionTransformer::new(config, vb.pp("backbone")).unwrap());
        let mae = Mae::new(&mae, shape, vb).unwrap();
        let rules = GroupRules::default();
        let mut optimizer = Optimizer::new(&parameters, OptimizerConfig::adamw(), &rules).unwrap();
        let step = |step: u64| {
            let views = Views::new(vec![stripes(step)], 8).unwrap();
            let report = mae
                .step(&trunk, &views, Moment { step, total: steps })
                .unwrap();
            let gradients = report.loss.backward().unwrap();
            for (name, var) in parameters.trainable() {
                assert!(gradients.get(&var).is_some(), "{name} has no gradient");
            }
            optimizer.step(&gradients, 3e-3).unwrap();
            assert_eq!(report.metrics[0].0, "loss_over_chance");
            report.metrics[0].1
        };
        (0..steps).map(step).collect()
    };
    let over = run(120);
    let late = over[110..].iter().sum::<f64>() / 10.;
    assert!(over[0] > 0. && late < -0.5, "{} {late}", over[0]);
    assert_eq!(run(3), over[..3]);
}

#[test]
fn what_it_cannot_take_is_said() {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let shape = TokenShape {
        dim: 8,
        image: 16,
        patch: 4,
        channels: 1,
    };
    let config = MaeConfig {
        dim: 8,
        depth: 1,
        heads: 2,
        ..MaeConfig::default()
    };
    let refused = |config: MaeConfig, shape: TokenShape| {
        Mae::new(&config, shape, vb.clone())
            .err()
            .unwrap()
            .to_string()
    };
    let wrong = TokenShape { patch: 5, ..shape };
    assert!(refused(config, wrong).contains("do not divide"));
    assert!(refused(MaeConfig { dim: 10, ..config }, shape).contains("multiple of 4"));
    assert!(refused(MaeConfig { heads: 3, ..config }, shape).contains("heads"));
    assert!(
        refused(
            MaeConfig {
                hidden: 1.,
                ..config
            },
            shape
        )
        .contains("share")
    );
    let mae = Mae::new(&config, shape, vb).unwrap();
    let views = Views::new(vec![stripes(0)], 8).unwrap();
    let convolution = |x: &Tensor, _: bool| x.mean((2, 3));
    let moment = Moment { step: 0, total: 1 };
    let error = mae
        .step(&convolution, &views, moment)
        .unwrap_err()
        .to_string();
    assert!(error.contains("vision transformer"), "{error}");
}
