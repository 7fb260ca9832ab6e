//! `ids`: look at a file of flows or at a model, find what flatters a model, train one, score a file with it, measure it
//! on labelled flows, convert it, prove it equal to Spark; look at dead letters; check the books of a detector.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ids_core::forest::DotProduct;
use ids_core::import::spark;
use ids_core::verify::{Comparison, Report};
use ids_core::whole_file::WholeFile;
use ids_core::{Model, Origin, Outcome, Schema, SparkModel, outcome};
use ids_examples::describe::{self, DescribeArgs};
use ids_examples::dlq::{self, DlqCommand};
use ids_examples::evaluate::{self, EvaluateArgs};
use ids_examples::flow_file::FlowFile;
use ids_examples::lint::{self, LintArgs};
use ids_examples::model_arg::{ModelArg, SchemaArg};
use ids_examples::recon::{self, ReconArgs};
use ids_examples::threshold::{self, ThresholdArgs};
use ids_examples::train::{self, TrainArgs};
use indicatif::{ProgressBar, ProgressStyle};

/// Score network flows with the random forest that PySpark saved.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a file of flows is: schema, rows, classes, columns, and what is odd about it.
    ///
    /// Reads UNSW-NB15 (with its header, or raw without one), what CICFlowMeter writes (CIC-IDS2017, CSE-CIC-IDS2018,
    /// CIC-DDoS2019, their corrected releases, versions 3 and 4), what the Python cicflowmeter writes, and NSL-KDD: the
    /// columns tell which it is. Every row is a flow, or is rejected with its line and a reason, or is a copy of the
    /// header or empty: the four add up to what was read. Memory does not grow with the file. The exit code is 0 where
    /// the file was read to its end, whatever is in it, and 1 where it could not be.
    #[command(
        after_help = "Example:\n  ids describe flows.csv\n  zcat flows.csv.gz | ids describe - --schema cicflowmeter --json | jq .rows"
    )]
    Describe(DescribeArgs),
    /// Find what flatters a model that is trained and tested on a labelled data set.
    ///
    /// Columns that alone decide the label, identifiers and times taken for features, rows that are there more than once
    /// and would straddle a random split, equal rows of several classes, columns that never change or repeat another,
    /// classes too small to judge: each with its numbers and why it matters. What one column tells is measured on rows
    /// held out by a hash of the features. Memory: the values of at most 200,000 rows, drawn evenly, and less than 100
    /// bytes for each distinct row. The exit code is 0, whatever is found; with `--deny`, 1 where a finding is of that severity or
    /// above; 2 where the file could not be read.
    #[command(after_help = "Example:\n  ids lint flows.csv\n  ids lint flows.csv --json lint.json --deny severe")]
    Lint(LintArgs),
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
        /// Where the JSON lines go; `-` is standard output. A file gets its name when it is complete.
        #[arg(long, visible_alias = "out", default_value = "-")]
        output: PathBuf,
    },
    /// Train a random forest on labelled flows, without Spark; with --split, say how well it does on rows it has not seen.
    ///
    /// The model takes every column that the schema lets a model take and the file has; missing numbers become the
    /// median, unknown categories one of their own. It is a model file like any other: `ids score`, `ids inspect` and
    /// the detector take it. The same file, settings and seed give the same model. Memory: 8 bytes per value of the
    /// training rows.
    #[command(
        after_help = "Example:\n  ids train --input flows.csv --out model.ids --split hash\n  ids train --input flows.csv --out model.ids --split time --by stime --depth 18 --min-rows-per-leaf 2"
    )]
    Train(Box<TrainArgs>),
    /// Say how good a model is on labelled flows: figures with intervals, calibration, alarms a day, comparison.
    ///
    /// Measure on rows that the model was not trained on: another file, or the test side of the split that it was trained
    /// with. By hash and group the split flatters a detector; by time it is tested as it will serve. Rows of classes that
    /// the model was not taught are counted and named, and in none of the figures. docs/evaluation.md has the formulas.
    #[command(
        after_help = "Example:\n  ids evaluate --train monday.csv --test friday.csv\n  ids evaluate --model models/unsw-nb15 --input labelled.csv --base-rate 0.001 --flows-per-day 1000000\n  ids evaluate --model new.ids --versus old.ids --input labelled.csv --split time --by stime --html report.html"
    )]
    Evaluate(Box<EvaluateArgs>),
    /// Choose alert thresholds for a budget of false alarms, and write them into a model file.
    ///
    /// A threshold is the least probability of the predicted class that raises an alert; predictions, verdicts and the
    /// model's version stay what they are. The detector takes the thresholds of its model unless it is configured otherwise.
    /// The flows must be none that the model was trained on, or there will be far more alarms than they tell: another file,
    /// or with --split the test side of the split that it was trained with. A budget finer than the benign rows can tell
    /// is refused. docs/evaluation.md says how alarms are shared among the classes.
    #[command(
        after_help = "Example:\n  ids threshold --model model.ids --input validation.csv --budget 20/day --flows-per-day 100000 --out alerting.ids\nTo train, choose and judge on three parts of one file:\n  ids train     --input flows.csv --out model.ids --split hash --test-share 0.3\n  ids threshold --input flows.csv --model model.ids --split hash --test-share 0.3 --spare 0.15 --budget 1000/day --flows-per-day 1000000 --out alerting.ids\n  ids evaluate  --input flows.csv --model alerting.ids --split hash --test-share 0.15"
    )]
    Threshold(Box<ThresholdArgs>),
    /// Prove that a saved model gives Spark's doubles here: compare with what Spark wrote, bit by bit.
    ///
    /// Every column that the pipeline computes and Spark's output has is compared. The exit code is 0 where
    /// nothing differs, 1 where something does, and 2 where they could not be compared.
    #[command(
        after_help = "Example, in PySpark, then here:\n  model.write().save(\"model\"); model.transform(df).write.parquet(\"out.parquet\")\n  ids verify --model model --expected out.parquet"
    )]
    Verify(VerifyArgs),
    /// Dead letters of a detector: list them, count them by kind of fault, send the records again.
    #[command(after_help = "Example:\n  ids dlq count --topic demo\n  ids dlq replay --topic demo --kind wrong_type")]
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Prove that a detector lost nothing: compare the flows of a topic with what came of them.
    ///
    /// Every record must have one outcome, which is what scoring it offline gives, byte for byte; verdicts must be in
    /// order; alerts and dead letters must be those that follow. Run it when the detector has no lag. The exit code is 0
    /// where nothing is wrong, 1 where something is, and 2 where it could not be checked.
    #[command(
        after_help = "Example:\n  ids recon --model models/unsw-nb15 --topic demo --metrics http://127.0.0.1:9464/metrics"
    )]
    Recon(Box<ReconArgs>),
    /// Convert a directory that Spark saved into one file: versioned, checksummed, quick to load.
    Import {
        /// The directory of the saved PipelineModel.
        spark_dir: PathBuf,
        /// The model file to write.
        out: PathBuf,
        /// Leave a file that is there as it is.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        schema: SchemaArg,
    },
}

/// What `verify` compares.
#[derive(Args)]
struct VerifyArgs {
    /// The directory that Spark saved: a pipeline, a forest, a tree or a single stage.
    #[arg(long)]
    model: PathBuf,
    /// What Spark wrote with `model.transform(df).write.parquet(...)`: a file or a directory of parts.
    #[arg(long)]
    expected: PathBuf,
    /// The rows that Spark was given, as Parquet, if not all of their columns are in `--expected`, or Spark
    /// dropped some of them.
    #[arg(long)]
    input: Option<PathBuf>,
    /// A column of `--input` and `--expected` that tells which rows belong together (integers or text);
    /// without it they are in the same order.
    #[arg(long, requires = "input")]
    key: Option<String>,
    /// Rows that are refused here and absent from `--expected` are equal: for an `--input` of which Spark was
    /// given only the rows on which it does not fail.
    #[arg(long, requires = "input")]
    allow_refused: bool,
    /// The version of the Spark that ran the model, if it is not the one that saved it: 3.5, 4.1.
    #[arg(long, value_parser = spark_version, value_name = "MAJOR.MINOR")]
    spark_version: Option<(u32, u32)>,
    /// The order in which Spark summed boosted trees [default: that of its version].
    #[arg(long, value_enum)]
    boosted_sum: Option<BoostedSum>,
    /// How many differences to describe.
    #[arg(long, default_value_t = 10)]
    differences: usize,
    /// Also write the report as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn spark_version(text: &str) -> Result<(u32, u32), String> {
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err("a version is two numbers, as in 3.5".into()),
    }
}

/// The orders in which Spark's BLAS adds.
#[derive(Clone, Copy, ValueEnum)]
enum BoostedSum {
    /// From left to right: Spark up to 3.1.
    Sequential,
    /// Four fused sums: Spark 3.2 to 3.5.
    FourFused,
    /// Eight lanes: Spark from 4.0 on, AVX-512.
    Vector512,
    /// Four lanes: Spark from 4.0 on, AVX2.
    Vector256,
    /// Two lanes: Spark from 4.0 on, SSE or NEON.
    Vector128,
}

impl From<BoostedSum> for DotProduct {
    fn from(sum: BoostedSum) -> Self {
        match sum {
            BoostedSum::Sequential => Self::Sequential,
            BoostedSum::FourFused => Self::FourFused,
            BoostedSum::Vector512 => Self::Vector512,
            BoostedSum::Vector256 => Self::Vector256,
            BoostedSum::Vector128 => Self::Vector128,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Describe(arguments) => describe::run(&arguments),
        Command::Inspect { model, schema } => inspect(&model, &schema),
        Command::Score { model, input, output } => score(&model, &input, &output),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Threshold(arguments) => threshold::run(&arguments),
        Command::Dlq { command } => dlq::run(&command),
        Command::Import { out, keep: true, .. } if out.exists() => kept(&out),
        Command::Import { spark_dir, out, schema, .. } => import(&schema, &spark_dir, &out),
        Command::Train(arguments) => train::run(&arguments),
        Command::Verify(arguments) => return judged(verify(&arguments)),
        Command::Lint(arguments) => return judged(lint::run(&arguments)),
        Command::Recon(arguments) => return judged(recon::run(&arguments)),
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

/// The exit code of what proves something: 0 where it holds, 1 where it does not, 2 where that cannot be told.
fn judged(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn inspect(path: &Path, schema: &SchemaArg) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if !path.is_dir() {
        return Ok(writeln!(out, "{}", schema.load(path)?)?);
    }
    let schema = schema.schema.as_deref().map(Schema::named).transpose()?;
    let saved = spark::read(path).with_context(|| format!("cannot load the model {}", path.display()))?;
    match Model::from_spark(saved.clone(), schema) {
        Ok(model) => Ok(writeln!(out, "{model}")?),
        // It can be verified and used from a program, but makes no verdicts.
        Err(error) => Ok(writeln!(out, "{saved}flows       it cannot score flows: {error}")?),
    }
}

fn score(model: &ModelArg, input: &Path, output: &Path) -> Result<()> {
    let model = model.load()?;
    let file = FlowFile::open(input, &model)?;
    if output.canonicalize().is_ok_and(|output| input.canonicalize().is_ok_and(|input| input == output)) {
        bail!("the output {} is the input", output.display());
    }
    if output == Path::new("-") {
        score_to(&model, file, input, &mut BufWriter::new(std::io::stdout().lock()))
    } else {
        let mut out = WholeFile::create(output)?;
        score_to(&model, file, input, &mut out)?;
        Ok(out.finish()?)
    }
}

fn score_to(model: &Arc<Model>, mut file: FlowFile, input: &Path, out: &mut impl Write) -> Result<()> {
    let source = input.to_string_lossy();
    let mut scorer = model.scorer();
    let (mut n_scored, mut n_bad) = (0u64, 0u64);
    while let Some(batch) = file.next_batch()? {
        outcome::outcomes(
            model,
            &mut scorer,
            batch,
            |row| Origin::of_file(&source, row),
            |outcome| {
                match outcome {
                    Outcome::Verdict(_) => n_scored += 1,
                    Outcome::DeadLetter(_) => n_bad += 1,
                }
                write_line(out, &outcome)
            },
        )?;
    }
    out.flush()?;
    if let Some(skipped) = file.skipped() {
        eprintln!("{skipped}");
    }
    eprintln!("{n_scored} rows scored, {n_bad} without a score");
    Ok(())
}

fn write_line(out: &mut impl Write, line: &impl serde::Serialize) -> Result<()> {
    // As a string first: an error of the pipe keeps its kind.
    let mut json = serde_json::to_string(line)?;
    json.push('\n');
    Ok(out.write_all(json.as_bytes())?)
}

fn import(schema: &SchemaArg, spark_dir: &Path, out: &Path) -> Result<()> {
    let model = schema.load(spark_dir)?;
    model.save(out)?;
    let bytes = std::fs::metadata(out)?.len();
    let (version, n_trees) = (model.version(), model.forest().n_trees());
    writeln!(std::io::stdout(), "{}: version {version}, {n_trees} trees, {bytes} bytes", out.display())?;
    Ok(())
}

fn kept(out: &Path) -> Result<()> {
    writeln!(std::io::stdout(), "{}: is there, and is kept", out.display())?;
    Ok(())
}

/// Whether nothing differs.
fn verify(arguments: &VerifyArgs) -> Result<bool> {
    let VerifyArgs { model: path, expected, input, key, json, .. } = arguments;
    let mut model = spark::read(path).with_context(|| format!("cannot load the model {}", path.display()))?;
    if let Some(version) = arguments.spark_version {
        model.run_as(version);
    }
    if let (Some(saved), Some(sum)) = (&mut model.forest, arguments.boosted_sum) {
        saved.forest.set_dot_product(sum.into());
    }
    let progress = ProgressBar::new(0);
    progress.set_style(ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} rows {eta}")?);
    progress.set_message("comparing");
    let comparison = Comparison {
        expected,
        input: input.as_deref(),
        key: key.as_deref(),
        allow_refused: arguments.allow_refused,
        n_differences: arguments.differences,
    };
    let report = ids_core::verify::verify(&model, comparison, |done, of| {
        progress.set_length(of);
        progress.set_position(done);
    })?;
    progress.finish_and_clear();
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print_report(&model, &report)?;
    Ok(report.is_equal())
}

fn print_report(model: &SparkModel, report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let n_stages = model.stage_classes.len();
    write!(out, "saved by    Spark {}, {n_stages} stage{}", model.spark_version, if n_stages == 1 { "" } else { "s" })?;
    if let Some(saved) = &model.forest {
        let forest = &saved.forest;
        write!(out, ", {} trees, {} nodes, depth {}", forest.n_trees(), forest.n_nodes(), forest.depth())?;
    }
    let Report { rows, scored, dropped, refused, doubles, differing_doubles, .. } = report;
    writeln!(out, "\nrows        {rows}: {scored} scored, {dropped} dropped, {refused} refused")?;
    writeln!(out, "compared    {doubles} doubles")?;
    if report.doubles_within_bound > 0 {
        let bound = ids_core::verify::PROBABILITY_BOUND;
        writeln!(out, "            {} probabilities of boosted trees within {bound:e}", report.doubles_within_bound)?;
    }
    writeln!(out, "differ      {differing_doubles} doubles, {} rows", report.differing_rows)?;
    if !report.not_compared.is_empty() {
        writeln!(out, "not there   {} in what Spark wrote", report.not_compared.join(", "))?;
    }
    let width = report.columns.iter().map(|column| column.name.len()).max().unwrap_or(0).max("column".len());
    writeln!(out, "\n{:width$}  {:>12}  {:>8}", "column", "doubles", "differ")?;
    for column in &report.columns {
        writeln!(out, "{:width$}  {:12}  {:8}", column.name, column.doubles, column.differing)?;
    }
    for difference in &report.differences {
        let key = difference.key.as_ref().map(|key| format!(" (key {key})")).unwrap_or_default();
        let entry = difference.entry.map(|entry| format!("[{entry}]")).unwrap_or_default();
        writeln!(out, "\nrow {}{key}, {}{entry}", difference.row, difference.column)?;
        writeln!(out, "  Spark  {}\n  here   {}", difference.expected, difference.found)?;
    }
    if let Some(first) = report.refused_rows.first() {
        writeln!(out, "\nthe first row refused: row {}: {}", first.row, first.reason)?;
    }
    Ok(())
}
