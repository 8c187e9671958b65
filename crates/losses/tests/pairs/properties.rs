//! What every pair and triplet loss promises, whatever its formula.

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::gradcheck::check;
use phiz_losses::*;
use phiz_mining::{all_pairs, all_triplets};
use proptest::prelude::*;

type Boxed = Box<dyn MetricLoss + Send + Sync>;

/// Every loss of a batch with labels.
fn all() -> Vec<(&'static str, Boxed)> {
    vec![
        ("contrastive", Box::new(Contrastive::default())),
        ("contrastive cosine", Box::new(Contrastive::cosine())),
        ("contrastive snr", Box::new(Contrastive::snr())),
        ("nt_xent", Box::new(NtXent::from(0.3))),
        ("dcl", Box::new(Dcl::default())),
        ("dclw", Box::new(Dcl::weighted())),
        ("sup_con", Box::new(SupCon::from(0.4))),
        ("multi_similarity", Box::new(MultiSimilarity::default())),
        ("multi_similarity mined", Box::new(MultiSimilarity::mined())),
        (
            "circle",
            Box::new(Circle {
                gamma: 8.0,
                ..Circle::default()
            }),
        ),
        ("lifted", Box::new(LiftedStructure::default())),
        (
            "generalized lifted",
            Box::new(GeneralizedLiftedStructure::default()),
        ),
        (
            "tuplet_margin",
            Box::new(TupletMargin {
                scale: 8.0,
                ..TupletMargin::default()
            }),
        ),
        ("intra_pair", Box::new(IntraPairVariance::default())),
        (
            "threshold_consistent",
            Box::new(ThresholdConsistentMargin::default()),
        ),
        ("nca", Box::new(Nca::default())),
        ("fast_ap", Box::new(FastAp::default())),
        ("histogram", Box::new(Histogram { n_bins: 12 })),
        ("ranked_list", Box::new(RankedList::default())),
        (
            "smooth_ap",
            Box::new(SmoothAp {
                temperature: 0.2,
                ..SmoothAp::default()
            }),
        ),
        (
            "pnp",
            Box::new(Pnp {
                anneal: 0.2,
                ..Pnp::default()
            }),
        ),
        ("triplet", Box::new(TripletMargin::default())),
        (
            "triplet smooth",
            Box::new(TripletMargin {
                smooth: true,
                ..TripletMargin::default()
            }),
        ),
        (
            "triplet swap",
            Box::new(TripletMargin {
                swap: true,
                ..TripletMargin::default()
            }),
        ),
        (
            "triplet semihard",
            Box::new(TripletMargin {
                select: Select::SemiHard,
                ..TripletMargin::default()
            }),
        ),
        ("triplet hardest", Box::new(TripletMargin::batch_hard())),
        ("margin", Box::new(Margin::default())),
        ("angular", Box::new(Angular::default())),
        (
            "selectively contrastive",
            Box::new(SelectivelyContrastive::default()),
        ),
    ]
}

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
        })
        .collect()
}

fn embeddings(n: usize, d: usize, seed: u64) -> Tensor {
    Tensor::from_vec(numbers(n * d, seed), (n, d), &Device::Cpu).unwrap()
}

const LABELS: [i64; 11] = [4, 1, 4, 7, 1, 1, 4, 7, 30, 4, 7];

fn run(loss: &dyn MetricLoss, batch: &Batch, vars: &[&Var]) -> Result<(f64, Vec<Vec<f64>>)> {
    let loss = loss.forward(batch)?;
    let store = loss.backward()?;
    let mut grads = vec![];
    for v in vars {
        let g = store.get(v).expect("a gradient");
        grads.push(g.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?);
    }
    Ok((loss.to_dtype(DType::F64)?.to_scalar()?, grads))
}

fn labelled(loss: &dyn MetricLoss, x: &Tensor, labels: &[i64]) -> Result<(f64, Vec<f64>)> {
    let x = Var::from_tensor(x)?;
    let (value, mut grads) = run(loss, &Batch::new(&x, labels)?, &[&x])?;
    Ok((value, grads.remove(0)))
}

fn close(what: &str, a: &[f64], b: &[f64], tol: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tol * scale, "{what}: {x} and {y}");
    }
}

#[test]
fn gradients_equal_central_differences() -> Result<()> {
    // These two hold weights constant that differences would vary.
    let constant = ["dclw", "circle"];
    for (name, loss) in all().into_iter().filter(|(n, _)| !constant.contains(n)) {
        for (n, d, seed) in [(11, 4, 3), (6, 3, 8)] {
            let x = embeddings(n, d, seed);
            check(
                |v| loss.forward(&Batch::new(&v[0], &LABELS[..n])?),
                &[x],
                2e-6,
            )
            .map_err(|e| candle::Error::Msg(format!("{name}: {e}")))?;
        }
    }
    Ok(())
}

#[test]
fn the_order_and_the_names_of_classes_do_not_matter() -> Result<()> {
    let x = embeddings(11, 5, 5);
    let order: Vec<u32> = vec![3, 10, 0, 7, 5, 1, 9, 2, 8, 6, 4];
    let shuffled = x.index_select(&Tensor::new(order.clone(), &Device::Cpu)?, 0)?;
    let labels: Vec<i64> = order.iter().map(|&i| LABELS[i as usize]).collect();
    let renamed: Vec<i64> = LABELS
        .iter()
        .map(|l| i64::MAX - l * l * 1_000_003)
        .collect();
    for (name, loss) in all() {
        let (value, grad) = labelled(&*loss, &x, &LABELS)?;
        assert!(value.is_finite() && value > 0.0, "{name} {value}");
        let (v, g) = labelled(&*loss, &shuffled, &labels)?;
        close(name, &[v], &[value], 1e-12);
        for (at, &from) in order.iter().enumerate() {
            let from = from as usize * 5;
            close(name, &g[at * 5..at * 5 + 5], &grad[from..from + 5], 1e-11);
        }
        let (v, g) = labelled(&*loss, &x, &renamed)?;
        close(name, &[v], &[value], 1e-12);
        close(name, &g, &grad, 1e-11);
    }
    Ok(())
}

#[test]
fn the_length_of_embeddings_does_not_matter_where_they_are_normalised() -> Result<()> {
    let x = embeddings(11, 5, 6);
    for (name, loss) in all() {
        let (value, grad) = labelled(&*loss, &x, &LABELS)?;
        let (v, g) = labelled(&*loss, &(&x * 8.0)?, &LABELS)?;
        close(name, &[v], &[value], 1e-12);
        let g: Vec<f64> = g.iter().map(|g| g * 8.0).collect();
        close(name, &g, &grad, 1e-10);
    }
    Ok(())
}

#[test]
fn nothing_to_learn_from_is_exactly_zero() -> Result<()> {
    for (name, loss) in all() {
        let (value, grad) = labelled(&*loss, &embeddings(1, 4, 1), &[3])?;
        assert_eq!(value, 0.0, "{name}");
        assert!(grad.iter().all(|&g| g == 0.0), "{name}");
        let none = Var::zeros((0, 4), DType::F64, &Device::Cpu)?;
        let value = loss.forward(&Batch::new::<u32>(&none, &[])?)?;
        assert_eq!(value.to_scalar::<f64>()?, 0.0, "{name}");
        // No label twice: most losses have no positive, all of them stay finite.
        let (value, grad) = labelled(&*loss, &embeddings(4, 4, 1), &[3, 1, 2, 0])?;
        assert!(
            value.is_finite() && grad.iter().all(|g| g.is_finite()),
            "{name}"
        );
        let single = [
            "triplet", "nt_xent", "dcl", "sup_con", "lifted", "margin", "nca", "angular",
        ];
        if single.contains(&name) {
            assert!(value == 0.0 && grad.iter().all(|&g| g == 0.0), "{name}");
            let (value, _) = labelled(&*loss, &embeddings(4, 4, 1), &[2; 4])?;
            assert!(
                value == 0.0 || name == "nca",
                "{name} of one class: {value}"
            );
        }
    }
    Ok(())
}

#[test]
fn duplicates_equal_and_zero_embeddings_stay_finite() -> Result<()> {
    let mut twice = numbers(44, 9);
    twice.copy_within(0..4, 8);
    twice.copy_within(0..4, 4);
    let zero: Vec<f64> = numbers(44, 10)
        .iter()
        .enumerate()
        .map(|(i, v)| if i < 8 { 0.0 } else { *v })
        .collect();
    let equal: Vec<f64> = numbers(4, 11).into_iter().cycle().take(44).collect();
    for (case, values) in [("twice", twice), ("zero", zero), ("equal", equal)] {
        let x = Tensor::from_vec(values, (11, 4), &Device::Cpu)?;
        for dtype in [DType::F64, DType::F32] {
            let x = x.to_dtype(dtype)?;
            for (name, loss) in all() {
                match labelled(&*loss, &x, &LABELS) {
                    Ok((value, grad)) => assert!(
                        value.is_finite() && grad.iter().all(|g| g.is_finite()),
                        "{name} {case} {dtype:?}: {value} {grad:?}"
                    ),
                    Err(e) => assert!(
                        name == "contrastive snr"
                            && case == "zero"
                            && e.to_string().contains("constant"),
                        "{name} {case}: {e}"
                    ),
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_not_finite_is_named() -> Result<()> {
    for bad in [f64::NAN, f64::INFINITY] {
        let mut values = numbers(44, 9);
        values[4 * 6 + 1] = bad;
        let x = Tensor::from_vec(values, (11, 4), &Device::Cpu)?;
        for (name, loss) in all() {
            let e = loss
                .forward(&Batch::new(&x, &LABELS)?)
                .unwrap_err()
                .to_string();
            assert!(e.contains("embedding 6 "), "{name}: {e}");
        }
    }
    Ok(())
}

#[test]
fn a_given_matrix_is_the_same_as_the_embeddings() -> Result<()> {
    let data = embeddings(11, 5, 12);
    for (name, loss) in all() {
        let measure = match name {
            "contrastive" | "lifted" | "generalized lifted" | "ranked_list" | "margin" => {
                Measure::L2
            }
            "contrastive snr" => Measure::SNR,
            "nca" | "fast_ap" => Measure::SQUARED_L2,
            n if n.starts_with("triplet") => Measure::L2,
            _ => Measure::COSINE,
        };
        let (value, grad) = labelled(&*loss, &data, &LABELS)?;
        let x = Var::from_tensor(&data)?;
        let matrix = measure_matrix(measure, &x, &x)?;
        let (v, g) = run(&*loss, &Batch::from_matrix(&matrix, &LABELS)?, &[&x])?;
        close(name, &[v], &[value], 1e-10);
        close(name, &g[0], &grad, 1e-9);
    }
    Ok(())
}

/// Losses that take a reference set.
fn referenced() -> Vec<(&'static str, Boxed)> {
    let own = ["histogram", "pnp", "smooth_ap", "contrastive snr"];
    all()
        .into_iter()
        .filter(|(name, _)| !own.contains(name))
        .collect()
}

#[test]
fn the_batch_as_its_own_reference_set() -> Result<()> {
    let data = embeddings(11, 5, 13);
    let own: Vec<Option<usize>> = (0..11).map(Some).collect();
    for (name, loss) in referenced() {
        let (value, grad) = labelled(&*loss, &data, &LABELS)?;
        let (x, y) = (Var::from_tensor(&data)?, Var::from_tensor(&data)?);
        let batch = Batch::against(&x, &LABELS, &y, &LABELS)?.without_self(&own)?;
        let (v, g) = run(&*loss, &batch, &[&x, &y])?;
        close(name, &[v], &[value], 1e-12);
        let sum: Vec<f64> = g[0].iter().zip(&g[1]).map(|(a, b)| a + b).collect();
        close(name, &sum, &grad, 1e-11);
    }
    Ok(())
}

#[test]
fn chunks_of_anchors_add_up_to_the_batch() -> Result<()> {
    let sum = || Reducer::Sum;
    let losses: Vec<Boxed> = vec![
        Box::new(NtXent {
            reducer: sum(),
            ..NtXent::default()
        }),
        Box::new(SupCon {
            reducer: sum(),
            ..SupCon::default()
        }),
        Box::new(MultiSimilarity {
            reducer: sum(),
            ..MultiSimilarity::default()
        }),
        Box::new(TripletMargin {
            reducer: sum(),
            ..TripletMargin::default()
        }),
        Box::new(Contrastive {
            pos_reducer: sum(),
            neg_reducer: sum(),
            ..Contrastive::default()
        }),
        Box::new(Circle {
            reducer: sum(),
            gamma: 9.0,
            ..Circle::default()
        }),
    ];
    let data = embeddings(11, 5, 14);
    for loss in losses {
        let (value, grad) = labelled(&*loss, &data, &LABELS)?;
        let x = Var::from_tensor(&data)?;
        let (mut v, mut g) = (0.0, vec![0.0; 55]);
        for (start, len) in [(0, 4), (4, 5), (9, 2)] {
            let own: Vec<Option<usize>> = (start..start + len).map(Some).collect();
            let batch = Batch::against(
                &x.narrow(0, start, len)?,
                &LABELS[start..start + len],
                &x,
                &LABELS,
            )?
            .without_self(&own)?;
            let (value, grads) = run(&*loss, &batch, &[&x])?;
            v += value;
            g.iter_mut().zip(&grads[0]).for_each(|(a, b)| *a += b);
        }
        close("chunks", &[v], &[value], 1e-12);
        close("chunks", &g, &grad, 1e-11);
    }
    Ok(())
}

#[test]
fn naming_every_tuple_is_the_same_as_labels() -> Result<()> {
    let labels: Vec<u32> = LABELS.iter().map(|&l| l as u32).collect();
    let (pairs, triplets) = (all_pairs(&labels), all_triplets(&labels));
    let data = embeddings(11, 5, 15);
    let other = ["pnp", "smooth_ap", "fast_ap"];
    for (name, loss) in all().into_iter().filter(|(n, _)| !other.contains(n)) {
        let (value, grad) = labelled(&*loss, &data, &LABELS)?;
        let x = Var::from_tensor(&data)?;
        // The angular loss asks for labels.
        let named = |batch: Batch| batch.label(&LABELS);
        let (v, g) = run(&*loss, &named(Batch::with_pairs(&x, &pairs)?)?, &[&x])?;
        close(name, &[v], &[value], 1e-11);
        close(name, &g[0], &grad, 1e-10);
        if matches!(
            name,
            "triplet" | "triplet smooth" | "triplet swap" | "margin"
        ) {
            let batch = named(Batch::with_triplets(&x, &triplets)?)?;
            let (v, g) = run(&*loss, &batch, &[&x])?;
            close(name, &[v], &[value], 1e-11);
            close(name, &g[0], &grad, 1e-10);
        }
    }
    Ok(())
}

#[test]
fn half_precision_is_computed_in_single() -> Result<()> {
    let data = embeddings(11, 8, 16);
    for dtype in [DType::BF16, DType::F16] {
        let x = Var::from_tensor(&data.to_dtype(dtype)?)?;
        let exact = Var::from_tensor(&x.to_dtype(DType::F32)?)?;
        let f = NtXent::from(0.5);
        let half = f.loss(&x, &LABELS)?;
        assert_eq!(half.dtype(), DType::F32);
        let full = f.loss(&exact, &LABELS)?;
        assert_eq!(half.to_scalar::<f32>()?, full.to_scalar::<f32>()?);
        let (a, b) = (half.backward()?, full.backward()?);
        let a = a.get(&x).unwrap();
        assert_eq!(a.dtype(), dtype);
        let b = b.get(&exact).unwrap().to_dtype(dtype)?;
        assert_eq!(
            a.to_dtype(DType::F32)?.to_vec2::<f32>()?,
            b.to_dtype(DType::F32)?.to_vec2::<f32>()?
        );
    }
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_show() -> Result<()> {
    let labels: Vec<i64> = (0..300).map(|i| i * 7 % 60).collect();
    let x = embeddings(300, 16, 17).to_dtype(DType::F32)?;
    for (name, loss) in all() {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| labelled(&*loss, &x, &labels))
        };
        assert_eq!(with(1)?, with(3)?, "{name}");
    }
    Ok(())
}

#[test]
fn misuse_is_named() -> Result<()> {
    let x = embeddings(4, 3, 1);
    let labels = [0u32, 0, 1, 1];
    let error = |r: Result<Tensor>, what: &str| {
        let e = r.unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    };
    error(NtXent::from(0.0).loss(&x, &labels), "temperature");
    error(
        NtXent::default().loss(&x, &labels[..3]),
        "4 embeddings but 3 labels",
    );
    error(
        NtXent::default().loss(&x.flatten_all()?, &labels),
        "must be (B, D)",
    );
    let weights = NtXent {
        reducer: Reducer::ClassWeighted(vec![1.0]),
        ..NtXent::default()
    };
    error(weights.loss(&x, &labels), "label 1 of row 2");
    let per_anchor = TripletMargin {
        reducer: Reducer::PerAnchor(Box::new(Reducer::Mean)),
        ..TripletMargin::default()
    };
    error(per_anchor.loss(&x, &labels), "triplets");
    let power = NtXent {
        measure: Measure {
            power: 2.0,
            ..Measure::COSINE
        },
        ..NtXent::default()
    };
    error(power.loss(&x, &labels), "power");
    let pairs = phiz_mining::Pairs {
        positive: vec![(0, 9)],
        negative: vec![],
    };
    assert!(
        Batch::with_pairs(&x, &pairs)
            .unwrap_err()
            .to_string()
            .contains("(0, 9)")
    );
    let swapped =
        Batch::against(&x, &labels, &x, &labels)?.without_self(&[Some(2), None, None, None]);
    assert!(swapped.unwrap_err().to_string().contains("anchor 0"));
    Ok(())
}

#[test]
fn the_running_histogram_is_restored() -> Result<()> {
    let x = embeddings(11, 4, 3);
    let mut a = DynamicSoftMargin::default();
    a.forward(&Batch::new(&x, &LABELS)?)?;
    let mut b = DynamicSoftMargin::default();
    b.set_histogram(a.histogram())?;
    let y = embeddings(11, 4, 4);
    let (p, q) = (
        a.forward(&Batch::new(&y, &LABELS)?)?,
        b.forward(&Batch::new(&y, &LABELS)?)?,
    );
    assert_eq!(p.to_scalar::<f64>()?, q.to_scalar::<f64>()?);
    assert_eq!(a.histogram(), b.histogram());
    assert!((a.histogram().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(b.set_histogram(&[1.0]).is_err());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_labels_are_fine(
        labels in proptest::collection::vec(prop_oneof![Just(i64::MIN), Just(i64::MAX), -2i64..4], 0..14),
        d in 1usize..5,
        seed in 0u64..1000,
        coarse in any::<bool>(),
    ) {
        let n = labels.len();
        let values: Vec<f32> = numbers(n * d, seed)
            .iter()
            .map(|v| if coarse { v.round() as f32 } else { *v as f32 })
            .collect();
        let x = Tensor::from_vec(values, (n, d), &Device::Cpu).unwrap();
        for (name, loss) in all() {
            if let Ok((value, grad)) = labelled(&*loss, &x, &labels) {
                prop_assert!(value.is_finite(), "{} {}", name, value);
                prop_assert!(grad.iter().all(|g| g.is_finite()), "{} {:?}", name, grad);
            } else {
                prop_assert_eq!(name, "contrastive snr");
            }
        }
    }
}
