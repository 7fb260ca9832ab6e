//! What the pipelines are told: one typed struct each. A value that cannot work cannot be made, so
//! nothing is checked again afterwards.

use std::collections::BTreeMap;
use std::str::FromStr;

use ids_core::AlertPolicy;
use rdkafka::ClientConfig;

use crate::error::{Error, Result};

/// A number within bounds that its type states.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $range:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
        pub struct $name(f64);

        impl $name {
            /// The number, if it is within bounds.
            ///
            /// # Errors
            /// [`Error::Config`] says what the bounds are.
            pub fn new(value: f64) -> Result<Self> {
                if $range.contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(Error::Config(format!(concat!("{} is not ", $rule), value)))
                }
            }

            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                let value = text.trim().parse().map_err(|_| format!("`{text}` is no number"))?;
                Self::new(value).map_err(|_| format!(concat!("{} is not ", $rule), value))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded!(
    /// Rows per second.
    Rate,
    (0.001..=1e6),
    "a rate above 0 (from 0.001 to 1,000,000 rows a second)"
);
bounded!(
    /// A share or probability.
    Fraction,
    (0.0..=1.0),
    "a probability from 0 to 1"
);
bounded!(
    /// Shape of the Pareto distribution of bursts: smaller means larger bursts. Below 1.1 their mean
    /// is out of bounds for all practical purposes.
    BurstPower,
    (1.1..=100.0),
    "a burst power of 1.1 or more (and at most 100)"
);
bounded!(
    /// How many times the rate a burst may be, at most.
    BurstCap,
    (1.0..=1000.0),
    "a cap of 1 or more (and at most 1,000)"
);

/// How to reach Kafka.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Connection {
    /// Brokers to start from: host:port, comma-separated.
    #[cfg_attr(feature = "cli", arg(long, env = "BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092"))]
    pub bootstrap_servers: String,
    /// A librdkafka property, name=value; can be given more than once (e.g. security.protocol=SASL_SSL).
    #[cfg_attr(feature = "cli", arg(long = "kafka", value_name = "NAME=VALUE", value_parser = property))]
    pub properties: Vec<(String, String)>,
    /// A librdkafka property whose value is in a file, name=path: for passwords and keys, which then are in no command
    /// line, environment or log (e.g. sasl.password=/run/secrets/kafka).
    #[cfg_attr(feature = "cli", arg(long = "kafka-secret", value_name = "NAME=FILE", value_parser = property))]
    pub secrets: Vec<(String, String)>,
}

impl Connection {
    /// A connection to the brokers at `bootstrap_servers`.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self { bootstrap_servers: bootstrap_servers.into(), properties: Vec::new(), secrets: Vec::new() }
    }

    /// librdkafka's configuration of a client that only has to reach Kafka.
    ///
    /// # Errors
    /// [`Error::Config`] names a property that cannot be set, or a secret's file that cannot be read.
    pub fn client_config(&self) -> Result<ClientConfig> {
        self.client(&[])
    }

    /// librdkafka's configuration: `owned` properties, on which delivery rests, and the user's.
    pub(crate) fn client(&self, owned: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        let mut properties = self.properties.clone();
        for (name, path) in &self.secrets {
            let secret = std::fs::read_to_string(path)
                .map_err(|error| Error::Config(format!("the secret `{name}` in {path}: {error}")))?;
            // Editors end a file with a newline that is no part of the secret.
            let secret = secret.trim_end_matches(['\r', '\n']);
            // Refused here, because librdkafka's own refusal has the value in it.
            if ClientConfig::new().set(name, secret).create_native_config().is_err() {
                let detail =
                    format!("the secret in {path}: librdkafka has no property `{name}`, or not with this value");
                return Err(Error::Config(detail));
            }
            properties.push((name.clone(), secret.to_owned()));
        }
        for (name, value) in &properties {
            if let Some((_, flag)) = BY_FLAG.iter().find(|(own, _)| own == name) {
                return Err(Error::Config(format!("the property `{name}` is set by {flag}")));
            }
            if PROMISED.contains(&name.as_str()) || owned.iter().any(|(owned, _)| owned == name) {
                let detail = format!("the property `{name}` cannot be set: that nothing is lost rests on it");
                return Err(Error::Config(detail));
            }
            config.set(name, value);
        }
        for (name, value) in owned {
            config.set(*name, *value);
        }
        Ok(config)
    }
}

/// Properties on which it rests that nothing is lost, by all their names; a client that needs them sets them.
const PROMISED: [&str; 12] = [
    "acks",
    "request.required.acks",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "isolation.level",
    "message.send.max.retries",
    "message.timeout.ms",
    "retries",
    "transactional.id",
];

/// Properties that have a flag of their own.
const BY_FLAG: [(&str, &str); 3] = [
    ("bootstrap.servers", "--bootstrap-servers"),
    ("group.id", "--group-id"),
    ("group.instance.id", "--group-instance-id"),
];

/// Properties of a producer that never loses, doubles or reorders a message while it lives.
pub(crate) const IDEMPOTENT: [(&str, &str); 2] = [("enable.idempotence", "true"), ("acks", "all")];

/// Sets those of `defaults` that the user has not set.
pub(crate) fn set_defaults(config: &mut ClientConfig, defaults: &[(&str, &str)]) {
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(*name, *value);
        }
    }
}

/// Reads `name=value`.
///
/// # Errors
/// Where there is no `=` or no name.
pub fn property(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.into())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

/// The topics of a pipeline: the one with flows, and those named after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Flows.
    pub flows: String,
    /// A verdict per flow.
    pub verdicts: String,
    /// The verdicts that policy raises.
    pub alerts: String,
    /// Records that have no verdict: the dead-letter queue.
    pub dead_letters: String,
}

impl Topics {
    /// The topics around `flows`.
    pub fn of(flows: &str) -> Self {
        Self {
            flows: flows.into(),
            verdicts: format!("{flows}.verdicts"),
            alerts: format!("{flows}.alerts"),
            dead_letters: format!("{flows}.dlq"),
        }
    }

    /// All four.
    pub fn all(&self) -> [&str; 4] {
        [&self.flows, &self.verdicts, &self.alerts, &self.dead_letters]
    }
}

/// How flows arrive.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Load {
    /// Mean number of rows per second, bursts apart: each second draws from a Poisson distribution.
    #[cfg_attr(feature = "cli", arg(long, env = "MSG_RATE", default_value = "1000"))]
    pub rate: Rate,
    /// Probability that a second is a burst.
    #[cfg_attr(feature = "cli", arg(long, env = "BURST_PROB", default_value = "0.1"))]
    pub burst_prob: Fraction,
    /// Shape of the bursts: one multiplies the rate by 2 x (Pareto(burst power) + 1); smaller means larger bursts.
    #[cfg_attr(feature = "cli", arg(long, env = "BURST_POWER", default_value = "2"))]
    pub burst_power: BurstPower,
    /// How many times the rate a burst may be, at most.
    #[cfg_attr(feature = "cli", arg(long, env = "BURST_CAP", default_value = "20"))]
    pub burst_cap: BurstCap,
    /// Share of the records to make malformed on purpose.
    #[cfg_attr(feature = "cli", arg(long, env = "MALFORMED", default_value = "0"))]
    pub malformed: Fraction,
    /// Seed of everything random: the same seed sends the same records at the same times.
    #[cfg_attr(feature = "cli", arg(long, env = "SEED", default_value = "7"))]
    pub seed: u64,
}

impl Default for Load {
    /// The defaults of the command line.
    fn default() -> Self {
        Self {
            rate: Rate(1000.0),
            burst_prob: Fraction(0.1),
            burst_power: BurstPower(2.0),
            burst_cap: BurstCap(20.0),
            malformed: Fraction(0.0),
            seed: 7,
        }
    }
}

/// How flows arrive, and where they go.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ReplayConfig {
    /// How to reach Kafka.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub connection: Connection,
    /// Topic for the flows.
    #[cfg_attr(feature = "cli", arg(long, env = "TOPIC", default_value = "demo"))]
    pub topic: String,
    /// How they arrive.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub load: Load,
}

impl ReplayConfig {
    /// A replay to `topic` with the defaults of the command line.
    pub fn new(connection: Connection, topic: impl Into<String>) -> Self {
        Self { connection, topic: topic.into(), load: Load::default() }
    }
}

/// What is promised of each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Delivery {
    /// A verdict or dead letter for each; after a crash an alert may come again, under the same key.
    #[default]
    AtLeastOnce,
    /// Verdicts, alerts, dead letters and the committed offset in one transaction: each once for readers of what is
    /// committed. Takes a real Kafka, and latency.
    ExactlyOnce,
}

/// Where a detector takes a partition up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Resume {
    /// After the last verdict, or at the committed offset if that is further: a crash leaves no duplicates.
    #[default]
    Output,
    /// At the committed offset: to score again what has verdicts, once the group's offsets are reset.
    Committed,
}

/// What a detector consumes, and how it decides.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct DetectorConfig {
    /// How to reach Kafka.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub connection: Connection,
    /// Topic with the flows; verdicts, alerts and dead letters go to TOPIC.verdicts, TOPIC.alerts and TOPIC.dlq.
    #[cfg_attr(feature = "cli", arg(long, env = "TOPIC", default_value = "demo"))]
    pub topic: String,
    /// Consumer group: its members share the partitions.
    #[cfg_attr(feature = "cli", arg(long, env = "GROUP_ID", default_value = "ids-detector"))]
    pub group_id: String,
    /// A name of this member that outlives it (e.g. the pod's): it gets its partitions back at once after a restart.
    #[cfg_attr(feature = "cli", arg(long, env = "GROUP_INSTANCE_ID"))]
    pub group_instance_id: Option<String>,
    /// What is promised of each record.
    #[cfg_attr(feature = "cli", arg(long, env = "DELIVERY", value_enum, default_value_t))]
    pub delivery: Delivery,
    /// Where a partition is taken up, with delivery at least once.
    #[cfg_attr(feature = "cli", arg(long, env = "RESUME", value_enum, default_value_t))]
    pub resume: Resume,
    /// Columns of the flows if they are CSV rows, comma-separated or the name of a layout; without it, flows are JSON.
    #[cfg_attr(feature = "cli", arg(long, env = "CSV_COLUMNS"))]
    pub csv_columns: Option<String>,
    /// Least probability that raises an alert, for classes without a threshold of their own; without this and
    /// --class-threshold the model's own thresholds hold (`ids inspect` shows them; without any, every attack alerts).
    #[cfg_attr(feature = "cli", arg(long, env = "ALERT_THRESHOLD"))]
    pub alert_threshold: Option<Fraction>,
    /// Least probability that raises an alert for one class; can be given more than once (e.g. DoS=0.8).
    #[cfg_attr(feature = "cli", arg(long, value_name = "CLASS=PROBABILITY", value_parser = class_threshold))]
    pub class_threshold: Vec<(String, Fraction)>,
}

impl DetectorConfig {
    /// A detector on `topic` with the defaults of the command line.
    pub fn new(connection: Connection, topic: impl Into<String>) -> Self {
        Self {
            connection,
            topic: topic.into(),
            group_id: "ids-detector".into(),
            group_instance_id: None,
            delivery: Delivery::default(),
            resume: Resume::default(),
            csv_columns: None,
            alert_threshold: None,
            class_threshold: Vec::new(),
        }
    }

    /// The policy that decides which verdicts become alerts; `None` where that is left to the model.
    pub fn policy(&self) -> Option<AlertPolicy> {
        policy(self.alert_threshold, &self.class_threshold)
    }
}

/// The policy of what was configured; `None` where nothing was.
pub fn policy(threshold: Option<Fraction>, by_class: &[(String, Fraction)]) -> Option<AlertPolicy> {
    if threshold.is_none() && by_class.is_empty() {
        return None;
    }
    let by_class: BTreeMap<_, _> = by_class.iter().map(|(class, threshold)| (class.clone(), threshold.get())).collect();
    Some(AlertPolicy { threshold: threshold.map_or(0.0, Fraction::get), by_class })
}

/// Reads `class=probability`.
///
/// # Errors
/// Where there is no `=`, or what follows is no probability.
pub fn class_threshold(text: &str) -> std::result::Result<(String, Fraction), String> {
    let (class, threshold) = property(text)?;
    Ok((class, threshold.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_cannot_be_written_down() {
        for (text, expected) in
            [("0", "a rate above 0"), ("-1", "a rate above 0"), ("NaN", "a rate"), ("x", "no number")]
        {
            let message = text.parse::<Rate>().expect_err(text);
            assert!(message.contains(expected), "{message}");
        }
        assert!("1.09".parse::<BurstPower>().expect_err("too small").contains("1.1 or more"));
        assert!("1.1".parse::<BurstPower>().is_ok());
        assert!("1.01".parse::<Fraction>().is_err());
        assert!(property("no equals sign").is_err());
        assert!(class_threshold("DoS=2").is_err());
    }

    #[test]
    fn a_secret_is_read_from_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "s3cret\n").expect("writes");
        let path = file.path().display().to_string();
        let mut connection = Connection::new("127.0.0.1:9092");
        connection.secrets.push(("sasl.password".into(), path.clone()));
        assert_eq!(connection.client_config().expect("a configuration").get("sasl.password"), Some("s3cret"));
        assert!(!format!("{connection:?}").contains("s3cret"));
        // A name that librdkafka does not know, or a value that it does not take, is refused without the value.
        for name in ["sasl.pasword", "linger.ms"] {
            let secrets = vec![(name.to_owned(), path.clone())];
            let wrong = Connection { secrets, ..Connection::new("127.0.0.1:9092") };
            let error = wrong.client_config().expect_err(name).to_string();
            assert!(error.contains(name) && !error.contains("s3cret"), "{error}");
        }
        drop(file);
        let error = connection.client_config().expect_err("no file").to_string();
        assert!(error.contains(&path) && error.contains("sasl.password"), "{error}");
    }

    #[test]
    fn properties_that_delivery_rests_on_are_not_for_users() {
        let mut connection = Connection::new("127.0.0.1:9092");
        connection.properties.push(("client.rack".into(), "a".into()));
        let owned = [("enable.auto.commit", "false")];
        assert_eq!(connection.client(&owned).expect("fine").get("client.rack"), Some("a"));
        connection.properties.push(("enable.auto.commit".into(), "true".into()));
        let message = connection.client(&owned).expect_err("refused").to_string();
        assert!(message.contains("`enable.auto.commit` cannot be set"), "{message}");
    }
}
