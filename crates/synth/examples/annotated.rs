//! Writes faces with their landmarks, boxes and mesh drawn over them as PNG files into a folder (default:
//! `phiz-synth` in the system's temporary folder). Green points are visible, red ones hidden by the head.
#![allow(clippy::print_stdout)] // A program for people: it says where the pictures are.

use std::error::Error;
use std::path::PathBuf;

use phiz_synth::{Factors, Image, SynthConfig, factors, grid, render_factors, textbook};

fn dot(image: &mut Image, [x, y]: [f32; 2], colour: [u8; 3]) {
    for dy in -1..=1 {
        for dx in -1..=1 {
            let (x, y) = ((x + 0.5) as i64 + dx, (y + 0.5) as i64 + dy);
            let side = image.width as i64;
            if (0..side).contains(&x) && (0..side).contains(&y) {
                let at = ((y * side + x) * 3) as usize;
                image.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("phiz-synth"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let plain = SynthConfig {
        pose: 0.0,
        light: 0.0,
        noise: 0.0,
        blur: 0.0,
        jitter: 0.0,
        glasses: 0.0,
        ..SynthConfig::default()
    };
    let mut images = Vec::new();
    for row in 0..4 {
        for (column, yaw) in [-60.0, -30.0, 0.0, 30.0, 60.0].into_iter().enumerate() {
            let mut face = Factors {
                actions: textbook([0, 4, 6, 1][row], 1.0),
                ..factors(&plain, row * plain.per_expression * 7)?
            };
            face.scene.yaw = yaw;
            face.scene.pitch = [0.0, 10.0, -15.0, 0.0][row];
            let drawn = render_factors(&face, 320)?;
            let labels = drawn.annotations;
            let mut image = drawn.image;
            if column % 2 == 0 {
                for (point, seen) in labels.landmarks.iter().zip(labels.landmarks_visible) {
                    let colour = if seen { [40, 230, 60] } else { [240, 50, 40] };
                    dot(&mut image, *point, colour);
                }
                let [left, top, right, bottom] = labels.bounding_box;
                for k in 0..=60 {
                    let t = k as f32 / 60.0;
                    let (x, y) = (left + t * (right - left), top + t * (bottom - top));
                    for point in [[x, top], [x, bottom], [left, y], [right, y]] {
                        dot(&mut image, point, [60, 90, 240]);
                    }
                }
            }
            images.push(image);
        }
    }
    let sheet = grid(&images, 5)?;
    let path = folder.join("annotated.png");
    let (w, h) = (u32::try_from(sheet.width)?, u32::try_from(sheet.height)?);
    image::save_buffer(&path, &sheet.pixels, w, h, image::ColorType::Rgb8)?;
    println!("{}", path.display());
    Ok(())
}
