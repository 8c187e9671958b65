//! From linear light to bytes: vignette, blur, loss of resolution, tone, noise, JPEG.

use crate::factors::Factors;
use crate::jpeg;
use crate::math::hash;

/// Linear light to bytes, three a pixel.
pub(crate) fn develop(f: &Factors, light: &mut [f32], size: usize) -> Vec<u8> {
    vignette(light, size, f.recording.vignette.clamp(0.0, 1.0));
    blur(light, size, f.scene.blur * size as f32 / 64.0);
    resolve(light, size, f.recording.resolution);
    // Four bytes of one hash make a value of mean 0 and variance 1 (to 0.1 %).
    let noise = f.scene.noise;
    const CENTRE: f32 = 510.0;
    const SPREAD: f32 = 1.0 / 147.8;
    let mut bytes: Vec<u8> = light
        .iter()
        .enumerate()
        .map(|(k, &value)| {
            let mut out = 255.0 * shoulder(value).sqrt();
            if noise > 0.0 {
                let word = hash(f.noise_seed.wrapping_add(k as u64));
                let sum =
                    (word & 255) + (word >> 16 & 255) + (word >> 32 & 255) + (word >> 48 & 255);
                out += noise * (sum as f32 - CENTRE) * SPREAD;
            }
            (out + 0.5).clamp(0.0, 255.0) as u8
        })
        .collect();
    if f.recording.jpeg >= 1.0 {
        jpeg::lose(&mut bytes, size, f.recording.jpeg);
    }
    bytes
}

/// Film does not clip at once: above 0.6 the response bends and reaches 1 only in the end.
fn shoulder(value: f32) -> f32 {
    const KNEE: f32 = 0.6;
    let value = value.max(0.0);
    if value <= KNEE {
        value
    } else {
        let t = (value.min(1e6) - KNEE) / (1.0 - KNEE);
        KNEE + (1.0 - KNEE) * t / (0.75 + t)
    }
}

fn vignette(light: &mut [f32], size: usize, strength: f32) {
    if strength == 0.0 {
        return;
    }
    let unit = 2.0 / size as f32;
    for (k, pixel) in light.chunks_exact_mut(3).enumerate() {
        let (x, y) = (
            (k % size) as f32 * unit - 1.0,
            (k / size) as f32 * unit - 1.0,
        );
        let dark = 1.0 - 0.4 * strength * (x * x + y * y);
        for value in pixel {
            *value *= dark.max(0.0);
        }
    }
}

/// Reduces to `resolution` of the side by mean over areas and enlarges again, straight between the centres.
fn resolve(light: &mut [f32], size: usize, resolution: f32) {
    if resolution >= 1.0 {
        return;
    }
    let small = ((size as f32 * resolution.max(0.1)) as usize).max(4);
    let ratio = size as f32 / small as f32;
    // Columns, then rows; `line` is one line of one channel.
    let mut line = vec![0.0f32; size];
    let mut reduced = vec![0.0f32; small];
    let mut pass = |light: &mut [f32], start: usize, stride: usize| {
        for (k, value) in line.iter_mut().enumerate() {
            *value = light[start + k * stride];
        }
        for (k, out) in reduced.iter_mut().enumerate() {
            let (from, to) = (k as f32 * ratio, (k + 1) as f32 * ratio);
            let mut sum = 0.0;
            let mut at = from;
            while at < to - 1e-4 {
                let cell = (at as usize).min(size - 1);
                let end = (cell as f32 + 1.0).min(to);
                sum += line[cell] * (end - at);
                at = end;
            }
            *out = sum / ratio;
        }
        for k in 0..size {
            let at = ((k as f32 + 0.5) / ratio - 0.5).clamp(0.0, small as f32 - 1.0);
            let cell = (at as usize).min(small - 2);
            let t = at - cell as f32;
            light[start + k * stride] = reduced[cell] + (reduced[cell + 1] - reduced[cell]) * t;
        }
    };
    for channel in 0..3 {
        for row in 0..size {
            pass(light, row * size * 3 + channel, 3);
        }
        for column in 0..size {
            pass(light, column * 3 + channel, size * 3);
        }
    }
}

/// Gaussian blur of standard deviation `sigma` pixels, as repeated three-point averages: the variance of each is at
/// most a half, their sum is `sigma` squared.
fn blur(light: &mut [f32], size: usize, sigma: f32) {
    let variance = sigma * sigma;
    if variance < 1e-4 {
        return;
    }
    let passes = (variance / 0.5).ceil().clamp(1.0, 64.0);
    let side = (0.5 * variance / passes).min(0.25);
    let centre = 1.0 - 2.0 * side;
    let row = size * 3;
    let mut old = vec![0.0; row];
    for _ in 0..passes as usize {
        for line in light.chunks_exact_mut(row) {
            old.copy_from_slice(line);
            for (k, out) in line.iter_mut().enumerate() {
                let left = old[if k < 3 { k } else { k - 3 }];
                let right = old[if k + 3 < row { k + 3 } else { k }];
                *out = centre * old[k] + side * (left + right);
            }
        }
        // Downwards: `old` keeps the row above as it was.
        old.copy_from_slice(&light[..row]);
        for y in 0..size {
            for (k, above) in old.iter_mut().enumerate() {
                let at = y * row + k;
                let here = light[at];
                let below = if y + 1 < size { light[at + row] } else { here };
                light[at] = centre * here + side * (*above + below);
                *above = here;
            }
        }
    }
}
