//! What a user relies on: shapes, gradients everywhere, two modes, one-line errors.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use candle::{D, DType, Tensor};
use candle_nn::ModuleT;
use common::{filled, flat, images, trainable};
use phiz_backbones::{
    Branches, ExpressionNet, ExpressionNetConfig, ExpressionOutput, IResNet, IResNetConfig,
    MobileFaceNet, MobileFaceNetConfig,
};
use phiz_kernels::{cross_entropy, gradcheck::every_variable_has_gradient};

const SMALL: ExpressionNetConfig = ExpressionNetConfig {
    in_channels: 1,
    image_size: 48,
    classes: 5,
    embedding_dim: 16,
    hidden_dim: 24,
    branches: Branches::Two,
    stop_gradient: false,
    width: 0.25,
    grid: 2,
};

fn tiny_resnet() -> IResNetConfig {
    IResNetConfig {
        image_size: 32,
        in_channels: 1,
        embedding_dim: 8,
        base_channels: 4,
        dropout: 0.,
    }
}

fn tiny_mobile() -> MobileFaceNetConfig {
    MobileFaceNetConfig {
        image_size: 16,
        in_channels: 1,
        embedding_dim: 8,
        blocks: [2, 1, 1, 1],
        scale: 1,
    }
}

/// Cross-entropy plus a spread of the metric embedding: reaches every branch.
fn joint(out: &ExpressionOutput) -> Tensor {
    let b = out.logits.dims()[0];
    let target = Tensor::from_vec(
        (0..b as u32).map(|i| i % 5).collect::<Vec<_>>(),
        b,
        out.logits.device(),
    )
    .unwrap();
    let softmax = cross_entropy(&out.logits, &target, 0.).unwrap();
    let metric = out
        .metric_embedding
        .sqr()
        .unwrap()
        .sum(D::Minus1)
        .unwrap()
        .mean_all()
        .unwrap();
    (softmax + metric).unwrap()
}

#[test]
fn shapes_of_expression_net() {
    for (config, side) in [(ExpressionNetConfig::default(), 64), (SMALL, 48)] {
        let network = ExpressionNet::new(config, filled(DType::F32).0).unwrap();
        let out = network
            .forward_t(
                &images(&[3, config.in_channels, side, side], DType::F32),
                true,
            )
            .unwrap();
        assert_eq!(out.features.dims(), [3, network.features()]);
        assert_eq!(
            out.classification_embedding.dims(),
            [3, config.embedding_dim]
        );
        assert_eq!(out.metric_embedding.dims(), [3, config.embedding_dim]);
        assert_eq!(out.logits.dims(), [3, config.classes]);
    }
}

#[test]
fn test_path_equals_the_classification_branch() {
    let network = ExpressionNet::new(SMALL, filled(DType::F64).0).unwrap();
    let x = images(&[2, 1, 48, 48], DType::F64);
    let (all, test) = (
        network.forward_t(&x, false).unwrap(),
        network.classify(&x).unwrap(),
    );
    assert_eq!(flat(&all.logits), flat(&test.logits));
    assert_eq!(flat(&all.classification_embedding), flat(&test.embedding));
}

#[test]
fn every_variable_of_expression_net_gets_a_gradient() {
    for branches in [Branches::Two, Branches::One] {
        let (vb, vars) = filled(DType::F32);
        let network = ExpressionNet::new(ExpressionNetConfig { branches, ..SMALL }, vb).unwrap();
        let out = network
            .forward_t(&images(&[6, 1, 48, 48], DType::F32), true)
            .unwrap();
        let grads = joint(&out).backward().unwrap();
        every_variable_has_gradient(&grads, &trainable(&vars)).unwrap();
    }
}

#[test]
fn every_variable_of_the_face_networks_gets_a_gradient() {
    let x = images(&[4, 1, 32, 32], DType::F32);
    let (vb, vars) = filled(DType::F32);
    let network = IResNet::new([2, 1, 1, 1], tiny_resnet(), vb).unwrap();
    let loss = spread(&network.forward_t(&x, true).unwrap());
    let learned = trainable(&vars)
        .into_iter()
        .filter(|(name, _)| name != "features.weight")
        .collect::<Vec<_>>();
    every_variable_has_gradient(&loss.backward().unwrap(), &learned).unwrap();

    let (vb, vars) = filled(DType::F32);
    let network = MobileFaceNet::new(
        MobileFaceNetConfig {
            image_size: 32,
            ..tiny_mobile()
        },
        vb,
    )
    .unwrap();
    let loss = spread(&network.forward_t(&x, true).unwrap());
    every_variable_has_gradient(&loss.backward().unwrap(), &trainable(&vars)).unwrap();
}

/// A scalar that is not constant under batch norm, as a plain sum or sum of squares would be.
fn spread(embeddings: &Tensor) -> Tensor {
    let n = embeddings.elem_count();
    let pattern = common::tensor(
        common::uniform("pattern", n),
        embeddings.dims(),
        embeddings.dtype(),
    );
    (embeddings * pattern).unwrap().sum_all().unwrap()
}

#[test]
fn one_branch_shares_the_embedding() {
    let (vb, vars) = filled(DType::F32);
    let network = ExpressionNet::new(
        ExpressionNetConfig {
            branches: Branches::One,
            ..SMALL
        },
        vb,
    )
    .unwrap();
    let out = network
        .forward_t(&images(&[2, 1, 48, 48], DType::F32), false)
        .unwrap();
    assert_eq!(
        flat(&out.metric_embedding),
        flat(&out.classification_embedding)
    );
    assert!(!vars.lock().unwrap().keys().any(|k| k.starts_with("metric")));
}

#[test]
fn stop_gradient_cuts_the_connecting_layer_and_nothing_else() {
    for stop_gradient in [false, true] {
        let (vb, vars) = filled(DType::F32);
        let network = ExpressionNet::new(
            ExpressionNetConfig {
                stop_gradient,
                ..SMALL
            },
            vb,
        )
        .unwrap();
        let out = network
            .forward_t(&images(&[4, 1, 48, 48], DType::F32), true)
            .unwrap();
        let grads = spread(&out.metric_embedding).backward().unwrap();
        let vars = vars.lock().unwrap();
        let has = |name: &str| grads.get(&vars[name]).is_some();
        assert_eq!(has("classifier.fc1.weight"), !stop_gradient);
        assert!(has("trunk.stem1.conv.weight") && has("metric.fc.weight"));
        assert!(!has("classifier.fc2.weight") && !has("classifier.logits.weight"));
    }
}

#[test]
fn training_uses_the_batch_and_moves_the_running_statistics() {
    let (vb, vars) = filled(DType::F64);
    let network = ExpressionNet::new(SMALL, vb).unwrap();
    let x = images(&[4, 1, 48, 48], DType::F64);
    let before = flat(&network.forward_t(&x, false).unwrap().logits);
    assert_eq!(
        before,
        flat(&network.forward_t(&x, false).unwrap().logits),
        "evaluation changes nothing"
    );
    let mean = flat(&vars.lock().unwrap()["trunk.stem1.bn.running_mean"]);
    let train = flat(&network.forward_t(&x, true).unwrap().logits);
    assert_ne!(before, train);
    assert_ne!(
        mean,
        flat(&vars.lock().unwrap()["trunk.stem1.bn.running_mean"])
    );
    assert_ne!(
        before,
        flat(&network.forward_t(&x, false).unwrap().logits),
        "evaluation uses what was learned"
    );
}

#[test]
fn a_batch_of_one() {
    let expression = ExpressionNet::new(SMALL, filled(DType::F32).0).unwrap();
    let x = images(&[1, 1, 48, 48], DType::F32);
    let scores = expression.forward_t(&x, false).unwrap().logits;
    assert!(flat(&scores).iter().all(|v| v.is_finite()));
    let training = expression.forward_t(&x, true).unwrap_err();
    let resnet = IResNet::new([1, 1, 1, 1], tiny_resnet(), filled(DType::F32).0).unwrap();
    let mobile = MobileFaceNet::new(tiny_mobile(), filled(DType::F32).0).unwrap();
    let (x, y) = (
        images(&[1, 1, 32, 32], DType::F32),
        images(&[1, 1, 16, 16], DType::F32),
    );
    assert_eq!(resnet.forward_t(&x, false).unwrap().dims(), [1, 8]);
    assert_eq!(mobile.forward_t(&y, false).unwrap().dims(), [1, 8]);
    for error in [
        training,
        resnet.forward_t(&x, true).unwrap_err(),
        mobile.forward_t(&y, true).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("a batch of 1 is too small"),
            "{error}"
        );
    }
}

#[test]
fn an_image_alone_equals_the_image_in_a_batch() {
    let network = ExpressionNet::new(SMALL, filled(DType::F64).0).unwrap();
    let x = images(&[3, 1, 48, 48], DType::F64);
    let together = network.classify(&x).unwrap().embedding;
    let alone = network
        .classify(&x.narrow(0, 1, 1).unwrap())
        .unwrap()
        .embedding;
    common::close(
        "embedding",
        &flat(&alone),
        &flat(&together.narrow(0, 1, 1).unwrap()),
        1e-12,
    );
}

#[test]
fn wrong_input_names_both_shapes() {
    let expression = ExpressionNet::new(SMALL, filled(DType::F32).0).unwrap();
    let resnet = IResNet::new([1, 1, 1, 1], tiny_resnet(), filled(DType::F32).0).unwrap();
    let mobile = MobileFaceNet::new(tiny_mobile(), filled(DType::F32).0).unwrap();
    for dims in [
        &[2, 1, 40, 48][..],
        &[2, 3, 48, 48],
        &[1, 48, 48],
        &[0, 1, 48, 48],
    ] {
        let x = Tensor::zeros(dims, DType::F32, &candle::Device::Cpu).unwrap();
        for error in [
            expression.forward_t(&x, false).unwrap_err(),
            resnet.forward_t(&x, false).unwrap_err(),
            mobile.forward_t(&x, false).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains(&format!("{dims:?}")) || text.contains("a batch of 0"),
                "{text}"
            );
        }
    }
}

#[test]
fn dropout_asks_for_a_seed_and_follows_it() {
    let config = IResNetConfig {
        dropout: 0.5,
        ..tiny_resnet()
    };
    let network = IResNet::new([1, 1, 1, 1], config, filled(DType::F32).0).unwrap();
    let x = images(&[4, 1, 32, 32], DType::F32);
    assert!(
        network
            .forward_t(&x, true)
            .unwrap_err()
            .to_string()
            .contains("forward_seeded")
    );
    let run = |seed| flat(&network.forward_seeded(&x, true, seed).unwrap());
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_eq!(
        flat(&network.forward_t(&x, false).unwrap()),
        flat(&network.forward_seeded(&x, false, 9).unwrap())
    );
}
