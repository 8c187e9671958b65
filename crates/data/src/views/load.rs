//! Batches of views, made ahead of time on worker threads and handed out in the order of the plan.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use candle::{Device, Tensor};

use super::MultiCrop;
use crate::{Dataset, Error, ErrorKind, Result};

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

struct Job {
    step: u64,
    indices: Vec<usize>,
    reply: SyncSender<Result<Values>>,
}

struct Pending {
    step: u64,
    indices: Vec<usize>,
    reply: Receiver<Result<Values>>,
}

#[derive(Clone)]
struct Work {
    dataset: Arc<dyn Dataset>,
    views: MultiCrop,
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn batch(&self, step: u64, indices: &[usize]) -> Result<Values> {
        let batch = indices.len();
        let mut groups: Values = self
            .views
            .groups
            .iter()
            .map(|group| vec![0f32; group.views * batch * group.transform.values()])
            .collect();
        for (position, &index) in indices.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Worker("loading was stopped".into())));
            }
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

fn run_worker(work: &Work, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Held while waiting too: the others queue for the lock instead of the channel.
        let Ok(queue) = jobs.lock() else { return };
        let Ok(job) = queue.recv() else { return };
        drop(queue);
        // No receiver: the loader is gone, and the next `recv` says so.
        let _ = job.reply.send(work.batch(job.step, &job.indices));
    }
}

/// Iterator over the batches of a plan; made by [`load_views`]. It ends after the first error. Dropping it stops the
/// workers within one image each.
pub struct ViewLoader {
    plan: Box<dyn Iterator<Item = (u64, Vec<usize>)> + Send>,
    device: Device,
    prefetch: usize,
    pending: VecDeque<Pending>,
    jobs: Option<Sender<Job>>,
    /// What a worker does; the consumer does it itself where there is none.
    work: Work,
    threads: Vec<JoinHandle<()>>,
    done: bool,
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
    let work = Work {
        dataset,
        views,
        seed,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let (sender, receiver) = channel::<Job>();
    let receiver = Arc::new(Mutex::new(receiver));
    let threads: Vec<JoinHandle<()>> = (0..workers)
        .filter_map(|i| {
            let (work, jobs) = (work.clone(), Arc::clone(&receiver));
            // Where the system gives no more threads, fewer of them do the same work.
            std::thread::Builder::new()
                .name(format!("phiz-view-{i}"))
                .spawn(move || run_worker(&work, &jobs))
                .ok()
        })
        .collect();
    ViewLoader {
        plan: Box::new(plan),
        device: device.clone(),
        prefetch: prefetch.max(1),
        pending: VecDeque::new(),
        jobs: (!threads.is_empty()).then_some(sender),
        work,
        threads,
        done: false,
    }
}

impl ViewLoader {
    fn next_values(&mut self) -> Option<(u64, Vec<usize>, Result<Values>)> {
        let Some(jobs) = &self.jobs else {
            let (step, indices) = self.plan.next()?;
            let values = self.work.batch(step, &indices);
            return Some((step, indices, values));
        };
        while self.pending.len() < self.prefetch {
            let Some((step, indices)) = self.plan.next() else {
                break;
            };
            let (sender, reply) = sync_channel(1);
            // Fails when every worker is dead; then the reply channel closes, which is noticed below.
            let _ = jobs.send(Job {
                step,
                indices: indices.clone(),
                reply: sender,
            });
            self.pending.push_back(Pending {
                step,
                indices,
                reply,
            });
        }
        let Pending {
            step,
            indices,
            reply,
        } = self.pending.pop_front()?;
        let values = reply.recv().unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Worker(
                "a loading thread panicked".into(),
            )))
        });
        Some((step, indices, values))
    }

    fn batch(&self, step: u64, indices: Vec<usize>, values: Values) -> Result<ViewBatch> {
        let groups = self
            .work
            .views
            .groups
            .iter()
            .zip(values)
            .map(|(group, values)| {
                let (size, channels) = (group.transform.crop.size, group.transform.channels);
                let shape = (group.views * indices.len(), channels, size, size);
                Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(&self.device)?)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(ViewBatch {
            step,
            groups,
            indices,
        })
    }

    fn stop(&mut self) {
        self.done = true;
        self.work.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.pending.clear();
        for thread in self.threads.drain(..) {
            // A worker that panicked has been reported at its batch.
            let _ = thread.join();
        }
    }
}

impl Iterator for ViewLoader {
    type Item = Result<ViewBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let Some((step, indices, values)) = self.next_values() else {
            self.stop();
            return None;
        };
        let batch = values.and_then(|values| self.batch(step, indices, values));
        if batch.is_err() {
            self.stop();
        }
        Some(batch)
    }
}

impl Drop for ViewLoader {
    fn drop(&mut self) {
        self.stop();
    }
}
