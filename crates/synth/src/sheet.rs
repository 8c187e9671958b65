//! The contact sheet: one row a factor, so that one look tells what each of them does.

use crate::config::SynthConfig;
use crate::draw::factors;
use crate::error::Error;
use crate::expression::{EXPRESSIONS, textbook};
use crate::factors::Factors;
use crate::image::{Image, grid};
use crate::looks::{DISGUISES, LIGHTS, MAKEUP};
use crate::render::render_factors;

/// Faces in a row of the sheet.
pub const SHEET_COLUMNS: usize = 8;

/// A row of the contact sheet: what it varies, and [`SHEET_COLUMNS`] faces that differ in it alone.
#[derive(Debug, Clone)]
pub struct SheetRow {
    /// What varies along the row.
    pub name: &'static str,
    /// The faces, from left to right.
    pub faces: Vec<Factors>,
}

/// Faces from the front in plain light, sharp and without noise.
fn plain(seed: u64) -> SynthConfig {
    SynthConfig {
        identities: 64,
        per_expression: 1,
        seed,
        pose: 0.0,
        light: 0.0,
        noise: 0.0,
        blur: 0.0,
        jitter: 0.0,
        glasses: 0.0,
        ..SynthConfig::default()
    }
}

/// The rows of the contact sheet of `seed`.
///
/// # Errors
/// Never for a valid build: every row is drawn from configurations that validate.
pub fn sheet_rows(seed: u64) -> Result<Vec<SheetRow>, Error> {
    let config = plain(seed);
    let neutral = |person: usize| -> Result<Factors, Error> {
        let face = factors(&config, person * EXPRESSIONS.len())?;
        Ok(Factors {
            actions: textbook(0, 1.0),
            ..face
        })
    };
    let mut rows = Vec::new();
    let mut row = |name: &'static str, faces: Vec<Factors>| rows.push(SheetRow { name, faces });

    row(
        "identity",
        (0..SHEET_COLUMNS).map(neutral).collect::<Result<_, _>>()?,
    );
    for (name, person) in [("expression", 1), ("expression of another person", 4)] {
        let who = neutral(person)?;
        let shown = (0..EXPRESSIONS.len()).map(|e| Factors {
            expression: e as u32,
            actions: textbook(e, 1.0),
            ..who
        });
        let half = Factors {
            expression: 4,
            actions: textbook(4, 0.5),
            ..who
        };
        row(name, shown.chain([half]).collect());
    }
    // Classes: the first sample of each that the share of one draws.
    let classes = |config: SynthConfig, person: usize, of: fn(&Factors) -> u32, count: usize| {
        let config = SynthConfig {
            identities: 1,
            first_identity: person as u32,
            per_expression: 400,
            ..config
        };
        let mut found: Vec<Option<Factors>> = vec![None; count];
        found[0] = Some(neutral(person)?);
        for index in 0..config.len() {
            let face = factors(&config, index)?;
            if let Some(slot @ None) = found.get_mut(of(&face) as usize) {
                *slot = Some(Factors {
                    expression: 0,
                    actions: textbook(0, 1.0),
                    ..face
                });
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        Ok::<Vec<Factors>, Error>(found.into_iter().flatten().collect())
    };
    let lit = SynthConfig {
        lighting: 1.0,
        ..config
    };
    for (name, person) in [("light", 2), ("light on another person", 3)] {
        row(
            name,
            classes(lit, person, |f| f.states.light, LIGHTS.len())?,
        );
    }
    let painted = SynthConfig {
        makeup: 1.0,
        ..config
    };
    let mut faces = Vec::new();
    for person in [1, 4, 7] {
        let shown = classes(painted, person, |f| f.states.makeup, MAKEUP.len())?;
        faces.extend(shown);
    }
    faces.truncate(SHEET_COLUMNS);
    row("make-up", faces);
    let hidden = SynthConfig {
        disguise: 1.0,
        ..config
    };
    for (name, person) in [("disguise", 5), ("disguise of another person", 6)] {
        let mut faces = classes(hidden, person, |f| f.states.disguise, DISGUISES.len())?;
        let mut both = faces[0];
        both.disguise.hat = 1.0;
        both.disguise.sunglasses = 1.0;
        faces.push(both);
        row(name, faces);
    }
    let behind = SynthConfig {
        occlusion: 1.0,
        identities: 8,
        background: 1.0,
        ..config
    };
    let mut faces = Vec::new();
    let mut counts = [0; 3];
    for index in 0..behind.len() {
        let face = factors(&behind, index)?;
        let count = &mut counts[face.states.occlusion as usize];
        *count += 1;
        if *count <= SHEET_COLUMNS / 2 {
            faces.push(face);
        }
        if faces.len() == SHEET_COLUMNS {
            break;
        }
    }
    row("occlusion and background", faces);
    let mut steps = |name: &'static str, person: usize, factor: &str, from: f32, to: f32| {
        let who = neutral(person)?;
        let faces = (0..SHEET_COLUMNS).map(|k| {
            let mut face = who;
            let t = k as f32 / (SHEET_COLUMNS - 1) as f32;
            face.set(factor, from + (to - from) * t)?;
            Ok(face)
        });
        row(name, faces.collect::<Result<Vec<_>, Error>>()?);
        Ok::<(), Error>(())
    };
    steps("freckles", 1, "freckles", 0.0, 1.0)?;
    steps("stubble", 4, "stubble", 0.0, 1.0)?;
    steps("resolution", 6, "resolution", 1.0, 0.1)?;
    steps("jpeg", 7, "jpeg", 64.0, 8.0)?;
    steps("yaw", 2, "yaw", -60.0, 60.0)?;
    steps("pitch", 3, "pitch", -25.0, 25.0)?;
    steps("melanin", 0, "melanin", 0.0, 1.0)?;
    steps("age", 4, "age", -2.0, 2.5)?;
    Ok(rows)
}

/// Draws the contact sheet of `seed`, every face `size` x `size` pixels.
///
/// # Errors
/// When the size is out of range.
pub fn sheet(seed: u64, size: usize) -> Result<Image, Error> {
    let mut images = Vec::new();
    for row in sheet_rows(seed)? {
        for face in &row.faces {
            images.push(render_factors(face, size)?.image);
        }
    }
    grid(&images, SHEET_COLUMNS)
}
