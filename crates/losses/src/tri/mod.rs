//! Losses over triplets: each anchor with every pair of a positive and a negative.

mod angular;
mod dynamic;
mod hinge;
mod joined;
mod margin;
mod selective;
mod swap;
mod triplet_margin;

pub use angular::Angular;
pub use dynamic::DynamicSoftMargin;
pub use margin::Margin;
pub use selective::SelectivelyContrastive;
pub use triplet_margin::{Select, TripletMargin};
