//! What is kept of the rows of a data set: of each distinct row its hash and how often each class has it, and of some
//! rows the values.

use rustc_hash::FxHashMap;

use crate::record::FlowRecord;
use crate::rows::Slot;
use crate::schema::{ColumnKind, Schema};
use crate::split::Fingerprint;

use super::MOST_SAMPLED;

/// All rows.
#[derive(Debug)]
pub(super) struct Rows {
    fingerprint: Fingerprint,
    pub(super) n_rows: u64,
    /// Rows with these features and this class.
    pub(super) equal: FxHashMap<(u64, u16), u32>,
    pub(super) classes: Vec<String>,
    /// Rows of each class.
    pub(super) class_counts: Vec<u64>,
    /// The label columns.
    pub(super) labels: Vec<LabelColumn>,
    /// How often the label columns have these values together.
    pub(super) label_sets: FxHashMap<Vec<u32>, u64>,
    pub(super) sample: Sample,
}

/// A column of labels, as text.
#[derive(Debug)]
pub(super) struct LabelColumn {
    pub(super) name: String,
    slot: usize,
    values: FxHashMap<String, u32>,
}

/// Some rows with their values.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) columns: Vec<Column>,
    /// Per row: position of its class.
    pub(super) classes: Vec<u16>,
    /// Per row: the hash of its features.
    pub(super) fingerprints: Vec<u64>,
    /// Per row: a number that is drawn from its place in the file.
    draws: Vec<u64>,
    /// Rows whose draw is not below are left out.
    limit: u64,
}

/// A column of the sample.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    slot: Slot,
    pub(super) values: Values,
}

/// Its values, per row.
#[derive(Debug)]
pub(super) enum Values {
    /// NaN where missing.
    Numbers(Vec<f64>),
    /// Positions among the distinct texts; [`MISSING`] where missing.
    Texts { codes: Vec<u32>, names: Vec<String>, positions: FxHashMap<String, u32> },
}

pub(super) const MISSING: u32 = u32::MAX;

impl Rows {
    pub(super) fn new(schema: &Schema) -> Self {
        let columns = || schema.columns().iter().enumerate();
        let labels = columns().filter_map(|(position, column)| match (column.kind, schema.slot(position)) {
            (ColumnKind::Label, Slot::Text(slot)) => {
                Some(LabelColumn { name: column.name.clone(), slot, values: FxHashMap::default() })
            }
            _ => None,
        });
        let sampled = columns().filter(|(_, column)| column.kind != ColumnKind::Label);
        let sampled = sampled.filter_map(|(position, column)| {
            let slot = schema.slot(position);
            let values = match slot {
                Slot::Number(_) => Values::Numbers(Vec::new()),
                Slot::Text(_) => {
                    Values::Texts { codes: Vec::new(), names: Vec::new(), positions: FxHashMap::default() }
                }
                Slot::Vector(_) => return None,
            };
            Some(Column { name: column.name.clone(), kind: column.kind, slot, values })
        });
        Self {
            fingerprint: Fingerprint::new(schema, 0),
            n_rows: 0,
            equal: FxHashMap::default(),
            classes: Vec::new(),
            class_counts: Vec::new(),
            labels: labels.collect(),
            label_sets: FxHashMap::default(),
            sample: Sample {
                columns: sampled.collect(),
                classes: Vec::new(),
                fingerprints: Vec::new(),
                draws: Vec::new(),
                limit: u64::MAX,
            },
        }
    }

    pub(super) fn add(&mut self, flow: FlowRecord<'_>, label: &str) {
        let class = self.classes.iter().position(|class| class == label).unwrap_or_else(|| {
            self.classes.push(label.into());
            self.class_counts.push(0);
            self.classes.len() - 1
        });
        self.class_counts[class] += 1;
        // Data sets have tens of classes.
        let class = class.min(usize::from(u16::MAX)) as u16;
        let hash = self.fingerprint.of(flow);
        *self.equal.entry((hash, class)).or_default() += 1;
        let set = self.labels.iter_mut().map(|column| {
            let text = flow.row().text(column.slot).unwrap_or_default();
            match column.values.get(text) {
                Some(&value) => value,
                None => {
                    let value = column.values.len() as u32;
                    column.values.insert(text.into(), value);
                    value
                }
            }
        });
        *self.label_sets.entry(set.collect()).or_default() += 1;
        self.sample.add(self.n_rows, flow, class, hash);
        self.n_rows += 1;
    }
}

impl Sample {
    pub(super) fn n_rows(&self) -> usize {
        self.classes.len()
    }

    /// Keeps the row where its draw is below the limit. A sample that is full gives up those of the upper half: what
    /// is kept is uniform at any time.
    fn add(&mut self, row: u64, flow: FlowRecord<'_>, class: u16, hash: u64) {
        let draw = drawn(row);
        if draw >= self.limit {
            return;
        }
        if self.n_rows() == MOST_SAMPLED {
            self.limit /= 2;
            self.thin();
            if draw >= self.limit {
                return;
            }
        }
        for column in &mut self.columns {
            column.push(flow);
        }
        self.classes.push(class);
        self.fingerprints.push(hash);
        self.draws.push(draw);
    }

    fn thin(&mut self) {
        let stay: Vec<bool> = self.draws.iter().map(|&draw| draw < self.limit).collect();
        for column in &mut self.columns {
            match &mut column.values {
                Values::Numbers(values) => keep(values, &stay),
                Values::Texts { codes, .. } => keep(codes, &stay),
            }
        }
        keep(&mut self.classes, &stay);
        keep(&mut self.fingerprints, &stay);
        keep(&mut self.draws, &stay);
    }
}

fn keep<T>(values: &mut Vec<T>, stay: &[bool]) {
    let mut stay = stay.iter();
    values.retain(|_| *stay.next().expect("one for each row"));
}

/// A number that looks drawn at random, the same each time: SplitMix64 (Steele et al., OOPSLA 2014).
fn drawn(row: u64) -> u64 {
    let mut x = row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Column {
    fn push(&mut self, flow: FlowRecord<'_>) {
        match (&mut self.values, self.slot) {
            (Values::Numbers(values), Slot::Number(slot)) => values.push(flow.row().number(slot).unwrap_or(f64::NAN)),
            (Values::Texts { codes, names, positions }, Slot::Text(slot)) => {
                codes.push(flow.row().text(slot).map_or(MISSING, |text| match positions.get(text) {
                    Some(&position) => position,
                    None => {
                        let position = names.len() as u32;
                        names.push(text.into());
                        positions.insert(text.into(), position);
                        position
                    }
                }));
            }
            _ => {}
        }
    }

    /// Whether no row has a value.
    pub(super) fn is_empty(&self) -> bool {
        match &self.values {
            Values::Numbers(values) => values.iter().all(|value| value.is_nan()),
            Values::Texts { codes, .. } => codes.iter().all(|&code| code == MISSING),
        }
    }

    /// The numbers: of a column of texts, where all that are there read as such.
    pub(super) fn numbers(&self) -> Option<Vec<f64>> {
        match &self.values {
            Values::Numbers(values) => Some(values.clone()),
            Values::Texts { codes, names, .. } => {
                let parsed: Option<Vec<f64>> = names.iter().map(|name| name.trim().parse().ok()).collect();
                let parsed = parsed?;
                Some(codes.iter().map(|&code| parsed.get(code as usize).copied().unwrap_or(f64::NAN)).collect())
            }
        }
    }
}
