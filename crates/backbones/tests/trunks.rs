//! ResNet and ViT against torchvision and timm in f64 (`fixtures/backbones/trunks.py`), published counts, and input.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use candle::{DType, Result, Tensor};
use candle_nn::{ModuleT, VarBuilder};
use common::{
    close, dims, filled, flat, images, json, numbers, recorder, tensor, trainable, uniform,
};
use phiz_backbones::{
    ResNet, ResNetBlock, ResNetConfig, Stem, VisionTransformer, VisionTransformerConfig, resnet18,
    resnet50, vit_small, vit_tiny,
};

/// Names, shapes, count and cost against the entry of the list; `published` where there is a figure.
fn check(name: &str, published: Option<usize>, build: impl Fn(VarBuilder) -> Result<u64>) {
    let want = &json("trunk_parameters.json")[name];
    let (vb, entries) = recorder();
    let cost = build(vb).unwrap();
    let got = entries.lock().unwrap().clone();
    let entries = want["entries"].as_object().unwrap();
    for (key, shape) in entries {
        assert_eq!(got.get(key), Some(&dims(shape)), "{name}: {key}");
    }
    assert_eq!(
        got.len(),
        entries.len(),
        "{name} asks for more than there is"
    );
    let learned = got.iter().filter(|(k, _)| !k.contains("running_"));
    let count: usize = learned.map(|(_, s)| s.iter().product::<usize>()).sum();
    assert_eq!(count as u64, want["count"].as_u64().unwrap());
    assert_eq!(count, published.unwrap_or(count));
    assert_eq!(cost, want["macs"].as_u64().unwrap(), "{name}");
}

#[test]
fn lists_counts_and_cost() {
    let full = ResNetConfig {
        outputs: Some(1000),
        ..Default::default()
    };
    check("resnet18", Some(11_689_512), |vb| {
        resnet18(full, vb)?.macs(224)
    });
    check("resnet50", Some(25_557_032), |vb| {
        resnet50(full, vb)?.macs(224)
    });
    let small = ResNetConfig {
        base_channels: ResNetConfig::width(0.5),
        stem: Stem::Half,
        ..Default::default()
    };
    check("resnet50_small", None, |vb| resnet50(small, vb)?.macs(64));
    let vit = VisionTransformerConfig {
        outputs: Some(1000),
        ..Default::default()
    };
    check("vit_tiny", Some(5_717_416), |vb| {
        Ok(vit_tiny(vit, vb)?.macs())
    });
    check("vit_small", Some(22_050_664), |vb| {
        Ok(vit_small(vit, vb)?.macs())
    });
}

fn eval<M: ModuleT>(case: &str, build: impl Fn(VarBuilder) -> Result<M>) {
    let want = &json("trunks.json")[case];
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-4)] {
        let network = build(filled(dtype).0).unwrap();
        let x = images(&dims(&want["input"]), dtype);
        let got = flat(&network.forward_t(&x, false).unwrap());
        close(case, &got, &numbers(&want["output"]), tolerance);
    }
}

/// Outputs, the norm of every gradient, and of every running statistic after one step.
fn train<M: ModuleT>(case: &str, build: impl Fn(VarBuilder) -> Result<M>) {
    let want = &json("trunks.json")[case];
    for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 3e-3)] {
        let (vb, vars) = filled(dtype);
        let network = build(vb).unwrap();
        let x = images(&dims(&want["input"]), dtype);
        let out = network.forward_t(&x, true).unwrap();
        close(case, &flat(&out), &numbers(&want["output"]), tolerance);
        let pattern = uniform("pattern", out.elem_count());
        let pattern = pattern.into_iter().map(|u| u - 0.5).collect();
        let pattern = tensor(pattern, out.dims(), dtype);
        let grads = (out * pattern).unwrap().sum_all().unwrap();
        let grads = grads.backward().unwrap();
        let norm = |t: &Tensor| flat(t).iter().map(|v| v * v).sum::<f64>().sqrt();
        let norms = want["gradient_norms"].as_object().unwrap();
        let values = norms.values().map(|v| v.as_f64().unwrap());
        let largest = values.fold(0f64, f64::max);
        let learned = trainable(&vars);
        assert_eq!(learned.len(), norms.len());
        for (name, var) in learned {
            let grad = grads.get(&var);
            let got = norm(grad.unwrap_or_else(|| panic!("{name} got no gradient")));
            let expected = norms[&name].as_f64().unwrap();
            assert!(
                (got - expected).abs() <= tolerance * (expected + 1e-3 * largest),
                "{case} {name}: gradient norm {got}, expected {expected}"
            );
        }
        let vars = vars.lock().unwrap();
        for (name, want) in want["buffer_norms"].as_object().unwrap() {
            let (got, want) = (norm(vars[name].as_tensor()), want.as_f64().unwrap());
            assert!((got - want).abs() <= tolerance * want, "{case} {name}");
        }
    }
}

fn config(in_channels: usize, base: usize, stem: Stem, outputs: usize) -> ResNetConfig {
    ResNetConfig {
        in_channels,
        base_channels: base,
        stem,
        outputs: (outputs > 0).then_some(outputs),
    }
}

#[test]
fn resnet_evaluation() {
    eval("resnet18_eval", |vb| {
        resnet18(config(3, 64, Stem::Imagenet, 10), vb)
    });
    eval("resnet50_eval", |vb| {
        resnet50(config(3, 16, Stem::Imagenet, 7), vb)
    });
}

#[test]
fn resnet_training() {
    let (basic, bottleneck) = (ResNetBlock::Basic, ResNetBlock::Bottleneck);
    train("resnet18_train", |vb| {
        ResNet::new(basic, [2, 1, 1, 1], config(1, 8, Stem::Half, 0), vb)
    });
    train("resnet18_imagenet_train", |vb| {
        ResNet::new(basic, [1, 1, 1, 1], config(3, 8, Stem::Imagenet, 5), vb)
    });
    train("resnet50_train", |vb| {
        ResNet::new(bottleneck, [1, 2, 1, 1], config(3, 8, Stem::Full, 6), vb)
    });
}

fn small_vit(
    in_channels: usize,
    dim: usize,
    depth: usize,
    heads: usize,
) -> VisionTransformerConfig {
    VisionTransformerConfig {
        image_size: 32,
        patch_size: 8,
        in_channels,
        dim,
        depth,
        heads,
        ..Default::default()
    }
}

#[test]
fn vit_evaluation_and_training() {
    eval("vit_eval", |vb| {
        VisionTransformer::new(small_vit(3, 48, 3, 3), vb)
    });
    let config = VisionTransformerConfig {
        outputs: Some(5),
        ..small_vit(1, 24, 2, 2)
    };
    train("vit_train", |vb| VisionTransformer::new(config, vb));
}

#[test]
fn attention_sees_the_tokens_it_is_given_in_any_order() {
    let network = VisionTransformer::new(small_vit(3, 24, 2, 2), filled(DType::F64).0).unwrap();
    let tokens = network
        .patches(&images(&[2, 3, 32, 32], DType::F64))
        .unwrap();
    let order = Tensor::new(&[5u32, 0, 9, 2], tokens.device()).unwrap();
    let back = Tensor::new(&[9u32, 2, 5, 0], tokens.device()).unwrap();
    let class = |order| {
        let chosen = tokens.index_select(order, 1).unwrap();
        flat(&network.encode(&chosen).unwrap().narrow(1, 0, 1).unwrap())
    };
    close("class token", &class(&order), &class(&back), 1e-12);
}

#[test]
fn folded_resnet_gives_the_same() {
    for (kind, stem) in [
        (ResNetBlock::Basic, Stem::Imagenet),
        (ResNetBlock::Bottleneck, Stem::Half),
    ] {
        let build = |vb| ResNet::new(kind, [1, 2, 1, 1], config(3, 8, stem, 4), vb).unwrap();
        let network = build(filled(DType::F64).0);
        let folded = network.folded().unwrap();
        // Other sides than the usual ones, and not square.
        let x = images(&[2, 3, 40, 27], DType::F64);
        let got = flat(&folded.forward_t(&x, false).unwrap());
        let want = flat(&network.forward_t(&x, false).unwrap());
        close("folded", &got, &want, 1e-10);
        let message = folded.forward_t(&x, true).unwrap_err().to_string();
        assert!(message.contains("cannot be trained"), "{message}");
    }
}

#[test]
fn wrong_input_names_both_shapes() {
    let network = resnet18(config(3, 4, Stem::Half, 0), filled(DType::F32).0).unwrap();
    let x = images(&[2, 1, 32, 32], DType::F32);
    let message = network.forward_t(&x, false).unwrap_err().to_string();
    assert!(
        message.contains("(B, 3, H, W), got [2, 1, 32, 32]"),
        "{message}"
    );
    let refused = resnet18(config(0, 4, Stem::Half, 0), filled(DType::F32).0).unwrap_err();
    assert!(
        refused.to_string().contains("must be positive"),
        "{refused}"
    );
    let vit = |config| VisionTransformer::new(config, filled(DType::F32).0);
    let refused = vit(small_vit(3, 25, 1, 2)).unwrap_err().to_string();
    assert!(refused.contains("2 heads a token of 25"), "{refused}");
    let network = vit(small_vit(3, 24, 1, 2)).unwrap();
    let message = network.forward_t(&images(&[2, 3, 40, 40], DType::F32), false);
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("(B, 3, 32, 32), got [2, 3, 40, 40]"),
        "{message}"
    );
}
