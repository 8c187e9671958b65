//! Gradient-boosted trees, small and pinned: 100 stages of depth 3 at a rate of 0.1.
//!
//! Friedman's algorithm for the multinomial loss (2001): each stage fits one regression tree for each class (one for two
//! classes) to the residuals y - p by least squares, and sets each leaf to
//! (K - 1) / K sum r / sum |r| (1 - |r|) (sum r / sum |r| (1 - |r|) for two classes), times the rate. Splits lie midway
//! between neighbouring values; of equally good ones the first column and the lowest value win. These are the settings
//! and rules of scikit-learn's `GradientBoostingClassifier`, which breaks ties at random.
//!
//! A column's importance is the total decrease of squared error by its splits over all trees, normalised to 1.

use rayon::prelude::*;

use crate::bootstrap::dense_codes;
use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};

/// Values closer than this are not split, as in scikit-learn.
const APART: f64 = 1e-7;

/// Size of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoostedTreesConfig {
    /// Stages. Default 100.
    pub stages: usize,
    /// Depth of each tree. Default 3.
    pub depth: usize,
    /// Factor on each leaf. Default 0.1.
    pub rate: f64,
}

impl Default for BoostedTreesConfig {
    fn default() -> Self {
        Self {
            stages: 100,
            depth: 3,
            rate: 0.1,
        }
    }
}

/// A fitted model.
#[derive(Debug, Clone)]
pub struct BoostedTrees {
    classes: Vec<u32>,
    dim: usize,
    start: Vec<f64>,
    /// Stages of one tree for each output.
    stages: Vec<Vec<Tree>>,
    importance: Vec<f64>,
}

#[derive(Debug, Clone, Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    Leaf(f64),
    /// Column, threshold (at or below goes left), left child, right child.
    Split(usize, f64, usize, usize),
}

impl BoostedTrees {
    /// Fits to `labels`.
    ///
    /// # Errors
    /// When there is not one label a row, or there are fewer than two classes.
    pub fn fit(rows: &Rows, labels: &[u32], config: &BoostedTreesConfig) -> Result<Self> {
        check_labels(rows, labels.len(), "labels")?;
        let (codes, count) = dense_codes(labels);
        if count < 2 {
            return Err(Error::degenerate(
                "one class only on the rows that were drawn: a classifier needs two",
            ));
        }
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let n = rows.len();
        let mut share = vec![0.0; count];
        for &code in &codes {
            if let Some(s) = share.get_mut(code as usize) {
                *s += 1.0 / n as f64;
            }
        }
        let outputs = if count == 2 { 1 } else { count };
        let start: Vec<f64> = match share.as_slice() {
            [no, yes] => vec![(yes / no).ln()],
            all => all.iter().map(|s| s.ln()).collect(),
        };
        let sorted = Sorted::new(rows);
        let mut scores: Vec<Vec<f64>> = start.iter().map(|&s| vec![s; n]).collect();
        let mut importance = vec![0.0; rows.dim()];
        let mut stages = Vec::with_capacity(config.stages);
        for _ in 0..config.stages {
            let probabilities = probabilities(&scores);
            let grown: Vec<(Tree, Vec<f64>, Vec<f64>)> = probabilities
                .par_iter()
                .enumerate()
                .map(|(output, p)| {
                    let class = if outputs == 1 { 1 } else { output as u32 };
                    let residuals: Vec<f64> = p
                        .iter()
                        .zip(&codes)
                        .map(|(p, &c)| f64::from(u8::from(c == class)) - p)
                        .collect();
                    sorted.grow(&residuals, outputs, config)
                })
                .collect();
            let mut trees = Vec::with_capacity(outputs);
            for ((tree, gains, moved), scores) in grown.into_iter().zip(&mut scores) {
                for (total, gain) in importance.iter_mut().zip(gains) {
                    *total += gain;
                }
                for (s, m) in scores.iter_mut().zip(moved) {
                    *s += m;
                }
                trees.push(tree);
            }
            stages.push(trees);
        }
        let total: f64 = importance.iter().sum();
        if total > 0.0 {
            for v in &mut importance {
                *v /= total;
            }
        }
        Ok(Self {
            classes,
            dim: rows.dim(),
            start,
            stages,
            importance,
        })
    }

    /// Importance of each column; they sum to 1, or are all 0 when no tree has a split.
    pub fn importance(&self) -> &[f64] {
        &self.importance
    }

    /// The most probable class of each row, the lowest of equal ones.
    ///
    /// # Errors
    /// When the rows have another dimension than those fitted to.
    pub fn predict(&self, rows: &Rows) -> Result<Vec<u32>> {
        if rows.dim() != self.dim {
            return Err(Error::shape(format!(
                "fitted to rows of {}, asked about rows of {}",
                self.dim,
                rows.dim()
            )));
        }
        let one = |row: &[f64]| {
            let mut scores = self.start.clone();
            for trees in &self.stages {
                for (score, tree) in scores.iter_mut().zip(trees) {
                    *score += tree.value(row);
                }
            }
            let best = match scores.as_slice() {
                [score] => usize::from(*score > 0.0),
                all => super::argmax(all),
            };
            self.classes.get(best).copied().unwrap_or(0)
        };
        Ok(rows.values().par_chunks(self.dim).map(one).collect())
    }
}

impl Tree {
    fn value(&self, row: &[f64]) -> f64 {
        let mut at = 0;
        // A tree of n nodes is at most n deep.
        for _ in 0..=self.nodes.len() {
            match self.nodes.get(at) {
                Some(&Node::Split(column, threshold, left, right)) => {
                    let v = row.get(column).copied().unwrap_or(0.0);
                    at = if v <= threshold { left } else { right };
                }
                Some(&Node::Leaf(value)) => return value,
                None => return 0.0,
            }
        }
        0.0
    }
}

fn probabilities(scores: &[Vec<f64>]) -> Vec<Vec<f64>> {
    if let [one] = scores {
        return vec![one.iter().map(|s| 1.0 / (1.0 + (-s).exp())).collect()];
    }
    let n = scores.first().map_or(0, Vec::len);
    let mut out = scores.to_vec();
    for i in 0..n {
        let each = || scores.iter().filter_map(|s| s.get(i).copied());
        let top = each().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = each().map(|s| (s - top).exp()).sum();
        for column in &mut out {
            if let Some(p) = column.get_mut(i) {
                *p = (*p - top).exp() / sum;
            }
        }
    }
    out
}

/// Columns with the order of their rows, made once for all trees.
struct Sorted {
    columns: Vec<Vec<(f64, u32)>>,
    n: usize,
}

/// What a node of the level under construction has seen.
#[derive(Clone, Copy)]
struct Open {
    /// Place in the tree.
    node: usize,
    count: f64,
    sum: f64,
    squares: f64,
    /// Gain, column, threshold.
    best: Option<(f64, usize, f64)>,
    // While a column is walked:
    left_count: f64,
    left_sum: f64,
    last: f64,
}

impl Sorted {
    fn new(rows: &Rows) -> Self {
        let columns = (0..rows.dim()).map(|c| {
            let mut column: Vec<(f64, u32)> = rows.column(c).into_iter().zip(0u32..).collect();
            column.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            column
        });
        Self {
            columns: columns.collect(),
            n: rows.len(),
        }
    }

    /// A tree on the residuals: the tree, each column's decrease of squared error, and what each row moves by.
    fn grow(
        &self,
        residuals: &[f64],
        outputs: usize,
        config: &BoostedTreesConfig,
    ) -> (Tree, Vec<f64>, Vec<f64>) {
        let mut tree = Tree {
            nodes: vec![Node::Leaf(0.0)],
        };
        let mut gains = vec![0.0; self.columns.len()];
        // Which open node each row is in; closed rows hold `CLOSED` and their leaf in `leaf`.
        const CLOSED: u32 = u32::MAX;
        let mut place = vec![0u32; self.n];
        let mut leaf = vec![0usize; self.n];
        let mut open = vec![Open::new(0)];
        for _ in 0..config.depth {
            for node in &mut open {
                *node = Open::new(node.node);
            }
            for (&p, &r) in place.iter().zip(residuals) {
                if let Some(node) = open.get_mut(p as usize) {
                    node.count += 1.0;
                    node.sum += r;
                    node.squares += r * r;
                }
            }
            for (c, column) in self.columns.iter().enumerate() {
                for node in &mut open {
                    (node.left_count, node.left_sum, node.last) = (0.0, 0.0, f64::NAN);
                }
                for &(value, row) in column {
                    let p = place.get(row as usize).copied().unwrap_or(CLOSED);
                    if let Some(node) = open.get_mut(p as usize) {
                        if value > node.last + APART {
                            node.offer(c, value);
                        }
                        node.left_count += 1.0;
                        node.left_sum += residuals.get(row as usize).copied().unwrap_or(0.0);
                        node.last = value;
                    }
                }
            }
            // Children of the nodes that split, in order.
            let mut children: Vec<Option<(usize, f64, u32)>> = Vec::with_capacity(open.len());
            let mut next = Vec::new();
            for node in &open {
                let impure =
                    node.squares / node.count - (node.sum / node.count).powi(2) > f64::EPSILON;
                match node.best {
                    Some((gain, column, threshold)) if impure => {
                        if let Some(g) = gains.get_mut(column) {
                            *g += gain / node.count;
                        }
                        let (left, right) = (tree.nodes.len(), tree.nodes.len() + 1);
                        if let Some(slot) = tree.nodes.get_mut(node.node) {
                            *slot = Node::Split(column, threshold, left, right);
                        }
                        tree.nodes.extend([Node::Leaf(0.0); 2]);
                        children.push(Some((column, threshold, next.len() as u32)));
                        next.push(Open::new(left));
                        next.push(Open::new(right));
                    }
                    _ => children.push(None),
                }
            }
            if next.is_empty() {
                break;
            }
            let mut moved = vec![CLOSED; self.n];
            for (c, column) in self.columns.iter().enumerate() {
                for &(value, row) in column {
                    let row = row as usize;
                    let p = place.get(row).copied().unwrap_or(CLOSED);
                    if let Some(Some((split, threshold, child))) = children.get(p as usize)
                        && *split == c
                        && let Some(m) = moved.get_mut(row)
                    {
                        *m = child + u32::from(value > *threshold);
                    }
                }
            }
            for ((row_leaf, p), m) in leaf.iter_mut().zip(&place).zip(&moved) {
                if let Some(node) = next.get(*m as usize) {
                    *row_leaf = node.node;
                } else if let Some(node) = open.get(*p as usize) {
                    *row_leaf = node.node;
                }
            }
            place = moved;
            open = next;
        }
        let mut sums = vec![(0.0, 0.0); tree.nodes.len()];
        for (&l, &r) in leaf.iter().zip(residuals) {
            if let Some(s) = sums.get_mut(l) {
                s.0 += r;
                s.1 += r.abs() * (1.0 - r.abs());
            }
        }
        let k = outputs as f64;
        let factor = if outputs == 1 { 1.0 } else { (k - 1.0) / k };
        for (node, (above, below)) in tree.nodes.iter_mut().zip(sums) {
            if let Node::Leaf(value) = node
                && below.abs() > 1e-150
            {
                *value = config.rate * factor * above / below;
            }
        }
        let values = leaf.iter().map(|&l| match tree.nodes.get(l) {
            Some(&Node::Leaf(v)) => v,
            _ => 0.0,
        });
        let values = values.collect();
        // Per row of the whole set, so that trees of one model add up.
        for g in &mut gains {
            *g /= self.n as f64;
        }
        (tree, gains, values)
    }
}

impl Open {
    fn new(node: usize) -> Self {
        Self {
            node,
            count: 0.0,
            sum: 0.0,
            squares: 0.0,
            best: None,
            left_count: 0.0,
            left_sum: 0.0,
            last: f64::NAN,
        }
    }

    /// Weighs the split between the last value and this one. The kept gain is diff^2 / (n_l n_r), which is the decrease
    /// of squared error times the node's count.
    fn offer(&mut self, column: usize, value: f64) {
        let right = self.count - self.left_count;
        let diff = right * self.left_sum - self.left_count * (self.sum - self.left_sum);
        let gain = diff * diff / (self.left_count * right);
        if self.best.is_none_or(|(top, _, _)| gain > top) {
            let middle = self.last / 2.0 + value / 2.0;
            // Between two neighbours that round together the lower one still goes left.
            let threshold = if middle >= value { self.last } else { middle };
            self.best = Some((gain, column, threshold));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{normal, stream};

    #[test]
    fn a_box_is_learned_and_the_useful_columns_named() {
        let mut rng = stream(0, "trees", 0);
        let values: Vec<f64> = (0..400 * 4).map(|_| normal(&mut rng)).collect();
        let rows = Rows::new(values, 4).unwrap();
        let labels: Vec<u32> = (0..400)
            .map(|i| {
                let r = rows.row(i);
                5 + u32::from(r[1] > 0.3) + 2 * u32::from(r[3] > -0.2)
            })
            .collect();
        let fit = BoostedTrees::fit(&rows, &labels, &BoostedTreesConfig::default()).unwrap();
        assert_eq!(fit.predict(&rows).unwrap(), labels);
        let importance = fit.importance();
        assert!(importance[1] > 0.3 && importance[3] > 0.3, "{importance:?}");
        assert!(importance[0] + importance[2] < 0.02);
        assert!((importance.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_a_row_moves_by_is_what_the_tree_says() {
        let values: Vec<f64> = (0..90).map(|i| f64::from(i * 29 % 17)).collect();
        let rows = Rows::new(values, 3).unwrap();
        let residuals: Vec<f64> = (0..30).map(|i| (f64::from(i)).sin() / 2.0).collect();
        let sorted = Sorted::new(&rows);
        let (tree, _, moved) = sorted.grow(&residuals, 3, &BoostedTreesConfig::default());
        assert!(tree.nodes.len() > 5);
        for (i, m) in moved.iter().enumerate() {
            assert_eq!(tree.value(rows.row(i)), *m);
        }
    }

    #[test]
    fn constant_columns_and_single_classes() {
        let rows = Rows::new(vec![1.0; 10], 1).unwrap();
        let labels: Vec<u32> = (0..10).map(|i| u32::from(i < 3)).collect();
        let fit = BoostedTrees::fit(&rows, &labels, &BoostedTreesConfig::default()).unwrap();
        assert_eq!(fit.importance(), [0.0]);
        assert_eq!(fit.predict(&rows).unwrap(), [0; 10]);
        assert!(BoostedTrees::fit(&rows, &[1; 10], &BoostedTreesConfig::default()).is_err());
    }
}
