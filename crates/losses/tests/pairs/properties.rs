//! What every pair and triplet loss promises, whatever its formula.

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::gradcheck::check;
use phiz_losses::*;
use phiz_mining::{all_pairs, all_triplets};

use crate::common::*;

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
