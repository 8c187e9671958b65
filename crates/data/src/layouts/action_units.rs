//! BP4D and DISFA: videos as numbered frames, and the intensity of action units frame by frame.
//!
//! Both code FACS intensities from 0 (absent) to 5 (maximum) in one list an action unit and sequence, and hand the frames
//! out as videos or loose images. Frames are found by the number in their names, whatever the zeros before it, so that
//! `0012.jpg` and `12.png` are both frame 12.
//!
//! | set | lists, below PATH | a record | frames, below PATH |
//! |---|---|---|---|
//! | DISFA (Mavadati et al. 2013) | `ActionUnit_Labels/SN001/SN001_au1.txt` | `frame,intensity` | `Images/SN001/1.jpg` |
//! | BP4D (Zhang et al. 2014; FERA 2015's AUs) | `AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv` | `frame,intensity`; 9: not coded | `Images/F001/T1/2440.jpg` |
//!
//! Labels: `identity`, `sequence` (a subject's task in BP4D, the subject in DISFA), `factor.frame`, and `action_units`, named `AU1`, `AU2` ...,
//! from 0 to 5, NaN where a frame was not coded. A frame without an image is left out, since the videos are longer than what was
//! coded; an image that no list names is left out as well. A subject of the lists without any image is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{find, names_in, read_list};
use crate::decode::EXTENSIONS;
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result, Vectors};

/// The action units coded in DISFA.
pub const DISFA_UNITS: [u32; 12] = [1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26];

/// The action units whose intensity is coded in BP4D.
pub const BP4D_UNITS: [u32; 5] = [6, 10, 12, 14, 17];

/// FERA 2015's parts of BP4D: the odd subjects (F001 to F023, M001 to M017) and the even ones (F002 to F022, M002 to M018).
pub const FERA_2015: [&str; 2] = ["train", "development"];

/// Opens DISFA.
///
/// # Errors
/// Names list and line: an intensity outside of 0 to 5, a frame coded twice, a list or a subject's frames missing.
pub fn open_disfa(root: &Path) -> Result<Folder> {
    let lists = find(root, &["ActionUnit_Labels"])?;
    let images = find(root, &["Images", "images"])?;
    let mut sequences = Vec::new();
    for subject in folders(&lists)? {
        let list = |unit: u32| lists.join(&subject).join(format!("{subject}_au{unit}.txt"));
        sequences.push(Sequence {
            lists: DISFA_UNITS.iter().map(|&unit| list(unit)).collect(),
            frames: subject.clone(),
            name: subject.clone(),
            subject,
        });
    }
    open("disfa", &lists, &images, &sequences, &DISFA_UNITS)
}

/// Opens BP4D, or one of [`FERA_2015`]'s parts of it.
///
/// # Errors
/// As [`open_disfa`]; or a subject is not a letter and a number.
pub fn open_bp4d(root: &Path, part: Option<&str>) -> Result<Folder> {
    let wanted = part.map(|part| u32::from(part == FERA_2015[0]));
    let lists = find(root, &["AU-Intensity-Codes3.0", "AU-Intensity-Codes"])?;
    let images = find(root, &["Images", "images", "2D+3D", "Sequences(2D+3D)"])?;
    let unit_folder = |unit: u32| lists.join(format!("AU{unit:02}"));
    let mut sequences = Vec::new();
    for name in names_in(&unit_folder(BP4D_UNITS[0]))? {
        let parts: Vec<&str> = name.split('_').collect();
        let [subject, task, _] = parts[..] else {
            let wrong = unit_folder(BP4D_UNITS[0]).join(&name);
            return Err(Error::format("expected a name like F001_T1_AU06.csv").at(&wrong));
        };
        let number = subject
            .get(1..)
            .and_then(|digits| digits.parse::<u32>().ok());
        let Some(number) = number else {
            let wrong = unit_folder(BP4D_UNITS[0]).join(&name);
            return Err(Error::format("expected a name like F001_T1_AU06.csv").at(&wrong));
        };
        if wanted.is_some_and(|odd| number % 2 != odd) {
            continue;
        }
        let list = |unit: u32| unit_folder(unit).join(format!("{subject}_{task}_AU{unit:02}.csv"));
        sequences.push(Sequence {
            lists: BP4D_UNITS.iter().map(|&unit| list(unit)).collect(),
            frames: format!("{subject}/{task}"),
            name: format!("{subject}_{task}"),
            subject: subject.to_string(),
        });
    }
    open("bp4d", &lists, &images, &sequences, &BP4D_UNITS)
}

struct Sequence {
    subject: String,
    name: String,
    /// One list an action unit, in the order of the units.
    lists: Vec<PathBuf>,
    /// Folder of the frames, below that of the images.
    frames: String,
}

fn open(
    name: &str,
    lists: &Path,
    images: &Path,
    sequences: &[Sequence],
    units: &[u32],
) -> Result<Folder> {
    let (mut ids, mut subjects, mut names_of, mut numbers) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut intensities = Vec::new();
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for sequence in sequences {
        let coded = sequence
            .lists
            .iter()
            .map(|list| parse_intensities(&read_list(list)?).map_err(|e| e.at(list)))
            .collect::<Result<Vec<_>>>()?;
        let frames: BTreeSet<u32> = coded.iter().flat_map(BTreeMap::keys).copied().collect();
        let files = numbered(&images.join(&sequence.frames))?;
        let found = seen.entry(&sequence.subject).or_default();
        for frame in frames {
            let Some(file) = files.get(&frame) else {
                continue;
            };
            *found = true;
            ids.push(format!("{}/{file}", sequence.frames));
            subjects.push(sequence.subject.as_str());
            names_of.push(sequence.name.as_str());
            numbers.push(frame as f32);
            intensities.extend(
                coded
                    .iter()
                    .map(|coded| coded.get(&frame).copied().unwrap_or(f32::NAN)),
            );
        }
    }
    if let Some((subject, _)) = seen.iter().find(|(_, found)| !**found) {
        return Err(Error::missing(format!(
            "no frame of subject {subject}, which the lists name"
        ))
        .at(images));
    }
    if ids.is_empty() {
        return Err(Error::new(ErrorKind::Empty("no list of intensities".into())).at(lists));
    }
    let mut labels = Labels::new(ids.len());
    labels.insert("identity", Column::from_names(&subjects))?;
    labels.insert("sequence", Column::from_names(&names_of))?;
    labels.insert("factor.frame", Column::Continuous(numbers))?;
    let named = units.iter().map(|unit| format!("AU{unit}")).collect();
    labels.insert_vectors(
        "action_units",
        Vectors::new(vec![units.len()], intensities)?.with_names(named)?,
    )?;
    Folder::scanned(name, images, ids, labels)
}

/// Intensity by frame; frames that were not coded (9) are left out.
fn parse_intensities(text: &str) -> Result<BTreeMap<u32, f32>> {
    let mut found = BTreeMap::new();
    for (line, number) in text
        .lines()
        .zip(1u64..)
        .filter(|(line, _)| !line.trim().is_empty())
    {
        let wrong = |message: String| Error::format(message).record(format!("line {number}"));
        let fields: Vec<Option<u32>> = line
            .split(',')
            .map(|field| field.trim().parse().ok())
            .collect();
        let [Some(frame), Some(intensity)] = fields[..] else {
            return Err(wrong(format!(
                "expected frame,intensity as whole numbers, found {line:?}"
            )));
        };
        match intensity {
            0..=5 if found.insert(frame, intensity as f32).is_some() => {
                return Err(wrong(format!("frame {frame} is coded a second time")));
            }
            0..=5 | 9 => {}
            _ => {
                return Err(wrong(format!(
                    "expected an intensity from 0 to 5, or 9 for not coded, found {intensity}"
                )));
            }
        }
    }
    Ok(found)
}

/// Image files of a folder by the number in their names; nothing where there is no such folder.
fn numbered(folder: &Path) -> Result<BTreeMap<u32, String>> {
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for name in names_in(folder)? {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
        let image = EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str());
        if let Some(number) = stem.parse::<u32>().ok().filter(|_| image)
            && let Some(other) = found.insert(number, name.clone())
        {
            return Err(
                Error::format(format!("{other} and {name} are both frame {number}")).at(folder),
            );
        }
    }
    Ok(found)
}

fn folders(root: &Path) -> Result<Vec<String>> {
    Ok(names_in(root)?
        .into_iter()
        .filter(|name| root.join(name).is_dir())
        .collect())
}
