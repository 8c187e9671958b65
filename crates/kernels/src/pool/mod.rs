//! Max, average, adaptive and global average pooling, with any kernel, stride and padding.

mod average;
mod max;
mod window;

pub use average::{adaptive_avg_pool2d, avg_pool2d, avg_pool2d_with, global_avg_pool};
pub use max::{max_pool2d, max_pool2d_with};
pub use window::Pool2dConfig;
pub(crate) use window::Window;
