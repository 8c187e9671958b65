//! Changing a configuration by TOML files and `key=value` words, with errors that name the
//! nearest known key.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::config::{Config, Metric, Sampling};
use crate::{Error, Result};

/// What the schemas of all kinds of recipes share: they are written, read from files and changed by words alike.
pub trait Schema: Clone + Serialize + DeserializeOwned {
    /// The recipe this started from.
    fn recipe(&self) -> &str;

    /// The complete configuration of a recipe of this kind.
    fn named(name: &str) -> Result<Self>;

    /// Whether every value lies where it makes sense.
    fn check(&self) -> Result<()>;

    /// This configuration with the values of `table` in the place of its own.
    fn overlaid(&self, table: &Table) -> Result<Self> {
        overlaid(self, table)
    }
}

/// A configuration as TOML, every key present.
pub(crate) fn to_toml(config: &impl Schema) -> Result<String> {
    toml::to_string_pretty(config).map_err(|error| Error::config(error.to_string()))
}

/// A complete or partial configuration over the recipe it names, or over `base` where it names none.
pub(crate) fn from_file<S: Schema>(path: &Path, base: &S) -> Result<S> {
    let table = read_table(path)?;
    let run = || -> Result<S> {
        let config = match table.get("recipe").and_then(Value::as_str) {
            Some(name) if name != base.recipe() => S::named(name)?.overlaid(&table)?,
            _ => base.overlaid(&table)?,
        };
        config.check()?;
        Ok(config)
    };
    run().map_err(|error| error.at(path))
}

/// `base` changed by `section.key=value` words, later ones last; only the result has to make sense.
pub(crate) fn set_all<'a, S: Schema>(
    base: &S,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<S> {
    let mut config = base.clone();
    for word in words {
        config = config.overlaid(&parse_word(word)?)?;
    }
    config.check()?;
    Ok(config)
}

/// Whether a setting lies where it makes sense.
///
/// # Errors
/// When it does not, or is not a number.
pub(crate) fn within(key: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{key}` is {value}; expected {low} to {high}"
    )))
}

impl Schema for Config {
    fn recipe(&self) -> &str {
        &self.recipe
    }

    fn named(name: &str) -> Result<Self> {
        crate::named(name)
    }

    fn check(&self) -> Result<()> {
        self.validate()
    }

    fn overlaid(&self, table: &Table) -> Result<Self> {
        let mut start = self.clone();
        // Another loss or miner brings settings of its own.
        let named = |key: &str| table.get("loss")?.get(key)?.as_str();
        if let Some(name) = named("name").filter(|name| *name != self.loss.name) {
            start.loss.settings = crate::losses::loss_settings(name)?;
        }
        if let Some(miner) = named("miner").filter(|miner| *miner != self.loss.miner) {
            start.loss.mining = crate::losses::miner_settings(miner)?;
        }
        overlaid(&start, table)
    }
}

impl Config {
    /// The configuration as TOML, every key present.
    ///
    /// # Errors
    /// When a value has no TOML form (an integer beyond 63 bits).
    pub fn to_toml(&self) -> Result<String> {
        to_toml(self)
    }

    /// Reads a complete or partial configuration; what the file leaves out comes from the recipe
    /// it names (`recipe = "..."`), or from `base` when it names none.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, holds an unknown key or a value of the wrong type.
    pub fn from_file(path: &Path, base: &Config) -> Result<Config> {
        from_file(path, base)
    }

    /// Applies one `section.key=value` word; the value is TOML, or a bare string.
    ///
    /// # Errors
    /// When there is no `=`, the key is unknown, or the value has the wrong type or makes no sense.
    pub fn set(&self, word: &str) -> Result<Config> {
        self.set_all([word])
    }

    /// Applies several words, later ones last; only the result has to make sense.
    ///
    /// # Errors
    /// As [`Config::set`].
    pub fn set_all<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Config> {
        set_all(self, words)
    }

    /// Checks that every value lies where it makes sense.
    ///
    /// # Errors
    /// When one does not; the message names the key, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        let (data, image, model) = (&self.data, &self.image, &self.model);
        let (sampling, objective, train) = (&self.sampling, &self.objective, &self.train);
        within("seed", self.seed as f64, 0.0, i64::MAX as f64)?;
        within("data.train_fraction", data.train_fraction, 0.01, 0.99)?;
        within("data.folds", data.folds as f64, 2.0, 1000.0)?;
        within("data.fold", data.fold as f64, 0.0, data.folds as f64 - 1.0)?;
        within("data.workers", data.workers as f64, 1.0, 64.0)?;
        within("image.size", image.size as f64, 16.0, 1024.0)?;
        image
            .transform()
            .validate()
            .map_err(|error| Error::config(format!("section `image`: {error}")))?;
        within(
            "model.embedding_dim",
            model.embedding_dim as f64,
            2.0,
            65536.0,
        )?;
        within("model.width", model.width, 0.05, 16.0)?;
        within("model.dropout", model.dropout, 0.0, 0.95)?;
        within("sampling.images", sampling.images as f64, 2.0, 1e6)?;
        within("sampling.per_class", sampling.per_class as f64, 2.0, 1e6)?;
        within("sampling.tuplets", sampling.tuplets as f64, 1.0, 1e5)?;
        within("sampling.positives", sampling.positives as f64, 2.0, 1e4)?;
        within("sampling.negatives", sampling.negatives as f64, 1.0, 1e4)?;
        within(
            "sampling.candidates",
            sampling.candidates as f64,
            sampling.positives as f64 - 1.0,
            1e5,
        )?;
        within(
            "sampling.min_positives",
            sampling.min_positives as f64,
            1.0,
            sampling.positives as f64,
        )?;
        within("sampling.mining_after", sampling.mining_after, 0.0, 1e9)?;
        within("objective.scale", objective.scale, 1e-3, 1e4)?;
        within(
            "objective.margin",
            objective.margin,
            0.0,
            std::f64::consts::PI,
        )?;
        within(
            "objective.softmax_weight",
            objective.softmax_weight,
            0.0,
            1e6,
        )?;
        within("objective.metric_weight", objective.metric_weight, 0.0, 1e6)?;
        within(
            "objective.label_smoothing",
            objective.label_smoothing,
            0.0,
            0.99,
        )?;
        within("objective.tau", objective.tau, 0.0, 1e6)?;
        within(
            "objective.reference_distance",
            objective.reference_distance,
            1e-9,
            1e9,
        )?;
        within("train.epochs", train.epochs, 1e-6, 1e9)?;
        within("train.lr", train.lr, 0.0, 1e6)?;
        within(
            "train.warmup_epochs",
            train.warmup_epochs,
            0.0,
            train.epochs,
        )?;
        within("train.momentum", train.momentum, 0.0, 0.9999)?;
        within("train.weight_decay", train.weight_decay, 0.0, 1e3)?;
        within("train.clip_norm", train.clip_norm, 0.0, 1e12)?;
        within(
            "train.checkpoint_every",
            train.checkpoint_every as f64,
            1.0,
            1e15,
        )?;
        within("train.log_every", train.log_every as f64, 1.0, 1e15)?;
        within("loss.weight", self.loss.weight, 0.0, 1e6)?;
        crate::losses::check(&self.loss)?;
        let chosen = (self.loss.name != crate::losses::NONE).then_some(self.loss.weight);
        if objective.softmax_weight == 0.0
            && (objective.metric == Metric::None || objective.metric_weight == 0.0)
            && chosen.is_none_or(|weight| weight == 0.0)
        {
            return Err(Error::config(
                "`objective.softmax_weight` is 0 and there is no metric loss: nothing would be trained",
            ));
        }
        let tuplets = matches!(
            objective.metric,
            Metric::CoupledClusters | Metric::TupletFixed | Metric::TupletAdaptive
        );
        if tuplets && sampling.kind != Sampling::Tuplet {
            return Err(Error::config(
                "`objective.metric` works on tuplets; expected `sampling.kind = \"tuplet\"`",
            ));
        }
        Ok(())
    }
}

/// A TOML file as a table; the message names the line that is none.
pub(crate) fn read_table(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            1 + text.as_bytes()[..span.start.min(text.len())]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
        });
        Error::config(format!(
            "line {line}: not TOML: {}",
            one_line(error.message())
        ))
        .at(path)
    })
}

/// `base` with the values of `table` in the place of its own: only keys that it has, of the type that it has.
fn overlaid<T: Serialize + DeserializeOwned>(base: &T, table: &Table) -> Result<T> {
    let mut base = Table::try_from(base).map_err(|error| Error::config(error.to_string()))?;
    let known = dotted_keys(&base);
    merge(&mut base, table, "", &known)?;
    base.try_into()
        .map_err(|error: toml::de::Error| Error::config(one_line(&error.to_string())))
}

/// `a.b=1` as the table `{a: {b: 1}}`.
fn parse_word(word: &str) -> Result<Table> {
    let (key, text) = word
        .split_once('=')
        .ok_or_else(|| Error::config(format!("`{word}`: expected section.key=value")))?;
    let value = format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let mut parts = key.trim().rsplit('.');
    let mut table = Table::new();
    table.insert(parts.next().unwrap_or_default().to_string(), value);
    for part in parts {
        let inner = std::mem::take(&mut table);
        table.insert(part.to_string(), Value::Table(inner));
    }
    Ok(table)
}

/// The known word nearest to `word`, when it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .map(|(_, candidate)| candidate)
}

fn dotted_keys(table: &Table) -> Vec<String> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            Value::Table(inner) => dotted_keys(inner)
                .into_iter()
                .map(|rest| format!("{key}.{rest}"))
                .collect(),
            _ => vec![key.clone()],
        })
        .collect()
}

fn merge(base: &mut Table, over: &Table, prefix: &str, known: &[String]) -> Result<()> {
    for (key, value) in over {
        let full = format!("{prefix}{key}");
        match (base.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => {
                merge(inner, value, &format!("{full}."), known)?;
            }
            (Some(Value::Table(_)), _) => {
                return Err(Error::config(format!(
                    "`{full}` is a section; expected {full}.KEY"
                )));
            }
            // TOML tells 1 from 1.0; a person who types --set train.lr=1 does not.
            (Some(slot @ Value::Float(_)), Value::Integer(number)) => {
                *slot = Value::Float(*number as f64);
            }
            (Some(slot), value) => {
                if slot.type_str() != value.type_str() {
                    return Err(Error::config(format!(
                        "`{full}` is {value}; expected {} like {slot}",
                        article(slot.type_str())
                    )));
                }
                *slot = value.clone();
            }
            (None, _) => {
                let hint = nearest_key(&full, known)
                    .map(|near| format!("; the nearest known one is `{near}`"))
                    .unwrap_or_default();
                return Err(Error::config(format!("unknown key `{full}`{hint}")));
            }
        }
    }
    Ok(())
}

/// By the whole dotted key, or else by its last part (a key put into the wrong section).
fn nearest_key<'a>(full: &str, known: &'a [String]) -> Option<&'a str> {
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
    known
        .iter()
        .find(|candidate| leaf(candidate) == leaf(full))
        .map(String::as_str)
        .or_else(|| nearest(full, known.iter().map(String::as_str)))
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if an { "an" } else { "a" })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Config {
        crate::named("tuplet").unwrap()
    }

    #[test]
    fn every_named_recipe_is_valid_and_survives_a_round_trip() {
        for recipe in crate::NAMED {
            let config = crate::named(recipe.name).unwrap();
            config.validate().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            std::fs::write(&path, config.to_toml().unwrap()).unwrap();
            assert_eq!(
                Config::from_file(&path, &base()).unwrap(),
                config,
                "{}",
                recipe.name
            );
        }
    }

    #[test]
    fn set_changes_one_value_and_takes_integers_for_floats() {
        let config = base().set("train.lr=1").unwrap();
        assert_eq!(config.train.lr, 1.0);
        let config = config
            .set("data.source=orl")
            .unwrap()
            .set("objective.metric=\"triplet\"");
        // Triplets do not need tuplet batches, but may be taken from them.
        assert_eq!(config.unwrap().data.source, "orl");
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = base().set("train.epoch=3").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown key `train.epoch`; the nearest known one is `train.epochs`"
        );
        let error = base().set("lr=3").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown key `lr`; the nearest known one is `train.lr`"
        );
    }

    #[test]
    fn wrong_types_and_values_name_the_key() {
        let error = base().set("train.lr=fast").unwrap_err().to_string();
        assert!(
            error.starts_with("`train.lr` is \"fast\"; expected a float"),
            "{error}"
        );
        let error = base()
            .set("objective.metric=tripled")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tripled") && error.contains("triplet"),
            "{error}"
        );
        let error = base().set("data.fold=3").unwrap_err().to_string();
        assert_eq!(error, "`data.fold` is 3; expected 0 to 2");
        let error = base().set("sampling.kind=shuffle").unwrap_err().to_string();
        assert!(error.contains("works on tuplets"), "{error}");
    }

    #[test]
    fn a_loss_by_name_brings_its_settings() {
        let config = crate::named("metric").unwrap();
        let config = config.set("loss.name=nt-xent").unwrap();
        assert_eq!(
            config.loss.settings.keys().collect::<Vec<_>>(),
            ["temperature"]
        );
        let config = config.set("loss.settings.temperature=1").unwrap();
        assert_eq!(config.loss.settings["temperature"], 1.0);
        // Naming the same loss again keeps what was set.
        let config = config.set("loss.name=nt-xent").unwrap();
        assert_eq!(config.loss.settings["temperature"], 1.0);
        let error = config.set("loss.settings.margin=1").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown key `loss.settings.margin`"),
            "{error}"
        );
        let error = config.set("loss.miner=semihard").unwrap_err().to_string();
        assert!(error.contains("did you mean `semi-hard`?"), "{error}");
        let config = config.set("loss.miner=semi-hard").unwrap();
        assert_eq!(config.loss.mining["margin"], 0.2);
        let error = config.set("loss.name=none").unwrap_err().to_string();
        assert!(error.contains("nothing would be trained"), "{error}");
    }

    #[test]
    fn an_unknown_recipe_names_the_nearest() {
        let error = crate::named("tripet").unwrap_err().to_string();
        assert!(error.contains("did you mean `triplet`?"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_toml_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.toml");
        std::fs::write(&path, "seed = 1\n\n[train\n").unwrap();
        let error = Config::from_file(&path, &base()).unwrap_err().to_string();
        assert!(error.contains("bad.toml: line 3: not TOML"), "{error}");
    }
}
