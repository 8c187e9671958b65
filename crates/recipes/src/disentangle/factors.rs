//! What is to be removed, by name: from labels of a data set to factors, and from rows to their values.

use std::collections::BTreeSet;

use candle::{DType, Device, Tensor};
use phiz_data::{Column, Dataset};
use phiz_disentangle::{Factor, FactorKind, FactorValues};
use serde::{Deserialize, Serialize};

use super::config::DisentangleData;
use crate::overlay::nearest;
use crate::{Error, Result};

/// A factor as training knew it; a run keeps these in `factors.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorColumn {
    /// Name of the label, or of several joined by `+`.
    pub name: String,
    /// Its values in training.
    pub values: FactorColumnValues,
    /// What each class that is learned says of it ([`Factor::given_class`]); empty unless the game is played given the class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_class: Vec<Vec<f64>>,
}

/// Least variance of a standardised number within a class: a class may have one image.
const LEAST_VARIANCE: f64 = 1e-2;
/// Most of it that an adversary can answer: its log-variances end at 6.
const MOST_VARIANCE: f64 = 400.;

/// The values of a factor in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FactorColumnValues {
    /// One of several, by name, with the share of each.
    Categorical {
        /// Names, in the order of the codes.
        names: Vec<String>,
        /// Share of each in training.
        prior: Vec<f64>,
    },
    /// Yes or no, for several labels at once.
    YesNo {
        /// Each label with the name of its value that means yes.
        labels: Vec<(String, String)>,
        /// Share of yes of each in training.
        prior: Vec<f64>,
    },
    /// A number.
    Number {
        /// Mean over training.
        mean: f64,
        /// Standard deviation over training.
        sd: f64,
    },
}

/// The factors `data` names, as they stand in the training rows.
///
/// # Errors
/// When a name is no label of the data, is the target, or is to be removed and kept at once; when a factor has one value
/// in the training rows; when nothing is left to remove.
pub(crate) fn factors(
    data: &DisentangleData,
    dataset: &dyn Dataset,
    train: &[usize],
) -> Result<Vec<FactorColumn>> {
    let columns = dataset.labels().columns();
    for name in &data.keep {
        column(dataset, "data.keep", name)?;
        if data
            .remove
            .iter()
            .any(|wanted| wanted.split('+').any(|part| part == name))
        {
            return Err(Error::config(format!(
                "`{name}` stands in `data.remove` and in `data.keep`; expected one of them"
            )));
        }
    }
    let mut names: Vec<String> = Vec::new();
    for wanted in &data.remove {
        if wanted == "all" {
            let of_all = columns.iter().filter(|(name, column)| {
                varies(column, train)
                    && **name != data.target
                    && *name != "identity"
                    && !data.keep.contains(name)
            });
            names.extend(of_all.map(|(name, _)| name.clone()));
        } else {
            names.push(wanted.clone());
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() {
        return Err(Error::config(
            "`data.remove` leaves nothing to remove; expected the name of at least one label",
        ));
    }
    names
        .iter()
        .map(|name| {
            for part in name.split('+') {
                column(dataset, "data.remove", part)?;
                if part == data.target {
                    return Err(Error::config(format!(
                        "`data.remove` names `{part}`, which is what is learned (`data.target`)"
                    )));
                }
            }
            factor(dataset, name, train)
        })
        .collect()
}

/// Whether a column has classes, and at least two of them in these rows.
fn varies(column: &Column, rows: &[usize]) -> bool {
    let Column::Categorical { codes, .. } = column else {
        return false;
    };
    let mut found = rows.iter().filter_map(|&row| codes.get(row));
    let first = found.next();
    found.any(|code| Some(code) != first)
}

fn column<'a>(dataset: &'a dyn Dataset, key: &str, name: &str) -> Result<&'a Column> {
    let columns = dataset.labels().columns();
    columns.get(name).ok_or_else(|| {
        let hint = nearest(name, columns.keys().map(String::as_str))
            .map(|near| format!(" (did you mean `{near}`?)"))
            .unwrap_or_default();
        // Rendered faces have a hundred numbers; classes come first and say enough.
        let mut known: Vec<&str> = columns
            .iter()
            .filter(|(_, column)| matches!(column, Column::Categorical { .. }))
            .map(|(name, _)| name.as_str())
            .collect();
        let numbers = columns.len() - known.len();
        let more = format!("{numbers} numbers");
        if numbers > 0 {
            known.push(&more);
        }
        Error::config(format!(
            "`{key}` names `{name}`, a label that {} does not have{hint}; there are: {}",
            dataset.name(),
            known.join(", ")
        ))
    })
}

fn factor(dataset: &dyn Dataset, name: &str, train: &[usize]) -> Result<FactorColumn> {
    let labels = dataset.labels();
    let one_value = |value: String| {
        Error::config(format!(
            "factor `{name}` has one value ({value}) in all {} training images; expected at least 2, \
             a factor that never varies cannot be removed",
            train.len()
        ))
    };
    let values = if name.contains('+') {
        let mut prior = Vec::new();
        let mut yes = Vec::new();
        for part in name.split('+') {
            let (codes, names) = (labels.codes(part)?, labels.names(part)?);
            let present: BTreeSet<u32> = train.iter().map(|&i| codes[i]).collect();
            let &[_, last] = present.iter().copied().collect::<Vec<_>>().as_slice() else {
                return Err(Error::config(format!(
                    "factor `{name}`: `{part}` has {} values in training; a factor of several labels takes yes-or-no ones, expected 2",
                    present.len()
                )));
            };
            let count = train.iter().filter(|&&i| codes[i] == last).count();
            prior.push(count as f64 / train.len() as f64);
            yes.push((part.to_string(), names[last as usize].clone()));
        }
        FactorColumnValues::YesNo { labels: yes, prior }
    } else {
        match labels.get(name) {
            Some(Column::Categorical { codes, names }) => {
                let mut counts = vec![0usize; names.len()];
                for &i in train {
                    counts[codes[i] as usize] += 1;
                }
                let present: Vec<(String, usize)> = names
                    .iter()
                    .cloned()
                    .zip(counts)
                    .filter(|(_, count)| *count > 0)
                    .collect();
                if let [(only, _)] = &present[..] {
                    return Err(one_value(only.clone()));
                }
                FactorColumnValues::Categorical {
                    prior: present
                        .iter()
                        .map(|(_, count)| *count as f64 / train.len() as f64)
                        .collect(),
                    names: present.into_iter().map(|(name, _)| name).collect(),
                }
            }
            _ => {
                let values = labels.values(name)?;
                let of = |i: &usize| f64::from(values[*i]);
                let n = train.len() as f64;
                let mean = train.iter().map(of).sum::<f64>() / n;
                let square = train.iter().map(|i| (of(i) - mean).powi(2)).sum::<f64>();
                let sd = (square / n).sqrt();
                if sd.is_nan() || sd <= 1e-9 {
                    return Err(one_value(mean.to_string()));
                }
                FactorColumnValues::Number { mean, sd }
            }
        }
    };
    Ok(FactorColumn {
        name: name.to_string(),
        values,
        by_class: Vec::new(),
    })
}

impl FactorColumn {
    /// The factor the networks are built for.
    ///
    /// # Errors
    /// When what it knows of classes is not of its form.
    pub(crate) fn factor(&self) -> Result<Factor> {
        let kind = match &self.values {
            FactorColumnValues::Categorical { prior, .. } => FactorKind::Categorical {
                prior: prior.clone(),
            },
            FactorColumnValues::YesNo { prior, .. } => FactorKind::MultiLabel {
                prior: prior.clone(),
            },
            FactorColumnValues::Number { .. } => FactorKind::Continuous { dims: 1 },
        };
        // Tensor names are paths of dots.
        let factor = Factor::new(&self.name.replace('.', "_"), kind);
        if self.by_class.is_empty() {
            return Ok(factor);
        }
        Ok(factor.given_class(self.by_class.clone())?)
    }

    /// This factor with what each of `classes` says of it in the training rows, whose classes are `targets`.
    ///
    /// # Errors
    /// When its values cannot be read.
    pub(crate) fn given_class(
        mut self,
        dataset: &dyn Dataset,
        train: &[usize],
        targets: &[Option<u32>],
        classes: usize,
    ) -> Result<Self> {
        let width = self.factor()?.code_dim();
        let (mut sums, mut squares) = (
            vec![vec![0.; width]; classes],
            vec![vec![0.; width]; classes],
        );
        let mut counts = vec![0usize; classes];
        let values = self
            .factor()?
            .code(&self.values(dataset, train, &Device::Cpu)?, DType::F64)?;
        let rows = values.to_vec2::<f64>()?;
        for (row, &image) in rows.iter().zip(train) {
            let Some(class) = targets[image].map(|class| class as usize) else {
                continue;
            };
            counts[class] += 1;
            for (at, &value) in row.iter().enumerate() {
                sums[class][at] += value;
                squares[class][at] += value * value;
            }
        }
        let of_class = |class: usize| -> Vec<f64> {
            let n = counts[class].max(1) as f64;
            let means = sums[class].iter().map(|sum| sum / n);
            match self.values {
                FactorColumnValues::Categorical { .. } => means.collect(),
                // Attributes stand in codes as +-1.
                FactorColumnValues::YesNo { .. } => means.map(|mean| (mean + 1.) / 2.).collect(),
                FactorColumnValues::Number { .. } => {
                    let variances = means.clone().zip(&squares[class]);
                    let spread = variances.map(|(mean, square)| {
                        (square / n - mean * mean)
                            .clamp(LEAST_VARIANCE, MOST_VARIANCE)
                            .ln()
                    });
                    means.clone().chain(spread.collect::<Vec<_>>()).collect()
                }
            }
        };
        self.by_class = (0..classes).map(of_class).collect();
        Ok(self)
    }

    /// The factor's values of some rows.
    ///
    /// # Errors
    /// When the data lacks the label, or a row has a value that training did not have.
    pub(crate) fn values(
        &self,
        dataset: &dyn Dataset,
        indices: &[usize],
        device: &Device,
    ) -> Result<FactorValues> {
        let labels = dataset.labels();
        Ok(match &self.values {
            FactorColumnValues::Categorical { names, .. } => {
                let codes = self.codes(dataset, names)?;
                let rows = indices
                    .iter()
                    .map(|&i| {
                        codes[i].ok_or_else(|| {
                            Error::config(format!(
                                "{}: factor `{}` has a value that training did not have",
                                dataset.sample_id(i),
                                self.name
                            ))
                        })
                    })
                    .collect::<Result<Vec<u32>>>()?;
                FactorValues::Categorical(Tensor::from_vec(rows, indices.len(), device)?)
            }
            FactorColumnValues::YesNo { labels: each, .. } => {
                let mut rows = vec![0f32; indices.len() * each.len()];
                for (at, (name, yes)) in each.iter().enumerate() {
                    let (codes, names) = (labels.codes(name)?, labels.names(name)?);
                    for (row, &i) in indices.iter().enumerate() {
                        rows[row * each.len() + at] =
                            f32::from(u8::from(&names[codes[i] as usize] == yes));
                    }
                }
                let shape = (indices.len(), each.len());
                FactorValues::MultiLabel(Tensor::from_vec(rows, shape, device)?)
            }
            FactorColumnValues::Number { mean, sd } => {
                let values = labels.values(&self.name)?;
                let rows: Vec<f32> = indices
                    .iter()
                    .map(|&i| ((f64::from(values[i]) - mean) / sd) as f32)
                    .collect();
                FactorValues::Continuous(Tensor::from_vec(rows, (indices.len(), 1), device)?)
            }
        })
    }

    /// Each row's code in training's order; none where training did not have the value.
    fn codes(&self, dataset: &dyn Dataset, known: &[String]) -> Result<Vec<Option<u32>>> {
        crate::source::class_targets(dataset, &self.name, known)
    }
}

/// Rows of `indices` in the states `wanted` names: `light=front|left`.
///
/// # Errors
/// When a state is not written so, or the data has no such label or value.
pub(crate) fn in_states(
    key: &str,
    wanted: &[String],
    dataset: &dyn Dataset,
    indices: &[usize],
) -> Result<Vec<usize>> {
    let mut kept = indices.to_vec();
    for state in wanted {
        let (name, values) = state.split_once('=').ok_or_else(|| {
            Error::config(format!("`{key}`: `{state}`; expected label=value|value"))
        })?;
        column(dataset, key, name)?;
        let (codes, names) = (dataset.labels().codes(name)?, dataset.labels().names(name)?);
        let mut allowed = BTreeSet::new();
        for value in values.split('|') {
            let code = names
                .iter()
                .position(|known| known == value)
                .ok_or_else(|| {
                    Error::config(format!(
                        "`{key}`: `{name}` has no value `{value}`; there are: {}",
                        names.join(", ")
                    ))
                })?;
            allowed.insert(code as u32);
        }
        kept.retain(|&i| allowed.contains(&codes[i]));
    }
    if kept.is_empty() {
        return Err(Error::config(format!(
            "`{key}` leaves no image; expected states that occur"
        )));
    }
    Ok(kept)
}
