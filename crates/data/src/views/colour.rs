//! Changes of colour on three planes within 0..1, as torchvision has them on float images.

use super::simd;
use crate::resize::Planes;

/// BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// The three planes.
fn split(planes: &mut Planes) -> [&mut [f32]; 3] {
    let plane = planes.height * planes.width;
    let (red, rest) = planes.values.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    [red, green, &mut blue[..plane]]
}

/// Runs `f` on every pixel.
#[inline(always)]
fn pixels(planes: &mut Planes, f: impl Fn(f32, f32, f32) -> [f32; 3]) {
    let [red, green, blue] = split(planes);
    simd::run(
        #[inline(always)]
        || {
            for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
                [*r, *g, *b] = f(*r, *g, *b);
            }
        },
    );
}

#[inline(always)]
fn luma(r: f32, g: f32, b: f32) -> f32 {
    LUMA[0] * r + LUMA[1] * g + LUMA[2] * b
}

/// Within 0..1.
#[inline(always)]
fn bounded(value: f32) -> f32 {
    value.clamp(0.0, 1.0)
}

/// `value * factor`.
pub(super) fn brightness(planes: &mut Planes, factor: f32) {
    let values = &mut planes.values;
    simd::run(
        #[inline(always)]
        || {
            for value in values.iter_mut() {
                *value = bounded(*value * factor);
            }
        },
    );
}

/// `mean + (value - mean) * factor` with the mean luma of the image.
pub(super) fn contrast(planes: &mut Planes, factor: f32) {
    let plane = planes.height * planes.width;
    let [red, green, blue] = split(planes);
    let sum = simd::run(
        #[inline(always)]
        || {
            // Sixteen sums side by side, in an order of their own on every machine.
            let mut sums = [0f32; 16];
            let parts = red.chunks(16).zip(green.chunks(16)).zip(blue.chunks(16));
            for ((r, g), b) in parts {
                for (((sum, r), g), b) in sums.iter_mut().zip(r).zip(g).zip(b) {
                    *sum += luma(*r, *g, *b);
                }
            }
            sums.iter().sum::<f32>()
        },
    );
    let rest = sum / plane as f32 * (1.0 - factor);
    let values = &mut planes.values;
    simd::run(
        #[inline(always)]
        || {
            for value in values.iter_mut() {
                *value = bounded(*value * factor + rest);
            }
        },
    );
}

/// `luma + (value - luma) * factor`.
pub(super) fn saturation(planes: &mut Planes, factor: f32) {
    pixels(
        planes,
        #[inline(always)]
        |r, g, b| {
            let rest = luma(r, g, b) * (1.0 - factor);
            [
                bounded(r * factor + rest),
                bounded(g * factor + rest),
                bounded(b * factor + rest),
            ]
        },
    );
}

/// The hue turned by `turn` of the circle; value and saturation stay.
///
/// Written without a branch: the hue in sixths, then each channel as the value less a trapezoid of the hue.
pub(super) fn hue(planes: &mut Planes, turn: f32) {
    let turn = 6.0 * turn;
    pixels(
        planes,
        #[inline(always)]
        |r, g, b| {
            let most = r.max(g).max(b);
            let span = most - r.min(g).min(b);
            let inverse = if span > 0.0 { 1.0 / span } else { 0.0 };
            let of_red = (g - b) * inverse;
            let of_green = 2.0 + (b - r) * inverse;
            let of_blue = 4.0 + (r - g) * inverse;
            let rest = if most == g { of_green } else { of_blue };
            let sixths = if most == r { of_red } else { rest } + turn;
            let channel = |place: f32| {
                let k = place + sixths;
                let k = k - 6.0 * (k * (1.0 / 6.0)).floor();
                most - span * bounded(k.min(4.0 - k))
            };
            [channel(5.0), channel(3.0), channel(1.0)]
        },
    );
}

/// All channels become the luma.
pub(super) fn grey(planes: &mut Planes) {
    pixels(
        planes,
        #[inline(always)]
        |r, g, b| [luma(r, g, b); 3],
    );
}

/// Values from `threshold` up become `1 - value`.
pub(super) fn solarise(planes: &mut Planes, threshold: f32) {
    let values = &mut planes.values;
    simd::run(
        #[inline(always)]
        || {
            for value in values.iter_mut() {
                *value = if *value >= threshold {
                    1.0 - *value
                } else {
                    *value
                };
            }
        },
    );
}
