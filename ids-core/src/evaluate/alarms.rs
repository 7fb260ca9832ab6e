//! What whoever reads the alarms sees: how many come in a day, and how many of them are true.
//!
//! With the base rate b (the share of flows that are attacks), attack recall r and false-alarm rate f, Bayes gives
//! the precision: b r / (b r + (1 - b) f). Where attacks are rare it is f that decides (Axelsson, *The base-rate fallacy
//! and the difficulty of intrusion detection*, TISSEC 2000). Labelled data sets have far more attacks than a network, so
//! that a precision measured on them says little. Recall is taken to be the same for what attacks a network sees.

use serde::Serialize;

use super::bootstrap::{Bootstrap, percentiles};
use super::cases::Cases;
use super::interval::{Estimate, Interval};

/// Shares of attacks for which the precision is told.
const BASE_RATES: [f64; 15] =
    [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5];
/// Thresholds of P(attack) for which figures are told.
const THRESHOLDS: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

/// Alarms: the flows that are called an attack with a probability that reaches the model's threshold for it. Without
/// thresholds, all that are called an attack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alarms {
    /// Whether the model has thresholds of its own.
    pub has_thresholds: bool,
    /// Benign rows.
    pub benign_rows: u64,
    /// Rows that are attacks.
    pub attack_rows: u64,
    /// Benign rows that raise an alarm.
    pub false_alarms: u64,
    /// Attacks that raise an alarm.
    pub caught: u64,
    /// Share of the attacks that raise an alarm.
    pub recall: Estimate,
    /// Share of the benign rows that raise an alarm.
    pub false_alarm_rate: Estimate,
    /// What is to be expected at the base rate that was asked about.
    pub asked: Option<AtBaseRate>,
    /// What is to be expected at others.
    pub base_rates: Vec<AtBaseRate>,
    /// What would come of a threshold for P(attack) instead, of whatever class.
    pub attack_thresholds: Vec<AtThreshold>,
}

/// What is to be expected where a share of the flows are attacks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtBaseRate {
    /// The share.
    pub base_rate: f64,
    /// Share of the alarms that are true.
    pub precision: Estimate,
    /// Flows a day, if it was asked about.
    pub flows_per_day: Option<f64>,
    /// Alarms a day on attacks.
    pub true_alarms_per_day: Option<Estimate>,
    /// Alarms a day on benign flows.
    pub false_alarms_per_day: Option<Estimate>,
}

/// What comes of raising every flow whose P(attack) is at least a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtThreshold {
    /// The threshold.
    pub threshold: f64,
    /// Share of the attacks that reach it.
    pub recall: Estimate,
    /// Share of the benign rows that reach it.
    pub false_alarm_rate: Estimate,
}

impl Alarms {
    pub(super) fn of(cases: &Cases, bootstrap: Bootstrap, base_rate: Option<f64>, flows_per_day: Option<f64>) -> Self {
        let count = |is_counted: &dyn Fn(bool, &super::Said) -> bool| {
            let counted = cases.cases.iter().filter(|case| is_counted(cases.is_attack(case), &case.said));
            counted.count() as u64
        };
        let attack_rows = count(&|is_attack, _| is_attack);
        let benign_rows = cases.cases.len() as u64 - attack_rows;
        let caught = count(&|is_attack, said| is_attack && said.raised);
        let false_alarms = count(&|is_attack, said| !is_attack && said.raised);
        // (recall, false-alarm rate) of each replicate.
        let mut replicates = Vec::with_capacity(bootstrap.replicates as usize);
        let counts = [caught, attack_rows - caught, false_alarms, benign_rows - false_alarms];
        bootstrap.replicate(&counts, |drawn| {
            replicates.push((share(drawn[0], drawn[0] + drawn[1]), share(drawn[2], drawn[2] + drawn[3])));
        });
        let estimate = |part: u64, whole: u64, replicates: Vec<f64>| match percentiles(replicates) {
            Some(interval) if part > 0 && part < whole => Estimate { value: share(part, whole), interval },
            _ => Estimate::of_share(part, whole),
        };
        let recall = estimate(caught, attack_rows, replicates.iter().map(|(recall, _)| *recall).collect());
        let false_alarm_rate = estimate(false_alarms, benign_rows, replicates.iter().map(|(_, rate)| *rate).collect());
        let expected = Expected { recall, false_alarm_rate, replicates };
        let attack_thresholds = THRESHOLDS.map(|threshold| AtThreshold {
            threshold,
            recall: Estimate::of_share(count(&|is_attack, said| is_attack && said.attack >= threshold), attack_rows),
            false_alarm_rate: Estimate::of_share(
                count(&|is_attack, said| !is_attack && said.attack >= threshold),
                benign_rows,
            ),
        });
        Self {
            has_thresholds: *cases.model.alerts() != crate::alert::AlertPolicy::default(),
            benign_rows,
            attack_rows,
            false_alarms,
            caught,
            recall,
            false_alarm_rate,
            asked: base_rate.map(|base_rate| expected.at(base_rate, flows_per_day)),
            base_rates: BASE_RATES.map(|base_rate| expected.at(base_rate, flows_per_day)).into(),
            attack_thresholds: attack_thresholds.into(),
        }
    }
}

/// What is known of recall and false alarms, to be carried to other base rates.
struct Expected {
    recall: Estimate,
    false_alarm_rate: Estimate,
    replicates: Vec<(f64, f64)>,
}

impl Expected {
    fn at(&self, base_rate: f64, flows_per_day: Option<f64>) -> AtBaseRate {
        let Self { recall, false_alarm_rate, replicates } = self;
        let of_replicates = replicates.iter().map(|&(recall, rate)| precision(base_rate, recall, rate)).collect();
        // Of a share that is 0 or 1 replicates tell nothing: then from the worse ends of both to the better ones.
        let is_inner = |share: &Estimate| share.value > 0.0 && share.value < 1.0;
        let interval = match percentiles(of_replicates) {
            Some(interval) if is_inner(recall) && is_inner(false_alarm_rate) => interval,
            _ => {
                let (recall, rate) = (recall.interval, false_alarm_rate.interval);
                let ends = [(recall.low, rate.high), (recall.high, rate.low)];
                let [low, high] = ends.map(|(recall, rate)| precision(base_rate, recall, rate));
                Interval { low: if low.is_nan() { 0.0 } else { low }, high: if high.is_nan() { 1.0 } else { high } }
            }
        };
        let value = precision(base_rate, recall.value, false_alarm_rate.value);
        AtBaseRate {
            base_rate,
            precision: Estimate { value: if value.is_nan() { 0.0 } else { value }, interval },
            flows_per_day,
            true_alarms_per_day: flows_per_day.map(|flows| recall.times(base_rate * flows)),
            false_alarms_per_day: flows_per_day.map(|flows| false_alarm_rate.times((1.0 - base_rate) * flows)),
        }
    }
}

/// Share of the alarms that are true, by Bayes; NaN where there are none.
fn precision(base_rate: f64, recall: f64, false_alarm_rate: f64) -> f64 {
    let (true_alarms, false_alarms) = (base_rate * recall, (1.0 - base_rate) * false_alarm_rate);
    true_alarms / (true_alarms + false_alarms)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::NAN } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Axelsson's example (section 4): at 2 in 100,000 and recall 1, false alarms must be below 1 in 100,000 for a precision
    /// of two thirds.
    #[test]
    fn rare_attacks_drown_in_false_alarms() {
        assert!((precision(2e-5, 1.0, 1e-5) - 0.66667).abs() < 1e-4);
        assert!((precision(2e-5, 0.7, 1e-3) - 0.0138).abs() < 1e-4);
        assert!(precision(0.5, 0.0, 0.0).is_nan());
    }

    #[test]
    fn no_false_alarm_seen_does_not_mean_none_will_come() {
        let (recall, false_alarm_rate) = (Estimate::of_share(90, 100), Estimate::of_share(0, 1_000));
        let expected = Expected { recall, false_alarm_rate, replicates: vec![(0.9, 0.0); 10] };
        let AtBaseRate { precision, false_alarms_per_day, .. } = expected.at(0.001, Some(1e6));
        assert_eq!(precision.value, 1.0);
        assert!(precision.interval.low < 0.25 && precision.interval.high == 1.0, "{precision:?}");
        let daily = false_alarms_per_day.expect("flows a day are given");
        assert_eq!((daily.value, daily.interval.low), (0.0, 0.0));
        assert!((3_000.0..4_500.0).contains(&daily.interval.high), "{daily:?}");
    }
}
