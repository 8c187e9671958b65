//! Products of rows rounded to bytes, four times as many an instruction as in f32, with a bound on how far each lies from
//! the exact one.
//!
//! A row b becomes s q with whole numbers q in -127..=127 and s = max |b_i| / 127, and what that leaves out is measured:
//! b = s q + e. So for |a|, |b| <= 1 the product lies within |e_a| |b| + |s_a q_a| |e_b| <= |e_a| + (1 + |e_a|) |e_b| of
//! s_a s_b q_a.q_b, which the integers give exactly; a dozen roundings in f32 come on top. Of a hundred thousand random
//! rows of 256 numbers some fifty stay in question for the ten nearest, and those are computed again in f64.
//!
//! It needs AVX-512 with VNNI; elsewhere [`Coarse::new`] gives nothing and f32 products screen alone.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::panels::{PANEL, STRIP, Tile};
use crate::screen::Screen;
use crate::simd;

/// Largest table of bytes held at once; beyond it blocks are made when they are needed.
const MAX_COPY: usize = 256 << 20;
/// Beyond this too much would stay in question.
const MAX_ERROR: f32 = 0.04;
/// Numbers in a word.
const WORD: usize = 4;

/// Candidates as bytes.
pub(crate) struct Coarse<'c, 'a, 's> {
    screen: &'c Screen<'a, 's>,
    held: Option<Panels>,
    /// Largest |e_b|.
    error: f32,
}

/// Some candidates, word by word: all rows' first four numbers, then their next four.
#[derive(Clone, Default)]
pub(crate) struct Panels {
    words: Vec<i32>,
    scales: Vec<f32>,
    /// -128 times the sum of each row's numbers: the queries' bytes are stored 128 too large, as the instruction takes
    /// unsigned ones.
    starts: Vec<i32>,
}

/// Some queries, word by word.
pub(crate) struct Strips {
    words: Vec<i32>,
    scales: Vec<f32>,
    /// |e_a| by query.
    errors: Vec<f32>,
}

/// A row's nearest multiple of whole numbers; gives the multiplier and the length of what is left out.
#[inline(always)]
fn round(row: &[f32], out: &mut [i8]) -> (f32, f32) {
    let most = simd::largest(row).max(-simd::smallest(row));
    let scale = most / 127.0;
    let inverse = if scale > 1e-30 { 1.0 / scale } else { 0.0 };
    let scale = if inverse > 0.0 { scale } else { 0.0 };
    let mut left = [0f64; 16];
    let groups = out.chunks_mut(16).zip(row.chunks(16));
    for (to, from) in groups {
        for ((to, &v), left) in to.iter_mut().zip(from).zip(&mut left) {
            // Adding and subtracting 1.5 x 2^23 rounds to whole numbers, ties to even.
            let whole = (v * inverse + 12_582_912.0) - 12_582_912.0;
            let whole = whole.clamp(-127.0, 127.0);
            *to = whole as i8;
            *left += (f64::from(v) - f64::from(scale) * f64::from(whole)).powi(2);
        }
    }
    let left: f64 = left.iter().sum();
    (scale, (left.sqrt() as f32).next_up())
}

impl<'c, 'a, 's> Coarse<'c, 'a, 's> {
    /// The candidates of `screen`, or nothing where that would not pay: without the instructions, for rows that bytes
    /// are too coarse for, or too long for 32-bit sums.
    pub(crate) fn new(screen: &'c Screen<'a, 's>) -> Option<Self> {
        if !supported() || screen.dim() > 1 << 16 {
            return None;
        }
        let mut out = Self {
            screen,
            held: None,
            error: 0.0,
        };
        let panels = screen.len().div_ceil(PANEL);
        let hold = panels * out.panel_words() * 4 <= MAX_COPY;
        let parts: Vec<(Panels, f32)> = (0..panels.div_ceil(16))
            .into_par_iter()
            .map(|part| {
                let first = part * 16 * PANEL;
                let (made, error) = out.make(first..(first + 16 * PANEL).min(screen.len()));
                (if hold { made } else { Panels::default() }, error)
            })
            .collect();
        out.error = parts.iter().fold(0.0, |most, part| most.max(part.1));
        if hold {
            let mut held = Panels::default();
            for (part, _) in parts {
                held.words.extend(part.words);
                held.scales.extend(part.scales);
                held.starts.extend(part.starts);
            }
            out.held = Some(held);
        }
        (out.error <= MAX_ERROR).then_some(out)
    }

    fn words(&self) -> usize {
        self.screen.dim().div_ceil(WORD)
    }

    fn panel_words(&self) -> usize {
        PANEL * self.words()
    }

    fn make(&self, places: Range<usize>) -> (Panels, f32) {
        let mut out = Panels::default();
        let laid = Laid::new(self.screen, places, PANEL, 0);
        for (rows, scales) in laid.sums.chunks(PANEL).zip(laid.scales.chunks(PANEL)) {
            out.starts.extend(rows.iter().map(|sum| -128 * sum));
            out.scales.extend(scales);
        }
        out.words = laid.words;
        (out, laid.errors.iter().fold(0.0, |most, e| most.max(*e)))
    }

    /// Whether the candidates lie ready, so that asking for them again costs nothing.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Some candidates; the first place is a multiple of [`PANEL`].
    pub(crate) fn panels(&self, places: Range<usize>) -> Block<'_> {
        let words = self.words();
        match &self.held {
            Some(held) => {
                let end = places.end.div_ceil(PANEL) * PANEL;
                Block {
                    words: Cow::Borrowed(&held.words[places.start * words..end * words]),
                    scales: Cow::Borrowed(&held.scales[places.start..end]),
                    starts: Cow::Borrowed(&held.starts[places.start..end]),
                }
            }
            None => {
                let (made, _) = self.make(places);
                Block {
                    words: Cow::Owned(made.words),
                    scales: Cow::Owned(made.scales),
                    starts: Cow::Owned(made.starts),
                }
            }
        }
    }

    /// How far a level of a query with rounding error `error` may lie from the exact one.
    pub(crate) fn bound(&self, error: f32) -> f32 {
        error + (1.0 + error) * self.error + 64.0 * 2f32.powi(-24)
    }

    /// Calls `visit(panel, strip, products)` for each panel with each strip, as [`crate::panels::products`].
    pub(crate) fn products(
        &self,
        block: &Block<'_>,
        strips: &Strips,
        visit: impl FnMut(usize, usize, &mut Tile),
    ) {
        #[cfg(target_arch = "x86_64")]
        if supported() {
            // SAFETY: the CPU has the features that the function is compiled for.
            unsafe { vnni::sweep(block, strips, self.words(), visit) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (block, strips, visit);
    }
}

/// Candidates of one call.
pub(crate) struct Block<'b> {
    words: Cow<'b, [i32]>,
    scales: Cow<'b, [f32]>,
    starts: Cow<'b, [i32]>,
}

impl Strips {
    pub(crate) fn new(screen: &Screen<'_, '_>, places: Range<usize>) -> Self {
        let laid = Laid::new(screen, places, STRIP, 128);
        Self {
            words: laid.words,
            scales: laid.scales,
            errors: laid.errors,
        }
    }

    /// |e_a| of a query.
    pub(crate) fn error(&self, query: usize) -> f32 {
        self.errors.get(query).copied().unwrap_or(0.0)
    }
}

/// Rounded rows in groups of some width, the last one filled up.
struct Laid {
    words: Vec<i32>,
    scales: Vec<f32>,
    errors: Vec<f32>,
    sums: Vec<i32>,
}

impl Laid {
    fn new(screen: &Screen<'_, '_>, places: Range<usize>, width: usize, add: i16) -> Self {
        let (dim, words) = (screen.dim(), screen.dim().div_ceil(WORD));
        let rows = places.len().div_ceil(width) * width;
        let zero = add as u8;
        let mut out = Self {
            words: vec![i32::from_ne_bytes([zero; 4]); rows * words],
            scales: vec![0.0; rows],
            errors: vec![0.0; rows],
            sums: vec![0; rows],
        };
        let mut row = vec![0f32; dim];
        let mut whole = vec![0i8; words * WORD];
        for (i, place) in places.enumerate() {
            screen.fill(place, &mut row);
            (out.scales[i], out.errors[i]) = simd::run(
                #[inline(always)]
                || round(&row, &mut whole),
            );
            out.sums[i] = whole.iter().map(|&q| i32::from(q)).sum();
            let laid = &mut out.words[i / width * width * words..][..width * words];
            let to = laid.iter_mut().skip(i % width).step_by(width);
            for (to, four) in to.zip(whole.as_chunks::<WORD>().0) {
                *to = i32::from_ne_bytes(four.map(|q| (i16::from(q) + add) as u8));
            }
        }
        out
    }
}

fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::{
        __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_mul_ps, _mm512_set1_epi32,
        _mm512_set1_ps,
    };

    use super::{Block, Strips};
    use crate::panels::{PANEL, STRIP, Tile};
    use crate::simd::avx512::{numbers, vector};

    /// Numbers in a vector.
    const LANES: usize = 16;
    /// Vectors of a panel.
    const VECTORS: usize = PANEL / LANES;

    fn integers(from: &[i32; LANES]) -> __m512i {
        // SAFETY: both are 64 bytes for which every pattern is a value.
        unsafe { std::mem::transmute(*from) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn sweep(
        block: &Block<'_>,
        strips: &Strips,
        words: usize,
        mut visit: impl FnMut(usize, usize, &mut Tile),
    ) {
        let mut out: Tile = [[0.0; PANEL]; STRIP];
        let (scales, _) = block.scales.as_chunks::<PANEL>();
        let (starts, _) = block.starts.as_chunks::<PANEL>();
        let panels = block.words.chunks_exact((PANEL * words).max(1));
        for (p, ((panel, scales), starts)) in panels.zip(scales).zip(starts).enumerate() {
            let (columns, _) = panel.as_chunks::<PANEL>();
            let (factors, _) = strips.scales.as_chunks::<STRIP>();
            let rows = strips.words.chunks_exact((STRIP * words).max(1));
            for (s, (strip, factors)) in rows.zip(factors).enumerate() {
                let (rows, _) = strip.as_chunks::<STRIP>();
                let mut start = [_mm512_set1_epi32(0); VECTORS];
                for (to, from) in start.iter_mut().zip(starts.as_chunks::<LANES>().0) {
                    *to = integers(from);
                }
                let mut sums = [start; STRIP];
                for (column, row) in columns.iter().zip(rows) {
                    let mut vectors = [_mm512_set1_epi32(0); VECTORS];
                    for (to, from) in vectors.iter_mut().zip(column.as_chunks::<LANES>().0) {
                        *to = integers(from);
                    }
                    for (sums, &word) in sums.iter_mut().zip(row) {
                        let word = _mm512_set1_epi32(word);
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = _mm512_dpbusd_epi32(*sum, word, vector);
                        }
                    }
                }
                for ((to, sums), &factor) in out.iter_mut().zip(&sums).zip(factors) {
                    let factor = _mm512_set1_ps(factor);
                    let to = to.as_chunks_mut::<LANES>().0.iter_mut();
                    let scales = scales.as_chunks::<LANES>().0;
                    for ((to, &sum), scale) in to.zip(sums).zip(scales) {
                        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), vector(scale));
                        *to = numbers(_mm512_mul_ps(product, factor));
                    }
                }
                visit(p, s, &mut out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embeddings::Embeddings;
    use crate::score::{Measure, Score, Side};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Whole panels and rests, rows of very different lengths, zeros among the numbers.
        #[test]
        fn levels_lie_within_the_bound(n in 1usize..150, dim in 1usize..40, seed in 0u32..1000) {
            let values = (0..(n * dim) as u32)
                .map(|i| {
                    let bits = (i ^ seed.wrapping_mul(977)).wrapping_mul(2_654_435_761);
                    let power = 10f32.powi((i as usize / dim % 9) as i32 - 4);
                    if bits.is_multiple_of(5) { 0.0 } else { ((bits >> 9) as f32 / 4e6 - 1.0) * power }
                })
                .collect();
            let table = Embeddings::new(values, dim).unwrap();
            for score in [Score::Cosine, Score::Euclid] {
                let Ok(side) = Side::whole(&table, score) else { continue };
                let measure = Measure::new(score, side.largest_norm());
                let screen = Screen::new(&side, score, side.largest_norm());
                let Some(coarse) = Coarse::new(&screen) else { continue };
                let strips = Strips::new(&screen, 0..n);
                let mut seen = 0;
                coarse.products(&coarse.panels(0..n), &strips, |p, s, tile| {
                    let columns = p * PANEL..((p + 1) * PANEL).min(n);
                    for (q, row) in (s * STRIP..n).zip(tile) {
                        let row = &mut row[..columns.len()];
                        screen.to_levels(row, columns.clone());
                        for (&level, c) in row.iter().zip(columns.clone()) {
                            let exact = screen.level(q, measure.pair(&side, q, &side, c));
                            let bound = coarse.bound(strips.error(q));
                            assert!((level - exact).abs() <= bound, "{level} {exact} {bound}");
                            seen += 1;
                        }
                    }
                });
                prop_assert_eq!(seen, n * n);
            }
        }
    }
}
