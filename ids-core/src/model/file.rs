//! The model file: reading and writing. Its layout is documented in `docs/model-file.md`:
//!
//! magic `IDSMODEL` | format version, u32 | length of the body, u64 | body, CBOR | SHA-256 of all before
//!
//! Integers are little-endian. The body is CBOR (RFC 8949) because it keeps every double, NaN
//! included, and can be read without this library.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Model, OutputColumns, Provenance};
use crate::alert::AlertPolicy;
use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::pipeline::Stage;
use crate::schema::Schema;
use crate::whole_file;

const MAGIC: &[u8; 8] = b"IDSMODEL";
/// Version 4 has `alerts`, version 5 the `holdout` of a training; what older ones lack is a policy without thresholds,
/// and no split.
const FORMAT_VERSION: u32 = 5;
const OLDEST_VERSION: u32 = 3;
const HEADER_LENGTH: usize = MAGIC.len() + 4 + 8;
const CHECKSUM_LENGTH: usize = 32;
/// More than any forest needs; what claims more is refused before it is read.
const MOST_LENGTH: u64 = 2 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    schema: Cow<'a, Schema>,
    stages: Cow<'a, [Stage]>,
    features_column: Cow<'a, str>,
    forest: Cow<'a, Forest>,
    classes: Cow<'a, [String]>,
    output_columns: Cow<'a, OutputColumns>,
    provenance: Cow<'a, Provenance>,
    #[serde(default)]
    alerts: Cow<'a, AlertPolicy>,
}

/// The bytes of the model's file.
pub(super) fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    let body = Body {
        schema: Cow::Borrowed(&model.schema),
        stages: Cow::Borrowed(model.predictor.pipeline().stages()),
        features_column: Cow::Borrowed(model.predictor.features_column()),
        forest: Cow::Borrowed(model.forest()),
        classes: Cow::Borrowed(&model.classes),
        output_columns: Cow::Borrowed(&model.columns),
        provenance: Cow::Borrowed(&model.provenance),
        alerts: Cow::Borrowed(&model.alerts),
    };
    let mut cbor = Vec::new();
    ciborium::into_writer(&body, &mut cbor).map_err(|error| Error::Model { detail: error.to_string() })?;
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + cbor.len() + CHECKSUM_LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(cbor.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&cbor);
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    Ok(bytes)
}

/// What a model is, without where it comes from, as CBOR.
#[cfg(feature = "train")]
pub(super) fn content(model: &Model) -> Result<Vec<u8>> {
    let mut cbor = Vec::new();
    let stages = model.predictor.pipeline().stages();
    let content = (&*model.schema, stages, model.predictor.features_column(), model.forest(), &model.classes);
    ciborium::into_writer(&content, &mut cbor).map_err(|error| Error::Model { detail: error.to_string() })?;
    Ok(cbor)
}

pub(super) fn write(model: &Model, path: &Path) -> Result<()> {
    let bytes = to_bytes(model)?;
    whole_file::write(path, &bytes)
}

pub(super) fn read(path: &Path) -> Result<Model> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let length = file.metadata().map_err(|error| Error::io(path, error))?.len();
    // The header first: a file that is no model may be larger than memory.
    let mut bytes = Vec::new();
    let read = |file: &mut File, most: u64, bytes: &mut Vec<u8>| file.take(most).read_to_end(bytes);
    read(&mut file, HEADER_LENGTH as u64, &mut bytes).map_err(|error| Error::io(path, error))?;
    check_header(&bytes, length).map_err(|detail| Error::ModelFile { path: path.into(), detail })?;
    read(&mut file, length, &mut bytes).map_err(|error| Error::io(path, error))?;
    from_bytes(&bytes, path)
}

/// The model in `bytes`, of which errors speak as `path`.
pub(super) fn from_bytes(bytes: &[u8], path: &Path) -> Result<Model> {
    parse(bytes).map_err(|detail| Error::ModelFile { path: path.into(), detail })
}

/// Checks the header, which begins `bytes`, of a file of `length` bytes.
fn check_header(bytes: &[u8], length: u64) -> std::result::Result<(), String> {
    if !bytes.starts_with(MAGIC) {
        return Err("not a model file (it does not start with `IDSMODEL`); `ids import` makes one from a directory that Spark saved".into());
    }
    let truncated = || "the file is truncated".to_owned();
    let header = bytes.get(..HEADER_LENGTH).ok_or_else(truncated)?;
    let (version, body_length) = header[MAGIC.len()..].split_at(4);
    let version = u32::from_le_bytes(version.try_into().map_err(|_| truncated())?);
    let body_length = u64::from_le_bytes(body_length.try_into().map_err(|_| truncated())?);
    if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&version) {
        return Err(format!(
            "it has format version {version}; this library reads versions {OLDEST_VERSION} to {FORMAT_VERSION}"
        ));
    }
    match body_length.checked_add((HEADER_LENGTH + CHECKSUM_LENGTH) as u64) {
        Some(expected) if expected == length => {}
        Some(expected) if expected < length => return Err("bytes follow the end of the model".into()),
        _ => return Err(truncated()),
    }
    if length > MOST_LENGTH {
        return Err(format!("it has {length} bytes; a model has {MOST_LENGTH} at most"));
    }
    Ok(())
}

/// The model in `bytes`, or what is wrong with them.
fn parse(bytes: &[u8]) -> std::result::Result<Model, String> {
    check_header(bytes, bytes.len() as u64)?;
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LENGTH);
    if Sha256::digest(content)[..] != *checksum {
        return Err("the checksum is wrong: the file is damaged".into());
    }
    let body: Body<'static> = ciborium::from_reader(&content[HEADER_LENGTH..])
        .map_err(|error| format!("the body cannot be read: {error}"))?;
    let (stages, classes) = (body.stages.into_owned(), body.classes.into_owned());
    let (columns, provenance) = (body.output_columns.into_owned(), body.provenance.into_owned());
    Model::new(body.schema.into_owned(), stages, &body.features_column, &body.forest, classes, columns, provenance)
        .and_then(|model| model.with_alerts(body.alerts.into_owned()))
        .map_err(|error| error.to_string())
}
