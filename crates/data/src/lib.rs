//! Datasets, file formats, augmentation, splits and loading: from a line like `folder:faces` to batches of tensors.
//!
//! A [`Spec`] names a data set in one line and opens it as a [`Dataset`]: indexed images with typed [`Labels`].
//! [`load_batches`] decodes on worker threads what a plan asks for and hands batches out in the plan's order;
//! [`identity_folds`] and its neighbours split by subject. Everything random is counter based, a function of a seed
//! and a position: neither the number of threads nor an interruption changes a run.
//!
//! ```
//! use phiz_data::{Spec, Subset, Transform, Augment, epoch_batches, load_batches, split_by_identity};
//! use std::sync::Arc;
//!
//! # fn main() -> phiz_data::Result<()> {
//! let faces = "synth:identities=4,per_expression=1,size=32".parse::<Spec>()?.open()?;
//! let (train, test) = split_by_identity(faces.labels().codes("identity")?, 0.25, 1)?;
//! let train: Arc<_> = Arc::new(Subset::new(faces, train)?);
//! let transform = Transform { augment: Augment::mild(), ..Transform::new(32, 32, 3) };
//! let plan = epoch_batches(21, 8, 1, 0).take(3);
//! for batch in load_batches(train, plan, transform, 1, &candle::Device::Cpu, 2, 4) {
//!     let batch = batch?;
//!     assert_eq!(batch.images.dims(), [8, 3, 32, 32]);
//! }
//! # assert_eq!(test.len(), 7);
//! # Ok(()) }
//! ```
//!
//! # Sources
//!
//! [`catalogue`] lists them. Photographs of people are fetched to the user's cache ([`cache_dir`]), checked against
//! pinned digests, and never part of this repository.
//!
//! # Rendered faces and sequences
//!
//! `synth[:key=value,...]` takes the fields of [`phiz_synth::SynthConfig`] and of its `flaws` as keys ([`synth_keys`]).
//! `synth-video[:key=value,...]` takes those of [`phiz_synth::VideoConfig`]: `sequences` (60), `frames` of each (50), frames
//! a second `rate` (25), `redundancy` (0 to 1: 0 time passes as on a clock, 0.9 neighbouring frames are a tenth as far
//! apart, 1 every frame is the first one but for noise), `talking` (share of sequences, 0.3), `motion` of head, gaze and
//! light (0.6) and `lead` (0: sequences begin at rest; 3: anywhere on the course of an expression), and beside
//! them the keys of `synth:` that are neither counts nor flaws ([`synth_video_keys`]). With redundancy and the same number of
//! frames a set shows less of the course of each expression: give it a `lead`.
//!
//! ```
//! # fn main() -> phiz_data::Result<()> {
//! let text = "synth-video:sequences=4,frames=10,redundancy=0.8,lead=3,identities=2,size=32";
//! let frames = text.parse::<phiz_data::Spec>()?.open()?;
//! assert_eq!(frames.len(), 4 * 10);
//! // Splits go by person, or by sequence; `expression` is what the frame shows, `level` how far.
//! let sequence = frames.labels().codes("sequence")?;
//! assert_eq!((sequence[9], sequence[10]), (0, 1));
//! # Ok(()) }
//! ```
//!
//! # Files from elsewhere
//!
//! Readers take hostile input: they do not panic, and allocate in proportion to what is there, not to what a header
//! claims. Every error is one line that names file and record.
//!
//! # Features
//!
//! All are off by default; `xtask` turns `cofw` on.
//!
//! * `cofw`: `cofw:PATH`, whose files are HDF5, through hdf5-pure; a minute to build.
//! * `parquet`: `parquet:PATH`, image sets in parquet files, and `hub:OWNER/NAME` out of the hub client's cache.
//! * `hub`: fetches `hub:OWNER/NAME` from the Hugging Face hub as well, through hf-hub and candle-datasets; many minutes
//!   to build.

mod ahead;
pub mod altered_digits;
mod catalogue;
mod dataset;
mod decode;
mod error;
mod export;
mod fetch;
mod folder;
#[cfg(feature = "parquet")]
pub mod hub;
pub mod idx;
pub mod index;
mod info;
mod labels;
pub mod layouts;
mod loader;
mod local_contrast;
mod mirrored;
pub mod mnist;
pub mod orl;
#[cfg(feature = "parquet")]
pub mod parquet_images;
mod points;
mod rendered;
mod rendered_labels;
mod rendering;
mod resize;
mod rng;
mod spec;
mod split;
mod synth_spec;
mod synthetic;
mod transform;
mod vectors;
mod views;

pub use catalogue::{FASHION_FOLDER, Source, catalogue};
pub use dataset::{Dataset, InMemory, Subset, check};
pub use decode::{
    EXTENSIONS, MAX_FILE_BYTES, MAX_PIXELS, decode_image, encode_png, jpeg_is_complete, read_image,
};
pub use error::{Error, ErrorKind, Result};
pub use export::write_folder;
pub use fetch::{CACHE_VARIABLE, cache_dir, fetch};
pub use folder::Folder;
pub use info::{Info, LabelInfo, info};
pub use labels::{Column, Labels, natural_cmp};
pub use loader::{
    Batch, Loader, augment_rng, epoch_batches, epoch_order, load_batches, load_images,
    sequential_batches,
};
pub use mirrored::Mirrored;
pub use orl::{Orl, fetch_orl};
pub use phiz_synth::Image;
pub use points::{MIRROR_68, MIRROR_98, PointMap};
pub use rendered::{RenderLayout, SHARD, write_rendered, write_sheet};
pub use rendering::{Picture, Rendering};
pub use resize::resize;
pub use rng::stream_rng;
pub use spec::Spec;
pub use split::{
    Split, assert_disjoint, identity_folds, split_by_identity, stratified_folds, stratified_split,
};
pub use synth_spec::{synth_keys, synth_video_keys};
pub use synthetic::{MAX_SAMPLES, Synthetic};
pub use transform::{Augment, Fit, Transform, to_chw_f32};
pub use vectors::Vectors;
pub use views::{
    Distortion, MultiCrop, RandomResizedCrop, ViewBatch, ViewGroup, ViewLoader, ViewTransform,
    load_views,
};
