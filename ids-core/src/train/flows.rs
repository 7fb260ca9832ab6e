//! Labelled flows, column by column: what a forest is trained on.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::record::FlowRecord;
use crate::rows::Slot;
use crate::schema::{ColumnKind, Schema};
use crate::split::Holdout;

/// Labelled flows of one schema, without what no model may take.
///
/// Memory: 8 bytes for each number, 4 for each category, and a copy of each distinct category.
#[derive(Debug, Clone)]
pub struct TrainingFlows {
    schema: Arc<Schema>,
    numbers: Vec<Numbers>,
    categories: Vec<Categories>,
    /// The class of each flow, spelt as the schema spells it.
    labels: Categories,
    holdout: Option<Holdout>,
}

/// A column of numbers.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) name: String,
    slot: usize,
    pub(super) is_integer: bool,
    /// Per row; NaN where it is missing, which is what the imputer takes it for.
    pub(super) values: Vec<f64>,
}

/// A column of texts, each of which is a position among the distinct ones.
#[derive(Debug, Clone)]
pub(super) struct Categories {
    pub(super) name: String,
    slot: usize,
    positions: FxHashMap<String, u32>,
    /// Per row; [`MISSING`] where it is missing.
    pub(super) codes: Vec<u32>,
}

/// The code of a missing category.
pub(super) const MISSING: u32 = u32::MAX;

impl Categories {
    fn new(name: &str, slot: usize) -> Self {
        Self { name: name.into(), slot, positions: FxHashMap::default(), codes: Vec::new() }
    }

    fn push(&mut self, value: Option<&str>) {
        let code = value.map(|value| match self.positions.get(value) {
            Some(&position) => position,
            None => {
                let position = self.positions.len() as u32;
                self.positions.insert(value.into(), position);
                position
            }
        });
        self.codes.push(code.unwrap_or(MISSING));
    }

    /// Whether it has no value in any row.
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The distinct values as Spark's StringIndexer orders them, the most frequent first and equally frequent ones by
    /// name; and, per code, its position among them.
    pub(super) fn by_frequency(&self) -> (Vec<String>, Vec<u32>) {
        let mut counts = vec![0u64; self.positions.len()];
        for &code in self.codes.iter().filter(|&&code| code != MISSING) {
            counts[code as usize] += 1;
        }
        let mut values: Vec<_> = self.positions.iter().collect();
        values.sort_by_key(|(value, code)| (std::cmp::Reverse(counts[**code as usize]), *value));
        let mut ranks = vec![0; values.len()];
        for (rank, (_, code)) in (0..).zip(&values) {
            ranks[**code as usize] = rank;
        }
        (values.into_iter().map(|(value, _)| value.clone()).collect(), ranks)
    }
}

impl TrainingFlows {
    /// No flows yet.
    ///
    /// # Errors
    /// [`Error::Training`] where the schema does not say which column holds the class.
    pub fn new(schema: Arc<Schema>) -> Result<Self> {
        let Some(labels) = schema.labels() else {
            return Err(Error::training(format!(
                "schema `{}` does not say which column holds the class",
                schema.name()
            )));
        };
        let labels = Categories::new(&labels.column, 0);
        let (mut numbers, mut categories) = (Vec::new(), Vec::new());
        for (position, column) in schema.columns().iter().enumerate() {
            let name = &column.name;
            match (column.kind, schema.slot(position)) {
                (ColumnKind::Label | ColumnKind::Identifier, _) | (_, Slot::Vector(_)) => {}
                (kind, Slot::Number(slot)) => numbers.push(Numbers {
                    name: name.clone(),
                    slot,
                    is_integer: kind == ColumnKind::Integer,
                    values: Vec::new(),
                }),
                (_, Slot::Text(slot)) => categories.push(Categories::new(name, slot)),
            }
        }
        Ok(Self { numbers, categories, labels, schema, holdout: None })
    }

    /// Notes that the flows are the training side of a split. The model will say so, and an evaluation can tell whether it
    /// is asked of other rows.
    pub fn set_holdout(&mut self, holdout: Holdout) {
        self.holdout = Some(holdout);
    }

    /// The split of which they are the training side, if one was noted.
    pub fn holdout(&self) -> Option<&Holdout> {
        self.holdout.as_ref()
    }

    /// Leaves out the inputs whose names are not to stay.
    pub fn retain(&mut self, mut stays: impl FnMut(&str) -> bool) {
        self.numbers.retain(|column| stays(&column.name));
        self.categories.retain(|column| stays(&column.name));
    }

    /// Takes a flow of the schema; `false`, and not taken, where it has no label.
    pub fn push(&mut self, flow: &FlowRecord<'_>) -> bool {
        let Some(label) = flow.label() else { return false };
        self.labels.push(Some(label));
        let row = flow.row();
        for column in &mut self.numbers {
            column.values.push(row.number(column.slot).unwrap_or(f64::NAN));
        }
        for column in &mut self.categories {
            column.push(row.text(column.slot));
        }
        true
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.labels.codes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.codes.is_empty()
    }

    /// The schema of the flows.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The classes, the most frequent first, and the class of each flow.
    ///
    /// # Errors
    /// Where there are not two classes, one of them benign.
    pub(super) fn classes(&self) -> Result<(Vec<String>, Vec<u32>)> {
        let (classes, ranks) = self.labels.by_frequency();
        match &classes[..] {
            [] => {
                let column = &self.labels.name;
                return Err(Error::training(format!("there is no labelled flow (column `{column}`)")));
            }
            [only] => {
                return Err(Error::training(format!(
                    "the flows are all of class `{only}`: there is nothing to tell apart"
                )));
            }
            _ => {}
        }
        let benign = self.schema.labels().map(|labels| &labels.benign);
        if let Some(benign) = benign.filter(|benign| !classes.contains(benign)) {
            return Err(Error::training(format!(
                "no flow is of the benign class `{benign}`: without it every flow is an attack; there are {}",
                classes.join(", ")
            )));
        }
        Ok((classes, self.labels.codes.iter().map(|&code| ranks[code as usize]).collect()))
    }

    /// The columns that a model may take.
    pub(super) fn into_columns(self) -> (Vec<Numbers>, Vec<Categories>) {
        (self.numbers, self.categories)
    }
}
