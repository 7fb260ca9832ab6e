//! The live view of a run: some lines redrawn in a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::observer::Summary;

/// How often plain lines are printed.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Shows how a run goes.
pub struct Monitor {
    view: View,
    seconds: u64,
    previous: (Instant, u64, u64),
}

enum View {
    Terminal { bar: ProgressBar, lines: Vec<ProgressBar> },
    Plain { last: Instant },
}

impl Monitor {
    /// A view of a run of `seconds`.
    pub fn new(seconds: u64) -> Result<Self> {
        let view = if std::io::stderr().is_terminal() {
            let all = MultiProgress::new();
            let bar = all.add(ProgressBar::new(seconds));
            bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} s")?);
            let style = ProgressStyle::with_template("{msg}")?;
            let line = |_| all.add(ProgressBar::new_spinner().with_style(style.clone()));
            View::Terminal { bar, lines: (0..8).map(line).collect() }
        } else {
            View::Plain { last: Instant::now() }
        };
        Ok(Self { view, seconds, previous: (Instant::now(), 0, 0) })
    }

    /// Shows the run `elapsed` after its start.
    pub fn show(&mut self, elapsed: Duration, summary: &Summary) {
        let now = Instant::now();
        if let View::Plain { last } = &mut self.view {
            if now - *last < PLAIN_INTERVAL {
                return;
            }
            *last = now;
        }
        let (then, produced, scored) = self.previous;
        self.previous = (now, summary.produced, summary.scored);
        let per_second = |n: u64| n as f64 / (now - then).as_secs_f64().max(1e-3);
        let rates = format!(
            "in {:7.0}/s   out {:7.0}/s   lag {:6}   latency {:.0} ms median, {:.0} ms for 99 %",
            per_second(summary.produced - produced),
            per_second(summary.scored - scored),
            summary.outstanding,
            summary.latency_p50_ms,
            summary.latency_p99_ms,
        );
        let totals = format!(
            "{} flows scored, {} alerts, {} dead letters",
            summary.scored, summary.alerts, summary.dead_lettered
        );
        match &self.view {
            View::Plain { .. } => eprintln!("{:3} s  {rates}  {totals}", elapsed.as_secs()),
            View::Terminal { bar, lines } => {
                bar.set_position(elapsed.as_secs().min(self.seconds));
                let classes: Vec<_> = summary.verdicts.iter().map(|(class, n)| format!("{class} {n}")).collect();
                let alerts = summary.last_alerts.iter().rev().map(|alert| format!("  ALERT {alert}"));
                let texts = [rates, totals, classes.join("   "), "last alerts".to_owned()].into_iter().chain(alerts);
                for (line, text) in lines.iter().zip(texts) {
                    line.set_message(text);
                }
            }
        }
    }

    /// Removes the view.
    pub fn finish(&self) {
        if let View::Terminal { bar, lines } = &self.view {
            bar.finish_and_clear();
            lines.iter().for_each(ProgressBar::finish_and_clear);
        }
    }
}
