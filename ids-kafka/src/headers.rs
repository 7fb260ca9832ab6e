//! Names of the headers that travel with a record. All start with `ids.`.

use ids_core::DeadLetter;
use rdkafka::message::{BorrowedHeaders, Headers};

/// What all our headers start with.
pub const PREFIX: &str = "ids.";
/// Number of the record in its replay, from 0.
pub const SEQUENCE: &str = "ids.seq";
/// Class of the flow, if the replayed file gave one.
pub const LABEL: &str = "ids.label";
/// When the record was due to be sent, in microseconds since 1970-01-01 UTC. Latency counts from
/// here, so that a producer that falls behind does not flatter the detector.
pub const SCHEDULED_US: &str = "ids.scheduled_us";
/// How a record was made malformed on purpose.
pub const MALFORMED: &str = "ids.malformed";

/// Of a dead letter: the full length of its value, which was cut.
pub const CUT_FROM: &str = "ids.cut_from_bytes";
/// Of a dead letter: the number of the record's headers that were left out.
pub const CUT_HEADERS: &str = "ids.cut_headers";

/// The headers that the detector passes on from a flow to what it says of it.
pub const PASSED_ON: [&str; 4] = [SEQUENCE, LABEL, SCHEDULED_US, MALFORMED];

/// Name and value of the headers that say why a record is a dead letter.
pub fn of_dead_letter(dead_letter: &DeadLetter<'_>) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(dead_letter) else { return Vec::new() };
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.into_iter().map(|(field, value)| (format!("{PREFIX}{field}"), text(value))).collect()
}

/// The headers of a dead letter that say why it is one, as [`of_dead_letter`] gives them.
pub(crate) fn reason(all: &BorrowedHeaders) -> Vec<(String, String)> {
    let is_reason =
        |name: &str| name.starts_with(PREFIX) && !PASSED_ON.contains(&name) && ![CUT_FROM, CUT_HEADERS].contains(&name);
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    all.iter().filter(|header| is_reason(header.key)).map(|header| (header.key.into(), text(header.value))).collect()
}

/// Text of the header `name`.
pub fn text<'a>(headers: &'a BorrowedHeaders, name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()
}
