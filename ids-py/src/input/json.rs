//! JSON in memory: one record, or one per line.

use std::ops::Range;
use std::sync::Arc;

use ids_core::{FlowRecords, JsonDecoder, RecordErrorKind, Schema};
use pyo3::PyResult;

use crate::errors;
use crate::outputs::{Source, TILE, Tile};

/// Records, one per line.
pub(crate) struct JsonRows<'a> {
    decoder: JsonDecoder,
    empty: FlowRecords,
    lines: Vec<&'a [u8]>,
}

impl<'a> JsonRows<'a> {
    pub(crate) fn new(bytes: &'a [u8], schema: &Arc<Schema>, inputs: &[String]) -> PyResult<Self> {
        let mut decoder = JsonDecoder::new(Arc::clone(schema), inputs).map_err(errors::core)?;
        let mut records = FlowRecords::new(Arc::clone(schema));
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
        // One record on several lines: its first line is none, and the whole is.
        if lines.len() > 1
            && let Err(error) = decoder.decode(0, lines[0], &mut records)
            && matches!(error.kind, RecordErrorKind::Truncated { .. })
            && decoder.decode(0, bytes, &mut records).is_ok()
        {
            lines = vec![bytes];
        }
        records.clear();
        Ok(Self { decoder, empty: records, lines })
    }
}

impl Source for JsonRows<'_> {
    type Decoder = (JsonDecoder, FlowRecords);

    fn n_rows(&self) -> usize {
        self.lines.len()
    }

    fn decoder(&self) -> Self::Decoder {
        (self.decoder.clone(), self.empty.clone())
    }

    fn tile<'a>(&'a self, (decoder, records): &'a mut Self::Decoder, range: Range<usize>) -> Tile<'a> {
        let lines = &self.lines[range.start..range.end.min(range.start + TILE)];
        let mut bad = Vec::new();
        records.clear();
        for (row, line) in lines.iter().enumerate() {
            if let Err(error) = decoder.decode(row as u64, line, records) {
                bad.push((row, error));
            }
        }
        Tile { n_rows: lines.len(), range: 0..records.len(), records, bad }
    }
}
