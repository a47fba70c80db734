//! Threads that make patches ahead of time.

use crate::draw::{Patch, PatchMaker};
use crate::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Which patch: iteration, and place within the batch.
pub(crate) type Ticket = (u64, usize);

/// Threads that make the patches they are given tickets for.
///
/// No more tickets are out than fit into the queues, so that no thread ever waits to hand a patch
/// over, and stopping cannot hang.
#[derive(Debug)]
pub(crate) struct Workers {
    tickets: Option<Sender<Ticket>>,
    patches: Receiver<(Ticket, Result<Patch>)>,
    /// Patches that came before their turn.
    early: HashMap<Ticket, Result<Patch>>,
    /// Iterations for which no tickets are out yet.
    waiting: Range<u64>,
    /// Patches per batch.
    per_batch: usize,
    /// Batches that are made ahead.
    ahead: u64,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts threads that make the patches of `iterations`, `ahead` batches ahead.
    pub(crate) fn start(
        maker: &Arc<PatchMaker>,
        threads: usize,
        ahead: usize,
        iterations: Range<u64>,
    ) -> Result<Self> {
        let first = iterations.start;
        let capacity = maker.patches() * (ahead + 1);
        let (tickets, ticket_queue) = bounded::<Ticket>(capacity);
        let (patch_queue, patches) = bounded(capacity);
        let mut workers = Self {
            tickets: Some(tickets),
            patches,
            early: HashMap::new(),
            waiting: iterations,
            per_batch: maker.patches(),
            ahead: ahead as u64,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for number in 0..threads {
            let (maker, stop) = (Arc::clone(maker), Arc::clone(&workers.stop));
            let (ticket_queue, patch_queue) = (ticket_queue.clone(), patch_queue.clone());
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || work(&maker, &stop, &ticket_queue, &patch_queue))
                .map_err(|e| Error::Threads {
                    reason: format!("thread {number} cannot be started: {e}"),
                })?;
            workers.threads.push(thread);
        }
        workers.issue(first)?;
        Ok(workers)
    }

    /// Hands out tickets so that the batches after `current` are made while it is used.
    fn issue(&mut self, current: u64) -> Result<()> {
        let end = current.saturating_add(self.ahead);
        while self.waiting.start <= end {
            let Some(iteration) = self.waiting.next() else {
                break;
            };
            for patch in 0..self.per_batch {
                let tickets = self.tickets.as_ref().ok_or_else(stopped)?;
                tickets.send((iteration, patch)).map_err(|_| stopped())?;
            }
        }
        Ok(())
    }

    /// Waits for one patch.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Result<Patch> {
        self.issue(ticket.0)?;
        loop {
            if let Some(patch) = self.early.remove(&ticket) {
                return patch;
            }
            let (other, patch) = self.patches.recv().map_err(|_| stopped())?;
            self.early.insert(other, patch);
        }
    }
}

fn stopped() -> Error {
    Error::Threads {
        reason: "all of them have stopped".into(),
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tickets = None;
        for thread in self.threads.drain(..) {
            // A panic within a patch has been caught and reported with the patch.
            let _ = thread.join();
        }
    }
}

/// Makes patches until there are no more tickets.
fn work(
    maker: &PatchMaker,
    stop: &AtomicBool,
    tickets: &Receiver<Ticket>,
    patches: &Sender<(Ticket, Result<Patch>)>,
) {
    for (iteration, patch) in tickets {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // A panic would leave the loader waiting for this patch for ever.
        let made = catch_unwind(AssertUnwindSafe(|| maker.make(iteration, patch)));
        let made = made.unwrap_or_else(|_| {
            Err(Error::Threads {
                reason: format!("patch {patch} of iteration {iteration} panicked"),
            })
        });
        if patches.send(((iteration, patch), made)).is_err() {
            break;
        }
    }
}
