//! Input of any kind: half precision, misuse, any labels, restored state.

use candle::{DType, Device, Result, Tensor, Var};
use phiz_losses::*;
use proptest::prelude::*;

use crate::common::*;

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
