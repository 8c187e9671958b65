//! Threads that go through the layers of one image together.
//!
//! A layer of a small network takes some ten microseconds, about what it takes to wake a thread. So helpers come
//! once for all layers: they take parts of whichever layer is under way, and wait for the next one on the
//! spot. The calling thread takes parts as well; within a layer it never waits for a helper to come, only for parts that
//! one has taken. After the last layer it waits until every helper that was called has looked in.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Rounds of waiting before the processor is offered to others.
const PATIENCE: usize = 1 << 10;

/// What is being done: the layer under way in the upper half (counted from one), the next free part in the lower.
struct Team<'a> {
    ticket: AtomicU64,
    done: AtomicUsize,
    parts: &'a [usize],
}

/// No layer has this number.
const END: u64 = u32::MAX as u64;

impl Team<'_> {
    /// Takes the next part of the layer under way.
    fn take(&self) -> Taken {
        let ticket = self.ticket.load(Ordering::Acquire);
        let (layer, part) = (ticket >> 32, (ticket & END) as usize);
        if layer == END {
            return Taken::End;
        }
        let index = (layer as usize).checked_sub(1);
        let Some(index) = index.filter(|index| part < self.parts[*index]) else {
            return Taken::Nothing;
        };
        let taken =
            self.ticket
                .compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire);
        match taken {
            Ok(_) => Taken::Part(index, part),
            Err(_) => Taken::Again,
        }
    }
}

enum Taken {
    Part(usize, usize),
    /// All parts are taken.
    Nothing,
    /// Somebody else was faster.
    Again,
    End,
}

/// Waits a little, and offers the processor to others now and then.
fn wait(rounds: &mut usize) {
    *rounds += 1;
    if rounds.is_multiple_of(PATIENCE) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Ends the helpers' work, after a panic too.
struct Ending<'a>(&'a AtomicU64);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(END << 32, Ordering::Release);
    }
}

/// Counts a part as done, after a panic too, so that nobody waits for it in vain.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// For each layer in turn: `prepare(layer)`, then `run(layer, part)` for all of its parts, in any order and by
/// up to `threads` threads at once. All parts of a layer are done before the next one begins, and what they
/// wrote is seen by it.
pub(super) fn run(
    threads: usize,
    parts: &[usize],
    prepare: impl Fn(usize),
    run: impl Fn(usize, usize) + Sync,
) {
    // Nobody is called who would find nothing to do.
    let threads = threads.min(parts.iter().copied().max().unwrap_or(1));
    if threads < 2 {
        for (layer, &parts) in parts.iter().enumerate() {
            prepare(layer);
            (0..parts).for_each(|part| run(layer, part));
        }
        return;
    }
    let team = Team {
        ticket: AtomicU64::new(0),
        done: AtomicUsize::new(0),
        parts,
    };
    let (team, run) = (&team, &run);
    rayon::in_place_scope(|scope| {
        let _ending = Ending(&team.ticket);
        for _ in 1..threads {
            scope.spawn(move |_| {
                let mut rounds = 0;
                loop {
                    match team.take() {
                        Taken::Part(layer, part) => {
                            let _counted = Counted(&team.done);
                            run(layer, part);
                            rounds = 0;
                        }
                        Taken::Nothing => wait(&mut rounds),
                        Taken::Again => (),
                        Taken::End => return,
                    }
                }
            });
        }
        for (layer, &count) in parts.iter().enumerate() {
            prepare(layer);
            team.done.store(0, Ordering::Relaxed);
            // Publishes what was prepared, and the count above.
            team.ticket
                .store((layer as u64 + 1) << 32, Ordering::Release);
            loop {
                match team.take() {
                    Taken::Part(layer, part) => {
                        let _counted = Counted(&team.done);
                        run(layer, part);
                    }
                    Taken::Again => (),
                    Taken::Nothing | Taken::End => break,
                }
            }
            let mut rounds = 0;
            while team.done.load(Ordering::Acquire) < count {
                wait(&mut rounds);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every part of every layer runs once, and sees all of the layer before.
    #[test]
    fn layers_follow_one_another() {
        let parts: Vec<usize> = (0..300).map(|layer| layer % 5 + 1).collect();
        for threads in [1, 2, 3] {
            let counts: Vec<AtomicUsize> = parts.iter().map(|_| AtomicUsize::new(0)).collect();
            let prepared = AtomicUsize::new(0);
            run(
                threads,
                &parts,
                |layer| {
                    assert_eq!(prepared.fetch_add(1, Ordering::Relaxed), layer);
                },
                |layer, part| {
                    assert_eq!(prepared.load(Ordering::Relaxed), layer + 1);
                    assert!(part < parts[layer]);
                    if let Some(before) = layer.checked_sub(1) {
                        assert_eq!(counts[before].load(Ordering::Relaxed), parts[before]);
                    }
                    counts[layer].fetch_add(1, Ordering::Relaxed);
                },
            );
            assert!(
                counts
                    .iter()
                    .zip(&parts)
                    .all(|(count, parts)| count.load(Ordering::Relaxed) == *parts)
            );
        }
    }

    #[test]
    fn a_panic_in_a_part_is_handed_on() {
        for threads in [1, 3] {
            let result = std::panic::catch_unwind(|| {
                run(
                    threads,
                    &[4; 20],
                    |_| (),
                    |layer, part| assert!((layer, part) != (7, 2), "on purpose"),
                );
            });
            assert!(result.is_err());
        }
    }
}
