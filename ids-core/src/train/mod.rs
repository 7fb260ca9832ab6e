//! Random forests trained without Spark, into the same [`Model`] that Spark's become.
//!
//! [`TrainingFlows`] takes labelled flows, [`train`] makes a model of them: the stages that Spark's pipelines have
//! (StringIndexer, Imputer, VectorAssembler), fitted, and a forest (Breiman, *Random Forests*, Machine Learning 45,
//! 2001): each tree grows on a bag of rows drawn with replacement, each node looks at some of the features.
//! The room is laid out as the work goes: `flows` holds the columns, `bins` puts their values in bins, `split` asks
//! [linfa-trees](https://docs.rs/linfa-trees) for the best split of a node, `tree` grows.
//!
//! The same flows in the same order, settings and seed give the same model, bit by bit, on any number of threads.

mod bins;
mod flows;
mod settings;
mod split;
mod tree;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::error::{Error, Result};
use crate::forest::{Forest, ForestBuilder, NodeSpec};
use crate::model::{Model, Training};
use crate::pipeline::{Dialect, HandleInvalid, Imputer, Stage, StringIndexer, Transform, VectorAssembler};

pub use flows::TrainingFlows;
pub use settings::{FeaturesPerNode, Settings};

use bins::Binned;
use tree::Grower;

/// How often a training that waits for a tree asks whether to go on.
const NAP: Duration = Duration::from_millis(50);

/// The vector that the forest takes.
const FEATURES: &str = "features";

/// Trains a forest on `flows`. `progress` is told how many trees are done, after each and a few times a second, in the
/// thread of the caller; where it breaks, training ends without a model.
///
/// Memory: 2 bytes for each value of an input beside the flows themselves, which are given up column by column.
///
/// # Errors
/// [`Error::Training`] where a setting is out of range or the flows do not teach: no rows, one class only, no
/// benign flow, no input with a value.
pub fn train(
    flows: TrainingFlows,
    settings: &Settings,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Model>> {
    settings.check()?;
    let n_rows = flows.len();
    let (classes, labels) = flows.classes()?;
    let schema = flows.schema().clone();
    let holdout = flows.holdout().cloned();
    let fitted = Fitted::new(flows, settings.bins)?;
    let grower = Grower::new(&fitted.columns, &labels, classes.len(), settings);
    let Some(trees) = grow_all(&grower, settings, progress) else { return Ok(None) };
    let forest = assemble(trees, fitted.columns.len(), classes.len())?;
    let training = Training {
        program: concat!("ids ", env!("CARGO_PKG_VERSION")).into(),
        rows: n_rows as u64,
        settings: settings.named(),
        holdout,
    };
    Model::trained((*schema).clone(), fitted.stages(), FEATURES, &forest, classes, training).map(Some)
}

/// The columns of the flows as the pipeline will make them, in bins, and what its stages must know for that.
struct Fitted {
    /// Features in the order of the vector: numbers, then categories.
    columns: Vec<Binned>,
    /// Names of the number columns, with what stands for a missing value.
    numbers: Vec<(String, f64)>,
    /// Names of the category columns, with their labels in the order of their indices.
    categories: Vec<(String, Vec<String>)>,
}

impl Fitted {
    fn new(flows: TrainingFlows, most_bins: usize) -> Result<Self> {
        let (mut columns, mut numbers, mut categories) = (Vec::new(), Vec::new(), Vec::new());
        let (number_columns, category_columns) = flows.into_columns();
        for column in number_columns {
            // A column without a single value teaches nothing, and a model must not ask for it.
            let Some(surrogate) = bins::median(&column.values) else { continue };
            let surrogate = if column.is_integer { surrogate.trunc() } else { surrogate };
            columns.push(Binned::of_numbers(column.values, surrogate, most_bins));
            numbers.push((column.name, surrogate));
        }
        for column in category_columns {
            if column.is_empty() {
                continue;
            }
            let (binned, labels) = Binned::of_categories(&column)?;
            columns.push(binned);
            categories.push((column.name, labels));
        }
        if columns.is_empty() {
            return Err(Error::training("no column that a model may take has a value in any row"));
        }
        Ok(Self { columns, numbers, categories })
    }

    /// The stages that make the feature vector of a flow.
    fn stages(&self) -> Vec<Stage> {
        let stage = |uid: &str, transform| Stage { uid: uid.into(), dialect: Dialect::From4_1, transform };
        let names = |suffix: &str, names: &mut dyn Iterator<Item = &String>| -> Vec<String> {
            names.map(|name| format!("{name}{suffix}")).collect()
        };
        let (mut stages, mut inputs) = (Vec::new(), Vec::new());
        if !self.categories.is_empty() {
            let mut columns = self.categories.iter().map(|(name, _)| name);
            let input_columns: Vec<_> = columns.by_ref().cloned().collect();
            let output_columns = names("_index", &mut input_columns.iter());
            stages.push(stage(
                "categories",
                Transform::StringIndexer(StringIndexer {
                    input_columns,
                    output_columns,
                    labels: self.categories.iter().map(|(_, labels)| labels.clone()).collect(),
                    handle_invalid: HandleInvalid::Keep,
                }),
            ));
        }
        if !self.numbers.is_empty() {
            let input_columns: Vec<_> = self.numbers.iter().map(|(name, _)| name.clone()).collect();
            let output_columns = names("_imputed", &mut input_columns.iter());
            inputs.extend(output_columns.iter().cloned());
            stages.push(stage(
                "missing_numbers",
                Transform::Imputer(Imputer {
                    input_columns,
                    output_columns,
                    surrogates: self.numbers.iter().map(|(_, surrogate)| *surrogate).collect(),
                    missing_value: f64::NAN,
                }),
            ));
        }
        inputs.extend(self.categories.iter().map(|(name, _)| format!("{name}_index")));
        stages.push(stage(
            FEATURES,
            Transform::VectorAssembler(VectorAssembler {
                input_columns: inputs,
                output_column: FEATURES.into(),
                handle_invalid: HandleInvalid::Keep,
            }),
        ));
        stages
    }
}

/// Grows all trees on several threads; `None` where `progress` breaks.
fn grow_all(
    grower: &Grower<'_>,
    settings: &Settings,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Option<Vec<Vec<NodeSpec>>> {
    // A generator of its own for each tree: which thread grows it does not matter.
    let mut seeds = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let seeds: Vec<u64> = (0..settings.trees).map(|_| seeds.random()).collect();
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let n_threads = settings.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..n_threads.clamp(1, settings.trees) {
            let (sender, seeds, next, is_over) = (sender.clone(), &seeds, &next, &is_over);
            scope.spawn(move || {
                loop {
                    let tree = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&seed) = seeds.get(tree) else { break };
                    let nodes = grower.grow(Xoshiro256PlusPlus::seed_from_u64(seed), is_over);
                    // Nobody listens where training was broken off.
                    if is_over.load(Ordering::Relaxed) || sender.send((tree, nodes)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut trees = vec![Vec::new(); settings.trees];
        let mut n_done = 0;
        while n_done < settings.trees {
            match receiver.recv_timeout(NAP) {
                Ok((tree, nodes)) => {
                    trees[tree] = nodes;
                    n_done += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // A thread that panicked: the scope hands the panic on.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if progress(n_done).is_break() {
                is_over.store(true, Ordering::Relaxed);
                return None;
            }
        }
        Some(trees)
    })
}

fn assemble(trees: Vec<Vec<NodeSpec>>, n_features: usize, n_classes: usize) -> Result<Forest> {
    let mut builder = ForestBuilder::classification(n_features, n_classes)?;
    for nodes in trees {
        builder.push_tree(nodes)?;
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::JsonDecoder;
    use crate::record::FlowRecords;
    use crate::schema::Schema;
    use crate::split::{Holdout, Split};

    const SCHEMA: &str = r#"
        name = "test"
        labels = { column = "class", benign = "benign" }
        columns = [
            { name = "id", kind = "identifier" },
            { name = "x", kind = "number" },
            { name = "noise", kind = "number" },
            { name = "port", kind = "integer", optional = true },
            { name = "absent", kind = "number", optional = true },
            { name = "service", kind = "category", optional = true },
            { name = "class", kind = "label" },
        ]"#;

    fn schema() -> Arc<Schema> {
        Arc::new(Schema::from_toml(SCHEMA).expect("a schema"))
    }

    /// Flows of three classes: told by `x`, by `service`, and by neither.
    fn flows(n: usize) -> FlowRecords {
        let schema = schema();
        let mut records = FlowRecords::new(Arc::clone(&schema));
        let mut decoder = JsonDecoder::new(schema, &[]).expect("a decoder");
        for i in 0..n {
            let noise = (i * 7919) % 101;
            let (x, service, class) = match i % 4 {
                0 => (10.0 + noise as f64 / 8.0, "\"dns\"", "dos"),
                1 => (1.0, "\"irc\"", "worm"),
                _ => (f64::from(i as u32 % 9), "\"http\"", "benign"),
            };
            let x = if i % 50 == 49 { "null".into() } else { x.to_string() };
            let service = if i % 30 == 6 { "null" } else { service };
            let line = format!(
                r#"{{"id":"{i}","x":{x},"noise":{noise},"port":{},"service":{service},"class":"{class}"}}"#,
                i % 3
            );
            decoder.decode(i as u64, line.as_bytes(), &mut records).expect("a flow");
        }
        records
    }

    fn taught(n: usize) -> TrainingFlows {
        let records = flows(n);
        let mut flows = TrainingFlows::new(schema()).expect("labels");
        for record in records.iter() {
            assert!(flows.push(&record));
        }
        flows
    }

    fn settings() -> Settings {
        Settings { trees: 8, depth: 6, seed: 5, ..Settings::default() }
    }

    fn go_on(_: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn trained(settings: &Settings) -> Model {
        train(taught(2_000), settings, go_on).expect("trains").expect("to its end")
    }

    #[test]
    fn a_forest_learns_what_the_columns_tell() {
        let model = trained(&settings());
        assert_eq!(model.classes()[..], ["benign", "dos", "worm"]);
        assert_eq!(model.inputs(), ["service", "x", "noise", "port"], "no identifier, and nothing that has no value");
        let records = flows(500);
        let mut scorer = model.scorer();
        let scored = scorer.score(&records);
        let right = records.iter().zip(scored.iter()).filter(|(record, score)| {
            record.label() == Some(&model.labels()[score.as_ref().expect("a score").class()])
        });
        // The rows without x or service are told by what is left, or not at all.
        assert!(right.count() > 490);
    }

    #[test]
    fn a_seed_gives_the_same_model_on_any_number_of_threads() {
        let bytes = |threads, seed| {
            trained(&Settings { threads: Some(threads), seed, ..settings() }).to_bytes().expect("bytes")
        };
        assert!(bytes(1, 5) == bytes(3, 5));
        assert!(bytes(1, 5) != bytes(1, 6));
    }

    #[test]
    fn a_trained_model_survives_its_file() {
        let model = trained(&settings());
        let read = Model::from_bytes(&model.to_bytes().expect("bytes")).expect("a model");
        assert_eq!(read.provenance(), model.provenance());
        let training = read.provenance().training.as_ref().expect("trained here");
        assert!(training.rows == 2_000 && training.settings.contains(&("seed".into(), "5".into())), "{training:?}");
        assert_eq!(read.provenance().spark_version, None);
        let group = Split::Group { columns: vec!["service".into(), "proto".into()] };
        for split in [Split::Hash, group, Split::Time { column: "stime".into() }] {
            let holdout = Holdout { split, test_share: 0.1, seed: u64::MAX };
            let mut flows = taught(50);
            flows.set_holdout(holdout.clone());
            let model = train(flows, &settings(), go_on).expect("trains").expect("to its end");
            let read = Model::from_bytes(&model.to_bytes().expect("bytes")).expect("a model");
            let training = read.provenance().training.as_ref().expect("trained here");
            assert_eq!(training.holdout.as_ref(), Some(&holdout));
            assert!(read.to_string().contains(&format!("held out rows by {holdout}")), "{read}");
        }
        let other = trained(&Settings { depth: 2, ..settings() });
        assert_ne!(other.version(), read.version(), "another forest is another version");
        let text = read.to_string();
        assert!(text.contains("without Spark, on 2000 rows") && !text.contains("Spark's bits"), "{text}");
    }

    #[test]
    fn what_limits_a_tree_limits_it() {
        let nodes = |settings: Settings| trained(&settings).forest().n_nodes();
        let all = nodes(settings());
        assert!(nodes(Settings { min_rows_per_leaf: 400, ..settings() }) < all);
        assert_eq!(trained(&Settings { depth: 2, ..settings() }).forest().depth(), 2);
    }

    #[test]
    fn balance_makes_a_rare_class_heavier() {
        let records = flows(2_000);
        let mut flows = TrainingFlows::new(schema()).expect("labels");
        // Nothing but noise, and few that are no `benign`.
        for (i, record) in records.iter().enumerate() {
            if i % 4 > 1 || i % 40 == 0 {
                flows.push(&record);
            }
        }
        let alone = Settings { depth: 1, min_rows_per_leaf: 500, ..settings() };
        let share = |settings: &Settings, flows| {
            let model = train(flows, settings, go_on).expect("trains").expect("to its end");
            let mut scorer = model.scorer();
            let scored = scorer.score(&records);
            scored.get(2).expect("a score").probabilities[1]
        };
        let (plain, balanced) =
            (share(&alone, flows.clone()), share(&Settings { balance: 1.0, ..alone.clone() }, flows));
        assert!(plain < 0.2 && balanced > 2.0 * plain, "{plain} {balanced}");
    }

    #[test]
    fn training_ends_where_it_is_told_to() {
        let stopped = train(taught(200), &settings(), |_| ControlFlow::Break(())).expect("no error");
        assert!(stopped.is_none());
    }

    #[test]
    fn what_cannot_be_trained_says_why() {
        let message = |flows, settings: &Settings| train(flows, settings, go_on).expect_err("an error").to_string();
        let empty = TrainingFlows::new(schema()).expect("labels");
        assert!(message(empty, &settings()).contains("no labelled flow"));
        assert!(message(taught(1), &settings()).contains("all of class `dos`"));
        assert!(message(taught(2), &settings()).contains("benign"));
        for (settings, expected) in [
            (Settings { trees: 0, ..settings() }, "trees"),
            (Settings { depth: 31, ..settings() }, "depth"),
            (Settings { bins: 1, ..settings() }, "bins"),
            (Settings { balance: -1.0, ..settings() }, "balance"),
            (Settings { min_rows_per_leaf: 0, ..settings() }, "min-rows-per-leaf"),
            (Settings { features_per_node: FeaturesPerNode::Number(0), ..settings() }, "features-per-node"),
        ] {
            assert!(message(taught(100), &settings).contains(expected), "{expected}");
        }
    }
}
