//! Rendered faces with all that is known of them, written in layouts that other tools read.
//!
//! Beside the images every layout holds `annotations.jsonl` (an object a sample) and `annotations.safetensors` (a
//! tensor a kind of label, rows in the order of the lines), so that a program takes what it finds easier.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use phiz_synth::{
    ALL_EXPRESSIONS, Actions, Annotations, DISGUISES, Factors, Frame, LIGHTS, MAKEUP, OCCLUSIONS,
    PHASES, Rendered, render_factors,
};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Serialize;

use crate::decode::encode_png;
use crate::export::{index_csv, refuse_occupied};
use crate::fetch::{Staging, write_file};
use crate::layouts::pts::write_pts;
use crate::rendered_labels::shown;
use crate::rendering::{Rendering, refused};
use crate::{Error, ErrorKind, Image, Result, Subset, Synthetic};

/// How the images of a rendered set lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenderLayout {
    /// `<identity>/<number>.png` and `index.csv`: what `folder:PATH`, torchvision's ImageFolder and Keras read.
    #[default]
    Folder,
    /// WebDataset: `faces-<shard>.tar`, each sample as `<number>.png`, `<number>.json` and `<number>.cls` (the number of
    /// the person), [`SHARD`] samples a file.
    WebDataset,
    /// 300-W: `<number>.png` with `<number>.pts` beside it, 68 points, the first pixel's centre at (1, 1).
    Points,
}

/// Samples in one file of [`RenderLayout::WebDataset`].
pub const SHARD: usize = 1000;

impl RenderLayout {
    /// The names it is chosen by.
    pub const NAMES: [&str; 3] = ["folder", "webdataset", "300w"];
}

impl FromStr for RenderLayout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "folder" => Ok(Self::Folder),
            "webdataset" => Ok(Self::WebDataset),
            "300w" => Ok(Self::Points),
            _ => Err(Error::config(format!(
                "unknown layout {text:?}: expected {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// Where the head is, as one line of `annotations.jsonl` says it.
#[derive(Serialize)]
struct PoseLine {
    rotation: [[f32; 3]; 3],
    translation: [f32; 3],
    yaw: f32,
    pitch: f32,
    roll: f32,
}

#[derive(Serialize)]
struct CameraLine {
    focal: f32,
    principal: [f32; 2],
}

/// Where in a sequence a picture stands.
#[derive(Serialize)]
struct FrameLine {
    sequence: usize,
    frame: usize,
    time: f32,
    phase: &'static str,
    level: f32,
    talks: bool,
    sequence_expression: &'static str,
}

/// A line of `annotations.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    identity: String,
    expression: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    video: Option<FrameLine>,
    makeup: &'static str,
    disguise: &'static str,
    light: &'static str,
    occlusion: &'static str,
    action_units: BTreeMap<String, f32>,
    valence: f32,
    arousal: f32,
    landmarks: Vec<[f32; 2]>,
    landmarks_visible: Vec<bool>,
    five: [[f32; 2]; 5],
    five_visible: [bool; 5],
    bounding_box: [f32; 4],
    pose: PoseLine,
    camera: CameraLine,
    factors: BTreeMap<&'static str, f32>,
}

fn class(names: &[&'static str], code: u32) -> &'static str {
    names.get(code as usize).copied().unwrap_or("")
}

fn line(path: &str, person: u32, face: &Rendered, frame: Option<&Frame>) -> Result<String> {
    let (f, a) = (&face.factors, &face.annotations);
    let video = frame.map(|v| FrameLine {
        sequence: v.sequence,
        frame: v.frame,
        time: v.time,
        phase: class(&PHASES, v.phase as u32),
        level: v.level,
        talks: v.talks,
        sequence_expression: class(&ALL_EXPRESSIONS, f.expression),
    });
    let units = Actions::UNITS.iter().zip(a.action_units);
    let line = Line {
        path,
        identity: format!("p{person}"),
        expression: class(&ALL_EXPRESSIONS, frame.map_or(f.expression, shown)),
        video,
        makeup: class(&MAKEUP, f.states.makeup),
        disguise: class(&DISGUISES, f.states.disguise),
        light: class(&LIGHTS, f.states.light),
        occlusion: class(&OCCLUSIONS, f.states.occlusion),
        action_units: units.map(|(n, value)| (format!("AU{n}"), value)).collect(),
        valence: a.valence,
        arousal: a.arousal,
        landmarks: a.landmarks.to_vec(),
        landmarks_visible: a.landmarks_visible.to_vec(),
        five: a.five,
        five_visible: a.five_visible,
        bounding_box: a.bounding_box,
        pose: PoseLine {
            rotation: a.pose.rotation,
            translation: a.pose.translation,
            yaw: a.pose.yaw,
            pitch: a.pose.pitch,
            roll: a.pose.roll,
        },
        camera: CameraLine {
            focal: a.camera.focal,
            principal: a.camera.principal,
        },
        factors: f.values().into_iter().collect(),
    };
    serde_json::to_string(&line).map_err(|e| Error::format(e.to_string()))
}

/// One kind of label: its bytes, dtype and the shape of one row.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    dtype: Option<Dtype>,
    shape: Vec<usize>,
}

/// Labels gathered for `annotations.safetensors`.
#[derive(Default)]
struct Tensors {
    rows: usize,
    columns: BTreeMap<&'static str, Gathered>,
}

impl Tensors {
    fn floats(
        &mut self,
        name: &'static str,
        shape: &[usize],
        values: impl IntoIterator<Item = f32>,
    ) {
        let slot = self.columns.entry(name).or_default();
        slot.dtype = Some(Dtype::F32);
        slot.shape = shape.to_vec();
        for value in values {
            slot.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn code(&mut self, name: &'static str, value: u32) {
        let slot = self.columns.entry(name).or_default();
        slot.dtype = Some(Dtype::U32);
        slot.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn push(&mut self, f: &Factors, a: &Annotations, frame: Option<&Frame>) {
        self.rows += 1;
        if let Some(v) = frame {
            for (name, value) in [
                ("sequence", v.sequence as u32),
                ("frame", v.frame as u32),
                ("phase", v.phase as u32),
                ("sequence_expression", f.expression),
            ] {
                self.code(name, value);
            }
            self.floats("level", &[], [v.level]);
            self.floats("time", &[], [v.time]);
        }
        for (name, value) in [
            ("identity", f.identity),
            ("expression", frame.map_or(f.expression, shown)),
            ("makeup", f.states.makeup),
            ("disguise", f.states.disguise),
            ("light", f.states.light),
            ("occlusion", f.states.occlusion),
        ] {
            self.code(name, value);
        }
        let points = a.landmarks.len();
        self.floats("landmarks", &[points, 2], a.landmarks.into_iter().flatten());
        let seen = |v: bool| f32::from(u8::from(v));
        self.floats(
            "landmarks_visible",
            &[points],
            a.landmarks_visible.into_iter().map(seen),
        );
        self.floats(
            "landmarks_camera",
            &[points, 3],
            a.landmarks_camera.into_iter().flatten(),
        );
        self.floats(
            "landmarks_canonical",
            &[points, 3],
            a.landmarks_canonical.into_iter().flatten(),
        );
        self.floats("five", &[5, 2], a.five.into_iter().flatten());
        self.floats("rotation", &[3, 3], a.pose.rotation.into_iter().flatten());
        self.floats("translation", &[3], a.pose.translation);
        let [px, py] = a.camera.principal;
        self.floats("camera", &[3], [a.camera.focal, px, py]);
        self.floats("action_units", &[a.action_units.len()], a.action_units);
        self.floats("valence_arousal", &[2], [a.valence, a.arousal]);
        self.floats("bounding_box", &[4], a.bounding_box);
        let factors = f.values();
        self.floats(
            "factors",
            &[factors.len()],
            factors.into_iter().map(|v| v.1),
        );
    }

    /// The file; the names of the factors stand in its metadata, with commas between.
    fn write(&self, path: &Path) -> Result<()> {
        let failed = |e: safetensors::SafeTensorError| Error::format(e.to_string()).at(path);
        let mut views = Vec::new();
        for (name, gathered) in &self.columns {
            let shape = std::iter::once(self.rows).chain(gathered.shape.iter().copied());
            let dtype = gathered.dtype.unwrap_or(Dtype::F32);
            let view = TensorView::new(dtype, shape.collect(), &gathered.bytes).map_err(failed)?;
            views.push((*name, view));
        }
        let names: Vec<&str> = Factors::default().values().iter().map(|v| v.0).collect();
        let units: Vec<String> = Actions::UNITS.iter().map(u8::to_string).collect();
        let about = [
            ("factors", names.join(",")),
            ("action_units", units.join(",")),
            ("expression", ALL_EXPRESSIONS.join(",")),
            ("makeup", MAKEUP.join(",")),
            ("disguise", DISGUISES.join(",")),
            ("light", LIGHTS.join(",")),
            ("occlusion", OCCLUSIONS.join(",")),
            ("phase", PHASES.join(",")),
        ];
        let about = about
            .into_iter()
            .filter(|(name, _)| self.columns.contains_key(name))
            .map(|(name, classes)| (name.to_string(), classes))
            .collect();
        let bytes = safetensors::serialize(views, Some(about)).map_err(failed)?;
        write_file(path, &bytes)
    }
}

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
    // The labels of the whole set are needed for the index alone.
    let labelled = match layout {
        RenderLayout::Folder => Some(Synthetic::new(rendering)?),
        RenderLayout::WebDataset | RenderLayout::Points => None,
    };
    let config = *rendering.faces();
    let count = count.min(rendering.len());
    if count == 0 {
        return Err(Error::new(ErrorKind::Empty(
            "no images asked for: nothing to write".into(),
        )));
    }
    let staging = Staging::new(out)?;
    let root = staging.path().to_path_buf();
    let person = |f: &Factors| config.first_identity + f.identity;
    let place = |i: usize, f: &Factors| match layout {
        RenderLayout::Folder => format!("p{}/{i:06}.png", person(f)),
        RenderLayout::WebDataset | RenderLayout::Points => format!("{i:06}.png"),
    };
    let mut tensors = Tensors::default();
    let mut paths = Vec::with_capacity(count);
    let lines_path = root.join("annotations.jsonl");
    let io = |path: &Path| {
        let path: PathBuf = path.into();
        move |e| Error::io("cannot write", &path, e)
    };
    let file = File::create(&lines_path).map_err(io(&lines_path))?;
    let mut lines = BufWriter::new(file);
    let mut shard: Option<tar::Builder<BufWriter<File>>> = None;
    // A part at a time, so that memory stays small.
    for start in (0..count).step_by(256) {
        let part: Vec<_> = (start..count.min(start + 256))
            .into_par_iter()
            .map(|i| {
                let picture = rendering.picture(i)?;
                let face = render_factors(picture.factors(), config.size)
                    .map_err(|e| rendering.refused(&e))?;
                let png = encode_png(&face.image)?;
                Ok::<_, Error>((face, picture, png))
            })
            .collect();
        for (i, result) in (start..).zip(part) {
            let (face, picture, png) = result?;
            let (f, a, frame) = (&face.factors, &face.annotations, picture.frame());
            let path = place(i, f);
            let text = line(&path, person(f), &face, frame)?;
            writeln!(lines, "{text}").map_err(io(&lines_path))?;
            tensors.push(f, a, frame);
            match layout {
                RenderLayout::Folder => {
                    let folder = root.join(format!("p{}", person(f)));
                    std::fs::create_dir_all(&folder).map_err(io(&folder))?;
                    write_file(&root.join(&path), &png)?;
                }
                RenderLayout::Points => {
                    write_file(&root.join(&path), &png)?;
                    let points = root.join(format!("{i:06}.pts"));
                    write_file(&points, write_pts(&a.landmarks).as_bytes())?;
                }
                RenderLayout::WebDataset => {
                    let name = root.join(format!("faces-{:06}.tar", i / SHARD));
                    if i % SHARD == 0 {
                        if let Some(full) = shard.take() {
                            finish(full).map_err(io(&name))?;
                        }
                        let file = File::create(&name).map_err(io(&name))?;
                        shard = Some(tar::Builder::new(BufWriter::new(file)));
                    }
                    if let Some(shard) = &mut shard {
                        let class = f.identity.to_string();
                        for (kind, bytes) in [
                            ("cls", class.as_bytes()),
                            ("json", text.as_bytes()),
                            ("png", &png),
                        ] {
                            append(shard, &format!("{i:06}.{kind}"), bytes).map_err(io(&name))?;
                        }
                    }
                }
            }
            paths.push(path);
        }
    }
    lines.flush().map_err(io(&lines_path))?;
    if let Some(last) = shard.take() {
        finish(last).map_err(io(&root))?;
    }
    tensors.write(&root.join("annotations.safetensors"))?;
    if let Some(set) = labelled {
        let set = Subset::new(Arc::new(set), (0..count).collect())?;
        write_file(&root.join("index.csv"), &index_csv(&set, &paths)?)?;
    }
    staging.commit()?;
    Ok(count)
}

fn append(
    shard: &mut tar::Builder<BufWriter<File>>,
    name: &str,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    shard.append_data(&mut header, name, bytes)
}

fn finish(shard: tar::Builder<BufWriter<File>>) -> std::io::Result<()> {
    shard.into_inner()?.flush()
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
    use phiz_synth::{SynthConfig, VideoConfig, render};

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
