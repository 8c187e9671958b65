//! Running a program.

use super::build::{Channels, OP};
use super::compile::{Place2d, Product, Task, Work};
use super::pool::pool;
use super::team;
use crate::conv::direct::kernel::{Finish, Place, Windows};
use crate::conv::turn::{LANES, interleave, separate};
use crate::cpu::{self, View};
use crate::scratch;
use crate::simd::WithSimd;
use candle::{DType, Result, Tensor};
use pulp::Simd;
use rayon::prelude::*;

/// Operations from which a layer of a single image is split over threads, and from which into more parts.
const SPLIT: usize = 100_000;
const FINE: usize = 4_000_000;

/// A network compiled for inference on the CPU in f32; see the [module text](super).
#[derive(Debug, Clone)]
pub struct Program {
    pub(super) tasks: Vec<Task>,
    pub(super) input: Place2d,
    pub(super) output: (Place2d, Channels),
    /// Elements of memory that a run needs.
    pub(super) len: usize,
}

/// The memory of a run, of which tasks write disjoint parts.
#[derive(Clone, Copy)]
struct Memory {
    data: *mut f32,
    len: usize,
}

// SAFETY: only `map` and `map_mut` hand out references, whose callers keep them apart.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The elements of a map.
    ///
    /// # Safety
    /// Nobody writes to them meanwhile.
    unsafe fn map<'a>(self, map: &Place2d) -> &'a [f32] {
        assert!(map.start + map.len() <= self.len, "map out of range");
        // SAFETY: in bounds by the assertion, not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.add(map.start), map.len()) }
    }

    /// The same for writing.
    ///
    /// # Safety
    /// Nobody else reads or writes them meanwhile.
    unsafe fn map_mut<'a>(self, map: &Place2d) -> &'a mut [f32] {
        assert!(map.start + map.len() <= self.len, "map out of range");
        // SAFETY: in bounds by the assertion, unique by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(map.start), map.len()) }
    }

    /// `len` elements of a map from `start` on, for writing.
    ///
    /// # Safety
    /// Nobody else reads or writes them meanwhile.
    unsafe fn part<'a>(self, map: &Place2d, start: usize, len: usize) -> &'a mut [f32] {
        assert!(
            map.start + map.len() <= self.len && start + len <= map.len(),
            "map out of range"
        );
        // SAFETY: in bounds by the assertion, unique by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(map.start + start), len) }
    }
}

impl Program {
    /// The network's result for a batch of images.
    ///
    /// # Shapes
    /// `x` (B, C, H, W) of the size the program was made for; result (B, C', H', W').
    ///
    /// # Errors
    /// When `x` has another shape or is not f32 on the CPU.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        let size = self.input.size;
        let fits = matches!(*x.dims(), [b, c, h, w] if b > 0 && (c, h, w) == (size.channels, size.height, size.width));
        if !fits {
            candle::bail!(
                "{OP}: expected images (B, {}, {}, {}), got {:?}",
                size.channels,
                size.height,
                size.width,
                x.shape()
            );
        }
        if x.dtype() != DType::F32 || !x.device().is_cpu() {
            candle::bail!(
                "{OP}: expected f32 on the cpu, got {:?} on {:?}",
                x.dtype(),
                x.device().location()
            );
        }
        crate::isa::instruction_set()?;
        let x = x.contiguous()?;
        let view = View::of(&x);
        let images = view.slice::<f32>(OP)?;
        let (map, channels) = self.output;
        let batch = x.dim(0)?;
        let per_image = images.len() / batch;
        let per_result = channels.count * map.size.height * map.size.width;
        let mut out = vec![0.0; batch * per_result];
        let threads = rayon::current_num_threads();
        if threads > 1 && batch < threads {
            for (image, out) in images
                .chunks_exact(per_image)
                .zip(out.chunks_exact_mut(per_result))
            {
                self.image(image, out, threads);
            }
        } else {
            out.par_chunks_exact_mut(per_result)
                .zip(images.par_chunks_exact(per_image))
                .for_each(|(out, image)| self.image(image, out, 1));
        }
        cpu::tensor(
            out,
            (batch, channels.count, map.size.height, map.size.width),
        )
    }

    fn image(&self, image: &[f32], out: &mut [f32], threads: usize) {
        scratch::with(self.len, |buffer: &mut [f32]| {
            let memory = Memory {
                data: buffer.as_mut_ptr(),
                len: buffer.len(),
            };
            crate::simd::with(Load {
                map: &self.input,
                image,
                // SAFETY: nothing else runs yet.
                out: unsafe { memory.map_mut(&self.input) },
            });
            let parts: Vec<usize> = self.tasks.iter().map(|task| task.parts(threads)).collect();
            team::run(
                threads,
                &parts,
                |index| {
                    let task = &self.tasks[index];
                    if task.clears {
                        // SAFETY: tasks run one after another, and this comes before all parts of one.
                        clear(&task.to.0, unsafe { memory.map_mut(&task.to.0) });
                    }
                },
                |index, part| self.tasks[index].run(memory, part, parts[index]),
            );
            crate::simd::with(Store {
                map: &self.output.0,
                channels: self.output.1,
                // SAFETY: the tasks are done.
                from: unsafe { memory.map(&self.output.0) },
                out,
            });
        });
    }
}

impl Task {
    /// In how many parts `threads` threads share the work.
    fn parts(&self, threads: usize) -> usize {
        let operations = match &self.work {
            Work::Product(product) => product.flops,
            // A comparison takes about as long as two products' worth of multiplications.
            Work::Pool(pool) => {
                let size = self.to.0.size;
                4 * size.height * size.width * self.to.1.count * pool.kernel * pool.kernel
            }
        };
        match operations {
            _ if threads < 2 => 1,
            0..SPLIT => 1,
            // Small parts even out what threads lose to others; large ones read weights less often.
            SPLIT..FINE => threads,
            _ => 2 * threads,
        }
    }

    /// Part `part` of `parts`.
    fn run(&self, memory: Memory, part: usize, parts: usize) {
        match &self.work {
            Work::Product(product) => {
                // A multiple of what stays in registers together.
                let each = product.places.len().div_ceil(parts).next_multiple_of(8);
                let Some(places) = product.places.chunks(each).nth(part) else {
                    return;
                };
                crate::simd::with(Multiply {
                    task: self,
                    product,
                    places,
                    memory,
                });
            }
            Work::Pool(config) => {
                // SAFETY: a layer's two maps lie apart, and nobody writes to the first meanwhile.
                let from = unsafe { memory.map(&self.from.0) };
                let rows = cpu::part(self.to.0.size.height, parts, part);
                let start = (rows.start + self.to.0.border) * self.to.0.pitch();
                // SAFETY: parts differ in rows.
                let to = unsafe { memory.part(&self.to.0, start, rows.len() * self.to.0.pitch()) };
                pool(*config, (from, self.from), (rows.start, to), self.to);
            }
        }
    }
}

/// Zeros around a map.
fn clear(map: &Place2d, out: &mut [f32]) {
    let (pitch, side) = (map.pitch(), map.border * map.size.channels);
    let (top, rest) = out.split_at_mut(map.border * pitch);
    let (rows, bottom) = rest.split_at_mut(map.size.height * pitch);
    top.fill(0.0);
    bottom.fill(0.0);
    for row in rows.chunks_exact_mut(pitch) {
        row[..side].fill(0.0);
        row[pitch - side..].fill(0.0);
    }
}

/// Turns an image to channels last.
struct Load<'a> {
    map: &'a Place2d,
    image: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Load<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (map, size) = (self.map, self.map.size);
        clear(map, self.out);
        let plane = size.height * size.width;
        for y in 0..size.height {
            for c in (0..size.channels).step_by(LANES) {
                let planes = &self.image[c * plane + y * size.width..];
                let to = map.at(y + map.border, map.border) + c;
                let out = (&mut self.out[to..], size.channels);
                let count = LANES.min(size.channels - c);
                interleave(simd, planes, plane, count, size.width, out);
            }
        }
    }
}

/// Turns the result to planes.
struct Store<'a> {
    map: &'a Place2d,
    channels: Channels,
    from: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (map, size) = (self.map, self.map.size);
        let plane = size.height * size.width;
        // A row as whole vectors, which `separate` reads.
        scratch::with(size.width * LANES, |row: &mut [f32]| {
            for c in (0..self.channels.count).step_by(LANES) {
                let count = LANES.min(self.channels.count - c);
                for y in 0..size.height {
                    for (x, pixel) in row.chunks_exact_mut(LANES).enumerate() {
                        let at = map.at(y + map.border, x + map.border);
                        let at = at + self.channels.first + c;
                        pixel[..count].copy_from_slice(&self.from[at..at + count]);
                    }
                    let mut rest = &mut self.out[c * plane + y * size.width..];
                    let mut lines: [&mut [f32]; LANES] = std::array::from_fn(|lane| {
                        if lane >= count {
                            return &mut [][..];
                        }
                        let whole = std::mem::take(&mut rest);
                        let (line, next) = whole.split_at_mut(plane.min(whole.len()));
                        rest = next;
                        &mut line[..size.width]
                    });
                    separate(simd, (row, LANES), &[0.0; LANES], &mut lines);
                }
            }
        });
    }
}

/// Some pixels of a convolution.
struct Multiply<'a> {
    task: &'a Task,
    product: &'a Product,
    places: &'a [Place],
    memory: Memory,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (from, to) = (&self.task.from.0, &self.task.to.0);
        assert!(to.start + to.len() <= self.memory.len, "map out of range");
        // SAFETY: a layer reads and writes two different maps, which lie apart.
        let source = unsafe { self.memory.map(from) };
        for block in &self.product.blocks {
            let finish = match &block.slope {
                Some(slope) => Finish::PRelu(&block.bias, slope),
                None if self.product.relu => Finish::Relu(&block.bias),
                None => Finish::Bias(&block.bias),
            };
            let windows = Windows {
                segments: &self.product.segments,
                source,
                places: self.places,
                most: self.product.most,
                weights: &block.weights,
                lanes: block.lanes,
                columns: block.columns,
                finish,
                // SAFETY: the block's first column lies within the map.
                out: unsafe { self.memory.data.add(to.start + block.first) },
                len: to.len() - block.first,
            };
            // SAFETY: no place exceeds the most there is, and each pixel's channels are written by
            // one thread alone.
            unsafe { windows.run(simd) };
        }
    }
}
