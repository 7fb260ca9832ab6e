//! Dead letters: listed, counted, sent again.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ids_kafka::read::read_all;
use ids_kafka::{Connection, Topics, headers};
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

/// What to do with dead letters.
#[derive(Subcommand)]
pub enum DlqCommand {
    /// How many there are of each kind of fault.
    Count {
        /// Which.
        #[command(flatten)]
        which: Which,
    },
    /// A line for each: the record it was, the kind of fault, what is wrong, the first bytes.
    List {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Send the records to the topic with flows again, as they were: after the fault is mended.
    ///
    /// They are new records there, and are scored like any other. The dead letters stay; each replay sends them again.
    Replay {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Another topic to send them to.
        #[arg(long)]
        to: Option<String>,
    },
}

/// Where the dead letters are, and which of them.
#[derive(Args)]
pub struct Which {
    #[command(flatten)]
    connection: Connection,
    /// Topic with the flows; dead letters are in TOPIC.dlq.
    #[arg(long, env = "TOPIC", default_value = "demo")]
    topic: String,
    /// Only those of this kind of fault (see `count`).
    #[arg(long)]
    kind: Option<String>,
}

/// What a dead letter says of itself.
struct Letter {
    message: OwnedMessage,
    kind: String,
    /// `topic/partition/offset` of the record.
    origin: String,
}

/// Does what `command` asks for.
///
/// # Errors
/// Where Kafka cannot be reached, or refuses a message.
pub fn run(command: &DlqCommand) -> Result<()> {
    match command {
        DlqCommand::Count { which } => count(which),
        DlqCommand::List { which, limit } => list(which, *limit),
        DlqCommand::Replay { which, to } => {
            let mut letters = Vec::new();
            // All are read before the first is sent: one that fails again is a new dead letter in the topic that is read.
            which.read(|letter| letters.push(letter))?;
            replay(&which.connection, &letters, to.as_deref().unwrap_or(&which.topic))
        }
    }
}

impl Which {
    fn read(&self, mut each: impl FnMut(Letter)) -> Result<()> {
        read_all(&self.connection, &Topics::of(&self.topic).dead_letters, |message| {
            let header =
                |name: &str| message.headers().and_then(|all| headers::text(all, name)).unwrap_or("?").to_owned();
            let kind = header("ids.kind");
            if self.kind.as_ref().is_none_or(|wanted| *wanted == kind) {
                let origin = format!("{}/{}/{}", header("ids.topic"), header("ids.partition"), header("ids.offset"));
                each(Letter { message: message.detach(), kind, origin });
            }
        })?;
        Ok(())
    }
}

fn count(which: &Which) -> Result<()> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    which.read(|letter| *kinds.entry(letter.kind).or_default() += 1)?;
    let mut out = std::io::stdout().lock();
    for (kind, n) in &kinds {
        writeln!(out, "{kind:20} {n:10}")?;
    }
    Ok(writeln!(out, "{:20} {:10}", "all", kinds.values().sum::<usize>())?)
}

fn list(which: &Which, limit: usize) -> Result<()> {
    const SHOWN_BYTES: usize = 60;
    let (mut letters, mut n) = (Vec::new(), 0);
    which.read(|letter| {
        n += 1;
        if letters.len() < limit {
            letters.push(letter);
        }
    })?;
    let mut out = std::io::stdout().lock();
    for Letter { message, kind, origin } in &letters {
        let detail =
            message.headers().and_then(|all| headers::text(all.as_borrowed(), "ids.detail")).unwrap_or_default();
        let value = message.payload().map(|value| &value[..value.len().min(SHOWN_BYTES)]);
        let value = value.map_or("null".into(), |value| value.escape_ascii().to_string());
        writeln!(out, "{origin}  {kind}  {detail}  {value}")?;
    }
    if n > letters.len() {
        eprintln!("{} more: --limit {n}", n - letters.len());
    }
    Ok(())
}

fn replay(connection: &Connection, letters: &[Letter], to: &str) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (cut, whole): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| is_cut(letter));
    let mut config = connection.client_config()?;
    config.set("enable.idempotence", "true").set("message.max.bytes", "10485760");
    let producer: BaseProducer<Failures> =
        config.create_with_context(Failures::default()).context("cannot create a producer")?;
    for Letter { message, .. } in &whole {
        // What the detector said of it is left out, what came with the record stays.
        let all = message.headers().into_iter().flat_map(|all| headers::iter(all.as_borrowed()));
        let own = all.filter(|(name, _)| headers::is_of_record(name));
        let own = own.fold(OwnedHeaders::new(), |all, (name, value)| all.insert(Header { key: &name, value }));
        let mut record = BaseRecord::<[u8], [u8]>::to(to).headers(own);
        (record.key, record.payload) = (message.key(), message.payload());
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    producer.poll(Duration::from_millis(10));
                    record = returned;
                }
                Err((error, _)) => return Err(error).with_context(|| format!("topic `{to}`")),
            }
        }
    }
    producer.flush(PATIENCE).with_context(|| format!("not everything was acknowledged by `{to}`"))?;
    if let Some(error) = producer.context().0.get() {
        return Err(error.clone()).with_context(|| format!("not everything was acknowledged by `{to}`"));
    }
    writeln!(std::io::stdout(), "{} records sent to {to}", whole.len())?;
    if let Some(first) = cut.first() {
        // No failure: whoever tried again would send the others twice.
        eprintln!(
            "left out: {} that were cut because they were too large, and cannot be sent as they were; the first is of {}",
            cut.len(),
            first.origin
        );
    }
    Ok(())
}

/// The first message that Kafka refused.
#[derive(Default)]
struct Failures(OnceLock<KafkaError>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let _ = self.0.set(error.clone());
        }
    }
}

fn is_cut(letter: &Letter) -> bool {
    let mut all = letter.message.headers().into_iter().flat_map(|all| headers::iter(all.as_borrowed()));
    all.any(|(name, _)| [headers::CUT_FROM, headers::CUT_HEADERS].contains(&&*name))
}
