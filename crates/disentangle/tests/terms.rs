//! Identities that hold between the terms, and bounds that hold for every input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Tensor, Var};
use phiz_disentangle::*;
use proptest::prelude::*;

fn logits(values: &[f64], classes: usize) -> Tensor {
    Tensor::from_slice(values, (values.len() / classes, classes), &Device::Cpu).unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

proptest! {
    /// Balanced labels: CLUB is the uniform-target loss less the cross-entropy.
    #[test]
    fn club_of_balanced_labels(values in prop::collection::vec(-9f64..9., 2 * 4 * 4)) {
        let z = logits(&values, 4);
        let codes = Tensor::new(&[0u32, 1, 2, 3, 3, 2, 1, 0], &Device::Cpu).unwrap();
        let club = scalar(&club_categorical(&z, &codes).unwrap());
        let uniform = scalar(&target_cross_entropy(&z, &[0.25; 4]).unwrap());
        let entropy = scalar(&phiz_kernels::cross_entropy(&z, &codes, 0.).unwrap());
        prop_assert!((club - (uniform - entropy)).abs() < 1e-10);
    }

    /// The uniform target is at least log K, the entropy term at least -log K and at most 0.
    #[test]
    fn bounds(values in prop::collection::vec(-40f64..40., 12)) {
        let z = logits(&values, 3);
        let uniform = scalar(&target_cross_entropy(&z, &[1. / 3.; 3]).unwrap());
        prop_assert!(uniform >= 3f64.ln() - 1e-12);
        let entropy = scalar(&negative_entropy(&z).unwrap());
        prop_assert!((-3f64.ln() - 1e-12..=1e-12).contains(&entropy));
        let binary = scalar(&negative_binary_entropy(&z).unwrap());
        prop_assert!((-2f64.ln() - 1e-12..=1e-12).contains(&binary));
    }

    /// Reversal is the identity to the bit, and flips exactly.
    #[test]
    fn reversal(values in prop::collection::vec(-1e6f32..1e6, 1..20), strength in 0f64..3.) {
        let x = Var::from_vec(values.clone(), values.len(), &Device::Cpu).unwrap();
        let y = reverse_gradient(&x, strength).unwrap();
        prop_assert_eq!(y.to_vec1::<f32>().unwrap(), values);
        let through = (y.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap();
        let flipped = through.backward().unwrap().get(&x).unwrap().to_vec1::<f32>().unwrap();
        let plain = (x.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap();
        let gradient = plain.backward().unwrap().get(&x).unwrap().affine(-strength, 0.).unwrap();
        prop_assert_eq!(flipped, gradient.to_vec1::<f32>().unwrap());
    }

    /// An estimator that ignores its input knows nothing.
    #[test]
    fn constant_estimators_know_nothing(row in prop::collection::vec(-3f64..3., 4)) {
        let z = logits(&[row.clone(), row.clone(), row.clone()].concat(), 4);
        let codes = Tensor::new(&[0u32, 0, 3], &Device::Cpu).unwrap();
        prop_assert!(scalar(&club_categorical(&z, &codes).unwrap()).abs() < 1e-12);
        let x = Tensor::new(&[[0.3f64, -2.], [1., 0.5], [-4., 2.]], &Device::Cpu).unwrap();
        prop_assert!(scalar(&club_gaussian(&z, &x).unwrap()).abs() < 1e-9);
    }
}

#[test]
fn ssim_of_equal_images_is_one() {
    let x = Tensor::rand(-1f32, 1., (2, 3, 16, 12), &Device::Cpu).unwrap();
    assert!((scalar(&ssim(&x, &x).unwrap()) - 1.).abs() < 1e-5);
    let other = Tensor::rand(-1f32, 1., (2, 3, 16, 12), &Device::Cpu).unwrap();
    assert!(scalar(&ssim(&x, &other).unwrap()) < 0.5);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let error = |r: candle::Result<Factor>| r.unwrap_err().to_string();
    assert!(error(Factor::categorical("light", &[2, 2, 2])).contains("`light` has one value (2)"));
    assert!(error(Factor::categorical("light", &[])).contains("no training labels"));
    assert!(
        error(Factor::multi_label("hat", &[true, true], 1))
            .contains("`hat`: attribute 0 never varies")
    );
    assert!(error(Factor::multi_label("hat", &[true; 3], 2)).contains("no rows of 2"));
    let light = Factor::categorical("light", &[0, 1]).unwrap();
    let codes = FactorValues::Categorical(Tensor::new(&[0u32, 2], &Device::Cpu).unwrap());
    let found = light.code(&codes, DType::F32).unwrap_err().to_string();
    assert!(
        found.contains("light: label 2 of sample 1; expected below 2"),
        "{found}"
    );
    let other = FactorValues::Continuous(Tensor::zeros((2, 1), DType::F32, &Device::Cpu).unwrap());
    assert!(
        light
            .code(&other, DType::F32)
            .unwrap_err()
            .to_string()
            .contains("`light`")
    );
    let z = Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
    for shares in [&[0.5][..], &[0.5, f64::NAN], &[1.5, -0.5]] {
        assert!(target_cross_entropy(&z, shares).is_err());
    }
    assert!(mine(&z.narrow(0, 0, 0).unwrap(), &z).is_err());
    let small = Tensor::zeros((1, 1, 8, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(
        ssim(&small, &small)
            .unwrap_err()
            .to_string()
            .contains("11 x 11")
    );
}

#[test]
fn unbalanced_labels_ask_for_the_prior() {
    assert!(
        !Factor::categorical("light", &[0, 1, 0, 1])
            .unwrap()
            .unbalanced()
    );
    assert!(
        Factor::categorical("light", &[0, 0, 0, 0, 1])
            .unwrap()
            .unbalanced()
    );
    assert!(
        !Factor::multi_label("hat", &[true, false], 1)
            .unwrap()
            .unbalanced()
    );
}
