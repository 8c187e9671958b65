//! Losses of rows against their definition.

use super::*;
use candle::Var;

/// `p sum_j c_j^2 + c_0^3`.
struct Squares;

impl RowLoss for Squares {
    #[inline(always)]
    fn row<T: Real>(&self, _: usize, p: f64, c: &mut [T], _: &mut [T]) -> RowValue {
        let squares = dot(c, c).to_f64();
        let first = c[0].to_f64();
        let two = T::from_f64(2.0 * p);
        c.iter_mut().for_each(|c| *c *= two);
        c[0] += T::from_f64(3.0 * first * first);
        RowValue {
            loss: p * squares + first.powi(3),
            parameter: squares,
        }
    }
}

fn plain(a: &Tensor, b: &Tensor, p: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let c = pairwise::cosine(a, b)?;
    let first = c.narrow(1, 0, 1)?.squeeze(1)?;
    let rows = ((c.sqr()?.sum(1)? * p)? + first.powf(3.0)?)?;
    let weights = Tensor::new(weights, &Device::Cpu)?;
    (rows * weights)?.sum_all()
}

#[test]
fn fused_blocked_and_elsewhere_equal_the_formula() -> Result<()> {
    let cpu = &Device::Cpu;
    let (n, m, d) = (7, 5, 4);
    let a = Var::rand(-1f64, 1.0, (n, d), cpu)?;
    let b = Var::rand(-1f64, 1.0, (m, d), cpu)?;
    let p = Var::rand(0.5f64, 1.0, n, cpu)?;
    let weights: Vec<f64> = (0..n).map(|i| 0.3 + i as f64).collect();
    let expected = plain(&a, &b, &p, &weights)?;
    let theirs = (&expected * 2.0)?.backward()?;
    let rows = |wants| Rows {
        f: Squares,
        m,
        weights: weights.clone(),
        wants,
    };
    let fused = cosine_row_loss(
        "test",
        ("a", &a),
        ("b", &b),
        Some(&p),
        weights.clone(),
        Squares,
    )?;
    let matrix = row_loss(
        "test",
        &pairwise::cosine(&a, &b)?,
        Some(&p),
        weights.clone(),
        Squares,
    )?;
    let there = elsewhere("test", &pairwise::cosine(&a, &b)?, &p, n, &rows(true))?;
    for ours in [fused, matrix, there] {
        let gap = (&ours - &expected)?.to_scalar::<f64>()?;
        assert!(gap.abs() < 1e-12, "{gap}");
        let grads = (ours * 2.0)?.backward()?;
        for v in [&a, &b, &p] {
            let gap = (grads.get(v).unwrap() - theirs.get(v).unwrap())?;
            assert!(gap.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        }
    }
    Ok(())
}

#[test]
fn huge_tiny_zero_and_missing_numbers() -> Result<()> {
    let cpu = &Device::Cpu;
    let b = Tensor::new(&[[3f32, 4.0]], cpu)?;
    let value = |x: f32, y: f32| -> Result<f32> {
        let a = Tensor::new(&[[1f32, 0.0], [x, y]], cpu)?;
        let p = Tensor::ones(2, DType::F32, cpu)?;
        let w = vec![0.0, 1.0];
        cosine_row_loss("test", ("a", &a), ("b", &b), Some(&p), w, Squares)?.to_scalar()
    };
    for scale in [1e-30f32, 1e-10, 1.0, 1e10, 1e30] {
        let expected = 0.36 + 0.216;
        assert!((value(scale, 0.0)? - expected).abs() < 1e-5, "{scale}");
        // The gradient turns the row and does not stretch it.
        let a = Var::new(&[[1f32, 0.0], [scale, 0.0]], cpu)?;
        let p = Tensor::ones(2, DType::F32, cpu)?;
        let w = vec![0.0, 1.0];
        let loss = cosine_row_loss("test", ("a", &a), ("b", &b), Some(&p), w, Squares)?;
        let grad = loss.backward()?.get(&a).unwrap().to_vec2::<f32>()?;
        let turn = grad[1][1] * scale;
        assert!(turn.is_finite() && turn.abs() > 0.1, "{scale}: {grad:?}");
        assert!((grad[1][0] * scale).abs() < 1e-5, "{scale}: {grad:?}");
    }
    assert_eq!(value(0.0, 0.0)?, 0.0);
    let message = value(f32::NAN, 1.0).unwrap_err().to_string();
    assert!(message.contains("row 1 of a"), "{message}");
    assert!(value(f32::INFINITY, 1.0).is_err());
    Ok(())
}
