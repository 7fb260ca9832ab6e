//! What makes two rows equal: a hash that is the same on every machine and in every release.

use sha2::{Digest, Sha256};

use crate::record::FlowRecord;
use crate::rows::Slot;
use crate::schema::Schema;

/// Hashes the values of some columns of a record to 64 bits: the first 8 bytes, little-endian, of a SHA-256.
///
/// Of `n` different rows two have one hash with probability n²/2⁶⁵: for ten million, 3 in a million.
/// Hashed are the seed and, in the order of the names, name and value of each column that is not missing: doubles by
/// their bits, where -0 is 0 and all NaN are one, texts by their bytes. So columns that a later release of the schema
/// adds change no hash of a source that lacks them.
#[derive(Debug, Clone)]
pub struct Fingerprint {
    schema: String,
    /// In the order of the names.
    columns: Vec<(String, Slot)>,
    seed: u64,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// Of all columns that a model may take: neither labels nor identifiers.
    pub fn new(schema: &Schema, seed: u64) -> Self {
        let fields = schema.fields().iter().enumerate();
        let positions: Vec<_> = fields.filter(|(_, field)| field.is_input).map(|(position, _)| position).collect();
        Self::of_columns(schema, &positions, seed)
    }

    /// Of the columns at `positions`.
    pub fn of_columns(schema: &Schema, positions: &[usize], seed: u64) -> Self {
        let column = |&position: &usize| (schema.columns()[position].name.clone(), schema.slot(position));
        let mut columns: Vec<_> = positions.iter().map(column).collect();
        columns.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        columns.dedup();
        Self { schema: schema.name().to_owned(), columns, seed, bytes: Vec::new() }
    }

    /// Names of the columns, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The hash of a record.
    ///
    /// # Panics
    /// Where the record is of another schema.
    pub fn of(&mut self, record: FlowRecord<'_>) -> u64 {
        self.collect(record);
        let digest = Sha256::digest(&self.bytes);
        u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// The hash of a record; `None` where none of the columns has a value.
    ///
    /// # Panics
    /// As [`Fingerprint::of`].
    pub fn of_present(&mut self, record: FlowRecord<'_>) -> Option<u64> {
        let hash = self.of(record);
        (self.bytes.len() > SEED_LENGTH).then_some(hash)
    }

    /// Writes down what is hashed. Names and texts are preceded by their length, so that no two rows read alike.
    fn collect(&mut self, record: FlowRecord<'_>) {
        assert_eq!(record.schema().name(), self.schema, "a record of another schema");
        let Self { columns, bytes, .. } = self;
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        bytes.clear();
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        for (name, slot) in columns {
            match *slot {
                Slot::Number(slot) => {
                    let Some(value) = record.row().number(slot) else { continue };
                    text(bytes, name);
                    bytes.extend_from_slice(&canonical(value).to_bits().to_le_bytes());
                }
                Slot::Text(slot) => {
                    let Some(value) = record.row().text(slot) else { continue };
                    text(bytes, name);
                    text(bytes, value);
                }
                // Flows have none.
                Slot::Vector(_) => {}
            }
        }
    }
}

const SEED_LENGTH: usize = size_of::<u64>();

/// One NaN and one 0.
fn canonical(value: f64) -> f64 {
    match value {
        _ if value.is_nan() => f64::from_bits(0x7ff8_0000_0000_0000),
        0.0 => 0.0,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::JsonDecoder;
    use crate::record::FlowRecords;

    /// Hashes of records of a schema with the columns `names`, the last a category, the others numbers.
    fn hashes(names: &[&str], rows: &[&str], seed: u64) -> Vec<u64> {
        let column = |(i, name)| {
            let kind = if i + 1 == names.len() { "category" } else { "number" };
            format!("{{ name = \"{name}\", kind = \"{kind}\" }},")
        };
        let columns: String = names.iter().enumerate().map(column).collect();
        let text = format!("name = \"x\"\ncolumns = [{columns} {{ name = \"id\", kind = \"identifier\" }}]");
        let schema = Arc::new(Schema::from_toml(&text).expect("a schema"));
        let mut records = FlowRecords::new(Arc::clone(&schema));
        let mut decoder = JsonDecoder::new(Arc::clone(&schema), &[]).expect("a decoder");
        for row in rows {
            decoder.decode(0, row.as_bytes(), &mut records).expect("a record");
        }
        let mut fingerprint = Fingerprint::new(&schema, seed);
        records.iter().map(|record| fingerprint.of(record)).collect()
    }

    #[test]
    fn equal_is_what_a_model_cannot_tell_apart() {
        let rows = [r#"{"a":0,"t":"x","id":"1"}"#, r#"{"t":"x","a":-0.0,"id":"2"}"#, r#"{"a":1e-300,"t":"x"}"#];
        let more = [r#"{"t":"x"}"#, r#"{"a":NaN,"t":"x"}"#, r#"{"a":NaN,"t":"x"}"#, r#"{"a":0,"t":"y"}"#];
        let found = hashes(&["a", "b", "t"], &[&rows[..], &more[..]].concat(), 0);
        assert_eq!((found[0], found[4]), (found[1], found[5]), "-0 is 0, NaN is NaN, names do not matter");
        for (i, j) in [(0, 2), (0, 3), (0, 4), (0, 6), (3, 4)] {
            assert_ne!(found[i], found[j], "{i} and {j}");
        }
    }

    /// Sides must not move from release to release. The value is that of `hashlib` in Python:
    /// `sha256(le64(7) + le64(1) + b"a" + double(1.5) + le64(1) + b"t" + le64(3) + b"tcp")`.
    #[test]
    fn it_is_the_same_in_every_release() {
        let row = [r#"{"a":1.5,"t":"tcp"}"#];
        let expected = [14_090_288_313_355_796_924];
        assert_eq!(hashes(&["a", "t"], &row, 7), expected);
        assert_eq!(hashes(&["b", "a", "t"], &row, 7), expected, "a column that the source lacks changes nothing");
        assert_ne!(hashes(&["a", "t"], &row, 8), expected);
    }
}
