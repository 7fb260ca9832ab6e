//! The detector as a process: started, watched, signalled, asked. So is what it is compared with.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than the detector takes to end by force.
const END_WAIT: Duration = Duration::from_secs(60);

/// A running detector; it is killed when dropped, and when the process that started it dies.
pub struct Detector {
    process: Child,
    log: PathBuf,
}

/// The program beside the one that runs: `cargo` builds them into one directory.
///
/// # Errors
/// Where it is not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe().context("cannot tell where this program is")?;
    let found =
        executable.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program `{name}` beside {}: build all of it", executable.display()))
}

/// A command whose process the kernel kills when the one that started it dies, however that dies, so that nothing is
/// left running: through `setpriv` of util-linux; where there is none, a plain command.
///
/// Strictly it is the thread that must live on: who starts it keeps it.
pub fn bound_to_us(program: impl AsRef<OsStr>) -> Command {
    static HAS_SETPRIV: OnceLock<bool> = OnceLock::new();
    let has_setpriv = *HAS_SETPRIV.get_or_init(|| {
        let tried = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    });
    if !has_setpriv {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Detector {
    /// Starts a detector with `arguments`; its output is appended to `log`.
    ///
    /// # Errors
    /// Where the program is not there.
    pub fn start(arguments: &[String], log: &Path) -> Result<Self> {
        let mut command = Command::new(program("detector")?);
        command.args(arguments);
        Self::spawn(&command, log)
    }

    /// Starts `command`, a detector of whatever make.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) fn spawn(command: &Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut bound = bound_to_us(command.get_program());
        bound.args(command.get_args()).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { process: bound.spawn().context("cannot start the detector")?, log: log.into() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self::signal(&self.process, signal)
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// Where the kernel does not tell (it does on Linux), or the process has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that was ever resident, in bytes.
    ///
    /// # Errors
    /// As [`Detector::resident_bytes`].
    pub fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).with_context(|| format!("{path} has no {field}"))
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
    /// Where it does not end, or not well: it ends itself by force, and not well, when its own time is up.
    pub fn stop(mut self) -> Result<Duration> {
        self.check()?;
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < END_WAIT {
            if let Some(status) = self.process.try_wait()? {
                return if status.success() { Ok(start.elapsed()) } else { Err(self.ended(status)) };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the detector did not end within {} s: see {}", END_WAIT.as_secs(), self.log.display())
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

/// Asks a program's HTTP: status and body.
///
/// # Errors
/// Where nobody answers.
pub fn ask(method: &str, url: &str) -> Result<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let answer = if method == "POST" { agent.post(url).send_empty() } else { agent.get(url).call() };
    let mut answer = answer.with_context(|| format!("{method} {url}"))?;
    let body = answer.body_mut().read_to_string().with_context(|| format!("{method} {url}"))?;
    Ok((answer.status().as_u16(), body))
}
