//! Predictions counted against labels.
//!
//! Definitions are those of scikit-learn and of Spark's `MulticlassMetrics`: where a precision or
//! recall has nothing to divide by, it is 0; macro-F1 is the plain mean over the classes that occur
//! among labels or predictions.

use std::fmt;

use ndarray::Array2;
use serde::Serialize;

/// Counts predictions against labels.
#[derive(Debug, Clone)]
pub struct ConfusionMatrix {
    classes: Vec<String>,
    benign: usize,
    /// `[actual, predicted]`.
    counts: Array2<u64>,
}

/// The figures of a [`ConfusionMatrix`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// Labelled rows.
    pub rows: u64,
    /// Share of rows whose class is predicted right.
    pub accuracy: f64,
    /// Mean F1 of the classes that occur.
    pub macro_f1: f64,
    /// Share of benign flows predicted to be an attack.
    pub false_alarm_rate: f64,
    /// Share of attacks predicted to be an attack, of whatever class.
    pub attack_recall: f64,
    /// Figures by class, in the model's order.
    pub classes: Vec<ClassQuality>,
    /// Rows by actual class (outer) and predicted class (inner).
    pub confusion: Vec<Vec<u64>>,
}

/// The figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassQuality {
    /// Its name.
    pub class: String,
    /// Share of the rows predicted so that are so.
    pub precision: f64,
    /// Share of the rows that are so that are predicted so.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Rows that are so.
    pub support: u64,
}

impl ConfusionMatrix {
    /// An empty matrix over `classes`, of which the one at `benign` is no attack.
    ///
    /// # Panics
    /// Where `benign` is no position in `classes`.
    pub fn new(classes: &[String], benign: usize) -> Self {
        assert!(benign < classes.len(), "benign class {benign} of {}", classes.len());
        Self { classes: classes.to_vec(), benign, counts: Array2::zeros((classes.len(), classes.len())) }
    }

    /// Counts a row; `false`, and not counted, where `actual` is none of the classes.
    pub fn count(&mut self, actual: &str, predicted: usize) -> bool {
        let known = self.classes.iter().position(|class| class == actual);
        if let Some(actual) = known {
            self.counts[[actual, predicted]] += 1;
        }
        known.is_some()
    }

    /// Counts `rows` rows of the class at `actual` for which the one at `predicted` was predicted.
    ///
    /// # Panics
    /// Where one is no position of a class.
    pub fn add(&mut self, actual: usize, predicted: usize, rows: u64) {
        self.counts[[actual, predicted]] += rows;
    }

    /// Rows by actual class and predicted class: `[n_classes, n_classes]`.
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// Position of the class that is no attack.
    pub fn benign(&self) -> usize {
        self.benign
    }

    /// A matrix of the same classes with other counts.
    #[cfg(feature = "report")]
    pub(crate) fn with_counts(&self, counts: Array2<u64>) -> Self {
        Self { counts, ..self.clone() }
    }

    /// The figures.
    pub fn quality(&self) -> Quality {
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let classes: Vec<_> = (0..self.classes.len())
            .map(|class| {
                let hits = self.counts[[class, class]];
                let (support, predicted) = (self.counts.row(class).sum(), self.counts.column(class).sum());
                let (precision, recall) = (ratio(hits, predicted), ratio(hits, support));
                let f1 = if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
                (ClassQuality { class: self.classes[class].clone(), precision, recall, f1, support }, predicted)
            })
            .collect();
        let occurring: Vec<_> = classes
            .iter()
            .filter(|(class, predicted)| class.support + predicted > 0)
            .map(|(class, _)| class.f1)
            .collect();
        let rows = self.counts.sum();
        let benign = self.benign;
        let benign_rows = self.counts.row(benign).sum();
        let missed = self.counts.column(benign).sum() - self.counts[[benign, benign]];
        Quality {
            rows,
            accuracy: ratio(self.counts.diag().sum(), rows),
            macro_f1: if occurring.is_empty() { 0.0 } else { occurring.iter().sum::<f64>() / occurring.len() as f64 },
            false_alarm_rate: ratio(benign_rows - self.counts[[benign, benign]], benign_rows),
            attack_recall: ratio(rows - benign_rows - missed, rows - benign_rows),
            classes: classes.into_iter().map(|(class, _)| class).collect(),
            confusion: self.counts.outer_iter().map(|row| row.to_vec()).collect(),
        }
    }
}

impl fmt::Display for Quality {
    /// The figures as a table, and where predictions went wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            self.classes.iter().map(|class| class.class.len()).max().unwrap_or(0).max("macro average".len()) + 4;
        writeln!(f, "{:width$}  precision  recall      F1  support", "class")?;
        for ClassQuality { class, precision, recall, f1, support } in &self.classes {
            writeln!(f, "{class:width$}  {precision:9.3}  {recall:6.3}  {f1:6.3}  {support:7}")?;
        }
        writeln!(f, "{:width$}  {:9}  {:6}  {:6.3}  {:7}", "macro average", "", "", self.macro_f1, self.rows)?;
        writeln!(f)?;
        writeln!(f, "accuracy          {:7.2} %", 100.0 * self.accuracy)?;
        writeln!(f, "attacks caught    {:7.2} %  called an attack, of whatever class", 100.0 * self.attack_recall)?;
        writeln!(f, "false alarms      {:7.2} %  of benign flows called an attack", 100.0 * self.false_alarm_rate)?;
        writeln!(f)?;
        self.write_confusion(f)
    }
}

impl Quality {
    /// Where predictions went wrong.
    pub(super) fn write_confusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.classes.iter().map(|class| class.class.len()).max().unwrap_or(0) + 5;
        writeln!(f, "rows by actual class (down) and predicted class (across)")?;
        write!(f, "{:width$}", "")?;
        for column in 0..self.classes.len() {
            write!(f, " {:>6}", format!("({})", column + 1))?;
        }
        for (i, (class, row)) in self.classes.iter().zip(&self.confusion).enumerate() {
            write!(f, "\n{:width$}", format!("({}) {}", i + 1, class.class))?;
            for count in row {
                write!(f, " {count:6}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["benign", "dos", "scan", "worm"].map(str::to_owned).to_vec()
    }

    #[test]
    fn figures_of_a_small_matrix() {
        let mut matrix = ConfusionMatrix::new(&classes(), 0);
        for (actual, predicted, n) in [("benign", 0, 8), ("benign", 1, 2), ("dos", 1, 3), ("dos", 0, 1), ("scan", 1, 2)]
        {
            for _ in 0..n {
                assert!(matrix.count(actual, predicted));
            }
        }
        assert!(!matrix.count("unheard of", 0));
        let quality = matrix.quality();
        assert_eq!(quality.rows, 16);
        assert_eq!(quality.accuracy, 11.0 / 16.0);
        assert_eq!(quality.false_alarm_rate, 0.2);
        // 5 of 6 attacks are called an attack, if not always the right one.
        assert_eq!(quality.attack_recall, 5.0 / 6.0);
        assert_eq!((quality.classes[1].precision, quality.classes[1].recall), (3.0 / 7.0, 0.75));
        assert_eq!(quality.classes[2].f1, 0.0);
        // The worm never occurs, so it does not count.
        let f1: f64 = quality.classes[..3].iter().map(|class| class.f1).sum();
        assert_eq!(quality.macro_f1, f1 / 3.0);
        assert_eq!(quality.confusion[0], [8, 2, 0, 0]);
    }

    #[test]
    fn nothing_counted_is_zero_and_not_nan() {
        let quality = ConfusionMatrix::new(&classes(), 0).quality();
        assert_eq!((quality.rows, quality.accuracy, quality.macro_f1, quality.attack_recall), (0, 0.0, 0.0, 0.0));
    }
}
