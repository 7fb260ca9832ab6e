//! A JSON record, as any bytes.
#![no_main]

use std::sync::Arc;

use ids_core::{FlowRecords, JsonDecoder, Schema};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let schema = Arc::new(Schema::unsw_nb15());
    let mut records = FlowRecords::new(Arc::clone(&schema));
    let mut decoder = JsonDecoder::new(schema, &["dur".into(), "proto".into()]).expect("a decoder");
    let is_flow = decoder.decode(0, bytes, &mut records).is_ok();
    assert_eq!(records.len(), usize::from(is_flow));
});
