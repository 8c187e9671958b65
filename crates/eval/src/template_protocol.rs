//! 1:1 and 1:N over templates, from the files a protocol file names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::embeddings::Embeddings;
use crate::error::Result;
use crate::figures::plain;
use crate::identification::{IdentificationConfig, identify};
use crate::plan::needs;
use crate::protocol::{Curves, EvaluateOptions, Evaluation};
use crate::protocol_file::{ProtocolFile, ProtocolKind, TemplatesEntry};
use crate::template_files::{TemplateIndex, TemplatePairs, read_detector_scores, read_subjects};
use crate::templates::{PoolConfig, Templates, pool_templates, verify_templates};
use crate::verification::{tar_name, too_few};

/// The files of a template protocol, with their paths made whole.
pub(crate) struct TemplatePlan {
    entry: TemplatesEntry,
    one_to_many: bool,
}

impl TemplatePlan {
    pub(crate) fn new(file: &ProtocolFile) -> Result<Self> {
        let one_to_many = file.kind == ProtocolKind::Identification;
        let kind = if one_to_many {
            "identification"
        } else {
            "templates"
        };
        let mut entry = file
            .templates
            .clone()
            .ok_or_else(|| needs(kind, "[templates]"))?;
        let whole = |path: &PathBuf| file.path(path);
        entry.index = file.path(&entry.index);
        entry.pairs = entry.pairs.as_ref().map(whole);
        entry.detector = entry.detector.as_ref().map(whole);
        entry.probes = entry.probes.as_ref().map(whole);
        entry.galleries = entry.galleries.iter().map(whole).collect();
        if one_to_many && (entry.galleries.is_empty() || entry.probes.is_none()) {
            return Err(needs(kind, "templates.galleries` and `templates.probes"));
        }
        if !one_to_many && entry.pairs.is_none() {
            return Err(needs(kind, "templates.pairs"));
        }
        Ok(Self { entry, one_to_many })
    }
}

pub(crate) fn run(
    plan: &TemplatePlan,
    mut info: Map<String, Value>,
    table: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    let entry = &plan.entry;
    let detector = entry
        .detector
        .as_ref()
        .map(read_detector_scores)
        .transpose()?;
    info.remove("bootstrap");
    info.insert("score".into(), json!("cosine"));
    let flags = [
        entry.keep_norm,
        detector.is_some(),
        entry.flip == crate::Flip::Sum,
    ];
    let [n, d, f] = flags.map(u8::from);
    info.insert("flags".into(), json!(format!("N{n}D{d}F{f}")));
    info.insert("flip".into(), json!(entry.flip));
    let config = PoolConfig {
        keep_norm: entry.keep_norm,
        flip: entry.flip,
        detector,
    };
    let index = TemplateIndex::read(&entry.index)?;
    let templates = pool_templates(table, &index, &config)?;
    info.insert("templates".into(), json!(templates.ids().len()));
    if plan.one_to_many {
        one_to_many(entry, info, &templates)
    } else {
        one_to_one(entry, info, &templates, options)
    }
}

fn one_to_one(
    entry: &TemplatesEntry,
    mut info: Map<String, Value>,
    templates: &Templates,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    let path = entry
        .pairs
        .as_ref()
        .ok_or_else(|| needs("templates", "templates.pairs"))?;
    let pairs = TemplatePairs::read(path)?;
    let found = verify_templates(templates, &pairs, &options.fars).map_err(|e| e.at(path))?;
    let impostor = found.roc.impostor();
    info.insert("genuine_pairs".into(), json!(found.roc.genuine()));
    info.insert("impostor_pairs".into(), json!(impostor));
    info.insert(
        "tar_rule".into(),
        json!("tar@far: largest acceptance whose FAR does not exceed the target; nearest_tar@far: insightface's, the point with the nearest FAR"),
    );
    let mut metrics = BTreeMap::from([
        ("auc".to_string(), found.auc),
        ("eer".to_string(), found.eer.rate),
    ]);
    let (mut undefined, mut detail) = (BTreeMap::new(), Map::new());
    for (far, tar) in &found.exact {
        match tar {
            Some(tar) => {
                metrics.insert(tar_name(*far), tar.tar);
                detail.insert(tar_name(*far), json!(tar));
            }
            None => {
                undefined.insert(tar_name(*far), too_few(*far, impostor));
            }
        }
    }
    for (far, tar) in &found.nearest {
        let name = format!("nearest_{}", tar_name(*far));
        metrics.insert(name.clone(), tar.tar);
        detail.insert(name, json!(tar));
    }
    info.insert("tar_detail".into(), Value::Object(detail));
    Ok(Evaluation {
        protocol: info,
        metrics,
        intervals: BTreeMap::new(),
        undefined,
        curves: Curves {
            roc: found.roc.curve(),
            ..Default::default()
        },
    })
}

fn one_to_many(
    entry: &TemplatesEntry,
    mut info: Map<String, Value>,
    templates: &Templates,
) -> Result<Evaluation> {
    let fallback = IdentificationConfig::default();
    let config = IdentificationConfig {
        fpirs: entry.fpirs.clone().unwrap_or(fallback.fpirs),
        ranks: entry.ranks.clone().unwrap_or(fallback.ranks),
        cmc: fallback.cmc,
    };
    let path = entry
        .probes
        .as_ref()
        .ok_or_else(|| needs("identification", "templates.probes"))?;
    let probes = read_subjects(path)?;
    let mut found = Vec::new();
    for gallery in &entry.galleries {
        let enrolled = read_subjects(gallery)?;
        let one = identify(templates, &enrolled, &probes, &config).map_err(|e| e.at(gallery))?;
        found.push((gallery, enrolled.len(), one));
    }
    let mated: usize = found.iter().map(|f| f.2.mated).sum();
    // Closed set: every mated probe counts once. Open set: the mean over galleries, as each has its own non-mated probes.
    let weighted = |value: &dyn Fn(&crate::Identification) -> f64| {
        let sum: f64 = found.iter().map(|f| value(&f.2) * f.2.mated as f64).sum();
        sum / mated as f64
    };
    let galleries = found.len() as f64;
    let mut metrics = BTreeMap::new();
    let mut undefined = BTreeMap::new();
    for (i, k) in config.ranks.iter().enumerate() {
        let at = |one: &crate::Identification| one.ranks.get(i).map_or(f64::NAN, |r| r.1);
        metrics.insert(format!("rank-{k}"), weighted(&at));
    }
    for (i, fpir) in config.fpirs.iter().enumerate() {
        let name = format!("tpir@fpir={fpir:e}");
        let exact: Option<Vec<f64>> = found
            .iter()
            .map(|f| f.2.exact.get(i)?.1.map(|t| t.tpir))
            .collect();
        match exact {
            Some(values) => {
                metrics.insert(name.clone(), values.iter().sum::<f64>() / galleries);
            }
            None => {
                let fewest = found.iter().map(|f| f.2.non_mated).min().unwrap_or(0);
                let reason = format!(
                    "needs {} non-mated probes, there are {fewest}",
                    (1.0 / fpir).ceil()
                );
                undefined.insert(name.clone(), reason);
            }
        }
        let theirs: Option<Vec<f64>> = found
            .iter()
            .map(|f| f.2.insightface.get(i).map(|t| t.1.tpir))
            .collect();
        if let Some(values) = theirs {
            let mean = values.iter().sum::<f64>() / galleries;
            metrics.insert(format!("insightface_{name}"), mean);
        }
    }
    let shortest = found.iter().map(|f| f.2.cmc.len()).min().unwrap_or(0);
    let cmc = (0..shortest)
        .map(|k| weighted(&|one: &crate::Identification| one.cmc.get(k).copied().unwrap_or(0.0)))
        .collect();
    info.insert("probes".into(), json!(probes.len()));
    let details: Vec<Value> = found
        .iter()
        .map(|(path, size, one)| {
            json!({
                "gallery": path.display().to_string(),
                "templates": size,
                "mated": one.mated,
                "non_mated": one.non_mated,
                "exact": one.exact.iter().filter_map(|e| e.1).collect::<Vec<_>>(),
                "insightface": one.insightface.iter().map(|e| e.1).collect::<Vec<_>>(),
            })
        })
        .collect();
    info.insert("galleries".into(), json!(details));
    Ok(Evaluation {
        undefined,
        curves: Curves {
            cmc,
            ..Default::default()
        },
        ..plain(info, metrics)
    })
}
