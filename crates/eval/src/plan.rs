//! What a protocol comes to on one table: columns and files looked up, then judged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::bootstrap::BootstrapConfig;
use crate::clustering::compare_clusters;
use crate::conditions::{Condition, Relation};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::figures::{classification, describe, name_unit, plain, retrieval, verification};
use crate::folds::{FoldRule, verify_folds};
use crate::groups;
use crate::kmeans::{KMeansConfig, kmeans};
use crate::lookup::{clusters, distinct, resolve};
use crate::pairs::PairList;
use crate::protocol::{EvaluateOptions, Evaluation, Protocol};
use crate::protocol_file::{ConditionEntry, ProtocolFile, ProtocolKind, ThresholdEntry};
use crate::retrieval::{RetrievalConfig, retrieve};
use crate::task_protocols::{
    LandmarkPlan, ProbePlan, landmark_plan, run_disentanglement, run_landmarks, run_probes,
    run_regression,
};
use crate::template_protocol::{self, TemplatePlan};
use crate::verification::{VerificationConfig, verify_all_pairs, verify_pairs};

/// Seeds of the disentanglement figures.
const SEEDS: u64 = 5;

/// A protocol with everything it needs from files, ready for a table.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) options: EvaluateOptions,
    pub(crate) what: What,
}

/// What is done.
pub(crate) enum What {
    Verification {
        pairs: Option<PathBuf>,
        conditions: Vec<Condition>,
        thresholds: Vec<f64>,
    },
    Folds {
        pairs: PathBuf,
        rule: FoldRule,
    },
    Retrieval {
        queries: Option<Vec<usize>>,
    },
    Clustering {
        clusters: Option<usize>,
        seed: u64,
    },
    Classification,
    Templates(TemplatePlan),
    Regression,
    Landmarks(LandmarkPlan),
    Probes(ProbePlan),
    Disentanglement {
        factors: Option<Vec<String>>,
        seeds: u64,
    },
}

impl Plan {
    pub(crate) fn new(
        protocol: &Protocol,
        table: &Embeddings,
        options: &EvaluateOptions,
    ) -> Result<Self> {
        let listed = |pairs: Option<PathBuf>| What::Verification {
            pairs,
            conditions: Vec::new(),
            thresholds: Vec::new(),
        };
        let what = match protocol {
            Protocol::VerificationAllPairs => listed(None),
            Protocol::VerificationPairs(path) => listed(Some(path.clone())),
            Protocol::Folds(rule, path) => What::Folds {
                pairs: path.clone(),
                rule: *rule,
            },
            Protocol::Retrieval => What::Retrieval { queries: None },
            Protocol::Clustering => What::Clustering {
                clusters: None,
                seed: 0,
            },
            Protocol::Classification => What::Classification,
            Protocol::Regression => What::Regression,
            Protocol::Landmarks(truth) => What::Landmarks(landmark_plan(truth, table.dim() / 2)),
            Protocol::Probes(train) => What::Probes(ProbePlan {
                train: train.clone(),
                shots: Vec::new(),
                seed: 0,
            }),
            Protocol::Disentanglement => What::Disentanglement {
                factors: None,
                seeds: SEEDS,
            },
            Protocol::File(path) => {
                let file = ProtocolFile::read(path)?;
                return Self::from_file(&file, table, options).map_err(|e| e.at_if_nowhere(path));
            }
        };
        Ok(Self {
            name: protocol.to_string(),
            options: options.clone(),
            what,
        })
    }

    pub(crate) fn from_file(
        file: &ProtocolFile,
        table: &Embeddings,
        options: &EvaluateOptions,
    ) -> Result<Self> {
        let mut options = options.clone();
        if let Some(label) = &file.label {
            options.label.clone_from(label);
        }
        if let Some(cluster) = &file.cluster {
            options.cluster = Some(cluster.clone());
        }
        if let Some(group) = &file.group {
            options.group = Some(group.clone());
        }
        options.score = file.score.unwrap_or(options.score);
        options.fars = file.fars.clone().unwrap_or(options.fars);
        options.ks = file.ks.clone().unwrap_or(options.ks);
        match file.resamples {
            Some(0) => options.bootstrap = None,
            Some(resamples) => {
                options.bootstrap = Some(BootstrapConfig {
                    resamples,
                    ..options.bootstrap.unwrap_or_default()
                });
            }
            None => {}
        }
        let pairs = file.pairs.as_deref().map(|p| file.path(p));
        let what = match file.kind {
            ProtocolKind::Verification => What::Verification {
                pairs,
                conditions: conditions(&file.condition, table)?,
                thresholds: match &file.threshold {
                    Some(entry) => thresholds(file, entry, &options)?,
                    None => Vec::new(),
                },
            },
            ProtocolKind::Folds => What::Folds {
                pairs: pairs.ok_or_else(|| needs("folds", "pairs"))?,
                rule: file.rule.unwrap_or(FoldRule::Strict),
            },
            ProtocolKind::Retrieval => What::Retrieval {
                queries: queries(file, table)?,
            },
            ProtocolKind::Clustering => What::Clustering {
                clusters: file.clusters,
                seed: file.seed,
            },
            ProtocolKind::Classification => What::Classification,
            ProtocolKind::Templates | ProtocolKind::Identification => {
                What::Templates(TemplatePlan::new(file)?)
            }
            ProtocolKind::Regression => What::Regression,
            ProtocolKind::Landmarks => {
                let truth = file
                    .truth
                    .as_ref()
                    .ok_or_else(|| needs("landmarks", "truth"))?;
                let plan = landmark_plan(&file.path(truth), table.dim() / 2);
                What::Landmarks(LandmarkPlan {
                    normaliser: file.normaliser.unwrap_or(plan.normaliser),
                    failure: file.failure.unwrap_or(plan.failure),
                    ..plan
                })
            }
            ProtocolKind::Probes => {
                let train = file
                    .train
                    .as_ref()
                    .ok_or_else(|| needs("probes", "train"))?;
                What::Probes(ProbePlan {
                    train: file.path(train),
                    shots: file.shots.clone(),
                    seed: file.seed,
                })
            }
            ProtocolKind::Disentanglement => What::Disentanglement {
                factors: file.factors.clone(),
                seeds: file.seeds.unwrap_or(SEEDS),
            },
        };
        Ok(Self {
            name: file.name.clone(),
            options,
            what,
        })
    }

    pub(crate) fn run(&self, table: &Embeddings) -> Result<Evaluation> {
        let mut out = self.figures(table)?;
        if let Some(group) = &self.options.group {
            groups::add(&mut out, self, table, group)?;
        }
        Ok(out)
    }

    fn figures(&self, table: &Embeddings) -> Result<Evaluation> {
        let options = &self.options;
        let mut info = describe(&self.name, table, options);
        match &self.what {
            What::Verification {
                pairs,
                conditions,
                thresholds,
            } => {
                let config = self.verification_config(table, conditions, thresholds)?;
                let result = match pairs {
                    None => {
                        let (label, labels) = resolve(table, &options.label)?;
                        info.insert("label".into(), json!(label));
                        info.insert("classes".into(), json!(distinct(labels)));
                        verify_all_pairs(table, labels, &config)?
                    }
                    Some(path) => {
                        let list = PairList::read_csv(path, table)?;
                        let labels = resolve(table, &options.label).ok();
                        if let Some((label, _)) = labels {
                            info.insert("label".into(), json!(label));
                        }
                        verify_pairs(table, &list, labels.map(|l| l.1), &config)
                            .map_err(|e| e.at(path))?
                    }
                };
                if !conditions.is_empty() {
                    let words: Vec<String> = conditions.iter().map(ToString::to_string).collect();
                    info.insert("conditions".into(), json!(words));
                }
                Ok(verification(info, result, options))
            }
            What::Folds { pairs, rule } => {
                let list = PairList::read_csv(pairs, table)?;
                let labels = resolve(table, &options.label).ok().map(|l| l.1);
                let found = verify_folds(table, &list, labels, *rule, options.score)
                    .map_err(|e| e.at(pairs))?;
                info.remove("bootstrap");
                if *rule != FoldRule::Strict {
                    info.remove("score");
                }
                let mut metrics = BTreeMap::from([
                    ("fold_accuracy".to_string(), found.mean),
                    ("fold_accuracy_sd".to_string(), found.sd),
                    ("fold_accuracy_spread".to_string(), found.spread),
                ]);
                if let Some(validation) = &found.validation {
                    metrics.insert(format!("val@far={:e}", validation.target), validation.val);
                    metrics.insert("val_far".to_string(), validation.far);
                }
                info.insert("pairs".into(), json!(list.pairs().len()));
                info.insert("folds".into(), json!(found));
                Ok(plain(info, metrics))
            }
            What::Retrieval { queries } => {
                let (label, labels) = resolve(table, &options.label)?;
                let config = self.retrieval_config(table, queries.clone())?;
                let result = retrieve(table, labels, &config)?;
                if let Some((unit, _)) = clusters(table, options)? {
                    name_unit(&mut info, unit);
                }
                info.insert("label".into(), json!(label));
                info.insert("classes".into(), json!(distinct(labels)));
                Ok(retrieval(info, result))
            }
            What::Clustering { clusters, seed } => {
                let (label, labels) = resolve(table, &options.label)?;
                let config = KMeansConfig {
                    seed: *seed,
                    score: options.score,
                    ..Default::default()
                };
                let k = clusters.unwrap_or_else(|| distinct(labels));
                let found = compare_clusters(labels, &kmeans(table, k, &config)?)?;
                info.remove("bootstrap");
                info.insert("label".into(), json!(label));
                info.insert("classes".into(), json!(found.classes));
                info.insert("clusters".into(), json!(found.clusters));
                info.insert("k_means".into(), json!(config));
                Ok(plain(info, found.metrics()))
            }
            What::Classification => classification(info, table, options),
            What::Templates(plan) => template_protocol::run(plan, info, table, options),
            What::Regression => run_regression(info, table, options),
            What::Landmarks(plan) => run_landmarks(plan, info, table, options),
            What::Probes(plan) => run_probes(plan, info, table, options),
            What::Disentanglement { factors, seeds } => {
                run_disentanglement(factors.as_deref(), *seeds, info, table)
            }
        }
    }

    fn verification_config(
        &self,
        table: &Embeddings,
        conditions: &[Condition],
        thresholds: &[f64],
    ) -> Result<VerificationConfig> {
        Ok(VerificationConfig {
            score: self.options.score,
            fars: self.options.fars.clone(),
            bootstrap: self.options.bootstrap,
            hardest: self.options.hardest,
            clusters: clusters(table, &self.options)?.map(|c| c.1.to_vec()),
            conditions: conditions.to_vec(),
            thresholds: thresholds.to_vec(),
        })
    }

    pub(crate) fn retrieval_config(
        &self,
        table: &Embeddings,
        queries: Option<Vec<usize>>,
    ) -> Result<RetrievalConfig> {
        Ok(RetrievalConfig {
            score: self.options.score,
            ks: self.options.ks.clone(),
            bootstrap: self.options.bootstrap,
            queries,
            clusters: clusters(table, &self.options)?.map(|c| c.1.to_vec()),
            ..Default::default()
        })
    }
}

pub(crate) fn needs(kind: &str, key: &str) -> Error {
    Error::missing(format!("kind `{kind}` needs the key `{key}`"))
}

fn conditions(entries: &[ConditionEntry], table: &Embeddings) -> Result<Vec<Condition>> {
    entries
        .iter()
        .map(|entry| {
            let codes = table.labels(&entry.column)?.to_vec();
            let relation = match (entry.relation.as_deref(), &entry.values) {
                (Some("same"), None) => Relation::Same,
                (Some("different"), None) => Relation::Different,
                (None, Some([a, b])) => Relation::Between(
                    a.code(table, &entry.column)?,
                    b.code(table, &entry.column)?,
                ),
                _ => {
                    return Err(Error::usage(format!(
                        "the condition on `{}` needs relation = \"same\" or \"different\", or values = [A, B]",
                        entry.column
                    )));
                }
            };
            Ok(Condition {
                column: entry.column.clone(),
                codes,
                relation,
                pairs: entry.pairs,
            })
        })
        .collect()
}

/// Fixed thresholds, and the one that a rule chooses on another table.
fn thresholds(
    file: &ProtocolFile,
    entry: &ThresholdEntry,
    options: &EvaluateOptions,
) -> Result<Vec<f64>> {
    let mut out = entry.values.clone();
    if let Some(bad) = out.iter().find(|t| !t.is_finite()) {
        return Err(Error::value(format!(
            "a threshold must be finite, found {bad}"
        )));
    }
    let Some(from) = &entry.from else {
        return if entry.rule.is_none() && entry.pairs.is_none() && !out.is_empty() {
            Ok(out)
        } else {
            Err(Error::usage(
                "[threshold] needs `values`, or `from` with a `rule` for a table it is chosen on",
            ))
        };
    };
    let rule = entry.rule.as_deref().unwrap_or("best-accuracy").parse()?;
    let table = Embeddings::read(file.path(from))?;
    let config = VerificationConfig {
        score: options.score,
        fars: Vec::new(),
        bootstrap: None,
        hardest: 0,
        ..Default::default()
    };
    let found = match &entry.pairs {
        Some(pairs) => {
            let list = PairList::read_csv(file.path(pairs), &table)?;
            verify_pairs(&table, &list, None, &config)?
        }
        None => verify_all_pairs(&table, resolve(&table, &options.label)?.1, &config)?,
    };
    let chosen = found.roc.threshold(rule)?;
    if !chosen.is_finite() {
        return Err(Error::degenerate(format!(
            "the rule `{}` accepts nothing or everything on {}: no threshold to carry over",
            entry.rule.as_deref().unwrap_or("best-accuracy"),
            from.display()
        )));
    }
    out.push(chosen);
    Ok(out)
}

fn queries(file: &ProtocolFile, table: &Embeddings) -> Result<Option<Vec<usize>>> {
    match (file.queries, &file.query) {
        (Some(_), Some(_)) => Err(Error::usage("`queries` and `query` exclude each other")),
        (Some(0), None) => Err(Error::usage("`queries` must be at least 1")),
        (Some(count), None) if count < table.len() => {
            let n = table.len() as u64;
            let rows = (0..count as u64).map(|i| (i * n / count as u64) as usize);
            Ok(Some(rows.collect()))
        }
        (_, None) => Ok(None),
        (None, Some(entry)) => {
            let column = table.labels(&entry.column)?;
            let wanted = entry.value.code(table, &entry.column)?;
            let rows: Vec<usize> = (0..column.len())
                .filter(|&i| column.get(i) == Some(&wanted))
                .collect();
            if rows.is_empty() {
                return Err(Error::degenerate(format!(
                    "no row has the value of a query in `{}`",
                    entry.column
                )));
            }
            Ok(Some(rows))
        }
    }
}
