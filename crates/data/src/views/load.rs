//! Batches of views, made ahead of time on worker threads and handed out in the order of the plan.

use std::sync::Arc;

use candle::{Device, Tensor};

use super::MultiCrop;
use crate::ahead::{Ahead, Stop};
use crate::{Dataset, Result};

/// The views of a batch.
#[derive(Debug, Clone)]
pub struct ViewBatch {
    /// The plan's number of this batch.
    pub step: u64,
    /// For each group of the [`MultiCrop`] (V B, C, S, S): the first view of all images, then the second.
    pub groups: Vec<Tensor>,
    /// Place in the data set of each image.
    pub indices: Vec<usize>,
}

type Values = Vec<Vec<f32>>;

struct Work {
    dataset: Arc<dyn Dataset>,
    views: MultiCrop,
    seed: u64,
}

impl Work {
    fn batch(&self, step: u64, indices: &[usize], stop: &Stop) -> Result<Values> {
        let batch = indices.len();
        let mut groups: Values = self
            .views
            .groups
            .iter()
            .map(|group| vec![0f32; group.views * batch * group.transform.values()])
            .collect();
        for (position, &index) in indices.iter().enumerate() {
            stop.check()?;
            let image = self.dataset.image(index)?;
            let views = self
                .views
                .apply(&image, self.seed, step, position as u64)
                .map_err(|error| error.record(self.dataset.sample_id(index)))?;
            for ((all, own), group) in groups.iter_mut().zip(&views).zip(&self.views.groups) {
                let size = group.transform.values();
                for (view, values) in own.chunks_exact(size).enumerate() {
                    all[(view * batch + position) * size..][..size].copy_from_slice(values);
                }
            }
        }
        Ok(groups)
    }
}

/// Iterator over the batches of a plan; made by [`load_views`]. It ends after the first error. Dropping it stops the
/// workers within one image each.
pub struct ViewLoader {
    ahead: Ahead<Values>,
    /// Views, channels and side of each group.
    shapes: Vec<(usize, usize, usize)>,
    device: Device,
}

/// Loads views of the images that `plan` names, pairs of a step number and places in the data set, in its order.
///
/// What a view looks like is a function of (seed, step, place in the batch, number of the view) and of the image: neither
/// the number of workers nor an interruption changes it.
///
/// * `workers`: threads that decode and draw; 0 does it in the calling thread.
/// * `prefetch`: batches in the making at most; at least one a worker is useful.
///
/// ```
/// use phiz_data::{MultiCrop, Spec, epoch_batches, load_views};
/// # fn main() -> phiz_data::Result<()> {
/// let faces = "synth:identities=2,per_expression=1,size=32".parse::<Spec>()?.open()?;
/// let plan = epoch_batches(faces.len(), 4, 1, 0).take(2);
/// for batch in load_views(faces, plan, MultiCrop::swav(2, 4, (32, 16)), 0, &candle::Device::Cpu, 1, 2) {
///     let batch = batch?;
///     assert_eq!(batch.groups[0].dims(), [2 * 4, 3, 32, 32]);
///     assert_eq!(batch.groups[1].dims(), [4 * 4, 3, 16, 16]);
/// }
/// # Ok(()) }
/// ```
pub fn load_views(
    dataset: Arc<dyn Dataset>,
    plan: impl Iterator<Item = (u64, Vec<usize>)> + Send + 'static,
    views: MultiCrop,
    seed: u64,
    device: &Device,
    workers: usize,
    prefetch: usize,
) -> ViewLoader {
    let shapes = views
        .groups
        .iter()
        .map(|group| {
            (
                group.views,
                group.transform.channels,
                group.transform.crop.size,
            )
        })
        .collect();
    let work = Work {
        dataset,
        views,
        seed,
    };
    let ahead = Ahead::new(
        "phiz-view",
        plan,
        workers,
        prefetch,
        move |step, indices, stop| work.batch(step, indices, stop),
    );
    ViewLoader {
        ahead,
        shapes,
        device: device.clone(),
    }
}

impl Iterator for ViewLoader {
    type Item = Result<ViewBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let (shapes, device) = (&self.shapes, &self.device);
        self.ahead.next_with(|step, indices, values| {
            let groups = shapes
                .iter()
                .zip(values)
                .map(|(&(views, channels, size), values)| {
                    let shape = (views * indices.len(), channels, size, size);
                    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?)
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(ViewBatch {
                step,
                groups,
                indices,
            })
        })
    }
}
