//! Logs of the programs: one line per event, for people or for machines.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How a program logs, on standard error.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Form of the log.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by module (e.g. info,rdkafka=debug).
    #[arg(long, env = "LOG", default_value = "info")]
    pub log: String,
}

/// Form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// A line of text per event.
    #[default]
    Text,
    /// A JSON object per event.
    Json,
}

impl Logs {
    /// Logs from here on.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub fn start(&self) -> Result<(), String> {
        let filter: EnvFilter = self.log.parse().map_err(|error| format!("--log {}: {error}", self.log))?;
        // Colours are for terminals: a file or another program would keep their codes.
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal() && !is_plain)
            .with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        Ok(())
    }
}
