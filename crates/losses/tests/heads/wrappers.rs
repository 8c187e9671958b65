//! Memory, sums of losses, views, and gradients in parts against their plain statements.

use std::collections::BTreeMap;

use candle::{DType, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use phiz_losses::*;

use crate::{close, cpu, labels, numbers, run, values, var};

const LABELS: [u32; 6] = [0, 0, 1, 1, 2, 2];

fn memory(size: usize, vars: &VarMap) -> CrossBatchMemory {
    let vb = VarBuilder::from_varmap(vars, DType::F64, cpu());
    CrossBatchMemory::new(size, 4, vb.pp("xbm")).unwrap()
}

#[test]
fn the_memory_is_a_ring() -> Result<()> {
    let vars = VarMap::new();
    let ring = memory(5, &vars);
    assert!(ring.is_empty()?);
    let e = numbers((20, 4), 1, 1.0);
    // Against a plain list, over several rounds of the ring.
    let mut list: Vec<(Vec<f64>, i64)> = vec![];
    let rows = e.to_vec2::<f64>()?;
    let mut at = 0;
    for n in [2usize, 2, 3, 5, 1, 4, 3] {
        let part = e.narrow(0, at, n)?;
        let l: Vec<i64> = (at..at + n).map(|i| i as i64 - 7).collect();
        let places = ring.remember(&part, &l)?;
        let (stored, stored_labels) = ring.reference()?;
        let stored = stored.to_vec2::<f64>()?;
        for (i, &p) in places.iter().enumerate() {
            assert_eq!((&stored[p], stored_labels[p]), (&rows[at + i], l[i]));
        }
        list.extend((at..at + n).map(|i| (rows[i].clone(), i as i64 - 7)));
        let newest: BTreeMap<i64, Vec<f64>> = list
            .iter()
            .rev()
            .take(5)
            .map(|(r, l)| (*l, r.clone()))
            .collect();
        let held: BTreeMap<i64, Vec<f64>> = stored_labels.iter().copied().zip(stored).collect();
        assert_eq!(held, newest);
        at += n;
    }
    assert_eq!(ring.len()?, 5);
    assert!(ring.remember(&e.narrow(0, 0, 6)?, &[0; 6]).is_err());
    assert!(ring.remember(&e.narrow(0, 0, 2)?, &[0]).is_err());
    // All state lies in the builder's variables: another handle on copies of them goes on alike.
    let copies = vars
        .data()
        .lock()
        .unwrap()
        .iter()
        .map(|(k, v)| (k.clone(), v.copy().unwrap()))
        .collect();
    let vb = VarBuilder::from_tensors(copies, DType::F64, cpu());
    let restored = CrossBatchMemory::new(5, 4, vb.pp("xbm"))?;
    let part = e.narrow(0, 3, 3)?;
    assert_eq!(
        restored.remember(&part, &[1, 2, 3])?,
        ring.remember(&part, &[1, 2, 3])?
    );
    let (a, b) = (restored.reference()?, ring.reference()?);
    assert_eq!((values(&a.0), a.1), (values(&b.0), b.1));
    ring.clear()?;
    assert!(ring.is_empty()?);
    Ok(())
}

#[test]
fn a_loss_against_the_memory_sees_detached_copies_but_not_the_own_one() -> Result<()> {
    let (old, e) = (numbers((4, 4), 2, 1.0), numbers((6, 4), 3, 1.0));
    let old_labels = [0u32, 1, 2, 9];
    for loss in [
        Contrastive::default(),
        Contrastive {
            pos_reducer: Reducer::Mean,
            ..Default::default()
        },
    ] {
        let vars = VarMap::new();
        let ring = memory(32, &vars);
        ring.remember(&old, &old_labels)?;
        let (value, grad, _) = run(&e, &e, |e, _| ring.loss(&loss, e, &LABELS));
        let reference = Tensor::cat(&[&old, &e], 0)?;
        let all_labels = [&old_labels[..], &LABELS[..]].concat();
        let own: Vec<Option<usize>> = (4..10).map(Some).collect();
        let expected = run(&e, &e, |e, _| {
            loss.forward(&Batch::against(e, &LABELS, &reference, &all_labels)?.without_self(&own)?)
        });
        close("value", &[value], &[expected.0], 1e-13);
        close("gradient", &grad, &expected.1, 1e-13);
        let queries = run(&e, &e, |e, _| loss.forward(&ring.against(e, &LABELS)?)).0;
        assert!(queries.is_finite() && ring.len()? == 10);
    }
    Ok(())
}

#[test]
fn sums_of_losses_and_views() -> Result<()> {
    let e = numbers((6, 4), 3, 1.0);
    let sum = || {
        WeightedSum::new()
            .with("a", 2.0, NtXent::default())
            .with("b", -0.5, Contrastive::default())
    };
    let ours = run(&e, &e, |e, _| sum().loss(e, &LABELS));
    let a = run(&e, &e, |e, _| NtXent::default().loss(e, &LABELS));
    let b = run(&e, &e, |e, _| Contrastive::default().loss(e, &LABELS));
    close("sum", &[ours.0], &[2.0 * a.0 - 0.5 * b.0], 1e-13);
    let grad: Vec<f64> =
        a.1.iter()
            .zip(&b.1)
            .map(|(a, b)| 2.0 * a - 0.5 * b)
            .collect();
    close("sum", &ours.1, &grad, 1e-12);
    let batch = Batch::new(&e, &LABELS)?;
    let names: Vec<&str> = sum()
        .each(&batch)?
        .iter()
        .map(|(n, _)| if *n == "a" { "a" } else { "b" })
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert!(WeightedSum::new().forward(&batch).is_err());
    assert!(
        WeightedSum::new()
            .with("a", f64::NAN, NtXent::default())
            .forward(&batch)
            .is_err()
    );
    // A miner that keeps one pair of each kind.
    let pairs = phiz_mining::Pairs {
        positive: vec![(0, 1)],
        negative: vec![(0, 2)],
    };
    let few = pairs.clone();
    let mined = WeightedSum::new().with_miner("c", 1.0, Contrastive::default(), move |b| {
        Batch::with_pairs(b.embeddings().unwrap(), &few)
    });
    let plain = Contrastive::default().forward(&Batch::with_pairs(&e, &pairs)?)?;
    close(
        "mined",
        &values(&mined.forward(&batch)?),
        &values(&plain),
        1e-14,
    );

    // Three views of two items.
    let parts: Vec<Tensor> = (0..3)
        .map(|k| e.narrow(0, 2 * k, 2))
        .collect::<Result<_>>()?;
    let both = NtXent::default().forward(&views(&parts, ViewPairing::Symmetric)?)?;
    let plain = NtXent::default().loss(&e, &[0u32, 1, 0, 1, 0, 1])?;
    close("symmetric", &values(&both), &values(&plain), 1e-14);
    let first = NtXent::default().forward(&views(&parts, ViewPairing::FirstAgainstOthers)?)?;
    let plain = Batch::against(&parts[0], &[0u32, 1], &e.narrow(0, 2, 4)?, &[0u32, 1, 0, 1])?;
    close(
        "first",
        &values(&first),
        &values(&NtXent::default().forward(&plain)?),
        1e-14,
    );
    assert!(views(&parts[..1], ViewPairing::Symmetric).is_err());
    assert!(views(&[], ViewPairing::Symmetric).is_err());
    assert!(views(&[e.clone(), parts[0].clone()], ViewPairing::Symmetric).is_err());
    Ok(())
}

#[test]
fn chunks_of_anchors_equal_the_whole() -> Result<()> {
    let e = numbers((6, 4), 3, 1.0);
    let loss = NtXent {
        reducer: Reducer::Sum,
        ..NtXent::default()
    };
    let whole = run(&e, &e, |e, _| loss.loss(e, &LABELS)? * 0.3);
    for chunk in [1, 2, 4, 6, 100] {
        let parts = run(&e, &e, |e, _| {
            let sum = in_anchor_chunks(e, chunk, |range, anchors, all| {
                let own: Vec<_> = range.clone().map(Some).collect();
                loss.forward(
                    &Batch::against(anchors, &LABELS[range], all, &LABELS)?.without_self(&own)?,
                )
            })?;
            sum * 0.3
        });
        close("value", &[parts.0], &[whole.0], 1e-13);
        close("gradient", &parts.1, &whole.1, 1e-12);
    }
    assert!(in_anchor_chunks(&e, 0, |_, a, _| a.sum_all()).is_err());
    let none = in_anchor_chunks(&e.narrow(0, 0, 0)?, 2, |_, a, _| a.sum_all())?;
    assert_eq!(values(&none), [0.0]);
    Ok(())
}

#[test]
fn two_passes_equal_the_whole_batch() -> Result<()> {
    // A small network, a pair loss and a head with a weight of its own.
    let images = numbers((6, 3), 5, 1.0);
    let layer = var(&numbers((3, 4), 6, 1.0));
    let weight = var(&numbers((3, 4), 7, 1.0));
    let unused = var(&numbers((1, 1), 8, 1.0));
    let embed = |x: &Tensor| x.matmul(&layer)?.tanh();
    let loss = |e: &Tensor| -> Result<Tensor> {
        let head = CosFace::from_weight(weight.as_tensor().clone(), CosFaceConfig::default())?;
        NtXent::default().loss(e, &LABELS)? + (head.loss(e, &labels(&LABELS))? * 0.1)?
    };
    let whole = loss(&embed(&images)?)?;
    let theirs = whole.backward()?;
    let variables: [Var; 3] = [layer.clone(), weight.clone(), unused.clone()];
    for sizes in [vec![6], vec![2, 4], vec![1, 2, 3]] {
        let starts: Vec<usize> = sizes
            .iter()
            .scan(0, |s, n| {
                *s += n;
                Some(*s - n)
            })
            .collect();
        let ours = two_pass(
            sizes.len(),
            &variables,
            |i| embed(&images.narrow(0, starts[i], sizes[i])?),
            loss,
        )?;
        close("loss", &[ours.loss], &values(&whole), 1e-13);
        for v in [&layer, &weight] {
            let (a, b) = (ours.gradients.get(v).unwrap(), theirs.get(v).unwrap());
            close("gradient", &values(a), &values(b), 1e-12);
        }
        assert!(ours.gradients.get(&unused).is_none());
    }
    assert!(two_pass(0, &variables, |_| embed(&images), loss).is_err());
    let mut calls = 0;
    let changing = |_: usize| {
        calls += 1;
        embed(&images.narrow(0, 0, if calls == 1 { 6 } else { 5 })?)
    };
    assert!(two_pass(1, &variables, changing, loss).is_err());
    Ok(())
}
