//! Judging a pre-training run: `eval.json`, `report.html`, and embeddings.

use std::collections::BTreeMap;
use std::path::Path;

use phiz_data::{Column, Dataset};
use phiz_eval::Embeddings;
use serde_json::{Map, Value, json};

use super::part::{Part, part};
use super::probe::{self, Probed, Yardstick};
use super::run::PretrainRun;
use crate::source::open;
use crate::{Error, Result, open_device};

/// What was found out about a run.
pub struct PretrainVerdict {
    /// What was judged, and how.
    pub protocol: Map<String, Value>,
    /// By what was judged (`trunk`, `initialised`, `pixels`), what it is good for.
    pub probed: BTreeMap<&'static str, Probed>,
    pub(super) title: String,
    pub(super) rendered: bool,
    pub(super) run: std::path::PathBuf,
}

/// Probes a run's trunk on the people its training held out, beside the initialised trunk and the pixels.
///
/// `data`, another data spec, is divided in the way of the run's own: its first identities label expressions, its last
/// are judged.
///
/// # Errors
/// When the weights do not fit, the data cannot be read, or a probe is undefined on it.
pub fn judge(run: &PretrainRun, data: Option<&str>, device: &str) -> Result<PretrainVerdict> {
    let device = open_device(device)?;
    let mut config = run.config.clone();
    if let Some(data) = data {
        config.data.source = data.to_string();
    }
    let yardstick = Yardstick::of(&config, part(&config)?, &device)?;
    let probed = yardstick.all(&run.trunk(&device)?)?;
    let part = yardstick.part();
    let protocol = json!({
        "name": "frozen-probes",
        "identity": format!(
            "held-out people, every second image labelled; {} neighbours, or a linear probe",
            config.probe.identity_neighbours
        ),
        "expression": format!(
            "labelled images of the people learned from, asked of held-out people; {} neighbours, or a linear probe",
            config.probe.expression_neighbours
        ),
        "temperature": config.probe.temperature,
        "data": {
            "source": config.data.source,
            "part": part.description,
            "images": part.held_out.len(),
            "rendered": part.dataset.rendered(),
            "recipe": config.recipe,
            "seed": config.seed,
        },
    });
    let Value::Object(protocol) = protocol else {
        return Err(Error::config("the protocol is no object"));
    };
    Ok(PretrainVerdict {
        protocol,
        probed,
        title: format!("{} on {}", config.recipe, part.dataset.name()),
        rendered: part.dataset.rendered(),
        run: run.folder.clone(),
    })
}

impl PretrainVerdict {
    /// Every figure by its name: those of the trunk plainly, the others with `initialised_` or `pixels_` in front.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for (who, probed) in &self.probed {
            for (name, value) in probed.named() {
                let name = if *who == "trunk" {
                    name.to_string()
                } else {
                    format!("{who}_{name}")
                };
                all.insert(name, value);
            }
        }
        all
    }

    /// `{"protocol": {...}, "metrics": {...}}`.
    pub fn to_json(&self) -> Value {
        json!({ "protocol": self.protocol, "metrics": self.metrics() })
    }

    /// The figures as aligned text, one line for each of what was judged.
    pub fn table(&self) -> String {
        let about = if self.rendered {
            " (rendered faces)"
        } else {
            ""
        };
        let mut text = format!("{}{about}\n", self.title);
        for (who, probed) in &self.probed {
            text += &format!("  {who:<12}");
            for (name, value) in probed.named() {
                text += &format!("  {name} {value:.4}");
            }
            text.push('\n');
        }
        text
    }

    /// Writes `eval.json` and `report.html` into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        crate::folder::create_folder(folder)?;
        crate::folder::write_json(&folder.join("eval.json"), &self.to_json())?;
        crate::folder::write(&folder.join("report.html"), &super::page::page(self)?)
    }
}

/// The frozen features of a whole data set, with every label it has.
///
/// # Errors
/// When the weights do not fit or the data cannot be read.
pub fn embed(run: &PretrainRun, data: &str, device: &str) -> Result<Embeddings> {
    let device = open_device(device)?;
    let dataset = open(data)?;
    let indices: Vec<usize> = (0..dataset.len()).collect();
    let part = Part {
        dataset,
        train: Vec::new(),
        labels: Vec::new(),
        classes: 0,
        held_out: Vec::new(),
        description: String::new(),
    };
    let trunk = run.trunk(&device)?;
    let transform = probe::transform(&run.config);
    let values = probe::features(&trunk, &part, &indices, &transform, &device)?;
    let dataset: &dyn Dataset = part.dataset.as_ref();
    let ids = indices.iter().map(|&index| dataset.sample_id(index));
    let mut embeddings = Embeddings::new(values, trunk.features())?.with_ids(ids.collect())?;
    for (name, column) in dataset.labels().columns() {
        embeddings = match column {
            Column::Categorical { codes, names } => embeddings
                .with_labels(name, codes.clone())?
                .with_names(name, names.clone()),
            Column::Continuous(numbers) => embeddings.with_factor(name, numbers.clone())?,
            // What else there is has no place in a table of embeddings.
            #[allow(unreachable_patterns)]
            _ => embeddings,
        };
    }
    match dataset.labels().get("identity") {
        Some(_) => Ok(embeddings
            .with_labels("labels", dataset.labels().codes("identity")?.to_vec())?
            .with_names("labels", dataset.labels().names("identity")?.to_vec())),
        None => Ok(embeddings),
    }
}
