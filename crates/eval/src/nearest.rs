//! Exact nearest neighbours of many queries, in blocks, on all cores, in bounded memory.

use rayon::prelude::*;

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::products::row_products;
use crate::score::{Measure, Score, Side};
use crate::screen::Screen;
use crate::simd;

/// Queries that a thread treats at once.
const QUERIES: usize = 256;
/// Gallery rows multiplied at once: with [`QUERIES`] a megabyte of f32 levels, which stays in the second-level cache.
const GALLERY: usize = 1024;
/// Levels looked at together before single ones are.
const GROUP: usize = 64;

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

/// The `k` nearest rows of `gallery` for each row of `queries`, exactly: products in f32 choose the candidates with a
/// proven margin, f64 decides. With `skip_self`, row i of the gallery is no neighbour of query i (both tables being one).
///
/// Memory beside the tables: 1 MB and some hundred candidates for each of 256 queries a thread, the result, and an f32
/// copy of the gallery where that is below 256 MB; a gallery on disk ([`Embeddings::map`]) is never held whole.
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
    let (a, b) = (Side::whole(queries, score)?, Side::whole(gallery, score)?);
    let longest = a.largest_norm().max(b.largest_norm());
    let search = Search {
        measure: Measure::new(score, longest),
        query_screen: Screen::new(&a, score, longest),
        gallery_screen: Screen::new(&b, score, longest),
        queries: &a,
        gallery: &b,
        k,
        skip_self,
    };
    let starts: Vec<usize> = (0..a.len()).step_by(QUERIES).collect();
    let found: Vec<Vec<(f64, u32)>> = starts.par_iter().map(|&s| search.block(s)).collect();
    let (scores, rows) = found.into_iter().flatten().unzip();
    Ok(Neighbours { k, rows, scores })
}

struct Search<'a, 's> {
    measure: Measure,
    queries: &'s Side<'a>,
    gallery: &'s Side<'a>,
    query_screen: Screen<'a, 's>,
    gallery_screen: Screen<'a, 's>,
    k: usize,
    skip_self: bool,
}

/// Candidates of one query: all that may still be among the k nearest.
struct Candidates {
    /// Nothing at or below this level can be.
    floor: f32,
    found: Vec<(f32, u32)>,
}

impl Search<'_, '_> {
    fn block(&self, start: usize) -> Vec<(f64, u32)> {
        let dim = self.queries.dim();
        let places = start..(start + QUERIES).min(self.queries.len());
        let left = self.query_screen.block(places.clone());
        let room = (4 * self.k).max(256);
        let mut all: Vec<Candidates> = places
            .clone()
            .map(|_| Candidates {
                floor: f32::NEG_INFINITY,
                found: Vec::new(),
            })
            .collect();
        let mut levels = vec![0f32; QUERIES * GALLERY];
        for from in (0..self.gallery.len()).step_by(GALLERY) {
            let columns = from..(from + GALLERY).min(self.gallery.len());
            let right = self.gallery_screen.block(columns.clone());
            let levels = &mut levels[..places.len() * columns.len()];
            row_products(&right, &left, dim, levels);
            for ((query, row), mine) in places
                .clone()
                .zip(levels.chunks_exact_mut(columns.len()))
                .zip(&mut all)
            {
                self.gallery_screen.to_levels(row, columns.clone());
                self.offer(query, row, from, mine, room);
            }
        }
        places
            .zip(all)
            .flat_map(|(query, mine)| self.decide(query, &mine.found))
            .collect()
    }

    /// Takes what lies above the floor, and raises the floor when there is too much.
    fn offer(&self, query: usize, row: &[f32], from: usize, mine: &mut Candidates, room: usize) {
        let mut at = 0;
        while at < row.len() {
            let floor = mine.floor;
            let rest = &row[at..];
            // The next group that holds a level above the floor.
            let skipped = simd::run(
                #[inline(always)]
                || {
                    rest.chunks(GROUP)
                        .position(|group| simd::largest(group) > floor)
                },
            );
            let Some(skipped) = skipped else { return };
            at += skipped * GROUP;
            let end = (at + GROUP).min(row.len());
            for (i, &level) in row[at..end].iter().enumerate() {
                let place = from + at + i;
                if level > floor && !(self.skip_self && place == query) {
                    mine.found.push((level, place as u32));
                }
            }
            at = end;
            if mine.found.len() >= room {
                self.raise(query, mine, room);
            }
        }
    }

    fn raise(&self, query: usize, mine: &mut Candidates, room: usize) {
        let k = self.k;
        let kth = {
            let (_, kth, _) = mine
                .found
                .select_nth_unstable_by(k - 1, |x, y| y.0.total_cmp(&x.0));
            kth.0
        };
        // The k-th level is at most one bound above the k-th exact one, and what beats that at most one below.
        let margin = 2.0 * self.gallery_screen.bound();
        mine.floor = mine.floor.max((kth - margin).next_down());
        let floor = mine.floor;
        mine.found.retain(|c| c.0 > floor);
        if mine.found.len() + GROUP > room {
            // Many equal embeddings: only f64 and the order of the rows can tell them apart.
            let best = self.decide(query, &mine.found);
            let levels: std::collections::BTreeMap<u32, f32> =
                mine.found.iter().map(|c| (c.1, c.0)).collect();
            mine.found = best
                .iter()
                .filter_map(|b| Some((*levels.get(&b.1)?, b.1)))
                .collect();
            if let Some(last) = best.last() {
                let level = self.query_screen.level(query, last.0);
                mine.floor = mine
                    .floor
                    .max((level - self.gallery_screen.bound()).next_down());
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
                let got = nearest(&queries, &gallery, k, score, same).unwrap();
                prop_assert_eq!(got.rows, plain(&queries, &gallery, k, score, same));
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
