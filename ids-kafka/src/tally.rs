//! What a detector counted, read back from the text of its `/metrics`.

use crate::error::{Error, Result};

/// Totals of a detector since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Where they were read.
    pub source: String,
    /// Records consumed.
    pub records: u64,
    /// Verdicts sent.
    pub verdicts: u64,
    /// Dead letters sent.
    pub dead_letters: u64,
    /// Alerts sent.
    pub alerts: u64,
}

impl Tally {
    /// Reads the totals in `text`, which was read at `source`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no text of a detector's `/metrics`.
    pub fn read(source: &str, text: &str) -> Result<Self> {
        let total = |name: &str| sum(text, name).map(|sum| sum as u64);
        let absent = || Error::Config(format!("{source} has no ids_records_total: it is no detector's /metrics"));
        Ok(Self {
            source: source.into(),
            records: total("ids_records_total").ok_or_else(absent)?,
            // A family without samples is one of which nothing was counted.
            verdicts: total("ids_verdicts_total").unwrap_or(0),
            dead_letters: total("ids_dead_letters_total").unwrap_or(0),
            alerts: total("ids_alerts_total").unwrap_or(0),
        })
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.verdicts += other.verdicts;
        self.dead_letters += other.dead_letters;
        self.alerts += other.alerts;
    }
}

/// The sum over all labels of the metric `name` in the text of `/metrics`; `None` where it has no sample.
pub fn sum(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Labels may hold spaces; a value does not.
        (rest.starts_with(['{', ' '])).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_their_labels() {
        let text = "# TYPE ids_records counter\nids_records_total 7\nids_records_total_other 9\n\
            ids_verdicts_total{class=\"a b\"} 4\nids_verdicts_total{class=\"c\"} 2\n# EOF\n";
        let tally = Tally::read("here", text).expect("reads");
        assert_eq!((tally.records, tally.verdicts, tally.dead_letters), (7, 6, 0));
        assert_eq!(sum(text, "ids_absent"), None);
        let error = Tally::read("there", "<html>").expect_err("no metrics").to_string();
        assert!(error.contains("there has no ids_records_total"), "{error}");
    }
}
