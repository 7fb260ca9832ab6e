//! Which rows are for training and which for testing, so that no row is tested of which an equal was learnt.
//!
//! A [`Holdout`] says how; bound to a schema it is a [`Splitter`], to which every row is shown once, in order, and
//! which then knows the [`Side`] of each. It keeps 16 bytes a row, whatever the row holds. Rows are equal where all
//! values are that a model may take ([`Fingerprint`]): labels, addresses and times do not count.
//!
//! Nothing here is random: the same rows, split and seed give the same sides on every machine and in every release.

mod fingerprint;
mod time;

use std::collections::BTreeSet;
use std::fmt;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::FlowRecord;
use crate::rows::Slot;
use crate::schema::Schema;

pub use fingerprint::Fingerprint;
use time::Clock;

/// How rows are parted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "split")]
pub enum Split {
    /// By a hash of all values that a model may take: equal rows fall on one side. It flatters a detector, for
    /// training and test rows are of the same hours and hosts.
    Hash,
    /// By a hash of these columns: rows that agree in all of them fall on one side.
    Group {
        /// Their names. Without any, the columns that the schema maps to `source.ip` and `destination.ip`.
        columns: Vec<String>,
    },
    /// By time: the last rows are for testing, as it is when a detector serves.
    Time {
        /// The column with the time: numbers; or dates and times as ISO 8601 and RFC 3339 write them; or
        /// `day/month/year hour:minute[:second]`, with AM or PM. Without AM and PM these are refused where no hour
        /// shows that the clock has 24: CIC-IDS2017 writes 3:30 for 15:30.
        column: String,
    },
}

/// A split, and how much of the rows it holds out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holdout {
    /// How rows are parted.
    #[serde(flatten)]
    pub split: Split,
    /// Share of the rows to test with, above 0 and below 1. By hash and group it is met in expectation: what is
    /// hashed has a side, not each row.
    pub test_share: f64,
    /// Which of the many splits by hash or group; by time there is one.
    pub seed: u64,
}

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// To the training rows.
    Train,
    /// To the test rows.
    Test,
    /// To neither: it would be tested and equals a training row. By hash there are none.
    Repeated,
    /// To neither: it has no time, or none of the columns to group by has a value.
    Unplaced,
}

/// How many rows there are on each side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SideCounts {
    /// For training.
    pub train: u64,
    /// For testing.
    pub test: u64,
    /// Left out of the test because they equal a training row.
    pub repeated: u64,
    /// On neither side because they have no time or group.
    pub unplaced: u64,
}

impl SideCounts {
    /// Counts `sides`.
    pub fn of(sides: &[Side]) -> Self {
        let mut counts = Self::default();
        for side in sides {
            *match side {
                Side::Train => &mut counts.train,
                Side::Test => &mut counts.test,
                Side::Repeated => &mut counts.repeated,
                Side::Unplaced => &mut counts.unplaced,
            } += 1;
        }
        counts
    }
}

impl Default for Holdout {
    /// 30 % of the rows, by hash, seed 0.
    fn default() -> Self {
        Self { split: Split::Hash, test_share: 0.3, seed: 0 }
    }
}

impl fmt::Display for Holdout {
    /// As the options of `ids train` and `ids evaluate` that ask for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { split, test_share, seed } = self;
        let by = match split {
            Split::Hash => write!(f, "--split hash").map(|()| &[][..]),
            Split::Group { columns } => write!(f, "--split group").map(|()| &columns[..]),
            Split::Time { column } => write!(f, "--split time").map(|()| std::slice::from_ref(column)),
        }?;
        for column in by {
            let is_plain = column.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            let quote = if is_plain { "" } else { "'" };
            write!(f, " --by {quote}{column}{quote}")?;
        }
        write!(f, " --test-share {test_share} --seed {seed}")
    }
}

impl Holdout {
    /// Whether all rows that `other` tests are held out by this one too, of every file of `schema`: it is the same split
    /// with no larger a share. By time a seed changes nothing.
    ///
    /// # Errors
    /// [`Error::Split`] where the schema lacks a column.
    pub fn covers(&self, other: &Self, schema: &Schema) -> Result<bool> {
        let by_time = matches!(self.split, Split::Time { .. });
        // In whatever order they are named.
        let columns = |split: &Self| split.columns(schema).map(BTreeSet::from_iter);
        let is_alike = std::mem::discriminant(&self.split) == std::mem::discriminant(&other.split)
            && columns(self)? == columns(other)?;
        Ok(is_alike && (by_time || self.seed == other.seed) && other.test_share <= self.test_share)
    }

    /// Positions of the columns to split by.
    fn columns(&self, schema: &Schema) -> Result<Vec<usize>> {
        let position = |name: &String| {
            let unknown = || refused(format!("schema `{}` has no column `{name}`", schema.name()));
            schema.position(name).ok_or_else(unknown)
        };
        match &self.split {
            Split::Hash => Ok(Vec::new()),
            Split::Time { column } => Ok(vec![position(column)?]),
            Split::Group { columns } if columns.is_empty() => {
                let is_address = |ecs: &str| matches!(ecs, "source.ip" | "destination.ip");
                let columns = schema.columns().iter().enumerate();
                let addresses = columns.filter(|(_, column)| column.ecs.as_deref().is_some_and(is_address));
                let positions: Vec<_> = addresses.map(|(position, _)| position).collect();
                if positions.is_empty() {
                    let detail = "maps no column to source.ip or destination.ip: name the columns to group by";
                    return Err(refused(format!("schema `{}` {detail}", schema.name())));
                }
                Ok(positions)
            }
            Split::Group { columns } => columns.iter().map(position).collect(),
        }
    }

    /// Binds the split to the columns of `schema`.
    ///
    /// # Errors
    /// [`Error::Split`] where the share is none, or the schema has no such column.
    pub fn bind(&self, schema: &Schema) -> Result<Splitter> {
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            return Err(refused(format!("the test share {} is not above 0 and below 1", self.test_share)));
        }
        let columns = self.columns(schema)?;
        let place = match &self.split {
            Split::Hash => Place::Hash,
            Split::Time { column } => Place::Time(schema.slot(columns[0]), Clock::new(column)),
            Split::Group { .. } => Place::Group(Fingerprint::of_columns(schema, &columns, self.seed)),
        };
        let features = Fingerprint::new(schema, self.seed);
        Ok(Splitter { test_share: self.test_share, place, features, keys: Vec::new() })
    }
}

/// Is shown rows, and then knows the side of each.
#[derive(Debug, Clone)]
pub struct Splitter {
    test_share: f64,
    place: Place,
    features: Fingerprint,
    keys: Vec<Key>,
}

/// What decides where a row belongs.
#[derive(Debug, Clone)]
enum Place {
    Hash,
    Group(Fingerprint),
    Time(Slot, Clock),
}

/// What is kept of a row.
#[derive(Debug, Clone, Copy)]
struct Key {
    /// Of all that a model may take.
    features: u64,
    /// A number from 0 up to 1, or the time; NaN where the row has neither group nor time.
    place: f64,
}

impl Splitter {
    /// Shows the next row; messages call it by its number, `row`.
    ///
    /// # Errors
    /// [`Error::Split`] where its time cannot be read.
    ///
    /// # Panics
    /// Where the record is of another schema.
    pub fn add(&mut self, row: u64, record: FlowRecord<'_>) -> Result<()> {
        let features = self.features.of(record);
        let place = match &mut self.place {
            Place::Hash => unit(features),
            Place::Group(group) => group.of_present(record).map_or(f64::NAN, unit),
            Place::Time(Slot::Number(slot), _) => record.row().number(*slot).unwrap_or(f64::NAN),
            Place::Time(Slot::Text(slot), clock) => match record.row().text(*slot) {
                Some(text) => clock.read(row, text)?,
                None => f64::NAN,
            },
            Place::Time(Slot::Vector(_), _) => f64::NAN,
        };
        self.keys.push(Key { features, place });
        Ok(())
    }

    /// The side of every row shown, in the order in which they came: `[n_rows]`.
    ///
    /// # Errors
    /// [`Error::Split`] where a side has no rows, or times may be of a 12-hour clock.
    pub fn sides(self) -> Result<Vec<Side>> {
        let Self { test_share, place, keys, .. } = self;
        // By time, rows from a moment on are tested: all of that moment, so that it does not straddle. Else those
        // below the share.
        let start = match &place {
            Place::Hash | Place::Group(_) => None,
            Place::Time(_, clock) => {
                clock.check()?;
                let mut times: Vec<_> = keys.iter().map(|key| key.place).filter(|time| !time.is_nan()).collect();
                times.sort_unstable_by(f64::total_cmp);
                let n_test = (times.len() as f64 * test_share).round() as usize;
                Some(times.get(times.len() - n_test).copied().unwrap_or(f64::INFINITY))
            }
        };
        let is_test = |key: &Key| start.map_or(key.place < test_share, |start| key.place >= start);
        let is_train = |key: &&Key| !key.place.is_nan() && !is_test(key);
        let learnt: FxHashSet<_> = keys.iter().filter(is_train).map(|key| key.features).collect();
        let side = |key: &Key| match is_test(key) {
            _ if key.place.is_nan() => Side::Unplaced,
            false => Side::Train,
            true if learnt.contains(&key.features) => Side::Repeated,
            true => Side::Test,
        };
        let sides: Vec<_> = keys.iter().map(side).collect();
        let SideCounts { train, test, repeated, unplaced } = SideCounts::of(&sides);
        if train > 0 && test > 0 {
            return Ok(sides);
        }
        let by = match &place {
            Place::Hash => "a hash of all features".to_owned(),
            Place::Group(group) => format!("a hash of {}", group.names().join(", ")),
            Place::Time(_, clock) => format!("time of {}", clock.column()),
        };
        let lacking = if train == 0 { "to train" } else { "to test" };
        Err(refused(format!(
            "no rows are left {lacking}: of {} rows, split by {by}, {train} would be trained on and {test} tested; \
             {repeated} of the test equal a training row and {unplaced} have no value to split by",
            sides.len()
        )))
    }
}

/// The number from 0 up to 1 that the leading 53 bits of a hash make.
fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

fn refused(detail: String) -> Error {
    Error::Split { detail }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::decode::JsonDecoder;
    use crate::record::FlowRecords;

    const SCHEMA: &str = r#"
        name = "made-up"
        columns = [
            { name = "src", kind = "identifier", ecs = "source.ip" },
            { name = "dst", kind = "identifier", ecs = "destination.ip" },
            { name = "at", kind = "identifier" },
            { name = "start", kind = "identifier" },
            { name = "n", kind = "number" },
            { name = "proto", kind = "category" },
        ]
    "#;

    fn records(rows: &[String]) -> FlowRecords {
        let schema = Arc::new(Schema::from_toml(SCHEMA).expect("a schema"));
        let mut records = FlowRecords::new(Arc::clone(&schema));
        let mut decoder = JsonDecoder::new(schema, &[]).expect("a decoder");
        for row in rows {
            decoder.decode(0, row.as_bytes(), &mut records).expect("a record");
        }
        records
    }

    fn sides(holdout: &Holdout, rows: &[String]) -> Result<Vec<Side>> {
        let records = records(rows);
        let mut splitter = holdout.bind(records.schema()).expect("it fits");
        for (row, record) in (1..).zip(records.iter()) {
            splitter.add(row, record)?;
        }
        splitter.sides()
    }

    fn by_time(column: &str, test_share: f64) -> Holdout {
        Holdout { split: Split::Time { column: column.into() }, test_share, seed: 0 }
    }

    fn by_group(columns: &[&str], test_share: f64, seed: u64) -> Holdout {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Holdout { split: Split::Group { columns }, test_share, seed }
    }

    #[test]
    fn a_split_covers_those_that_test_no_more() {
        let schema = Schema::from_toml(SCHEMA).expect("a schema");
        let by_hash = |test_share, seed| Holdout { split: Split::Hash, test_share, seed };
        let covers = |one: &Holdout, other: &Holdout| one.covers(other, &schema).expect("the columns are there");
        assert!(covers(&by_hash(0.3, 1), &by_hash(0.3, 1)) && covers(&by_hash(0.3, 1), &by_hash(0.2, 1)));
        assert!(!covers(&by_hash(0.3, 1), &by_hash(0.4, 1)) && !covers(&by_hash(0.3, 1), &by_hash(0.3, 2)));
        assert!(!covers(&by_hash(0.3, 0), &by_group(&[], 0.3, 0)) && !covers(&by_time("at", 0.3), &by_hash(0.3, 0)));
        assert!(covers(&by_group(&[], 0.3, 1), &by_group(&["SRC", "dst"], 0.3, 1)));
        assert!(covers(&by_group(&["src", "n"], 0.3, 1), &by_group(&["n", "src"], 0.3, 1)));
        assert!(!covers(&by_group(&["src"], 0.3, 1), &by_group(&["dst"], 0.3, 1)));
        assert!(covers(&by_time("at", 0.3), &Holdout { seed: 9, ..by_time("At", 0.1) }));
        assert!(!covers(&by_time("at", 0.3), &by_time("start", 0.3)));
        assert!(by_time("at", 0.3).covers(&by_time("nowhere", 0.3), &schema).is_err());
    }

    #[test]
    fn a_split_is_written_as_it_is_asked_for() {
        assert_eq!(
            by_group(&["Src IP", "dst"], 0.25, 7).to_string(),
            "--split group --by 'Src IP' --by dst --test-share 0.25 --seed 7"
        );
        assert_eq!(by_time("stime", 0.3).to_string(), "--split time --by stime --test-share 0.3 --seed 0");
        assert_eq!(Holdout::default().to_string(), "--split hash --test-share 0.3 --seed 0");
    }

    proptest! {
        /// With a smaller share no row is tested that was not.
        #[test]
        fn a_smaller_share_tests_some_of_the_same(values in prop::collection::vec((0..40u8, 0..8u8, 0..20u8), 2..200), seed: u64) {
            let row = |(n, src, at): &(u8, u8, u8)| format!(r#"{{"n":{n},"src":"10.0.0.{src}","dst":"b","start":"{at}"}}"#);
            let rows: Vec<_> = values.iter().map(row).collect();
            for large in [by_group(&[], 0.6, seed), by_time("start", 0.6), Holdout { test_share: 0.6, seed, ..Holdout::default() }] {
                let small = Holdout { test_share: 0.2, ..large.clone() };
                let (Ok(large), Ok(small)) = (sides(&large, &rows), sides(&small, &rows)) else { continue };
                for (large, small) in large.iter().zip(small) {
                    prop_assert!(small != Side::Test || *large != Side::Train);
                }
            }
        }

        /// Whatever the split, no row that is tested equals one that is trained on; by hash and group, what is hashed
        /// has one side.
        #[test]
        fn nothing_straddles(values in prop::collection::vec((0..40u8, 0..8u8, 0..20u8), 2..200), seed: u64) {
            let row = |(n, src, at): &(u8, u8, u8)| format!(r#"{{"n":{n},"src":"10.0.0.{src}","dst":"b","start":"{at}"}}"#);
            let rows: Vec<_> = values.iter().map(row).collect();
            let group = Split::Group { columns: Vec::new() };
            for split in [Split::Hash, group, Split::Time { column: "start".into() }] {
                let holdout = Holdout { split: split.clone(), test_share: 0.3, seed };
                // So few rows may all fall on one side.
                let Ok(sides) = sides(&holdout, &rows) else { continue };
                let (mut of_features, mut of_group) = (HashMap::new(), HashMap::new());
                for ((n, src, at), &side) in values.iter().zip(&sides) {
                    prop_assert_ne!(side, Side::Unplaced);
                    prop_assert!(side != Side::Repeated || split != Split::Hash);
                    if side != Side::Repeated {
                        prop_assert_eq!(*of_features.entry(n).or_insert(side), side);
                    }
                    match &split {
                        Split::Group { .. } => {
                            let is_train = side == Side::Train;
                            prop_assert_eq!(*of_group.entry(src).or_insert(is_train), is_train);
                        }
                        Split::Time { .. } if side == Side::Train => {
                            let later = values.iter().zip(&sides).filter(|(_, side)| **side == Side::Test);
                            prop_assert!(later.map(|((.., other), _)| other).all(|other| other > at));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn the_share_is_met_and_seeds_differ() {
        let rows: Vec<_> = (0..10_000).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        let of_seed = |seed| sides(&Holdout { seed, ..Holdout::default() }, &rows).expect("both sides");
        let (first, second) = (of_seed(1), of_seed(2));
        let SideCounts { test, repeated, .. } = SideCounts::of(&first);
        assert!((2_850..3_150).contains(&test) && repeated == 0, "{test}");
        let both = first.iter().zip(&second).filter(|pair| *pair == (&Side::Test, &Side::Test)).count();
        assert!((800..1_000).contains(&both), "{both} rows are tested by both seeds");
        // More is tested with a larger share, and nothing less.
        let more = sides(&Holdout { seed: 1, test_share: 0.4, ..Holdout::default() }, &rows).expect("both sides");
        assert!(first.iter().zip(&more).all(|(less, more)| *less == Side::Train || *more == Side::Test));
    }

    #[test]
    fn the_last_rows_are_tested_and_those_without_a_time_left_out() {
        let row = |n: u8, at: &str| format!(r#"{{"n":{n},"at":"{at}"}}"#);
        let rows = [
            row(1, "2017-07-05 19:55:50.312099"),
            row(2, "2017-07-05 19:55:50.3"),
            row(3, "2017-07-04T08:00:00+02:00"),
            row(1, "2017-07-06T00:00:00Z"),
            row(4, "2017-07-06 00:00:00"),
            r#"{"n":5}"#.to_owned(),
        ];
        use Side::{Repeated, Test, Train, Unplaced};
        let found = sides(&by_time("at", 0.4), &rows).expect("times");
        assert_eq!(found, [Train, Train, Train, Repeated, Test, Unplaced]);
        // The moment does not straddle: 0.2 of five is one row, and two are of the last moment.
        assert_eq!(sides(&by_time("at", 0.2), &rows).expect("times"), found);
        let numbers: Vec<_> = (0..4).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        assert_eq!(sides(&by_time("n", 0.25), &numbers).expect("times"), [Train, Train, Train, Test]);
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let one = [r#"{"n":1,"at":"7/7/2017 3:30"}"#.to_owned(), r#"{"n":2,"at":"7/7/2017 12:59"}"#.to_owned()];
        let refusal = |holdout: &Holdout, rows: &[String]| sides(holdout, rows).expect_err("refused").to_string();
        let twelve = refusal(&by_time("at", 0.5), &one);
        assert!(twelve.contains("12-hour clock") && twelve.contains("7/7/2017 3:30"), "{twelve}");
        for (rows, holdout, expected) in [
            (&one[..], by_time("start", 0.5), "2 have no value to split by"),
            (&[r#"{"at":"yesterday"}"#.to_owned()], by_time("at", 0.5), "row 1: `yesterday` in `at` is no time"),
            (&one[..1], Holdout::default(), "no rows are left to"),
        ] {
            let message = refusal(&holdout, rows);
            assert!(message.contains(expected), "{message}");
        }
        let schema = Schema::from_toml("name = \"x\"\ncolumns = [{ name = \"n\", kind = \"number\" }]").expect("valid");
        let group = |columns: &[&str]| Split::Group { columns: columns.iter().map(ToString::to_string).collect() };
        for (split, test_share, expected) in [
            (Split::Time { column: "at".into() }, 0.3, "no column `at`"),
            (group(&["n", "src"]), 0.3, "no column `src`"),
            (group(&[]), 0.3, "name the columns to group by"),
            (Split::Hash, 1.0, "not above 0 and below 1"),
            (Split::Hash, f64::NAN, "not above 0 and below 1"),
        ] {
            let message = Holdout { split, test_share, seed: 0 }.bind(&schema).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
