//! Loops over slices, compiled for the instruction set found at run time; sums have a fixed order.

use super::real::Real;

struct Body<F>(F);

impl<R, F: FnMut() -> R> pulp::WithSimd for Body<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, _simd: S) -> R {
        (self.0)()
    }
}

/// Runs `f` compiled for the widest vectors of this CPU; `f` and what it calls must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn run<R>(f: impl FnMut() -> R) -> R {
    pulp::Arch::new().dispatch(Body(f))
}

/// Independent partial results of a reduction.
pub(crate) const LANES: usize = 16;

/// Joins the partial results pair by pair.
#[inline(always)]
pub(crate) fn tree<T: Real>(acc: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    // Through memory: the compiler would otherwise choose the vectors of the loop before it by the narrow ends of this tree.
    let mut acc = std::hint::black_box(acc);
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            acc[l] = join(acc[l], acc[l + width]);
        }
        width /= 2;
    }
    acc[0]
}

/// `sum_i f(x_i)`, for loops that already run inside [`run`].
#[inline(always)]
pub(crate) fn fold_sum<T: Real>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut acc = [T::ZERO; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            acc[l] += f(chunk[l]);
        }
    }
    for (a, &v) in acc.iter_mut().zip(rest) {
        *a += f(v);
    }
    tree(acc, |a, b| a + b)
}

/// Both sums of what `f` gives, for loops that already run inside [`run`].
#[inline(always)]
pub(crate) fn fold_sums<T: Real>(x: &[T], f: impl Fn(T) -> (T, T)) -> (T, T) {
    let (mut first, mut second) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            let (a, b) = f(chunk[l]);
            first[l] += a;
            second[l] += b;
        }
    }
    for ((first, second), &v) in first.iter_mut().zip(&mut second).zip(rest) {
        let (a, b) = f(v);
        *first += a;
        *second += b;
    }
    (tree(first, |a, b| a + b), tree(second, |a, b| a + b))
}

/// Replaces each `x_i` and adds up what `f` returns beside it.
#[inline(always)]
pub(crate) fn map_sum<T: Real>(x: &mut [T], f: impl Fn(T) -> (T, T)) -> T {
    let mut acc = [T::ZERO; LANES];
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            let (value, term) = f(chunk[l]);
            chunk[l] = value;
            acc[l] += term;
        }
    }
    for (a, v) in acc.iter_mut().zip(rest) {
        let (value, term) = f(*v);
        *v = value;
        *a += term;
    }
    tree(acc, |a, b| a + b)
}

/// The sum of a slice.
pub(crate) fn sum<T: Real>(x: &[T]) -> T {
    run(
        #[inline(always)]
        || {
            fold_sum(
                x,
                #[inline(always)]
                |v| v,
            )
        },
    )
}

/// Whether no element is infinite or not a number.
pub(crate) fn all_finite<T: Real>(x: &[T]) -> bool {
    // Such an element times 0 is not a number, any other 0.
    let products = run(
        #[inline(always)]
        || {
            fold_sum(
                x,
                #[inline(always)]
                |v| v * T::ZERO,
            )
        },
    );
    products == T::ZERO
}

/// The sum of products.
#[inline(always)]
pub(crate) fn dot_inline<T: Real>(x: &[T], y: &[T]) -> T {
    let n = x.len().min(y.len());
    let mut acc = [T::ZERO; LANES];
    let (xs, xr) = x[..n].as_chunks::<LANES>();
    let (ys, yr) = y[..n].as_chunks::<LANES>();
    for (a, b) in xs.iter().zip(ys) {
        for l in 0..LANES {
            acc[l] += a[l] * b[l];
        }
    }
    for ((c, &a), &b) in acc.iter_mut().zip(xr).zip(yr) {
        *c += a * b;
    }
    tree(acc, |a, b| a + b)
}

/// The sum of squared differences.
#[inline(always)]
pub(crate) fn distance_inline<T: Real>(x: &[T], y: &[T]) -> T {
    let n = x.len().min(y.len());
    let mut acc = [T::ZERO; LANES];
    let (xs, xr) = x[..n].as_chunks::<LANES>();
    let (ys, yr) = y[..n].as_chunks::<LANES>();
    for (a, b) in xs.iter().zip(ys) {
        for l in 0..LANES {
            acc[l] += (a[l] - b[l]) * (a[l] - b[l]);
        }
    }
    for ((c, &a), &b) in acc.iter_mut().zip(xr).zip(yr) {
        *c += (a - b) * (a - b);
    }
    tree(acc, |a, b| a + b)
}

/// The sum of products.
pub(crate) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    run(
        #[inline(always)]
        || dot_inline(x, y),
    )
}

/// `y += c x`.
pub(crate) fn axpy<T: Real>(y: &mut [T], c: T, x: &[T]) {
    run(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                *y += c * x;
            }
        },
    );
}

/// `x *= c`.
pub(crate) fn scale<T: Real>(x: &mut [T], c: T) {
    run(
        #[inline(always)]
        || {
            for x in x.iter_mut() {
                *x *= c;
            }
        },
    );
}

/// The largest element, negative infinity of nothing.
pub(crate) fn max<T: Real>(x: &[T]) -> T {
    run(
        #[inline(always)]
        || {
            let mut acc = [T::NEG_INFINITY; LANES];
            let (whole, rest) = x.as_chunks::<LANES>();
            for chunk in whole {
                for l in 0..LANES {
                    acc[l] = acc[l].larger(chunk[l]);
                }
            }
            for (a, &v) in acc.iter_mut().zip(rest) {
                *a = a.larger(v);
            }
            tree(acc, T::larger)
        },
    )
}

/// The smallest element, infinity of nothing.
pub(crate) fn min<T: Real>(x: &[T]) -> T {
    run(
        #[inline(always)]
        || {
            let mut acc = [T::INFINITY; LANES];
            let (whole, rest) = x.as_chunks::<LANES>();
            for chunk in whole {
                for l in 0..LANES {
                    acc[l] = acc[l].smaller(chunk[l]);
                }
            }
            for (a, &v) in acc.iter_mut().zip(rest) {
                *a = a.smaller(v);
            }
            tree(acc, T::smaller)
        },
    )
}

/// Replaces `x_i` by `exp(c x_i - top)` and gives the sum of the exponentials.
pub(crate) fn exp_in_place<T: Real>(x: &mut [T], c: T, top: T) -> T {
    run(
        #[inline(always)]
        || {
            map_sum(
                x,
                #[inline(always)]
                |v| {
                    let e = (c * v - top).exp_below();
                    (e, e)
                },
            )
        },
    )
}

/// `log sum_i exp(c x_i)`; leaves the softmax in `x`. Of nothing, or of `c x_i` that are all negative infinity: negative infinity.
pub(crate) fn softmax<T: Real>(x: &mut [T], c: T) -> T {
    if x.is_empty() {
        return T::NEG_INFINITY;
    }
    let top = if c > T::ZERO { c * max(x) } else { c * min(x) };
    if top == T::NEG_INFINITY {
        x.fill(T::ZERO);
        return top;
    }
    let total = exp_in_place(x, c, top);
    scale(x, T::ONE / total);
    top + total.ln()
}

/// `log sum_i exp(c x_i)` without touching `x`. Of nothing: negative infinity.
pub(crate) fn log_sum_exp<T: Real>(x: &[T], c: T) -> T {
    if x.is_empty() {
        return T::NEG_INFINITY;
    }
    let top = if c > T::ZERO { c * max(x) } else { c * min(x) };
    let total = run(
        #[inline(always)]
        || {
            fold_sum(
                x,
                #[inline(always)]
                |v| (c * v - top).exp_below(),
            )
        },
    );
    top + total.ln()
}

/// `(log(1 + e^z), 1 / (1 + e^-z))`.
#[inline(always)]
pub(crate) fn softplus<T: Real>(z: T) -> (T, T) {
    let e = (-z.abs()).exp_below();
    let value = z.larger(T::ZERO) + e.ln_1p_unit();
    let s = T::ONE / (T::ONE + e);
    (value, if z > T::ZERO { s } else { e * s })
}

/// `log(e^a + e^b)` and the share of `a` in it; negative infinities are empty sums.
pub(crate) fn log_add_exp<T: Real>(a: T, b: T) -> (T, T) {
    if a == T::NEG_INFINITY {
        return (b, T::ZERO);
    }
    if b == T::NEG_INFINITY {
        return (a, T::ONE);
    }
    let (soft, share) = softplus(a - b);
    (b + soft, share)
}
