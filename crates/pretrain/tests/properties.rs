//! What must hold for any input: marginals, extremes, slow copies, gradients everywhere, clear errors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Result, Tensor};
use phiz_pretrain::*;
use phiz_train::{Parameters, Streams};
use proptest::prelude::*;

fn matrix(rows: usize, columns: usize, scale: f64, seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let values: Vec<f64> = (0..rows * columns)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as f64 / f64::from(1u32 << 31) * 2.0 - 1.0) * scale
        })
        .collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows sum to 1 whatever the scores; the reported error is that of the columns; many iterations remove it.
    #[test]
    fn marginals(rows in 1usize..20, prototypes in 1usize..12, scale in 0f64..2.0, seed: u64) {
        let scores = matrix(rows, prototypes, scale, seed);
        let config = SinkhornConfig { epsilon: 0.5, iterations: 3 };
        let found = sinkhorn(&scores, config).unwrap();
        for sum in found.q.sum(1).unwrap().to_vec1::<f64>().unwrap() {
            prop_assert!((sum - 1.0).abs() < 1e-12);
        }
        let worst = found.q.sum(0).unwrap().to_vec1::<f64>().unwrap().into_iter()
            .map(|sum| (sum * prototypes as f64 / rows as f64 - 1.0).abs()).fold(0.0, f64::max);
        prop_assert!((worst - found.marginal_error).abs() < 1e-12);
        let more = sinkhorn(&scores, SinkhornConfig { epsilon: 0.5, iterations: 300 }).unwrap();
        prop_assert!(more.marginal_error <= found.marginal_error + 1e-9 && more.marginal_error < 1e-3);
    }

    /// The log domain does not overflow: scores of +-1e4 over epsilon 0.05, in f32 and in f64.
    #[test]
    fn extreme_scores(rows in 1usize..12, prototypes in 1usize..12, seed: u64) {
        for dtype in [DType::F32, DType::F64] {
            let scores = matrix(rows, prototypes, 1e4, seed).to_dtype(dtype).unwrap();
            let found = sinkhorn(&scores, SinkhornConfig::default()).unwrap();
            let sums = found.q.sum(1).unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            for sum in sums {
                prop_assert!((sum - 1.0).abs() < 0.05, "{sum}");
            }
            prop_assert!(found.marginal_error.is_finite());
        }
    }

    /// No loss depends on the order of the images.
    #[test]
    fn losses_do_not_depend_on_the_order_of_the_batch(batch in 3usize..9, seed: u64) {
        let (a, b) = (matrix(batch, 4, 1.0, seed), matrix(batch, 4, 1.0, seed ^ 99));
        let turned: Vec<u32> = (0..batch as u32).map(|i| (i + 1) % batch as u32).collect();
        let turned = Tensor::new(turned, &Device::Cpu).unwrap();
        let turn = |x: &Tensor| x.index_select(&turned, 0).unwrap();
        type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;
        let losses: [Loss; 4] = [
            |a, b| nt_xent(a, b, 0.2),
            |a, b| regression(a, b),
            |a, b| vic_reg(a, b, &VicRegConfig::default()),
            |a, b| barlow_twins(a, b, 0.01),
        ];
        for loss in losses {
            let plain = loss(&a, &b).unwrap().to_scalar::<f64>().unwrap();
            let other = loss(&turn(&a), &turn(&b)).unwrap().to_scalar::<f64>().unwrap();
            prop_assert!((plain - other).abs() < 1e-9 * plain.abs().max(1.0));
        }
    }
}

fn parameters() -> Parameters {
    Parameters::new(Streams::new(3), DType::F32, &Device::Cpu)
}

fn images(views: usize, batch: usize, side: usize) -> Tensor {
    Tensor::randn(0f32, 1., (views * batch, 3, side, side), &Device::Cpu).unwrap()
}

fn trunk(vb: &candle_nn::VarBuilder) -> impl Trunk + use<> {
    let weight = vb.get((8, 3), "backbone.weight").unwrap();
    move |x: &Tensor, _: bool| phiz_kernels::linear(&x.mean((2, 3))?, &weight, None)
}

/// Every trainable variable of every method gets a gradient, and none that is no weight is trainable.
#[test]
fn every_weight_gets_a_gradient() {
    let batch = 6;
    let two = Views::new(vec![images(2, batch, 8)], batch).unwrap();
    let many = Views::new(vec![images(2, batch, 8), images(3, batch, 4)], batch).unwrap();
    let check = |name: &str,
                 parameters: &Parameters,
                 trunk: &dyn Trunk,
                 method: &dyn Method,
                 views: &Views| {
        let moment = Moment { step: 1, total: 10 };
        let report = method.step(trunk, views, moment).unwrap();
        let gradients = report.loss.backward().unwrap();
        for (variable, var) in parameters.trainable() {
            assert!(gradients.get(&var).is_some(), "{name}: {variable}");
            assert!(
                !variable.starts_with("target.") && !variable.starts_with("queue."),
                "{variable}"
            );
        }
        assert!(
            report
                .metrics
                .iter()
                .any(|(name, value)| name == "spread" && value.is_finite())
        );
    };

    let p = parameters();
    let t = trunk(&p.var_builder());
    let config = SwavConfig {
        hidden: 9,
        dim: 4,
        prototypes: 5,
        queue: 12,
        freeze_steps: 0,
        ..SwavConfig::default()
    };
    check(
        "SwAV",
        &p,
        &t,
        &Swav::new(&config, 8, batch, p.var_builder()).unwrap(),
        &many,
    );

    let p = parameters();
    let t = trunk(&p.var_builder());
    let config = SimClrConfig {
        hidden: 9,
        dim: 4,
        ..SimClrConfig::default()
    };
    check(
        "SimCLR",
        &p,
        &t,
        &SimClr::new(&config, 8, p.var_builder()).unwrap(),
        &two,
    );

    let p = parameters();
    let t = trunk(&p.var_builder());
    let config = VicRegConfig {
        hidden: 9,
        dim: 4,
        ..VicRegConfig::default()
    };
    check(
        "VICReg",
        &p,
        &t,
        &VicReg::new(&config, 8, p.var_builder()).unwrap(),
        &two,
    );

    let p = parameters();
    let t = trunk(&p.var_builder());
    let config = BarlowTwinsConfig {
        hidden: 9,
        dim: 4,
        ..BarlowTwinsConfig::default()
    };
    check(
        "Barlow Twins",
        &p,
        &t,
        &BarlowTwins::new(&config, 8, p.var_builder()).unwrap(),
        &two,
    );

    let p = parameters();
    let t = trunk(&p.var_builder());
    check("BYOL", &p, &t, &byol(&p), &two);
}

fn byol(p: &Parameters) -> Byol {
    let config = ByolConfig {
        hidden: 9,
        dim: 4,
        momentum: 0.5,
    };
    let target = target_builder(p.var_builder());
    let slow = Box::new(trunk(&target));
    Byol::new(&config, 8, p.var_builder(), target, slow, || {
        Ema::new(&p.variables())
    })
    .unwrap()
}

/// The slow copy starts equal, stands still at the first step, and then follows by its momentum.
#[test]
fn the_slow_copy_follows() {
    let p = parameters();
    let t = trunk(&p.var_builder());
    let byol = byol(&p);
    let weight = p.get("backbone.weight").unwrap();
    let slow = p.get("target.backbone.memory_weight").unwrap();
    let values = |var: &candle::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let start = values(&weight);
    assert_eq!(start, values(&slow));
    weight
        .set(&(weight.as_detached_tensor() + 1.0).unwrap())
        .unwrap();
    let views = Views::new(vec![images(2, 4, 8)], 4).unwrap();
    byol.step(
        &t,
        &views,
        Moment {
            step: 0,
            total: 100,
        },
    )
    .unwrap();
    assert_eq!(start, values(&slow));
    byol.step(
        &t,
        &views,
        Moment {
            step: 1,
            total: 100,
        },
    )
    .unwrap();
    for (start, slow) in start.iter().zip(values(&slow)) {
        assert!((start + 0.5 - slow).abs() < 1e-6, "{start} {slow}");
    }
}

#[test]
fn monitors_tell_collapsed_from_spread() {
    let spread_out = matrix(400, 16, 1.0, 5);
    let value = spread(&spread_out).unwrap();
    assert!((0.9..1.01).contains(&value), "{value}");
    let same = Tensor::ones((10, 16), DType::F64, &Device::Cpu).unwrap();
    assert!(spread(&same).unwrap() < 1e-9);

    let even = Tensor::zeros((30, 8), DType::F64, &Device::Cpu).unwrap();
    assert!((prediction_entropy(&even).unwrap() - 1.0).abs() < 1e-12);
    let one = (Tensor::eye(8, DType::F64, &Device::Cpu)
        .unwrap()
        .narrow(0, 2, 1)
        .unwrap()
        * 1e3)
        .unwrap();
    assert!(prediction_entropy(&one).unwrap() < 1e-9);
    assert_eq!(choice_entropy(&one).unwrap(), (0.0, 1));
    let all = Tensor::eye(8, DType::F64, &Device::Cpu).unwrap();
    let (entropy, used) = choice_entropy(&all).unwrap();
    assert!((entropy - 1.0).abs() < 1e-12 && used == 8);
}

#[test]
fn hard_codes_are_hard() {
    let p = parameters();
    let t = trunk(&p.var_builder());
    let config = SwavConfig {
        hidden: 9,
        dim: 4,
        prototypes: 5,
        hard: true,
        freeze_steps: 0,
        ..SwavConfig::default()
    };
    let swav = Swav::new(&config, 8, 6, p.var_builder()).unwrap();
    let views = Views::new(vec![images(2, 6, 8)], 6).unwrap();
    let report = swav.step(&t, &views, Moment { step: 0, total: 1 }).unwrap();
    assert!(report.loss.to_scalar::<f32>().unwrap().is_finite());
}

#[test]
fn errors_name_what_is_wrong_and_what_helps() {
    let p = parameters();
    let says = |result: Result<()>, words: &[&str]| {
        let text = result.unwrap_err().to_string();
        for word in words {
            assert!(text.contains(word), "{text}");
        }
    };
    let swav = |config: SwavConfig| Swav::new(&config, 8, 64, p.var_builder()).map(|_| ());
    says(
        swav(SwavConfig {
            prototypes: 300,
            queue: 128,
            ..SwavConfig::default()
        }),
        &[
            "300 prototypes",
            "batch of 64",
            "queue of 128",
            "192 rows",
            "a queue of 256",
        ],
    );
    says(
        swav(SwavConfig {
            prototypes: 30,
            queue: 100,
            ..SwavConfig::default()
        }),
        &["100", "batches of 64"],
    );
    says(
        swav(SwavConfig {
            prototypes: 30,
            temperature: 0.0,
            ..SwavConfig::default()
        }),
        &["temperature"],
    );
    let nan = Tensor::full(f64::NAN, (3, 3), &Device::Cpu).unwrap();
    says(
        sinkhorn(&nan, SinkhornConfig::default()).map(|_| ()),
        &["not finite"],
    );
    says(Views::new(vec![images(1, 5, 4)], 2).map(|_| ()), &["n x 2"]);
    let a = matrix(1, 3, 1.0, 0);
    says(nt_xent(&a, &a, 0.1).map(|_| ()), &["at least 2"]);
    says(
        vic_reg(&a, &a, &VicRegConfig::default()).map(|_| ()),
        &["at least 2"],
    );
}
