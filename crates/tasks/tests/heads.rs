//! Heads: every variable gets a gradient, each learns what it is made for, and what is malformed is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use phiz_kernels::gradcheck::every_variable_has_gradient;
use phiz_tasks::{
    ActionUnitConfig, ActionUnitHead, ActionUnitLoss, AffectConfig, AffectHead, HeatmapConfig,
    HeatmapHead, HeatmapLoss, Margin, PointHead, PointLoss, RecognitionConfig, RecognitionHead,
    ShapeHead, ccc_loss, masked_squared_error, pca_basis, point_loss, shape_loss,
};

/// Numbers in -1..1 by a fixed rule.
fn spread(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product::<usize>() as u64;
    let one = |i: u64| {
        let z = (i + 1 + 1000 * seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1u32 << 23) as f32
            - 1.
    };
    let values: Vec<f32> = (0..n).map(one).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Variables with start values by a fixed rule, since candle's are not seeded.
struct Model(VarMap);

impl Model {
    fn new() -> Self {
        Self(VarMap::new())
    }
    fn vb(&self) -> VarBuilder<'static> {
        VarBuilder::from_varmap(&self.0, DType::F32, &Device::Cpu)
    }
    fn settle(&self) {
        for (i, (name, var)) in self.all().into_iter().enumerate() {
            if var.rank() >= 2 && !name.contains("memory_") {
                let fan = var.elem_count() as f64 / var.dims()[0] as f64;
                let start = spread(var.dims(), i as u64 + 3) / fan.sqrt();
                var.set(&start.unwrap()).unwrap();
            }
        }
    }
    fn all(&self) -> Vec<(String, Var)> {
        let data = self.0.data().lock().unwrap();
        let mut all: Vec<_> = data.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
    fn trained(&self) -> Vec<(String, Var)> {
        let kept = |name: &str| !name.contains("running_") && !name.contains("memory_");
        self.all().into_iter().filter(|(k, _)| kept(k)).collect()
    }
    /// Adam's rule without its bias terms, `steps` times; the first and the last loss.
    fn learn(&self, steps: usize, lr: f64, loss: impl Fn() -> Result<Tensor>) -> (f32, f32) {
        let vars = self.trained();
        let mut state: Vec<Option<(Tensor, Tensor)>> = vec![None; vars.len()];
        let (mut first, mut last) = (None, 0.);
        for _ in 0..steps {
            let l = loss().unwrap();
            last = l.to_scalar::<f32>().unwrap();
            first.get_or_insert(last);
            let grads = l.backward().unwrap();
            every_variable_has_gradient(&grads, &vars).unwrap();
            for ((_, var), state) in vars.iter().zip(&mut state) {
                let g = grads.get(var).unwrap();
                let square = g.sqr().unwrap();
                let (m, v) = match state.take() {
                    None => (g.clone(), square),
                    Some((m, v)) => (
                        ((m * 0.9).unwrap() + (g * 0.1).unwrap()).unwrap(),
                        ((v * 0.99).unwrap() + (square * 0.01).unwrap()).unwrap(),
                    ),
                };
                let step = (&m / (v.sqrt().unwrap() + 1e-8).unwrap()).unwrap();
                var.set(&(var.as_tensor() - (step * lr).unwrap()).unwrap())
                    .unwrap();
                *state = Some((m, v));
            }
        }
        (first.unwrap(), last)
    }
}

fn mean_apart(a: &Tensor, b: &Tensor) -> f32 {
    let d = (a - b).unwrap().abs().unwrap().mean_all().unwrap();
    d.to_scalar().unwrap()
}

#[test]
fn action_units_by_both_losses() {
    let features = spread(&[64, 6], 1);
    // Intensities that follow the features, in whole steps; a fifth not coded.
    let truth: Vec<f32> = features
        .to_vec2::<f32>()
        .unwrap()
        .iter()
        .flat_map(|row| [(row[0] * 2.5 + 2.5).round(), (row[1] - row[2] + 2.).round()])
        .collect();
    let coded: Vec<f32> = truth
        .iter()
        .enumerate()
        .map(|(i, v)| if i % 5 == 0 { f32::NAN } else { *v })
        .collect();
    let truth = Tensor::from_vec(truth, (64, 2), &Device::Cpu).unwrap();
    let coded = Tensor::from_vec(coded, (64, 2), &Device::Cpu).unwrap();
    for loss in [ActionUnitLoss::Squared, ActionUnitLoss::Ordinal] {
        let model = Model::new();
        let head = ActionUnitHead::new(6, 2, ActionUnitConfig { loss }, model.vb()).unwrap();
        model.settle();
        let step = || head.loss(&head.forward(&features)?, &coded);
        let (first, last) = model.learn(300, 0.03, step);
        let decoded = head.decode(&head.forward(&features).unwrap()).unwrap();
        let apart = mean_apart(&decoded, &truth);
        assert!(
            last < 0.5 * first && apart < 0.4,
            "{loss:?}: {first} {last} {apart}"
        );
        let values = decoded.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|v| (0. ..=5.).contains(v)));
    }
}

#[test]
fn affect_with_classes_and_numbers() {
    let features = spread(&[60, 5], 2);
    let rows = features.to_vec2::<f32>().unwrap();
    let classes: Vec<u32> = rows
        .iter()
        .map(|r| u32::from(r[0] > 0.) + u32::from(r[1] > 0.))
        .collect();
    let classes = Tensor::new(classes, &Device::Cpu).unwrap();
    let numbers: Vec<f32> = rows
        .iter()
        .enumerate()
        .flat_map(|(i, r)| {
            [
                if i % 4 == 0 { f32::NAN } else { 0.8 * r[2] },
                r[3] * 0.5 + 0.2,
            ]
        })
        .collect();
    let numbers = Tensor::from_vec(numbers, (60, 2), &Device::Cpu).unwrap();
    let model = Model::new();
    let config = AffectConfig {
        classes: 3,
        ..Default::default()
    };
    let head = AffectHead::new(5, config, model.vb()).unwrap();
    model.settle();
    let step = || head.loss(&head.forward(&features)?, Some(&classes), Some(&numbers));
    let (first, last) = model.learn(300, 0.05, step);
    assert!(last < 0.4 * first, "{first} {last}");
    let decoded = head.decode(&head.forward(&features).unwrap()).unwrap();
    let found = decoded.logits.unwrap().argmax(1).unwrap();
    let right = found.eq(&classes).unwrap().to_dtype(DType::F32).unwrap();
    assert!(right.mean_all().unwrap().to_scalar::<f32>().unwrap() > 0.85);
    let ccc = ccc_loss(&decoded.dimensional.unwrap(), &numbers).unwrap();
    assert!(ccc.to_scalar::<f32>().unwrap() < 0.05);
}

#[test]
fn nothing_known_is_no_loss_and_no_nan() {
    let x = Var::from_tensor(&spread(&[4, 2], 3)).unwrap();
    let unknown = Tensor::full(f32::NAN, (4, 2), &Device::Cpu).unwrap();
    let squared = masked_squared_error(&x, &unknown).unwrap();
    assert_eq!(squared.to_scalar::<f32>().unwrap(), 0.);
    for loss in [squared, ccc_loss(&x, &unknown).unwrap()] {
        let grads = loss.backward().unwrap();
        let largest = grads.get(&x).unwrap().abs().unwrap().max_all().unwrap();
        assert_eq!(largest.to_scalar::<f32>().unwrap(), 0.);
    }
    // Constant predictions of a constant target.
    let same = Tensor::ones((4, 2), DType::F32, &Device::Cpu).unwrap();
    let ccc = ccc_loss(&same, &same).unwrap().to_scalar::<f32>().unwrap();
    assert_eq!(ccc, 1.);
}

#[test]
fn heat_maps_find_a_point() {
    // A bright pixel on a dark map is the point to be found.
    let (side, count) = (6usize, 24usize);
    let mut maps = vec![0f32; count * side * side];
    let mut points = Vec::new();
    for i in 0..count {
        let (row, column) = (i % side, (i * 7 / 4) % side);
        maps[i * side * side + row * side + column] = 3.;
        for place in [column, row] {
            points.push((place as f32 + 0.5) / side as f32 - 0.5);
        }
    }
    let maps = Tensor::from_vec(maps, (count, 1, side, side), &Device::Cpu).unwrap();
    let points = Tensor::from_vec(points, (count, 1, 2), &Device::Cpu).unwrap();
    for loss in [HeatmapLoss::Squared, HeatmapLoss::CrossEntropy] {
        let model = Model::new();
        let config = HeatmapConfig {
            points: 1,
            stages: 1,
            channels: 8,
            sigma: 1.2,
            loss,
        };
        let head = HeatmapHead::new(1, config, model.vb()).unwrap();
        model.settle();
        let (first, last) = model.learn(120, 0.02, || {
            head.loss(&head.forward(&maps, true)?, &points)
        });
        let found = head.decode(&head.forward(&maps, true).unwrap()).unwrap();
        let apart = mean_apart(&found, &points);
        assert!(
            last < first && apart < 0.02,
            "{loss:?}: {first} {last} {apart}"
        );
    }
}

#[test]
fn points_and_shapes() {
    let features = spread(&[40, 4], 5);
    let mixing = spread(&[4, 30], 6);
    let offset = (features.matmul(&mixing).unwrap() * 0.05).unwrap();
    let shapes = offset.reshape((40, 10, 3)).unwrap();
    let shapes = shapes
        .broadcast_add(&(spread(&[1, 10, 3], 7) * 0.3).unwrap())
        .unwrap();

    let model = Model::new();
    let head = PointHead::new(4, 10, 3, model.vb()).unwrap();
    model.settle();
    head.set_mean(&shapes.mean(0).unwrap()).unwrap();
    let (first, last) = model.learn(400, 0.02, || {
        point_loss(&head.forward(&features)?, &shapes, PointLoss::SmoothL1)
    });
    assert!(last < 0.1 * first, "{first} {last}");

    let basis = pca_basis(&shapes, 4).unwrap();
    assert!(basis.explained > 0.999, "{}", basis.explained);
    for learned in [false, true] {
        let model = Model::new();
        let head = ShapeHead::new(4, (10, 3), 4, learned, model.vb()).unwrap();
        model.settle();
        head.set_basis(&basis).unwrap();
        let names: Vec<String> = model.trained().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names.contains(&"basis".to_string()), learned, "{names:?}");
        let (first, last) =
            model.learn(250, 0.02, || shape_loss(&head.forward(&features)?, &shapes));
        assert!(last < 0.05 * first, "learned {learned}: {first} {last}");
    }
}

#[test]
fn recognition_pulls_people_apart() {
    // Eight people, four images each, around eight directions.
    let people: Vec<u32> = (0..32).map(|i| i % 8).collect();
    let centres = spread(&[8, 12], 8);
    let index = Tensor::new(people.clone(), &Device::Cpu).unwrap();
    let features = centres.index_select(&index, 0).unwrap();
    let features = (features + (spread(&[32, 12], 9) * 0.2).unwrap()).unwrap();
    for margin in [Margin::ArcFace(0.5), Margin::CosFace(0.35)] {
        let model = Model::new();
        let config = RecognitionConfig {
            embedding: 6,
            margin,
            scale: 16.,
        };
        let head = RecognitionHead::new(12, 8, config, model.vb()).unwrap();
        model.settle();
        let (first, last) = model.learn(200, 0.02, || {
            head.loss(&head.forward(&features, true)?, &index)
        });
        assert!(last < 0.2 * first, "{margin:?}: {first} {last}");
        let unit = head
            .decode(&head.forward(&features, true).unwrap())
            .unwrap();
        let similar = unit
            .matmul(&unit.t().unwrap())
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for (i, row) in similar.iter().enumerate() {
            let best = (0..32)
                .filter(|&j| j != i)
                .max_by(|&a, &b| row[a].total_cmp(&row[b]));
            assert_eq!(people[best.unwrap()], people[i], "{margin:?}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let vb = || Model::new().vb();
    let line = |error: candle::Error| error.to_string();
    let config = AffectConfig {
        classes: 0,
        dimensional: false,
        ..Default::default()
    };
    assert!(
        line(AffectHead::new(4, config, vb()).unwrap_err()).contains("two classes or the numbers")
    );
    assert!(ActionUnitHead::new(4, 0, ActionUnitConfig::default(), vb()).is_err());
    let config = HeatmapConfig {
        sigma: 0.,
        ..Default::default()
    };
    assert!(line(HeatmapHead::new(4, config, vb()).unwrap_err()).contains("sigma must be above 0"));
    let head = AffectHead::new(
        4,
        AffectConfig {
            dimensional: false,
            ..Default::default()
        },
        vb(),
    )
    .unwrap();
    let output = head.forward(&spread(&[2, 4], 1)).unwrap();
    let numbers = spread(&[2, 2], 1);
    assert!(
        line(head.loss(&output, None, Some(&numbers)).unwrap_err()).contains("predicts neither")
    );
    assert!(line(head.loss(&output, None, None).unwrap_err()).contains("no target"));
    let message = line(
        point_loss(
            &spread(&[2, 3, 2], 1),
            &spread(&[2, 4, 2], 1),
            PointLoss::L1,
        )
        .unwrap_err(),
    );
    assert!(
        message.contains("[2, 3, 2]") && message.contains("[2, 4, 2]"),
        "{message}"
    );
}
