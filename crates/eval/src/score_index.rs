//! Where a score falls among many others, in about one step.

/// Distinct values in ascending order with a table that finds a score's slot in about one step.
#[derive(Debug, Clone)]
pub(crate) struct ScoreIndex {
    pub(crate) values: Vec<f64>,
    /// First value at or after each of the equal-width cells; one more than there are cells.
    cells: Vec<u32>,
    low: f64,
    scale: f64,
}

impl ScoreIndex {
    pub(crate) fn new(values: Vec<f64>) -> Self {
        let low = values.first().copied().unwrap_or(0.0);
        let high = values.last().copied().unwrap_or(0.0);
        let count = values.len().next_power_of_two().clamp(1, 1 << 22);
        let scale = count as f64 / (high - low);
        // One value, or a range so small that the division overflows: one cell, plain binary search.
        let scale = if scale.is_finite() { scale } else { 0.0 };
        let mut index = Self {
            values,
            cells: Vec::new(),
            low,
            scale,
        };
        let mut cells = vec![0u32; count + 1];
        for &value in &index.values {
            let cell = index.cell(value, count);
            if let Some(next) = cells.get_mut(cell + 1) {
                *next += 1;
            }
        }
        let mut sum = 0;
        for cell in &mut cells {
            sum += *cell;
            *cell = sum;
        }
        index.cells = cells;
        index
    }

    /// Monotone in `score`, which is all that `slot` needs: values in other cells compare as their cells do.
    fn cell(&self, score: f64, count: usize) -> usize {
        (((score - self.low) * self.scale) as usize).min(count - 1)
    }

    /// 2k+1 when `score` equals value k, otherwise 2k with k the number of values below it.
    pub(crate) fn slot(&self, score: f64) -> usize {
        let cell = self.cell(score, self.cells.len() - 1);
        let begin = self.cells[cell] as usize;
        let end = self.cells[cell + 1] as usize;
        let below = begin + self.values[begin..end].partition_point(|&v| v < score);
        if self.values.get(below) == Some(&score) {
            2 * below + 1
        } else {
            2 * below
        }
    }

    pub(crate) fn slots(&self) -> usize {
        2 * self.values.len() + 1
    }
}
