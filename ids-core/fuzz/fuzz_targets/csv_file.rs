//! A file of flows, as any bytes: rows are what `csv` makes of them.
#![no_main]

#[allow(dead_code)] // the other target uses the rest
#[path = "../../tests/common/oracle.rs"]
mod oracle;

use std::path::Path;
use std::sync::Arc;

use ids_core::decode::Read;
use ids_core::{FlowReader, FlowRecords, Schema, describe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(card) = describe(bytes, "flows.csv", None) {
        let rows = card.rows;
        assert_eq!(rows.read, rows.flows + rows.rejected + rows.repeated_headers + rows.empty_rows);
        let _ = card.to_string();
    }
    let schema = Arc::new(Schema::unsw_nb15());
    oracle::check_csv(&schema, bytes);
    let mut records = FlowRecords::new(Arc::clone(&schema));
    let Ok(mut reader) = FlowReader::new(bytes, Path::new("flows.csv"), schema, &["dur".into()]) else { return };
    while let Ok(Read::Flow | Read::Bad(_)) = reader.read(&mut records) {}
});
