//! Models reloaded every 100 ms under load, most of them unusable: every row is scored by a good one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ids_core::{Model, Schema};
use ids_kafka::recon::Books;
use ids_kafka::tally::{self, Tally};
use ids_kafka::{EmbeddedKafka, Topics};

use crate::cluster::free_port;
use crate::program::{Detector, ask};
use crate::scenario::{Arriving, Outcome, repository, synthetic_flows};

const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);
/// The embedded Kafka keeps 5 MiB of each.
const PARTITIONS: i32 = 12;

/// A file that is put where the detector looks for its model.
struct Offer {
    name: &'static str,
    bytes: Vec<u8>,
    /// To which it is extended by nothing: files larger than anybody would read.
    length: Option<u64>,
    /// What the detector must say against it; `None`: it must take it.
    refusal: Option<&'static str>,
}

/// Reloads a model every 100 ms for `length` while `rate` rows a second arrive, in turn good ones and ones that are
/// corrupt, truncated, huge, of another schema or no model.
///
/// # Errors
/// Where the detector takes a bad model or refuses a good one, counts otherwise, or ends.
pub fn reload_storm(length: Duration, rate: f64) -> Result<Outcome> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let (small, large) = (repository().join("models/unsw-nb15-small"), repository().join("models/unsw-nb15"));
    let models = [Arc::new(Model::load(&small)?), Arc::new(Model::load(&large)?)];
    let offers = offers(directory.path(), &models, &small)?;
    let path = directory.path().join("model.ids");
    put(&path, &offers[0])?;

    let kafka = EmbeddedKafka::start(1)?;
    let topics = Topics::of("demo");
    kafka.create(&topics, PARTITIONS)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let servers = kafka.connection().bootstrap_servers;
    let arguments = ["--model", &path.to_string_lossy(), "--bootstrap-servers", &servers, "--listen", &address]
        .into_iter()
        .chain(["--kafka", "fetch.wait.max.ms=10"])
        .map(Into::into)
        .collect::<Vec<String>>();
    let mut detector = Detector::start(&arguments, &directory.path().join("detector.log"))?;
    let metrics = || ask("GET", &format!("http://{address}/metrics")).map(|(_, text)| text);
    wait("the detector is ready", || {
        Ok(ask("GET", &format!("http://{address}/readyz")).is_ok_and(|(code, _)| code == 200))
    })?;
    let arriving = Arriving::start(kafka.connection(), &topics.flows, synthetic_flows()?, rate)?;

    let (start, mut n_taken, mut n_refused) = (Instant::now(), 0u64, 0u64);
    for (i, offer) in offers.iter().cycle().enumerate() {
        if start.elapsed() >= length {
            break;
        }
        put(&path, offer)?;
        let (status, answer) = ask("POST", &format!("http://{address}/reload"))?;
        match offer.refusal {
            None => ensure!(status == 200, "the {} model was refused: {answer}", offer.name),
            Some(reason) => {
                ensure!(status == 422 && answer.contains(reason), "the {} model: {status} {answer}", offer.name);
                n_refused += 1;
            }
        }
        n_taken += u64::from(offer.refusal.is_none());
        detector.check()?;
        thread::sleep((start + INTERVAL * (i as u32 + 1)).saturating_duration_since(Instant::now()));
    }
    let acked = arriving.finish()?;
    let count = |name: &str| Ok::<_, anyhow::Error>(tally::sum(&metrics()?, name).unwrap_or(0.0) as u64);
    wait("all rows are done", || {
        Ok(count("ids_end_to_end_seconds_count")? >= acked.len() as u64 && count("ids_in_flight_records")? == 0)
    })?;
    ensure!(count("ids_model_refusals_total")? == n_refused, "{n_refused} refused, the metrics say otherwise");
    // Two that are offered between two batches are one.
    let n_reloads = count("ids_model_reloads_total")?;
    ensure!(n_reloads <= n_taken && n_reloads * 2 >= n_taken, "{n_taken} offered, {n_reloads} taken over");

    let report = Books {
        connection: &kafka.connection(),
        topics: &topics,
        models: &models,
        policy: None,
        csv_columns: None,
        acked: Some(&acked),
        tallies: &[Tally::read(&address, &metrics()?)?],
        tallies_are_all: true,
    }
    .check()?;
    detector.stop()?;
    let kills = usize::try_from(n_taken + n_refused)?;
    Ok(Outcome::new("models reloaded", "at-least-once", kills, report))
}

/// The files that take turns; the first is good.
fn offers(directory: &Path, models: &[Arc<Model>; 2], small: &Path) -> Result<Vec<Offer>> {
    let saved = |model: &Model, name: &str| -> Result<Vec<u8>> {
        let path = directory.join(name);
        model.save(&path)?;
        Ok(fs::read(path)?)
    };
    let (good, large) = (saved(&models[0], "small.ids")?, saved(&models[1], "large.ids")?);
    let schema = fs::read_to_string(repository().join("ids-core/src/schema/unsw-nb15.toml"))?;
    let schema = Schema::from_toml(&(schema + "\n[[columns]]\nname = \"another\"\nkind = \"number\"\n"))?;
    let other_schema = saved(&Model::load_spark(small, schema)?, "other.ids")?;
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 1;
    // A header that promises more than anybody has.
    let huge = [&good[..12], &u64::MAX.to_le_bytes()[..], &good[20..]].concat();
    let truncated = good[..middle].to_vec();
    let offer = |name, bytes: &[u8], refusal| Offer { name, bytes: bytes.to_vec(), length: None, refusal };
    Ok(vec![
        offer("small", &good, None),
        offer("corrupt", &corrupt, Some("checksum")),
        offer("large", &large, None),
        offer("truncated", &truncated, Some("truncated")),
        offer("empty", b"", Some("not a model file")),
        offer("small", &good, None),
        offer("huge by its header", &huge, Some("truncated")),
        Offer { length: Some(8 << 30), ..offer("huge", &good, Some("bytes follow the end")) },
        offer("other schema's", &other_schema, Some("schema")),
        offer("large", &large, None),
    ])
}

/// Puts a file in the model's place, in one step.
fn put(path: &Path, offer: &Offer) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::write(&partial, &offer.bytes)?;
    if let Some(length) = offer.length {
        fs::File::options().write(true).open(&partial)?.set_len(length)?;
    }
    fs::rename(&partial, path).context("cannot replace the model")
}

fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "not so after {} s: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
