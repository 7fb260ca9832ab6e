//! The metrics of a detector and of a producer as Prometheus scrapes them: OpenMetrics text, or the older format.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::metrics::{Counter, DetectorMetrics};
use crate::replay_metrics::ReplayMetrics;

/// `Content-Type` of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// `Content-Type` of [`classic`].
pub const CLASSIC_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of a detector now; all names start with `ids_`.
pub fn text(metrics: &Arc<DetectorMetrics>) -> String {
    open_metrics("ids", Exposed(Arc::clone(metrics)))
}

/// The metrics of a producer now; all names start with `ids_producer_`.
pub fn replay_text(metrics: &Arc<ReplayMetrics>) -> String {
    open_metrics("ids_producer", ExposedReplay(Arc::clone(metrics)))
}

fn open_metrics(prefix: &str, metrics: impl Collector + 'static) -> String {
    let mut registry = Registry::with_prefix(prefix);
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// OpenMetrics text in the format before it (0.0.4), in which a counter is named as its sample is and nothing marks
/// the end.
pub fn classic(open_metrics: &str) -> String {
    let described = |line: &str| -> Option<(String, String)> {
        let (what, rest) = line.strip_prefix("# ")?.split_once(' ')?;
        ["HELP", "TYPE"].contains(&what).then(|| (format!("# {what} "), rest.to_owned()))
    };
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    let counters: HashSet<_> = types.collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        match described(line) {
            Some((what, rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((&rest, ""));
                let suffix = if counters.contains(name) { "_total" } else { "" };
                text.extend([&what, name, suffix, " ", rest, "\n"]);
            }
            // The end, and units, which the names have.
            None if line.starts_with('#') => {}
            None => text.extend([line, "\n"]),
        }
    }
    text
}

#[derive(Debug)]
struct ExposedReplay(Arc<ReplayMetrics>);

impl Collector for ExposedReplay {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = &*self.0;
        for (name, help, counter) in [
            ("records", "Records sent.", &metrics.records),
            ("bytes", "Bytes of keys and values sent.", &metrics.bytes),
            ("acknowledged", "Records that Kafka acknowledged.", &metrics.acknowledged),
            ("malformed", "Records made malformed on purpose.", &metrics.malformed),
            ("bursts", "Seconds that were a burst.", &metrics.bursts),
            ("delivery_errors", "Records that Kafka refused for good.", &metrics.delivery_errors),
        ] {
            let counter = ConstCounter::new(counter.get());
            counter.encode(to.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let blocked = ConstCounter::new(metrics.blocked_us.get() as f64 / 1e6);
        let help = "Time for which a full queue held the producer up.";
        blocked.encode(to.encode_descriptor("blocked_seconds", help, None, blocked.metric_type())?)?;
        let in_flight = ConstGauge::new(metrics.in_flight() as i64);
        let help = "Records that are not acknowledged.";
        in_flight.encode(to.encode_descriptor("in_flight_records", help, None, in_flight.metric_type())?)?;
        let behind = ConstGauge::new(metrics.behind().as_secs_f64());
        let help = "How late the last record was sent.";
        behind.encode(to.encode_descriptor("behind_seconds", help, None, behind.metric_type())?)
    }
}

#[derive(Debug)]
struct Exposed(Arc<DetectorMetrics>);

impl Collector for Exposed {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = &*self.0;
        let mut count = |name: &str, help: &str, counter: &Counter| {
            let counter = ConstCounter::new(counter.get());
            counter.encode(to.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        count("records", "Records consumed.", &metrics.records)?;
        count("batches", "Batches scored.", &metrics.batches)?;
        count("alerts", "Alerts sent.", &metrics.alerts)?;
        count("commits", "Commits of offsets that Kafka confirmed.", &metrics.commits)?;
        count("commit_failures", "Commits that failed and were tried again.", &metrics.commit_failures)?;
        count("offset_gaps", "Offsets passed over because their records were gone.", &metrics.offset_gaps)?;
        count("rebalances", "Rebalances of the consumer group seen.", &metrics.rebalances)?;
        count("consumer_errors", "Errors of the consumer, mended by itself.", &metrics.consumer_errors)?;
        count("delivery_errors", "Messages that Kafka refused for good.", &metrics.delivery_errors)?;
        count("model_reloads", "Models taken over while running.", &metrics.model_reloads)?;
        count("model_refusals", "Models refused while running; the one before serves on.", &metrics.model_refusals)?;

        for (name, help, label, counts) in [
            ("verdicts", "Verdicts sent, by predicted class.", "class", metrics.verdicts_by_class()),
            ("dead_letters", "Dead letters sent, by kind of fault.", "kind", metrics.dead_letters_by_kind()),
        ] {
            let of_type = ConstCounter::new(0u64).metric_type();
            let mut family = to.encode_descriptor(name, help, None, of_type)?;
            for (value, n) in counts {
                ConstCounter::new(n).encode(family.encode_family(&[(label, value.as_str())])?)?;
            }
        }

        let of_type = ConstCounter::new(0u64).metric_type();
        let help = "Records that carried their class and were scored, by that class and the predicted one.";
        let mut family = to.encode_descriptor("labelled_records", help, None, of_type)?;
        for ((actual, predicted), n) in metrics.labelled() {
            let labels = [("actual", actual.as_str()), ("predicted", predicted.as_str())];
            ConstCounter::new(n).encode(family.encode_family(&labels)?)?;
        }

        let of_type = ConstGauge::new(0i64).metric_type();
        let assigned = ConstGauge::new(metrics.assigned_partitions() as i64);
        assigned.encode(to.encode_descriptor("assigned_partitions", "Partitions owned.", None, of_type)?)?;
        let in_flight = ConstGauge::new(metrics.in_flight() as i64);
        let help = "Records of which not all that is said is acknowledged.";
        in_flight.encode(to.encode_descriptor("in_flight_records", help, None, of_type)?)?;
        let lags = metrics.lags();
        let mut family =
            to.encode_descriptor("lag_records", "Records of a partition that are not done.", None, of_type)?;
        for (partition, lag) in &lags {
            let value = ConstGauge::new(lag.records);
            value.encode(family.encode_family(&[("partition", partition.to_string().as_str())])?)?;
        }
        let help = "Age of the last record done of a partition that is behind.";
        let mut family = to.encode_descriptor("lag_seconds", help, None, of_type)?;
        for (partition, lag) in &lags {
            let value = ConstGauge::new(lag.behind.as_secs_f64());
            value.encode(family.encode_family(&[("partition", partition.to_string().as_str())])?)?;
        }
        if let Some(model) = metrics.model() {
            let mut family = to.encode_descriptor("model_info", "The model that serves.", None, of_type)?;
            // An empty label is as good as none: the model was trained without Spark.
            let spark = model.spark_version.as_deref().unwrap_or_default();
            let labels = [("version", model.version.as_str()), ("sha256", &model.sha256), ("spark", spark)];
            ConstGauge::new(1i64).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, histogram) in [
            ("batch_seconds", "Time to score a batch.", &metrics.batch_seconds),
            ("batch_records", "Records of a batch.", &metrics.batch_records),
            (
                "end_to_end_seconds",
                "From a record's timestamp to its verdict's acknowledgement.",
                &metrics.end_to_end_seconds,
            ),
        ] {
            histogram.encode(to.encode_descriptor(name, help, None, histogram.metric_type())?)?;
        }
        Ok(())
    }
}

/// How far a partition is behind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lag {
    /// Records that are not done.
    pub records: i64,
    /// Age of the last record that is done; 0 where none is left to do.
    pub behind: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_a_counter_as_its_sample() {
        let metrics = Arc::<ReplayMetrics>::default();
        metrics.records.add(3);
        let open = replay_text(&metrics);
        assert!(open.contains("# TYPE ids_producer_records counter\nids_producer_records_total 3\n"), "{open}");
        assert!(open.ends_with("# EOF\n"));
        let classic = classic(&open);
        let expected = "# HELP ids_producer_records_total Records sent.\n\
            # TYPE ids_producer_records_total counter\nids_producer_records_total 3\n";
        assert!(classic.contains(expected), "{classic}");
        assert!(classic.contains("# TYPE ids_producer_in_flight_records gauge\n"), "{classic}");
        assert!(!classic.contains("EOF"));
    }
}
