//! Records broken on purpose, each in a way that producers in the wild break them.

use rand::RngExt;
use rand::rngs::StdRng;

/// A way to break a record.
#[derive(Debug, Clone, Copy)]
pub struct Breakage {
    /// Its name, which travels in a header.
    pub name: &'static str,
    /// Makes the broken value from a good JSON object; `None` is a tombstone.
    make: fn(&str) -> Option<Vec<u8>>,
}

/// All the ways.
pub const BREAKAGES: [Breakage; 12] = [
    Breakage { name: "empty", make: |_| Some(Vec::new()) },
    Breakage { name: "tombstone", make: |_| None },
    Breakage { name: "truncated", make: |json| Some(json.as_bytes()[..json.len() / 2].to_vec()) },
    Breakage { name: "no_object", make: |json| Some(format!("[{json}]").into_bytes()) },
    Breakage {
        name: "text_for_number",
        make: |json| Some(json.replacen("\"dur\":", "\"dur\":\"long\",\"x\":", 1).into()),
    },
    Breakage {
        name: "number_for_text",
        make: |json| Some(json.replacen("\"proto\":", "\"proto\":6,\"x\":", 1).into()),
    },
    Breakage { name: "overflow", make: |json| Some(json.replacen("\"dur\":", "\"dur\":1e309,\"x\":", 1).into()) },
    Breakage { name: "missing_column", make: |json| Some(json.replacen("\"dur\":", "\"x\":", 1).into()) },
    Breakage { name: "duplicate_column", make: |json| Some(json.replacen('{', &first_field_twice(json), 1).into()) },
    Breakage { name: "nul_bytes", make: |json| Some(vec![0; json.len()]) },
    Breakage { name: "invalid_utf8", make: |json| Some([json.as_bytes(), b"\xff\xfe"].concat()) },
    Breakage { name: "csv", make: |_| Some(b"0.000011,udp,-,INT,2,0,496,0".to_vec()) },
];

/// The opening brace of a JSON object with its first field, for another time.
fn first_field_twice(json: &str) -> String {
    json.find(',').map_or_else(|| "{,".into(), |end| json[..=end].to_owned())
}

impl Breakage {
    /// One of the ways that breaks the record `json` (not every record has every column), at random.
    pub fn draw(rng: &mut StdRng, json: &str) -> Self {
        loop {
            let breakage = BREAKAGES[rng.random_range(0..BREAKAGES.len())];
            if breakage.apply(json).as_deref() != Some(json.as_bytes()) {
                return breakage;
            }
        }
    }

    /// The broken value of the record `json`; `None` is a tombstone.
    pub fn apply(self, json: &str) -> Option<Vec<u8>> {
        (self.make)(json)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ids_core::{FlowRecords, JsonDecoder, Schema};

    use super::*;

    #[test]
    fn every_breakage_breaks() {
        let schema = Arc::new(Schema::unsw_nb15());
        let mut decoder = JsonDecoder::new(Arc::clone(&schema), &["dur".into(), "proto".into()]).expect("a decoder");
        let mut records = FlowRecords::new(schema);
        let good = r#"{"dur":0.5,"proto":"tcp","sload":1}"#;
        decoder.decode(0, good.as_bytes(), &mut records).expect("good");
        for breakage in BREAKAGES {
            if let Some(value) = breakage.apply(good) {
                assert!(decoder.decode(0, &value, &mut records).is_err(), "{}", breakage.name);
            }
        }
        assert_eq!(records.len(), 1);
    }
}
