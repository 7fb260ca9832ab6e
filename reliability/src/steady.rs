//! The detector under load for long, and under all the load there is: what memory it takes, and whether it keeps up.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ids_core::Model;
use ids_kafka::tally::{self, Tally};
use serde::Serialize;

use crate::cluster::free_port;
use crate::program::ask;
use crate::scenario::{Delivery, Lab, Outcome, PATIENCE, repository};

/// How often memory and lag are looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Memory is flat where the median of the last third is at most so many times that of the first third ...
const MOST_GROWTH: f64 = 1.1;
/// ... after this share of the run, in which caches and queues fill.
const WARM_UP: f64 = 0.1;
/// What the detector may take at full load.
const MOST_BYTES: u64 = 128 << 20;

/// Memory and lag of a detector under load.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Load {
    /// From the first row to the last.
    pub seconds: f64,
    /// Rows a second over that time.
    pub rows_per_second: f64,
    /// Most memory that was ever resident.
    pub peak_mib: f64,
    /// Median of resident memory over the first third after warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_third_mib: Option<f64>,
    /// The same over the last third.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_third_mib: Option<f64>,
    /// Most records behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_lag: Option<u64>,
    /// Records behind at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_lag: Option<u64>,
}

/// Lets rows arrive at `rate` a second with bursts for `length`: memory must stay flat, and the lag go back to 0.
///
/// # Errors
/// Where they do not, or the detector ends.
pub fn steady(lab: &mut Lab, length: Duration, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let delivery = Delivery::AtLeastOnce;
    let mut detector = lab.detector(delivery, Some("detector-0"), &["--listen", &address])?;
    let arriving = lab.arrive(rate)?;
    let mut look = || -> Result<(u64, u64)> {
        detector.check()?;
        Ok((detector.resident_bytes()?, lag(&address)?))
    };
    let (start, mut samples, mut next) = (Instant::now(), Vec::new(), Instant::now() + SAMPLE_INTERVAL);
    while start.elapsed() < length {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += SAMPLE_INTERVAL;
        samples.push(look()?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let acked = arriving.finish()?;
    let ended = Instant::now();
    let mut last_lag = look()?.1;
    while last_lag > 0 && ended.elapsed() < PATIENCE {
        thread::sleep(SAMPLE_INTERVAL);
        last_lag = look()?.1;
    }
    lab.wait_for_all(delivery, acked.len(), &mut detector)?;
    let peak_mib = mib(detector.peak_bytes()?);
    let tally = Tally::read(&address, &metrics(&address)?)?;
    detector.stop()?;

    let memory: Vec<u64> = samples.iter().map(|(bytes, _)| *bytes).collect();
    let warm = &memory[(memory.len() as f64 * WARM_UP) as usize..];
    let third = warm.len() / 3;
    ensure!(third > 0, "{} s are too short to tell whether memory is flat", length.as_secs());
    let (first, last) = (mib(median(&warm[..third])), mib(median(&warm[warm.len() - third..])));
    let load = Load {
        seconds,
        rows_per_second: acked.len() as f64 / seconds,
        peak_mib,
        first_third_mib: Some(first),
        last_third_mib: Some(last),
        most_lag: samples.iter().map(|(_, lag)| *lag).max(),
        last_lag: Some(last_lag),
    };
    ensure!(last <= first * MOST_GROWTH, "memory grows: {load:?}");
    ensure!(last_lag == 0, "the lag does not go back to 0: {load:?}");
    Ok(Outcome {
        load: Some(load),
        ..Outcome::new("steady load", delivery.name(), 0, lab.recon_with(&acked, &[tally])?)
    })
}

/// Has a detector with the default model, as a model file, work off a topic of `n_rows`: it may take 128 MiB.
///
/// # Errors
/// Where it takes more, or ends.
pub fn full_load(lab: &mut Lab, n_rows: u64) -> Result<Outcome> {
    lab.renew()?;
    let file = lab.directory().join("unsw-nb15.ids");
    Model::load(repository().join("models/unsw-nb15"))?.save(&file)?;
    lab.set_model(&file)?;
    let acked = lab.fill(n_rows)?;
    let delivery = Delivery::AtLeastOnce;
    let mut detector = lab.detector(delivery, Some("detector-0"), &[])?;
    lab.wait_for_more(delivery, 0, &mut detector)?;
    let start = Instant::now();
    lab.wait_for_all(delivery, acked.len(), &mut detector)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = detector.peak_bytes()?;
    detector.stop()?;
    let rows_per_second = acked.len() as f64 / seconds;
    let load = Load { seconds, rows_per_second, peak_mib: mib(peak), ..Load::default() };
    let report = lab.recon(&acked)?;
    lab.set_model(&repository().join("models/unsw-nb15-small"))?;
    ensure!(peak <= MOST_BYTES, "more than {} MiB: {load:?}", MOST_BYTES >> 20);
    Ok(Outcome { load: Some(load), ..Outcome::new("full load", delivery.name(), 0, report) })
}

/// Records that the detector says are not done.
fn lag(address: &str) -> Result<u64> {
    Ok(tally::sum(&metrics(address)?, "ids_lag_records").unwrap_or(0.0) as u64)
}

fn metrics(address: &str) -> Result<String> {
    Ok(ask("GET", &format!("http://{address}/metrics"))?.1)
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn mib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0
}
