//! Images a second on one core through the views of SwAV; `fixtures/data/views.py --speed` times torchvision at the same.
//!
//! Time is that of the processor where the system tells it, so other work on the machine counts little.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::{Duration, Instant};

use phiz_data::{Image, MultiCrop};

/// Processor time of this thread, or the clock's where it cannot be had.
fn now(start: Instant) -> Duration {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn main() -> phiz_data::Result<()> {
    let images: Vec<Image> = (0..32usize)
        .map(|k| Image {
            width: 256,
            height: 256,
            channels: 3,
            pixels: (0..256 * 256 * 3)
                .map(|i| ((i * 31 + i / 7 * k) % 256) as u8)
                .collect(),
        })
        .collect();
    for (name, views) in [
        ("2x224+6x96", MultiCrop::swav(2, 6, (224, 96))),
        ("2x64+4x32", MultiCrop::swav(2, 4, (64, 32))),
    ] {
        let clock = Instant::now();
        let start = now(clock);
        let mut done = 0u64;
        while now(clock) - start < Duration::from_secs(3) {
            for image in &images {
                std::hint::black_box(views.apply(image, 1, done, 0)?);
                done += 1;
            }
        }
        let seconds = (now(clock) - start).as_secs_f64();
        println!("{name}: {:.1} images/s on one core", done as f64 / seconds);
    }
    Ok(())
}
