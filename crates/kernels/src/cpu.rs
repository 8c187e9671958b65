//! The bridge between candle tensors and plain slices on the CPU.

use candle::{
    CpuStorage, DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, WithDType,
};

/// A floating point element with a native CPU path: f32 and f64, nothing else.
pub trait Real: WithDType + Default + std::ops::Neg<Output = Self> + sealed::Sealed {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The exponential, to the last digit.
    fn exp(self) -> Self;
    /// The exponential to about two units in the last place, without branches: a loop over it becomes vector code. 0 below -87
    /// (f32) or -708 (f64); arguments above 88 or 709 count as these.
    fn fast_exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + x)`.
    fn ln_1p(self) -> Self;
    /// The angle whose cosine this is.
    fn acos(self) -> Self;
    /// The magnitude.
    fn abs(self) -> Self;
    /// Whether this is no number.
    fn is_nan(self) -> bool;
    /// Whether this is plus or minus infinity.
    fn is_infinite(self) -> bool;
    /// The slice itself where elements are f32: for kernels that are written for that type alone.
    fn f32s(x: &[Self]) -> Option<&[f32]>;
    /// As [`Real::f32s`].
    fn f32s_mut(x: &mut [Self]) -> Option<&mut [f32]>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($t:ty, $fast_exp:path, $x:ident => $f32s:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn fast_exp(self) -> Self {
                $fast_exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                <$t>::ln_1p(self)
            }
            #[inline(always)]
            fn acos(self) -> Self {
                <$t>::acos(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
            #[inline(always)]
            fn is_infinite(self) -> bool {
                <$t>::is_infinite(self)
            }
            fn f32s($x: &[Self]) -> Option<&[f32]> {
                $f32s
            }
            fn f32s_mut($x: &mut [Self]) -> Option<&mut [f32]> {
                $f32s
            }
        }
    };
}
real!(f32, crate::exp::exp_f32, x => Some(x));
real!(f64, crate::exp::exp_f64, _x => None);

/// Runs `$body` with `$t` bound to the element type named by `$dtype`; other types are an error.
macro_rules! for_float {
    ($dtype:expr, $op:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle::DType::F32 => {
                #[allow(unused_imports)]
                use candle::WithDType as _;
                type $t = f32;
                $body
            }
            candle::DType::F64 => {
                #[allow(unused_imports)]
                use candle::WithDType as _;
                type $t = f64;
                $body
            }
            other => candle::bail!("{}: unsupported dtype {other:?}, expected f32 or f64", $op),
        }
    };
}
pub(crate) use for_float;

/// The elements of a contiguous operand of a custom op.
pub(crate) fn operand<'a, T: Real>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let data = storage.as_slice::<T>()?;
    match layout
        .contiguous_offsets()
        .and_then(|(lo, hi)| data.get(lo..hi))
    {
        Some(slice) => Ok(slice),
        None => candle::bail!(
            "{op}: operand of shape {:?} is not contiguous",
            layout.shape()
        ),
    }
}

/// Read access to the elements of a contiguous CPU tensor.
pub(crate) struct View<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> View<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    pub(crate) fn slice<T: Real>(&self, op: &'static str) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => operand(op, storage, self.layout),
            _ => candle::bail!("{op}: expected a tensor on the cpu"),
        }
    }
}

/// A vector for results: memory as the allocator gives it, not cleared first.
///
/// Clearing costs a pass over memory, or a fault for every page; kernels write every element of their
/// result, so it would be wasted. The elements are arbitrary floats until then. Builds with debug
/// assertions fill the vector with NaN, which a forgotten element then shows.
pub(crate) fn unwritten<T: Real>(len: usize) -> Vec<T> {
    if cfg!(debug_assertions) || cfg!(miri) {
        return vec![T::from_f64(f64::NAN); len];
    }
    let mut out: Vec<T> = Vec::with_capacity(len);
    if !may_have_written(out.as_mut_ptr().cast()) {
        out.resize(len, T::ZERO);
        return out;
    }
    // SAFETY: the capacity is there. The elements are initialised as far as the language is concerned: code
    // that it cannot see into was given the address and may have written any bytes there, of which it
    // keeps what it finds. Every bit pattern is a float.
    unsafe {
        out.set_len(len);
    }
    out
}

/// Hands memory to code that the compiler cannot look into, which writes to it whatever is there already;
/// false on machines without such code.
#[inline]
fn may_have_written(memory: *mut u8) -> bool {
    #[cfg(any(
        target_arch = "x86",
        target_arch = "x86_64",
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))]
    {
        // SAFETY: no instruction runs. What the compiler has to assume, that the memory was written, is
        // allowed: it is this function's callers' own.
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) memory, options(nostack, preserves_flags));
        }
        true
    }
    #[cfg(not(any(
        target_arch = "x86",
        target_arch = "x86_64",
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )))]
    {
        let _ = memory;
        false
    }
}

/// A new CPU tensor from its elements.
pub(crate) fn tensor<T: Real, S: Into<Shape>>(data: Vec<T>, shape: S) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
}

/// Checks that every operand has the dtype of the first and lives on the same device.
pub(crate) fn same_kind(op: &'static str, operands: &[(&str, &Tensor)]) -> Result<()> {
    let Some(((first_name, first), rest)) = operands.split_first() else {
        return Ok(());
    };
    for (name, t) in rest {
        if t.dtype() != first.dtype() {
            candle::bail!(
                "{op}: dtype mismatch, {first_name} is {:?} and {name} is {:?}",
                first.dtype(),
                t.dtype()
            );
        }
        if !t.device().same_device(first.device()) {
            candle::bail!(
                "{op}: device mismatch, {first_name} is on {:?} and {name} is on {:?}",
                first.device().location(),
                t.device().location()
            );
        }
    }
    Ok(())
}

/// Whether an operation on `x` is computed by this crate: on the CPU, unless `PHIZ_OPS` asks for candle's.
pub(crate) fn native(x: &Tensor) -> bool {
    x.device().is_cpu() && !crate::ops::are_candles()
}

/// Checks that the tensor holds floats; on the CPU, that they are f32 or f64.
pub(crate) fn float(op: &'static str, x: &Tensor) -> Result<()> {
    let supported = match x.dtype() {
        DType::F32 | DType::F64 => true,
        DType::F16 | DType::BF16 => !x.device().is_cpu(),
        _ => false,
    };
    if supported {
        crate::ops::chosen()?;
        return crate::isa::instruction_set().map(|_| ());
    }
    candle::bail!(
        "{op}: unsupported dtype {:?} on {:?}, expected f32 or f64",
        x.dtype(),
        x.device().location()
    )
}

/// Checks that no dimension is zero.
pub(crate) fn not_empty(op: &'static str, name: &str, x: &Tensor) -> Result<()> {
    if x.elem_count() == 0 {
        candle::bail!("{op}: {name} of shape {:?} is empty", x.shape());
    }
    Ok(())
}

/// Splits `len` into `parts` ranges whose lengths differ by at most one.
pub(crate) fn part(len: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    let (base, extra) = (len / parts, len % parts);
    let start = index * base + index.min(extra);
    start..start + base + usize::from(index < extra)
}
