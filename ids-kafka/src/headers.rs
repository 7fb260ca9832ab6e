//! Names of the headers that travel with a record. All start with `ids.`.

use std::borrow::Cow;
use std::ffi::CStr;
use std::{ptr, slice};

use ids_core::DeadLetter;
use rdkafka::bindings::rd_kafka_header_get_all;
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

/// Name and value of each header. A name that is no UTF-8 is told as far as it is.
///
/// (`Headers::iter` of rdkafka 0.39 panics there, and whoever may write to a topic may send such a name.)
#[allow(unsafe_code)]
pub fn iter(headers: &BorrowedHeaders) -> impl Iterator<Item = (Cow<'_, str>, Option<&[u8]>)> {
    (0..headers.count()).map_while(move |position| {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: a `BorrowedHeaders` lies where librdkafka's headers lie, and lives no longer than they do. Where there is
        // a header librdkafka points to its name, which ends in NUL, and to its value, which may be none, of that length.
        unsafe {
            let raw = ptr::from_ref(headers).cast();
            let error = rd_kafka_header_get_all(raw, position, &raw mut name, &raw mut value, &raw mut length);
            if error as i32 != 0 {
                return None;
            }
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), length));
            Some((CStr::from_ptr(name).to_string_lossy(), value))
        }
    })
}

/// Whether a header came with a record, and is not what a detector said of it.
pub fn is_of_record(name: &str) -> bool {
    !name.starts_with(PREFIX) || PASSED_ON.contains(&name)
}

/// The headers of a dead letter that say why it is one, as [`of_dead_letter`] gives them.
pub(crate) fn reason(all: &BorrowedHeaders) -> Vec<(String, String)> {
    let is_reason = |name: &str| !is_of_record(name) && ![CUT_FROM, CUT_HEADERS].contains(&name);
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    iter(all).filter(|(name, _)| is_reason(name)).map(|(name, value)| (name.into_owned(), text(value))).collect()
}

/// Text of the header `name`.
pub fn text<'a>(headers: &'a BorrowedHeaders, name: &str) -> Option<&'a str> {
    let (_, value) = iter(headers).find(|(own, _)| own == name)?;
    std::str::from_utf8(value?).ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_headers_destroy, rd_kafka_headers_new};

    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn a_name_that_is_no_text_is_passed_on_as_far_as_it_is() {
        // SAFETY: librdkafka copies what it is given, and the headers are destroyed after their last use.
        unsafe {
            let raw = rd_kafka_headers_new(2);
            for (name, value) in [(&b"a\xffb"[..], &b"1"[..]), (b"ids.label", b"DoS")] {
                let (n, m) = (name.len() as isize, value.len() as isize);
                rd_kafka_header_add(raw, name.as_ptr().cast(), n, value.as_ptr().cast(), m);
            }
            let headers = &*raw.cast::<BorrowedHeaders>();
            let all: Vec<_> = iter(headers).collect();
            assert_eq!(all, [("a\u{fffd}b".into(), Some(&b"1"[..])), ("ids.label".into(), Some(&b"DoS"[..]))]);
            assert_eq!((text(headers, LABEL), text(headers, SEQUENCE)), (Some("DoS"), None));
            rd_kafka_headers_destroy(raw);
        }
    }
}
