//! Batches of images, made ahead of time on worker threads (`crate::ahead`) and handed out in the order of the plan.

use std::sync::Arc;

use candle::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::ahead::Ahead;
use crate::labels::check_indices;
use crate::rng::shuffle;
use crate::{Dataset, Result, Transform, stream_rng, to_chw_f32};

/// Images as a tensor, and where they come from.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The plan's number of this batch.
    pub step: u64,
    /// (B, C, H, W), f32, within -1..1.
    pub images: Tensor,
    /// Place in the data set of each image.
    pub indices: Vec<usize>,
}

/// Iterator over the batches of a plan; made by [`load_batches`]. It ends after the first error.
/// Dropping it stops the workers within one image each.
pub struct Loader {
    ahead: Ahead<Vec<f32>>,
    shape: (usize, usize, usize),
    device: Device,
}

/// The random stream that augments the image at `position` of batch `step`: what [`load_batches`] uses,
/// for a caller that prepares single images and wants the same pictures.
#[must_use]
pub fn augment_rng(seed: u64, step: u64, position: u64) -> ChaCha8Rng {
    stream_rng(seed, "augment", step, position)
}

/// Loads the batches of `plan`, pairs of a step number and places in the data set, in its order.
///
/// * `transform`: its augmentation draws from the stream (seed, step, position), so a run that resumes
///   at a step sees the same pictures.
/// * `workers`: threads that decode; 0 decodes in the calling thread.
/// * `prefetch`: batches in the making at most; at least one a worker is useful.
///
/// Tensors are moved to `device` in the calling thread. Settings and indices are checked batch by batch:
/// a wrong one comes out as the error of that batch.
///
/// ```
/// use std::sync::Arc;
/// use phiz_data::{Spec, Transform, load_batches, sequential_batches};
/// # fn main() -> phiz_data::Result<()> {
/// let faces = "synth:identities=2,per_expression=1,size=32".parse::<Spec>()?.open()?;
/// let plan = sequential_batches(faces.len(), 4);
/// let loader = load_batches(faces, plan, Transform::new(32, 32, 3), 0, &candle::Device::Cpu, 2, 4);
/// for batch in loader {
///     assert_eq!(batch?.images.dims()[1..], [3, 32, 32]);
/// }
/// # Ok(()) }
/// ```
pub fn load_batches(
    dataset: Arc<dyn Dataset>,
    plan: impl Iterator<Item = (u64, Vec<usize>)> + Send + 'static,
    transform: Transform,
    seed: u64,
    device: &Device,
    workers: usize,
    prefetch: usize,
) -> Loader {
    let shape = (transform.channels, transform.size.0, transform.size.1);
    let sample = move |step, position, index| -> Result<Vec<f32>> {
        let image = dataset.image(index)?;
        let mut rng = augment_rng(seed, step, position);
        to_chw_f32(&image, &transform, Some(&mut rng))
            .map_err(|e| e.record(dataset.sample_id(index)))
    };
    let values = shape.0 * shape.1 * shape.2;
    let ahead = Ahead::new(
        "phiz-load",
        plan,
        workers,
        prefetch,
        move |step, indices, stop| {
            let mut all = Vec::with_capacity(indices.len() * values);
            for (position, &index) in (0u64..).zip(indices) {
                stop.check()?;
                all.extend(sample(step, position, index)?);
            }
            Ok(all)
        },
    );
    Loader {
        ahead,
        shape,
        device: device.clone(),
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let ((c, h, w), device) = (self.shape, &self.device);
        self.ahead.next_with(|step, indices, values| {
            let images = Tensor::from_vec(values, (indices.len(), c, h, w), &Device::Cpu)?
                .to_device(device)?;
            Ok(Batch {
                step,
                images,
                indices,
            })
        })
    }
}

/// The images at `indices` as one tensor, decoded on all cores; nothing random.
///
/// # Shapes
/// (B, C, H, W), f32.
///
/// # Errors
/// The error of the first image, in the order of `indices`, that cannot be read; an index out of range.
pub fn load_images(
    dataset: &dyn Dataset,
    indices: &[usize],
    transform: &Transform,
    device: &Device,
) -> Result<Tensor> {
    check_indices(indices, dataset.len())?;
    let images: Vec<Result<Vec<f32>>> = indices
        .par_iter()
        .map(|&i| {
            to_chw_f32(&dataset.image(i)?, transform, None::<&mut ChaCha8Rng>)
                .map_err(|e| e.record(dataset.sample_id(i)))
        })
        .collect();
    let values = images.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let (h, w) = transform.size;
    Ok(Tensor::from_vec(
        values,
        (indices.len(), transform.channels, h, w),
        &Device::Cpu,
    )?
    .to_device(device)?)
}

/// A shuffled order of `n` samples: a function of seed and epoch alone.
#[must_use]
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    shuffle(&mut stream_rng(seed, "epoch-order", epoch, 0), &mut order);
    order
}

/// Endless training plan: every epoch in its own [`epoch_order`], whole batches only (the rest of an epoch
/// is left out), from step `first_step` on. Step `s` has the same samples wherever the plan starts.
/// Empty where `n` or `batch_size` is 0; a batch larger than `n` is cut to `n`.
pub fn epoch_batches(
    n: usize,
    batch_size: usize,
    seed: u64,
    first_step: u64,
) -> impl Iterator<Item = (u64, Vec<usize>)> + Send + 'static {
    let size = batch_size.min(n);
    let per_epoch = n.checked_div(size).unwrap_or(0) as u64;
    let mut order: Option<(u64, Vec<usize>)> = None;
    (first_step..).map_while(move |step| {
        let epoch = step.checked_div(per_epoch)?;
        let start = (step % per_epoch) as usize * size;
        if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            order = Some((epoch, epoch_order(n, seed, epoch)));
        }
        order
            .as_ref()
            .map(|(_, order)| (step, order[start..start + size].to_vec()))
    })
}

/// Plan that goes once over samples 0..n in order, the last batch as long as what is left.
pub fn sequential_batches(
    n: usize,
    batch_size: usize,
) -> impl Iterator<Item = (u64, Vec<usize>)> + Send + 'static {
    let size = batch_size.max(1);
    (0..n.div_ceil(size)).map(move |b| (b as u64, (b * size..((b + 1) * size).min(n)).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::Augment;
    use crate::dataset::tests::{Broken, ramp};

    fn augmenting() -> Transform {
        let augment = Augment {
            noise: 0.5,
            crop_pad: 0.4,
            flip: 0.5,
            ..Augment::default()
        };
        Transform {
            size: (4, 4),
            channels: 1,
            augment,
            ..Transform::default()
        }
    }

    fn values(batch: &Batch) -> Vec<f32> {
        batch.images.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn workers_change_nothing_but_the_time() {
        let dataset: Arc<dyn Dataset> = Arc::new(ramp(50));
        let run = |workers, prefetch| -> Vec<(u64, Vec<usize>, Vec<f32>)> {
            let plan = epoch_batches(50, 8, 3, 2).take(20);
            load_batches(
                dataset.clone(),
                plan,
                augmenting(),
                9,
                &Device::Cpu,
                workers,
                prefetch,
            )
            .map(|batch| {
                let batch = batch.unwrap();
                let values = values(&batch);
                (batch.step, batch.indices, values)
            })
            .collect()
        };
        let alone = run(0, 1);
        assert_eq!(alone.len(), 20);
        assert_eq!(alone[0].0, 2);
        assert_eq!(alone, run(1, 1));
        assert_eq!(alone, run(4, 7));
        assert_eq!(alone, run(3, 100));
        // The same sample at another step is another picture; resuming in the middle is the same one.
        let later: Vec<_> = load_batches(
            dataset,
            epoch_batches(50, 8, 3, 9).take(1),
            augmenting(),
            9,
            &Device::Cpu,
            2,
            2,
        )
        .map(|batch| values(&batch.unwrap()))
        .collect();
        assert_eq!(later[0], alone[7].2);
    }

    #[test]
    fn an_error_comes_out_at_its_place_and_ends_the_loader() {
        let dataset: Arc<dyn Dataset> = Arc::new(Broken(ramp(40), vec![21]));
        for workers in [0, 3] {
            let plan = sequential_batches(40, 4);
            let mut loader = load_batches(
                dataset.clone(),
                plan,
                augmenting(),
                0,
                &Device::Cpu,
                workers,
                6,
            );
            for step in 0..5 {
                assert_eq!(loader.next().unwrap().unwrap().step, step);
            }
            assert_eq!(
                loader.next().unwrap().unwrap_err().to_string(),
                "sample 21: broken"
            );
            assert!(loader.next().is_none());
        }
        let mut loader = load_batches(
            dataset,
            std::iter::once((0, vec![99])),
            augmenting(),
            0,
            &Device::Cpu,
            1,
            1,
        );
        assert!(loader.next().unwrap().is_err());
    }

    /// Counts what is decoded, slowly; panics at one sample.
    struct Counting(crate::InMemory, std::sync::atomic::AtomicUsize, usize);

    impl Dataset for Counting {
        fn name(&self) -> &str {
            "counting"
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn labels(&self) -> &crate::Labels {
            self.0.labels()
        }
        fn sample_id(&self, index: usize) -> String {
            self.0.sample_id(index)
        }
        fn image(&self, index: usize) -> Result<crate::Image> {
            assert_ne!(index, self.2, "asked for the sample that panics");
            self.1.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(2));
            self.0.image(index)
        }
    }

    #[test]
    fn dropping_early_stops_the_workers() {
        let dataset = Arc::new(Counting(ramp(100), 0.into(), usize::MAX));
        let plan = (0..).map(|step| (step, (0..100).collect()));
        let mut loader = load_batches(dataset.clone(), plan, augmenting(), 0, &Device::Cpu, 2, 4);
        assert!(loader.next().is_some());
        drop(loader);
        // Joined: nothing is decoded any more, and no worker holds the data set.
        assert!(dataset.1.load(Ordering::SeqCst) < 400);
        assert_eq!(Arc::strong_count(&dataset), 1);
    }

    #[test]
    fn a_panic_in_a_worker_is_an_error_of_its_batch() {
        let dataset = Arc::new(Counting(ramp(10), 0.into(), 7));
        let loader = load_batches(
            dataset,
            sequential_batches(10, 2),
            augmenting(),
            0,
            &Device::Cpu,
            1,
            3,
        );
        let results: Vec<bool> = loader.map(|batch| batch.is_ok()).collect();
        assert_eq!(results, [true, true, true, false]);
    }

    #[test]
    fn plans_cover_every_sample() {
        let order = epoch_order(1000, 5, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(order, epoch_order(1000, 5, 1));
        assert_ne!(order, epoch_order(1000, 6, 0));
        assert_eq!(order, epoch_order(1000, 5, 0));
        let all: Vec<usize> = sequential_batches(10, 4)
            .flat_map(|(_, batch)| batch)
            .collect();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(epoch_batches(0, 4, 0, 0).count(), 0);
        assert_eq!(epoch_batches(4, 0, 0, 0).count(), 0);
        assert_eq!(epoch_batches(3, 8, 0, 5).next().unwrap().1.len(), 3);
    }

    #[test]
    fn images_load_at_once() {
        let tensor =
            load_images(&ramp(5), &[4, 0], &Transform::new(2, 3, 1), &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [2, 1, 2, 3]);
        assert!(load_images(&ramp(5), &[5], &Transform::new(2, 3, 1), &Device::Cpu).is_err());
    }
}
