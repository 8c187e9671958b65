//! The triplet margin loss with anchor swap: of the distances of anchor and positive to a negative, the smaller one counts.

use candle::{DType, Result, Tensor};

use super::joined::Roles;
use super::triplet_margin::TripletMargin;
use crate::batch::{Batch, Input, Relation};
use crate::engine::{
    Class, Matrix, MatrixLoss, Outcome, Reading, Real, Side, Source, evaluate, for_real, link,
    simd, total,
};
use crate::pair::sign;
use crate::reducer::{Part, Plan, Terms};

impl TripletMargin {
    /// The loss with swap of any kind of batch.
    pub(super) fn swapped(&self, batch: &Batch) -> Result<Tensor> {
        let listed = match &batch.relation {
            Relation::Labels { .. } => None,
            Relation::Pairs(pairs) => Some(pairs.to_triplets()),
            Relation::Triplets(triplets) => Some(triplets.clone()),
        };
        if let (Some(triplets), Input::Embeddings { own, reference }) = (listed, &batch.input) {
            return self.listed(batch, own, reference.as_ref(), &triplets);
        }
        let (joined, roles) = Roles::of(batch)?;
        let run = Swapped {
            config: self,
            roles,
        };
        evaluate(&joined, &self.measure, Reading::Triplets, &run, &[])
    }

    /// Explicit triplets: O(T D) time, O(T) memory.
    fn listed(
        &self,
        batch: &Batch,
        own: &Tensor,
        reference: Option<&Tensor>,
        triplets: &phiz_mining::Triplets,
    ) -> Result<Tensor> {
        self.measure.check()?;
        let x = match reference {
            None => own.clone(),
            Some(reference) => Tensor::cat(&[own, reference], 0)?,
        };
        let (items, d) = x.dims2()?;
        let first = if reference.is_some() { own.dim(0)? } else { 0 } as u32;
        let dtype = if x.dtype() == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        for_real!(dtype, T => {
            let every: Vec<u32> = (0..items as u32).collect();
            let side = Side::<T>::new(&crate::engine::host(&x)?, d, &every, &self.measure)?;
            if self.measure.kind == crate::MeasureKind::Snr {
                side.check_variance()?;
            }
            let source = Source::own(side, self.measure);
            let plan = self.reducer.plan(Terms::Triplets, batch.labels())?;
            let s = sign::<T>(self.measure.is_similarity());
            let margin = T::from_f64(self.margin);
            let one = |i: u32, j: u32| source.one(i as usize, j as usize);
            let (mut all, mut entries) = (Part::default(), Vec::new());
            for (a, p, n) in triplets.iter() {
                let (p, n) = (p + first, n + first);
                let (ap, an, pn) = (one(a, p), one(a, n), one(p, n));
                let (loss, slope) = self.term(s * ap - (s * an).smaller(s * pn) + margin);
                let term = plan.term(loss.to_f64());
                let (factor, part) = plan.row(a as usize, term);
                all = all.add(part);
                let pull = s * slope * T::from_f64(factor);
                if term.kept == 0.0 || pull == T::ZERO {
                    continue;
                }
                let share = nearer(s * an, s * pn);
                entries.push((a, p, pull, ap));
                entries.push((a, n, -pull * share, an));
                entries.push((p, n, -pull * (T::ONE - share), pn));
            }
            let (value, scale) = plan.finish(all);
            let grad = source.x.restore(&source.pull_entries(&entries), T::from_f64(scale));
            let grad = Tensor::from_vec(grad, (items, d), &candle::Device::Cpu)?;
            link(value, dtype, &[(&x, grad)])
        })
    }
}

/// The share of the first of two values in the gradient of the smaller one: of equal ones each takes half.
#[inline(always)]
fn nearer<T: Real>(far: T, near: T) -> T {
    let half = T::from_f64(0.5);
    (if far < near { half } else { T::ZERO }) + (if far > near { T::ZERO } else { half })
}

struct Swapped<'a> {
    config: &'a TripletMargin,
    roles: Roles,
}

impl MatrixLoss for Swapped<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let plan = matrix.plan(&self.config.reducer, Terms::Triplets)?;
        let s = sign::<T>(matrix.similarity);
        let parts = matrix.classes(|mut class| {
            let part = self.class(&mut class, s, &plan);
            let (factor, part) = plan.row(class.anchor, part);
            if factor != 1.0 {
                simd::scale(class.grads, T::from_f64(factor));
            }
            part
        });
        match parts {
            Some(parts) => Ok(Outcome::new(plan.finish(total(parts)))),
            None => candle::bail!(
                "swap compares positives with negatives, which a matrix of anchors against references does not hold"
            ),
        }
    }
}

impl Swapped<'_> {
    fn class<T: Real>(&self, class: &mut Class<'_, T>, s: T, plan: &Plan) -> Part {
        let (k, m, values) = (class.members.len(), class.m, class.values);
        let ranges = class.negatives();
        // 1 for the columns that can be negatives.
        let mask: Vec<T> = (0..m)
            .map(|c| {
                if self.roles.other(class, c) {
                    T::ONE
                } else {
                    T::ZERO
                }
            })
            .collect();
        let mut part = Part::default();
        for a in 0..k {
            for p in 0..k {
                if !self.roles.pair(class, a, p) {
                    continue;
                }
                let (x, y) = (&values[a * m..(a + 1) * m], &values[p * m..(p + 1) * m]);
                let at = class.members.start + p;
                let top = s * x[at] + T::from_f64(self.config.margin);
                let (gx, gy) = class.grads_of(a, p);
                let mut pull = T::ZERO;
                for range in &ranges {
                    let row = Line {
                        mask: &mask[range.clone()],
                        x: &x[range.clone()],
                        y: &y[range.clone()],
                        gx: &mut gx[range.clone()],
                        gy: &mut gy[range.clone()],
                    };
                    let (by_own, found) = self.line(row, s, top, plan);
                    pull += by_own;
                    part = part.add(found);
                }
                gx[at] += s * pull;
            }
        }
        part
    }

    /// One anchor and positive against many negatives: the slope by their own distance, and the terms.
    fn line<T: Real>(&self, line: Line<'_, T>, s: T, top: T, plan: &Plan) -> (T, Part) {
        if !plan.keeps_all() && !plan.keeps_above_zero() {
            return self.one_by_one(line, s, top, plan);
        }
        let [sum, pull, above, taken] = if self.config.smooth {
            line.run(s, top, simd::softplus)
        } else {
            line.run(
                s,
                top,
                #[inline(always)]
                |v| {
                    let on = if v > T::ZERO { T::ONE } else { T::ZERO };
                    (v * on, on)
                },
            )
        };
        let part = Part {
            sum: sum.to_f64(),
            kept: if plan.keeps_all() { taken } else { above }.to_f64(),
            total: taken.to_f64(),
        };
        (pull, part)
    }

    /// Any gate on single terms.
    fn one_by_one<T: Real>(&self, line: Line<'_, T>, s: T, top: T, plan: &Plan) -> (T, Part) {
        let (mut pull, mut part) = (T::ZERO, Part::default());
        for n in (0..line.x.len()).filter(|&n| line.mask[n] > T::ZERO) {
            let (far, near) = (s * line.x[n], s * line.y[n]);
            let (loss, slope) = self.config.term(top - far.smaller(near));
            let term = plan.term(loss.to_f64());
            part = part.add(term);
            if term.kept == 0.0 {
                continue;
            }
            pull += slope;
            let share = nearer(far, near);
            line.gx[n] -= s * slope * share;
            line.gy[n] -= s * slope * (T::ONE - share);
        }
        (pull, part)
    }
}

/// The rows of an anchor (x) and of a positive (y) at some negatives, with their gradients.
struct Line<'a, T> {
    mask: &'a [T],
    x: &'a [T],
    y: &'a [T],
    gx: &'a mut [T],
    gy: &'a mut [T],
}

impl<T: Real> Line<'_, T> {
    /// Adds up loss, slope, number above 0 and number of the terms `f(top - min(s x, s y))`.
    fn run(self, s: T, top: T, f: impl Fn(T) -> (T, T)) -> [T; 4] {
        use simd::LANES;
        let n = self.x.len();
        let (mask, x, y) = (&self.mask[..n], &self.x[..n], &self.y[..n]);
        let (gx, gy) = (&mut self.gx[..n], &mut self.gy[..n]);
        simd::run(
            #[inline(always)]
            || {
                let mut acc = [[T::ZERO; LANES]; 4];
                let one = |l: usize,
                           acc: &mut [[T; LANES]; 4],
                           on: T,
                           x: T,
                           y: T,
                           g: (&mut T, &mut T)| {
                    let (far, near) = (s * x, s * y);
                    let (loss, slope) = f(top - far.smaller(near));
                    let (loss, slope) = (on * loss, s * on * slope);
                    let by_far = slope * nearer(far, near);
                    *g.0 -= by_far;
                    *g.1 -= slope - by_far;
                    acc[0][l] += loss;
                    acc[1][l] += s * slope;
                    acc[2][l] += if loss > T::ZERO { T::ONE } else { T::ZERO };
                    acc[3][l] += on;
                };
                let (masks, mask) = mask.as_chunks::<LANES>();
                let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
                let (gxs, gx) = gx.as_chunks_mut::<LANES>();
                let (gys, gy) = gy.as_chunks_mut::<LANES>();
                let lines = masks
                    .iter()
                    .zip(xs.iter().zip(ys))
                    .zip(gxs.iter_mut().zip(gys));
                for ((mask, (x, y)), (gx, gy)) in lines {
                    for l in 0..LANES {
                        one(l, &mut acc, mask[l], x[l], y[l], (&mut gx[l], &mut gy[l]));
                    }
                }
                let rest = mask.iter().zip(x.iter().zip(y)).zip(gx.iter_mut().zip(gy));
                for (l, ((&on, (&x, &y)), g)) in rest.enumerate() {
                    one(l, &mut acc, on, x, y, g);
                }
                acc.map(|acc| simd::tree(acc, |a, b| a + b))
            },
        )
    }
}
