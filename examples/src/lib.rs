//! What the programs share. Each program is a thin main over the libraries; start reading in `bin/`.

pub mod flow_file;
pub mod monitor;
pub mod observer;
pub mod report;
