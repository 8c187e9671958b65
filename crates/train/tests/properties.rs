//! Properties that hold for any input: schedules, streams, parameters, and readers of hostile files.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::collections::BTreeMap;
use std::path::Path;

use candle::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use phiz_train::{Checkpoint, ErrorKind, Parameters, Schedule, Streams, read_tensors};
use proptest::prelude::*;

fn schedule() -> impl Strategy<Value = (Schedule, u64)> {
    (1u64..500, 0f64..1.).prop_flat_map(|(total, part)| {
        let warmup_steps = (part * total as f64) as u64;
        prop_oneof![
            Just(Schedule::Constant { warmup_steps }),
            (0f64..=1.).prop_map(move |final_fraction| Schedule::Cosine {
                warmup_steps,
                final_fraction
            }),
            (0f64..4.).prop_map(move |power| Schedule::Poly {
                warmup_steps,
                power
            }),
            (
                prop::collection::btree_set(warmup_steps..total, 0..5),
                0.01f64..1.
            )
                .prop_map(move |(set, gamma)| {
                    Schedule::Step {
                        warmup_steps,
                        milestones: set.into_iter().collect(),
                        gamma,
                    }
                }),
        ]
        .prop_map(move |schedule| (schedule, total))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rates_rise_in_the_warm_up_then_never(case in schedule(), base in 1e-6f64..10.) {
        let (schedule, total) = case;
        schedule.validate(total).unwrap();
        let warmup = schedule.warmup_steps();
        let rates: Vec<f64> = (0..total).map(|step| schedule.lr(base, step, total)).collect();
        for (step, pair) in rates.windows(2).enumerate() {
            let next = step as u64 + 1;
            if next < warmup {
                prop_assert!(pair[0] < pair[1], "{schedule:?} step {next}");
            } else if next > warmup {
                prop_assert!(pair[1] <= pair[0], "{schedule:?} step {next}");
            }
        }
        for &rate in &rates {
            prop_assert!((0. ..=base * (1. + 1e-12)).contains(&rate));
        }
        if warmup > 0 {
            prop_assert!((rates[warmup as usize - 1] - base).abs() < 1e-12 * base);
        }
        // Beyond the end nothing surprising happens.
        prop_assert!(schedule.lr(base, total + 1000, total) <= rates[rates.len() - 1]);
    }

    #[test]
    fn initial_values_do_not_depend_on_the_order_of_creation(
        names in prop::collection::btree_set("[a-z]{1,5}(\\.[a-z]{1,5})?", 1..6),
        seed in any::<u64>(),
        rotate in 0usize..6,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let make = |order: &[String]| {
            let parameters = Parameters::new(Streams::new(seed), DType::F32, &Device::Cpu);
            for name in order {
                get(&parameters.var_builder(), name);
            }
            bits(&parameters)
        };
        let mut other = names.clone();
        other.rotate_left(rotate % names.len());
        prop_assert_eq!(make(&names), make(&other));
    }

    #[test]
    fn a_damaged_weights_file_is_an_error_or_a_valid_file(
        cut in 0usize..400,
        flips in prop::collection::vec((0usize..400, any::<u8>()), 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let parameters = Parameters::new(Streams::new(1), DType::F32, &Device::Cpu);
        get(&parameters.var_builder(), "a");
        parameters.save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] ^= value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_tensors(&path) {
            prop_assert_eq!(error.path(), Some(path.as_path()));
            prop_assert!(!error.to_string().contains('\n'));
        }
        // A checkpoint's metadata is missing at best.
        prop_assert!(Checkpoint::open(&path).is_err());
    }

    #[test]
    fn random_bytes_are_never_a_checkpoint(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoint");
        std::fs::create_dir(&checkpoints).unwrap();
        std::fs::write(checkpoints.join("step-0000000007.safetensors"), &bytes).unwrap();
        let error = Checkpoint::latest(folder.path()).unwrap_err();
        prop_assert!(error.to_string().contains("step-0000000007"), "{error}");
        std::fs::write(checkpoints.join("latest.json"), &bytes).unwrap();
        prop_assert!(Checkpoint::latest(folder.path()).is_err());
    }
}

fn get(builder: &VarBuilder<'_>, name: &str) -> Tensor {
    builder
        .get_with_hints(
            (3, 4),
            name,
            Init::Randn {
                mean: 0.,
                stdev: 1.,
            },
        )
        .unwrap()
}

fn bits(parameters: &Parameters) -> BTreeMap<String, Vec<u32>> {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    parameters
        .tensors()
        .iter()
        .map(|(name, tensor)| {
            (
                name.clone(),
                values(tensor).into_iter().map(f32::to_bits).collect(),
            )
        })
        .collect()
}

#[test]
fn schedules_that_make_no_sense_are_refused() {
    let step = |milestones: &[u64], gamma| Schedule::Step {
        warmup_steps: 5,
        milestones: milestones.to_vec(),
        gamma,
    };
    for schedule in [
        Schedule::Constant { warmup_steps: 11 },
        Schedule::Cosine {
            warmup_steps: 0,
            final_fraction: 1.5,
        },
        Schedule::Cosine {
            warmup_steps: 0,
            final_fraction: f64::NAN,
        },
        Schedule::Poly {
            warmup_steps: 0,
            power: -1.,
        },
        step(&[7, 7], 0.1),
        step(&[8, 7], 0.1),
        step(&[3], 0.1),
        step(&[7], 0.),
    ] {
        let error = schedule.validate(10).unwrap_err();
        assert_eq!(error.record(), Some("schedule"), "{schedule:?}");
    }
}

#[test]
fn one_name_is_one_variable() {
    let parameters = Parameters::new(Streams::new(1), DType::F32, &Device::Cpu);
    let builder = parameters.var_builder().pp("a").pp(0);
    let first = get(&builder, "weight");
    let second = get(&builder, "weight");
    assert_eq!(first.id(), second.id(), "gradients are found by id");
    assert!(builder.contains_tensor("weight") && !builder.contains_tensor("bias"));
    assert_eq!(builder.get_unchecked("weight").unwrap().id(), first.id());
    assert!(builder.get_unchecked("bias").is_err());
    let error = builder.get((4, 3), "weight").unwrap_err().to_string();
    assert!(
        error.contains("a.0.weight") && error.contains("[3, 4]") && error.contains("[4, 3]"),
        "{error}"
    );
}

#[test]
fn buffers_are_saved_but_not_trained() {
    let parameters = Parameters::new(Streams::new(1), DType::F32, &Device::Cpu);
    candle_nn::batch_norm(3, 1e-5, parameters.var_builder().pp("bn")).unwrap();
    let trained: Vec<String> = parameters
        .trainable()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(trained, ["bn.bias", "bn.weight"]);
    let all: Vec<String> = parameters.tensors().into_keys().collect();
    assert_eq!(
        all,
        ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight"]
    );
    assert_eq!(parameters.trainable_count(), 6);
}

fn two() -> Parameters {
    let parameters = Parameters::new(Streams::new(1), DType::F32, &Device::Cpu);
    for name in ["head.weight", "trunk.weight"] {
        get(&parameters.var_builder(), name);
    }
    parameters
}

fn zeros(shape: (usize, usize)) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn strict_loading_names_the_first_difference_and_changes_nothing() {
    let parameters = two();
    let before = bits(&parameters);
    let load = |entries: &[(&str, Tensor)]| {
        let map = entries
            .iter()
            .map(|(name, tensor)| (name.to_string(), tensor.clone()))
            .collect();
        parameters.load(&map)
    };
    let fit = zeros((3, 4));
    let error = load(&[("head.weight", zeros((5, 4))), ("other", fit.clone())]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model has shape [3, 4], the file [5, 4] [head.weight]"
    );
    let error = load(&[("head.weight", fit.clone())]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Missing) && error.record() == Some("trunk.weight"));
    let error = load(&[("head.bias", fit.clone()), ("head.weight", fit.clone())]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unexpected) && error.record() == Some("head.bias"));
    let whole = Tensor::zeros((3, 4), DType::U32, &Device::Cpu).unwrap();
    let error = load(&[("head.weight", fit.clone()), ("trunk.weight", whole)]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DTypeMismatch { .. }));
    assert_eq!(bits(&parameters), before);
    let count = Tensor::zeros((), DType::I64, &Device::Cpu).unwrap();
    let f64s = fit.to_dtype(DType::F64).unwrap();
    load(&[
        ("head.weight", fit),
        ("trunk.weight", f64s),
        ("trunk.bn.num_batches_tracked", count),
    ])
    .unwrap();
    assert!(bits(&parameters).values().flatten().all(|&bits| bits == 0));
}

#[test]
fn matching_load_reports_what_it_skipped() {
    let parameters = two();
    let file: BTreeMap<String, Tensor> = [
        ("head.weight", zeros((9, 4))),
        ("trunk.weight", zeros((3, 4))),
        ("trunk.extra", zeros((1, 1))),
    ]
    .map(|(name, tensor)| (name.to_string(), tensor))
    .into();
    let matching = parameters.load_matching(&file, &["trunk."]).unwrap();
    assert_eq!(matching.loaded, ["trunk.weight"]);
    let skipped: Vec<&str> = matching
        .skipped
        .iter()
        .map(|skipped| skipped.name.as_str())
        .collect();
    assert_eq!(skipped, ["trunk.extra"]);
    let matching = parameters.load_matching(&file, &[]).unwrap();
    assert_eq!(matching.skipped[0].name, "head.weight");
    assert_eq!(
        matching.skipped[0].reason,
        "the model has shape [3, 4], the file [9, 4]"
    );
    let error = parameters.load_matching(&file, &["nose"]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NothingMatches) && error.record() == Some("nose"));
}

#[test]
fn files_come_back_bit_for_bit_and_have_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    let parameters = two();
    let builder = parameters.var_builder();
    builder
        .get_with_hints_dtype(3, "double", Init::Const(0.1), DType::F64)
        .unwrap();
    builder
        .get_with_hints_dtype((), "bn.num_batches_tracked", Init::Const(5.), DType::I64)
        .unwrap();
    builder
        .get_with_hints_dtype((2, 3), "half", Init::Const(0.5), DType::BF16)
        .unwrap();
    builder
        .get_with_hints_dtype((0, 3), "empty", Init::Const(0.5), DType::F32)
        .unwrap();
    parameters.save(&a).unwrap();
    parameters.save(&b).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let read = read_tensors(&a).unwrap();
    for (name, tensor) in parameters.tensors() {
        let found = &read[&name];
        assert_eq!(
            (tensor.dims(), tensor.dtype()),
            (found.dims(), found.dtype()),
            "{name}"
        );
        let values = |t: &Tensor| {
            t.flatten_all()
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        assert_eq!(values(&tensor), values(found), "{name}");
    }
    // candle's own reader takes it too.
    assert_eq!(
        candle::safetensors::load(&a, &Device::Cpu).unwrap().len(),
        6
    );
    parameters.load_file(&a).unwrap();
    let error = two().load_file(&a).unwrap_err();
    assert_eq!(
        (error.record(), error.path()),
        (Some("double"), Some(a.as_path()))
    );
    let error = parameters
        .save(Path::new("/no/such/folder/m.safetensors"))
        .unwrap_err();
    assert!(
        error.to_string().contains("/no/such/folder/m.safetensors"),
        "{error}"
    );
}

#[test]
fn hostile_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let with = |length: u64, header: &str| [&length.to_le_bytes()[..], header.as_bytes()].concat();
    let exact = |header: &str| with(header.len() as u64, header);
    for (what, bytes) in [
        ("empty", vec![]),
        ("short", vec![1, 2, 3]),
        ("a header of 2^64 - 1 bytes", with(u64::MAX, "{}")),
        ("a header longer than the file", with(100, "{}")),
        (
            "text",
            b"this is not a tensor file at all, just words".to_vec(),
        ),
        ("png", b"\x89PNG\r\n\x1a\n0000000000000".to_vec()),
        (
            "offsets outside",
            exact(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#),
        ),
        (
            "overflow",
            exact(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#,
            ),
        ),
        (
            "backwards",
            exact(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#),
        ),
        ("not utf-8", [&3u64.to_le_bytes()[..], b"{\xff}"].concat()),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let error = read_tensors(&path).expect_err(what);
        assert!(
            matches!(error.kind(), ErrorKind::BadFile(_)),
            "{what}: {error}"
        );
        assert_eq!(error.path(), Some(path.as_path()), "{what}");
    }
}
