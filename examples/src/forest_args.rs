//! How programs are told what forest to grow, and how they grow it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use ids_core::Model;
use ids_core::train::{FeaturesPerNode, Settings, TrainingFlows, train};
use indicatif::{ProgressBar, ProgressStyle};

/// A forest to be grown.
#[derive(Args)]
pub struct ForestArgs {
    /// Number of trees.
    #[arg(long, default_value_t = Settings::default().trees)]
    trees: usize,
    /// Longest path from a root to a leaf, in splits: 1 to 30.
    #[arg(long, default_value_t = Settings::default().depth)]
    depth: usize,
    /// A split leaves at least as many rows of a tree's bag on each side.
    #[arg(long, default_value_t = Settings::default().min_rows_per_leaf)]
    min_rows_per_leaf: u64,
    /// Features that each node draws and looks at: sqrt or third of all, all, or a number.
    #[arg(long, default_value_t = Settings::default().features_per_node)]
    features_per_node: FeaturesPerNode,
    /// Bins that the values of a number are put in: a split lies between two.
    #[arg(long, default_value_t = Settings::default().bins)]
    bins: usize,
    /// How much rare classes weigh more: 0, each row the same, to 1, each class the same.
    #[arg(long, default_value_t = Settings::default().balance)]
    balance: f64,
    /// Threads [default: one per processor]; they change nothing but the time.
    #[arg(long)]
    threads: Option<usize>,
}

impl ForestArgs {
    /// Grows the forest on `flows`; `say` is told what is done.
    pub fn grow(
        &self,
        flows: TrainingFlows,
        seed: u64,
        say: impl Fn(std::fmt::Arguments<'_>) -> Result<()>,
    ) -> Result<Arc<Model>> {
        let &Self { trees, depth, min_rows_per_leaf, features_per_node, bins, balance, threads } = self;
        let settings = Settings { trees, depth, min_rows_per_leaf, features_per_node, bins, balance, seed, threads };
        let (n_rows, started) = (flows.len(), Instant::now());
        say(format_args!(
            "trains    {trees} trees of depth {depth} at most on {n_rows} rows, {features_per_node} of the features per node, seed {seed}"
        ))?;
        let progress = ProgressBar::new(trees as u64);
        progress.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} trees {eta}")?);
        progress.set_message("training");
        let trained = train(flows, &settings, |n_done| {
            progress.set_position(n_done as u64);
            ControlFlow::Continue(())
        });
        progress.finish_and_clear();
        let model = trained?.expect("nobody stopped it");
        let (forest, seconds) = (model.forest(), started.elapsed().as_secs_f64());
        say(format_args!(
            "          in {seconds:.1} s: {} nodes, {} inputs, {} classes",
            forest.n_nodes(),
            model.inputs().len(),
            model.classes().len()
        ))?;
        Ok(Arc::new(model))
    }
}
