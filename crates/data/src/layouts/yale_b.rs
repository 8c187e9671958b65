//! Extended Yale B, cropped: 38 people under 64 lights, grey, 168 x 192.
//!
//! Follows Georghiades, Belhumeur and Kriegman, "From Few to Many", TPAMI 2001, and Lee, Ho and Kriegman, TPAMI 2005. The file
//! says it all: `yaleB11_P00A-035E+40.pgm` is person 11 in pose 0, lit from azimuth -35 and elevation +40 degrees;
//! a positive azimuth lies to the right of the subject, a positive elevation above. Images of ambient light alone
//! (`..._Ambient.pgm`) have no direction and are passed over, as are files its authors marked `.bad`.

use std::path::Path;

use super::names_in;
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result};

/// Where the light comes from, in nine sectors: `front` is within [`FRONT_DEGREES`] in both angles, the others lie beyond
/// in the direction they name. Five of them (`front` and the four corners) are the lighting states of the invariance
/// literature; where exactly its authors drew the lines is not known, these are ours.
pub const LIGHTS: [&str; 9] = [
    "front",
    "left",
    "right",
    "upper",
    "lower",
    "upper-left",
    "upper-right",
    "lower-left",
    "lower-right",
];

/// Half the width of the frontal sector, in degrees of azimuth and of elevation.
pub const FRONT_DEGREES: f32 = 15.0;

/// Opens the cropped set: one folder a person (`yaleB01` ...), in `root` itself or in `root/CroppedYale`.
///
/// Labels: `identity` (`yaleB01` ...), `light` (one of [`LIGHTS`]), `factor.azimuth` and `factor.elevation` in degrees.
///
/// # Errors
/// When there is no such folder or image, or an image's name does not follow the pattern: the error names it.
pub fn open(root: &Path) -> Result<Folder> {
    let inner = root.join("CroppedYale");
    let root = if inner.is_dir() { &inner } else { root };
    let mut ids = Vec::new();
    for person in names_in(root)?
        .iter()
        .filter(|name| name.starts_with("yaleB"))
    {
        let folder = root.join(person);
        if folder.is_dir() {
            let images = names_in(&folder)?;
            let lit = images
                .iter()
                .filter(|name| name.ends_with(".pgm") && !name.ends_with("_Ambient.pgm"));
            ids.extend(lit.map(|name| format!("{person}/{name}")));
        }
    }
    if ids.is_empty() {
        return Err(Error::new(ErrorKind::Empty(
            "no images, expected yaleB01/yaleB01_P00A+000E+00.pgm and so on".into(),
        ))
        .at(root));
    }
    let mut people = Vec::new();
    let mut lights = Vec::new();
    let (mut azimuths, mut elevations) = (Vec::new(), Vec::new());
    for id in &ids {
        let (person, name) = id.split_once('/').unwrap_or_default();
        let (azimuth, elevation) = direction(person, name).ok_or_else(|| {
            Error::format(format!("expected a name like {person}_P00A+035E-20.pgm"))
                .at(&root.join(id))
        })?;
        people.push(person);
        lights.push(sector(azimuth, elevation));
        azimuths.push(azimuth);
        elevations.push(elevation);
    }
    let mut labels = Labels::new(ids.len());
    labels.insert("identity", Column::from_names(&people))?;
    labels.insert(
        "light",
        Column::Categorical {
            codes: lights,
            names: LIGHTS.iter().map(ToString::to_string).collect(),
        },
    )?;
    labels.insert("factor.azimuth", Column::Continuous(azimuths))?;
    labels.insert("factor.elevation", Column::Continuous(elevations))?;
    Folder::scanned("yale-b", root, ids, labels)
}

/// Azimuth and elevation of `yaleBnn_PnnA+nnnE+nn.pgm`, in degrees.
fn direction(person: &str, name: &str) -> Option<(f32, f32)> {
    let rest = name
        .strip_prefix(person)?
        .strip_prefix("_P")?
        .strip_suffix(".pgm")?;
    let (pose, light) = rest.split_once('A')?;
    let (azimuth, elevation) = light.split_once('E')?;
    let degrees = |text: &str, digits: usize, most: f32| {
        let signed = text.strip_prefix(['+', '-'])?;
        let plain = signed.len() == digits && signed.bytes().all(|byte| byte.is_ascii_digit());
        let value: f32 = text.parse().ok()?;
        (plain && value.abs() <= most).then_some(value)
    };
    let known_pose = pose.len() == 2 && pose.bytes().all(|byte| byte.is_ascii_digit());
    known_pose.then_some(())?;
    Some((degrees(azimuth, 3, 180.0)?, degrees(elevation, 2, 90.0)?))
}

/// The sector of a direction, an index into [`LIGHTS`].
fn sector(azimuth: f32, elevation: f32) -> u32 {
    let side = |angle: f32| match angle {
        a if a < -FRONT_DEGREES => 0,
        a if a > FRONT_DEGREES => 2,
        _ => 1,
    };
    const SECTORS: [[u32; 3]; 3] = [[7, 4, 8], [1, 0, 2], [5, 3, 6]];
    SECTORS[side(elevation)][side(azimuth)]
}
