//! The body of a model file, as any bytes, with the length and checksum that belong to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|body: &[u8]| {
    let mut bytes = b"IDSMODEL\x02\0\0\0".to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(body);
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    std::fs::write(&path, bytes).expect("writes");
    if let Err(error) = ids_core::Model::load(&path) {
        assert!(error.to_string().contains("model.ids"), "{error}");
    }
});
