//! Names, shapes, parameter counts and cost against the PyTorch statement and published figures.
//! The published costs are rounded, and count norms and activations as well.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use candle_nn::VarBuilder;
use common::{dims, json, recorder};
use phiz_backbones::{
    ExpressionNet, ExpressionNetConfig, IResNetConfig, MobileFaceNetConfig, iresnet18, iresnet34,
    iresnet50, iresnet100, mobilefacenet,
};

/// Builds, and compares every name and shape with the entry of `parameters.json`.
fn check(
    name: &str,
    published: usize,
    published_gmac: f64,
    build: impl Fn(VarBuilder) -> candle::Result<u64>,
) {
    let want = &json("parameters.json")[name];
    let (vb, entries) = recorder();
    let cost = build(vb).unwrap();
    let mut got = entries.lock().unwrap().clone();
    // The scale that is fixed at 1 stands in PyTorch's list; whether ours asks for it is its own matter.
    if name.starts_with("iresnet") {
        got.entry("features.weight".into())
            .or_insert_with(|| vec![512]);
    }
    let want_entries = want["entries"].as_object().unwrap();
    for (name, shape) in want_entries {
        assert_eq!(got.get(name), Some(&dims(shape)), "{name}");
    }
    let extra = got
        .keys()
        .filter(|k| !want_entries.contains_key(*k))
        .collect::<Vec<_>>();
    assert!(extra.is_empty(), "not in PyTorch's state dict: {extra:?}");
    let parameters = got
        .iter()
        .filter(|(k, _)| !k.contains("running_"))
        .map(|(_, s)| s.iter().product::<usize>());
    let count = parameters.sum::<usize>();
    assert_eq!(count as u64, want["count"].as_u64().unwrap());
    assert_eq!(count, published);
    assert_eq!(cost, want["macs"].as_u64().unwrap());
    let gmac = cost as f64 / 1e9;
    assert!(
        (gmac - published_gmac).abs() <= 0.05,
        "{name}: {gmac} GMAC, published {published_gmac}"
    );
}

#[test]
fn iresnet_lists_counts_and_cost() {
    let cfg = IResNetConfig::default();
    check("iresnet18", 24_025_600, 2.6, |vb| {
        Ok(iresnet18(cfg, vb)?.macs())
    });
    check("iresnet34", 34_139_328, 4.5, |vb| {
        Ok(iresnet34(cfg, vb)?.macs())
    });
    check("iresnet50", 43_590_848, 6.3, |vb| {
        Ok(iresnet50(cfg, vb)?.macs())
    });
    check("iresnet100", 65_156_160, 12.1, |vb| {
        Ok(iresnet100(cfg, vb)?.macs())
    });
}

#[test]
fn mobilefacenet_lists_counts_and_cost() {
    let cfg = MobileFaceNetConfig::default();
    check("mobilefacenet", 2_059_520, 0.45, |vb| {
        Ok(mobilefacenet(cfg, vb)?.macs())
    });
    let large = MobileFaceNetConfig::large();
    check("mobilefacenet_large", 6_314_880, 1.8, |vb| {
        Ok(mobilefacenet(large, vb)?.macs())
    });
}

#[test]
fn expression_net_stays_cheap() {
    let macs = |width| {
        let (vb, _) = recorder();
        ExpressionNet::new(
            ExpressionNetConfig {
                width,
                ..Default::default()
            },
            vb,
        )
        .unwrap()
        .macs()
    };
    assert!((20_000_000..30_000_000).contains(&macs(1.)), "{}", macs(1.));
    assert!(
        macs(0.5) * 3 < macs(1.),
        "{} against {}",
        macs(0.5),
        macs(1.)
    );
}

#[test]
fn impossible_shapes_are_refused() {
    let message = |r: candle::Result<u64>| r.unwrap_err().to_string();
    let resnet = |c| message(iresnet18(c, recorder().0).map(|n| n.macs()));
    assert!(
        resnet(IResNetConfig {
            image_size: 100,
            ..Default::default()
        })
        .contains("100")
    );
    assert!(
        resnet(IResNetConfig {
            image_size: 0,
            ..Default::default()
        })
        .contains("multiple of 16")
    );
    assert!(
        resnet(IResNetConfig {
            base_channels: 0,
            ..Default::default()
        })
        .contains("positive")
    );
    assert!(
        resnet(IResNetConfig {
            dropout: 1.,
            ..Default::default()
        })
        .contains("dropout 1")
    );
    let mobile = |c| message(mobilefacenet(c, recorder().0).map(|n| n.macs()));
    assert!(
        mobile(MobileFaceNetConfig {
            image_size: 40,
            ..Default::default()
        })
        .contains("40")
    );
    assert!(
        mobile(MobileFaceNetConfig {
            blocks: [1, 0, 1, 1],
            ..Default::default()
        })
        .contains("positive")
    );
    let expression = |c| message(ExpressionNet::new(c, recorder().0).map(|n| n.macs()));
    assert!(
        expression(ExpressionNetConfig {
            image_size: 60,
            ..Default::default()
        })
        .contains("60")
    );
    assert!(
        expression(ExpressionNetConfig {
            grid: 3,
            ..Default::default()
        })
        .contains("3 x 3 cells")
    );
    assert!(
        expression(ExpressionNetConfig {
            classes: 0,
            ..Default::default()
        })
        .contains("classes (0)")
    );
    assert!(
        expression(ExpressionNetConfig {
            width: f64::NAN,
            ..Default::default()
        })
        .contains("NaN")
    );
}
