//! What it takes to trust the detector: a real Kafka, programs that are killed, and a checker of the books.
//!
//! [`cluster`] starts Apache Kafka on loopback, [`program`] runs the detector as its users do, [`scenario`]
//! does things to it and has the checker, [`ids_kafka::recon`], prove of what went in and what came out that nothing
//! is lost: each scenario is a function that the tests call in a short form and `soak` in a long one.
//!
//! On the same Kafka, [`engine`] and [`pace`] compare how fast the detector and Spark do the same job.

pub mod cluster;
pub mod engine;
pub mod naive;
pub mod pace;
pub mod program;
pub mod scenario;
pub mod steady;
pub mod storm;
