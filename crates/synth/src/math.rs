//! Arithmetic that gives the same bits on every machine.
//!
//! Only `+ - * /`, `sqrt`, `floor`, comparisons and conversions reach a pixel: IEEE 754 fixes their results.
//! `sin`, `exp` and `powf` of the standard library call the platform's own and are not used; fused multiply-add
//! is never asked for, and the compiler does not make one up.

/// A vector or a colour.
pub(crate) type V3 = [f32; 3];

/// Sine and cosine, to about 1e-7, for moderate angles in radians. The same bits everywhere.
pub(crate) fn sin_cos(x: f32) -> (f32, f32) {
    use std::f64::consts::FRAC_PI_2;
    let x = f64::from(x);
    let k = (x / FRAC_PI_2 + 0.5).floor();
    let r = x - k * FRAC_PI_2;
    let q = r * r;
    // Taylor series on [-pi/4, pi/4]; the first term left out is below 1e-9.
    let s = r
        * (1.0
            + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362_880.0)))));
    let c = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0))));
    let (s, c) = match (k as i64).rem_euclid(4) {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    };
    (s as f32, c as f32)
}

/// Straight line from `a` (t = 0) to `b` (t = 1).
#[inline]
pub(crate) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// [`mix`] on colours.
#[inline]
pub(crate) fn mix3(a: V3, b: V3, t: f32) -> V3 {
    [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)]
}

#[inline]
pub(crate) fn scale3(a: V3, k: f32) -> V3 {
    [a[0] * k, a[1] * k, a[2] * k]
}

#[inline]
pub(crate) fn mul3(a: V3, b: V3) -> V3 {
    [a[0] * b[0], a[1] * b[1], a[2] * b[2]]
}

#[inline]
pub(crate) fn dot(a: V3, b: V3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[inline]
pub(crate) fn cross(a: V3, b: V3) -> V3 {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

#[inline]
pub(crate) fn unit(a: V3) -> V3 {
    let n = dot(a, a).sqrt();
    if n > 1e-12 {
        scale3(a, 1.0 / n)
    } else {
        [0.0, 0.0, 1.0]
    }
}

#[inline]
pub(crate) fn clamp01(x: f32) -> f32 {
    x.clamp(0.0, 1.0)
}

/// Smooth step from 0 at `from` to 1 at `to` (either may be larger).
#[inline]
pub(crate) fn step(from: f32, to: f32, x: f32) -> f32 {
    let (at, whole) = (x - from, to - from);
    // Beyond the ends, which is where most points are, no division is needed; the result is the same to the bit.
    if whole > 0.0 {
        if at <= 0.0 {
            return 0.0;
        }
        if at >= whole {
            return 1.0;
        }
    } else if whole < 0.0 {
        if at >= 0.0 {
            return 0.0;
        }
        if at <= whole {
            return 1.0;
        }
    }
    let t = clamp01(at / whole);
    t * t * (3.0 - 2.0 * t)
}

/// A smooth hill of height 1 that ends at radius 1, given the squared radius: (1 - r^2)^2.
#[inline]
pub(crate) fn hill(r2: f32) -> f32 {
    let t = 1.0 - r2;
    if t > 0.0 { t * t } else { 0.0 }
}

/// [`hill`] in an ellipse: offset (`dx`, `dy`), radii (`rx`, `ry`).
#[inline]
pub(crate) fn hill2(dx: f32, dy: f32, rx: f32, ry: f32) -> f32 {
    // Outside the box around it, which is where most points are, no division is needed.
    if dx.abs() >= rx.abs() || dy.abs() >= ry.abs() {
        return 0.0;
    }
    let (a, b) = (dx / rx, dy / ry);
    hill(a * a + b * b)
}

/// A soft line: 1 at distance 0, 0 from `width` on.
#[inline]
pub(crate) fn line(distance: f32, width: f32) -> f32 {
    if distance.abs() >= width.abs() {
        return 0.0;
    }
    let t = distance / width;
    hill(t * t)
}

/// How much of a sample of width `px` lies inside, given the signed distance to the edge (positive inside).
#[inline]
pub(crate) fn cover(distance: f32, px: f32) -> f32 {
    clamp01(0.5 + distance / px)
}

/// x^0.75 for x in [0, 1].
#[inline]
pub(crate) fn pow34(x: f32) -> f32 {
    let r = x.max(0.0).sqrt();
    r * r.sqrt()
}

/// A well mixed word from another (the splitmix64 finaliser).
#[inline]
pub(crate) fn hash(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Smooth value noise along a line, in [0, 1].
#[inline]
pub(crate) fn noise1(x: f32) -> f32 {
    let k = x as i64;
    let k = if (k as f32) > x { k - 1 } else { k };
    let t = x - k as f32;
    let at = |i: i64| (hash(i as u64) >> 40) as f32 * (1.0 / 16_777_216.0);
    let (a, b) = (at(k), at(k.wrapping_add(1)));
    mix(a, b, t * t * (3.0 - 2.0 * t))
}

/// Smooth value noise in the plane, in [0, 1].
#[inline]
pub(crate) fn noise2(x: f32, y: f32) -> f32 {
    let whole = |v: f32| {
        let k = v as i32;
        if (k as f32) > v { k.wrapping_sub(1) } else { k }
    };
    let (i, j) = (whole(x), whole(y));
    let (tx, ty) = (x - i as f32, y - j as f32);
    let (a, b) = (cell(i, j), cell(i.wrapping_add(1), j));
    let (c, d) = (
        cell(i, j.wrapping_add(1)),
        cell(i.wrapping_add(1), j.wrapping_add(1)),
    );
    let (sx, sy) = (tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty));
    mix(mix(a, b, sx), mix(c, d, sx), sy)
}

/// A well mixed number in [0, 1) for a cell of the plane.
#[inline]
pub(crate) fn cell(i: i32, j: i32) -> f32 {
    let mut h = (i as u32).wrapping_mul(0x27d4_eb2d) ^ (j as u32).wrapping_mul(0x1656_67b1);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    h ^= h >> 15;
    (h >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// An sRGB colour (0 to 1) in the linear light the shader works in; gamma 2 keeps it exact.
#[inline]
pub(crate) fn linear(srgb: V3) -> V3 {
    mul3(srgb, srgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_agrees_with_the_standard_library() {
        for k in -400..400 {
            let x = k as f32 * 0.031;
            let (s, c) = sin_cos(x);
            assert!((s - x.sin()).abs() < 1e-6, "sin {x}: {s}");
            assert!((c - x.cos()).abs() < 1e-6, "cos {x}: {c}");
        }
    }
}
