//! How disentangled a code is: ten published figures, on any codes with known factors.
//!
//! Codes z have D columns, factors v have F. Logarithms are natural. The figures follow google-research/disentanglement_lib
//! and its study's settings; where that program draws images from a generator, these draw rows of the given table:
//! from a table that holds every combination of factors equally often the distributions are the same.
//!
//! | function | figure |
//! |---|---|
//! | [`beta_vae`], [`factor_vae`] | is the factor that a batch shares read off its differences or variances? |
//! | [`mutual_information_gap`] (MIG), [`separated_attribute_predictability`] (SAP) | does one column lead for each factor? |
//! | [`dci`] | disentanglement, completeness, informativeness of boosted trees |
//! | [`modularity`], [`explicitness`] | does each column serve one factor; can it be read linearly? |
//! | [`interventional_robustness`] (IRS) | does a column move only with its factor? |
//! | [`unsupervised_disentanglement_ranking`] (UDR) | do several models agree on their columns? |
//! | [`unfairness`] | how far predictions of one factor follow another (lower is better) |
//!
//! [`disentanglement`] takes them all, over several seeds. Unlike the program that they follow: every random choice is
//! seeded; the number of active columns is counted; pruning obeys its parameter; training and test rows are disjoint; and
//! degenerate input (one column, one factor, a constant factor) is a named error instead of 0 / 0. The boosted trees are
//! our own and pinned, so that values do not move with a library's version.
//!
//! **None of these measures an adversarial disentangler**: whether d is free of s is what
//! [`leakage`](crate::leakage) shows.

mod dci;
mod explicitness;
mod information;
mod robustness;
mod sap;
mod trees;
mod udr;
mod unfairness;
mod votes;

use std::collections::BTreeMap;

use serde::Serialize;

pub use dci::{Dci, dci, dci_of_importance};
pub use explicitness::explicitness;
pub use information::{modularity, mutual_information_gap, mutual_information_matrix};
pub use robustness::{Robustness, interventional_robustness};
pub use sap::{separated_attribute_predictability, separated_attribute_predictability_of_numbers};
pub use trees::{BoostedTrees, BoostedTreesConfig};
pub use udr::{UdrConfig, UdrRelation, unsupervised_disentanglement_ranking};
pub use unfairness::{Unfairness, unfairness};
pub use votes::{FactorVae, VoteConfig, beta_vae, factor_vae};

use crate::bootstrap::dense_codes;
use crate::error::{Error, ErrorKind, Result};
use crate::rows::Rows;
use crate::stats::{Summary, mean_sd_ci95};
use crate::streams::{shuffle, stream};

/// F factors of N rows as codes from 0, each with at least two values.
///
/// ```
/// let factors = phiz_eval::disentanglement::Factors::new(&[vec![3, 3, 9], vec![0, 1, 0]])?;
/// assert_eq!((factors.len(), factors.count(), factors.column(0)), (3, 2, &[0, 0, 1][..]));
/// # Ok::<(), phiz_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factors {
    columns: Vec<Vec<u32>>,
    values: Vec<usize>,
}

impl Factors {
    /// Takes one column a factor; values are renamed to 0, 1, ... in ascending order.
    ///
    /// # Errors
    /// When there is no column or row, lengths differ, or a factor is constant.
    pub fn new<C: AsRef<[u32]>>(columns: &[C]) -> Result<Self> {
        let n = columns.first().map_or(0, |c| c.as_ref().len());
        if n == 0 {
            return Err(Error::degenerate("no factor, or no row to judge"));
        }
        let (mut codes, mut values) = (Vec::new(), Vec::new());
        for (f, column) in columns.iter().enumerate() {
            let column = column.as_ref();
            if column.len() != n {
                return Err(Error::shape(format!(
                    "factor {f} has {} rows, the first has {n}",
                    column.len()
                )));
            }
            let (dense, count) = dense_codes(column);
            if count < 2 {
                return Err(Error::degenerate(format!(
                    "factor {f} is constant: nothing can be said about it"
                )));
            }
            codes.push(dense);
            values.push(count);
        }
        Ok(Self {
            columns: codes,
            values,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Always false: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of factors.
    pub fn count(&self) -> usize {
        self.columns.len()
    }

    /// The codes of factor `index`; empty past the end.
    pub fn column(&self, index: usize) -> &[u32] {
        self.columns.get(index).map_or(&[], Vec::as_slice)
    }

    /// How many values factor `index` has.
    pub fn values(&self, index: usize) -> usize {
        self.values.get(index).copied().unwrap_or(0)
    }

    /// Some rows. Codes keep their meaning; a factor may be constant among them.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let pick = |c: &Vec<u32>| rows.iter().filter_map(|&r| c.get(r).copied()).collect();
        Self {
            columns: self.columns.iter().map(pick).collect(),
            values: self.values.clone(),
        }
    }
}

/// Codes with their factors.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a> {
    /// N rows of D numbers.
    pub codes: &'a Rows,
    /// The factors of the same rows.
    pub factors: &'a Factors,
}

impl<'a> Coded<'a> {
    /// Puts the two together.
    ///
    /// # Errors
    /// When they differ in length.
    pub fn new(codes: &'a Rows, factors: &'a Factors) -> Result<Self> {
        if codes.len() == factors.len() {
            Ok(Self { codes, factors })
        } else {
            Err(Error::shape(format!(
                "{} codes for factors of {} rows",
                codes.len(),
                factors.len()
            )))
        }
    }

    pub(crate) fn need_columns(&self, figure: &str) -> Result<()> {
        if self.codes.dim() < 2 {
            return Err(Error::degenerate(format!(
                "{figure} compares columns of the code, and there is one only"
            )));
        }
        Ok(())
    }

    pub(crate) fn need_factors(&self, figure: &str) -> Result<()> {
        if self.factors.count() < 2 {
            return Err(Error::degenerate(format!(
                "{figure} compares factors, and there is one only"
            )));
        }
        Ok(())
    }
}

/// Sizes and seeds of [`disentanglement`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DisentanglementConfig {
    /// Seeds; each draws its own rows. Default 0 to 4.
    pub seeds: Vec<u64>,
    /// Equal-width bins per column for mutual information. Default 20.
    pub bins: usize,
    /// Most training rows. Default 10,000. Of a smaller table two thirds.
    pub train: usize,
    /// Most test rows. Default 5,000.
    pub test: usize,
    /// Batches and votes of BetaVAE and FactorVAE.
    pub votes: VoteConfig,
    /// Factor draws of the fairness figure. Default 100.
    pub interventions: usize,
}

impl Default for DisentanglementConfig {
    fn default() -> Self {
        Self {
            seeds: (0..5).collect(),
            bins: 20,
            train: 10_000,
            test: 5_000,
            votes: VoteConfig::default(),
            interventions: 100,
        }
    }
}

/// All figures of a code.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Disentanglement {
    /// Mean, spread and interval over the seeds, by name: `mig`, `dci_disentanglement`, `dci_completeness`,
    /// `dci_informativeness`, `sap`, `factor_vae`, `beta_vae`, `modularity`, `explicitness`, `irs`, `unfairness`.
    pub figures: BTreeMap<String, Summary>,
    /// Those that are undefined on this input, with the reason.
    pub undefined: BTreeMap<String, String>,
}

/// Takes every figure that a single code has, for each seed.
///
/// UDR needs several models: see [`unsupervised_disentanglement_ranking`].
///
/// # Errors
/// When there is no seed, there are fewer than four rows, or something else than degeneracy is wrong.
pub fn disentanglement(
    coded: Coded<'_>,
    config: &DisentanglementConfig,
) -> Result<Disentanglement> {
    let n = coded.codes.len();
    if config.seeds.is_empty() || config.train == 0 || config.test == 0 {
        return Err(Error::usage(
            "disentanglement needs at least one seed, one training and one test row",
        ));
    }
    if n < 4 {
        return Err(Error::degenerate(format!(
            "{n} rows cannot be split into training and test rows"
        )));
    }
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut undefined: BTreeMap<String, String> = BTreeMap::new();
    for &seed in &config.seeds {
        let mut order: Vec<usize> = (0..n).collect();
        shuffle(&mut order, &mut stream(seed, "disentanglement-rows", 0));
        let test_count = config.test.min(n / 3).max(1);
        let (test_rows, rest) = order.split_at(test_count);
        let train_rows = rest.get(..config.train.min(rest.len())).unwrap_or(rest);
        let train_codes = coded.codes.select(train_rows)?;
        let train_factors = coded.factors.select(train_rows);
        let test_codes = coded.codes.select(test_rows)?;
        let test_factors = coded.factors.select(test_rows);
        let train = Coded::new(&train_codes, &train_factors)?;
        let test = Coded::new(&test_codes, &test_factors)?;
        let found = dci(train, test);
        let dci_part = |part: fn(&Dci) -> f64| match &found {
            Ok(found) => Ok(part(found)),
            Err(error) => Err(Error::degenerate(error.to_string())),
        };
        let results = [
            ("mig", mutual_information_gap(train, config.bins)),
            ("dci_disentanglement", dci_part(|d| d.disentanglement)),
            ("dci_completeness", dci_part(|d| d.completeness)),
            ("dci_informativeness", dci_part(|d| d.informativeness)),
            ("sap", separated_attribute_predictability(train, test)),
            (
                "factor_vae",
                factor_vae(coded, &config.votes, seed).map(|f| f.accuracy),
            ),
            ("beta_vae", beta_vae(coded, &config.votes, seed)),
            ("modularity", modularity(train, config.bins)),
            ("explicitness", explicitness(train, test)),
            (
                "irs",
                interventional_robustness(train, 0.99, config.bins).map(|r| r.score),
            ),
            (
                "unfairness",
                unfairness(coded, train_rows, config.interventions, seed).map(|u| u.mean),
            ),
        ];
        for (name, result) in results {
            match result {
                Ok(value) => values.entry(name).or_default().push(value),
                Err(error) => match error.kind() {
                    ErrorKind::Degenerate(_) => {
                        undefined.insert(name.to_string(), error.to_string());
                    }
                    _ => return Err(error),
                },
            }
        }
    }
    // A figure that failed on one seed's rows is not averaged over the others.
    let figures = values
        .into_iter()
        .filter(|(name, _)| !undefined.contains_key(*name))
        .filter_map(|(name, v)| Some((name.to_string(), mean_sd_ci95(&v)?)))
        .collect();
    Ok(Disentanglement { figures, undefined })
}

/// Index of the largest value, the first of equal ones.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let (mut best, mut top) = (0, f64::NEG_INFINITY);
    for (i, &v) in values.iter().enumerate() {
        if v > top {
            (best, top) = (i, v);
        }
    }
    best
}

/// Largest minus second largest.
pub(crate) fn top_gap(values: &[f64]) -> f64 {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for &v in values {
        if v > first {
            second = first;
            first = v;
        } else if v > second {
            second = v;
        }
    }
    first - second
}
