//! `soak`: the scenarios at length, on real Kafka; figures go to target/reliability.json.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use ids_reliability::cluster::Shape;
use ids_reliability::scenario::{self, BrokerFault, Delivery, Lab, Outcome};
use ids_reliability::{steady, storm};
use nix::sys::signal::Signal;

/// Kill, starve and rebalance the detector on real Kafka, and check that nothing is lost.
#[derive(Parser)]
struct Cli {
    /// Only scenarios whose name contains this.
    #[arg(default_value = "")]
    only: String,
    /// Kills by SIGKILL; other counts follow from it.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// How long the steady load lasts.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Its mean rows a second, bursts apart.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// One node of Kafka, and not three brokers and three controllers: for what stops no broker.
    #[arg(long)]
    single: bool,
    /// Where the figures go.
    #[arg(long, default_value = "target/reliability.json")]
    output: PathBuf,
}

type Run = Box<dyn Fn(&mut Lab) -> Result<Outcome>>;

/// A scenario with what is asked of it.
struct Plan {
    name: String,
    run: Run,
}

fn plan(name: &str, delivery: Delivery, run: impl Fn(&mut Lab) -> Result<Outcome> + 'static) -> Plan {
    Plan { name: format!("{name}, {delivery:?}"), run: Box::new(run) }
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
    let (n_kills, n_stops) = (cli.kills, cli.kills.div_ceil(5) * 2);
    let length = Duration::from_secs(120);
    let mut plans = Vec::new();
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let exactly = delivery == Delivery::ExactlyOnce;
        plans.push(plan("killed by SIGKILL", delivery, move |lab| {
            scenario::killed(lab, delivery, Signal::SIGKILL, n_kills, 1_000.0)
        }));
        plans.push(plan("stopped by SIGTERM", delivery, move |lab| {
            scenario::killed(lab, delivery, Signal::SIGTERM, n_stops, 1_000.0)
        }));
        plans.push(plan("zombie", delivery, move |lab| scenario::zombie(lab, delivery, 3, 1_000.0)));
        plans
            .push(plan("members join and leave", delivery, move |lab| scenario::members(lab, delivery, length, 500.0)));
        plans.push(plan("partitions added", delivery, move |lab| scenario::grown(lab, delivery, 500.0)));
        if !exactly {
            plans.push(plan("records expired", delivery, move |lab| scenario::expired(lab, 1_000)));
        }
        for fault in [BrokerFault::OneKilled, BrokerFault::Rolling, BrokerFault::TwoKilled] {
            plans.push(plan(&format!("brokers: {fault:?}"), delivery, move |lab| {
                scenario::brokers(lab, delivery, fault, 500.0)
            }));
        }
    }
    let (minutes, rate) = (cli.minutes, cli.rate);
    let at_least_once = Delivery::AtLeastOnce;
    plans.push(plan("models reloaded", at_least_once, |_| storm::reload_storm(Duration::from_secs(60), 500.0)));
    plans.push(plan("full load", at_least_once, |lab| steady::full_load(lab, 1_000_000)));
    plans.push(plan("steady load", at_least_once, move |lab| {
        steady::steady(lab, Duration::from_secs(60 * minutes), rate)
    }));
    plans.retain(|plan| plan.name.contains(&cli.only));
    let mut lab = Lab::start(if cli.single { Shape::Single } else { Shape::Full })?;
    let mut n_failed = 0;
    for (i, Plan { name, run }) in plans.iter().enumerate() {
        let start = Instant::now();
        eprintln!("[{}/{}] {name}", i + 1, plans.len());
        let judged = run(&mut lab).and_then(|outcome| {
            let (seconds, Outcome { kills, restarts, report, .. }) = (start.elapsed().as_secs_f64(), &outcome);
            eprintln!(
                "  {seconds:.0} s, {kills} faults, {restarts} restarts: {} lost, {} duplicates, {} acknowledged",
                report.lost, report.duplicates, report.acked
            );
            if let Some(median) = outcome.restart_ms_median {
                eprintln!("  first verdict {median} ms after a start (median)");
            }
            if let Some(load) = &outcome.load {
                eprintln!("  {load:?}");
            }
            let judged = scenario::judge(&outcome);
            keep(&cli.output, &outcome)?;
            judged
        });
        if let Err(error) = judged {
            n_failed += 1;
            eprintln!("  FAILED: {error:#}\n  logs are in {}", lab.keep_logs().display());
        }
    }
    if n_failed > 0 {
        bail!("{n_failed} of {} scenarios failed", plans.len());
    }
    Ok(())
}

/// Writes `outcome` into the list at `path`, in the place of one of the same test and delivery.
fn keep(path: &Path, outcome: &Outcome) -> Result<()> {
    let mut list: Vec<serde_json::Value> = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is no list", path.display()))?,
        Err(_) => Vec::new(),
    };
    let new = serde_json::to_value(outcome)?;
    let is_same = |old: &serde_json::Value| old["test"] == new["test"] && old["delivery"] == new["delivery"];
    match list.iter().position(is_same) {
        Some(position) => list[position] = new,
        None => list.push(new),
    }
    let json = serde_json::to_string_pretty(&list)? + "\n";
    std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
}
