//! Programs that do the same job, flows in and verdicts out: the detector, and Spark Structured Streaming. How each is
//! started, and what it uses.
//!
//! How fast they are is told in [`pace`](crate::pace).

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use procfs::process::Process;
use serde::Serialize;

use crate::program::{Detector, program};

/// What does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The detector of this project.
    Detector,
    /// `benches/compare/stream_job.py`.
    Spark,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Detector => "detector",
            Self::Spark => "spark",
        })
    }
}

/// What an engine is to do.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The broker.
    pub bootstrap_servers: &'a str,
    /// Topic with flows; verdicts go to `TOPIC.verdicts`.
    pub topic: &'a str,
    /// A name that no run had before: whoever has it starts at the beginning of the topic.
    pub run: &'a str,
    /// A directory that Spark saved.
    pub model: &'a Path,
    /// A Python that has PySpark.
    pub python: &'a Path,
    /// Most rows of a micro-batch of Spark's.
    pub rows_per_trigger: u64,
    /// Further arguments of the detector.
    pub detector_arguments: &'a [String],
    /// Where Spark keeps checkpoints, and logs go.
    pub directory: &'a Path,
}

impl Engine {
    /// The command that does `job`, to be run from the root of the repository.
    ///
    /// # Errors
    /// Where the detector is not beside this program.
    pub fn command(self, job: &Job<'_>) -> Result<Command> {
        let mut command = match self {
            Self::Detector => {
                let mut command = Command::new(program("detector")?);
                // Of several runs over one topic, each starts at its beginning.
                command.args(["--group-id", job.run, "--resume", "committed", "--listen", "127.0.0.1:0"]);
                command.args(job.detector_arguments);
                command
            }
            Self::Spark => {
                let mut command = Command::new(job.python);
                command.arg("benches/compare/stream_job.py");
                command.args(["--verdicts", &format!("{}.verdicts", job.topic), "--jars", "target/spark-kafka"]);
                command.arg("--checkpoint").arg(job.directory.join(job.run));
                command.args(["--rows-per-trigger", &job.rows_per_trigger.to_string()]);
                command
            }
        };
        command
            .args(["--bootstrap-servers", job.bootstrap_servers, "--topic", job.topic])
            .arg("--model")
            .arg(job.model);
        Ok(command)
    }

    /// Starts `command` on the core `core`, alone.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &Command, core: usize, job: &Job<'_>) -> Result<Detector> {
        let log = job.directory.join(format!("{}.log", job.run));
        // A process starts where the thread is that starts it.
        let before = sched_getaffinity(Pid::from_raw(0)).context("cannot tell the core of this thread")?;
        pin(core)?;
        let started = Detector::spawn(command, &log);
        sched_setaffinity(Pid::from_raw(0), &before).context("cannot go back to the core before")?;
        started
    }
}

/// Keeps this thread, and all that it starts, on one core.
///
/// # Errors
/// Where there is no such core.
pub fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core).with_context(|| format!("core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &cores)
        .with_context(|| format!("there is no core {core}: one is needed for the engine and one for Kafka"))
}

/// What a program has used so far, with all that it started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Most memory it had, in MiB; summed over processes.
    pub peak_resident_mib: f64,
    /// User and system time of all threads, in seconds.
    pub cpu_seconds: f64,
}

impl Usage {
    /// That of the running process `id`.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn of(id: u32) -> Result<Self> {
        let process = Process::new(i32::try_from(id)?).with_context(|| format!("process {id}"))?;
        let (stat, status) = (process.stat()?, process.status()?);
        let ticks = (stat.utime + stat.stime) as f64;
        let mut usage = Self {
            peak_resident_mib: status.vmhwm.unwrap_or(0) as f64 / 1024.0,
            cpu_seconds: ticks / procfs::ticks_per_second() as f64,
        };
        for task in process.tasks()?.flatten() {
            for child in task.children().unwrap_or_default() {
                let of_child = Self::of(child)?;
                usage.peak_resident_mib += of_child.peak_resident_mib;
                usage.cpu_seconds += of_child.cpu_seconds;
            }
        }
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_uses_is_seen_with_what_it_started() {
        // 64 MiB and some CPU in a grandchild, which stays until its input ends.
        let script = "x=$(head -c 67108864 /dev/zero | tr '\\0' x); echo ready; read -r line";
        let mut shell = Command::new("sh")
            .args(["-c", &format!("sh -c \"{}\"; true", script.replace('$', "\\$"))])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let output = shell.stdout.as_mut().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("reads");
        let usage = Usage::of(shell.id()).expect("it runs");
        drop(shell.stdin.take());
        shell.wait().expect("ends");
        assert!(usage.peak_resident_mib > 64.0 && usage.peak_resident_mib < 1024.0, "{usage:?}");
        assert!(usage.cpu_seconds > 0.0, "{usage:?}");
    }
}
