//! Values and gradients against the f64 statements of `fixtures/tasks/make.py`, and central differences.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use phiz_kernels::gradcheck;
use phiz_tasks::{
    HeatmapConfig, HeatmapHead, HeatmapLoss, PointLoss, affect_loss, ccc_loss, heatmap_loss,
    heatmap_targets, masked_squared_error, ordinal_loss, pca_basis, point_loss, shape_loss,
};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/tasks/golden.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Numbers, null for NaN.
fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap().iter();
    list.map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn tensor(value: &Value) -> Tensor {
    let dims = numbers(&value["shape"]);
    let dims: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    Tensor::from_vec(numbers(&value["values"]), dims, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    t.to_vec1().unwrap()
}

fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-12f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * scale,
            "{what}[{i}]: {g}, expected {w}"
        );
    }
}

type Loss = Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor>>;

fn loss_of(case: &Value) -> Option<Loss> {
    let sigma = case["sigma"].as_f64().unwrap_or(1.);
    let points = |loss| Box::new(move |x: &Tensor, y: &Tensor| point_loss(x, y, loss)) as Loss;
    let maps =
        |loss| Box::new(move |x: &Tensor, y: &Tensor| heatmap_loss(x, y, sigma, loss)) as Loss;
    Some(match case["name"].as_str().unwrap() {
        "ccc" => Box::new(ccc_loss),
        "squared" => Box::new(masked_squared_error),
        "affect" => Box::new(|x: &Tensor, y: &Tensor| affect_loss(x, y, 0.7, 0.4)),
        "ordinal" => Box::new(ordinal_loss),
        "point_l1" => points(PointLoss::L1),
        "point_squared" => points(PointLoss::Squared),
        "point_smooth" => points(PointLoss::SmoothL1),
        "point_wing" => points(PointLoss::Wing),
        "shape" => Box::new(shape_loss),
        "heatmap_squared" => maps(HeatmapLoss::Squared),
        "heatmap_cross_entropy" => maps(HeatmapLoss::CrossEntropy),
        _ => return None,
    })
}

#[test]
fn losses_and_their_gradients() {
    let mut seen = std::collections::BTreeSet::new();
    for case in cases() {
        let Some(loss) = loss_of(&case) else { continue };
        let name = case["name"].as_str().unwrap().to_string();
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 2e-5)] {
            let x = Var::from_tensor(&tensor(&case["input"]).to_dtype(dtype).unwrap()).unwrap();
            let y = tensor(&case["target"]).to_dtype(dtype).unwrap();
            let value = loss(&x, &y).unwrap();
            let want = case["value"].as_f64().unwrap();
            close(&name, &flat(&value), &[want], tolerance);
            let grads = value.backward().unwrap();
            let want = numbers(&case["gradient"]);
            close(&name, &flat(grads.get(&x).unwrap()), &want, tolerance);
        }
        let y = tensor(&case["target"]);
        gradcheck::check(|v| loss(&v[0], &y), &[tensor(&case["input"])], 1e-6)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        seen.insert(name);
    }
    assert_eq!(seen.len(), 11, "{seen:?}");
}

#[test]
fn ordinal_intensities_and_gaussians() {
    for case in cases() {
        if case["name"] == "heatmap_squared" {
            let sigma = case["sigma"].as_f64().unwrap();
            let maps = heatmap_targets(&tensor(&case["target"]), (6, 8), sigma).unwrap();
            close("gaussians", &flat(&maps), &numbers(&case["maps"]), 1e-12);
        }
        if case["name"] == "ordinal" {
            let z = tensor(&case["input"]);
            let (_, units, _) = z.dims3().unwrap();
            let parameters = VarMap::new();
            let vb = VarBuilder::from_varmap(&parameters, DType::F64, &Device::Cpu);
            let config = phiz_tasks::ActionUnitConfig {
                loss: phiz_tasks::ActionUnitLoss::Ordinal,
            };
            let head = phiz_tasks::ActionUnitHead::new(3, units, config, vb).unwrap();
            let decoded = flat(&head.decode(&z).unwrap());
            close("intensities", &decoded, &numbers(&case["decoded"]), 1e-12);
        }
    }
}

/// As `uniform` and `value` in `fixtures/backbones/make.py`.
fn uniform(name: &str, n: usize) -> Vec<f64> {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
    });
    let one = |j: usize| {
        let mut z = seed.wrapping_add((j as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 * (-53f64).exp2()
    };
    (0..n).map(one).collect()
}

#[test]
fn the_head_of_transposed_convolutions() {
    let cases = cases();
    let case = cases.iter().find(|c| c["name"] == "heatmap_head").unwrap();
    let parameters = VarMap::new();
    let vb = VarBuilder::from_varmap(&parameters, DType::F64, &Device::Cpu);
    let config = HeatmapConfig {
        points: 4,
        stages: 2,
        channels: 6,
        ..Default::default()
    };
    let head = HeatmapHead::new(5, config, vb).unwrap();
    let variables = parameters.data().lock().unwrap().clone();
    for (name, var) in &variables {
        let shape = var.dims();
        let n = var.elem_count();
        let fan_in = shape.iter().skip(1).product::<usize>() as f64;
        let u = uniform(name, n).into_iter();
        let values: Vec<f64> = if name.ends_with("running_var") {
            u.map(|u| 0.5 + u).collect()
        } else if name.ends_with("running_mean") || name.ends_with("bias") {
            u.map(|u| (u - 0.5) * 0.2).collect()
        } else if shape.len() == 1 {
            u.map(|u| 0.25 + 0.5 * u).collect()
        } else {
            u.map(|u| (u - 0.5) * 2. * (3. / fan_in).sqrt()).collect()
        };
        var.set(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
            .unwrap();
    }
    let x: Vec<f64> = uniform("input", 90).iter().map(|u| u * 2. - 1.).collect();
    let x = Tensor::from_vec(x, (2, 5, 3, 3), &Device::Cpu).unwrap();
    let out = head.forward(&x, true).unwrap();
    assert_eq!(out.dims(), [2, 4, 12, 12]);
    close("maps", &flat(&out), &numbers(&case["output"]), 1e-10);
    let pattern = uniform("pattern", out.elem_count());
    let pattern: Vec<f64> = pattern.iter().map(|u| u - 0.5).collect();
    let pattern = Tensor::from_vec(pattern, out.dims(), &Device::Cpu).unwrap();
    let grads = (out * pattern).unwrap().sum_all().unwrap();
    let grads = grads.backward().unwrap();
    let norms = case["gradient_norms"].as_object().unwrap();
    for (name, want) in norms {
        let grad = flat(grads.get(&variables[name]).unwrap());
        let norm = grad.iter().map(|v| v * v).sum::<f64>().sqrt();
        close(name, &[norm], &[want.as_f64().unwrap()], 1e-9);
    }
}

#[test]
fn principal_components() {
    let cases = cases();
    let case = cases.iter().find(|c| c["name"] == "pca").unwrap();
    let shapes = Tensor::from_vec(numbers(&case["shapes"]), (9, 6, 3), &Device::Cpu).unwrap();
    let basis = pca_basis(&shapes, 3).unwrap();
    close("mean", &flat(&basis.mean), &numbers(&case["mean"]), 1e-12);
    close(
        "deviations",
        &basis.deviations,
        &numbers(&case["deviations"]),
        1e-10,
    );
    // Directions have a free sign and, together, span one space: their projector is what can be compared.
    let d = &basis.directions;
    let projector = d.t().unwrap().matmul(d).unwrap();
    close(
        "projector",
        &flat(&projector),
        &numbers(&case["projector"]),
        1e-9,
    );
    let explained = case["explained"].as_f64().unwrap();
    close("explained", &[basis.explained], &[explained], 1e-10);
    // The shapes were made of four directions.
    let message = pca_basis(&shapes, 6).unwrap_err().to_string();
    assert!(
        message.contains("vary in 4 directions, not in 6"),
        "{message}"
    );
    assert!(pca_basis(&shapes, 9).is_err());
    let broken = (&shapes * f64::NAN).unwrap();
    assert!(
        pca_basis(&broken, 2)
            .unwrap_err()
            .to_string()
            .contains("finite")
    );
}
