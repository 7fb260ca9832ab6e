//! Short forms of what `make soak` does at length, on one node of real Kafka.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ids_reliability::cluster::{self, Shape};
use ids_reliability::scenario::{self, Delivery, Lab};
use nix::sys::signal::Signal;

#[test]
fn nothing_is_lost_on_a_real_kafka() {
    if let Some(reason) = cluster::missing() {
        eprintln!("SKIPPED: tests on a real Kafka: {reason}");
        return;
    }
    let mut lab = Lab::start(Shape::Single).expect("a cluster");
    let check = |outcome: anyhow::Result<scenario::Outcome>| {
        let outcome = outcome.expect("runs");
        eprintln!("{} ({}), {} faults: {}", outcome.test, outcome.delivery, outcome.kills, outcome.report);
        if let Some(median) = outcome.restart_ms_median {
            eprintln!("  first verdict {median} ms after a start (median)");
        }
        scenario::judge(&outcome).expect("nothing is lost");
        outcome
    };
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        check(scenario::killed(&mut lab, delivery, Signal::SIGKILL, 6, 1_000.0));
        check(scenario::killed(&mut lab, delivery, Signal::SIGTERM, 3, 1_000.0));
    }
    check(scenario::zombie(&mut lab, Delivery::AtLeastOnce, 1, 500.0));
    check(scenario::grown(&mut lab, Delivery::AtLeastOnce, 500.0));
    check(scenario::expired(&mut lab, 100));
    let early = scenario::commits_too_early(&mut lab, 2, 1_000.0).expect("runs");
    eprintln!("commits too early: {}", early.report);
    assert!(early.report.lost > 0, "the checker finds what is lost");
}

#[test]
fn a_harness_that_is_killed_leaves_no_broker_running() {
    if let Some(reason) = cluster::missing() {
        eprintln!("SKIPPED: tests on a real Kafka: {reason}");
        return;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("SKIPPED: what a killed harness leaves: there is no setpriv (util-linux)");
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka"));
    let mut harness =
        command.args(["--partitions", "1"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(harness.stdout.take().expect("a pipe")).read_line(&mut line).expect("reads");
    let address = line.trim().strip_prefix("export BOOTSTRAP_SERVERS=").expect("an address").to_owned();
    assert!(TcpStream::connect(&address).is_ok(), "there is a broker at {address}");
    harness.kill().expect("kills");
    harness.wait().expect("ends");
    let start = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "the broker at {address} lives on");
        thread::sleep(Duration::from_millis(50));
    }
}
