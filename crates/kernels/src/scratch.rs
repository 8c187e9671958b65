//! Buffers that a thread keeps between calls, so that hot loops do not allocate.

use std::any::Any;
use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers kept per thread and element type; nested calls take one each.
const KEPT: usize = 8;

/// Lends `f` a buffer of `len` elements with arbitrary contents.
pub(crate) fn with<T: Copy + Default + 'static, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let taken = FREE.with_borrow_mut(|free| {
        let position = free.iter().rposition(|buffer| buffer.is::<Vec<T>>())?;
        free.swap_remove(position).downcast::<Vec<T>>().ok()
    });
    let mut buffer = taken.unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    let result = f(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
    result
}
