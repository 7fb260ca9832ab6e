//! The detector as a process: started, watched, signalled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running detector; it is killed when dropped.
pub struct Detector {
    process: Child,
    log: PathBuf,
}

/// The program beside the one that runs: `cargo` builds them into one directory.
fn program(name: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe().context("cannot tell where this program is")?;
    let found =
        executable.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program `{name}` beside {}: build all of it", executable.display()))
}

impl Detector {
    /// Starts a detector with `arguments`; its output is appended to `log`.
    ///
    /// # Errors
    /// Where the program is not there.
    pub fn start(arguments: &[String], log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program("detector")?);
        command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { process: command.spawn().context("cannot start the detector")?, log: log.into() })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self::signal(&self.process, signal)
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Errors
    /// Where it had ended by itself: its log says why.
    pub fn kill(mut self) -> Result<()> {
        self.check()?;
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Asks it to end and waits for it; how long it took.
    ///
    /// # Errors
    /// Where it does not end within `patience`, or not well.
    pub fn stop(mut self, patience: Duration) -> Result<Duration> {
        self.check()?;
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.process.try_wait()? {
                return if status.success() { Ok(start.elapsed()) } else { Err(self.ended(status)) };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the detector did not end within {} s: see {}", patience.as_secs(), self.log.display())
    }

    /// # Errors
    /// Where it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(3).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        anyhow::anyhow!("the detector ended with {status}: {}", last.join(" | "))
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(process: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(process.id()).context("a process id")?;
    kill(Pid::from_raw(id), signal).with_context(|| format!("cannot send {signal} to process {id}"))
}
