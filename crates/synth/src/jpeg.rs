//! What JPEG compression does to an image, without the file: colour difference at half resolution, blocks of 8 x 8
//! as cosines, each rounded to a multiple of the standard's table for the quality (ITU-T T.81, annex K).

use crate::math::sin_cos;

/// Steps of brightness at quality 50, row by row.
const LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// Steps of colour at quality 50, the upper left quarter; all others are 99.
const CHROMA: [[u8; 4]; 4] = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
];

/// Steps of one table at `quality` (1 to 100), by the rule of the Independent JPEG Group.
fn steps(quality: f32, chroma: bool) -> [f32; 64] {
    let q = quality.clamp(1.0, 100.0).floor();
    let scale = if q < 50.0 {
        5000.0 / q
    } else {
        200.0 - 2.0 * q
    };
    std::array::from_fn(|k| {
        let base = if chroma {
            let (row, column) = (k / 8, k % 8);
            if row < 4 && column < 4 {
                CHROMA[row][column]
            } else {
                99
            }
        } else {
            LUMA[k]
        };
        ((f32::from(base) * scale + 50.0) / 100.0)
            .floor()
            .clamp(1.0, 255.0)
    })
}

/// Row k holds the k-th cosine over eight places, of unit length.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|k| {
        let unit = if k == 0 { 0.125f32.sqrt() } else { 0.5 };
        std::array::from_fn(|x| {
            let angle = (2 * x + 1) as f32 * k as f32 * (std::f32::consts::PI / 16.0);
            unit * sin_cos(angle).1
        })
    })
}

/// Compresses and restores one plane of `side` x `side` values about 0.
fn plane(values: &mut [f32], side: usize, steps: &[f32; 64], cosines: &[[f32; 8]; 8]) {
    for top in (0..side).step_by(8) {
        for left in (0..side).step_by(8) {
            // Beyond the edge the last values go on.
            let mut block = [[0.0f32; 8]; 8];
            for (y, row) in block.iter_mut().enumerate() {
                let line = (top + y).min(side - 1) * side;
                for (x, value) in row.iter_mut().enumerate() {
                    *value = values[line + (left + x).min(side - 1)];
                }
            }
            let mut half = [[0.0f32; 8]; 8];
            for (row, out) in block.iter().zip(&mut half) {
                for (k, out) in out.iter_mut().enumerate() {
                    *out = row.iter().zip(&cosines[k]).map(|(a, b)| a * b).sum();
                }
            }
            let mut coefficients = [[0.0f32; 8]; 8];
            for (j, out) in coefficients.iter_mut().enumerate() {
                for (k, out) in out.iter_mut().enumerate() {
                    let sum: f32 = half.iter().zip(&cosines[j]).map(|(a, b)| a[k] * b).sum();
                    let step = steps[8 * j + k];
                    let scaled = sum / step;
                    *out = step
                        * if scaled < 0.0 {
                            -(0.5 - scaled).floor()
                        } else {
                            (0.5 + scaled).floor()
                        };
                }
            }
            for (y, out) in half.iter_mut().enumerate() {
                for (k, out) in out.iter_mut().enumerate() {
                    *out = (0..8).map(|j| coefficients[j][k] * cosines[j][y]).sum();
                }
            }
            for (y, row) in half.iter().enumerate().take(side - top) {
                for x in 0..8.min(side - left) {
                    values[(top + y) * side + left + x] =
                        (0..8).map(|k| row[k] * cosines[k][x]).sum();
                }
            }
        }
    }
}

/// Leaves of an RGB image of `size` x `size` pixels what JPEG of `quality` (1 to 100) leaves.
pub(crate) fn lose(pixels: &mut [u8], size: usize, quality: f32) {
    let cosines = cosines();
    let small = size.div_ceil(2);
    let mut luma = vec![0.0f32; size * size];
    let mut blue = vec![0.0f32; small * small];
    let mut red = vec![0.0f32; small * small];
    let mut count = vec![0.0f32; small * small];
    for (k, pixel) in pixels.chunks_exact(3).enumerate() {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
        luma[k] = 0.299 * r + 0.587 * g + 0.114 * b - 128.0;
        let at = (k / size / 2) * small + (k % size) / 2;
        blue[at] += -0.168_736 * r - 0.331_264 * g + 0.5 * b;
        red[at] += 0.5 * r - 0.418_688 * g - 0.081_312 * b;
        count[at] += 1.0;
    }
    for ((b, r), n) in blue.iter_mut().zip(&mut red).zip(&count) {
        *b /= n;
        *r /= n;
    }
    plane(&mut luma, size, &steps(quality, false), &cosines);
    let table = steps(quality, true);
    plane(&mut blue, small, &table, &cosines);
    plane(&mut red, small, &table, &cosines);
    for (k, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let at = (k / size / 2) * small + (k % size) / 2;
        let (y, cb, cr) = (luma[k] + 128.0, blue[at], red[at]);
        let rgb = [
            y + 1.402 * cr,
            y - 0.344_136 * cb - 0.714_136 * cr,
            y + 1.772 * cb,
        ];
        for (byte, value) in pixel.iter_mut().zip(rgb) {
            *byte = (value + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_orders_the_loss() {
        let size = 44;
        let original: Vec<u8> = (0..size * size * 3)
            .map(|k| {
                let (x, y) = (k / 3 % size, k / 3 / size);
                (128 + (x * x + 3 * y * (k % 3)) % 97) as u8
            })
            .collect();
        let loss = |quality: f32| {
            let mut pixels = original.clone();
            lose(&mut pixels, size, quality);
            original
                .iter()
                .zip(&pixels)
                .map(|(&a, &b)| u64::from(a.abs_diff(b)))
                .sum::<u64>()
        };
        assert!(loss(5.0) > loss(30.0) && loss(30.0) > loss(90.0));
        let mut flat = vec![90; 16 * 16 * 3];
        lose(&mut flat, 16, 95.0);
        assert!(flat.iter().all(|&v| v.abs_diff(90) <= 1));
    }
}
