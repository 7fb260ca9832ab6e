//! The metadata of a saved forest, as any bytes.
#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;

mod fixture;

thread_local! {
    static FIXTURE: LazyCell<fixture::Fixture> = LazyCell::new(|| fixture::Fixture::new("metadata"));
}

fuzz_target!(|bytes: &[u8]| FIXTURE.with(|fixture| fixture.read_with(bytes)));
