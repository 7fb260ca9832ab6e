//! `kafka`: Apache Kafka on loopback until it is interrupted, with the topics of a detector.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use ids_kafka::{Shutdown, Topics};
use ids_reliability::cluster::{Cluster, Options, Shape};

/// Run Apache Kafka on loopback, without Docker, until Ctrl-C. Its data is gone afterwards.
#[derive(Parser)]
struct Cli {
    /// Three brokers and three controllers, and not one node that is both.
    #[arg(long)]
    full: bool,
    /// Topic with flows; those for verdicts, alerts and dead letters are named after it.
    #[arg(long, default_value = "demo")]
    topic: String,
    /// A further topic; can be given more than once.
    #[arg(long = "also", value_name = "TOPIC")]
    further: Vec<String>,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 6)]
    partitions: i32,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let shutdown = Shutdown::new();
    let flag = shutdown.clone();
    ctrlc::set_handler(move || flag.request())?;
    let directory = tempfile::tempdir()?;
    eprintln!("starting Kafka; logs are in {}", directory.path().display());
    let cluster =
        Cluster::start(directory.path(), if cli.full { Shape::Full } else { Shape::Single }, &Options::default())?;
    let topics = Topics::of(&cli.topic);
    let further = cli.further.iter().map(String::as_str);
    cluster.create_topics(&topics.all().into_iter().chain(further).collect::<Vec<_>>(), cli.partitions)?;
    println!("export BOOTSTRAP_SERVERS={}", cluster.bootstrap_servers());
    while !shutdown.is_requested() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
