//! What of a study can be set: `study.KEY=VALUE` among the words of `--set`; all other words go to the recipes.

use std::str::FromStr;

use crate::{Error, Result};

/// Sizes of a study.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// Updates of every trunk.
    pub steps: u64,
    /// Images of a cell where their number is not what is varied.
    pub images: usize,
    /// Images of the cells where it is.
    pub sizes: Vec<usize>,
    /// People that trunks are judged on; half as many again label the expressions.
    pub people: usize,
    /// What every recipe is told.
    pub words: Vec<String>,
}

/// What every row sets for itself, or is what it varies.
const OWN: [&str; 10] = [
    "data.source",
    "data.train_fraction",
    "data.label_noise",
    "data.imbalance",
    "data.off_centre",
    "data.non_faces",
    "train.epochs",
    "train.warmup_epochs",
    "probe.every",
    "recipe",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 800,
            images: 8400,
            sizes: vec![1000, 3000, 10_000, 30_000, 100_000],
            people: 40,
            words: Vec::new(),
        }
    }
}

impl Settings {
    /// Takes out what is the study's own.
    ///
    /// # Errors
    /// When a key is unknown, or a value is no positive number.
    pub fn read(words: &[String]) -> Result<Self> {
        let mut settings = Self::default();
        for word in words {
            let key = word.split('=').next().unwrap_or_default().trim();
            if OWN.contains(&key) {
                return Err(Error::config(format!(
                    "`{word}`: a study sets `{key}` itself; it has `study.steps`, `study.images`, `study.sizes` and `study.people`"
                )));
            }
            let Some(own) = word.strip_prefix("study.") else {
                settings.words.push(word.clone());
                continue;
            };
            let (key, value) = own
                .split_once('=')
                .ok_or_else(|| Error::config(format!("`{word}`: expected study.KEY=VALUE")))?;
            match key.trim() {
                "steps" => settings.steps = positive(word, value)?,
                "images" => settings.images = positive(word, value)?,
                "people" => settings.people = positive(word, value)?,
                "sizes" => {
                    let sizes = value.trim_matches(['[', ']']).split(',');
                    settings.sizes = sizes
                        .map(|size| positive(word, size))
                        .collect::<Result<_>>()?;
                }
                _ => {
                    return Err(Error::config(format!(
                        "`{word}`: a study has `study.steps`, `study.images`, `study.sizes` and `study.people`"
                    )));
                }
            }
        }
        Ok(settings)
    }
}

fn positive<T: FromStr + PartialOrd + Default>(word: &str, value: &str) -> Result<T> {
    match value.trim().replace('_', "").parse::<T>() {
        Ok(number) if number > T::default() => Ok(number),
        _ => Err(Error::config(format!(
            "`{word}`: expected whole numbers above 0"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_words_are_taken_and_the_others_passed_on() {
        let words = [
            "study.steps=20",
            "train.batch=8",
            "study.sizes=[100, 1_000]",
        ];
        let found = Settings::read(&words.map(String::from)).unwrap();
        assert_eq!(
            (found.steps, found.sizes.as_slice()),
            (20, &[100, 1000][..])
        );
        assert_eq!((found.images, found.words.len()), (8400, 1));
        for wrong in [
            "study.steps=0",
            "study.step=3",
            "study.sizes=1,x",
            "study.images",
            "train.epochs=1",
            "data.source=orl",
        ] {
            let error = Settings::read(&[wrong.to_string()])
                .unwrap_err()
                .to_string();
            assert!(error.contains("study.") && error.contains(wrong), "{error}");
        }
    }
}
