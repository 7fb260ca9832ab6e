//! TLS and SASL against a real broker: PLAIN and SCRAM over TLS, certificates on both sides, a wrong password.

use std::path::Path;
use std::time::{Duration, Instant};

use ids_kafka::replay::{Limit, read_flows};
use ids_kafka::{Connection, Replay, ReplayConfig, Shutdown, Topics};
use ids_reliability::cluster::{self, Cluster, Listener, Options, Shape, free_port};
use ids_reliability::program::Detector;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

const PATIENCE: Duration = Duration::from_secs(60);

/// A certificate authority with a certificate each for the broker and a client, in `directory`.
fn certify(directory: &Path) {
    let write = |name: &str, text: String| std::fs::write(directory.join(name), text).expect("writes");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    // Another name than the certificates below: else they look self-signed.
    authority.distinguished_name.push(DnType::CommonName, "ids test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    write("ca.pem", authority.self_signed(&key).expect("a certificate").pem());
    let issuer = Issuer::new(authority, key);
    for name in ["broker", "client"] {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names).expect("parameters").signed_by(&key, &issuer);
        let certificate = certificate.expect("a certificate").pem();
        write(&format!("{name}-all.pem"), certificate.clone() + &key.serialize_pem());
        write(&format!("{name}.pem"), certificate);
        write(&format!("{name}-key.pem"), key.serialize_pem());
    }
}

#[test]
fn a_secured_broker_is_reached_and_a_wrong_password_is_said() {
    if let Some(reason) = cluster::missing() {
        eprintln!("SKIPPED: tests on a real Kafka: {reason}");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    certify(directory.path());
    std::fs::write(path("password"), "s3cret\n").expect("writes");
    std::fs::write(path("wrong"), "guessed\n").expect("writes");
    let listener = |name, protocol| Listener { name, protocol, port: free_port().expect("a port") };
    let (sasl, mutual) = (listener("SECURE", "SASL_SSL"), listener("MUTUAL", "SSL"));
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_ids=\"s3cret\";";
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let (keys, trusted) = (path("broker-all.pem"), path("ca.pem"));
    let properties = [
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", keys.as_str()),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", trusted.as_str()),
        ("listener.name.mutual.ssl.client.auth", "required"),
        ("listener.name.secure.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512"),
        ("listener.name.secure.plain.sasl.jaas.config", plain),
        ("listener.name.secure.scram-sha-512.sasl.jaas.config", scram),
    ];
    let options = Options {
        properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        listeners: vec![sasl.clone(), mutual.clone()],
        scram_user: Some(("ids".into(), "s3cret".into())),
    };
    let cluster = Cluster::start(directory.path(), Shape::Single, &options).expect("a cluster");
    let topics = Topics::of("demo");
    cluster.create_topics(&topics.all(), 2).expect("topics");

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let flows = root.join("testdata/synthetic-unsw-nb15.csv");
    let schema = std::sync::Arc::new(ids_core::Schema::unsw_nb15());
    let file = std::io::BufReader::new(std::fs::File::open(&flows).expect("flows"));
    let rows = read_flows(file, &flows, &schema).expect("reads").flows;
    let config = ReplayConfig::new(Connection::new(cluster.bootstrap_servers()), "demo");
    let replay = Replay::new(config, rows, |_| ()).expect("a replay");
    replay.run(Limit { records: Some(300), duration: None }, &Shutdown::new()).expect("runs");

    let model = root.join("models/unsw-nb15-small").display().to_string();
    let detector = |group: &str, port: u16, properties: &[String], secrets: &[String]| {
        let mut arguments: Vec<String> = ["--model", &model, "--listen", "127.0.0.1:0", "--group-id", group]
            .into_iter()
            .chain(["--resume", "committed", "--bootstrap-servers"])
            .map(Into::into)
            .collect();
        arguments.push(format!("127.0.0.1:{port}"));
        for property in properties {
            arguments.extend(["--kafka".into(), property.clone()]);
        }
        for secret in secrets {
            arguments.extend(["--kafka-secret".into(), secret.clone()]);
        }
        Detector::start(&arguments, &directory.path().join(format!("{group}.log"))).expect("starts")
    };
    let ca = format!("ssl.ca.location={}", path("ca.pem"));
    let sasl_with = |mechanism: &str| {
        let more = ["security.protocol=SASL_SSL", "sasl.username=ids"].map(str::to_owned);
        [&more[..], &[format!("sasl.mechanism={mechanism}"), ca.clone()]].concat()
    };
    let mutual_tls = vec![
        "security.protocol=SSL".to_owned(),
        ca.clone(),
        format!("ssl.certificate.location={}", path("client.pem")),
        format!("ssl.key.location={}", path("client-key.pem")),
    ];
    let password = vec![format!("sasl.password={}", path("password"))];
    let cases = [
        ("plain", sasl.port, sasl_with("PLAIN"), password.clone()),
        ("scram", sasl.port, sasl_with("SCRAM-SHA-512"), password),
        ("mutual", mutual.port, mutual_tls, Vec::new()),
    ];
    let n_verdicts = || {
        let mut n = 0;
        let connection = Connection::new(cluster.bootstrap_servers());
        ids_kafka::read::read_all(&connection, &topics.verdicts, |_| n += 1).expect("reads");
        n
    };
    for (round, (group, port, properties, secrets)) in cases.iter().enumerate() {
        let mut running = detector(group, *port, properties, secrets);
        let start = Instant::now();
        while n_verdicts() < 300 * (round + 1) {
            running.check().expect("runs");
            let log = std::fs::read_to_string(path(&format!("{group}.log"))).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "{group}: {} verdicts; {log}", n_verdicts());
            std::thread::sleep(Duration::from_millis(100));
        }
        running.stop().expect("stops cleanly");
    }

    let wrong = [format!("sasl.password={}", path("wrong"))];
    let mut running = detector("wrong", sasl.port, &sasl_with("PLAIN"), &wrong);
    let start = Instant::now();
    let error = loop {
        match running.check() {
            Err(error) => break error.to_string(),
            Ok(()) => assert!(start.elapsed() < PATIENCE, "it does not end"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(error.to_lowercase().contains("authentication failed"), "{error}");
    let log = std::fs::read_to_string(path("wrong.log")).expect("a log");
    assert!(!log.contains("guessed"), "{log}");
}
