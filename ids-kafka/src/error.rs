//! What stops a pipeline. A bad record does not: it becomes a dead letter.

use std::path::PathBuf;

use rdkafka::error::KafkaError;

/// Result of a pipeline.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a pipeline could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration cannot work.
    #[error("configuration: {0}")]
    Config(String),

    /// Kafka refused or failed an operation.
    #[error("{doing}: {error}")]
    Kafka {
        /// What was being done.
        doing: String,
        /// What librdkafka said.
        error: KafkaError,
    },

    /// A message was not acknowledged; nothing after it has been committed.
    #[error("a message to `{topic}` was not acknowledged: {error}")]
    Delivery {
        /// Topic of the message.
        topic: String,
        /// What librdkafka said.
        error: KafkaError,
    },

    /// A topic is not as the pipeline needs it.
    #[error("topic `{topic}`: {detail}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        detail: String,
    },

    /// The model or its policy was refused.
    #[error(transparent)]
    Core(#[from] ids_core::Error),

    /// A model does not give the verdicts that are expected of it, or the files that say so cannot be used.
    #[error("golden rows: {}, row {row}: {detail}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// Its row, from 1; 0 for the file itself.
        row: usize,
        /// What is wrong.
        detail: String,
    },

    /// Records of a producer were still on their way when the time to wait for them was over.
    #[error("{outstanding} records were not acknowledged within {seconds} s: Kafka may or may not have them")]
    Unsent {
        /// How many records.
        outstanding: u64,
        /// How long was waited.
        seconds: u64,
    },

    /// Messages were still on their way when the time to wait for them was over.
    #[error("{outstanding} records were not done within {seconds} s; they are not committed and will be scored again")]
    Unacknowledged {
        /// How many records.
        outstanding: usize,
        /// How long was waited.
        seconds: u64,
    },
}

impl Error {
    pub(crate) fn kafka(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |error| Self::Kafka { doing, error }
    }
}
