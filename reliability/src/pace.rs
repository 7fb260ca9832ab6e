//! How fast verdicts come, by the clock of the broker: it stamps flows and verdicts when it appends them, so one clock
//! measures every engine, and what it measures is what a reader of the verdicts would see.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ids_kafka::Connection;
use ids_kafka::recon::Place;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use serde_json::Value;

use crate::scenario::patiently;

const REQUEST_WAIT: Duration = Duration::from_secs(20);
/// Longest time without a message.
const SILENCE: Duration = Duration::from_secs(60);

/// A verdict as its topic holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// When the broker appended it, in milliseconds since 1970-01-01 UTC.
    pub appended_ms: i64,
    /// Position of the predicted class.
    pub prediction: u64,
    /// Its probability.
    pub probability: f64,
}

/// Where the partitions of `topic` end now.
///
/// # Errors
/// Where Kafka does not say.
pub fn ends(watcher: &BaseConsumer, topic: &str, n_partitions: i32) -> Result<Vec<i64>> {
    // A topic that was just made has no leader yet, and a broker that just came back may not know the topic: then it has
    // to be asked about again.
    let ask_again = |_: &KafkaError| drop(watcher.fetch_metadata(Some(topic), REQUEST_WAIT));
    let watermarks = |partition| watcher.fetch_watermarks(topic, partition, REQUEST_WAIT).inspect_err(ask_again);
    let end = |partition| Ok(patiently(|| watermarks(partition))?.1);
    (0..n_partitions).map(end).collect()
}

/// The verdicts of `topic` from the offsets `from` on, by the place of their flow.
///
/// # Errors
/// Where a flow has two, one has no verdict in it, or the broker did not stamp it.
pub fn verdicts(connection: &Connection, topic: &str, from: &[i64]) -> Result<BTreeMap<Place, Said>> {
    let mut all = BTreeMap::new();
    read(connection, topic, from, |message| {
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let place = place(key).with_context(|| format!("`{key}` is no key of a verdict"))?;
        let said = said(message.payload().unwrap_or_default(), appended_ms(message)?);
        let said = said.with_context(|| format!("the verdict on {key}"))?;
        ensure!(all.insert(place, said).is_none(), "there are two verdicts on {key}");
        Ok(())
    })?;
    Ok(all)
}

/// When the broker appended each flow of `topic`, in milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// Where it did not stamp one.
pub fn flows(connection: &Connection, topic: &str, n_partitions: usize) -> Result<BTreeMap<Place, i64>> {
    let mut all = BTreeMap::new();
    read(connection, topic, &vec![0; n_partitions], |message| {
        all.insert((message.partition(), message.offset()), appended_ms(message)?);
        Ok(())
    })?;
    Ok(all)
}

/// Verdicts a second after the first `n_warm`: from when the last of these was appended to when the last of all was.
///
/// # Errors
/// Where there are no more than `n_warm`, or they came at once.
pub fn rows_per_second(verdicts: &BTreeMap<Place, Said>, n_warm: usize) -> Result<f64> {
    let mut times: Vec<_> = verdicts.values().map(|said| said.appended_ms).collect();
    times.sort_unstable();
    let n = times.len();
    ensure!(n_warm > 0 && n > n_warm, "{n} verdicts, of which {n_warm} are passed over: too few");
    let milliseconds = times[n - 1] - times[n_warm - 1];
    ensure!(milliseconds > 0, "all verdicts were appended at once: too few to measure");
    Ok((n - n_warm) as f64 * 1000.0 / milliseconds as f64)
}

/// What verdicts took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Latency {
    /// Half took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// How many there are.
    pub n: usize,
}

/// From when a flow was appended to when its verdict was, of the flows that were appended `during` a time, in
/// milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// Where such a flow has no verdict, or there are none.
pub fn latency(flows: &BTreeMap<Place, i64>, verdicts: &BTreeMap<Place, Said>, during: &Range<i64>) -> Result<Latency> {
    let mut all = Vec::new();
    for (place, appended_ms) in flows.iter().filter(|(_, appended_ms)| during.contains(appended_ms)) {
        let said = verdicts.get(place).with_context(|| format!("the flow at {place:?} has no verdict"))?;
        all.push(said.appended_ms - appended_ms);
    }
    ensure!(!all.is_empty(), "no flow arrived in the time that is measured");
    all.sort_unstable();
    // Nearest rank.
    let at = |percent: usize| all[(percent * all.len()).div_ceil(100) - 1] as f64;
    Ok(Latency { p50: at(50), p99: at(99), max: at(100), n: all.len() })
}

/// The first flow on which two engines do not say the same, to the bit.
pub fn first_difference(one: &BTreeMap<Place, Said>, other: &BTreeMap<Place, Said>) -> Option<String> {
    let what = |said: &Said| (said.prediction, said.probability.to_bits());
    let differ = |place: &&Place| one.get(place).map(what) != other.get(place).map(what);
    let place = one.keys().chain(other.keys()).find(differ)?;
    Some(format!("at {place:?}: {:?} and {:?}", one.get(place), other.get(place)))
}

/// What a verdict says: the detector's has the probability of the predicted class, Spark's that of every class.
fn said(json: &[u8], appended_ms: i64) -> Result<Said> {
    let verdict: Value = serde_json::from_slice(json)?;
    let prediction = verdict["prediction"].as_f64().context("there is no prediction")? as u64;
    let probability = match &verdict["probability"] {
        Value::Array(all) => all.get(prediction as usize).and_then(Value::as_f64),
        one => one.as_f64(),
    };
    Ok(Said { appended_ms, prediction, probability: probability.context("there is no probability")? })
}

/// Partition and offset of `topic/partition/offset`.
fn place(key: &str) -> Option<Place> {
    let (rest, offset) = key.rsplit_once('/')?;
    let (_, partition) = rest.rsplit_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

fn appended_ms(message: &BorrowedMessage<'_>) -> Result<i64> {
    match message.timestamp() {
        Timestamp::LogAppendTime(ms) => Ok(ms),
        other => bail!("the broker does not stamp topic `{}`: {other:?}", message.topic()),
    }
}

/// Hands every message from the offsets `from` to where the topic ends now to `each`.
fn read(
    connection: &Connection,
    topic: &str,
    from: &[i64],
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
) -> Result<()> {
    let mut config = connection.client_config()?;
    config.set("group.id", "ids-pace").set("enable.auto.commit", "false").set("fetch.queue.backoff.ms", "20");
    let consumer: BaseConsumer = config.create()?;
    let ends = ends(&consumer, topic, i32::try_from(from.len())?)?;
    let mut all = TopicPartitionList::new();
    for ((partition, &start), &end) in (0..).zip(from).zip(&ends) {
        if start < end {
            all.add_partition_offset(topic, partition, Offset::Offset(start))?;
        }
    }
    consumer.assign(&all)?;
    let (mut left, mut last): (i64, _) = (ends.iter().zip(from).map(|(end, start)| end - start).sum(), Instant::now());
    while left > 0 {
        match consumer.poll(Duration::from_millis(200)) {
            Some(message) => {
                let message = message?;
                if message.offset() < ends[message.partition() as usize] {
                    each(&message)?;
                    left -= 1;
                    last = Instant::now();
                }
            }
            None => ensure!(last.elapsed() < SILENCE, "{left} messages of topic `{topic}` do not come"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[(i64, i64)]) -> BTreeMap<Place, Said> {
        let said = |appended_ms| Said { appended_ms, prediction: 1, probability: 0.5 };
        times.iter().map(|&(offset, ms)| ((0, offset), said(ms))).collect()
    }

    #[test]
    fn the_warm_up_is_passed_over() {
        // Two slow rows, then ten in 5 ms.
        let mut times = vec![(0, 1_000), (1, 2_000)];
        times.extend((2..12).map(|offset| (offset, 2_000 + offset / 2)));
        assert_eq!(rows_per_second(&at(&times), 2).expect("a rate"), 2_000.0);
        assert!(rows_per_second(&at(&times), 12).is_err());
        assert!(rows_per_second(&at(&[(0, 5), (1, 5)]), 1).is_err());
    }

    #[test]
    fn latency_is_of_flows_within_the_time_that_is_measured() {
        let flows: BTreeMap<Place, i64> = (0..200).map(|offset| ((0, offset), offset)).collect();
        // One of the 100 flows that are measured took 50 ms, and so did two before.
        let took = |offset| if [3, 5, 30].contains(&offset) { 50 } else { 10 };
        let verdicts = at(&(0..200).map(|offset| (offset, offset + took(offset))).collect::<Vec<_>>());
        let found = latency(&flows, &verdicts, &(20..120)).expect("verdicts");
        assert_eq!(found, Latency { p50: 10.0, p99: 10.0, max: 50.0, n: 100 });
        assert!(latency(&flows, &verdicts, &(500..600)).is_err());
        let mut missing = verdicts;
        missing.remove(&(0, 119));
        let error = latency(&flows, &missing, &(20..120)).expect_err("one is missing");
        assert!(error.to_string().contains("119"), "{error}");
    }

    #[test]
    fn both_forms_of_a_verdict_are_read() {
        let ours = br#"{"prediction":1,"probability":0.75,"probabilities":{"a":0.25,"b":0.75}}"#;
        let sparks = br#"{"origin":{},"prediction":1.0,"probability":[0.25,0.75]}"#;
        assert_eq!(said(ours, 7).expect("ours"), said(sparks, 7).expect("Spark's"));
        assert!(said(br#"{"dead_letter":"x"}"#, 7).is_err());
        assert_eq!(place("a/b/3/17"), Some((3, 17)));
        assert_eq!(place("17"), None);
    }

    #[test]
    fn engines_that_differ_in_a_bit_or_a_row_are_told_apart() {
        let (one, mut other) = (at(&[(0, 1), (1, 1)]), at(&[(0, 2), (1, 2)]));
        assert_eq!(first_difference(&one, &other), None);
        other.get_mut(&(0, 1)).expect("a row").probability = 0.5_f64.next_up();
        assert!(first_difference(&one, &other).expect("a bit").contains("(0, 1)"));
        other.remove(&(0, 1));
        assert!(first_difference(&one, &other).is_some());
        assert!(first_difference(&other, &one).is_some());
    }
}
