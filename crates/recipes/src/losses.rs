//! Losses and miners by name, with their hyper-parameters: what the `[loss]` section of a recipe can hold.

use std::collections::BTreeMap;

use candle::Tensor;
use phiz_losses::{Batch, MetricLoss};
use phiz_mining::{Comparison, Draw, Measure, Mined, Miner};

use crate::overlay::nearest;
use crate::{Error, Result};

/// Hyper-parameters by name.
pub(crate) type Settings = BTreeMap<String, f64>;

/// The name that stands for no loss and for no miner.
pub(crate) const NONE: &str = "none";

/// A number of a configuration, which a recipe holds as a float.
trait Number: Sized {
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
        (value >= 0.0 && value < 1e9 && value.fract() == 0.0).then_some(value as usize)
    }
}

/// The value of a setting, which is there because settings are complete.
fn read<T: Number>(settings: &Settings, key: &str) -> Result<T> {
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
    "contrastive" => phiz_losses::Contrastive [pos_margin, neg_margin],
    "dcl" => phiz_losses::Dcl [temperature],
    "multi-similarity" => phiz_losses::MultiSimilarity [alpha, beta, base],
    "nt-xent" => phiz_losses::NtXent [temperature],
    "sup-con" => phiz_losses::SupCon [temperature],
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

fn find<'t, T: ?Sized>(what: &str, name: &str, table: &'t [Entry<T>]) -> Result<&'t Entry<T>> {
    table
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = std::iter::once(NONE)
                .chain(table.iter().map(|entry| entry.name))
                .collect();
            let hint = nearest(name, names.iter().copied())
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            Error::config(format!(
                "unknown {what} `{name}`{hint}; there are: {}",
                names.join(", ")
            ))
        })
}

/// Every setting of a loss with its default; nothing for [`NONE`].
pub(crate) fn loss_settings(name: &str) -> Result<Settings> {
    if name == NONE {
        return Ok(Settings::new());
    }
    Ok((find("loss", name, LOSSES)?.defaults)())
}

/// Every setting of a miner with its default; nothing for [`NONE`].
pub(crate) fn miner_settings(name: &str) -> Result<Settings> {
    if name == NONE {
        return Ok(Settings::new());
    }
    Ok((find("miner", name, MINERS)?.defaults)())
}

/// Names of all losses and of all miners that a recipe can hold.
pub fn loss_and_miner_names() -> (Vec<&'static str>, Vec<&'static str>) {
    (
        LOSSES.iter().map(|entry| entry.name).collect(),
        MINERS.iter().map(|entry| entry.name).collect(),
    )
}

/// A loss chosen by name, with the miner that goes before it.
pub(crate) struct Chosen {
    loss: Box<dyn MetricLoss>,
    miner: Option<Box<dyn Miner>>,
    measure: Measure,
}

impl Chosen {
    /// The loss and miner of a recipe; nothing where it names none.
    pub fn new(config: &crate::config::LossConfig) -> Result<Option<Chosen>> {
        if config.name == NONE {
            return Ok(None);
        }
        let loss = (find("loss", &config.name, LOSSES)?.build)(&config.settings)?;
        let miner = if config.miner == NONE {
            None
        } else {
            Some((find("miner", &config.miner, MINERS)?.build)(
                &config.mining,
            )?)
        };
        // The miner of the multi-similarity loss is defined on cosines, the others on distances of unit vectors.
        let measure = match config.miner.as_str() {
            "multi-similarity" => Measure::COSINE,
            _ => Measure::EUCLIDEAN,
        };
        Ok(Some(Chosen {
            loss,
            miner,
            measure,
        }))
    }

    /// The loss of a batch, and how many tuples a miner gave it.
    pub fn loss(
        &self,
        embeddings: &Tensor,
        labels: &[u32],
        draw: Draw,
    ) -> Result<(Tensor, Option<usize>)> {
        let Some(miner) = &self.miner else {
            return Ok((self.loss.forward(&Batch::new(embeddings, labels)?)?, None));
        };
        let seen = Comparison::new(&embeddings.detach(), labels)?.measure(self.measure);
        let (batch, count) = match miner.tuples(&seen, draw)? {
            Mined::Pairs(pairs) => (Batch::with_pairs(embeddings, &pairs)?, pairs.len()),
            Mined::Triplets(triplets) => {
                (Batch::with_triplets(embeddings, &triplets)?, triplets.len())
            }
        };
        Ok((self.loss.forward(&batch.label(labels)?)?, Some(count)))
    }
}

#[cfg(test)]
mod tests {
    use candle::{Device, Tensor};
    use phiz_mining::Draw;

    use super::*;
    use crate::config::LossConfig;

    #[test]
    fn every_loss_takes_every_miner_by_name() {
        let values: Vec<f32> = (0..12 * 5).map(|i| (i as f32 * 1.7).sin()).collect();
        let e = candle::Var::from_tensor(&Tensor::from_vec(values, (12, 5), &Device::Cpu).unwrap())
            .unwrap();
        let labels: Vec<u32> = (0..12).map(|i| i / 4).collect();
        let (losses, miners) = loss_and_miner_names();
        assert!(losses.is_sorted() && miners.is_sorted());
        for name in losses {
            for miner in std::iter::once(NONE).chain(miners.iter().copied()) {
                let config = LossConfig::of(name, miner).unwrap();
                let chosen = Chosen::new(&config).unwrap().unwrap();
                let (loss, count) = chosen.loss(&e, &labels, Draw::new(1, 2)).unwrap();
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
        let error = Chosen::new(&config).err().unwrap().to_string();
        assert!(error.contains("`bins`") && error.contains("2.5"), "{error}");
    }
}
