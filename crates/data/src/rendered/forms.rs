//! How rendered faces lie on disk: one writer for each layout.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use phiz_synth::{ALL_EXPRESSIONS, Actions, Frame, Rendered};

use super::annotations::class;
use crate::export::index_csv;
use crate::fetch::write_file;
use crate::layouts::action_units::{BP4D_UNITS, DISFA_UNITS};
use crate::layouts::mat::write_mat;
use crate::layouts::pts::write_pts;
use crate::layouts::{affectnet, aflw2000};
use crate::rendered_labels::{depth, shown};
use crate::rendering::Rendering;
use crate::{Error, Result, Subset, Synthetic};

/// How the images of a rendered set lie on disk.
///
/// The published layouts hold what a rendered face can say in them, so that a program made for the set reads them:
///
/// | layout | read by | notes |
/// |---|---|---|
/// | `Points` | `300w:PATH` | 68 points, the first pixel's centre at (1, 1) |
/// | `Aflw2000` | `aflw2000:PATH` | `pt3d_68` with the depth of `points3d`, away from the viewer; `Pose_Para` in our senses of rotation |
/// | `AffectNet` | `affectnet:PATH` | `training.csv`; box, points, expression, valence and arousal |
/// | `Disfa` | `disfa:PATH` | a subject a person; frames by their number in the set |
/// | `Bp4d` | `bp4d:PATH` | a task a sequence; frames by their number in it, of single pictures by that in the set |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenderLayout {
    /// `<identity>/<number>.png` and `index.csv`: what `folder:PATH`, torchvision's ImageFolder and Keras read, and how VGGFace2 lies.
    #[default]
    Folder,
    /// WebDataset: `faces-<shard>.tar`, each sample as `<number>.png`, `<number>.json` and `<number>.cls` (the number of
    /// the person), [`SHARD`] samples a file.
    WebDataset,
    /// 300-W: `<number>.png` with `<number>.pts` beside it.
    Points,
    /// AFLW2000-3D: `image<number>.png` with `image<number>.mat` beside it.
    Aflw2000,
    /// AffectNet: `training.csv` and `Manually_Annotated_Images`.
    AffectNet,
    /// DISFA: `ActionUnit_Labels/SN<person>/SN<person>_au1.txt` and so on, `Images/SN<person>/<frame>.png`.
    Disfa,
    /// BP4D: `AU-Intensity-Codes3.0/AU06/F<person>_T<task>_AU06.csv` and so on, `Images/F<person>/T<task>/<frame>.png`.
    Bp4d,
}

/// Samples in one file of [`RenderLayout::WebDataset`].
pub const SHARD: usize = 1000;

impl RenderLayout {
    /// The names it is chosen by.
    pub const NAMES: [&str; 7] = [
        "folder",
        "webdataset",
        "300w",
        "aflw2000",
        "affectnet",
        "disfa",
        "bp4d",
    ];

    /// A writer of this layout for samples of `rendering`.
    pub(super) fn form(self, rendering: &Rendering) -> Result<Box<dyn Form>> {
        Ok(match self {
            Self::Folder => Box::new(Folders {
                set: Arc::new(Synthetic::new(*rendering)?),
                places: Vec::new(),
            }),
            Self::WebDataset => Box::new(Shards::default()),
            Self::Points => Box::new(Points),
            Self::Aflw2000 => Box::new(InSpace),
            Self::AffectNet => Box::new(Affect::default()),
            Self::Disfa => Box::new(Disfa::default()),
            Self::Bp4d => Box::new(Bp4d::default()),
        })
    }
}

impl FromStr for RenderLayout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "folder" => Ok(Self::Folder),
            "webdataset" => Ok(Self::WebDataset),
            "300w" => Ok(Self::Points),
            "aflw2000" => Ok(Self::Aflw2000),
            "affectnet" => Ok(Self::AffectNet),
            "disfa" => Ok(Self::Disfa),
            "bp4d" => Ok(Self::Bp4d),
            _ => Err(Error::config(format!(
                "unknown layout {text:?}: expected {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// A face that was drawn.
pub(super) struct Sample<'a> {
    /// Its number in the set.
    pub index: usize,
    pub person: u32,
    pub face: &'a Rendered,
    pub frame: Option<&'a Frame>,
    pub png: &'a [u8],
}

impl Sample<'_> {
    /// Intensities of `units` in whole steps; 9, not coded, for those that rendered faces do not have.
    fn intensities<'a>(&'a self, units: &'a [u32]) -> impl Iterator<Item = (u32, u8)> + 'a {
        units.iter().map(|&unit| {
            let at = Actions::UNITS
                .iter()
                .position(|&known| u32::from(known) == unit);
            let intensity = at.map(|at| self.face.annotations.action_units[at]);
            (unit, intensity.map_or(9, |value| value.round() as u8))
        })
    }
}

/// A writer of one layout.
pub(super) trait Form {
    /// Where the image of a sample lies, with `/` between folders.
    fn place(&self, sample: &Sample<'_>) -> String;

    /// Writes what belongs to one sample, or keeps it for the end. `line` is its line of `annotations.jsonl`.
    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, line: &str) -> Result<()>;

    /// Writes what is known at the end alone.
    fn finish(&mut self, _root: &Path) -> Result<()> {
        Ok(())
    }
}

/// Writes a file and the folders that it lies in.
fn write_below(root: &Path, place: &str, bytes: &[u8]) -> Result<()> {
    let path = root.join(place);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("cannot create", folder, e))?;
    }
    write_file(&path, bytes)
}

struct Folders {
    set: Arc<Synthetic>,
    places: Vec<String>,
}

impl Form for Folders {
    fn place(&self, sample: &Sample<'_>) -> String {
        format!("p{}/{:06}.png", sample.person, sample.index)
    }

    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, _line: &str) -> Result<()> {
        self.places.push(place.into());
        write_below(root, place, sample.png)
    }

    fn finish(&mut self, root: &Path) -> Result<()> {
        let written = (0..self.places.len()).collect();
        let set = Subset::new(self.set.clone(), written)?;
        write_file(&root.join("index.csv"), &index_csv(&set, &self.places)?)
    }
}

#[derive(Default)]
struct Shards {
    open: Option<tar::Builder<BufWriter<File>>>,
}

impl Form for Shards {
    fn place(&self, sample: &Sample<'_>) -> String {
        format!("{:06}.png", sample.index)
    }

    fn add(&mut self, root: &Path, _place: &str, sample: &Sample<'_>, line: &str) -> Result<()> {
        let path = root.join(format!("faces-{:06}.tar", sample.index / SHARD));
        let failed = |e| Error::io("cannot write", &path, e);
        if sample.index.is_multiple_of(SHARD) {
            self.finish(root)?;
        }
        let shard = match &mut self.open {
            Some(open) => open,
            none => {
                let file = File::create(&path).map_err(failed)?;
                none.insert(tar::Builder::new(BufWriter::new(file)))
            }
        };
        let class = sample.face.factors.identity.to_string();
        for (kind, bytes) in [
            ("cls", class.as_bytes()),
            ("json", line.as_bytes()),
            ("png", sample.png),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            let name = format!("{:06}.{kind}", sample.index);
            shard
                .append_data(&mut header, name, bytes)
                .map_err(failed)?;
        }
        Ok(())
    }

    fn finish(&mut self, root: &Path) -> Result<()> {
        let failed = |e| Error::io("cannot write", root, e);
        match self.open.take() {
            Some(shard) => shard
                .into_inner()
                .and_then(|mut file| file.flush())
                .map_err(failed),
            None => Ok(()),
        }
    }
}

struct Points;

impl Form for Points {
    fn place(&self, sample: &Sample<'_>) -> String {
        format!("{:06}.png", sample.index)
    }

    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, _line: &str) -> Result<()> {
        let points = write_pts(&sample.face.annotations.landmarks);
        write_below(root, &place.replace(".png", ".pts"), points.as_bytes())?;
        write_below(root, place, sample.png)
    }
}

struct InSpace;

impl Form for InSpace {
    fn place(&self, sample: &Sample<'_>) -> String {
        format!("image{:05}.png", sample.index)
    }

    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, _line: &str) -> Result<()> {
        let known = &sample.face.annotations;
        let rows = known.landmarks.iter().zip(&known.landmarks_camera);
        let points: Vec<f64> = rows
            .flat_map(|([x, y], camera)| [*x, *y, depth(known, camera[2])])
            .map(f64::from)
            .collect();
        let pose = &known.pose;
        let [x, y, z] = pose.translation;
        let angles = [pose.pitch, pose.yaw, pose.roll].map(f32::to_radians);
        let scale = known.camera.focal / z;
        let pose = [angles[0], angles[1], angles[2], x, y, z, scale].map(f64::from);
        let file = write_mat(&[("pt3d_68", 3, &points), (aflw2000::POSE, 1, &pose)]);
        write_below(root, &place.replace(".png", ".mat"), &file)?;
        write_below(root, place, sample.png)
    }
}

#[derive(Default)]
struct Affect {
    list: String,
}

impl Form for Affect {
    fn place(&self, sample: &Sample<'_>) -> String {
        format!(
            "Manually_Annotated_Images/{}/{:06}.png",
            sample.person, sample.index
        )
    }

    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, _line: &str) -> Result<()> {
        let known = &sample.face.annotations;
        let name = class(
            &ALL_EXPRESSIONS,
            sample.frame.map_or(sample.face.factors.expression, shown),
        );
        let code = affectnet::EXPRESSIONS
            .iter()
            .position(|&known| known == name)
            .ok_or_else(|| Error::format(format!("AffectNet has no expression {name:?}")))?;
        let id = place
            .strip_prefix("Manually_Annotated_Images/")
            .unwrap_or(place);
        let [left, top, right, bottom] = known.bounding_box;
        let points: Vec<String> = known
            .landmarks
            .iter()
            .map(|[x, y]| format!("{x:.2};{y:.2}"))
            .collect();
        let (width, height) = (right - left, bottom - top);
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.list,
            "{id},{left:.0},{top:.0},{width:.0},{height:.0},{},{code},{},{}",
            points.join(";"),
            known.valence,
            known.arousal
        );
        write_below(root, place, sample.png)
    }

    fn finish(&mut self, root: &Path) -> Result<()> {
        let header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n";
        let list = format!("{header}{}", self.list);
        write_file(&root.join("training.csv"), list.as_bytes())
    }
}

/// Lists of intensities, by where they lie.
#[derive(Default)]
struct Lists(BTreeMap<String, String>);

impl Lists {
    fn code(&mut self, list: String, frame: usize, intensity: u8) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0.entry(list).or_default(), "{frame},{intensity}");
    }

    fn write(&self, root: &Path) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|(list, text)| write_below(root, list, text.as_bytes()))
    }
}

#[derive(Default)]
struct Disfa {
    lists: Lists,
}

impl Form for Disfa {
    fn place(&self, sample: &Sample<'_>) -> String {
        format!("Images/SN{:03}/{}.png", sample.person, sample.index + 1)
    }

    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, _line: &str) -> Result<()> {
        let subject = format!("SN{:03}", sample.person);
        for (unit, intensity) in sample.intensities(&DISFA_UNITS) {
            let list = format!("ActionUnit_Labels/{subject}/{subject}_au{unit}.txt");
            self.lists.code(list, sample.index + 1, intensity);
        }
        write_below(root, place, sample.png)
    }

    fn finish(&mut self, root: &Path) -> Result<()> {
        self.lists.write(root)
    }
}

#[derive(Default)]
struct Bp4d {
    lists: Lists,
}

/// Task and frame of a sample, from 1.
fn task(sample: &Sample<'_>) -> (usize, usize) {
    match sample.frame {
        Some(frame) => (frame.sequence + 1, frame.frame + 1),
        None => (1, sample.index + 1),
    }
}

impl Form for Bp4d {
    fn place(&self, sample: &Sample<'_>) -> String {
        let (task, frame) = task(sample);
        format!("Images/F{:03}/T{task}/{frame:04}.png", sample.person)
    }

    fn add(&mut self, root: &Path, place: &str, sample: &Sample<'_>, _line: &str) -> Result<()> {
        let (task, frame) = task(sample);
        for (unit, intensity) in sample.intensities(&BP4D_UNITS) {
            let name = format!("F{:03}_T{task}_AU{unit:02}.csv", sample.person);
            let list = format!("AU-Intensity-Codes3.0/AU{unit:02}/{name}");
            self.lists.code(list, frame, intensity);
        }
        write_below(root, place, sample.png)
    }

    fn finish(&mut self, root: &Path) -> Result<()> {
        self.lists.write(root)
    }
}
