//! Views against torchvision, and their statistics against what they claim.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;

use super::crop::{Window, resized_window};
use super::*;
use crate::dataset::tests::{Broken, ramp};
use crate::{epoch_batches, stream_rng};
use candle::Device;
use std::sync::Arc;

fn numbers(value: &Value) -> Vec<f64> {
    let array = value.as_array().unwrap();
    array.iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn single_changes_equal_torchvisions() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/data/views.json"
    );
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let side = |name: &str| golden[name].as_u64().unwrap() as usize;
    let image = Image {
        width: side("width"),
        height: side("height"),
        channels: 3,
        pixels: numbers(&golden["pixels"])
            .iter()
            .map(|&v| v as u8)
            .collect(),
    };
    let whole = Window {
        top: 0,
        left: 0,
        height: 11,
        width: 13,
    };
    let mut seen = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let factor = case["factor"].as_f64().unwrap_or(0.0) as f32;
        let mut planes = resized_window(&image, whole, 11);
        match name {
            "crop" => {
                let at: Vec<usize> = numbers(&case["window"])
                    .iter()
                    .map(|&v| v as usize)
                    .collect();
                let window = Window {
                    top: at[0],
                    left: at[1],
                    height: at[2],
                    width: at[3],
                };
                planes = resized_window(&image, window, case["size"].as_u64().unwrap() as usize);
            }
            "brightness" => colour::brightness(&mut planes, factor),
            "contrast" => colour::contrast(&mut planes, factor),
            "saturation" => colour::saturation(&mut planes, factor),
            "hue" => colour::hue(&mut planes, factor),
            "blur" => blur::gaussian(
                &mut planes,
                case["kernel"].as_u64().unwrap() as usize,
                factor,
            ),
            "grey" => colour::grey(&mut planes),
            "solarise" => colour::solarise(&mut planes, factor),
            other => panic!("{other}"),
        }
        let wanted = numbers(&case["values"]);
        assert_eq!(planes.values.len(), wanted.len());
        // torchvision's weights of the luma have a fourth digit.
        let tolerance = if matches!(name, "contrast" | "saturation" | "grey") {
            2e-4
        } else {
            5e-6
        };
        for (value, wanted) in planes.values.iter().zip(&wanted) {
            assert!(
                (f64::from(*value) - wanted).abs() < tolerance,
                "{case}: {value} {wanted}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 21);
}

/// The crop's own resampling is the one the rest of the crate uses, for grey images too.
#[test]
fn crops_equal_the_crates_resizing() {
    for channels in [1, 3] {
        let image = Image {
            width: 31,
            height: 17,
            channels,
            pixels: (0..31 * 17 * channels)
                .map(|i| (i * 37 % 256) as u8)
                .collect(),
        };
        for (top, left, height, width, size) in [
            (0, 0, 17, 31, 9),
            (3, 5, 11, 4, 20),
            (16, 30, 1, 1, 2),
            (0, 0, 17, 31, 64),
        ] {
            let window = Window {
                top,
                left,
                height,
                width,
            };
            let planes = Planes::from_image(&image, 3).unwrap();
            let wanted = planes
                .window(top as isize, left as isize, height, width)
                .resized(size, size);
            let found = resized_window(&image, window, size);
            for (a, b) in found.values.iter().zip(&wanted.values) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}

#[test]
fn crops_have_the_areas_aspects_and_places_they_claim() {
    let (height, width) = (200, 160);
    let crop = RandomResizedCrop {
        size: 32,
        scale: [0.14, 0.6],
        ..RandomResizedCrop::default()
    };
    let n = 4000;
    let windows: Vec<Window> = (0..n)
        .map(|i| crop.draw(height, width, &mut stream_rng(3, "t", 0, i)))
        .collect();
    let mean = |f: &dyn Fn(&Window) -> f64| windows.iter().map(f).sum::<f64>() / n as f64;
    let share = |w: &Window| (w.height * w.width) as f64 / (height * width) as f64;
    let aspect = |w: &Window| (w.width as f64 / w.height as f64).ln();
    for w in &windows {
        assert!(
            w.top + w.height <= height && w.left + w.width <= width && w.height > 0 && w.width > 0
        );
        assert!((0.13..0.62).contains(&share(w)), "{w:?}");
        assert!(aspect(w).abs() < (4.0f64 / 3.0).ln() + 0.03, "{w:?}");
    }
    // Uniform between 0.14 and 0.6 has mean 0.37; large wide windows are refused a little more often.
    assert!((mean(&share) - 0.37).abs() < 0.01, "{}", mean(&share));
    assert!(mean(&aspect).abs() < 0.02, "{}", mean(&aspect));
    let spread = mean(&|w| aspect(w).powi(2)).sqrt();
    let uniform = (4.0f64 / 3.0).ln() / 3f64.sqrt();
    assert!((spread - uniform).abs() < 0.01, "{spread} {uniform}");
    // Places are even: the mean of the free space on the left is half of it.
    let left = mean(&|w| w.left as f64 / (width - w.width).max(1) as f64);
    let top = mean(&|w| w.top as f64 / (height - w.height).max(1) as f64);
    assert!(
        (left - 0.5).abs() < 0.02 && (top - 0.5).abs() < 0.02,
        "{left} {top}"
    );
    // An image that no window of the wanted area and aspect fits gives the middle.
    let flat = RandomResizedCrop {
        scale: [1.0, 1.0],
        ..crop
    };
    let window = flat.draw(10, 100, &mut stream_rng(3, "t", 0, 0));
    assert_eq!(
        window,
        Window {
            top: 0,
            left: 43,
            height: 10,
            width: 13
        }
    );
}

/// How often each change happens, over many views of one image.
#[test]
fn changes_happen_as_often_as_they_claim() {
    let pixels: Vec<u8> = (0..32 * 32 * 3)
        .map(|i| (40 + (i * 31) % 150) as u8)
        .collect();
    let image = Image {
        width: 32,
        height: 32,
        channels: 3,
        pixels,
    };
    let plain = ViewTransform {
        crop: RandomResizedCrop {
            size: 32,
            scale: [1.0, 1.0],
            aspect: [1.0, 1.0],
        },
        distortions: Vec::new(),
        ..ViewTransform::swav(32, [1.0, 1.0])
    };
    let view = |transform: &ViewTransform, i: u64| {
        transform
            .apply(&image, &mut stream_rng(5, "t", 1, i))
            .unwrap()
    };
    let still = view(&plain, 0);
    let n = 600;
    for distortion in ViewTransform::swav(32, [1.0, 1.0]).distortions {
        let one = ViewTransform {
            distortions: vec![distortion],
            ..plain.clone()
        };
        let changed = (0..n).filter(|&i| view(&one, i) != still).count() as f32 / n as f32;
        assert!(
            (changed - distortion.probability()).abs() < 0.06,
            "{distortion:?}: {changed}"
        );
    }
    // One change more leaves the others as they were: a flip that never happens changes nothing.
    let full = ViewTransform::swav(24, [0.3, 1.0]);
    let mut more = full.clone();
    more.distortions.push(Distortion::Flip { probability: 0.0 });
    assert_eq!(view(&full, 7), view(&more, 7));
    // Normalised as it says: a constant image without jitter.
    let grey = Image {
        width: 8,
        height: 8,
        channels: 1,
        pixels: vec![51; 64],
    };
    let values = plain.apply(&grey, &mut stream_rng(0, "t", 0, 0)).unwrap();
    for (c, (mean, deviation)) in [(0.485, 0.228), (0.456, 0.224), (0.406, 0.225)]
        .into_iter()
        .enumerate()
    {
        let value = values[c * 32 * 32 + 5];
        assert!((value - (0.2 - mean) / deviation).abs() < 1e-5, "{value}");
    }
    let one = ViewTransform {
        channels: 1,
        ..ViewTransform::swav(24, [0.3, 1.0])
    };
    assert_eq!(
        one.apply(&image, &mut stream_rng(0, "t", 0, 0))
            .unwrap()
            .len(),
        24 * 24
    );
}

#[test]
fn loading_does_not_depend_on_workers_or_on_where_it_starts() {
    let data: Arc<dyn crate::Dataset> = Arc::new(ramp(11));
    let views = MultiCrop::swav(2, 3, (8, 4));
    let load = |workers, from: u64| {
        let plan = epoch_batches(11, 4, 9, from).take(5 - from as usize);
        load_views(
            Arc::clone(&data),
            plan,
            views.clone(),
            7,
            &Device::Cpu,
            workers,
            workers + 1,
        )
        .map(|batch| {
            let batch = batch.unwrap();
            assert_eq!(batch.groups[0].dims(), [8, 3, 8, 8]);
            assert_eq!(batch.groups[1].dims(), [12, 3, 4, 4]);
            let values = |i: usize| {
                batch.groups[i]
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap()
            };
            (batch.step, batch.indices.clone(), values(0), values(1))
        })
        .collect::<Vec<_>>()
    };
    let all = load(0, 0);
    assert_eq!(all, load(3, 0));
    assert_eq!(all[2..], load(2, 2));
    // View v of image b stands in row v * B + b, and is what a caller gets for one image.
    let image = crate::Dataset::image(data.as_ref(), all[1].1[2]).unwrap();
    let own = views.apply(&image, 7, all[1].0, 2).unwrap();
    let size = 3 * 4 * 4;
    for view in 0..3 {
        assert_eq!(
            own[1][view * size..][..size],
            all[1].3[(view * 4 + 2) * size..][..size]
        );
    }
    assert_ne!(own[1][..size], own[1][size..2 * size], "views differ");
}

#[test]
fn errors_come_at_their_batch_and_settings_are_checked() {
    let broken: Arc<dyn crate::Dataset> = Arc::new(Broken(ramp(8), vec![5]));
    let plan = (0u64..4).map(|step| (step, vec![2 * step as usize, 2 * step as usize + 1]));
    let mut loader = load_views(
        broken,
        plan,
        MultiCrop::swav(1, 0, (8, 4)),
        0,
        &Device::Cpu,
        2,
        3,
    );
    assert!(loader.next().unwrap().is_ok() && loader.next().unwrap().is_ok());
    assert_eq!(
        loader.next().unwrap().unwrap_err().to_string(),
        "sample 5: broken"
    );
    assert!(loader.next().is_none());

    let good = ViewTransform::swav(8, [0.1, 0.9]);
    good.validate().unwrap();
    let bad = |change: &dyn Fn(&mut ViewTransform)| {
        let mut transform = good.clone();
        change(&mut transform);
        transform.validate().unwrap_err().to_string()
    };
    assert!(bad(&|t| t.crop.scale = [0.5, 0.1]).contains("scale"));
    assert!(bad(&|t| t.crop.size = 0).contains("size"));
    assert!(bad(&|t| t.channels = 2).contains("channels"));
    assert!(bad(&|t| t.deviation[1] = 0.0).contains("deviation"));
    assert!(
        bad(&|t| t.distortions = vec![Distortion::Grey { probability: 1.5 }])
            .contains("probability")
    );
    let blur = Distortion::Blur {
        probability: 1.0,
        kernel: 4,
        sigma: [0.1, 1.0],
    };
    assert!(bad(&|t| t.distortions = vec![blur]).contains("odd"));
    assert!(MultiCrop { groups: Vec::new() }.validate().is_err());
}
