//! Heads from a name and a JSON configuration.

#![allow(
    clippy::needless_update,
    reason = "the macro serves configurations with more fields too"
)]

use candle::{Result, Tensor};
use phiz_losses::*;
use serde_json::Value;

pub struct Options<'a>(pub &'a Value);

impl Options<'_> {
    pub fn number(&self, name: &str, default: f64) -> f64 {
        self.0[name].as_f64().unwrap_or(default)
    }

    fn whole(&self, name: &str, default: usize) -> usize {
        self.0[name].as_u64().map_or(default, |v| v as usize)
    }

    fn gradient(&self, default: ArcGradient) -> ArcGradient {
        match self.0["gradient"].as_str() {
            Some("exact") => ArcGradient::Exact,
            Some("straight-through") => ArcGradient::StraightThrough,
            _ => default,
        }
    }
}

/// The head `name` over the weight `w`; what the configuration does not say is the default.
pub fn head(
    name: &str,
    w: &Tensor,
    bias: Option<&Tensor>,
    config: &Value,
) -> Result<Option<Box<dyn Head>>> {
    let o = Options(config);
    let w = w.clone();
    macro_rules! simple {
        ($head:ident, $config:ident { $($field:ident),* }) => {{
            let d = $config::default();
            Box::new($head::from_weight(w, $config { $($field: o.number(stringify!($field), d.$field),)* ..d })?)
        }};
    }
    Ok(Some(match name {
        "arcface" => {
            let d = ArcFaceConfig::default();
            let config = ArcFaceConfig {
                scale: o.number("scale", d.scale),
                margin: o.number("margin", d.margin),
                gradient: o.gradient(d.gradient),
                past_pi: match config["past_pi"].as_str() {
                    Some("easy") => PastPi::Easy,
                    _ => PastPi::Monotone,
                },
            };
            Box::new(ArcFace::from_weight(w, config)?)
        }
        "cosface" => {
            let d = CosFaceConfig::default();
            let config = CosFaceConfig {
                scale: o.number("scale", d.scale),
                margin: o.number("margin", d.margin),
            };
            Box::new(CosFace::from_weight(w, config)?)
        }
        "combined-margin" => {
            let d = CombinedMarginConfig::default();
            let config = CombinedMarginConfig {
                scale: o.number("scale", d.scale),
                angular: o.number("angular", d.angular),
                additive: o.number("additive", d.additive),
                filter: config["filter"].as_f64(),
                ..d
            };
            Box::new(CombinedMargin::from_weight(w, config)?)
        }
        "sphereface" => {
            let config = SphereFaceConfig {
                scale: o.number("scale", 1.0),
                margin: o.whole("margin", 4) as u32,
            };
            Box::new(SphereFace::from_weight(w, config)?)
        }
        "large-margin-softmax" => {
            let config = LargeMarginSoftmaxConfig {
                scale: o.number("scale", 1.0),
                margin: o.whole("margin", 4) as u32,
            };
            Box::new(LargeMarginSoftmax::from_weight(w, config)?)
        }
        "subcenter-arcface" => {
            let d = SubCenterArcFaceConfig::default();
            let config = SubCenterArcFaceConfig {
                scale: o.number("scale", d.scale),
                margin: o.number("margin", d.margin),
                centers: o.whole("centers", 1),
                ..d
            };
            Box::new(SubCenterArcFace::from_weight(w, config)?)
        }
        "dynamic-arcface" => {
            let counts: Vec<u64> = serde_json::from_value(config["counts"].clone()).unwrap();
            let config = DynamicArcFaceConfig {
                centers: o.whole("centers", 1),
                ..Default::default()
            };
            Box::new(DynamicArcFace::from_weight(w, &counts, config)?)
        }
        "normalized-softmax" => {
            let config = NormalizedSoftmaxConfig {
                temperature: o.number("temperature", 0.05),
                normalize: config["normalize"].as_bool().unwrap_or(true),
            };
            Box::new(NormalizedSoftmax::from_weight(w, config)?)
        }
        "proxy-nca" => simple!(ProxyNca, ProxyNcaConfig { scale }),
        "proxy-anchor" => simple!(ProxyAnchor, ProxyAnchorConfig { margin, scale }),
        "soft-triple" => {
            let d = SoftTripleConfig::default();
            let config = SoftTripleConfig {
                scale: o.number("scale", d.scale),
                softness: o.number("softness", d.softness),
                margin: o.number("margin", d.margin),
                centers: o.whole("centers", 1),
            };
            Box::new(SoftTriple::from_weight(w, config)?)
        }
        "p2s-grad" => Box::new(P2sGrad::from_weight(w, P2sGradConfig {})?),
        "adaface" => simple!(
            AdaFace,
            AdaFaceConfig {
                scale,
                margin,
                concentration,
                momentum
            }
        ),
        "magface" => {
            let mut c = MagFaceConfig::default();
            if let Some([low, high]) = config["norms"].as_array().map(Vec::as_slice) {
                c.norms = (low.as_f64().unwrap(), high.as_f64().unwrap());
            }
            Box::new(MagFace::from_weight(w, c)?)
        }
        "elasticface" => simple!(
            ElasticFace,
            ElasticFaceConfig {
                scale,
                margin,
                deviation
            }
        ),
        "curricularface" => simple!(
            CurricularFace,
            CurricularFaceConfig {
                scale,
                margin,
                momentum
            }
        ),
        "mv-softmax" => {
            let kind = match config["kind"].as_str() {
                Some("angular") => MvMargin::Angular,
                _ => MvMargin::Additive,
            };
            Box::new(MvSoftmax::from_weight(
                w,
                MvSoftmaxConfig {
                    kind,
                    ..Default::default()
                },
            )?)
        }
        "arc-negative-face" => simple!(ArcNegativeFace, ArcNegativeFaceConfig { scale, margin }),
        "circle-head" => simple!(CircleHead, CircleHeadConfig { scale, margin }),
        "sphereface2" => {
            let d = SphereFace2Config::default();
            let config = SphereFace2Config {
                scale: o.number("scale", d.scale),
                power: o.whole("power", 3) as u32,
                gradient: o.gradient(d.gradient),
                ..d
            };
            let head = SphereFace2::from_weight(w, config)?;
            match bias {
                Some(bias) => Box::new(head.with_bias(bias.clone())?),
                None => Box::new(head),
            }
        }
        "uniface" => {
            let d = UniFaceConfig::default();
            let config = UniFaceConfig {
                scale: o.number("scale", d.scale),
                negatives: o.number("negatives", d.negatives),
                ..d
            };
            let head = UniFace::from_weight(w, config)?;
            match bias {
                Some(bias) => Box::new(head.with_bias(bias.clone())?),
                None => Box::new(head),
            }
        }
        _ => return Ok(None),
    }))
}

/// Every head with defaults that make its gradient sizeable, two vectors for each class where it has several.
pub fn all(w: &dyn Fn(usize) -> Tensor) -> Vec<(&'static str, Box<dyn Head>)> {
    let mut heads: Vec<(&'static str, Box<dyn Head>)> = HEAD_NAMES
        .into_iter()
        .map(|name| {
            let centers = if matches!(name, "subcenter-arcface" | "soft-triple") {
                2
            } else {
                1
            };
            let config = serde_json::json!({"scale": 8.0, "centers": centers});
            (
                name,
                head(name, &w(centers), None, &config).unwrap().unwrap(),
            )
        })
        .collect();
    let classes = w(1).dim(0).unwrap();
    let counts: Vec<u64> = (1..=classes as u64).collect();
    let config = serde_json::json!({"counts": counts, "centers": 2});
    heads.push((
        "dynamic-arcface",
        head("dynamic-arcface", &w(2), None, &config)
            .unwrap()
            .unwrap(),
    ));
    heads
}
