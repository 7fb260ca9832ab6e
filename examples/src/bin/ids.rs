//! `ids`: look at a model, score a file with it, measure it on labelled flows, convert it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use ids_core::{ConfusionMatrix, DeadLetter, Model, Origin, Scorer, Verdict};
use ids_examples::flow_file::FlowFile;
use ids_examples::load_model;

/// Score network flows with the random forest that PySpark saved.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a model is: classes, inputs, stages, forest, where it comes from.
    Inspect {
        /// A directory that Spark saved, or a model file.
        model: PathBuf,
        #[command(flatten)]
        schema: SchemaArg,
    },
    /// Score flows: one JSON line per row of the input, a verdict or why there is none.
    #[command(after_help = "Example:\n  ids score --model models/unsw-nb15 --input flows.csv --output verdicts.jsonl")]
    Score {
        #[command(flatten)]
        model: ModelArg,
        /// CSV (with a header, or of a layout that the schema knows) or JSON lines; `-` is standard input.
        #[arg(long)]
        input: PathBuf,
        /// Where the JSON lines go; `-` is standard output.
        #[arg(long, default_value = "-")]
        output: PathBuf,
    },
    /// Compare predictions with labels: per-class figures, macro-F1, false alarms, confusion matrix.
    #[command(
        after_help = "Example:\n  ids evaluate --model models/unsw-nb15 --input labelled.csv --json quality.json"
    )]
    Evaluate {
        #[command(flatten)]
        model: ModelArg,
        /// Labelled flows: CSV or JSON lines; `-` is standard input.
        #[arg(long)]
        input: PathBuf,
        /// Also write the figures as JSON to this file.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Convert a directory that Spark saved into one file: versioned, checksummed, quick to load.
    Import {
        /// The directory of the saved PipelineModel.
        spark_dir: PathBuf,
        /// The model file to write.
        out: PathBuf,
        #[command(flatten)]
        schema: SchemaArg,
    },
}

#[derive(Args)]
struct ModelArg {
    /// A directory that Spark saved, or a model file.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    schema: SchemaArg,
}

#[derive(Args)]
struct SchemaArg {
    /// Name or TOML file of the schema whose columns a Spark directory takes [default: the built-in one that has them all].
    #[arg(long)]
    schema: Option<String>,
}

impl SchemaArg {
    fn load(&self, model: &Path) -> Result<Model> {
        load_model(model, self.schema.as_deref())
    }
}

impl ModelArg {
    fn load(&self) -> Result<Arc<Model>> {
        Ok(Arc::new(self.schema.load(&self.model)?))
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Inspect { model, schema } => schema.load(&model).and_then(|model| inspect(&model)),
        Command::Score { model, input, output } => score(&model, &input, &output),
        Command::Evaluate { model, input, json } => evaluate(&model, &input, json.as_deref()),
        Command::Import { spark_dir, out, schema } => import(&schema, &spark_dir, &out),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `ids score | head`: the reader has what it wanted.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn inspect(model: &Model) -> Result<()> {
    let (forest, provenance) = (model.forest(), model.provenance());
    let mut out = std::io::stdout().lock();
    writeln!(out, "version     {}", model.version())?;
    writeln!(out, "saved by    Spark {}", provenance.spark_version)?;
    writeln!(out, "SHA-256     {}", provenance.sha256)?;
    writeln!(out, "schema      {}", model.schema().name())?;
    let (trees, nodes, depth) = (forest.n_trees(), forest.n_nodes(), forest.depth());
    writeln!(out, "forest      {trees} trees, {nodes} nodes, depth {depth}, {} features", forest.n_features())?;
    writeln!(out, "classes")?;
    for (position, class) in model.classes().iter().enumerate() {
        let benign = if position == model.benign() { "  (benign)" } else { "" };
        let threshold = forest.thresholds().map(|t| format!("  threshold {}", t[position])).unwrap_or_default();
        writeln!(out, "  {position:2}  {class}{threshold}{benign}")?;
    }
    writeln!(out, "stages")?;
    for (uid, class) in &provenance.stages {
        writeln!(out, "  {}  {uid}", class.rsplit('.').next().unwrap_or(class))?;
    }
    writeln!(out, "inputs      {}", model.inputs().join(", "))?;
    Ok(())
}

fn score(model: &ModelArg, input: &Path, output: &Path) -> Result<()> {
    let model = model.load()?;
    let mut file = FlowFile::open(input, &model)?;
    let mut out: Box<dyn Write> = if output == Path::new("-") {
        Box::new(BufWriter::new(std::io::stdout().lock()))
    } else {
        if output.canonicalize().is_ok_and(|output| input.canonicalize().is_ok_and(|input| input == output)) {
            bail!("the output {} is the input", output.display());
        }
        let file = File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
        Box::new(BufWriter::new(file))
    };
    let source = input.to_string_lossy();
    let origin = |row: u64| Origin { topic: &source, partition: 0, offset: row as i64, timestamp_ms: None };
    let mut scorer = Scorer::new(Arc::clone(&model));
    let (mut n_scored, mut n_bad) = (0u64, 0u64);
    while let Some(batch) = file.next_batch()? {
        let scored = scorer.score(batch.records);
        // Two sorted lists of rows, merged: a line per row, in the order of the input.
        let mut bad = batch.bad.iter().peekable();
        for (index, &row) in batch.rows.iter().enumerate() {
            while let Some(error) = bad.next_if(|error| error.record < row) {
                write_line(&mut out, &DeadLetter::undecoded(origin(error.record), error, model.version()))?;
            }
            match scored.get(index) {
                Ok(score) => {
                    write_line(&mut out, &Verdict::new(&model, origin(row), score))?;
                    n_scored += 1;
                }
                Err(fault) => {
                    write_line(&mut out, &DeadLetter::unscored(origin(row), &fault, model.version()))?;
                    n_bad += 1;
                }
            }
        }
        for error in bad {
            write_line(&mut out, &DeadLetter::undecoded(origin(error.record), error, model.version()))?;
        }
        n_bad += batch.bad.len() as u64;
    }
    out.flush()?;
    eprintln!("{n_scored} rows scored, {n_bad} without a score");
    Ok(())
}

fn write_line(out: &mut impl Write, line: &impl serde::Serialize) -> Result<()> {
    // As a string first: an error of the pipe keeps its kind.
    let mut json = serde_json::to_string(line)?;
    json.push('\n');
    Ok(out.write_all(json.as_bytes())?)
}

fn evaluate(model: &ModelArg, input: &Path, json: Option<&Path>) -> Result<()> {
    let model = model.load()?;
    let mut file = FlowFile::open(input, &model)?;
    let mut scorer = Scorer::new(Arc::clone(&model));
    let mut matrix = ConfusionMatrix::new(model.classes(), model.benign());
    let (mut n_bad, mut n_unlabelled, mut n_unknown) = (0, 0, 0);
    let mut first_bad = None;
    while let Some(batch) = file.next_batch()? {
        n_bad += batch.bad.len();
        first_bad = first_bad.or_else(|| batch.bad.first().map(ToString::to_string));
        for (record, score) in batch.records.iter().zip(scorer.score(batch.records).iter()) {
            match (score, record.label()) {
                (Err(fault), _) => {
                    n_bad += 1;
                    first_bad.get_or_insert_with(|| fault.to_string());
                }
                (Ok(_), None) => n_unlabelled += 1,
                (Ok(score), Some(label)) => n_unknown += usize::from(!matrix.count(label, score.class)),
            }
        }
    }
    let quality = matrix.quality();
    if let Some(first) = first_bad {
        eprintln!("warning: {n_bad} rows have no score; the first: {first}");
    }
    if n_unlabelled > 0 {
        eprintln!("warning: {n_unlabelled} rows have no label and are not counted");
    }
    if n_unknown > 0 {
        eprintln!("warning: {n_unknown} rows have a label that the model does not know and are not counted");
    }
    if quality.rows == 0 {
        bail!("{} has no labelled flow that the model can score", input.display());
    }
    writeln!(std::io::stdout(), "{quality}")?;
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&quality)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn import(schema: &SchemaArg, spark_dir: &Path, out: &Path) -> Result<()> {
    let model = schema.load(spark_dir)?;
    model.save(out)?;
    let bytes = std::fs::metadata(out)?.len();
    let (version, n_trees) = (model.version(), model.forest().n_trees());
    writeln!(std::io::stdout(), "{}: version {version}, {n_trees} trees, {bytes} bytes", out.display())?;
    Ok(())
}
