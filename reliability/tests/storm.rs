//! A short form of the storm of reloads.

use std::time::Duration;

use ids_reliability::scenario;
use ids_reliability::storm::reload_storm;

#[test]
fn rows_are_scored_by_good_models_whatever_is_offered() {
    let outcome = reload_storm(Duration::from_secs(5), 500.0).expect("runs");
    eprintln!("{} reloads: {}", outcome.kills, outcome.report);
    scenario::judge(&outcome).expect("nothing is lost");
    assert!(outcome.kills >= 10 && outcome.report.acked > 1_000, "{} reloads, {}", outcome.kills, outcome.report);
}
