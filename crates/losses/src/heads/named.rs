//! Heads by their names.

use candle::{Result, bail};
use candle_nn::VarBuilder;

use super::{
    AdaFace, ArcFace, ArcNegativeFace, CircleHead, CombinedMargin, CosFace, CurricularFace,
    ElasticFace, Head, LargeMarginSoftmax, MagFace, MvSoftmax, NormalizedSoftmax, P2sGrad,
    ProxyAnchor, ProxyNca, SoftTriple, SphereFace, SphereFace2, SubCenterArcFace, UniFace,
};

/// The names [`head_by_name`] knows.
pub const HEAD_NAMES: [&str; 20] = [
    "adaface",
    "arcface",
    "arc-negative-face",
    "circle-head",
    "combined-margin",
    "cosface",
    "curricularface",
    "elasticface",
    "large-margin-softmax",
    "magface",
    "mv-softmax",
    "normalized-softmax",
    "p2s-grad",
    "proxy-anchor",
    "proxy-nca",
    "soft-triple",
    "sphereface",
    "sphereface2",
    "subcenter-arcface",
    "uniface",
];

/// The head of a name with its default configuration, for programs that choose by name.
///
/// [`DynamicArcFace`](crate::DynamicArcFace) needs the counts of the classes and is not among them.
///
/// # Errors
/// When the name is unknown (the message lists those that are known), or `vb` holds a weight of another shape.
pub fn head_by_name(
    name: &str,
    dim: usize,
    classes: usize,
    vb: VarBuilder,
) -> Result<Box<dyn Head>> {
    macro_rules! choose {
        ($($known:literal => $head:ident),* $(,)?) => {
            match name {
                $($known => Box::new($head::new(dim, classes, Default::default(), vb)?),)*
                _ => bail!("no head is called {name}; known are {}", HEAD_NAMES.join(", ")),
            }
        };
    }
    Ok(choose! {
        "adaface" => AdaFace,
        "arcface" => ArcFace,
        "arc-negative-face" => ArcNegativeFace,
        "circle-head" => CircleHead,
        "combined-margin" => CombinedMargin,
        "cosface" => CosFace,
        "curricularface" => CurricularFace,
        "elasticface" => ElasticFace,
        "large-margin-softmax" => LargeMarginSoftmax,
        "magface" => MagFace,
        "mv-softmax" => MvSoftmax,
        "normalized-softmax" => NormalizedSoftmax,
        "p2s-grad" => P2sGrad,
        "proxy-anchor" => ProxyAnchor,
        "proxy-nca" => ProxyNca,
        "soft-triple" => SoftTriple,
        "sphereface" => SphereFace,
        "sphereface2" => SphereFace2,
        "subcenter-arcface" => SubCenterArcFace,
        "uniface" => UniFace,
    })
}
