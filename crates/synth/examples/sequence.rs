//! Writes sequences (a row each, every fifth frame) and label images as PNG files into a folder (default:
//! `phiz-synth` in the system's temporary folder).
#![allow(clippy::print_stdout)] // A program for people: it says where the pictures are.

use std::error::Error;
use std::path::PathBuf;

use phiz_synth::{
    Image, PARTS, SynthConfig, VideoConfig, factors, grid, render_factors, render_frame,
    segment_factors,
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
    let config = VideoConfig {
        frames: 60,
        talking: 0.5,
        faces: SynthConfig {
            size: 112,
            ..SynthConfig::default()
        },
        ..VideoConfig::default()
    };
    let mut images = Vec::new();
    for sequence in 0..6 {
        for frame in (0..60).step_by(5) {
            images.push(render_frame(&config, sequence, frame)?.image);
        }
    }
    save("sequences.png", &images, 12)?;

    let faces = SynthConfig {
        size: 224,
        pose: 1.5,
        glasses: 0.3,
        ..SynthConfig::default()
    };
    let mut images = Vec::new();
    for index in [4, 45, 333, 621, 901, 1200] {
        let face = factors(&faces, index)?;
        images.push(render_factors(&face, 224)?.image);
        let parts = segment_factors(&face, 224)?;
        let colours = parts.pixels.iter().flat_map(|&p| {
            let hue = 360 * usize::from(p) * 7 / PARTS.len();
            [(hue * 5) as u8, (hue * 11) as u8, (hue * 3 + 60) as u8]
        });
        images.push(Image::new(224, 224, 3, colours.collect())?);
    }
    save("parts.png", &images, 4)?;
    Ok(())
}
