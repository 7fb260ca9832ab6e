//! The checker: reads what was produced and what came out, and says what is wrong with it.
//!
//! A detector keeps its promise where every record that Kafka acknowledged has exactly one distinct outcome among
//! the verdicts (a verdict, or a mark that there is none, and then a dead letter with the record's bytes); where
//! every verdict is, byte for byte, what scoring the record offline gives; where an alert is there for each verdict
//! that policy raises and for no other; and where verdicts follow each other as their records do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use ids_core::{AlertPolicy, FlowRecords, JsonDecoder, Model, Origin, Verdict};
use ids_kafka::read::read_all;
use ids_kafka::{Connection, Topics};
use rdkafka::message::{Headers, Message, OwnedMessage};
use serde::Serialize;
use serde_json::Value;

/// A record's place: partition and offset in the topic with flows.
pub type Place = (i32, i64);

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records that Kafka acknowledged.
    pub acked: usize,
    /// Of these, without any outcome.
    pub lost: usize,
    /// Outcomes beyond the first of a record.
    pub duplicates: usize,
    /// Outcomes of records that are not there.
    pub invented: usize,
    /// Records with outcomes that contradict each other, or with another outcome than scoring it offline.
    pub wrong: usize,
    /// First outcomes that stand behind the outcome of a later record of their partition.
    pub out_of_order: usize,
    /// Records with a mark and no dead letter, or with a dead letter and no mark, or with other bytes in it.
    pub wrong_dead_letters: usize,
    /// Verdicts that policy raises, without alert; alerts that it does not.
    pub wrong_alerts: usize,
    /// Alerts beyond the first of a record: a crash may repeat them, under the same key.
    pub repeated_alerts: usize,
    /// Dead letters beyond the first of a record: the same.
    pub repeated_dead_letters: usize,
    /// The first of what is wrong, in words.
    pub findings: Vec<String>,
}

impl Report {
    /// Whether nothing is lost, invented, wrong or out of order. Duplicates are counted, not judged.
    pub fn is_sound(&self) -> bool {
        let Self { lost, invented, wrong, out_of_order, wrong_dead_letters, wrong_alerts, .. } = self;
        lost + invented + wrong + out_of_order + wrong_dead_letters + wrong_alerts == 0
    }

    fn find(&mut self, what: impl FnOnce() -> String) {
        const MOST: usize = 10;
        if self.findings.len() < MOST {
            self.findings.push(what());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, lost, duplicates, invented, wrong, out_of_order, .. } = self;
        write!(f, "{acked} records acknowledged: {lost} lost, {duplicates} duplicates, {invented} invented, ")?;
        write!(f, "{wrong} wrong, {out_of_order} out of order; dead letters {} wrong, ", self.wrong_dead_letters)?;
        write!(f, "{} repeated; ", self.repeated_dead_letters)?;
        write!(f, "alerts {} wrong, {} repeated", self.wrong_alerts, self.repeated_alerts)?;
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

/// Reads all that the topics hold and checks it. `acked` are the records that Kafka acknowledged to their producer;
/// the detector decided alerts by `policy`.
///
/// # Errors
/// Where a topic cannot be read to its end.
pub fn check(
    connection: &Connection,
    topics: &Topics,
    acked: &BTreeSet<Place>,
    model: &Arc<Model>,
    policy: &AlertPolicy,
) -> Result<Report> {
    let flows = read(connection, &topics.flows)?;
    let verdicts = read(connection, &topics.verdicts)?;
    let alerts = read(connection, &topics.alerts)?;
    let dead_letters = read(connection, &topics.dead_letters)?;
    let expected = expected(&flows, model, policy)?;

    let mut report = Report { acked: acked.len(), ..Report::default() };
    let mut outcomes: BTreeMap<Place, &OwnedMessage> = BTreeMap::new();
    let mut furthest: BTreeMap<i32, i64> = BTreeMap::new();
    for verdict in &verdicts {
        let place = place_of(verdict, topics)?;
        if let Some(first) = outcomes.get(&place) {
            report.duplicates += 1;
            if first.payload() != verdict.payload() {
                report.wrong += 1;
                report.find(|| format!("{place:?} has two outcomes that differ"));
            }
            continue;
        }
        outcomes.insert(place, verdict);
        let last = furthest.insert(place.0, place.1);
        if last.is_some_and(|last| last > place.1) {
            report.out_of_order += 1;
            report.find(|| format!("{place:?} comes after offset {last:?}"));
            furthest.insert(place.0, last.unwrap_or_default());
        }
        let Some(expected) = expected.get(&place) else {
            report.invented += 1;
            report.find(|| format!("{place:?} has an outcome and is no record"));
            continue;
        };
        let is_right = match &expected.verdict {
            Some(json) => verdict.payload() == Some(json.as_slice()),
            None => mark(verdict).is_some(),
        };
        if !is_right || verdict.partition() != place.0 {
            report.wrong += 1;
            report.find(|| format!("{place:?}: {}", String::from_utf8_lossy(verdict.payload().unwrap_or_default())));
        }
    }
    for place in acked.iter().filter(|place| !outcomes.contains_key(place)) {
        report.lost += 1;
        report.find(|| format!("{place:?} has no outcome"));
    }
    check_alerts(&mut report, &alerts, topics, &outcomes, &expected)?;
    check_dead_letters(&mut report, &dead_letters, &flows, &outcomes)?;
    Ok(report)
}

/// Every verdict that policy raises has an alert, and no other; what comes again comes under the same key.
fn check_alerts(
    report: &mut Report,
    alerts: &[OwnedMessage],
    topics: &Topics,
    outcomes: &BTreeMap<Place, &OwnedMessage>,
    expected: &BTreeMap<Place, Expected>,
) -> Result<()> {
    let mut raised = BTreeSet::new();
    for alert in alerts {
        let place = place_of(alert, topics)?;
        if !raised.insert(place) {
            report.repeated_alerts += 1;
        } else if !expected.get(&place).is_some_and(|expected| expected.is_raised) {
            report.wrong_alerts += 1;
            report.find(|| format!("{place:?} has an alert that policy does not raise"));
        }
    }
    for place in outcomes.keys().filter(|place| !raised.contains(place)) {
        if expected.get(place).is_some_and(|expected| expected.is_raised) {
            report.wrong_alerts += 1;
            report.find(|| format!("{place:?} has a verdict and not the alert that it raises"));
        }
    }
    Ok(())
}

/// Every mark has a dead letter with the record's bytes and key, and every dead letter of an outcome a mark.
fn check_dead_letters(
    report: &mut Report,
    dead_letters: &[OwnedMessage],
    flows: &[OwnedMessage],
    outcomes: &BTreeMap<Place, &OwnedMessage>,
) -> Result<()> {
    let records: BTreeMap<Place, _> = flows.iter().map(|flow| ((flow.partition(), flow.offset()), flow)).collect();
    let mut seen = BTreeSet::new();
    for letter in dead_letters {
        let place = (header(letter, "ids.partition")?.parse()?, header(letter, "ids.offset")?.parse()?);
        if !seen.insert(place) {
            report.repeated_dead_letters += 1;
            continue;
        }
        let record = records.get(&place);
        let is_cut = header(letter, "ids.cut_from_bytes").is_ok();
        let is_whole =
            record.is_some_and(|record| is_cut || (record.payload(), record.key()) == (letter.payload(), letter.key()));
        let kind = header(letter, "ids.kind")?;
        let is_marked = outcomes.get(&place).is_none_or(|outcome| mark(outcome).as_deref() == Some(kind));
        if !is_whole || !is_marked {
            report.wrong_dead_letters += 1;
            report.find(|| format!("{place:?} has a dead letter ({kind}) of other bytes, or without its mark"));
        }
    }
    for (place, _) in outcomes.iter().filter(|(place, outcome)| mark(outcome).is_some() && !seen.contains(place)) {
        report.wrong_dead_letters += 1;
        report.find(|| format!("{place:?} is marked as a dead letter and there is none"));
    }
    Ok(())
}

/// What scoring a record offline gives.
struct Expected {
    /// The verdict's JSON; `None` for a record that has none.
    verdict: Option<Vec<u8>>,
    is_raised: bool,
}

/// Scores every record as the detector should have.
fn expected(flows: &[OwnedMessage], model: &Arc<Model>, policy: &AlertPolicy) -> Result<BTreeMap<Place, Expected>> {
    let alerting = policy.bind(model)?;
    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs())?;
    let mut scorer = model.scorer();
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    let mut all = BTreeMap::new();
    for flow in flows {
        records.clear();
        let place = (flow.partition(), flow.offset());
        let decoded = flow.payload().is_some_and(|value| decoder.decode(0, value, &mut records).is_ok());
        let mut expected = Expected { verdict: None, is_raised: false };
        if decoded && let Ok(score) = scorer.score(&records).get(0) {
            let origin = Origin {
                topic: flow.topic(),
                partition: place.0,
                offset: place.1,
                timestamp_ms: flow.timestamp().to_millis(),
            };
            let verdict = Verdict::new(model, origin, score);
            expected = Expected { verdict: Some(serde_json::to_vec(&verdict)?), is_raised: alerting.raises(&verdict) };
        }
        all.insert(place, expected);
    }
    Ok(all)
}

/// The kind of fault, where a message among the verdicts marks that there is none.
fn mark(outcome: &OwnedMessage) -> Option<String> {
    let json: Value = serde_json::from_slice(outcome.payload()?).ok()?;
    json["dead_letter"].as_str().map(str::to_owned)
}

/// The place in a key `topic/partition/offset`.
fn place_of(message: &OwnedMessage, topics: &Topics) -> Result<Place> {
    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
    let parts = key.strip_prefix(&topics.flows).and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
    let (partition, offset) = parts.with_context(|| format!("`{key}` is no place in `{}`", topics.flows))?;
    Ok((partition.parse()?, offset.parse()?))
}

fn header<'a>(message: &'a OwnedMessage, name: &str) -> Result<&'a str> {
    let mut all = message.headers().into_iter().flat_map(Headers::iter);
    let found = all.find(|header| header.key == name).and_then(|header| header.value);
    Ok(std::str::from_utf8(found.with_context(|| format!("a dead letter without {name}"))?)?)
}

/// Everything in a topic that is committed, partition by partition in order.
fn read(connection: &Connection, topic: &str) -> Result<Vec<OwnedMessage>> {
    let mut messages = Vec::new();
    read_all(connection, topic, |message| messages.push(message.detach()))?;
    messages.sort_by_key(|message| (message.partition(), message.offset()));
    Ok(messages)
}
