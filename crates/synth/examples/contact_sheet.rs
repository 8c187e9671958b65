//! Writes contact sheets of rendered faces as PNG files into a folder (default: `phiz-synth` in the system's
//! temporary folder): people and expressions as drawn, textbook expressions, one factor at a time.
#![allow(clippy::print_stdout)] // A program for people: it says where the pictures are.

use std::error::Error;
use std::path::PathBuf;

use phiz_synth::{
    EXPRESSIONS, Factors, Image, SynthConfig, factors, grid, render, render_factors, textbook,
};

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

    // Rows: people; columns: expressions, as a training set has them.
    let config = SynthConfig {
        identities: 10,
        per_expression: 1,
        ..SynthConfig::default()
    };
    let drawn = (0..config.len())
        .map(|i| Ok(render(&config, i)?.image))
        .collect::<Result<Vec<_>, phiz_synth::Error>>()?;
    save("drawn.png", &drawn, EXPRESSIONS.len())?;

    // Rows: people, from the front in plain light; columns: textbook expressions at full strength.
    let plain = SynthConfig {
        pose: 0.0,
        light: 0.0,
        noise: 0.0,
        blur: 0.0,
        jitter: 0.0,
        glasses: 0.0,
        ..config
    };
    let mut images = Vec::new();
    for person in 0..6 {
        let who = factors(&plain, person * EXPRESSIONS.len())?;
        for expression in 0..EXPRESSIONS.len() {
            let face = Factors {
                actions: textbook(expression, 1.0),
                ..who
            };
            images.push(render_factors(&face, 112)?.image);
        }
    }
    save("textbook.png", &images, EXPRESSIONS.len())?;

    // One person's head turned, lit and drawn in several sizes of detail.
    let mut images = Vec::new();
    for (name, values) in [
        ("yaw", [-30.0, -15.0, 0.0, 15.0, 30.0]),
        ("pitch", [-20.0, -10.0, 0.0, 10.0, 20.0]),
        ("light_azimuth", [-80.0, -40.0, 0.0, 40.0, 80.0]),
        ("melanin", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("face_width", [-2.5, -1.0, 0.0, 1.0, 2.5]),
        ("brow_height", [-2.5, -1.0, 0.0, 1.0, 2.5]),
        ("mouth_curvature", [-2.5, -1.0, 0.0, 1.0, 2.5]),
        ("eye_openness", [-2.5, -1.0, 0.0, 1.0, 2.5]),
        ("hair_length", [-2.5, 0.25, 0.8, 1.5, 2.5]),
        ("beard", [0.0, 1.0, 1.4, 1.9, 2.5]),
        ("age", [-2.0, -1.0, 0.0, 1.0, 2.0]),
        ("glasses", [0.0, 0.0, 0.0, 1.0, 1.0]),
    ] {
        for value in values {
            let mut face = Factors::default();
            face.set(name, value)?;
            images.push(render_factors(&face, 112)?.image);
        }
    }
    save("factors.png", &images, 5)?;
    Ok(())
}
