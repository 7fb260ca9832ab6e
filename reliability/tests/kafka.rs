//! Short forms of what `make soak` does at length, on one node of real Kafka.

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
    let check = |outcome: anyhow::Result<scenario::Outcome>, may_duplicate| {
        let outcome = outcome.expect("runs");
        eprintln!("{} ({}), {} faults: {}", outcome.test, outcome.delivery, outcome.kills, outcome.report);
        if let Some(median) = outcome.restart_ms_median {
            eprintln!("  first verdict {median} ms after a start (median)");
        }
        scenario::judge(&outcome, may_duplicate).expect("nothing is lost");
        outcome
    };
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        check(scenario::killed(&mut lab, delivery, Signal::SIGKILL, 6, 1_000.0), false);
        check(scenario::killed(&mut lab, delivery, Signal::SIGTERM, 3, 1_000.0), false);
    }
    check(scenario::zombie(&mut lab, Delivery::AtLeastOnce, 1, 500.0), true);
    let early = scenario::commits_too_early(&mut lab, 2, 1_000.0).expect("runs");
    eprintln!("commits too early: {}", early.report);
    assert!(early.report.lost > 0, "the checker finds what is lost");
}
