//! Alert thresholds for a budget of false alarms, chosen on validation rows.
//!
//! An alert is raised where an attack is predicted with a probability that reaches its class's threshold
//! ([`AlertPolicy`]). A budget of B false alarms among N flows a day allows a false-alarm rate of B / N, hence among n
//! benign validation rows n B / N false alarms, rounded down. All flows are taken to be benign: attacks only make the
//! false alarms fewer.
//!
//! How the allowed alarms are shared: every class starts with the threshold that no benign row reaches (but those of
//! probability 1, which no threshold can keep out). Then, step by step, the threshold is lowered that gains the most
//! attacks per false alarm, as far down as that ratio is best, until no step fits. Per class these steps run along the
//! upper concave hull of its curve of attacks against false alarms (Provost & Fawcett, *Robust classification for
//! imprecise environments*, Machine Learning 2001), and taking hulls' steps in the order of their slopes is the best
//! for the alarms spent (Fox, *Discrete optimization via marginal analysis*, Management Science 1966). An attack counts
//! as caught whatever attack it is called.
//!
//! A threshold lies half-way between the benign row that it keeps out and the row above; it is 0 where it keeps out none.

use std::fmt;

use serde::Serialize;

use crate::alert::AlertPolicy;
use crate::data_card::grouped;
use crate::error::{Error, Result};
use crate::evaluate::{Cases, Estimate, Interval};

/// Allowed false alarms among the benign validation rows below which a budget is refused. Where none is seen among n
/// rows, the rate is below 3 / n with a confidence of 95 % (Hanley & Lippman-Hand, JAMA 1983): so with fewer than 3
/// allowed, not even thresholds without any false alarm would be known to keep the budget.
pub const LEAST_ALLOWED: f64 = 3.0;

/// How many false alarms a day are bearable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    /// False alarms a day.
    pub false_alarms_per_day: f64,
    /// Flows a day.
    pub flows_per_day: f64,
}

/// The thresholds for a budget, and what they cost. All figures are of the validation rows, on which the thresholds were
/// chosen: on others there will be somewhat more false alarms and fewer attacks caught.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Budgeted {
    /// Version of the model.
    pub model: String,
    /// The budget.
    pub budget: Budget,
    /// The thresholds.
    pub policy: AlertPolicy,
    /// Benign validation rows.
    pub benign_rows: u64,
    /// How many of them may raise an alert.
    pub allowed: u64,
    /// How many did before: with the model as it was.
    pub false_alarms_before: u64,
    /// How many do.
    pub false_alarms: u64,
    /// False alarms a day before.
    pub per_day_before: Estimate,
    /// False alarms a day.
    pub per_day: Estimate,
    /// Share of the attacks that raise an alert, of whatever class.
    pub recall: BeforeAfter,
    /// The same by class of the attacks, in the model's order.
    pub classes: Vec<ClassCost>,
}

/// A share as it was and as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BeforeAfter {
    /// Rows.
    pub rows: u64,
    /// With the model as it was.
    pub before: Estimate,
    /// With the thresholds.
    pub after: Estimate,
}

/// What the budget costs of a class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassCost {
    /// Its name.
    pub class: String,
    /// The threshold for alerts that name it.
    pub threshold: f64,
    /// Benign rows that raise an alert that names it.
    pub false_alarms: u64,
    /// Share of its rows that raise an alert, of whatever class.
    pub recall: BeforeAfter,
}

impl Budget {
    /// The thresholds for this budget, chosen on `cases`: labelled rows that the model was not trained on.
    ///
    /// # Errors
    /// [`Error::Policy`] where the benign rows are too few for the budget, or no thresholds keep it.
    pub fn choose(self, cases: &Cases) -> Result<Budgeted> {
        let refused = |detail: String| Error::Policy { detail };
        let (model, benign) = (&cases.model, cases.model.benign());
        let benign_rows = cases.cases.iter().filter(|case| !cases.is_attack(case)).count() as u64;
        let rate = self.false_alarms_per_day / self.flows_per_day;
        let allowed = benign_rows as f64 * rate;
        if allowed < LEAST_ALLOWED {
            let needed = (LEAST_ALLOWED / rate).ceil() as u64;
            return Err(refused(format!(
                "{} benign rows are too few for a budget of {} false alarms among {} flows a day: they allow {allowed:.2} \
                 false alarms, and with fewer than {LEAST_ALLOWED} it cannot be known that the budget is kept (rule of \
                 three). It takes {} benign rows, or a larger budget",
                grouped(benign_rows),
                self.false_alarms_per_day,
                self.flows_per_day,
                grouped(needed)
            )));
        }
        let allowed = allowed.floor() as u64;
        let mut curves = vec![Curve::default(); model.classes().len()];
        for case in &cases.cases {
            let curve = &mut curves[case.said.class as usize];
            let side = if cases.is_attack(case) { &mut curve.attacks } else { &mut curve.benign };
            side.push(case.said.probability);
        }
        // What is called benign raises nothing.
        curves[benign] = Curve::default();
        let thresholds = share_out(&curves, allowed as usize).ok_or_else(|| {
            refused(format!(
                "more than the {allowed} benign rows that the budget allows are called an attack with a probability of 1, \
                 which no threshold keeps out"
            ))
        })?;
        let named = model.classes().iter().zip(&thresholds).enumerate();
        let by_class = named
            .filter(|&(position, (_, &threshold))| position != benign && threshold > 0.0)
            .map(|(_, (class, &threshold))| (class.clone(), threshold));
        let policy = AlertPolicy { threshold: 0.0, by_class: by_class.collect() };
        let alerting = policy.bind(model)?;
        let raises = |case: &crate::evaluate::Case| alerting.reaches(case.said.class as usize, case.said.probability);
        let count = |is_counted: &dyn Fn(&crate::evaluate::Case) -> bool| {
            cases.cases.iter().filter(|case| is_counted(case)).count() as u64
        };
        let recall = |is_of: &dyn Fn(&crate::evaluate::Case) -> bool| {
            let rows = count(is_of);
            BeforeAfter {
                rows,
                before: Estimate::of_share(count(&|case| is_of(case) && case.said.raised), rows),
                after: Estimate::of_share(count(&|case| is_of(case) && raises(case)), rows),
            }
        };
        let false_alarms_before = count(&|case| !cases.is_attack(case) && case.said.raised);
        let false_alarms = count(&|case| !cases.is_attack(case) && raises(case));
        let per_day = |alarms| Estimate::of_share(alarms, benign_rows).times(self.flows_per_day);
        let attacks = (0..model.classes().len()).filter(|&class| class != benign);
        let classes = attacks.map(|class| ClassCost {
            class: model.classes()[class].clone(),
            threshold: thresholds[class],
            false_alarms: count(&|case| !cases.is_attack(case) && case.said.class as usize == class && raises(case)),
            recall: recall(&|case| case.actual as usize == class),
        });
        Ok(Budgeted {
            model: model.version().to_owned(),
            budget: self,
            benign_rows,
            allowed,
            false_alarms_before,
            false_alarms,
            per_day_before: per_day(false_alarms_before),
            per_day: per_day(false_alarms),
            recall: recall(&|case| cases.is_attack(case)),
            classes: classes.collect(),
            policy,
        })
    }
}

/// The rows that are called one class: their probabilities of it.
#[derive(Debug, Clone, Default)]
struct Curve {
    benign: Vec<f64>,
    attacks: Vec<f64>,
}

/// A threshold and what it lets through.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    threshold: f64,
    false_alarms: usize,
    caught: usize,
}

impl Curve {
    /// The levels at which one benign probability is the highest that is kept out, from the strictest on; the last keeps
    /// out none. Those beyond `most` false alarms are left out.
    fn levels(&self, most: usize) -> Vec<Level> {
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_unstable_by(|one, other| other.total_cmp(one));
            values
        };
        let (benign, attacks) = (sorted(&self.benign), sorted(&self.attacks));
        let mut levels = Vec::new();
        let mut false_alarms = 0;
        while false_alarms <= most {
            let Some(&kept_out) = benign.get(false_alarms) else {
                levels.push(Level { threshold: 0.0, false_alarms, caught: attacks.len() });
                break;
            };
            let caught = attacks.partition_point(|&probability| probability > kept_out);
            let above = |values: &[f64], n: usize| n.checked_sub(1).map_or(1.0, |last| values[last]);
            let lowest = above(&benign, false_alarms).min(above(&attacks, caught));
            // A probability of 1 reaches every threshold.
            if kept_out < 1.0 {
                let middle = kept_out + (lowest - kept_out) / 2.0;
                let threshold = if middle > kept_out { middle } else { lowest };
                levels.push(Level { threshold, false_alarms, caught });
            }
            // Rows of one probability come together.
            false_alarms += benign[false_alarms..].partition_point(|&probability| probability == kept_out);
        }
        levels
    }
}

/// A threshold for each curve, so that `allowed` benign rows at most reach one; `None` where more do anyway.
fn share_out(curves: &[Curve], allowed: usize) -> Option<Vec<f64>> {
    let levels: Vec<_> = curves.iter().map(|curve| curve.levels(allowed)).collect();
    let mut at = vec![0; curves.len()];
    let strictest: usize = levels.iter().map(|levels| Some(levels.first()?.false_alarms)).sum::<Option<_>>()?;
    let mut left = allowed.checked_sub(strictest)?;
    loop {
        // The step with the most attacks per false alarm; of equals the first of the cheapest.
        let mut best: Option<(usize, usize, usize, usize)> = None;
        for (curve, levels) in levels.iter().enumerate() {
            let now = levels[at[curve]];
            for (level, next) in levels.iter().enumerate().skip(at[curve] + 1) {
                let (cost, gain) = (next.false_alarms - now.false_alarms, next.caught - now.caught);
                if cost > left {
                    break;
                }
                let is_better = best.is_none_or(|(.., best_cost, best_gain)| {
                    let (mine, others) = (gain * best_cost, best_gain * cost);
                    mine > others || (mine == others && cost < best_cost)
                });
                if gain > 0 && is_better {
                    best = Some((curve, level, cost, gain));
                }
            }
        }
        let Some((curve, level, cost, _)) = best else {
            return Some(levels.iter().zip(at).map(|(levels, at)| levels[at].threshold).collect());
        };
        at[curve] = level;
        left -= cost;
    }
}

impl fmt::Display for Budgeted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { false_alarms_per_day, flows_per_day } = self.budget;
        writeln!(f, "model     {}", self.model)?;
        writeln!(f, "budget    {false_alarms_per_day} false alarms among {flows_per_day} flows a day")?;
        let benign = grouped(self.benign_rows);
        writeln!(f, "          {} of the {benign} benign validation rows may raise an alert", grouped(self.allowed))?;
        let mut alarms = |name: &str, rows: u64, per_day: Estimate| {
            let Estimate { value, interval: Interval { low, high } } = per_day;
            writeln!(f, "{name}    {:>8} do: {value:.1} a day [{low:.1}, {high:.1}]", grouped(rows))
        };
        alarms("before", self.false_alarms_before, self.per_day_before)?;
        alarms("after ", self.false_alarms, self.per_day)?;
        let width = self.classes.iter().map(|class| class.class.chars().count()).max().unwrap_or(0).max(11);
        writeln!(
            f,
            "\n{:width$}  threshold  false alarms      rows  {:24}  after",
            "attacks that raise an alert",
            "before",
            width = width
        )?;
        let both = |recall: &BeforeAfter| {
            let share = |Estimate { value, interval: Interval { low, high } }: Estimate| {
                format!("{:6.2} % [{:.2}, {:.2}]", 100.0 * value, 100.0 * low, 100.0 * high)
            };
            if recall.rows == 0 {
                return format!("{:>8}", "-");
            }
            format!("{:>8}  {:24}  {}", grouped(recall.rows), share(recall.before), share(recall.after))
        };
        for ClassCost { class, threshold, false_alarms, recall } in &self.classes {
            writeln!(f, "{class:width$}  {threshold:9.4}  {:>12}  {}", grouped(*false_alarms), both(recall))?;
        }
        writeln!(f, "{:width$}  {:9}  {:>12}  {}", "all attacks", "", grouped(self.false_alarms), both(&self.recall))?;
        write!(
            f,
            "\nIn brackets 95 % intervals (Wilson 1927). The thresholds were chosen on these rows, which the model must not \
             have been trained on:\nwhat they are worth, `ids evaluate` says on others."
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spent(curves: &[Curve], thresholds: &[f64]) -> (usize, usize) {
        let reach = |values: &[f64], threshold| values.iter().filter(|&&value| value >= threshold).count();
        let both = curves.iter().zip(thresholds);
        both.fold((0, 0), |(false_alarms, caught), (curve, &threshold)| {
            (false_alarms + reach(&curve.benign, threshold), caught + reach(&curve.attacks, threshold))
        })
    }

    #[test]
    fn alarms_go_where_they_gain_most() {
        let scan = Curve { benign: vec![0.9, 0.5, 0.4], attacks: vec![0.95, 0.8, 0.8, 0.8, 0.45] };
        let worm = Curve { benign: vec![0.7], attacks: vec![0.9, 0.6] };
        let of = |allowed| {
            let curves = [scan.clone(), worm.clone()];
            let thresholds = share_out(&curves, allowed).expect("thresholds");
            (thresholds.clone(), spent(&curves, &thresholds))
        };
        // Between the benign 0.9 and the 0.95 above it; between 0.7 and 0.9.
        let (thresholds, alarms) = of(0);
        assert!((thresholds[0] - 0.925).abs() < 1e-12 && (thresholds[1] - 0.8).abs() < 1e-12, "{thresholds:?}");
        assert_eq!(alarms, (0, 2));
        // The first goes to the scan, which gains 3; then the worm's gains 1, and so does the scan's.
        assert_eq!((of(1).1, of(2).1, of(3).1), ((1, 5), (2, 6), (3, 7)));
        // The last benign row of the scan hides no attack: it stays out.
        assert_eq!((of(4).1, of(100).1), ((3, 7), (3, 7)));
    }

    #[test]
    fn what_no_threshold_keeps_out_counts() {
        let sure = Curve { benign: vec![1.0, 1.0, 0.5], attacks: vec![1.0, 0.6] };
        assert_eq!(share_out(std::slice::from_ref(&sure), 1), None);
        let thresholds = share_out(std::slice::from_ref(&sure), 2).expect("thresholds");
        assert_eq!(spent(&[sure], &thresholds), (2, 2));
        assert_eq!(share_out(&[Curve::default()], 0), Some(vec![0.0]));
    }

    /// The most attacks that can be caught for so many false alarms.
    fn best(levels: &[Vec<Level>], allowed: usize) -> usize {
        let Some((first, rest)) = levels.split_first() else { return 0 };
        let fitting = first.iter().filter(|level| level.false_alarms <= allowed);
        fitting.map(|level| level.caught + best(rest, allowed - level.false_alarms)).max().unwrap_or(0)
    }

    proptest! {
        /// Never more alarms than allowed, and as many attacks as any thresholds catch, but for less than one step.
        #[test]
        fn the_budget_is_kept_and_well_spent(
            curves in prop::collection::vec(
                (prop::collection::vec(1..20u8, 0..8), prop::collection::vec(1..20u8, 0..12)),
                1..4,
            ),
            allowed in 0..12usize,
        ) {
            let probabilities = |values: Vec<u8>| values.into_iter().map(|value| f64::from(value) / 20.0).collect();
            let curves: Vec<_> = curves
                .into_iter()
                .map(|(benign, attacks)| Curve { benign: probabilities(benign), attacks: probabilities(attacks) })
                .collect();
            let thresholds = share_out(&curves, allowed).expect("no probability is 1");
            let (false_alarms, caught) = spent(&curves, &thresholds);
            prop_assert!(false_alarms <= allowed);
            let levels: Vec<_> = curves.iter().map(|curve| curve.levels(allowed)).collect();
            let step = levels.iter().flat_map(|levels| Some(levels.last()?.caught - levels.first()?.caught)).max();
            prop_assert!(caught + step.unwrap_or(0) >= best(&levels, allowed));
            // With room for every benign row nothing is kept out that could be caught.
            let all: usize = curves.iter().map(|curve| curve.attacks.len()).sum();
            let thresholds = share_out(&curves, 100).expect("no probability is 1");
            prop_assert_eq!(spent(&curves, &thresholds).1, all);
        }
    }
}
