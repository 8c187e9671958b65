//! Losses and miners by name, with their hyper-parameters: what the `[loss]` section of a recipe can hold.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use phiz_losses::{Batch, Head, MetricLoss};
use phiz_mining::{Comparison, Draw, Measure, Mined, Miner};

use crate::overlay::nearest;
use crate::plain::{PLAIN, Place, Plain};
use crate::{Error, Result};

/// Hyper-parameters by name.
pub(crate) type Settings = BTreeMap<String, f64>;

/// The name that stands for no loss and for no miner.
pub(crate) const NONE: &str = "none";

/// A number of a configuration, which a recipe holds as a float.
pub(crate) trait Number: Sized {
    fn number(self) -> f64;
    fn of(value: f64) -> Option<Self>;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
    fn of(value: f64) -> Option<Self> {
        value.is_finite().then_some(value)
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
    fn of(value: f64) -> Option<Self> {
        ((0.0..1e9).contains(&value) && value.fract() == 0.0).then_some(value as usize)
    }
}

impl Number for u32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
    fn of(value: f64) -> Option<Self> {
        ((0.0..1e9).contains(&value) && value.fract() == 0.0).then_some(value as u32)
    }
}

/// The value of a setting, which is there because settings are complete.
pub(crate) fn read<T: Number>(settings: &Settings, key: &str) -> Result<T> {
    let value = settings.get(key).copied().unwrap_or(f64::NAN);
    T::of(value).ok_or_else(|| {
        Error::config(format!(
            "setting `{key}` of a loss or miner is {value}; expected a finite number, whole where it counts something"
        ))
    })
}

type Build<T> = fn(&Settings) -> Result<Box<T>>;

/// Something that has a name and settings.
struct Entry<T: ?Sized> {
    name: &'static str,
    defaults: fn() -> Settings,
    build: Build<T>,
}

/// Entries of a table of things with a name: name, type (built from its `Default`), and the fields that are settings.
macro_rules! entries {
    ($dyn:ty; $($name:literal => $kind:path [$($field:ident),*] $({$($fixed:ident: $value:expr),*})?),* $(,)?) => {
        &[$(Entry::<$dyn> {
            name: $name,
            #[allow(unused_variables, reason = "some have no settings")]
            defaults: || {
                let start = <$kind>::default();
                BTreeMap::from([$((stringify!($field).to_string(), Number::number(start.$field))),*])
            },
            #[allow(unused_variables, reason = "some have no settings")]
            build: |settings| {
                #[allow(unused_mut, reason = "some have no settings")]
                let mut made = <$kind>::default();
                $(made.$field = read(settings, stringify!($field))?;)*
                $($(made.$fixed = $value;)*)?
                Ok(Box::new(made))
            },
        }),*]
    };
}

/// Losses over all pairs or triplets of a batch, or over those of a miner.
const LOSSES: &[Entry<dyn MetricLoss>] = entries! { dyn MetricLoss;
    "angular" => phiz_losses::Angular [alpha],
    "circle" => phiz_losses::Circle [m, gamma],
    "contrastive" => phiz_losses::Contrastive [pos_margin, neg_margin],
    "dcl" => phiz_losses::Dcl [temperature],
    "dclw" => phiz_losses::Dcl [temperature] { sigma: phiz_losses::Dcl::weighted().sigma },
    "fast-ap" => phiz_losses::FastAp [num_bins],
    "generalized-lifted-structure" => phiz_losses::GeneralizedLiftedStructure [neg_margin, pos_margin],
    "histogram" => phiz_losses::Histogram [n_bins],
    "intra-pair-variance" => phiz_losses::IntraPairVariance [pos_eps, neg_eps],
    "lifted-structure" => phiz_losses::LiftedStructure [neg_margin, pos_margin],
    "margin" => phiz_losses::Margin [margin, beta],
    "multi-similarity" => phiz_losses::MultiSimilarity [alpha, beta, base],
    "nca" => phiz_losses::Nca [softmax_scale],
    "nt-xent" => phiz_losses::NtXent [temperature],
    "pnp" => phiz_losses::Pnp [anneal],
    "ranked-list" => phiz_losses::RankedList [margin, tn, tp, imbalance],
    "selectively-contrastive" => phiz_losses::SelectivelyContrastive [temperature, hard_weight],
    "smooth-ap" => phiz_losses::SmoothAp [temperature],
    "snr-contrastive" => phiz_losses::Contrastive [pos_margin, neg_margin] { measure: Measure::SNR },
    "sup-con" => phiz_losses::SupCon [temperature],
    "threshold-consistent-margin" => phiz_losses::ThresholdConsistentMargin [
        lambda_plus, lambda_minus, margin_plus, margin_minus
    ],
    "triplet-batch-hard" => phiz_losses::TripletMargin [margin] { select: phiz_losses::Select::BatchHard },
    "triplet-hard" => phiz_losses::TripletMargin [margin] { select: phiz_losses::Select::Hard },
    "triplet-margin" => phiz_losses::TripletMargin [margin],
    "triplet-semi-hard" => phiz_losses::TripletMargin [margin] { select: phiz_losses::Select::SemiHard },
    "triplet-smooth" => phiz_losses::TripletMargin [margin] { smooth: true },
    "triplet-swap" => phiz_losses::TripletMargin [margin] { swap: true },
    "tuplet-margin" => phiz_losses::TupletMargin [margin, scale],
};

/// Losses that choose tuples themselves or rank a whole batch, and take no miner.
const WITHOUT_MINER: &[&str] = &[
    "pnp",
    "smooth-ap",
    "triplet-batch-hard",
    "triplet-hard",
    "triplet-semi-hard",
];

type BuildHead = fn(&Settings, usize, usize, VarBuilder) -> Result<Box<dyn Head>>;

/// A loss with class weights of its own.
struct HeadEntry {
    name: &'static str,
    defaults: fn() -> Settings,
    build: BuildHead,
}

/// Entries of heads: name, type, type of its configuration, and the fields that are settings.
macro_rules! heads {
    ($($name:literal => $head:ident, $config:ident [$($field:ident),*]),* $(,)?) => {
        &[$(HeadEntry {
            name: $name,
            #[allow(unused_variables, reason = "some have no settings")]
            defaults: || {
                let start = phiz_losses::$config::default();
                BTreeMap::from([$((stringify!($field).to_string(), Number::number(start.$field))),*])
            },
            #[allow(unused_variables, reason = "some have no settings")]
            build: |settings, dim, classes, vb| {
                #[allow(unused_mut, reason = "some have no settings")]
                let mut config = phiz_losses::$config::default();
                $(config.$field = read(settings, stringify!($field))?;)*
                Ok(Box::new(phiz_losses::$head::new(dim, classes, config, vb)?))
            },
        }),*]
    };
}

/// Losses that compare with learned vectors of the classes trained on.
const HEADS: &[HeadEntry] = heads! {
    "adaface" => AdaFace, AdaFaceConfig [scale, margin, concentration, momentum],
    "arc-negative-face" => ArcNegativeFace, ArcNegativeFaceConfig [scale, margin, height, width],
    "arcface" => ArcFace, ArcFaceConfig [scale, margin],
    "circle-head" => CircleHead, CircleHeadConfig [scale, margin],
    "combined-margin" => CombinedMargin, CombinedMarginConfig [scale, angular, additive],
    "cosface" => CosFace, CosFaceConfig [scale, margin],
    "curricularface" => CurricularFace, CurricularFaceConfig [scale, margin, momentum],
    "elasticface" => ElasticFace, ElasticFaceConfig [scale, margin, deviation],
    "large-margin-softmax" => LargeMarginSoftmax, LargeMarginSoftmaxConfig [scale, margin],
    "magface" => MagFace, MagFaceConfig [scale, pull],
    "mv-softmax" => MvSoftmax, MvSoftmaxConfig [scale, margin, emphasis],
    "normalized-softmax" => NormalizedSoftmax, NormalizedSoftmaxConfig [temperature],
    "p2s-grad" => P2sGrad, P2sGradConfig [],
    "proxy-anchor" => ProxyAnchor, ProxyAnchorConfig [margin, scale],
    "proxy-nca" => ProxyNca, ProxyNcaConfig [scale],
    "soft-triple" => SoftTriple, SoftTripleConfig [scale, softness, margin, centers],
    "sphereface" => SphereFace, SphereFaceConfig [scale, margin],
    "sphereface2" => SphereFace2, SphereFace2Config [scale, margin, balance, power],
    "subcenter-arcface" => SubCenterArcFace, SubCenterArcFaceConfig [scale, margin, centers],
    "uniface" => UniFace, UniFaceConfig [scale, margin, negatives, lift],
};

const MINERS: &[Entry<dyn Miner>] = entries! { dyn Miner;
    "angular" => phiz_mining::AngularMiner [angle],
    "batch-easy-hard" => phiz_mining::BatchEasyHardMiner [],
    "batch-hard" => phiz_mining::BatchHardMiner [],
    "distance-weighted" => phiz_mining::DistanceWeightedMiner [cutoff, loss_cutoff],
    "hdc" => phiz_mining::HdcMiner [share],
    "multi-similarity" => phiz_mining::MultiSimilarityMiner [epsilon],
    "pair-margin" => phiz_mining::PairMarginMiner [positive_margin, negative_margin],
    "semi-hard" => phiz_mining::TripletMarginMiner [margin] { kind: phiz_mining::TripletKind::SemiHard },
    "triplet-margin" => phiz_mining::TripletMarginMiner [margin],
    "uniform-histogram" => phiz_mining::UniformHistogramMiner [bins, positive_per_bin, negative_per_bin],
};

/// The place of a name in a list of names.
fn find(what: &str, name: &str, names: &[&'static str]) -> Result<usize> {
    names
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| {
            let known: Vec<&str> = std::iter::once(NONE).chain(names.iter().copied()).collect();
            let hint = nearest(name, known.iter().copied())
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            Error::config(format!(
                "unknown {what} `{name}`{hint}; there are: {}",
                known.join(", ")
            ))
        })
}

/// Names of all losses (over tuples, then with class weights, then those that take no miner), and of all miners that a recipe can
/// hold.
///
/// A recipe cannot choose losses of things it has no place for: `MultiSupCon` (label sets), `VicReg` (two views) and
/// `DynamicArcFace` (counts of the classes). Tuplet losses are chosen by `objective.metric`.
pub fn loss_and_miner_names() -> (Vec<&'static str>, Vec<&'static str>) {
    let losses = LOSSES.iter().map(|entry| entry.name);
    let losses = losses.chain(HEADS.iter().map(|entry| entry.name));
    (
        losses.chain(PLAIN.iter().map(|entry| entry.name)).collect(),
        MINERS.iter().map(|entry| entry.name).collect(),
    )
}

/// Where a loss stands.
enum Which {
    Tuples(usize),
    Classes(usize),
    Plain(usize),
}

impl Which {
    fn of(name: &str) -> Result<Self> {
        let at = find("loss", name, &loss_and_miner_names().0)?;
        Ok(match at.checked_sub(LOSSES.len()) {
            None => Which::Tuples(at),
            Some(at) => match at.checked_sub(HEADS.len()) {
                None => Which::Classes(at),
                Some(at) => Which::Plain(at),
            },
        })
    }
}

/// Every setting of a loss with its default; nothing for [`NONE`].
pub(crate) fn loss_settings(name: &str) -> Result<Settings> {
    if name == NONE {
        return Ok(Settings::new());
    }
    Ok(match Which::of(name)? {
        Which::Tuples(at) => (LOSSES[at].defaults)(),
        Which::Classes(at) => (HEADS[at].defaults)(),
        Which::Plain(at) => PLAIN[at]
            .defaults
            .iter()
            .map(|&(key, value)| (key.to_string(), value))
            .collect(),
    })
}

/// Every setting of a miner with its default; nothing for [`NONE`].
pub(crate) fn miner_settings(name: &str) -> Result<Settings> {
    if name == NONE {
        return Ok(Settings::new());
    }
    Ok((MINERS[find("miner", name, &loss_and_miner_names().1)?].defaults)())
}

/// Whether a loss and its miner can be built: names, settings, and what the loss itself says of them.
pub(crate) fn check(config: &crate::config::LossConfig) -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    Chosen::new(config, 2, 2, &vb).map(|_| ())
}

enum Kind {
    Tuples(Box<dyn MetricLoss>),
    Classes(Box<dyn Head>),
    Plain(Box<dyn Plain>),
}

/// A loss chosen by name, with the miner that goes before it.
pub(crate) struct Chosen {
    loss: Kind,
    miner: Option<Box<dyn Miner>>,
    measure: Measure,
}

impl Chosen {
    /// The loss and miner of a recipe; nothing where it names none.
    pub fn new(
        config: &crate::config::LossConfig,
        dim: usize,
        classes: usize,
        vb: &VarBuilder,
    ) -> Result<Option<Chosen>> {
        if config.name == NONE {
            return Ok(None);
        }
        let loss = match Which::of(&config.name)? {
            Which::Tuples(at) => Kind::Tuples((LOSSES[at].build)(&config.settings)?),
            Which::Classes(at) => Kind::Classes((HEADS[at].build)(
                &config.settings,
                dim,
                classes,
                vb.clone(),
            )?),
            Which::Plain(at) => {
                let place = Place {
                    dim,
                    classes,
                    vb: vb.clone(),
                };
                Kind::Plain((PLAIN[at].build)(&config.settings, place)?)
            }
        };
        let whole = matches!(loss, Kind::Plain(_)) || WITHOUT_MINER.contains(&config.name.as_str());
        let miner = if config.miner == NONE {
            None
        } else if whole {
            return Err(Error::config(format!(
                "loss `{}` looks at whole batches and takes no miner; expected `loss.miner` \"none\", not \"{}\"",
                config.name, config.miner
            )));
        } else {
            let at = find("miner", &config.miner, &loss_and_miner_names().1)?;
            Some((MINERS[at].build)(&config.mining)?)
        };
        // The miner of the multi-similarity loss is defined on cosines, the others on distances of unit vectors.
        let measure = match config.miner.as_str() {
            "multi-similarity" => Measure::COSINE,
            _ => Measure::L2,
        };
        Ok(Some(Chosen {
            loss,
            miner,
            measure,
        }))
    }

    /// The loss of a batch, and how many tuples a miner gave it; `targets` are the labels as a tensor.
    ///
    /// A loss with class weights takes from a miner how much each item counts.
    pub fn loss(
        &self,
        embeddings: &Tensor,
        labels: &[u32],
        targets: &Tensor,
        draw: Draw,
    ) -> Result<(Tensor, Option<usize>)> {
        let mined = match &self.miner {
            None => None,
            Some(miner) => {
                let seen = Comparison::new(&embeddings.detach(), labels)?.measure(self.measure);
                Some(miner.tuples(&seen, draw)?)
            }
        };
        let count = mined.as_ref().map(|mined| match mined {
            Mined::Pairs(pairs) => pairs.len(),
            Mined::Triplets(triplets) => triplets.len(),
        });
        let loss = match (&self.loss, &mined) {
            (Kind::Plain(loss), _) => loss.loss(embeddings, labels, targets, draw)?,
            (Kind::Classes(head), None) => head.loss(embeddings, targets)?,
            (Kind::Classes(head), Some(mined)) => {
                let weights = mined.weights(labels.len(), false)?;
                head.weighted_loss(embeddings, targets, Some(&weights))?
            }
            (Kind::Tuples(loss), None) => loss.forward(&Batch::new(embeddings, labels)?)?,
            (Kind::Tuples(loss), Some(Mined::Pairs(pairs))) => {
                loss.forward(&Batch::with_pairs(embeddings, pairs)?.label(labels)?)?
            }
            (Kind::Tuples(loss), Some(Mined::Triplets(triplets))) => {
                loss.forward(&Batch::with_triplets(embeddings, triplets)?.label(labels)?)?
            }
        };
        Ok((loss, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LossConfig;

    #[test]
    fn every_loss_takes_every_miner_by_name() {
        let values: Vec<f32> = (0..12 * 5).map(|i| (i as f32 * 1.7).sin()).collect();
        let e = candle::Var::from_tensor(&Tensor::from_vec(values, (12, 5), &Device::Cpu).unwrap())
            .unwrap();
        let labels: Vec<u32> = (0..12).map(|i| i / 4).collect();
        let targets = Tensor::new(labels.as_slice(), &Device::Cpu).unwrap();
        let (losses, miners) = loss_and_miner_names();
        let (tuples, others) = losses.split_at(LOSSES.len());
        let (heads, plain) = others.split_at(HEADS.len());
        assert!(tuples.is_sorted() && heads.is_sorted() && plain.is_sorted());
        assert!(miners.is_sorted());
        for &name in &losses {
            for miner in std::iter::once(NONE).chain(miners.iter().copied()) {
                let config = LossConfig::of(name, miner).unwrap();
                if miner != NONE && (WITHOUT_MINER.contains(&name) || plain.contains(&name)) {
                    assert!(check(&config).unwrap_err().to_string().contains(name));
                    continue;
                }
                check(&config).unwrap();
                let vars = VarMap::new();
                let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
                let chosen = Chosen::new(&config, 5, 3, &vb).unwrap().unwrap();
                let (loss, count) = chosen.loss(&e, &labels, &targets, Draw::new(1, 2)).unwrap();
                assert!(
                    loss.to_scalar::<f32>().unwrap().is_finite(),
                    "{name} {miner}"
                );
                assert_eq!(count.is_some(), miner != NONE);
                let grads = loss.backward().unwrap();
                if miner == NONE {
                    let grad = grads.get(&e).unwrap().abs().unwrap().sum_all().unwrap();
                    assert!(grad.to_scalar::<f32>().unwrap() > 0.0, "{name}");
                }
            }
        }
    }

    #[test]
    fn names_and_settings_are_checked() {
        let error = LossConfig::of("contrastiv", NONE).unwrap_err().to_string();
        assert!(error.contains("did you mean `contrastive`?"), "{error}");
        let error = LossConfig::of("contrastive", "batchhard")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("unknown miner `batchhard` (did you mean `batch-hard`?)"),
            "{error}"
        );
        let mut config = LossConfig::of("contrastive", "uniform-histogram").unwrap();
        config.mining.insert("bins".to_string(), 2.5);
        let error = check(&config).unwrap_err().to_string();
        assert!(error.contains("`bins`") && error.contains("2.5"), "{error}");
    }
}
