//! The metadata of a saved stage: a line of JSON.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::table::{self, Table};

/// The metadata of a saved stage.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) class: String,
    pub(super) uid: String,
    pub(super) spark_version: String,
    pub(super) directory: PathBuf,
    /// Of the metadata.
    path: PathBuf,
    json: Value,
}

impl Metadata {
    /// Reads the stage in `directory`: the first line of the first part of `metadata/` that has one.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(Error::spark(directory, "no such directory; expected a model as Spark saves it"));
        }
        let path = directory.join("metadata");
        if path.is_file() {
            return Err(Error::spark(&path, LOCAL_FORMAT));
        }
        if !path.is_dir() {
            let hint = if directory.join("sparkml").is_dir() { "; try the directory `sparkml` in it" } else { "" };
            let detail = format!("it has no metadata directory: not a model as Spark saves it{hint}");
            return Err(Error::spark(directory, detail));
        }
        let mut line = None;
        for name in table::visible_names(&path)?.iter().filter(|name| name.starts_with("part-")) {
            let text = read_text(&path.join(name))?;
            line = text.lines().next().filter(|line| !line.trim().is_empty()).map(str::to_owned);
            if line.is_some() {
                break;
            }
        }
        let line = line.ok_or_else(|| Error::spark(&path, "no part file holds the metadata"))?;
        let json: Value = serde_json::from_str(&line)
            .map_err(|error| Error::spark(&path, format!("the metadata is no JSON: {error}")))?;
        let text = |key: &str| {
            json[key]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::spark(&path, format!("the metadata has no `{key}`")))
        };
        Ok(Self {
            class: text("class")?,
            uid: text("uid")?,
            spark_version: text("sparkVersion")?,
            json,
            directory: directory.into(),
            path,
        })
    }

    /// The stage's table.
    pub(super) fn data(&self) -> Result<Table> {
        self.table("data")
    }

    /// The table in the directory `name` of the stage.
    pub(super) fn table(&self, name: &str) -> Result<Table> {
        let path = self.directory.join(name);
        if path.is_file() {
            return Err(Error::spark(&path, LOCAL_FORMAT));
        }
        if !path.is_dir() {
            return Err(Error::spark(&path, "no such directory: the model is not complete"));
        }
        Table::read(&path)
    }

    /// The error of a stage that is not as Spark saves it.
    pub(super) fn damaged(&self, detail: impl Into<String>) -> Error {
        Error::spark(&self.directory, detail)
    }

    /// Major and minor version of the Spark that saved the stage.
    pub(super) fn version(&self) -> Result<(u32, u32)> {
        let mut numbers = self.spark_version.split(['.', '-']).map(|number| number.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(Error::spark(&self.path, format!("`{}` is no version of Spark", self.spark_version))),
        }
    }

    /// Every column that the stage reads.
    pub(super) fn input_columns(&self) -> Vec<&str> {
        let many = self.param("inputCols").and_then(Value::as_array).into_iter().flatten();
        let one = ["inputCol", "featuresCol"].iter().filter_map(|key| self.param(key));
        many.chain(one).filter_map(Value::as_str).collect()
    }

    /// The error of a stage that cannot be scored.
    pub(super) fn unsupported(&self, hint: &str) -> Error {
        let hint = Some(hint).filter(|hint| !hint.is_empty()).map(str::to_owned);
        Error::UnsupportedStage { uid: self.uid.clone(), class: self.class.clone(), hint }
    }

    /// The error of a parameter that is not what Spark writes.
    fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::spark(&self.path, format!("parameter `{key}` of `{}` is not {expected}", self.uid))
    }

    /// A parameter as it was set, else its default.
    pub(super) fn param(&self, key: &str) -> Option<&Value> {
        ["paramMap", "defaultParamMap"].iter().find_map(|map| self.json[map].get(key))
    }

    pub(super) fn text(&self, key: &str) -> Result<String> {
        let value = self.param(key).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| self.wrong(key, "a string"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        self.param(key).and_then(Value::as_bool).ok_or_else(|| self.wrong(key, "a boolean"))
    }

    /// A list of strings; empty where the parameter is not set.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.param(key) else { return Ok(Vec::new()) };
        let texts =
            value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        texts.ok_or_else(|| self.wrong(key, "a list of strings"))
    }

    /// A string; `None` where it is empty or not set.
    pub(super) fn optional_text(&self, key: &str) -> Result<Option<String>> {
        if self.param(key).is_none() {
            return Ok(None);
        }
        Ok(Some(self.text(key)?).filter(|text| !text.is_empty()))
    }

    /// The columns of a stage that takes one (`inputCol`) or many (`inputCols`).
    pub(super) fn one_or_many(&self, one: &str, many: &str) -> Result<Vec<String>> {
        let columns = self.texts(many)?;
        if columns.is_empty() { Ok(vec![self.text(one)?]) } else { Ok(columns) }
    }

    /// A double; Spark writes those that are not finite as strings.
    pub(super) fn double(&self, key: &str) -> Result<f64> {
        self.param(key).and_then(double).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn doubles(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.param(key) else { return Ok(None) };
        let doubles = value.as_array().and_then(|items| items.iter().map(double).collect());
        doubles.map(Some).ok_or_else(|| self.wrong(key, "a list of numbers"))
    }

    /// A list of lists of doubles; `None` where the parameter is not set.
    pub(super) fn double_lists(&self, key: &str) -> Result<Option<Vec<Vec<f64>>>> {
        let Some(value) = self.param(key) else { return Ok(None) };
        let list = |list: &Value| list.as_array()?.iter().map(double).collect();
        let lists = value.as_array().and_then(|lists| lists.iter().map(list).collect());
        lists.map(Some).ok_or_else(|| self.wrong(key, "a list of lists of numbers"))
    }

    /// A list of positions.
    pub(super) fn positions(&self, key: &str) -> Result<Vec<usize>> {
        let position = |value: &Value| usize::try_from(value.as_u64()?).ok();
        let positions = self.param(key).and_then(Value::as_array).and_then(|all| all.iter().map(position).collect());
        positions.ok_or_else(|| self.wrong(key, "a list of positions"))
    }

    /// A vector, `{"type":1,"values":[...]}` or `{"type":0,"size":..,"indices":[..],"values":[..]}`.
    pub(super) fn vector(&self, key: &str) -> Result<Vec<f64>> {
        /// A damaged file must not ask for gigabytes.
        const MOST: usize = 1 << 20;
        let vector = || {
            let json = self.param(key)?;
            let values: Vec<f64> = json["values"].as_array()?.iter().map(double).collect::<Option<_>>()?;
            if json["type"].as_u64()? == 1 {
                return Some(values);
            }
            let size = usize::try_from(json["size"].as_u64()?).ok().filter(|&size| size <= MOST)?;
            let mut dense = vec![0.0; size];
            for (index, value) in json["indices"].as_array()?.iter().zip(values) {
                *dense.get_mut(usize::try_from(index.as_u64()?).ok()?)? = value;
            }
            Some(dense)
        };
        vector().ok_or_else(|| self.wrong(key, "a vector"))
    }

    /// A count that stands beside the parameters, e.g. `numClasses`.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        let count = self.json[key].as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.wrong(key, "a count"))
    }
}

/// What to do about a model in the format of the Connect server's cache.
const LOCAL_FORMAT: &str = "it is a file, as in Spark's local cache of models; save the model with `model.save(path)`";

/// Longest metadata, in bytes, unpacked: a damaged file must not ask for gigabytes.
const LONGEST: u64 = 256 << 20;

/// The text of a file, unpacked where its name says that it is packed.
fn read_text(path: &Path) -> Result<String> {
    let wrong = |error| Error::io(path, error);
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mut text = String::new();
    let read = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => MultiGzDecoder::new(file).take(LONGEST).read_to_string(&mut text),
        Some(extension @ ("bz2" | "deflate" | "snappy" | "lz4" | "zst")) => {
            return Err(Error::spark(
                path,
                format!("metadata packed as `{extension}` cannot be read; gzip and plain text can"),
            ));
        }
        _ => file.take(LONGEST).read_to_string(&mut text),
    };
    read.map_err(wrong)?;
    Ok(text)
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Inf" | "Infinity" => Some(f64::INFINITY),
            "-Inf" | "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        number => number.as_f64(),
    }
}
