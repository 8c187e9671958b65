//! Max pooling of one plane in vectors.
//!
//! The plane is copied into a frame of negative infinities. There the pixels under tap (i, j) of all
//! windows are one shifted copy of the frame, so that a pooling is `kernel^2` passes over long vectors
//! without row ends. The passes also keep which tap won, one byte a window: the gradient needs no
//! second search.

use crate::conv::im2col::gather;
use crate::cpu::Real;
use crate::pool::Window;
use crate::scratch;

/// Largest kernel whose taps can be numbered by a byte.
pub(crate) const LARGEST_KERNEL: usize = 16;

/// The frame of one plane: the plane, its padding, and where windows lie in it.
struct Frame<'a> {
    w: &'a Window,
    width: usize,
    len: usize,
}

impl<'a> Frame<'a> {
    fn new(w: &'a Window) -> Self {
        let width = w.width + 2 * w.padding.1;
        let len = (w.height + 2 * w.padding.0) * width;
        Self { w, width, len }
    }

    #[inline(always)]
    fn fill<T: Real>(&self, plane: &[T], frame: &mut [T]) {
        let padding = self.w.padding;
        frame.fill(T::NEG_INFINITY);
        for (y, row) in plane.chunks_exact(self.w.width).enumerate() {
            let at = (y + padding.0) * self.width + padding.1;
            frame[at..at + self.w.width].copy_from_slice(row);
        }
    }

    /// Runs of window positions, as ranges of the frame that hold their first taps.
    fn runs(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (stride, width) = (self.w.stride, self.width);
        let (rows, cols) = (self.w.out_height, self.w.out_width);
        // At stride 1 all rows are one run; the positions between them hold windows that nobody reads.
        let (runs, len) = if stride == (1, 1) {
            (1, (rows - 1) * width + cols)
        } else {
            (rows, (cols - 1) * stride.1 + 1)
        };
        (0..runs).map(move |y| y * stride.0 * width..y * stride.0 * width + len)
    }

    /// Where tap `t` lies from the first tap of its window.
    fn offset(&self, t: usize) -> usize {
        t / self.w.kernel.1 * self.width + t % self.w.kernel.1
    }

    /// The first taps of the windows of output row `y`.
    #[inline(always)]
    fn row<'b, U>(&self, y: usize, dense: &'b [U]) -> &'b [U] {
        let start = y * self.w.stride.0 * self.width;
        &dense[start..start + (self.w.out_width - 1) * self.w.stride.1 + 1]
    }
}

/// Largest values alone. `buffer` holds two frames.
#[inline(always)]
fn values<T: Real>(f: &Frame<'_>, plane: &[T], out: &mut [T], buffer: &mut [T]) {
    let (w, (frame, best)) = (f.w, buffer.split_at_mut(f.len));
    f.fill(plane, frame);
    for run in f.runs() {
        let best = &mut best[run.clone()];
        best.copy_from_slice(&frame[run.clone()]);
        for t in 1..w.kernel.0 * w.kernel.1 {
            let at = run.start + f.offset(t);
            for (b, &v) in best.iter_mut().zip(&frame[at..at + run.len()]) {
                *b = if wins(v, *b) { v } else { *b };
            }
        }
    }
    for (y, out) in out.chunks_exact_mut(w.out_width).enumerate() {
        gather(out, f.row(y, best), w.stride.1);
    }
}

/// True when a later value takes the place of `best`: it is larger, or the first NaN, as in PyTorch.
#[inline(always)]
fn wins<T: Real>(v: T, best: T) -> bool {
    (v > best) | (v.is_nan() & !best.is_nan())
}

/// Largest values, and which tap of its window each is. `buffer` holds two frames, `tap` one.
#[inline(always)]
fn values_and_taps<T: Real>(
    f: &Frame<'_>,
    plane: &[T],
    (out, taps): (&mut [T], &mut [u8]),
    (buffer, tap): (&mut [T], &mut [u32]),
) {
    let (w, (frame, best)) = (f.w, buffer.split_at_mut(f.len));
    f.fill(plane, frame);
    for run in f.runs() {
        let (best, tap) = (&mut best[run.clone()], &mut tap[run.clone()]);
        best.copy_from_slice(&frame[run.clone()]);
        tap.fill(0);
        for t in 1..w.kernel.0 * w.kernel.1 {
            let at = run.start + f.offset(t);
            let values = &frame[at..at + run.len()];
            for ((b, i), &v) in best.iter_mut().zip(tap.iter_mut()).zip(values) {
                let wins = wins(v, *b);
                *b = if wins { v } else { *b };
                *i = if wins { t as u32 } else { *i };
            }
        }
    }
    let rows = out
        .chunks_exact_mut(w.out_width)
        .zip(taps.chunks_exact_mut(w.out_width));
    for (y, (out, taps)) in rows.enumerate() {
        gather(out, f.row(y, best), w.stride.1);
        let row = f.row(y, tap);
        for (d, s) in taps.iter_mut().zip(row.iter().step_by(w.stride.1)) {
            *d = *s as u8;
        }
    }
}

/// Pools a plane; `taps` gets the winner of every window, numbered row by row.
pub(crate) fn forward<T: Real>(w: &Window, plane: &[T], out: &mut [T], taps: Option<&mut [u8]>) {
    let f = Frame::new(w);
    let Some(taps) = taps else {
        scratch::with(2 * f.len, |buffer: &mut [T]| {
            crate::simd::run(
                #[inline(always)]
                || values(&f, plane, out, buffer),
            );
        });
        return;
    };
    scratch::with(2 * f.len, |buffer: &mut [T]| {
        scratch::with(f.len, |tap: &mut [u32]| {
            crate::simd::run(
                #[inline(always)]
                || {
                    let (results, buffers) = ((&mut *out, &mut *taps), (&mut *buffer, &mut *tap));
                    values_and_taps(&f, plane, results, buffers);
                },
            );
        });
    });
    if out.contains(&T::NEG_INFINITY) {
        // Among nothing but negative infinities the frame itself may have won.
        w.each(|o, rows, cols| {
            let best = w.largest(plane, rows, cols);
            let (y, x) = (best / w.width + w.padding.0, best % w.width + w.padding.1);
            let (oy, ox) = (o / w.out_width, o % w.out_width);
            taps[o] = ((y - oy * w.stride.0) * w.kernel.1 + (x - ox * w.stride.1)) as u8;
        });
    }
}

/// Writes the gradient of a plane: that of every window goes to the pixel that won it.
pub(crate) fn backward<T: Real>(w: &Window, taps: &[u8], dy: &[T], dx: &mut [T]) {
    if w.kernel.1 == 2 && w.stride == w.kernel && w.padding == (0, 0) {
        crate::simd::run(
            #[inline(always)]
            || side_by_side::<T, 2>(w, taps, dy, dx),
        );
        return;
    }
    dx.fill(T::ZERO);
    let mut offsets = [0usize; LARGEST_KERNEL * LARGEST_KERNEL];
    for (t, offset) in offsets.iter_mut().take(w.kernel.0 * w.kernel.1).enumerate() {
        // Below zero in the padding; the sum with a window's place wraps back.
        *offset = (t / w.kernel.1 * w.width + t % w.kernel.1)
            .wrapping_sub(w.padding.0 * w.width + w.padding.1);
    }
    let rows = taps
        .chunks_exact(w.out_width)
        .zip(dy.chunks_exact(w.out_width));
    for (y, (taps, dy)) in rows.enumerate() {
        let mut at = y * w.stride.0 * w.width;
        for (&tap, &dy) in taps.iter().zip(dy) {
            dx[at.wrapping_add(offsets[usize::from(tap)])] += dy;
            at += w.stride.1;
        }
    }
}

/// The same where windows, K pixels wide, lie side by side: each pixel asks whether it won its own window.
#[inline(always)]
fn side_by_side<T: Real, const K: usize>(w: &Window, taps: &[u8], dy: &[T], dx: &mut [T]) {
    let (covered, beyond) = dx.split_at_mut(w.out_height * w.kernel.0 * w.width);
    beyond.fill(T::ZERO);
    let bands = covered.chunks_exact_mut(w.kernel.0 * w.width);
    let windows = taps
        .chunks_exact(w.out_width)
        .zip(dy.chunks_exact(w.out_width));
    for (band, (taps, dy)) in bands.zip(windows) {
        for (i, row) in band.chunks_exact_mut(w.width).enumerate() {
            let (inside, beyond) = row.split_at_mut(w.out_width * K);
            beyond.fill(T::ZERO);
            let pixels = inside.as_chunks_mut::<K>().0.iter_mut();
            for ((pixels, &tap), &dy) in pixels.zip(taps).zip(dy) {
                for (j, pixel) in pixels.iter_mut().enumerate() {
                    let won = usize::from(tap) == i * K + j;
                    *pixel = if won { dy } else { T::ZERO };
                }
            }
        }
    }
}
