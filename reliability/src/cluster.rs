//! Apache Kafka on loopback, from its published jars: brokers and controllers (KRaft) as processes of their own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::program::bound_to_us;

/// Any 16 bytes in base64: the cluster is gone before anybody could confuse it with another.
const CLUSTER_ID: &str = "aWRzLXRlc3QtY2x1c3Rlcg";
/// How long nodes may take to start; a loaded machine is slow.
const START_WAIT: Duration = Duration::from_secs(120);

/// Why there is no Kafka here, if there is none: for tests to say when they pass over.
pub fn missing() -> Option<String> {
    if !jars().is_ok_and(|directory| directory.is_dir()) {
        return Some("Kafka's jars are not there: `make target/kafka` gets them with Maven".into());
    }
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!java.is_ok_and(|status| status.success())).then(|| "there is no Java".into())
}

/// The directory of Kafka's jars: `target/kafka/libs` of the build that this runs from.
fn jars() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("cannot tell where this program is")?;
    let target = executable.ancestors().find(|directory| directory.ends_with("target"));
    Ok(target.context("this program is in no target directory")?.join("kafka/libs"))
}

/// How many processes of each kind.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One that is broker and controller.
    Single,
    /// Three controllers and three brokers.
    Full,
}

/// Another way to a broker than the plain one.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name, in capitals.
    pub name: &'static str,
    /// SSL or SASL_SSL.
    pub protocol: &'static str,
    /// Its port on loopback.
    pub port: u16,
}

/// What a cluster has beside the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Properties of each broker.
    pub properties: Vec<(String, String)>,
    /// Further listeners; of a single node.
    pub listeners: Vec<Listener>,
    /// Name and password of a user of SCRAM-SHA-512.
    pub scram_user: Option<(String, String)>,
}

/// A running cluster; its processes end when it is dropped, and when the process that started it dies.
pub struct Cluster {
    directory: PathBuf,
    nodes: Vec<Node>,
    n_brokers: usize,
}

/// One process.
struct Node {
    name: String,
    port: u16,
    is_broker: bool,
    heap: &'static str,
    process: Option<Child>,
}

impl Cluster {
    /// Starts a cluster whose data and logs are in `directory`.
    ///
    /// # Errors
    /// Where Kafka's jars or Java are missing, or a node does not start: the message names its log.
    pub fn start(directory: &Path, shape: Shape, options: &Options) -> Result<Self> {
        if let Some(reason) = missing() {
            bail!(reason);
        }
        let (n_controllers, n_brokers) = match shape {
            Shape::Single => (0, 1),
            Shape::Full => (3, 3),
        };
        let mut nodes = Vec::new();
        for i in 0..n_controllers {
            nodes.push(Node {
                name: format!("controller-{i}"),
                port: free_port()?,
                is_broker: false,
                heap: "128m",
                process: None,
            });
        }
        for i in 0..n_brokers {
            nodes.push(Node {
                name: format!("broker-{i}"),
                port: free_port()?,
                is_broker: true,
                heap: "256m",
                process: None,
            });
        }
        let mut cluster = Self { directory: directory.into(), nodes, n_brokers };
        cluster.configure(shape, options)?;
        cluster.format(options)?;
        for node in 0..cluster.nodes.len() {
            cluster.launch(node)?;
        }
        cluster.wait_for_brokers(n_brokers)?;
        Ok(cluster)
    }

    /// Addresses of all brokers.
    pub fn bootstrap_servers(&self) -> String {
        let brokers = self.nodes.iter().filter(|node| node.is_broker);
        brokers.map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// Creates topics of `n_partitions` on as many brokers as there are.
    ///
    /// # Errors
    /// What Kafka says against it.
    pub fn create_topics(&self, topics: &[&str], n_partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create().context("cannot create a client")?;
        let replication = || TopicReplication::Fixed(self.n_brokers as i32);
        let topics: Vec<_> = topics.iter().map(|topic| NewTopic::new(topic, n_partitions, replication())).collect();
        let outcomes = futures_executor::block_on(admin.create_topics(&topics, &AdminOptions::new()))?;
        for outcome in outcomes {
            outcome.map_err(|(topic, code)| anyhow::anyhow!("topic `{topic}`: {code}"))?;
        }
        Ok(())
    }

    /// Gives `topic` more partitions: `n_partitions` in all.
    ///
    /// # Errors
    /// What Kafka says against it.
    pub fn add_partitions(&self, topic: &str, n_partitions: usize) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create().context("cannot create a client")?;
        let more = [NewPartitions::new(topic, n_partitions)];
        let outcomes = futures_executor::block_on(admin.create_partitions(&more, &AdminOptions::new()))?;
        for outcome in outcomes {
            outcome.map_err(|(topic, code)| anyhow::anyhow!("topic `{topic}`: {code}"))?;
        }
        Ok(())
    }

    /// Removes the records before these offsets, as retention does.
    ///
    /// # Errors
    /// What Kafka says against it.
    pub fn delete_records(&self, before: &TopicPartitionList) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create().context("cannot create a client")?;
        let outcome = futures_executor::block_on(admin.delete_records(before, &AdminOptions::new()))?;
        for element in outcome.elements() {
            element.error().with_context(|| format!("partition {}", element.partition()))?;
        }
        Ok(())
    }

    /// Kills a broker, as `kill -9` does.
    ///
    /// # Errors
    /// Where the process cannot be killed.
    pub fn kill_broker(&mut self, broker: usize) -> Result<()> {
        let node = self.broker(broker);
        if let Some(mut process) = self.nodes[node].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Stops a broker in order, as a rolling restart does.
    ///
    /// # Errors
    /// Where it does not stop.
    pub fn stop_broker(&mut self, broker: usize) -> Result<()> {
        let node = self.broker(broker);
        if let Some(mut process) = self.nodes[node].process.take() {
            crate::program::signal(&process, nix::sys::signal::Signal::SIGTERM)?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts a broker that was killed or stopped, and waits until as many as run are known.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_broker(&mut self, broker: usize) -> Result<()> {
        let node = self.broker(broker);
        self.launch(node)?;
        let n_running = self.nodes.iter().filter(|node| node.is_broker && node.process.is_some()).count();
        self.wait_for_brokers(n_running)
    }

    fn broker(&self, broker: usize) -> usize {
        self.nodes.len() - self.n_brokers + broker
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap_servers());
        config
    }

    fn configure(&self, shape: Shape, options: &Options) -> Result<()> {
        let is_single = matches!(shape, Shape::Single);
        let controller_port = if is_single { free_port()? } else { 0 };
        let voters: Vec<_> = if is_single {
            vec![format!("0@127.0.0.1:{controller_port}")]
        } else {
            let controllers = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_broker);
            controllers.map(|(id, node)| format!("{id}@127.0.0.1:{}", node.port)).collect()
        };
        let replication = self.n_brokers.to_string();
        let in_sync = self.n_brokers.min(2).to_string();
        let further = |of: &dyn Fn(&Listener) -> String| -> String {
            options.listeners.iter().map(|listener| format!(",{}", of(listener))).collect()
        };
        let addresses = further(&|Listener { name, port, .. }| format!("{name}://127.0.0.1:{port}"));
        let protocols = further(&|Listener { name, protocol, .. }| format!("{name}:{protocol}"));
        for (id, node) in self.nodes.iter().enumerate() {
            let directory = self.directory.join(&node.name);
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
            let port = node.port;
            let (roles, listeners) = match (is_single, node.is_broker) {
                (true, _) => (
                    "broker,controller",
                    format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{addresses}"),
                ),
                (false, true) => ("broker", format!("PLAINTEXT://127.0.0.1:{port}")),
                (false, false) => ("controller", format!("CONTROLLER://127.0.0.1:{port}")),
            };
            let mut lines = vec![
                format!("process.roles={roles}"),
                format!("node.id={id}"),
                format!("controller.quorum.voters={}", voters.join(",")),
                "controller.listener.names=CONTROLLER".into(),
                format!("listeners={listeners}"),
                format!("listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}"),
                format!("log.dirs={}", directory.join("data").display()),
                "group.initial.rebalance.delay.ms=0".into(),
                "group.min.session.timeout.ms=1000".into(),
                "auto.create.topics.enable=false".into(),
                "offsets.topic.num.partitions=6".into(),
                format!("offsets.topic.replication.factor={replication}"),
                "transaction.state.log.num.partitions=6".into(),
                format!("transaction.state.log.replication.factor={replication}"),
                format!("transaction.state.log.min.isr={in_sync}"),
                format!("min.insync.replicas={in_sync}"),
                "controlled.shutdown.max.retries=1".into(),
            ];
            if node.is_broker {
                lines.push(format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}{addresses}"));
                lines.extend(options.properties.iter().map(|(name, value)| format!("{name}={value}")));
            }
            fs::write(directory.join("node.properties"), lines.join("\n") + "\n")?;
        }
        Ok(())
    }

    /// Prepares the data directories of all nodes.
    fn format(&self, options: &Options) -> Result<()> {
        let mut running = Vec::new();
        for node in &self.nodes {
            let properties = self.directory.join(&node.name).join("node.properties");
            let mut java = self.java(node, "format.log")?;
            java.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(properties);
            if let Some((name, password)) = &options.scram_user {
                java.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={name},password={password}]"));
            }
            running.push((&node.name, java.spawn().context("cannot run java")?));
        }
        for (name, mut process) in running {
            if !process.wait()?.success() {
                bail!("{name} could not be formatted: see {}", self.directory.join(name).join("format.log").display());
            }
        }
        Ok(())
    }

    fn launch(&mut self, node: usize) -> Result<()> {
        let properties = self.directory.join(&self.nodes[node].name).join("node.properties");
        let mut java = self.java(&self.nodes[node], "node.log")?;
        java.arg("kafka.Kafka").arg(properties);
        self.nodes[node].process = Some(java.spawn().context("cannot run java")?);
        Ok(())
    }

    /// A JVM with Kafka's jars, whose output goes to `log` in the node's directory.
    fn java(&self, node: &Node, log: &str) -> Result<Command> {
        let path = self.directory.join(&node.name).join(log);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let mut java = bound_to_us("java");
        java.arg(format!("-Xmx{}", node.heap)).args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        java.arg(jars()?.join("*")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(java)
    }

    fn wait_for_brokers(&mut self, n: usize) -> Result<()> {
        let deadline = Instant::now() + START_WAIT;
        loop {
            let client: BaseConsumer = self.client().create().context("cannot create a client")?;
            let known = client.fetch_metadata(None, Duration::from_secs(2)).map_or(0, |all| all.brokers().len());
            if known >= n {
                return Ok(());
            }
            for node in &mut self.nodes {
                if let Some(status) = node.process.as_mut().map(Child::try_wait).transpose()?.flatten() {
                    let log = self.directory.join(&node.name).join("node.log");
                    bail!("{} ended with {status}: see {}", node.name, log.display());
                }
            }
            if Instant::now() >= deadline {
                bail!("{known} of {n} brokers after {} s: see {}", START_WAIT.as_secs(), self.directory.display());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A port on loopback that nobody listens at.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
    Ok(listener.local_addr()?.port())
}
