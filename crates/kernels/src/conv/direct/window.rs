//! Which pixels a window sees, channels last.

use super::kernel::Segment;
use crate::conv::geometry::Geometry;
use crate::conv::phases::{Phase, adjoint, extent, forward};

/// Sizes of one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Side {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// A correlation from a source to a target.
#[derive(Debug)]
pub(super) struct Correlation {
    pub(super) batch: usize,
    pub(super) source: Side,
    pub(super) target: Side,
    pub(super) taps: usize,
    /// Rows are cut at multiples of this.
    step: usize,
    rows: Vec<Phase>,
    cols: Vec<Phase>,
    /// Source columns that are seen.
    pub(super) columns: (isize, isize),
    kernel_width: usize,
    /// Distance of a column and of a channel in the weights.
    pub(super) strides: (usize, usize),
}

impl Correlation {
    pub(super) fn forward(g: &Geometry) -> Self {
        let rows = forward(g.out_height, g.kernel.0, g.padding.0, g);
        let cols = forward(g.out_width, g.kernel.1, g.padding.1, g);
        Self::new(g, rows, cols, 1, [Self::input(g), Self::output(g)], true)
    }

    pub(super) fn adjoint(g: &Geometry) -> Self {
        let rows = adjoint(g.height, g.kernel.0, g.padding.0, g);
        let cols = adjoint(g.width, g.kernel.1, g.padding.1, g);
        let sides = [Self::output(g), Self::input(g)];
        Self::new(g, rows, cols, g.stride, sides, false)
    }

    fn input(g: &Geometry) -> Side {
        Side {
            channels: g.in_channels,
            height: g.height,
            width: g.width,
        }
    }

    fn output(g: &Geometry) -> Side {
        Side {
            channels: g.out_channels,
            height: g.out_height,
            width: g.out_width,
        }
    }

    fn new(
        g: &Geometry,
        rows: Vec<Phase>,
        cols: Vec<Phase>,
        step: usize,
        [source, target]: [Side; 2],
        outputs_are_columns: bool,
    ) -> Self {
        let (outer, inner) = (g.in_channels * g.taps(), g.taps());
        Self {
            batch: g.batch,
            source,
            target,
            taps: g.taps(),
            step,
            columns: extent(&cols, 0, target.width),
            rows,
            cols,
            kernel_width: g.kernel.1,
            strides: if outputs_are_columns {
                (outer, inner)
            } else {
                (inner, outer)
            },
        }
    }

    /// Length of a row of a frame: of the padded source, channels last.
    pub(super) fn pitch(&self) -> usize {
        (self.columns.1 - self.columns.0) as usize * self.source.channels
    }

    /// Rows of the source that the target rows `from..to` see.
    pub(super) fn rows_of(&self, from: usize, to: usize) -> (isize, isize) {
        extent(&self.rows, from, to)
    }

    /// Values of all windows together.
    pub(super) fn depth(&self) -> usize {
        self.taps * self.source.channels
    }

    fn phases(&self) -> impl Iterator<Item = (&Phase, &Phase)> {
        self.rows
            .iter()
            .flat_map(|row| self.cols.iter().map(move |col| (row, col)))
    }

    /// The segments of each phase.
    pub(super) fn segments(&self) -> Vec<Vec<Segment>> {
        let (pitch, channels) = (self.pitch(), self.source.channels);
        self.phases()
            .map(|(row, col)| {
                let mut all: Vec<Segment> = Vec::new();
                for (down, _) in &row.taps {
                    for (right, _) in &col.taps {
                        let at = down * pitch + right * channels;
                        match all.last_mut() {
                            Some(last) if last.at + last.len == at => last.len += channels,
                            _ => all.push(Segment { at, len: channels }),
                        }
                    }
                }
                all
            })
            .collect()
    }

    /// The place of every tap among those of all windows; taps that reach nothing come last.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order = vec![usize::MAX; self.taps];
        let mut next = 0;
        for (row, col) in self.phases() {
            for (_, i) in &row.taps {
                for (_, j) in &col.taps {
                    order[i * self.kernel_width + j] = next;
                    next += 1;
                }
            }
        }
        for place in order.iter_mut().filter(|place| **place == usize::MAX) {
            *place = next;
            next += 1;
        }
        order
    }

    /// The parts of the target that are worked on at a time, of about `wanted` pixels whose frame is not
    /// much longer than `most`.
    pub(super) fn units(&self, wanted: usize, most: usize) -> Units {
        let pixels = self.target.pixels();
        let all = self.rows_of(0, self.target.height);
        let frame = (all.1 - all.0) as usize * self.pitch();
        if pixels <= wanted {
            let images = (wanted / pixels).min(most / frame.max(1)).max(1);
            return Units {
                images: images.min(self.batch),
                rows: self.target.height,
                bands: 1,
                frame: frame * images.min(self.batch),
            };
        }
        let rows = (wanted / self.target.width).max(1);
        let rows = rows.next_multiple_of(self.step).min(self.target.height);
        let bands = self.target.height.div_ceil(rows);
        let frame = (0..bands)
            .map(|band| {
                let (from, to) = (band * rows, ((band + 1) * rows).min(self.target.height));
                let (lo, hi) = self.rows_of(from, to);
                (hi - lo) as usize * self.pitch()
            })
            .max()
            .unwrap_or(0);
        Units {
            images: 1,
            rows,
            bands,
            frame,
        }
    }

    /// Visits the pixels of target rows `from..to` by phase: the number of the phase, then for every pixel
    /// the start of its window from the frame's first row on, and its place among these rows.
    pub(super) fn visit(&self, (from, to): (usize, usize), mut f: impl FnMut(usize, usize, usize)) {
        let (top, _) = self.rows_of(from, to);
        let channels = self.source.channels as isize;
        let pitch = self.pitch() as isize;
        for (index, (row, col)) in self.phases().enumerate() {
            let reached = !row.taps.is_empty() && !col.taps.is_empty();
            for (y, sy) in row.places.iter().filter(|(y, _)| (from..to).contains(y)) {
                for (x, sx) in &col.places {
                    let source = match reached {
                        true => (sy - top) * pitch + (sx - self.columns.0) * channels,
                        false => 0,
                    };
                    f(index, source as usize, (y - from) * self.target.width + x);
                }
            }
        }
    }
}

/// See [`Correlation::units`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    /// Images worked on together.
    pub(super) images: usize,
    /// Target rows of a band.
    pub(super) rows: usize,
    pub(super) bands: usize,
    /// Longest frame.
    pub(super) frame: usize,
}

impl Units {
    pub(super) fn count(&self, batch: usize) -> usize {
        batch.div_ceil(self.images) * self.bands
    }
}
