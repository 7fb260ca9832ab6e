//! A real Prometheus scrapes a real detector and producer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ids_kafka::{EmbeddedKafka, Topics};
use ids_reliability::cluster::free_port;
use ids_reliability::program::{ask, bound_to_us, program};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

/// A process that is killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &Path, arguments: &[&str]) -> Running {
    let mut command = bound_to_us(program);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command.args(arguments).current_dir(root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().expect("starts"))
}

fn local() -> String {
    format!("127.0.0.1:{}", free_port().expect("a port"))
}

#[test]
fn prometheus_reads_what_the_programs_count() {
    let exists = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !exists("prometheus") || !exists("promtool") {
        eprintln!("SKIPPED: metrics as Prometheus reads them: there is no prometheus or promtool (Debian: prometheus)");
        return;
    }
    let kafka = EmbeddedKafka::start(1).expect("starts");
    kafka.create(&Topics::of("demo"), 3).expect("creates topics");
    let servers = kafka.connection().bootstrap_servers;
    let (detector, producer, prometheus) = (local(), local(), local());
    let _detector = start(
        &program("detector").expect("a program"),
        &["--model", "models/unsw-nb15-small", "--bootstrap-servers", &servers, "--listen", &detector],
    );
    let _producer = start(
        &program("producer").expect("a program"),
        &["--rate", "300", "--malformed", "0.05", "--bootstrap-servers", &servers, "--listen", &producer],
    );
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
         - {{ job_name: detector, static_configs: [{{ targets: ['{detector}'] }}] }}\n\
         - {{ job_name: producer, static_configs: [{{ targets: ['{producer}'] }}] }}\n"
    );
    std::fs::write(&config, text).expect("writes");
    let config = format!("--config.file={}", config.display());
    let data = format!("--storage.tsdb.path={}", directory.path().join("data").display());
    let listen = format!("--web.listen-address={prometheus}");
    let _prometheus = start(&PathBuf::from("prometheus"), &[&config, &data, &listen]);

    // The sum of all series of a name.
    let query = |name: &str| -> Option<f64> {
        let (_, answer) = ask("GET", &format!("http://{prometheus}/api/v1/query?query={name}")).ok()?;
        let answer: Value = serde_json::from_str(&answer).ok()?;
        let series = answer["data"]["result"].as_array()?.iter();
        let values: Vec<f64> = series.filter_map(|series| series["value"][1].as_str()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    };
    let start = Instant::now();
    let wait_for = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            thread::sleep(Duration::from_millis(200));
        }
    };
    wait_for("both are scraped", &|| query("up") == Some(2.0));
    wait_for("rows are scored", &|| query("ids_verdicts_total").is_some_and(|n| n > 300.0));
    wait_for("dead letters", &|| query("ids_dead_letters_total").is_some_and(|n| n > 3.0));
    for name in [
        "ids_records_total",
        "ids_alerts_total",
        "ids_end_to_end_seconds_bucket",
        "ids_lag_records",
        "ids_model_info",
        "ids_producer_records_total",
        "ids_producer_acknowledged_total",
        "ids_producer_bytes_total",
    ] {
        wait_for(name, &|| query(name).is_some_and(|n| n > 0.0 || name == "ids_lag_records"));
    }
    for address in [&detector, &producer] {
        assert_eq!(ask("GET", &format!("http://{address}/readyz")).expect("answers").0, 200);
        let (_, metrics) = ask("GET", &format!("http://{address}/metrics")).expect("answers");
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut promtool = command.spawn().expect("starts");
        promtool.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("writes");
        let output = promtool.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.trim().is_empty(), "{said}\n{metrics}");
    }
}
