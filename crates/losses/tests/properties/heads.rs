//! Margin heads where the angle is 0 or pi, and their weights.

use crate::*;

#[test]
fn margin_heads_at_cosine_one() -> Result<()> {
    // Item 0 lies on its class weight, item 1 opposite to it, item 2 is zero.
    for dtype in [DType::F32, DType::F64] {
        let e =
            rows(&[vec![0.3, 0.6, -0.2], vec![-2., 1., 0.5], vec![0., 0., 0.]]).to_dtype(dtype)?;
        let w = rows(&[vec![0.6, 1.2, -0.4], vec![4., -2., -1.]]).to_dtype(dtype)?;
        let labels = Tensor::new(&[0u32, 1, 0], &Device::Cpu)?;
        for gradient in [ArcGradient::Exact, ArcGradient::StraightThrough] {
            let head = ArcFace::from_weight(
                w.clone(),
                ArcFaceConfig {
                    gradient,
                    ..Default::default()
                },
            )?;
            let logits = head
                .forward(&e, &labels)?
                .to_dtype(DType::F64)?
                .to_vec2::<f64>()?;
            // cos(0 + m); beyond pi - m the exact form goes on as cos - m sin m, the other as cos(pi + m).
            assert!(
                (logits[0][0] - 64.0 * 0.5f64.cos()).abs() < 0.05,
                "{logits:?}"
            );
            let opposite = if gradient == ArcGradient::Exact {
                -1.0 - 0.5 * 0.5f64.sin()
            } else {
                -(0.5f64.cos())
            };
            assert!((logits[1][1] - 64.0 * opposite).abs() < 0.05, "{logits:?}");
            let (loss, grad) = run(&e, |e| {
                cross_entropy(&head.forward(e, &labels)?, &labels, 0.0)
            });
            assert!(loss.is_finite() && grad.iter().all(|g| g.is_finite()));
            assert!(
                grad[6..].iter().all(|&g| g == 0.0),
                "a zero embedding has no direction"
            );
        }
        let angle = mean_target_angle(
            &ArcFace::from_weight(w, ArcFaceConfig::default())?.cosine(&e)?,
            &[0, 1, 0],
        )?;
        assert!(
            (angle - (0.0 + std::f64::consts::PI + std::f64::consts::FRAC_PI_2) / 3.0).abs() < 1e-3
        );
    }
    Ok(())
}

#[test]
fn heads_draw_small_weights() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let arc = ArcFace::new(64, 50, ArcFaceConfig::default(), vb.pp("arc"))?;
    CosFace::new(64, 50, CosFaceConfig::default(), vb.pp("cos"))?;
    assert_eq!(arc.weight().dims(), [50, 64]);
    let sd = arc.weight().sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    assert!((sd - 0.01).abs() < 0.001, "{sd}");
    let mut names: Vec<_> = vars.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["arc.weight", "cos.weight"]);
    Ok(())
}
