//! Verdicts that policy decides to raise, as Elastic Common Schema JSON: what a SOC already reads.
//!
//! Which column goes into which ECS field is written in the schema's table (`ecs = "source.ip"`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::record::FlowRecord;
use crate::rows::Slot;
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

/// A policy bound to a model: thresholds by position of the class.
#[derive(Debug, Clone)]
pub struct Alerting {
    thresholds: Vec<f64>,
}

impl AlertPolicy {
    /// Binds the policy to the classes of `model`.
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
        Ok(Alerting { thresholds })
    }
}

impl Alerting {
    /// Whether the verdict becomes an alert.
    pub fn raises(&self, verdict: &Verdict<'_>) -> bool {
        verdict.attack && verdict.probability >= self.thresholds[verdict.prediction]
    }
}

/// The alert for a verdict on a flow, as `docs/alert.schema.json` describes it.
///
/// `@timestamp` is the record's own time, or else `read_at_ms`, when it was read (milliseconds since
/// 1970-01-01 UTC); `event.risk_score` (0 to 100) is the probability that the flow is an attack of any
/// class.
pub fn alert(
    model: &Model,
    verdict: &Verdict<'_>,
    flow: FlowRecord<'_>,
    score: &crate::Score<'_>,
    read_at_ms: i64,
) -> Value {
    let at = Timestamp::from_millisecond(verdict.origin.timestamp_ms.unwrap_or(read_at_ms)).unwrap_or_default();
    let risk = 100.0 * (1.0 - score.probabilities[model.benign()]);
    let mut alert = json!({
        "@timestamp": at.to_string(),
        "ecs": { "version": ECS_VERSION },
        "message": format!("{} with probability {:.3}", verdict.class, verdict.probability),
        "event": {
            "kind": "alert",
            "category": ["intrusion_detection", "network"],
            "type": ["info"],
            "module": "ids",
            "dataset": "ids.alerts",
            "id": verdict.origin.key(),
            // Rounding can leave the sum of the others a hair outside.
            "risk_score": risk.clamp(0.0, 100.0),
        },
        "rule": { "name": verdict.class, "ruleset": model.schema().name(), "version": verdict.model },
        "ids": {
            "class": verdict.class,
            "probability": verdict.probability,
            "probabilities": verdict.probabilities,
            "model": verdict.model,
            "origin": verdict.origin,
        },
    });
    if let Value::Object(fields) = &mut alert {
        for (position, column) in model.schema().columns().iter().enumerate() {
            let Some(path) = &column.ecs else { continue };
            let value = match model.schema().slot(position) {
                Slot::Number(slot) => flow.row().number(slot).map(whole_if_possible),
                // `-` is how flow tools write that there is none.
                Slot::Text(slot) => flow.row().text(slot).filter(|text| *text != "-").map(|text| ecs_text(path, text)),
                Slot::Vector(_) => None,
            };
            if let Some(value) = value.filter(|value| !value.is_null()) {
                set(fields, path, value);
            }
        }
    }
    alert
}

/// ECS counts packets and bytes in whole numbers.
fn whole_if_possible(x: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if x.fract() == 0.0 && x.abs() <= EXACT { json!(x as i64) } else { json!(x) }
}

/// A text as the type of its field: ports are numbers and addresses are addresses; what cannot be read
/// as such is left out. Keywords end where Elasticsearch ignores them (`ignore_above`).
fn ecs_text(path: &str, text: &str) -> Value {
    const IGNORE_ABOVE: usize = 1024;
    match path.rsplit('.').next() {
        Some("port") => text.parse::<u16>().map_or(Value::Null, Value::from),
        Some("ip") => text.parse::<IpAddr>().map_or(Value::Null, |address| Value::from(address.to_string())),
        _ => Value::from(text.chars().take(IGNORE_ABOVE).collect::<String>()),
    }
}

/// Sets the field at a dotted path.
fn set(fields: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            fields.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            if let Value::Object(inner) = fields.entry(first).or_insert_with(|| json!({})) {
                set(inner, rest, value);
            }
        }
    }
}
