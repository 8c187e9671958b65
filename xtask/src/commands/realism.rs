//! `reproduce synth-realism`: what networks that know only real faces say of rendered ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use phiz_data::{RenderLayout, Spec, fetch, write_rendered};
use serde_json::{Value, json};

use crate::commands::{bench, print_json, print_text};

/// Near-frontal faces for the detector and the landmarks.
const NEAR: &str = "synth:identities=30,per_expression=1,size=256,seed=11,pose=0.5,glasses=0";
/// People under moderate pose, light and expression for the recogniser.
const PEOPLE: &str =
    "synth:identities=40,per_expression=1,size=256,seed=12,pose=0.7,expression_strength=0.5";

/// What must be installed, for the message when it is not.
const NEEDS: &str = "needs a Python with: pip install numpy pillow onnxruntime \"opencv-python-headless<5\" \
     (PHIZ_PEERS_PYTHON names it), and npm for the two networks (cargo xtask data fetch face-models)";

/// Renders, runs `fixtures/synth/realism.py`, prints three figures with their aims.
pub fn run(out: &Path, as_json: bool) -> Result<()> {
    // Before anything is fetched or rendered.
    let packages = Command::new(bench::interpreter(None))
        .args(["-c", "import numpy, PIL, onnxruntime, cv2"])
        .output()
        .context(NEEDS)?;
    if !packages.status.success() {
        let errors = String::from_utf8_lossy(&packages.stderr).into_owned();
        bail!("{}; {NEEDS}", errors.lines().last().unwrap_or("no message"));
    }
    let models = fetch("face-models").context(NEEDS)?;
    let faces = out.join("faces");
    for (name, text) in [("near", NEAR), ("people", PEOPLE)] {
        let folder = faces.join(name);
        // Rendered anew: what lies there may be of an older renderer.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot replace {}", folder.display()))?;
        }
        let Spec::Synth(config) = text.parse()? else {
            bail!("{text}: expected rendered faces");
        };
        std::fs::create_dir_all(&faces)?;
        write_rendered(config, config.len(), &folder, RenderLayout::Folder)?;
    }
    let script: PathBuf = bench::fixtures()?.join("synth").join("realism.py");
    let output = Command::new(bench::interpreter(None))
        .arg(&script)
        .args([&faces, &models])
        .output()
        .context(NEEDS)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = errors.lines().last().unwrap_or("no message");
        bail!("{}: {last}; {NEEDS}", script.display());
    }
    let found: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: expected one JSON object", script.display()))?;
    let rows = [
        ("detector rate", "detected", "at least 0.95"),
        (
            "landmark distance / inter-ocular distance",
            "landmark_distance",
            "at most 0.08",
        ),
        (
            "same/different AUC of the recogniser",
            "auc",
            "at least 0.95",
        ),
    ];
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(name, key, aim)| json!({"name": name, "value": found[*key], "aim": aim}))
            .collect();
        return print_json(&json!({
            "rows": rows,
            "data": {"near": NEAR, "people": PEOPLE},
            "details": found,
        }));
    }
    let mut lines = vec![
        format!("rendered faces: near-frontal {NEAR}; people {PEOPLE}"),
        "| figure | found | aim |".to_string(),
        "| --- | --- | --- |".to_string(),
    ];
    for (name, key, aim) in rows {
        let value = found[key].as_f64().unwrap_or(f64::NAN);
        lines.push(format!("| {name} | {value:.4} | {aim} |"));
    }
    print_text(&lines.join("\n"))
}
