//! What is known of rendered faces, as lines of JSON and as tensors.

use std::collections::BTreeMap;
use std::path::Path;

use phiz_synth::{
    ALL_EXPRESSIONS, Actions, Annotations, DISGUISES, Factors, Frame, LIGHTS, MAKEUP, OCCLUSIONS,
    PHASES, Rendered,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Serialize;

use crate::fetch::write_file;
use crate::rendered_labels::shown;
use crate::{Error, Result};

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

pub(super) fn class(names: &[&'static str], code: u32) -> &'static str {
    names.get(code as usize).copied().unwrap_or("")
}

pub(super) fn line(
    path: &str,
    person: u32,
    face: &Rendered,
    frame: Option<&Frame>,
) -> Result<String> {
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
pub(super) struct Tensors {
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

    pub fn push(&mut self, f: &Factors, a: &Annotations, frame: Option<&Frame>) {
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
    pub fn write(&self, path: &Path) -> Result<()> {
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
