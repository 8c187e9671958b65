//! Rendered faces with all that is known of them, written in layouts that other tools read.
//!
//! Beside the images every layout holds `annotations.jsonl` (an object a sample) and `annotations.safetensors` (a
//! tensor a kind of label, rows in the order of the lines), so that a program takes what it finds easier.

mod annotations;
mod forms;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use phiz_synth::{Factors, render_factors};
use rayon::prelude::*;

pub use forms::{RenderLayout, SHARD};

use crate::decode::encode_png;
use crate::export::refuse_occupied;
use crate::fetch::{Staging, write_file};
use crate::rendering::{Rendering, refused};
use crate::{Error, ErrorKind, Image, Result};
use annotations::{Tensors, line};
use forms::Sample;

/// Renders the first `count` samples of a [`SynthConfig`](phiz_synth::SynthConfig) or
/// [`VideoConfig`](phiz_synth::VideoConfig) (or as many as there are) into a new or empty folder. Gives the number of
/// images.
///
/// Everything is written beside `out` and renamed at the end: on failure nothing stays. The bytes depend on `set`,
/// `count` and `layout` alone.
///
/// # Errors
/// When a setting is out of its range, `count` is 0, or `out` is occupied or cannot be written.
pub fn write_rendered(
    set: impl Into<Rendering>,
    count: usize,
    out: &Path,
    layout: RenderLayout,
) -> Result<usize> {
    refuse_occupied(out)?;
    let rendering = set.into();
    rendering.validate()?;
    let config = *rendering.faces();
    let count = count.min(rendering.len());
    if count == 0 {
        return Err(Error::new(ErrorKind::Empty(
            "no images asked for: nothing to write".into(),
        )));
    }
    let mut form = layout.form(&rendering)?;
    let staging = Staging::new(out)?;
    let root = staging.path();
    let mut tensors = Tensors::default();
    let lines_path = root.join("annotations.jsonl");
    let failed = |e| Error::io("cannot write", &lines_path, e);
    let mut lines = BufWriter::new(File::create(&lines_path).map_err(failed)?);
    // A part at a time, so that memory stays small.
    for start in (0..count).step_by(256) {
        let part: Vec<_> = (start..count.min(start + 256))
            .into_par_iter()
            .map(|index| {
                let picture = rendering.picture(index)?;
                let face = render_factors(picture.factors(), config.size)
                    .map_err(|e| rendering.refused(&e))?;
                let png = encode_png(&face.image)?;
                Ok::<_, Error>((face, picture, png))
            })
            .collect();
        for (index, result) in (start..).zip(part) {
            let (face, picture, png) = result?;
            let sample = Sample {
                index,
                person: config.first_identity + face.factors.identity,
                face: &face,
                frame: picture.frame(),
                png: &png,
            };
            let place = form.place(&sample);
            let text = line(&place, sample.person, &face, sample.frame)?;
            writeln!(lines, "{text}").map_err(failed)?;
            tensors.push(&face.factors, &face.annotations, sample.frame);
            form.add(root, &place, &sample, &text)?;
        }
    }
    lines.flush().map_err(failed)?;
    tensors.write(&root.join("annotations.safetensors"))?;
    form.finish(root)?;
    staging.commit()?;
    Ok(count)
}

/// Writes the contact sheet of rendered faces, one row a factor, as a PNG file. Gives the names of the rows.
///
/// # Errors
/// When `size` is not 24 to 1024 or the file cannot be written.
pub fn write_sheet(seed: u64, size: usize, out: &Path) -> Result<Vec<&'static str>> {
    let refused = |e: phiz_synth::Error| refused("synth", &e);
    let rows = phiz_synth::sheet_rows(seed).map_err(refused)?;
    let faces: Vec<&Factors> = rows.iter().flat_map(|row| &row.faces).collect();
    let images = faces
        .par_iter()
        .map(|face| render_factors(face, size).map(|drawn| drawn.image))
        .collect::<std::result::Result<Vec<Image>, _>>()
        .map_err(refused)?;
    let sheet = phiz_synth::grid(&images, phiz_synth::SHEET_COLUMNS).map_err(refused)?;
    write_file(out, &encode_png(&sheet)?)?;
    Ok(rows.iter().map(|row| row.name).collect())
}

#[cfg(test)]
mod tests {
    use phiz_synth::{PHASES, SynthConfig, VideoConfig, render};

    use super::*;
    use crate::layouts::pts::parse_pts;
    use crate::{Dataset, Folder};

    fn config() -> SynthConfig {
        SynthConfig {
            identities: 2,
            per_expression: 1,
            size: 32,
            first_identity: 5,
            disguise: 0.5,
            ..SynthConfig::default()
        }
    }

    #[test]
    fn layouts_hold_what_was_rendered() {
        let root = tempfile::tempdir().unwrap();
        let config = config();
        let folder = root.path().join("folder");
        assert_eq!(
            write_rendered(config, 9, &folder, RenderLayout::Folder).unwrap(),
            9
        );
        let back = Folder::open(&folder).unwrap();
        assert_eq!(back.len(), 9);
        assert_eq!(back.labels().names("identity").unwrap(), ["p5", "p6"]);
        assert_eq!(back.image(3).unwrap(), render(&config, 3).unwrap().image);
        let text = std::fs::read_to_string(folder.join("annotations.jsonl")).unwrap();
        let record: serde_json::Value = serde_json::from_str(text.lines().nth(4).unwrap()).unwrap();
        let face = render(&config, 4).unwrap();
        assert_eq!(record["expression"], "happiness");
        assert_eq!(record["landmarks"].as_array().unwrap().len(), 68);
        let x = record["landmarks"][30][0].as_f64().unwrap();
        assert!((x - f64::from(face.annotations.landmarks[30][0])).abs() < 1e-4);
        assert!(record["factors"]["melanin"].is_number());

        let bytes = std::fs::read(folder.join("annotations.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let points = file.tensor("landmarks").unwrap();
        assert_eq!(points.shape(), [9, 68, 2]);
        let at = 4 * (4 * 136 + 2 * 30);
        let found = f32::from_le_bytes(points.data()[at..at + 4].try_into().unwrap());
        assert_eq!(found, face.annotations.landmarks[30][0]);
        assert_eq!(file.tensor("disguise").unwrap().shape(), [9]);

        let points = root.path().join("points");
        write_rendered(config, 2, &points, RenderLayout::Points).unwrap();
        let text = std::fs::read_to_string(points.join("000001.pts")).unwrap();
        let read = parse_pts(&text).unwrap();
        let ours = render(&config, 1).unwrap().annotations.landmarks;
        for (a, b) in read.iter().zip(ours) {
            assert!((a[0] - b[0]).abs() < 2e-3 && (a[1] - b[1]).abs() < 2e-3);
        }
    }

    #[test]
    fn frames_say_where_in_their_sequence_they_stand() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("video");
        let video = VideoConfig {
            faces: config(),
            sequences: 2,
            frames: 6,
            lead: 3.0,
            ..VideoConfig::default()
        };
        assert_eq!(
            write_rendered(video, 99, &out, RenderLayout::Folder).unwrap(),
            12
        );
        let text = std::fs::read_to_string(out.join("annotations.jsonl")).unwrap();
        let record: serde_json::Value = serde_json::from_str(text.lines().nth(8).unwrap()).unwrap();
        assert_eq!(
            (&record["sequence"], &record["frame"]),
            (&1.into(), &2.into())
        );
        assert_eq!(record["identity"], "p6");
        assert!(PHASES.contains(&record["phase"].as_str().unwrap()));
        let back = Folder::open(&out).unwrap();
        assert_eq!(
            back.labels().names("factor.sequence").unwrap(),
            ["s0", "s1"]
        );
        let bytes = std::fs::read(out.join("annotations.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("level").unwrap().shape(), [12]);
    }

    #[test]
    fn shards_hold_the_same_bytes_every_time() {
        let root = tempfile::tempdir().unwrap();
        let config = config();
        let write = |name: &str| {
            let out = root.path().join(name);
            write_rendered(config, 5, &out, RenderLayout::WebDataset).unwrap();
            std::fs::read(out.join("faces-000000.tar")).unwrap()
        };
        let (a, b) = (write("a"), write("b"));
        assert!(a == b);
        let mut archive = tar::Archive::new(&a[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names.len(), 15);
        assert_eq!(names[..3], ["000000.cls", "000000.json", "000000.png"]);
        let error = write_rendered(config, 0, &root.path().join("c"), RenderLayout::Folder);
        assert!(error.is_err() && !root.path().join("c").exists());
        assert!(write_rendered(config, 5, &root.path().join("a"), RenderLayout::Points).is_err());
        assert!("tar".parse::<RenderLayout>().is_err());
    }
}
