//! Whether Kafka can be reached, and would have us.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::Connection;
use crate::error::{Error, Result};
use crate::outbox::lock;
use crate::shutdown::Shutdown;

const METADATA_WAIT: Duration = Duration::from_secs(2);

/// Why Kafka would not have us: a wrong password or certificate. What is wrong from the start does not get better by
/// waiting.
#[derive(Debug, Default)]
pub(crate) struct Refusal(Mutex<Option<(String, KafkaError)>>);

impl Refusal {
    /// Notes an error of a client, if it is a refusal.
    pub(crate) fn note(&self, error: KafkaError, reason: &str) {
        let refusals =
            [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SaslAuthenticationFailed, RDKafkaErrorCode::SSL];
        if error.rdkafka_error_code().is_some_and(|code| refusals.contains(&code)) {
            lock(&self.0).get_or_insert_with(|| (reason.to_owned(), error));
        }
    }

    /// # Errors
    /// The refusal, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        match lock(&self.0).take() {
            None => Ok(()),
            Some((reason, error)) => Err(Error::kafka(format!("connecting: {reason}"))(error)),
        }
    }
}

/// Waits until a broker answers what `client` asks about `topic`, however long; `beat` is called meanwhile. `false` if shutdown is requested.
///
/// # Errors
/// Where Kafka refuses us.
pub(crate) fn wait_for<C: ClientContext>(
    client: &Client<C>,
    connection: &Connection,
    topic: &str,
    refusal: &Refusal,
    shutdown: &Shutdown,
    beat: impl Fn(),
) -> Result<bool> {
    while let Err(error) = client.fetch_metadata(Some(topic), METADATA_WAIT) {
        if shutdown.is_requested() {
            return Ok(false);
        }
        refusal.check()?;
        beat();
        tracing::warn!(%error, servers = connection.bootstrap_servers, "waiting for Kafka");
    }
    Ok(true)
}
