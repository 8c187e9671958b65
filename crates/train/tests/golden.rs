//! Optimisers, clipping and schedules against PyTorch in f64 (`fixtures/train/make.py`).
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::collections::BTreeMap;

use candle::backprop::GradStore;
use candle::{DType, Device, Tensor};
use candle_nn::Init;
use phiz_train::{
    ErrorKind, GroupRules, Optimizer, OptimizerConfig, Parameters, PrefixRule, Schedule, Streams,
    clip_coefficient, clip_grad_norm, grad_norm,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    shapes: BTreeMap<String, Vec<usize>>,
    optimizers: Vec<OptimizerCase>,
    clip: Vec<ClipCase>,
    schedules: Vec<ScheduleCase>,
}

#[derive(Deserialize)]
struct OptimizerCase {
    name: String,
    config: OptimizerConfig,
    start: BTreeMap<String, Vec<f64>>,
    rates: Vec<f64>,
    gradients: Vec<BTreeMap<String, Option<Vec<f64>>>>,
    values: Vec<BTreeMap<String, Vec<f64>>>,
}

#[derive(Deserialize)]
struct ClipCase {
    max_norm: f64,
    before: BTreeMap<String, Vec<f64>>,
    norm: f64,
    after: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct ScheduleCase {
    schedule: Schedule,
    base: f64,
    total: u64,
    rates: Vec<f64>,
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/train/golden.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn rules() -> GroupRules {
    let head = PrefixRule {
        prefix: "head".into(),
        lr_multiplier: 0.1,
        decay_multiplier: 1.,
    };
    GroupRules {
        prefixes: vec![head],
        ..GroupRules::default()
    }
}

/// Variables of the fixture's shapes with given values.
fn parameters(golden: &Golden, values: &BTreeMap<String, Vec<f64>>, dtype: DType) -> Parameters {
    let parameters = Parameters::new(Streams::new(0), dtype, &Device::Cpu);
    let builder = parameters.var_builder();
    let mut tensors = BTreeMap::new();
    for (name, shape) in &golden.shapes {
        builder
            .get_with_hints(shape.as_slice(), name, Init::Const(0.))
            .unwrap();
        tensors.insert(
            name.clone(),
            Tensor::from_slice(&values[name], shape.as_slice(), &Device::Cpu).unwrap(),
        );
    }
    parameters.load(&tensors).unwrap();
    parameters
}

/// A store with given gradients; candle makes one only by a backward pass.
fn store(parameters: &Parameters, gradients: &BTreeMap<String, Option<Vec<f64>>>) -> GradStore {
    let mut store = Tensor::new(0f64, &Device::Cpu).unwrap().backward().unwrap();
    for (name, var) in parameters.trainable() {
        if let Some(values) = &gradients[&name] {
            let gradient = Tensor::from_slice(values, var.shape().clone(), &Device::Cpu).unwrap();
            store.insert(var.as_tensor(), gradient.to_dtype(var.dtype()).unwrap());
        }
    }
    store
}

fn close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (x, y) in found.iter().zip(expected) {
        assert!(
            (x - y).abs() <= tolerance * (1. + y.abs()),
            "{name}: {x} instead of {y}"
        );
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .flatten_all()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn optimisers_follow_pytorch() {
    let golden = golden();
    for case in &golden.optimizers {
        for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 3e-6), (DType::BF16, 0.1)] {
            let parameters = parameters(&golden, &case.start, dtype);
            let mut optimizer = Optimizer::new(&parameters, case.config, &rules()).unwrap();
            for (t, gradients) in case.gradients.iter().enumerate() {
                optimizer
                    .step(&store(&parameters, gradients), case.rates[t])
                    .unwrap();
                for (name, expected) in &case.values[t] {
                    let found = values(&parameters.get(name).unwrap());
                    close(
                        &format!("{} {name} step {t} {dtype:?}", case.name),
                        &found,
                        expected,
                        tolerance,
                    );
                }
            }
        }
    }
}

#[test]
fn saved_state_continues_bit_for_bit() {
    let golden = golden();
    for case in &golden.optimizers {
        let whole = parameters(&golden, &case.start, DType::F32);
        let mut optimizer = Optimizer::new(&whole, case.config, &rules()).unwrap();
        for (t, gradients) in case.gradients.iter().enumerate() {
            optimizer
                .step(&store(&whole, gradients), case.rates[t])
                .unwrap();
            if t == 4 {
                let halfway = Parameters::new(Streams::new(9), DType::F32, &Device::Cpu);
                for (name, shape) in &golden.shapes {
                    halfway
                        .var_builder()
                        .get_with_hints(shape.as_slice(), name, Init::Const(7.))
                        .unwrap();
                }
                halfway.load(&whole.snapshot().unwrap()).unwrap();
                let mut second = Optimizer::new(&halfway, case.config, &rules()).unwrap();
                second.load_state(&optimizer.state().unwrap()).unwrap();
                for (t, gradients) in case.gradients.iter().enumerate().skip(5) {
                    second
                        .step(&store(&halfway, gradients), case.rates[t])
                        .unwrap();
                }
                let rest: Vec<_> = case.gradients.iter().enumerate().skip(5).collect();
                for (t, gradients) in rest {
                    optimizer
                        .step(&store(&whole, gradients), case.rates[t])
                        .unwrap();
                }
                for (name, var) in whole.trainable() {
                    let (a, b) = (values(&var), values(&halfway.get(&name).unwrap()));
                    assert_eq!(a, b, "{} {name}", case.name);
                }
                break;
            }
        }
    }
}

#[test]
fn foreign_state_names_the_first_difference() {
    let golden = golden();
    let case = &golden.optimizers[2];
    let parameters = parameters(&golden, &case.start, DType::F64);
    let mut sgd = Optimizer::new(&parameters, case.config, &rules()).unwrap();
    let adamw = Optimizer::new(&parameters, OptimizerConfig::adamw(), &rules()).unwrap();
    let error = sgd.load_state(&adamw.state().unwrap()).unwrap_err();
    assert_eq!(error.record(), Some("optimizer.body.bias.exp_avg"));
    assert!(matches!(error.kind(), ErrorKind::Unexpected));
}

#[test]
fn groups_follow_the_rules() {
    let golden = golden();
    let case = &golden.optimizers[2];
    let parameters = parameters(&golden, &case.start, DType::F64);
    let config = OptimizerConfig::Sgd {
        momentum: 0.,
        nesterov: false,
        weight_decay: 0.5,
    };
    let groups = |rules: &GroupRules| {
        let optimizer = Optimizer::new(&parameters, config, rules).unwrap();
        optimizer
            .groups()
            .into_iter()
            .map(|(name, lr, decay)| (name.to_string(), lr, decay))
            .collect::<Vec<_>>()
    };
    let expect = |all: [(&str, f64, f64); 3]| {
        all.map(|(name, lr, decay)| (name.to_string(), lr, decay))
            .to_vec()
    };
    assert_eq!(
        groups(&rules()),
        expect([
            ("body.bias", 1., 0.),
            ("body.weight", 1., 0.5),
            ("head.weight", 0.1, 0.5)
        ])
    );
    let all = GroupRules {
        decay_vectors: true,
        prefixes: vec![
            PrefixRule {
                prefix: "body".into(),
                lr_multiplier: 2.,
                decay_multiplier: 3.,
            },
            PrefixRule {
                prefix: "body.bias".into(),
                lr_multiplier: 0.,
                decay_multiplier: 1.,
            },
        ],
        allow_unused: false,
    };
    assert_eq!(
        groups(&all),
        expect([
            ("body.bias", 0., 0.5),
            ("body.weight", 2., 1.5),
            ("head.weight", 1., 0.5)
        ])
    );
    // A prefix ends at a dot.
    let wrong = GroupRules {
        prefixes: vec![PrefixRule {
            prefix: "bod".into(),
            lr_multiplier: 2.,
            decay_multiplier: 1.,
        }],
        ..GroupRules::default()
    };
    let error = Optimizer::new(&parameters, config, &wrong).err().unwrap();
    assert_eq!(error.record(), Some("bod"));
}

#[test]
fn a_variable_without_gradient_is_named_at_the_first_step() {
    let golden = golden();
    let case = &golden.optimizers[2];
    let mut gradients = case.gradients[0].clone();
    gradients.insert("head.weight".into(), None);
    let before = parameters(&golden, &case.start, DType::F64);
    let mut optimizer = Optimizer::new(&before, case.config, &rules()).unwrap();
    let error = optimizer
        .step(&store(&before, &gradients), 0.1)
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoGradient));
    assert_eq!(error.record(), Some("head.weight"));
    assert_eq!(
        values(&before.get("body.weight").unwrap()),
        case.start["body.weight"],
        "nothing may have changed"
    );
    let rules = GroupRules {
        allow_unused: true,
        ..rules()
    };
    let mut optimizer = Optimizer::new(&before, case.config, &rules).unwrap();
    optimizer.step(&store(&before, &gradients), 0.1).unwrap();
    assert_eq!(
        values(&before.get("head.weight").unwrap()),
        case.start["head.weight"]
    );
    assert_ne!(
        values(&before.get("body.weight").unwrap()),
        case.start["body.weight"]
    );
}

#[test]
fn constants_out_of_range_are_refused() {
    let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
    let sgd = |momentum, nesterov, weight_decay| OptimizerConfig::Sgd {
        momentum,
        nesterov,
        weight_decay,
    };
    let adamw = |beta1, eps| OptimizerConfig::AdamW {
        beta1,
        beta2: 0.9,
        eps,
        weight_decay: 0.,
    };
    for config in [
        sgd(1., false, 0.),
        sgd(-0.1, false, 0.),
        sgd(f64::NAN, false, 0.),
        sgd(0., true, 0.),
        sgd(0.9, false, -1.),
        adamw(1., 1e-8),
        adamw(0.9, f64::INFINITY),
    ] {
        let error = Optimizer::new(&parameters, config, &GroupRules::default())
            .err()
            .unwrap();
        assert!(matches!(error.kind(), ErrorKind::Config(_)), "{config:?}");
    }
}

#[test]
fn clipping_follows_pytorch() {
    let golden = golden();
    for case in &golden.clip {
        let zeros = case
            .before
            .iter()
            .map(|(name, v)| (name.clone(), vec![0.; v.len()]))
            .collect();
        let parameters = parameters(&golden, &zeros, DType::F64);
        let before = case
            .before
            .iter()
            .map(|(name, v)| (name.clone(), Some(v.clone())))
            .collect();
        let mut gradients = store(&parameters, &before);
        let norm = grad_norm(&parameters, &gradients).unwrap();
        close("norm", &[norm], &[case.norm], 1e-14);
        assert_eq!(
            clip_grad_norm(&parameters, &mut gradients, case.max_norm).unwrap(),
            norm
        );
        for (name, var) in parameters.trainable() {
            close(
                &name,
                &values(gradients.get(var.as_tensor()).unwrap()),
                &case.after[&name],
                1e-14,
            );
        }
        // The way that saves a pass gives the same update.
        let config = OptimizerConfig::Sgd {
            momentum: 0.,
            nesterov: false,
            weight_decay: 0.,
        };
        let mut optimizer = Optimizer::new(&parameters, config, &GroupRules::default()).unwrap();
        let scale = clip_coefficient(norm, case.max_norm);
        optimizer
            .step_scaled(&store(&parameters, &before), 1., scale)
            .unwrap();
        for (name, var) in parameters.trainable() {
            let negative: Vec<f64> = case.after[&name].iter().map(|x| -x).collect();
            close(&name, &values(&var), &negative, 1e-14);
        }
    }
}

#[test]
fn norm_of_a_large_gradient_is_exact_enough_and_repeatable() {
    let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
    parameters
        .var_builder()
        .get_with_hints((1000, 301), "w", Init::Const(0.))
        .unwrap();
    let var = parameters.get("w").unwrap();
    let mut store = Tensor::new(0f32, &Device::Cpu).unwrap().backward().unwrap();
    let gradient = Tensor::arange(0f32, 301_000., &Device::Cpu).unwrap();
    // Not contiguous, as gradients of transposed weights are.
    let gradient = gradient.reshape((301, 1000)).unwrap().t().unwrap();
    store.insert(var.as_tensor(), gradient);
    let n = 301_000f64;
    let exact = ((n - 1.) * n * (2. * n - 1.) / 6.).sqrt();
    let norm = grad_norm(&parameters, &store).unwrap();
    assert!((norm / exact - 1.).abs() < 1e-12, "{norm} {exact}");
    assert_eq!(
        norm.to_bits(),
        grad_norm(&parameters, &store).unwrap().to_bits()
    );
}

#[test]
fn schedules_follow_pytorch() {
    let golden = golden();
    assert_eq!(golden.schedules.len(), 18);
    for case in &golden.schedules {
        case.schedule.validate(case.total).unwrap();
        let found: Vec<f64> = (0..case.total)
            .map(|step| case.schedule.lr(case.base, step, case.total))
            .collect();
        close(&format!("{:?}", case.schedule), &found, &case.rates, 1e-13);
    }
}

#[test]
fn optimizer_and_schedule_have_a_strict_text_form() {
    let config: OptimizerConfig = serde_json::from_str(r#"{"kind":"sgd"}"#).unwrap();
    assert_eq!(config, OptimizerConfig::sgd());
    let config: OptimizerConfig = serde_json::from_str(r#"{"kind":"adamw","eps":1e-6}"#).unwrap();
    assert!(matches!(config, OptimizerConfig::AdamW { eps, .. } if eps == 1e-6));
    assert!(serde_json::from_str::<OptimizerConfig>(r#"{"kind":"sgd","beta1":0.9}"#).is_err());
    assert!(serde_json::from_str::<Schedule>(r#"{"kind":"cosine","warmup":3}"#).is_err());
    assert!(serde_json::from_str::<GroupRules>(r#"{"decay":true}"#).is_err());
    let schedule = Schedule::Step {
        warmup_steps: 2,
        milestones: vec![5, 9],
        gamma: 0.1,
    };
    let text = serde_json::to_string(&schedule).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
}
