//! Writes people as a data set has them, in large pictures, as PNG files into a folder (default: `phiz-synth` in
//! the system's temporary folder): eight people in two rows, then a row of each expression, of each action unit and
//! of each direction of shape.
#![allow(clippy::print_stdout)] // A program for people: it says where the pictures are.

use std::error::Error;
use std::path::PathBuf;

use phiz_synth::{Actions, Factors, Image, SynthConfig, factors, grid, render, render_factors};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("phiz-synth"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let save = |name: &str, images: &[Image], columns: usize| -> Result<(), Box<dyn Error>> {
        let sheet = grid(images, columns)?;
        let path = folder.join(name);
        let (w, h) = (u32::try_from(sheet.width)?, u32::try_from(sheet.height)?);
        image::save_buffer(&path, &sheet.pixels, w, h, image::ColorType::Rgb8)?;
        println!("{}", path.display());
        Ok(())
    };
    let config = SynthConfig {
        size: 256,
        per_expression: 1,
        identities: 24,
        ..SynthConfig::default()
    };
    let mut images = Vec::new();
    for person in 0..24 {
        images.push(render(&config, person * 7 + (person * 3) % 7)?.image);
    }
    save("people.png", &images, 6)?;

    let plain = SynthConfig {
        pose: 0.0,
        light: 0.0,
        noise: 0.0,
        blur: 0.0,
        jitter: 0.0,
        glasses: 0.0,
        ..config
    };
    // Every action unit alone, at the strongest, on three people (one turned).
    let mut images = Vec::new();
    for (person, yaw) in [(0, 0.0), (4, 0.0), (2, 35.0)] {
        for unit in std::iter::once(0).chain(Actions::UNITS) {
            let mut face = factors(&plain, person * 7)?;
            face.actions = Actions::default();
            face.scene.yaw = yaw;
            if unit > 0 {
                face.set(&format!("au{unit}"), 1.0)?;
            }
            if unit == 26 || unit == 16 {
                face.actions.au25 = 0.8;
            }
            images.push(render_factors(&face, 160)?.image);
        }
    }
    save("units.png", &images, 10)?;

    // Every shape factor from -2.5 to 2.5 standard deviations, from the front and turned.
    let base = Factors::default();
    let mut images = Vec::new();
    let names: Vec<_> = base.values().iter().map(|v| v.0).collect();
    let last = names.iter().position(|n| *n == "melanin").unwrap_or(0);
    for name in &names[2..last] {
        for (value, yaw) in [(-2.5, 0.0), (2.5, 0.0), (-2.5, 40.0), (2.5, 40.0)] {
            let mut face = base;
            face.scene.yaw = yaw;
            face.set(name, value)?;
            images.push(render_factors(&face, 128)?.image);
        }
    }
    save("shapes.png", &images, 16)?;
    Ok(())
}
