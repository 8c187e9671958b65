//! Builders for tests: one that fills every parameter by the formula of `fixtures/backbones/make.py`,
//! one that only writes down names and shapes.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

pub fn fixture(name: &str) -> String {
    format!(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/backbones/{}"),
        name
    )
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

pub fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

pub fn dims(value: &serde_json::Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect()
}

/// `n` numbers in [0, 1), the same as `uniform` in make.py.
pub fn uniform(name: &str, n: usize) -> Vec<f64> {
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

/// The same as `value` in make.py.
pub fn value(name: &str, shape: &[usize]) -> Vec<f64> {
    let n = shape.iter().product();
    let fan_in = shape.iter().skip(1).product::<usize>() as f64;
    let u = uniform(name, n).into_iter();
    if name == "features.weight" {
        vec![1.; n]
    } else if name.ends_with("running_var") {
        u.map(|u| 0.5 + u).collect()
    } else if name.ends_with("running_mean") || name.ends_with("bias") {
        u.map(|u| (u - 0.5) * 0.2).collect()
    } else if shape.len() == 1 {
        u.map(|u| 0.25 + 0.5 * u).collect()
    } else {
        u.map(|u| (u - 0.5) * 2. * (3. / fan_in).sqrt()).collect()
    }
}

pub fn tensor(values: Vec<f64>, shape: &[usize], dtype: DType) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

/// Input images in [-1, 1).
pub fn images(shape: &[usize], dtype: DType) -> Tensor {
    tensor(
        uniform("input", shape.iter().product())
            .into_iter()
            .map(|u| u * 2. - 1.)
            .collect(),
        shape,
        dtype,
    )
}

pub type Vars = Arc<Mutex<BTreeMap<String, Var>>>;

struct Filled(Vars);

impl SimpleBackend for Filled {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        let mut vars = self.0.lock().unwrap();
        let var = Var::from_tensor(&tensor(value(name, s.dims()), s.dims(), dtype))?;
        Ok(vars
            .entry(name.to_owned())
            .or_insert(var)
            .as_tensor()
            .clone())
    }
    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle::bail!("{name}: no shape")
    }
    fn contains_tensor(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains_key(name)
    }
}

/// A builder whose parameters follow the formula, and the variables it will have made.
pub fn filled(dtype: DType) -> (VarBuilder<'static>, Vars) {
    let vars = Vars::default();
    (
        VarBuilder::from_backend(Box::new(Filled(vars.clone())), dtype, Device::Cpu),
        vars,
    )
}

/// Trainable variables: everything but running statistics.
pub fn trainable(vars: &Vars) -> Vec<(String, Var)> {
    let vars = vars.lock().unwrap();
    vars.iter()
        .filter(|(k, _)| !k.contains("running_"))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

pub type Entries = Arc<Mutex<BTreeMap<String, Vec<usize>>>>;

struct Recorder(Entries);

impl SimpleBackend for Recorder {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let before = self
            .0
            .lock()
            .unwrap()
            .insert(name.to_owned(), s.dims().to_vec());
        assert!(before.is_none(), "{name} is asked for twice");
        // One number seen through strides of 0: networks of 65 million parameters cost nothing.
        Tensor::zeros((), dtype, dev)?.broadcast_as(s)
    }
    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle::bail!("{name}: no shape")
    }
    fn contains_tensor(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains_key(name)
    }
}

/// A builder that only records what is asked for.
pub fn recorder() -> (VarBuilder<'static>, Entries) {
    let entries = Entries::default();
    (
        VarBuilder::from_backend(Box::new(Recorder(entries.clone())), DType::F32, Device::Cpu),
        entries,
    )
}

/// Asserts that two lists agree to `tolerance` times the largest expected magnitude.
pub fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * scale,
            "{what}[{i}]: got {g}, expected {w}"
        );
    }
}

pub fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}
