//! Work on a plan's batches, done ahead of time on worker threads and handed out in the order of the plan.
//!
//! The consumer deals out at most `prefetch` batches at a time, each with its own one-place reply channel, and takes the
//! replies in the order it dealt. So memory is bounded, an error comes out at the place of its batch, and the number of
//! workers changes nothing but the time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::{Error, ErrorKind, Result};

/// Says that nobody waits any more.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error once nobody waits; asked before each image.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Worker("loading was stopped".into())));
        }
        Ok(())
    }
}

/// What is done for a batch: its step, the places of its images, and when to give up.
type Work<T> = dyn Fn(u64, &[usize], &Stop) -> Result<T> + Send + Sync;

struct Job<T> {
    step: u64,
    indices: Vec<usize>,
    reply: SyncSender<Result<T>>,
}

struct Pending<T> {
    step: u64,
    indices: Vec<usize>,
    reply: Receiver<Result<T>>,
}

/// The results of a plan's batches in order, until the first error. Dropping it stops the workers within one image each.
pub(crate) struct Ahead<T> {
    plan: Box<dyn Iterator<Item = (u64, Vec<usize>)> + Send>,
    prefetch: usize,
    pending: VecDeque<Pending<T>>,
    /// `None` without workers: the consumer then works itself.
    jobs: Option<Sender<Job<T>>>,
    work: Arc<Work<T>>,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Threads are called `name-0`, `name-1`, ...; with no `workers` all is done in the calling thread.
    pub(crate) fn new(
        name: &str,
        plan: impl Iterator<Item = (u64, Vec<usize>)> + Send + 'static,
        workers: usize,
        prefetch: usize,
        work: impl Fn(u64, &[usize], &Stop) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        let (work, stop): (Arc<Work<T>>, _) = (Arc::new(work), Stop::default());
        let (sender, receiver) = channel::<Job<T>>();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads: Vec<JoinHandle<()>> = (0..workers)
            .filter_map(|i| {
                let (work, stop, jobs) = (work.clone(), stop.clone(), receiver.clone());
                // Where the system gives no more threads, fewer of them do the same work.
                std::thread::Builder::new()
                    .name(format!("{name}-{i}"))
                    .spawn(move || run_worker(&*work, &stop, &jobs))
                    .ok()
            })
            .collect();
        Self {
            plan: Box::new(plan),
            prefetch: prefetch.max(1),
            pending: VecDeque::new(),
            jobs: (!threads.is_empty()).then_some(sender),
            work,
            stop,
            threads,
        }
    }

    /// The next result, made into a batch by `finish` in the calling thread; after an error of either there is none.
    pub(crate) fn next_with<B>(
        &mut self,
        finish: impl FnOnce(u64, Vec<usize>, T) -> Result<B>,
    ) -> Option<Result<B>> {
        if self.stop.check().is_err() {
            return None;
        }
        let Some((step, indices, values)) = self.next_values() else {
            self.stop();
            return None;
        };
        let batch = values.and_then(|values| finish(step, indices, values));
        if batch.is_err() {
            self.stop();
        }
        Some(batch)
    }

    fn next_values(&mut self) -> Option<(u64, Vec<usize>, Result<T>)> {
        let Some(jobs) = &self.jobs else {
            let (step, indices) = self.plan.next()?;
            let values = (self.work)(step, &indices, &self.stop);
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
}

impl<T> Ahead<T> {
    fn stop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.pending.clear();
        for thread in self.threads.drain(..) {
            // A worker that panicked has been reported at its batch.
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run_worker<T>(work: &Work<T>, stop: &Stop, jobs: &Mutex<Receiver<Job<T>>>) {
    loop {
        // Held while waiting too: the others queue for the lock instead of the channel.
        let Ok(queue) = jobs.lock() else { return };
        let Ok(job) = queue.recv() else { return };
        drop(queue);
        let values = work(job.step, &job.indices, stop);
        // No receiver: the loader is gone, and the next `recv` says so.
        let _ = job.reply.send(values);
    }
}
