//! The adaptive form: its starting point, and its parameters in a builder.

use crate::*;

#[test]
fn adaptive_starts_at_the_fixed_loss() -> Result<()> {
    let e = random(12, 5, 1);
    let tuplets = Tuplets(vec![
        Tuplet {
            query: 0,
            positives: vec![1, 2, 3],
            negatives: vec![4, 5, 6],
        },
        Tuplet {
            query: 7,
            positives: vec![8],
            negatives: vec![9, 10, 11, 0],
        },
    ]);
    for reduction in REDUCTIONS {
        for stop_gradient in [false, true] {
            let fixed = TupletClustersConfig {
                stop_gradient,
                ..fixed(1.3, 0.9, reduction)
            };
            let config = AdaptiveConfig {
                reference_distance: 1.3,
                tau: 0.9,
                reduction,
                stop_gradient,
            };
            let learned = adaptive(5, config)?;
            let (a, ga) = run(&e, |e| tuplet_clusters(e, &tuplets, fixed));
            let (b, gb) = run(&e, |e| learned.forward(e, &tuplets));
            assert!(a > 0.1);
            close(&[a], &[b], 1e-13);
            close(&ga, &gb, 1e-13);
        }
    }
    // The plain sum of one is twice the half sum of the other.
    let learned = adaptive(
        5,
        AdaptiveConfig {
            reduction: TupletReduction::Sum,
            ..AdaptiveConfig::default()
        },
    )?;
    let (a, _) = run(&e, |e| {
        tuplet_clusters(e, &tuplets, fixed(1.0, 1.0, TupletReduction::HalfSum))
    });
    let (b, _) = run(&e, |e| learned.forward(e, &tuplets));
    close(&[2.0 * a], &[b], 1e-13);
    Ok(())
}

#[test]
fn adaptive_parameters_are_new_or_loaded() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    AdaptiveTupletClusters::new(
        3,
        AdaptiveConfig {
            reference_distance: 2.0,
            ..Default::default()
        },
        vb.pp("t"),
    )?;
    let data = vars.data().lock().unwrap().clone();
    let get = |name: &str| data[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let r = std::f32::consts::SQRT_2;
    assert_eq!(get("t.l_a"), [r, 0., 0., 0., r, 0., 0., 0., r]);
    assert_eq!(get("t.l_b"), get("t.l_a"));
    assert_eq!((get("t.w"), get("t.b")), (vec![0.; 3], vec![-2.]));
    // What training made of them survives a second construction, and a reload from plain tensors.
    data["t.l_a"].set(&Tensor::full(0.5f32, (3, 3), &Device::Cpu)?)?;
    AdaptiveTupletClusters::new(3, AdaptiveConfig::default(), vb.pp("t"))?;
    assert_eq!(get("t.l_a"), [0.5; 9]);
    let plain = data
        .iter()
        .map(|(k, v)| (k.clone(), v.as_tensor().detach()))
        .collect();
    let vb = VarBuilder::from_tensors(plain, DType::F32, &Device::Cpu);
    let loaded = AdaptiveTupletClusters::new(3, AdaptiveConfig::default(), vb.pp("t"))?;
    let u = Tensor::new(&[[1f32, 0., 0.]], &Device::Cpu)?;
    // 1/2 |L_A u|^2 twice = 0.75; |L_B u|^2 = 2; b = -2.
    assert!((loaded.decide(&u, &u)?.to_vec1::<f32>()?[0] - (0.75 - 2.0 - 2.0)).abs() < 1e-6);
    assert!(AdaptiveTupletClusters::new(4, AdaptiveConfig::default(), vb.pp("t")).is_err());
    Ok(())
}
