//! From a description to tables: where maps lie, which windows are read, weights in blocks.

use super::build::{After, Builder, Channels, Conv, Layer, OP, Pool, Size, Step};
use super::run::Program;
use crate::conv::direct::kernel::{Place, Segment};
use candle::Result;

/// Columns of a block at most.
const BLOCK: usize = 64;
const LANES: usize = 16;

/// A map in the memory of a program: (height + 2 border, width + 2 border, channels).
#[derive(Debug, Clone, Copy)]
pub(super) struct Place2d {
    pub(super) size: Size,
    pub(super) border: usize,
    pub(super) start: usize,
}

impl Place2d {
    /// Length of a row.
    pub(super) fn pitch(&self) -> usize {
        (self.size.width + 2 * self.border) * self.size.channels
    }

    pub(super) fn len(&self) -> usize {
        self.pitch() * (self.size.height + 2 * self.border)
    }

    /// The first channel of pixel (y, x) within the map; coordinates count from the border's corner.
    pub(super) fn at(&self, y: usize, x: usize) -> usize {
        y * self.pitch() + x * self.size.channels
    }
}

/// Columns that stay in registers together.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) first: usize,
    pub(super) columns: usize,
    pub(super) lanes: usize,
    /// (window, lanes).
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) slope: Option<Vec<f32>>,
}

/// A convolution.
#[derive(Debug, Clone)]
pub(super) struct Product {
    pub(super) segments: Vec<Segment>,
    /// Within the two maps.
    pub(super) places: Vec<Place>,
    /// At least as large as every place.
    pub(super) most: Place,
    pub(super) blocks: Vec<Block>,
    pub(super) relu: bool,
    pub(super) flops: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    Product(Product),
    Pool(Pool),
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    /// Whether the target's border is to be cleared first.
    pub(super) clears: bool,
    pub(super) from: (Place2d, Channels),
    pub(super) to: (Place2d, Channels),
    pub(super) work: Work,
}

pub(super) fn compile(builder: &Builder, output: Channels) -> Result<Program> {
    let (maps, len) = arrange(builder, output)?;
    let mut cleared = vec![false; maps.len()];
    let tasks = builder
        .steps
        .iter()
        .map(|step| {
            let (from, to) = (maps[step.from.map], maps[step.to.map]);
            Task {
                clears: to.border > 0 && !std::mem::replace(&mut cleared[step.to.map], true),
                from: (from, step.from),
                to: (to, step.to),
                work: match &step.layer {
                    Layer::Conv(conv) => Work::Product(product(conv, step, from, to)),
                    Layer::Pool(pool) => Work::Pool(*pool),
                },
            }
        })
        .collect();
    Ok(Program {
        tasks,
        input: maps[0],
        output: (maps[output.map], output),
        len,
    })
}

/// Gives every map the border its readers want and a place in memory that no map in use at the same time
/// has; returns the length of it all.
fn arrange(builder: &Builder, output: Channels) -> Result<(Vec<Place2d>, usize)> {
    let end = builder.steps.len();
    // First and last step that touch a map; the images come before all steps.
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; builder.maps.len()];
    let mut borders = vec![0; builder.maps.len()];
    let mut touch = |map: usize, step: usize| {
        let (first, last) = lives[map].unwrap_or((step, step));
        lives[map] = Some((first.min(step), last.max(step)));
    };
    touch(0, 0);
    touch(output.map, end);
    for (index, step) in builder.steps.iter().enumerate() {
        touch(step.from.map, index);
        touch(step.to.map, index);
        if let Layer::Conv(conv) = &step.layer {
            let border = &mut borders[step.from.map];
            *border = conv.padding.max(*border);
        }
    }
    let mut maps: Vec<Place2d> = Vec::new();
    let mut total = 0usize;
    for (index, size) in builder.maps.iter().enumerate() {
        let border: usize = borders[index];
        let sides = border.checked_mul(2).and_then(|both| {
            let rows = size.height.checked_add(both)?;
            let cols = size.width.checked_add(both)?;
            rows.checked_mul(cols)?.checked_mul(size.channels)
        });
        if sides.is_none_or(|len| len > isize::MAX as usize / 64) {
            candle::bail!("{OP}: {size:?} with a border of {border} is too large");
        }
        let mut map = Place2d {
            size: *size,
            border,
            start: 0,
        };
        // The lowest start that is free of all placed maps that live at the same time.
        let len = map.len().next_multiple_of(LANES);
        let mut taken: Vec<(usize, usize)> = (0..index)
            .filter(|other| overlap(lives[index], lives[*other]))
            .map(|other| {
                let other: &Place2d = &maps[other];
                (other.start, other.start + other.len())
            })
            .collect();
        taken.sort_unstable();
        for (from, to) in taken {
            if map.start + len > from {
                map.start = map.start.max(to.next_multiple_of(LANES));
            }
        }
        total = total.max(map.start + len);
        maps.push(map);
    }
    Ok((maps, total))
}

fn overlap(a: Option<(usize, usize)>, b: Option<(usize, usize)>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.0 <= b.1 && b.0 <= a.1)
}

fn product(conv: &Conv, step: &Step, from: Place2d, to: Place2d) -> Product {
    let (inputs, outputs) = (step.from.count, step.to.count);
    let (kh, kw) = conv.kernel;
    let taps = kh * kw;
    let mut segments: Vec<Segment> = Vec::new();
    for i in 0..kh {
        for j in 0..kw {
            let at = from.at(i * conv.dilation, j * conv.dilation);
            match segments.last_mut() {
                Some(last) if last.at + last.len == at => last.len += inputs,
                _ => segments.push(Segment { at, len: inputs }),
            }
        }
    }
    let corner = from.border - conv.padding;
    let mut places = Vec::with_capacity(to.size.height * to.size.width);
    let mut most = Place::default();
    for y in 0..to.size.height {
        for x in 0..to.size.width {
            let place = Place {
                source: from.at(y * conv.stride + corner, x * conv.stride + corner)
                    + step.from.first,
                target: to.at(y + to.border, x + to.border) + step.to.first,
            };
            most.source = most.source.max(place.source);
            most.target = most.target.max(place.target);
            places.push(place);
        }
    }
    let vectors = outputs.div_ceil(LANES);
    let width = vectors.div_ceil(vectors.div_ceil(BLOCK / LANES)) * LANES;
    let slope = match &conv.after {
        After::PRelu(slope) => Some(slope),
        _ => None,
    };
    let blocks = (0..outputs)
        .step_by(width)
        .map(|first| {
            let columns = width.min(outputs - first);
            let lanes = columns.next_multiple_of(LANES);
            let mut weights = vec![0.0; taps * inputs * lanes];
            for tap in 0..taps {
                for c in 0..inputs {
                    let row = &mut weights[(tap * inputs + c) * lanes..][..columns];
                    for (n, value) in row.iter_mut().enumerate() {
                        *value = conv.weight[((first + n) * inputs + c) * taps + tap];
                    }
                }
            }
            let padded = |values: &[f32]| {
                let mut all = values[first..first + columns].to_vec();
                all.resize(lanes, 0.0);
                all
            };
            Block {
                first,
                columns,
                lanes,
                weights,
                bias: padded(&conv.bias),
                slope: slope.map(|slope| padded(slope)),
            }
        })
        .collect();
    Product {
        segments,
        flops: 2 * places.len() * taps * inputs * outputs,
        places,
        most,
        blocks,
        relu: matches!(conv.after, After::Relu),
    }
}
