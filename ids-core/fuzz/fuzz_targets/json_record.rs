//! A JSON record, as any bytes, after another: what `serde_json` makes of it.
#![no_main]

#[allow(dead_code)] // the other target uses the rest
#[path = "../../tests/common/oracle.rs"]
mod oracle;

use std::sync::Arc;

use ids_core::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (before, message) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&b""[..], bytes),
    };
    oracle::check_json(&Arc::new(Schema::unsw_nb15()), before, message);
});
