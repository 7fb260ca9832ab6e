//! When flows arrive: a Poisson process whose rate bursts. Pure and seeded: no clock here.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Pareto, Poisson};

use crate::config::Load;

/// Arrivals that one second may hold on average: they are drawn at once.
const MOST_PER_SECOND: f64 = 2e6;

/// The arrival times of an endless replay.
///
/// Each second is a burst with probability `burst_prob`; a burst multiplies the rate by
/// `2 x (Pareto(burst_power) + 1)`, where `Pareto` is the distribution that starts at 0 (Lomax, as
/// NumPy draws it), that is by a Pareto variable that starts at 2, but by no more than `burst_cap`.
/// The second then holds Poisson(rate) arrivals, spread evenly at random.
#[derive(Debug)]
pub struct Arrivals {
    rng: StdRng,
    rate: f64,
    burst_prob: f64,
    burst: Pareto<f64>,
    burst_cap: f64,
    second: u64,
    n_bursts: u64,
    /// The rest of the current second, latest first.
    offsets: Vec<Duration>,
}

impl Arrivals {
    /// The arrivals that `load` describes.
    pub fn new(load: &Load) -> Self {
        Self {
            rng: StdRng::seed_from_u64(load.seed),
            rate: load.rate.get(),
            burst_prob: load.burst_prob.get(),
            burst: Pareto::new(2.0, load.burst_power.get()).expect("a burst power is positive and finite"),
            burst_cap: load.burst_cap.get(),
            second: 0,
            n_bursts: 0,
            offsets: Vec::new(),
        }
    }

    /// How many seconds were a burst so far.
    pub fn n_bursts(&self) -> u64 {
        self.n_bursts
    }

    fn draw_second(&mut self) {
        let is_burst = self.rng.random_bool(self.burst_prob);
        self.n_bursts += u64::from(is_burst);
        let factor = if is_burst { self.burst.sample(&mut self.rng).min(self.burst_cap) } else { 1.0 };
        let poisson = Poisson::new((self.rate * factor).min(MOST_PER_SECOND)).expect("a rate is positive and finite");
        let n = poisson.sample(&mut self.rng) as u64;
        let start = Duration::from_secs(self.second);
        self.offsets = (0..n).map(|_| start + Duration::from_secs_f64(self.rng.random::<f64>())).collect();
        self.offsets.sort_unstable_by(|a, b| b.cmp(a));
        self.second += 1;
    }
}

impl Iterator for Arrivals {
    /// Time since the start of the replay.
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            if let Some(offset) = self.offsets.pop() {
                return Some(offset);
            }
            self.draw_second();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BurstCap, Fraction, Rate};

    fn load(rate: f64, burst_prob: f64) -> Load {
        Load {
            rate: Rate::new(rate).expect("a rate"),
            burst_prob: Fraction::new(burst_prob).expect("a probability"),
            ..Load::default()
        }
    }

    fn per_second(load: &Load, seconds: u64) -> Vec<u64> {
        let mut counts = vec![0; seconds as usize];
        for arrival in Arrivals::new(load).take_while(|at| at.as_secs() < seconds) {
            counts[arrival.as_secs() as usize] += 1;
        }
        counts
    }

    #[test]
    fn without_bursts_seconds_are_poisson() {
        let counts = per_second(&load(100.0, 0.0), 2_000);
        let n = counts.len() as f64;
        let mean = counts.iter().sum::<u64>() as f64 / n;
        let variance = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum::<f64>() / n;
        // Five standard errors of mean and variance around 100.
        assert!((mean - 100.0).abs() < 1.2, "{mean}");
        assert!((variance - 100.0).abs() < 16.0, "{variance}");
    }

    #[test]
    fn bursts_double_the_rate_at_least_and_are_capped() {
        let mut load = load(1_000.0, 1.0);
        load.burst_cap = BurstCap::new(5.0).expect("a cap");
        let counts = per_second(&load, 500);
        assert!(counts.iter().all(|&count| (1_700..5_500).contains(&count)), "{counts:?}");
        // P(Pareto(2, shape 2) > 5) = (2/5)^2: about 80 of 500 seconds are at the cap.
        let capped = counts.iter().filter(|&&count| count > 4_700).count();
        assert!((50..130).contains(&capped), "{capped}");
    }

    #[test]
    fn a_seed_fixes_the_arrivals_and_they_are_in_order() {
        let load = load(50.0, 0.3);
        let first: Vec<_> = Arrivals::new(&load).take(500).collect();
        assert_eq!(first, Arrivals::new(&load).take(500).collect::<Vec<_>>());
        assert!(first.is_sorted());
    }
}
