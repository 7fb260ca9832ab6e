//! What the integration tests share.
#![allow(dead_code)] // Each test file uses a part of it.

pub(crate) mod golden;
pub(crate) mod headers;
pub(crate) mod real_files;

use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where real flows are: `IDS_DATA`, else `../shared/data` beside the repository.
pub(crate) fn real_data() -> PathBuf {
    let directory = std::env::var_os("IDS_DATA").filter(|path| !path.is_empty()).map(PathBuf::from);
    directory.unwrap_or_else(|| repository().join("../shared/data"))
}

/// The real flows of UNSW-NB15, if they are there.
pub(crate) fn real_flows() -> Option<PathBuf> {
    Some(real_data().join("unsw-nb15/flows.csv")).filter(|path| path.is_file())
}

pub(crate) fn bits_of(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Reads a double as C99 (`printf("%a")`, Python's `float.hex()`) writes it.
pub(crate) fn hexadecimal_double(text: &str) -> f64 {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let magnitude = match digits {
        "nan" => f64::NAN,
        "inf" => f64::INFINITY,
        _ => {
            let (mantissa, exponent) = digits.strip_prefix("0x").and_then(|d| d.split_once('p')).expect(text);
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            let scaled = u64::from_str_radix(&format!("{whole}{fraction}"), 16).expect(text) as f64;
            let exponent: i32 = exponent.parse().expect(text);
            // Two steps, each exact: subnormals are out of reach of one power of two.
            let power = exponent - 4 * fraction.len() as i32;
            scaled * 2f64.powi(power / 2) * 2f64.powi(power - power / 2)
        }
    };
    if negative { -magnitude } else { magnitude }
}
