//! Pair and triplet losses: values and gradients equal to those of fixtures/losses/pairs.py, in f64 and in f32.

use candle::{DType, Device, Result, Tensor, Var};
use phiz_losses::*;
use phiz_mining::{Pairs, Triplets};
use serde_json::Value;

const FIXTURE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/losses/pairs.json"
));

/// Relative to the largest value compared.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-9 } else { 1e-4 }
}

fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap()],
    }
}

fn shape(v: &Value) -> Vec<usize> {
    let (mut shape, mut inner) = (vec![], v);
    while let Value::Array(list) = inner {
        shape.push(list.len());
        inner = &list[0];
    }
    shape
}

fn var(v: &Value, dtype: DType) -> Var {
    let t = Tensor::from_vec(numbers(v), shape(v), &Device::Cpu).unwrap();
    Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| {
            let d = (a - b).abs() / scale;
            if d.is_nan() { f64::INFINITY } else { d }
        })
        .fold(0.0, f64::max)
}

struct Config<'a>(&'a Value);

impl Config<'_> {
    fn number(&self, name: &str, default: f64) -> f64 {
        self.0[name].as_f64().unwrap_or(default)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    fn measure(&self, default: Measure) -> Measure {
        let lp = |p, power, normalize| Measure {
            kind: MeasureKind::Lp(p),
            normalize,
            power,
        };
        match self.text("measure") {
            None => default,
            Some("l2") => Measure::L2,
            Some("l2_sq") => Measure::SQUARED_L2,
            Some("l2_cubed") => lp(2.0, 3.0, true),
            Some("l2_raw") => lp(2.0, 1.0, false),
            Some("l2_sq_raw") => lp(2.0, 2.0, false),
            Some("l1") => lp(1.0, 1.0, true),
            Some("l3_raw") => lp(3.0, 2.0, false),
            Some("linf") => lp(f64::INFINITY, 1.0, true),
            Some("cosine") => Measure::COSINE,
            Some("dot") => Measure::DOT,
            Some("snr") => Measure::SNR,
            Some("snr_raw") => Measure::SNR.unnormalized(),
            Some(other) => panic!("unknown measure {other}"),
        }
    }

    fn reducer(&self, default: Reducer) -> Reducer {
        match self.text("reducer") {
            None => default,
            Some("mean") => Reducer::Mean,
            Some("sum") => Reducer::Sum,
            Some("avg_non_zero") => Reducer::AvgNonZero,
            Some("threshold") => Reducer::Threshold {
                low: Some(0.2),
                high: Some(0.9),
            },
            Some("class_weighted") => Reducer::ClassWeighted(vec![1.0, 0.5, 2.0, 0.25]),
            Some("per_anchor") => Reducer::PerAnchor(Box::new(Reducer::AvgNonZero)),
            Some("per_anchor_mean") => Reducer::PerAnchor(Box::new(Reducer::Mean)),
            Some(other) => panic!("unknown reducer {other}"),
        }
    }
}

fn batch(fixture: &Value, case: &Value, x: &Tensor, reference: Option<&Tensor>) -> Batch {
    let labels: Vec<i64> = serde_json::from_value(
        fixture["batches"][case["batch"].as_str().unwrap()]["labels"].clone(),
    )
    .unwrap();
    let list = |name: &str| fixture[name].clone();
    match (case["tuples"].as_str(), reference) {
        (Some("triplets"), None) => {
            let t: Vec<(u32, u32, u32)> = serde_json::from_value(list("triplets")).unwrap();
            let t: Triplets = t.into_iter().collect();
            Batch::with_triplets(x, &t).unwrap().label(&labels).unwrap()
        }
        (Some(name), None) => {
            let [positive, negative]: [Vec<(u32, u32)>; 2] =
                serde_json::from_value(list(name)).unwrap();
            Batch::with_pairs(x, &Pairs { positive, negative })
                .unwrap()
                .label(&labels)
                .unwrap()
        }
        (None, None) => Batch::new(x, &labels).unwrap(),
        (None, Some(r)) => {
            let other: Vec<i64> =
                serde_json::from_value(fixture["reference"]["labels"].clone()).unwrap();
            Batch::against(x, &labels, r, &other).unwrap()
        }
        (Some(_), Some(_)) => panic!("no such case"),
    }
}

/// The loss of one case; `None` where another test covers it.
fn compute(name: &str, c: &Config, batch: &Batch) -> Option<Result<Tensor>> {
    Some(match name {
        "contrastive" => {
            let d = Contrastive::default();
            Contrastive {
                pos_margin: c.number("pos_margin", d.pos_margin),
                neg_margin: c.number("neg_margin", d.neg_margin),
                measure: c.measure(d.measure),
                pos_reducer: c.reducer(d.pos_reducer),
                neg_reducer: c.reducer(d.neg_reducer),
            }
            .forward(batch)
        }
        "nt_xent" => {
            let d = NtXent::default();
            NtXent {
                temperature: c.number("temperature", d.temperature),
                measure: c.measure(d.measure),
                reducer: c.reducer(d.reducer),
            }
            .forward(batch)
        }
        "dcl" => Dcl {
            temperature: c.number("temperature", 0.1),
            sigma: c.0["sigma"].as_f64(),
            ..Dcl::default()
        }
        .forward(batch),
        "sup_con" => {
            let d = SupCon::default();
            SupCon {
                temperature: c.number("temperature", d.temperature),
                measure: c.measure(d.measure),
                reducer: c.reducer(d.reducer),
            }
            .forward(batch)
        }
        "multi_similarity" => {
            let d = MultiSimilarity::default();
            MultiSimilarity {
                alpha: c.number("alpha", d.alpha),
                beta: c.number("beta", d.beta),
                base: c.number("base", d.base),
                epsilon: c.0["epsilon"].as_f64(),
                measure: c.measure(d.measure),
                reducer: c.reducer(d.reducer),
            }
            .forward(batch)
        }
        "circle" => Circle {
            m: c.number("m", 0.4),
            gamma: c.number("gamma", 80.0),
            ..Circle::default()
        }
        .forward(batch),
        "lifted" => LiftedStructure {
            neg_margin: c.number("neg_margin", 1.0),
            pos_margin: c.number("pos_margin", 0.0),
            measure: c.measure(Measure::L2),
            ..LiftedStructure::default()
        }
        .forward(batch),
        "generalized_lifted" => GeneralizedLiftedStructure {
            neg_margin: c.number("neg_margin", 1.0),
            pos_margin: c.number("pos_margin", 0.0),
            measure: c.measure(Measure::L2),
            ..GeneralizedLiftedStructure::default()
        }
        .forward(batch),
        "tuplet_margin" => TupletMargin {
            margin: c.number("margin", 5.73),
            scale: c.number("scale", 64.0),
            ..TupletMargin::default()
        }
        .forward(batch),
        "intra_pair" => IntraPairVariance {
            pos_eps: c.number("pos_eps", 0.01),
            neg_eps: c.number("neg_eps", 0.01),
            measure: c.measure(Measure::COSINE),
            reducer: c.reducer(Reducer::Mean),
        }
        .forward(batch),
        "threshold_consistent" => {
            let d = ThresholdConsistentMargin::default();
            ThresholdConsistentMargin {
                lambda_plus: c.number("lambda_plus", d.lambda_plus),
                lambda_minus: c.number("lambda_minus", d.lambda_minus),
                margin_plus: c.number("margin_plus", d.margin_plus),
                margin_minus: c.number("margin_minus", d.margin_minus),
            }
            .forward(batch)
        }
        "nca" => Nca {
            softmax_scale: c.number("softmax_scale", 1.0),
            measure: c.measure(Measure::SQUARED_L2),
            ..Nca::default()
        }
        .forward(batch),
        "fast_ap" => FastAp {
            num_bins: c.number("num_bins", 10.0) as usize,
            ..FastAp::default()
        }
        .forward(batch),
        "histogram" => Histogram {
            n_bins: c.number("n_bins", 100.0) as usize,
        }
        .forward(batch),
        "ranked_list" => RankedList {
            margin: c.number("margin", 0.4),
            tn: c.number("Tn", 10.0),
            tp: c.number("Tp", 0.0),
            imbalance: c.number("imbalance", 0.5),
            alpha: c.0["alpha"].as_f64(),
            ..RankedList::default()
        }
        .forward(batch),
        "pnp" => Pnp {
            variant: match c.text("variant").unwrap_or("O") {
                "Ds" => PnpVariant::Ds,
                "Dq" => PnpVariant::Dq,
                "Iu" => PnpVariant::Iu,
                "Ib" => PnpVariant::Ib,
                _ => PnpVariant::O,
            },
            b: c.number("b", 2.0),
            alpha: c.number("alpha", 1.0),
            anneal: c.number("anneal", 0.01),
        }
        .forward(batch),
        "smooth_ap" => SmoothAp {
            temperature: c.number("temperature", 0.01),
            ..SmoothAp::default()
        }
        .forward(batch),
        "triplet_margin" => TripletMargin {
            // The default of the version compared with.
            margin: c.number("margin", 0.05),
            smooth: c.flag("smooth_loss"),
            swap: c.flag("swap"),
            select: match c.text("kind") {
                Some("hard") => Select::Hard,
                Some("semihard") => Select::SemiHard,
                Some("batch_hard") => Select::BatchHard,
                _ => Select::All,
            },
            measure: c.measure(Measure::L2),
            reducer: c.reducer(Reducer::AvgNonZero),
        }
        .forward(batch),
        "margin" if c.0["learned"].is_null() => Margin {
            margin: c.number("margin", 0.2),
            beta: c.number("beta", 1.2),
            measure: c.measure(Measure::L2),
            nu: 0.0,
        }
        .forward(batch),
        "angular" => {
            // The judge saw unit-length embeddings; so do ours, by the configured cosine.
            Angular {
                alpha: c.number("alpha", 40.0),
                ..Angular::default()
            }
            .forward(batch)
        }
        "selectively_contrastive" => SelectivelyContrastive {
            temperature: c.number("temperature", 0.1),
            hard_weight: c.number("hard_weight", 1.0),
            ..SelectivelyContrastive::default()
        }
        .forward(batch),
        "lp_regularizer" => lp_regularizer(
            batch.embeddings().unwrap(),
            c.number("p", 2.0),
            c.number("power", 1.0),
        ),
        "zero_mean_regularizer" => zero_mean_regularizer(batch.embeddings().unwrap()),
        "spherical_regularizer" => spherical_regularizer(batch.embeddings().unwrap()),
        "centroid_triplet" => CentroidTriplet {
            margin: c.number("margin", 0.2),
            ..CentroidTriplet::default()
        }
        .forward(batch.embeddings().unwrap(), batch.labels().unwrap()),
        _ => return None,
    })
}

/// Losses that take something beside a batch: (loss, the variables in the order of the fixture's gradients).
fn compute_other(fixture: &Value, case: &Value, dtype: DType) -> Result<(Tensor, Vec<Var>)> {
    let c = Config(&case["config"]);
    let name = case["batch"].as_str().unwrap();
    let data = &fixture["batches"][name];
    let labels: Vec<i64> = serde_json::from_value(data["labels"].clone()).unwrap();
    let x = var(&data["x"], dtype);
    let param =
        |values: &[f64]| Var::from_tensor(&Tensor::new(values, &Device::Cpu)?.to_dtype(dtype)?);
    match case["loss"].as_str().unwrap() {
        "margin" => {
            let beta: &[f64] = if c.number("learned", 1.0) == 1.0 {
                &[0.8]
            } else {
                &[0.8, 0.5, 1.1, 0.9]
            };
            let beta = param(beta)?;
            let margin = Margin {
                margin: c.number("margin", 0.2),
                nu: c.number("nu", 0.0),
                ..Margin::default()
            };
            let loss = margin.forward_learned(&Batch::new(&x, &labels)?, &beta)?;
            Ok((loss, vec![x, beta]))
        }
        "multi_sup_con" => {
            let sets: Vec<Vec<i64>> =
                serde_json::from_value(fixture["label_sets"][name].clone()).unwrap();
            let loss = MultiSupCon {
                temperature: c.number("temperature", 0.1),
                threshold: c.number("threshold", 0.3),
                ..MultiSupCon::default()
            }
            .forward(&x, &sets)?;
            Ok((loss, vec![x]))
        }
        "ge2e" => {
            let (w, b) = (param(&[4.0])?, param(&[-1.0])?);
            let form = if c.text("form") == Some("contrast") {
                Ge2eForm::Contrast
            } else {
                Ge2eForm::Softmax
            };
            let loss = Ge2e { form }.forward(&x, &labels, &w, &b)?;
            Ok((loss, vec![x, w, b]))
        }
        "vic_reg" => {
            let r = var(&fixture["reference"]["x"], dtype);
            let d = VicReg::default();
            let loss = VicReg {
                invariance_lambda: c.number("invariance_lambda", d.invariance_lambda),
                variance_mu: c.number("variance_mu", d.variance_mu),
                covariance_v: c.number("covariance_v", d.covariance_v),
                eps: c.number("eps", d.eps),
            }
            .forward(&x.narrow(0, 0, 8)?, &r)?;
            Ok((loss, vec![x, r]))
        }
        "dynamic_soft_margin" => {
            let mut loss = DynamicSoftMargin::new(
                -2.0,
                c.number("num_bins", 10.0) as usize,
                c.number("momentum", 0.01),
            )?;
            let (n, d) = x.dims2()?;
            for k in 0..c.number("before", 0.0) as usize {
                let rows: Vec<u32> = (0..n as u32).rev().collect();
                let turned = x
                    .detach()
                    .index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
                let factors: Vec<f64> = (0..d).map(|j| (1 + j * k) as f64).collect();
                let factors = Tensor::new(factors, &Device::Cpu)?.to_dtype(dtype)?;
                loss.forward(&Batch::new(&turned.broadcast_mul(&factors)?, &labels)?)?;
            }
            let loss = loss.forward(&Batch::new(&x, &labels)?)?;
            Ok((loss, vec![x]))
        }
        other => panic!("no such loss {other}"),
    }
}

#[test]
fn golden_values_and_gradients() {
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let (mut wrong, mut done) = (vec![], 0);
    for dtype in [DType::F64, DType::F32] {
        for case in fixture["cases"].as_array().unwrap() {
            let name = case["loss"].as_str().unwrap();
            let what = format!(
                "{dtype:?} {name} {} {} ref {} tuples {}",
                case["config"], case["batch"], case["ref"], case["tuples"]
            );
            let x = var(
                &fixture["batches"][case["batch"].as_str().unwrap()]["x"],
                dtype,
            );
            let reference = case["ref"]
                .as_bool()
                .unwrap()
                .then(|| var(&fixture["reference"]["x"], dtype));
            let computed = if name == "vic_reg" {
                None
            } else {
                let b = batch(
                    &fixture,
                    case,
                    &x,
                    reference.as_deref().map(|v| v as &Tensor),
                );
                compute(name, &Config(&case["config"]), &b)
            };
            let result = match computed {
                Some(loss) => {
                    loss.map(|l| (l, [Some(x), reference].into_iter().flatten().collect()))
                }
                None => compute_other(&fixture, case, dtype),
            };
            done += 1;
            let (loss, vars) = match result {
                Ok(result) => result,
                Err(e) => {
                    wrong.push(format!("{what}: {e}"));
                    continue;
                }
            };
            let value = difference(&values(&loss), &numbers(&case["value"]));
            let store = loss.backward().unwrap();
            let mut worst = value;
            let expected = case["grads"].as_array().unwrap();
            assert_eq!(vars.len(), expected.len(), "{what}");
            for (v, g) in vars.iter().zip(expected) {
                let ours = store
                    .get(v)
                    .unwrap_or_else(|| panic!("{what}: no gradient"));
                worst = worst.max(difference(&values(ours), &numbers(g)));
            }
            if worst > tolerance(dtype) {
                wrong.push(format!(
                    "{what}: value off by {value:.1e}, worst {worst:.1e}"
                ));
            }
        }
    }
    assert!(done > 500, "{done}");
    assert!(
        wrong.is_empty(),
        "{} of {done}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
