#![doc = include_str!("../README.md")]

#[cfg(feature = "admin")]
pub mod admin;
pub mod arrivals;
pub mod config;
#[cfg(feature = "cli")]
pub mod config_file;
pub mod detector;
pub mod embedded;
pub mod error;
pub mod exposition;
mod flight;
pub mod golden;
mod group;
pub mod headers;
mod health;
#[cfg(feature = "cli")]
pub mod logs;
pub mod malformed;
pub mod metrics;
mod outbox;
mod reach;
pub mod read;
pub mod recon;
pub mod replay;
pub mod replay_metrics;
mod resume;
pub mod shutdown;
pub mod tail;
pub mod tally;
mod transaction;

pub use arrivals::Arrivals;
pub use config::{Connection, Delivery, DetectorConfig, Load, ReplayConfig, Resume, Topics};
pub use detector::{Detector, Handle, MOST_OPEN_RECORDS};
pub use embedded::EmbeddedKafka;
pub use error::{Error, Result};
pub use golden::GoldenRows;
pub use metrics::{DetectorMetrics, OTHER_CLASS};
pub use replay::{Flow, Receipt, Replay};
pub use replay_metrics::ReplayMetrics;
pub use shutdown::Shutdown;
pub use tail::Tail;
