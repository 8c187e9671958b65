//! Identity-aware tuples drawn before the forward pass.
//!
//! The (N+M)-tuplet clusters loss (Liu, Kumar, You, Jia, CVPR Workshops 2017) takes its negatives from the query's own
//! person, showing another expression: hard by construction, without a search. The published abstract gives no sampling
//! rule; the one below is ours.

use std::collections::{BTreeMap, BTreeSet};

use candle::{Result, bail};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::random::stream;
use crate::tuples::{Tuplet, Tuplets};

/// Where the negatives of a tuplet come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NegativeSource {
    /// Other expressions of the query's own identity, spread over the expressions.
    #[default]
    SameIdentity,
    /// Other expressions of anyone, uniformly over the images: the ablation that shows what the first is worth.
    Random,
}

/// How tuplets are drawn and mined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TupletConfig {
    /// N: the positives of a mined tuplet, the query among them. Default 8.
    pub positives: usize,
    /// M: at most this many negatives. Default 6.
    pub negatives: usize,
    /// K: the positives to choose from by online mining, without the query. Default 16.
    pub candidates: usize,
    /// Queries a batch. Default 8.
    pub tuplets_per_batch: usize,
    /// If mining leaves fewer positives than this, the query among them, its drops are undone. Default 2.
    pub min_positives: usize,
    /// Default [`NegativeSource::SameIdentity`].
    pub negative_source: NegativeSource,
}

impl Default for TupletConfig {
    fn default() -> Self {
        Self {
            positives: 8,
            negatives: 6,
            candidates: 16,
            tuplets_per_batch: 8,
            min_positives: 2,
            negative_source: NegativeSource::SameIdentity,
        }
    }
}

impl TupletConfig {
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in [
            ("positives", self.positives),
            ("negatives", self.negatives),
            ("candidates", self.candidates),
            ("tuplets_per_batch", self.tuplets_per_batch),
        ] {
            if value == 0 {
                bail!("tuplet configuration: {name} must be at least 1");
            }
        }
        Ok(())
    }
}

/// The images of one step and the tuplets over them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TupletBatch {
    /// Indices into the data set, each image once; position in this list = index into the batch.
    pub indices: Vec<usize>,
    /// The tuplets, with every candidate as a positive.
    pub tuplets: Tuplets,
    /// Queries whose identity shows no other expression. Their image is in the batch, for a classification loss, without a
    /// tuplet.
    pub without_negatives: usize,
    /// Queries whose expression nobody else shows; treated the same way.
    pub without_positives: usize,
}

/// The images of one identity with one expression.
#[derive(Debug)]
struct Cell {
    identity: u32,
    expression: u32,
    images: Vec<usize>,
}

/// Draws identity-aware tuplets.
///
/// For each tuplet:
/// 1. a query: a cell (identity, expression), then an image of it. The queries of a batch are different cells as long as
///    there are enough.
/// 2. negatives: up to M images of the same identity with other expressions, one from each expression before a second from
///    any. An identity with one expression gives no tuplet; it is counted.
/// 3. candidates: up to K images of the query's expression by other identities, one from each identity before a second from
///    any.
///
/// [`sample`](Self::sample) draws from a generator; [`batch`](Self::batch) is a function of (seed, step) that makes every cell
/// a query once before any cell is one twice.
#[derive(Debug)]
pub struct TupletSampler {
    config: TupletConfig,
    cells: Vec<Cell>,
    /// Cells of each identity, and of each expression.
    by_identity: BTreeMap<u32, Vec<usize>>,
    by_expression: BTreeMap<u32, Vec<usize>>,
    /// All images sorted by expression, and where each expression lies in it.
    sorted: Vec<usize>,
    range: BTreeMap<u32, (usize, usize)>,
}

const CELL_ORDER: u64 = 1;
const CELL_START: u64 = 2;
const BATCH: u64 = 3;

impl TupletSampler {
    /// Prepares sampling over a data set with one `expression` and one `identity` label for each image.
    ///
    /// # Errors
    /// When the labels are of different length, when there is one identity or one expression only, when no expression is shown
    /// by two identities, or (with [`NegativeSource::SameIdentity`]) when no identity shows two expressions.
    pub fn new(expression: &[u32], identity: &[u32], config: TupletConfig) -> Result<Self> {
        config.check()?;
        let (cells, by_identity, by_expression) = cells(expression, identity)?;
        if by_identity.len() < 2 {
            bail!(
                "tuplets need at least two identities, found {}: the positives of a query come from other people",
                by_identity.len()
            );
        }
        if by_expression.len() < 2 {
            bail!(
                "tuplets need at least two expressions, found {}: the negatives of a query show another one",
                by_expression.len()
            );
        }
        if by_expression.values().all(|cells| cells.len() < 2) {
            bail!(
                "tuplets need an expression shown by two identities; here each is shown by one only"
            );
        }
        if config.negative_source == NegativeSource::SameIdentity
            && by_identity.values().all(|cells| cells.len() < 2)
        {
            bail!(
                "identity-aware tuplets need an identity with two expressions; here each shows one only"
            );
        }
        let mut sorted = Vec::with_capacity(expression.len());
        let mut range = BTreeMap::new();
        for (&expression, list) in &by_expression {
            let start = sorted.len();
            sorted.extend(list.iter().flat_map(|&c| &cells[c].images));
            range.insert(expression, (start, sorted.len()));
        }
        Ok(Self {
            config,
            cells,
            by_identity,
            by_expression,
            sorted,
            range,
        })
    }

    /// Number of (identity, expression) cells, each of which can be a query.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Steps in which [`batch`](Self::batch) makes every cell a query once.
    pub fn steps_per_pass(&self) -> usize {
        self.cells.len().div_ceil(self.config.tuplets_per_batch)
    }

    /// Draws a batch. Queries are uniform over the cells.
    pub fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> TupletBatch {
        let mut order: Vec<usize> = Vec::new();
        let mut queries = Vec::with_capacity(self.config.tuplets_per_batch);
        for _ in 0..self.config.tuplets_per_batch {
            if order.is_empty() {
                order = (0..self.cells.len()).collect();
            }
            let cell = order.swap_remove(rng.random_range(0..order.len()));
            let images = &self.cells[cell].images;
            queries.push((cell, images[rng.random_range(0..images.len())]));
        }
        self.build(&queries, rng)
    }

    /// The batch of a step: a function of the arguments alone, so that a resumed run goes on as it would have.
    ///
    /// Consecutive queries go round the expressions, so that a batch of as many tuplets as there are expressions has one of
    /// each: batch norm and a softmax loss on the same images then see every class at every step.
    ///
    /// Steps walk through a shuffled list of cells, [`steps_per_pass`](Self::steps_per_pass) steps to a pass, shuffled anew for
    /// every pass; the last step of a pass is filled from the list's end. From pass to pass a cell's images take turns as the
    /// query.
    pub fn batch(&self, seed: u64, step: u64) -> TupletBatch {
        let (count, size) = (self.cells.len(), self.config.tuplets_per_batch);
        let passes = self.steps_per_pass() as u64;
        let (pass, within) = (step / passes, (step % passes) as usize);
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut stream(seed, CELL_ORDER, pass));
        self.interleave(&mut order);
        let start = (within * size).min(count.saturating_sub(size));
        let queries: Vec<_> = (start..start + size)
            .map(|i| {
                // With fewer cells than queries a cell is asked more than once in a step, for its next image each time.
                let cell = order[i % count];
                let images = &self.cells[cell].images;
                let first: u64 =
                    stream(seed, CELL_START, cell as u64).random_range(0..images.len() as u64);
                let turn =
                    first.wrapping_add(pass).wrapping_add((i / count) as u64) % images.len() as u64;
                (cell, images[turn as usize])
            })
            .collect();
        self.build(&queries, &mut stream(seed, BATCH, step))
    }

    /// Deals a shuffled list of cells out by expression: the first cell of every expression, then the second of every one.
    fn interleave(&self, order: &mut [usize]) {
        let mut dealt: BTreeMap<u32, usize> = BTreeMap::new();
        let mut round = vec![0usize; self.cells.len()];
        for &cell in order.iter() {
            let count = dealt.entry(self.cells[cell].expression).or_default();
            round[cell] = *count;
            *count += 1;
        }
        // Stable: within a round the shuffled order stays.
        order.sort_by_key(|&cell| round[cell]);
    }

    fn build<R: Rng + ?Sized>(&self, queries: &[(usize, usize)], rng: &mut R) -> TupletBatch {
        let mut batch = TupletBatch::default();
        let mut position = BTreeMap::new();
        for &(cell, image) in queries {
            let query = place(image, &mut batch.indices, &mut position);
            let cell = &self.cells[cell];
            let others =
                |list: Option<&Vec<usize>>, keep: &dyn Fn(&Cell) -> bool| -> Vec<&[usize]> {
                    list.into_iter()
                        .flatten()
                        .map(|&c| &self.cells[c])
                        .filter(|&c| keep(c))
                        .map(|c| c.images.as_slice())
                        .collect()
                };
            let same_expression = others(self.by_expression.get(&cell.expression), &|c| {
                c.identity != cell.identity
            });
            let negatives = match self.config.negative_source {
                NegativeSource::SameIdentity => {
                    let own = others(self.by_identity.get(&cell.identity), &|c| {
                        c.expression != cell.expression
                    });
                    spread(own, self.config.negatives, rng)
                }
                NegativeSource::Random => self.random_negatives(cell.expression, rng),
            };
            if negatives.is_empty() {
                batch.without_negatives += 1;
                continue;
            }
            if same_expression.is_empty() {
                batch.without_positives += 1;
                continue;
            }
            let candidates = spread(same_expression, self.config.candidates, rng);
            let mut place_all = |images: Vec<usize>| -> Vec<u32> {
                images
                    .into_iter()
                    .map(|i| place(i, &mut batch.indices, &mut position))
                    .collect()
            };
            let positives = place_all(candidates);
            let negatives = place_all(negatives);
            batch.tuplets.0.push(Tuplet {
                query,
                positives,
                negatives,
            });
        }
        batch
    }

    /// M different images of other expressions, uniformly.
    fn random_negatives<R: Rng + ?Sized>(&self, expression: u32, rng: &mut R) -> Vec<usize> {
        let &(start, end) = self.range.get(&expression).unwrap_or(&(0, 0));
        let others = self.sorted.len() - (end - start);
        let want = self.config.negatives.min(others);
        let (mut chosen, mut seen) = (Vec::with_capacity(want), BTreeSet::new());
        while chosen.len() < want {
            let r = rng.random_range(0..others);
            if seen.insert(r) {
                chosen.push(self.sorted[if r < start { r } else { r + (end - start) }]);
            }
        }
        chosen
    }
}

type Groups = BTreeMap<u32, Vec<usize>>;

/// The cells in ascending (identity, expression) order, and which of them belong to each identity and each expression.
fn cells(expression: &[u32], identity: &[u32]) -> Result<(Vec<Cell>, Groups, Groups)> {
    if expression.len() != identity.len() {
        bail!(
            "{} expression labels but {} identity labels",
            expression.len(),
            identity.len()
        );
    }
    let mut images: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for (i, (&e, &a)) in expression.iter().zip(identity).enumerate() {
        images.entry((a, e)).or_default().push(i);
    }
    let (mut by_identity, mut by_expression) = (Groups::new(), Groups::new());
    let mut cells = Vec::with_capacity(images.len());
    for ((identity, expression), images) in images {
        by_identity.entry(identity).or_default().push(cells.len());
        by_expression
            .entry(expression)
            .or_default()
            .push(cells.len());
        cells.push(Cell {
            identity,
            expression,
            images,
        });
    }
    Ok((cells, by_identity, by_expression))
}

/// The batch position of an image, which joins the batch if it is new.
fn place(image: usize, indices: &mut Vec<usize>, position: &mut BTreeMap<usize, u32>) -> u32 {
    *position.entry(image).or_insert_with(|| {
        indices.push(image);
        (indices.len() - 1) as u32
    })
}

/// Up to `count` different items of `groups`: one from every group, in random order, before a second from any.
pub(crate) fn spread<R: Rng + ?Sized>(
    groups: Vec<&[usize]>,
    count: usize,
    rng: &mut R,
) -> Vec<usize> {
    let mut left: Vec<Vec<usize>> = Vec::new();
    let mut chosen = Vec::with_capacity(count);
    let mut groups = groups;
    // First round: a partial shuffle, so that only the groups that are used are copied.
    let mut next = 0;
    while chosen.len() < count && next < groups.len() {
        let swap = rng.random_range(next..groups.len());
        groups.swap(next, swap);
        let mut items = groups[next].to_vec();
        next += 1;
        if !items.is_empty() {
            chosen.push(items.swap_remove(rng.random_range(0..items.len())));
            left.push(items);
        }
    }
    while chosen.len() < count {
        left.retain(|items| !items.is_empty());
        if left.is_empty() {
            break;
        }
        left.shuffle(rng);
        for items in &mut left {
            if chosen.len() == count {
                break;
            }
            chosen.push(items.swap_remove(rng.random_range(0..items.len())));
        }
    }
    chosen
}
