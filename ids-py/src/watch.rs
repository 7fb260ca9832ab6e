//! Ctrl-C while the interpreter is released.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often a wait looks for Ctrl-C.
pub(crate) const NAP: Duration = Duration::from_millis(50);

/// Looks for Ctrl-C in the thread of a caller, and tells the threads that work for it.
pub(crate) struct Watch {
    caller: ThreadId,
    start: Instant,
    /// When it last looked, in milliseconds from `start`.
    looked: AtomicU64,
    interrupted: OnceLock<PyErr>,
}

impl Watch {
    /// Watches for the thread that calls it.
    pub(crate) fn new() -> Self {
        let caller = thread::current().id();
        Self { caller, start: Instant::now(), looked: AtomicU64::new(0), interrupted: OnceLock::new() }
    }

    /// Whether the work is to end. Cheap: the caller's thread looks for itself now and then.
    pub(crate) fn is_over(&self) -> bool {
        if thread::current().id() == self.caller {
            let now = self.start.elapsed().as_millis() as u64;
            if now >= self.looked.load(Ordering::Relaxed) + NAP.as_millis() as u64 {
                self.looked.store(now, Ordering::Relaxed);
                return self.look();
            }
        }
        self.interrupted.get().is_some()
    }

    /// Runs the handlers of the signals that have come; whether the work is to end.
    pub(crate) fn look(&self) -> bool {
        if let Some(signal) = Python::try_attach(|py| py.check_signals().err()).flatten() {
            // Only the first counts.
            let _ = self.interrupted.set(signal);
        }
        self.interrupted.get().is_some()
    }

    /// # Errors
    /// What a handler raised: KeyboardInterrupt.
    pub(crate) fn finish(self) -> PyResult<()> {
        self.interrupted.into_inner().map_or(Ok(()), Err)
    }
}

/// A file that is read until Ctrl-C.
pub(crate) struct Watched<'a> {
    file: File,
    watch: &'a Watch,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(file: File, watch: &'a Watch) -> Self {
        Self { file, watch }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut is_over = self.watch.is_over();
        while !is_over {
            match self.file.read(buffer) {
                // A pipe waits; the signal may be one that Python has no handler for.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => is_over = self.watch.look(),
                read => return read,
            }
        }
        // The caller raises what the watch has.
        Err(io::Error::other("interrupted"))
    }
}
