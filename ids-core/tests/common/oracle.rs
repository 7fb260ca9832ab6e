//! What `serde_json` and `csv` make of the same bytes: each function panics where a decoder makes something else of them.
//!
//! Used by a property test and by fuzz targets.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use ids_core::decode::{CsvDecoder, FlowReader, Read};
use ids_core::schema::{ColumnKind, Schema};
use ids_core::{FlowRecord, FlowRecords, JsonDecoder, RecordError};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Decodes `message` with a decoder that has just met `before`, with one that has met the message itself, and with a
/// new one: all must make the same of it, which is what `serde_json` makes of it.
pub(crate) fn check_json(schema: &Arc<Schema>, before: &[u8], message: &[u8]) {
    let decode = |earlier: &[&[u8]]| {
        let mut decoder = JsonDecoder::new(Arc::clone(schema), &[]).expect("a decoder");
        let mut records = FlowRecords::new(Arc::clone(schema));
        for message in earlier {
            let _ = decoder.decode(0, message, &mut records);
        }
        records.clear();
        decoder.decode(0, message, &mut records).map(|()| records)
    };
    let found = decode(&[]);
    for earlier in [&[before][..], &[message], &[before, message], &[message, before]] {
        assert_eq!(written(&decode(earlier)), written(&found), "after {}", earlier.len());
    }
    let shown = String::from_utf8_lossy(message);
    match (serde_json::from_slice::<Object>(message), found) {
        (Ok(object), found) => compare(schema, &object, found, &shown),
        (Err(_), Err(_)) => {}
        // Beside JSON there are three more numbers, and what the schema does not know is read no closer than needed.
        (Err(error), Ok(_)) => {
            let is_more = ["NaN", "Infinity", "[", ":{", ": "].iter().any(|token| shown.contains(token));
            assert!(is_more, "{error} in {shown}, which was taken");
        }
    }
}

/// All that was decoded, or the error.
fn written(found: &Result<FlowRecords, RecordError>) -> String {
    match found {
        Ok(records) => records.get(0).to_json(),
        Err(error) => error.to_string(),
    }
}

/// The members of an object, in order, each as often as it is there.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

fn compare(schema: &Schema, object: &Object, found: Result<FlowRecords, RecordError>, shown: &str) {
    let mut seen = vec![false; schema.columns().len()];
    for (key, value) in &object.0 {
        let Some(position) = schema.position(key) else { continue };
        let kind = schema.columns()[position].kind;
        let is_right = match value {
            Value::Null => true,
            Value::Number(_) => kind != ColumnKind::Category,
            Value::String(_) => !kind.is_number(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
        };
        if std::mem::replace(&mut seen[position], true) || !is_right {
            assert!(found.is_err(), "`{key}` was taken in {shown}");
            return;
        }
    }
    let records = found.unwrap_or_else(|error| panic!("{error} in {shown}"));
    for (key, value) in &object.0 {
        let Some(position) = schema.position(key) else { continue };
        let column = &schema.columns()[position];
        let flow: FlowRecord<'_> = records.get(0);
        if column.kind.is_number() {
            let (expected, found) = (value.as_f64(), flow.number(&column.name));
            assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "`{key}` of {shown}");
        } else {
            let text = flow.text(&column.name);
            match value {
                Value::Number(number) => {
                    let written = text.and_then(|text| text.parse::<f64>().ok());
                    assert_eq!(written.map(f64::to_bits), number.as_f64().map(f64::to_bits), "`{key}` of {shown}");
                }
                value => assert_eq!(text, value.as_str(), "`{key}` of {shown}"),
            }
        }
    }
}

/// Reads a file, whole and through a buffer that holds next to nothing of it: rows are split as `csv` splits them, and each
/// is a flow, an error or skipped for what its fields are; as a message of its own it is the same.
pub(crate) fn check_csv(schema: &Arc<Schema>, file: &[u8]) {
    check_csv_of(schema, file, file);
    check_csv_of(schema, file, BufReader::with_capacity(7, file));
}

fn check_csv_of(schema: &Arc<Schema>, file: &[u8], input: impl BufRead) {
    let [mut records, mut of_message] = [(); 2].map(|()| FlowRecords::new(Arc::clone(schema)));
    let Ok(mut reader) = FlowReader::new(input, "flows.csv", Arc::clone(schema), &[]) else { return };
    let Some(columns) = reader.columns().cloned() else { return };
    let mut decoder = CsvDecoder::new(Arc::clone(schema), &[], columns.clone()).expect("no inputs are asked for");
    let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
    let mut rows = rows.byte_records().map(|row| row.expect("memory does not fail"));
    let first = rows.next().expect("a header, or a row of a layout");
    assert_eq!(columns.names().len(), first.len());
    let is_header = schema.is_header(&first.iter().map(String::from_utf8_lossy).collect::<Vec<_>>());
    for row in (!is_header).then(|| first.clone()).into_iter().chain(rows) {
        if (row.len() > 1 && row.iter().all(<[u8]>::is_empty)) || (is_header && row.iter().eq(first.iter())) {
            continue;
        }
        records.clear();
        let read = reader.read(&mut records).expect("memory does not fail");
        let fields = columns.positions().iter().zip(&row).filter_map(|(position, field)| Some(((*position)?, field)));
        let is_good = row.len() == columns.positions().len()
            && fields.clone().all(|(position, field)| is_value(schema.columns()[position].kind, field));
        assert_eq!(matches!(read, Read::Flow), is_good, "{row:?}: {read:?}");
        let mut message = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        message.write_byte_record(&row).expect("memory does not fail");
        of_message.clear();
        let decoded = decoder.decode(0, &message.into_inner().expect("memory does not fail"), &mut of_message);
        assert_eq!(decoded.is_ok(), is_good, "{row:?}: {decoded:?}");
        if !is_good {
            continue;
        }
        for (position, field) in fields {
            let column = &schema.columns()[position];
            let text = std::str::from_utf8(field).expect("a value");
            if column.kind.is_number() {
                let (found, expected) = (records.get(0).number(&column.name), text.trim_ascii().parse::<f64>().ok());
                assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{row:?}");
                let found = of_message.get(0).number(&column.name);
                assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{row:?} as a message");
            } else {
                assert_eq!(records.get(0).text(&column.name).unwrap_or_default(), text, "{row:?}");
                assert_eq!(of_message.get(0).text(&column.name).unwrap_or_default(), text, "{row:?} as a message");
            }
        }
    }
    assert_eq!(reader.read(&mut records).expect("memory does not fail"), Read::End);
}

/// Whether a field can stand in a column of that kind.
fn is_value(kind: ColumnKind, field: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(field) else { return false };
    let number = text.trim_ascii();
    match kind {
        _ if !kind.is_number() => !text.contains('\0'),
        _ if number.is_empty() => true,
        // `1e999` is infinite, and no infinity.
        _ => number.parse::<f64>().is_ok_and(|x| x.is_finite() || !number.bytes().any(|byte| byte.is_ascii_digit())),
    }
}
