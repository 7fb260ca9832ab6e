//! Verdicts that policy decides to raise, as Elastic Common Schema JSON: what a SOC already reads.
//!
//! Which column goes into which ECS field is written in the schema's table (`ecs = "source.ip"`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::record::FlowRecord;
use crate::rows::Slot;
use crate::schema::Schema;
use crate::score::Score;
use crate::verdict::Verdict;

/// The version of the Elastic Common Schema that alerts follow.
pub const ECS_VERSION: &str = "8.17.0";

/// Which verdicts become alerts: those of an attack whose probability reaches a threshold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertPolicy {
    /// Least probability, from 0 to 1, for classes without a threshold of their own. With 0, the
    /// default, every attack raises an alert.
    pub threshold: f64,
    /// Least probability by class.
    pub by_class: BTreeMap<String, f64>,
}

/// A policy bound to a model: thresholds by position of the class, and how alerts are laid out.
#[derive(Debug, Clone)]
pub struct Alerting {
    thresholds: Vec<f64>,
    benign: usize,
    layout: Object,
}

impl AlertPolicy {
    /// Binds the policy to the classes and columns of `model`.
    ///
    /// # Errors
    /// [`Error::Policy`] where a threshold is not from 0 to 1 or belongs to no attack class of the model.
    pub fn bind(&self, model: &Model) -> Result<Alerting> {
        let check = |threshold: f64| {
            if (0.0..=1.0).contains(&threshold) {
                Ok(threshold)
            } else {
                Err(Error::Policy { detail: format!("the threshold {threshold} is not from 0 to 1") })
            }
        };
        let mut thresholds = vec![check(self.threshold)?; model.classes().len()];
        for (class, &threshold) in &self.by_class {
            match model.classes().iter().position(|known| known == class) {
                Some(position) if position != model.benign() => thresholds[position] = check(threshold)?,
                _ => {
                    let attacks = model.classes().iter().filter(|known| **known != model.classes()[model.benign()]);
                    let attacks = attacks.map(String::as_str).collect::<Vec<_>>().join(", ");
                    let detail = format!("`{class}` is no attack class of the model; those are {attacks}");
                    return Err(Error::Policy { detail });
                }
            }
        }
        Ok(Alerting { thresholds, benign: model.benign(), layout: Object::of(model.schema()) })
    }
}

impl Alerting {
    /// Whether the verdict becomes an alert.
    pub fn raises(&self, verdict: &Verdict<'_>) -> bool {
        self.reaches(verdict.prediction, verdict.probability)
    }

    /// Whether predicting the class at `prediction` with that probability raises an alert.
    pub fn reaches(&self, prediction: usize, probability: f64) -> bool {
        prediction != self.benign && probability >= self.thresholds[prediction]
    }

    /// The alert for a verdict of `model` on a flow; `read_at_ms` is when the flow was read, in milliseconds since
    /// 1970-01-01 UTC.
    pub fn alert<'a>(
        &'a self,
        model: &'a Model,
        verdict: &'a Verdict<'a>,
        flow: FlowRecord<'a>,
        score: &'a Score<'a>,
        read_at_ms: i64,
    ) -> Alert<'a> {
        Alert { layout: &self.layout, told: Told { model, verdict, flow, score, read_at_ms } }
    }
}

/// An alert, serialised as `docs/alert.schema.json` describes it.
///
/// `@timestamp` is the record's own time, or else when it was read; `event.risk_score` (0 to 100) is the
/// probability that the flow is an attack of any class.
#[derive(Debug, Clone, Copy)]
pub struct Alert<'a> {
    layout: &'a Object,
    told: Told<'a>,
}

impl Serialize for Alert<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.layout.serialize(&self.told, serializer)
    }
}

/// What an alert tells of.
#[derive(Debug, Clone, Copy)]
struct Told<'a> {
    model: &'a Model,
    verdict: &'a Verdict<'a>,
    flow: FlowRecord<'a>,
    score: &'a Score<'a>,
    read_at_ms: i64,
}

/// Where the value of a field comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Timestamp,
    Message,
    Id,
    RiskScore,
    Class,
    Probability,
    Probabilities,
    Ruleset,
    ModelVersion,
    Origin,
    Text(&'static str),
    Texts(&'static [&'static str]),
    /// A number of the flow. ECS counts packets and bytes in whole numbers.
    Number(usize),
    /// A text of the flow, up to where Elasticsearch ignores keywords (`ignore_above`).
    Keyword(usize),
    /// A text of the flow that is a port.
    Port(usize),
    /// A text of the flow that is an address.
    Ip(usize),
}

/// The fields of every alert; the columns that the schema gives a field join them.
const FIELDS: [(&str, Source); 18] = [
    ("@timestamp", Source::Timestamp),
    ("ecs.version", Source::Text(ECS_VERSION)),
    ("message", Source::Message),
    ("event.kind", Source::Text("alert")),
    ("event.category", Source::Texts(&["intrusion_detection", "network"])),
    ("event.type", Source::Texts(&["info"])),
    ("event.module", Source::Text("ids")),
    ("event.dataset", Source::Text("ids.alerts")),
    ("event.id", Source::Id),
    ("event.risk_score", Source::RiskScore),
    ("rule.name", Source::Class),
    ("rule.ruleset", Source::Ruleset),
    ("rule.version", Source::ModelVersion),
    ("ids.class", Source::Class),
    ("ids.probability", Source::Probability),
    ("ids.probabilities", Source::Probabilities),
    ("ids.model", Source::ModelVersion),
    ("ids.origin", Source::Origin),
];

/// A JSON object: its fields in order.
#[derive(Debug, Clone, Default)]
struct Object(Vec<(String, Node)>);

#[derive(Debug, Clone)]
enum Node {
    Object(Object),
    Value(Source),
}

impl Object {
    /// The layout of alerts on flows of `schema`.
    fn of(schema: &Schema) -> Self {
        let mut layout = Self::default();
        for (path, source) in FIELDS {
            layout.set(path, source);
        }
        for (position, column) in schema.columns().iter().enumerate() {
            let Some(path) = &column.ecs else { continue };
            let source = match (schema.slot(position), path.rsplit('.').next()) {
                (Slot::Number(slot), _) => Source::Number(slot),
                (Slot::Text(slot), Some("port")) => Source::Port(slot),
                (Slot::Text(slot), Some("ip")) => Source::Ip(slot),
                (Slot::Text(slot), _) => Source::Keyword(slot),
                (Slot::Vector(_), _) => continue,
            };
            layout.set(path, source);
        }
        layout
    }

    /// Sets the field at a dotted path.
    fn set(&mut self, path: &str, source: Source) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let position = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), Node::Object(Self::default())));
            self.0.len() - 1
        });
        match (&mut self.0[position].1, rest) {
            (Node::Object(inner), Some(rest)) => inner.set(rest, source),
            // A field is an object or has a value: the first to name it decides.
            (Node::Value(_), Some(_)) => {}
            (node, None) => *node = Node::Value(source),
        }
    }

    /// Whether any field has a value.
    fn is_there(&self, told: &Told<'_>) -> bool {
        self.0.iter().any(|(_, node)| node.is_there(told))
    }

    fn serialize<S: Serializer>(&self, told: &Told<'_>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, node) in self.0.iter().filter(|(_, node)| node.is_there(told)) {
            map.serialize_entry(name, &Field { node, told })?;
        }
        map.end()
    }
}

impl Node {
    fn is_there(&self, told: &Told<'_>) -> bool {
        let text = |slot| present(told.flow.row().text(slot));
        match *self {
            Self::Object(ref inner) => inner.is_there(told),
            Self::Value(Source::Number(slot)) => told.flow.row().number(slot).is_some_and(f64::is_finite),
            Self::Value(Source::Keyword(slot)) => text(slot).is_some(),
            Self::Value(Source::Port(slot)) => text(slot).is_some_and(|text| text.parse::<u16>().is_ok()),
            Self::Value(Source::Ip(slot)) => text(slot).is_some_and(|text| text.parse::<IpAddr>().is_ok()),
            Self::Value(_) => true,
        }
    }
}

/// `-` is how flow tools write that there is none.
fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| *text != "-")
}

/// A field that is there, with what it tells of.
struct Field<'a> {
    node: &'a Node,
    told: &'a Told<'a>,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Told { model, verdict, flow, score, read_at_ms } = *self.told;
        let text = |slot| present(flow.row().text(slot)).unwrap_or_default();
        match *self.node {
            Node::Object(ref inner) => inner.serialize(self.told, serializer),
            Node::Value(source) => match source {
                Source::Timestamp => {
                    let at_ms = verdict.origin.timestamp_ms.unwrap_or(read_at_ms);
                    serializer.collect_str(&Timestamp::from_millisecond(at_ms).unwrap_or_default())
                }
                Source::Message => serializer
                    .collect_str(&format_args!("{} with probability {:.3}", verdict.class, verdict.probability)),
                Source::Id => serializer.collect_str(&verdict.origin),
                // Rounding can leave the sum of the others a hair outside.
                Source::RiskScore => {
                    serializer.serialize_f64((100.0 * (1.0 - score.probabilities[model.benign()])).clamp(0.0, 100.0))
                }
                Source::Class => serializer.serialize_str(verdict.class),
                Source::Probability => serializer.serialize_f64(verdict.probability),
                Source::Probabilities => verdict.probabilities.serialize(serializer),
                Source::Ruleset => serializer.serialize_str(model.schema().name()),
                Source::ModelVersion => serializer.serialize_str(verdict.model),
                Source::Origin => verdict.origin.serialize(serializer),
                Source::Text(text) => serializer.serialize_str(text),
                Source::Texts(texts) => texts.serialize(serializer),
                Source::Number(slot) => serialize_number(flow.row().number(slot).unwrap_or_default(), serializer),
                Source::Keyword(slot) => serializer.serialize_str(truncated(text(slot))),
                Source::Port(slot) => text(slot).parse::<u16>().ok().serialize(serializer),
                Source::Ip(slot) => text(slot).parse::<IpAddr>().ok().serialize(serializer),
            },
        }
    }
}

/// A whole number where it is one.
fn serialize_number<S: Serializer>(x: f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if x.fract() == 0.0 && x.abs() <= EXACT { serializer.serialize_i64(x as i64) } else { serializer.serialize_f64(x) }
}

/// A keyword up to where Elasticsearch ignores it.
fn truncated(text: &str) -> &str {
    const IGNORE_ABOVE: usize = 1024;
    text.char_indices().nth(IGNORE_ABOVE).map_or(text, |(end, _)| &text[..end])
}
