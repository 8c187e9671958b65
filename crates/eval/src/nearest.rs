//! Exact nearest neighbours of many queries, in blocks, on all cores, in bounded memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::coarse::{self, Coarse};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::panels::{PANEL, STRIP, Tile, products};
use crate::score::{Measure, Score, Side};
use crate::screen::Screen;
use crate::simd;

/// Queries that a thread treats at once where panels lie ready: their strips stay in the second-level cache.
const QUERIES: usize = 42 * STRIP;
/// Queries that a thread treats at once where it makes the panels itself.
const QUERIES_OF_MAPPED: usize = 8 * QUERIES;
/// Gallery rows taken at once.
const GALLERY: usize = 16 * PANEL;

/// For each query its nearest gallery rows, nearest first; equal scores in the order of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Neighbours of each query.
    pub k: usize,
    /// Gallery rows, `k` for each query in turn.
    pub rows: Vec<u32>,
    /// Their scores, larger is nearer.
    pub scores: Vec<f64>,
}

impl Neighbours {
    /// The gallery rows of query `i`, nearest first; empty past the end.
    pub fn of(&self, i: usize) -> &[u32] {
        self.rows.get(i * self.k..(i + 1) * self.k).unwrap_or(&[])
    }
}

/// The `k` nearest rows of `gallery` for each row of `queries`, exactly: products of rounded numbers (bytes on CPUs with
/// AVX-512 VNNI, else f32) choose the candidates with a proven margin, f64 decides. With `skip_self`, row i of the gallery is no neighbour of query i (both tables being one).
///
/// Memory beside the tables: the result, and a copy of the gallery in bytes or f32 where that is below 256 MB; for each
/// thread the strips and some hundred candidates of each of 252 queries. A gallery on disk ([`Embeddings::map`]) is never held
/// whole; a thread then makes blocks of 1024 rows for 2016 queries at a time.
///
/// # Errors
/// When the dimensions differ, `k` is 0 or above the number of candidates, or a row is zero under the cosine.
pub fn nearest(
    queries: &Embeddings,
    gallery: &Embeddings,
    k: usize,
    score: Score,
    skip_self: bool,
) -> Result<Neighbours> {
    if queries.dim() != gallery.dim() {
        return Err(Error::shape(format!(
            "queries of dimension {}, gallery of dimension {}",
            queries.dim(),
            gallery.dim()
        )));
    }
    let candidates = gallery.len() - usize::from(skip_self);
    if k == 0 || k > candidates {
        return Err(Error::usage(format!(
            "k must be 1 to {candidates}, the number of candidates; it is {k}"
        )));
    }
    find(queries, gallery, k, score, skip_self, true)
}

/// [`nearest`] of checked input, with products of bytes where they pay if `bytes` allows them.
fn find(
    queries: &Embeddings,
    gallery: &Embeddings,
    k: usize,
    score: Score,
    skip_self: bool,
    bytes: bool,
) -> Result<Neighbours> {
    let (a, b) = (Side::whole(queries, score)?, Side::whole(gallery, score)?);
    let longest = a.largest_norm().max(b.largest_norm());
    let light = Screen::new(&b, score, longest);
    let coarse = if bytes { Coarse::new(&light) } else { None };
    let full = coarse
        .is_none()
        .then(|| Screen::of_candidates(&b, score, longest));
    let search = Search {
        measure: Measure::new(score, longest),
        query_screen: Screen::new(&a, score, longest),
        gallery_screen: full.as_ref().unwrap_or(&light),
        coarse,
        queries: &a,
        gallery: &b,
        k,
        skip_self,
    };
    let most = if search.is_held() {
        QUERIES
    } else {
        QUERIES_OF_MAPPED
    };
    // Blocks of one size, so that no thread waits for the one with the rest.
    let blocks = a
        .len()
        .div_ceil(most)
        .next_multiple_of(rayon::current_num_threads());
    let size = a.len().div_ceil(blocks).next_multiple_of(STRIP);
    let starts: Vec<usize> = (0..a.len()).step_by(size).collect();
    let found: Vec<Vec<(f64, u32)>> = starts
        .par_iter()
        .map(|&start| search.block(start..(start + size).min(a.len())))
        .collect();
    let (scores, rows) = found.into_iter().flatten().unzip();
    Ok(Neighbours { k, rows, scores })
}

struct Search<'a, 's> {
    measure: Measure,
    queries: &'s Side<'a>,
    gallery: &'s Side<'a>,
    query_screen: Screen<'a, 's>,
    gallery_screen: &'s Screen<'a, 's>,
    coarse: Option<Coarse<'s, 'a, 's>>,
    k: usize,
    skip_self: bool,
}

/// What is known of one query so far.
struct Candidates {
    /// How far its levels may lie from the exact ones.
    bound: f32,
    /// Level and place of all that may be among the nearest.
    found: Vec<(f32, u32)>,
}

/// Looks at the products of a block of queries with a block of the gallery.
struct Seen<'b, 'a, 's> {
    search: &'b Search<'a, 's>,
    places: Range<usize>,
    columns: Range<usize>,
    room: usize,
    floors: &'b mut [f32],
    all: &'b mut [Candidates],
}

impl Seen<'_, '_, '_> {
    #[inline(always)]
    fn take(&mut self, panel: usize, strip: usize, tile: &mut Tile) {
        let first = self.columns.start + panel * PANEL;
        let valid = (self.columns.end - first).min(PANEL);
        let mine = strip * STRIP..((strip + 1) * STRIP).min(self.floors.len());
        let queries = self.floors[mine.clone()]
            .iter_mut()
            .zip(&mut self.all[mine.clone()]);
        for ((row, (floor, candidates)), i) in tile.iter_mut().zip(queries).zip(mine) {
            let row = &mut row[..valid];
            self.search
                .gallery_screen
                .to_levels(row, first..first + valid);
            if simd::largest(row) > *floor {
                let query = self.places.start + i;
                self.search
                    .offer(query, row, first, floor, candidates, self.room);
            }
        }
    }
}

impl Search<'_, '_> {
    /// Whether the gallery lies ready for products.
    fn is_held(&self) -> bool {
        match &self.coarse {
            Some(coarse) => coarse.is_held(),
            None => self.gallery_screen.is_held(),
        }
    }

    fn block(&self, places: Range<usize>) -> Vec<(f64, u32)> {
        let dim = self.queries.dim();
        let room = (4 * self.k).max(256);
        let mut floors = vec![f32::NEG_INFINITY; places.len()];
        let mut strips = Vec::new();
        let mut bytes = None;
        match &self.coarse {
            Some(_) => bytes = Some(coarse::Strips::new(&self.query_screen, places.clone())),
            None => strips = self.query_screen.strips(places.clone()),
        }
        let mut all: Vec<Candidates> = (0..places.len())
            .map(|i| Candidates {
                bound: match (&self.coarse, &bytes) {
                    (Some(coarse), Some(strips)) => coarse.bound(strips.error(i)),
                    _ => self.gallery_screen.bound(),
                },
                found: Vec::new(),
            })
            .collect();
        for from in (0..self.gallery.len()).step_by(GALLERY) {
            let columns = from..(from + GALLERY).min(self.gallery.len());
            let mut seen = Seen {
                search: self,
                places: places.clone(),
                columns: columns.clone(),
                room,
                floors: &mut floors,
                all: &mut all,
            };
            match (&self.coarse, &bytes) {
                (Some(coarse), Some(strips)) => coarse.products(
                    &coarse.panels(columns),
                    strips,
                    #[inline(always)]
                    |panel, strip, tile| seen.take(panel, strip, tile),
                ),
                _ => products(
                    &self.gallery_screen.panels(columns),
                    &strips,
                    dim,
                    #[inline(always)]
                    |panel, strip, tile| seen.take(panel, strip, tile),
                ),
            }
        }
        for ((query, floor), mine) in places.clone().zip(&mut floors).zip(&mut all) {
            if mine.found.len() > self.k {
                self.raise(query, floor, mine, room);
            }
        }
        places
            .zip(all)
            .flat_map(|(query, mine)| self.decide(query, &mine.found))
            .collect()
    }

    /// Takes what lies above the floor, and raises the floor when there is too much.
    #[inline(never)]
    fn offer(
        &self,
        query: usize,
        row: &[f32],
        from: usize,
        floor: &mut f32,
        mine: &mut Candidates,
        room: usize,
    ) {
        for (place, &level) in (from..).zip(row) {
            if level > *floor && !(self.skip_self && place == query) {
                mine.found.push((level, place as u32));
            }
        }
        if mine.found.len() >= room {
            self.raise(query, floor, mine, room);
        }
    }

    /// Drops what cannot be among the k nearest; nothing at or below `floor` can be.
    fn raise(&self, query: usize, floor: &mut f32, mine: &mut Candidates, room: usize) {
        let Candidates { bound, found } = mine;
        let k = self.k;
        let kth = {
            let (_, kth, _) = found.select_nth_unstable_by(k - 1, |x, y| y.0.total_cmp(&x.0));
            kth.0
        };
        // The k-th level is at most one bound above the k-th exact one, and what beats that at most one below.
        let margin = 2.0 * *bound;
        *floor = floor.max((kth - margin).next_down());
        found.retain(|c| c.0 > *floor);
        if found.len() + PANEL > room {
            // Many near or equal embeddings: only f64 and the order of the rows can tell them apart.
            let best = self.decide(query, found);
            let levels: std::collections::BTreeMap<u32, f32> =
                found.iter().map(|c| (c.1, c.0)).collect();
            *found = best
                .iter()
                .filter_map(|b| Some((*levels.get(&b.1)?, b.1)))
                .collect();
            if let Some(last) = best.last() {
                let level = self.query_screen.level(query, last.0);
                *floor = floor.max((level - *bound).next_down());
            }
        }
    }

    /// The k nearest of the candidates by their f64 scores.
    fn decide(&self, query: usize, found: &[(f32, u32)]) -> Vec<(f64, u32)> {
        let mut exact: Vec<(f64, u32)> = found
            .iter()
            .map(|&(_, place)| {
                let score = self
                    .measure
                    .pair(self.queries, query, self.gallery, place as usize);
                (score, self.gallery.origin(place as usize))
            })
            .collect();
        exact.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
        exact.truncate(self.k);
        exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(
        queries: &Embeddings,
        gallery: &Embeddings,
        k: usize,
        score: Score,
        skip_self: bool,
    ) -> Vec<u32> {
        let (a, b) = (
            Side::whole(queries, score).unwrap(),
            Side::whole(gallery, score).unwrap(),
        );
        let measure = Measure::new(score, a.largest_norm().max(b.largest_norm()));
        (0..queries.len())
            .flat_map(|q| {
                let mut all: Vec<(f64, u32)> = (0..gallery.len())
                    .filter(|&g| !(skip_self && g == q))
                    .map(|g| (measure.pair(&a, q, &b, g), g as u32))
                    .collect();
                all.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
                all.into_iter().take(k).map(|x| x.1)
            })
            .collect()
    }

    fn table(n: usize, dim: usize, seed: u32, levels: f32) -> Embeddings {
        let values = (0..(n * dim) as u32)
            .map(|i| {
                let x = (i ^ seed.wrapping_mul(977)).wrapping_mul(2_654_435_761) >> 9;
                ((x as f32 / (1 << 23) as f32) * levels).floor() / levels + 0.01
            })
            .collect();
        Embeddings::new(values, dim).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// As a full sort in f64, with and without ties, self matches and duplicates.
        #[test]
        fn equal_to_a_full_sort(
            n in 2usize..2600, queries in 1usize..40, dim in 1usize..20,
            k in 1usize..30, seed in 0u32..1000, coarse in any::<bool>(), same in any::<bool>(),
        ) {
            let gallery = table(n, dim, seed, if coarse { 2.0 } else { 1e6 });
            let queries = if same {
                gallery.select(&(0..queries.min(n)).collect::<Vec<_>>()).unwrap()
            } else {
                table(queries, dim, seed + 1, 3.0)
            };
            let k = k.min(n - 1);
            for score in [Score::Cosine, Score::Euclid] {
                let expected = plain(&queries, &gallery, k, score, same);
                for bytes in [false, true] {
                    let got = find(&queries, &gallery, k, score, same, bytes).unwrap();
                    prop_assert_eq!(&got.rows, &expected);
                }
            }
        }
    }

    #[test]
    fn a_gallery_of_one_vector() {
        // Every level is within the bound of every other.
        let gallery = Embeddings::new([0.3f32, 0.4, 0.5].repeat(5000), 3).unwrap();
        let query = gallery.select(&[7]).unwrap();
        let got = nearest(&query, &gallery, 5, Score::Cosine, false).unwrap();
        assert_eq!(got.of(0), [0, 1, 2, 3, 4]);
        assert_eq!(got.of(1), [0u32; 0]);
        let error = nearest(&query, &query, 1, Score::Cosine, true).unwrap_err();
        assert!(
            error.to_string().contains("number of candidates"),
            "{error}"
        );
    }
}
