//! `ids train`: a forest from a file of labelled flows, without Spark.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use ids_core::split::{Holdout, Side, SideCounts, Split};
use ids_core::train::TrainingFlows;
use ids_core::{ConfusionMatrix, Model, Quality, Schema};

use crate::flow_file::{FlowFile, schema_of};
use crate::forest_args::ForestArgs;
use crate::split::SplitArgs;

/// What `train` trains on, and how.
#[derive(Args)]
pub struct TrainArgs {
    /// Labelled flows: CSV or JSON lines. The file is read up to three times, so it cannot be standard input.
    #[arg(long)]
    input: PathBuf,
    /// The model file to write; one that is there stays until the new one is complete.
    #[arg(long, visible_alias = "output")]
    out: PathBuf,
    /// Name or TOML file of the schema [default: the built-in one that the columns tell].
    #[arg(long)]
    schema: Option<String>,
    /// The forest.
    #[command(flatten)]
    forest: ForestArgs,
    /// Rows held out to test with; the seed is that of bags and features too.
    #[command(flatten)]
    split: SplitArgs,
}

/// What a file has for a training.
struct Shown {
    /// Per row that is a flow, with or without a label: its side. As `ids evaluate` has them for the same split.
    sides: Vec<Side>,
    /// Of those with a label.
    counts: SideCounts,
    n_bad: u64,
    first_bad: Option<String>,
    n_unlabelled: u64,
    classes: BTreeMap<String, [u64; 2]>,
}

/// Trains, writes the model and says how well it does on the rows held out.
pub fn run(arguments: &TrainArgs) -> Result<()> {
    let TrainArgs { input, out, .. } = arguments;
    if input == Path::new("-") {
        bail!("the input is read more than once, so it cannot be standard input: write it to a file first");
    }
    crate::writable(out)?;
    let schema = Arc::new(schema_of(input, arguments.schema.as_deref())?);
    say(format_args!("reads     {}, schema {}", input.display(), schema.name()))?;
    let holdout = arguments.split.holdout()?;
    let shown = show(input, &schema, holdout.as_ref())?;
    say_rows(&shown, holdout.as_ref())?;

    let mut flows = TrainingFlows::new(Arc::clone(&schema))?;
    if let Some(holdout) = &holdout {
        flows.set_holdout(holdout.clone());
    }
    let mut sides = shown.sides.iter();
    let mut file = FlowFile::of_schema(input, &schema, &[], "taking the rows to train on")?;
    while let Some(batch) = file.next_batch()? {
        for (record, _) in batch.records.iter().zip(sides.by_ref()).filter(|(_, side)| **side == Side::Train) {
            flows.push(&record);
        }
    }
    let model = arguments.forest.grow(flows, arguments.split.seed, say)?;
    model.save(out)?;
    let bytes = std::fs::metadata(out)?.len();
    say(format_args!("writes    {}, version {}, {bytes} bytes", out.display(), model.version()))?;
    if holdout.is_none() {
        return say(format_args!("tests     nothing: no row is held out (--split hash, time or group)"));
    }
    let quality = test(&model, input, &shown.sides)?;
    say(format_args!("tests     on {} rows that it has not seen\n\n{quality}", quality.rows))
}

/// Writes a line at once: whoever waits sees what is being done.
fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Reads the file once, for the side of each row.
fn show(input: &Path, schema: &Arc<Schema>, holdout: Option<&Holdout>) -> Result<Shown> {
    let mut splitter = holdout.map(|holdout| holdout.bind(schema)).transpose()?;
    let (mut n_bad, mut first_bad, mut n_unlabelled) = (0, None, 0);
    // Per flow: its class, a position in `names`.
    let (mut labels, mut names) = (Vec::new(), Vec::<String>::new());
    let mut file = FlowFile::of_schema(input, schema, &[], "splitting")?;
    while let Some(batch) = file.next_batch()? {
        n_bad += batch.bad.len() as u64;
        first_bad = first_bad.or_else(|| batch.bad.first().map(ToString::to_string));
        for (record, &row) in batch.records.iter().zip(batch.rows) {
            if let Some(splitter) = &mut splitter {
                splitter.add(row, record)?;
            }
            n_unlabelled += u64::from(record.label().is_none());
            labels.push(record.label().map(|label| {
                names.iter().position(|name| name == label).unwrap_or_else(|| {
                    names.push(label.into());
                    names.len() - 1
                })
            }));
        }
    }
    if let Some(skipped) = file.skipped() {
        say(format_args!("          {skipped}"))?;
    }
    let sides = match splitter {
        Some(splitter) => splitter.sides()?,
        None => vec![Side::Train; labels.len()],
    };
    let labelled = || labels.iter().zip(&sides).filter_map(|(class, side)| Some(((*class)?, *side)));
    let mut classes: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (class, side) in labelled() {
        let counts = classes.entry(names[class].clone()).or_default();
        match side {
            Side::Train => counts[0] += 1,
            Side::Test => counts[1] += 1,
            Side::Repeated | Side::Unplaced => {}
        }
    }
    let counts = SideCounts::of(&labelled().map(|(_, side)| side).collect::<Vec<_>>());
    Ok(Shown { sides, counts, n_bad, first_bad, n_unlabelled, classes })
}

fn say_rows(shown: &Shown, holdout: Option<&Holdout>) -> Result<()> {
    let Shown { sides: _, counts, n_bad, first_bad, n_unlabelled, classes } = shown;
    if let Some(first) = first_bad {
        say(format_args!("          {n_bad} rows are no flows and are left out; the first: {first}"))?;
    }
    if *n_unlabelled > 0 {
        say(format_args!("          {n_unlabelled} flows have no label and are left out"))?;
    }
    let SideCounts { train, test, repeated, unplaced } = counts;
    if let Some(holdout) = holdout {
        let percent = 100.0 * holdout.test_share;
        let how = match &holdout.split {
            Split::Hash => "by a hash of all features, so that equal rows are on one side".into(),
            Split::Group { columns } if columns.is_empty() => "by a hash of the addresses".into(),
            Split::Group { columns } => format!("by a hash of {}", columns.join(", ")),
            Split::Time { column } => format!("the last by {column}"),
        };
        say(format_args!("splits    {train} rows to train on, {test} held out: {percent} % {how}"))?;
        if repeated + unplaced > 0 {
            say(format_args!(
                "          {repeated} rows are left out because they equal a training row, {unplaced} because they have no value to split by"
            ))?;
        }
    }
    let mut by_size: Vec<_> = classes.iter().collect();
    by_size.sort_by_key(|(_, counts)| std::cmp::Reverse(counts[0]));
    for (class, [train, test]) in by_size {
        say(format_args!("          {train:>9} {test:>9}  {class}"))?;
    }
    Ok(())
}

/// What the model makes of the rows held out.
fn test(model: &Arc<Model>, input: &Path, sides: &[Side]) -> Result<Quality> {
    let mut matrix = ConfusionMatrix::new(model.labels(), model.benign());
    let mut scorer = model.scorer();
    let mut sides = sides.iter();
    let mut file = FlowFile::of_schema(input, model.schema(), &[], "testing")?;
    let mut n_unknown = 0;
    while let Some(batch) = file.next_batch()? {
        let scored = scorer.score(batch.records);
        for ((record, score), side) in batch.records.iter().zip(scored.iter()).zip(sides.by_ref()) {
            if let (Side::Test, Some(label)) = (side, record.label()) {
                n_unknown += u64::from(!matrix.count(label, score?.class()));
            }
        }
    }
    if n_unknown > 0 {
        say(format_args!(
            "          {n_unknown} rows held out are of classes that no row to train on has: not counted"
        ))?;
    }
    Ok(matrix.quality())
}
