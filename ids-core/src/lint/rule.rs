//! What one column tells of the class: Holte's 1R (*Very Simple Classification Rules Perform Well on Most Commonly Used
//! Datasets*, Machine Learning 11, 1993), which is a tree of one feature and one level: each value, or range of values,
//! says one class.

use rustc_hash::FxHashMap;

use super::rows::{Column, MISSING, Sample, Values};

/// Ranges that numbers are put in, of about equally many rows; a column of fewer values has one for each.
const RANGES: usize = 256;
/// Share of the rows that are tested with: by hash of the features, so that no equal row was learnt.
const TEST_SHARE: f64 = 0.3;

/// How well a column tells the classes of rows that were not learnt, as the mean recall of the classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Told {
    /// Of two: benign, and all attacks.
    pub(super) attacks: f64,
    /// Of all classes that are tested.
    pub(super) classes: f64,
}

/// What `column` tells; `None` where no row is left to learn or to test, or there is one class.
pub(super) fn told(sample: &Sample, column: &Column, n_classes: usize, benign: Option<u16>) -> Option<Told> {
    let bins = bins(column);
    let is_test: Vec<bool> =
        sample.fingerprints.iter().map(|hash| *hash < (TEST_SHARE * u64::MAX as f64) as u64).collect();
    let classes: Vec<u16> = sample.classes.clone();
    let attacks: Vec<u16> = classes.iter().map(|&class| u16::from(Some(class) != benign)).collect();
    Some(Told {
        attacks: balanced_accuracy(&bins, &attacks, &is_test, 2)?,
        classes: balanced_accuracy(&bins, &classes, &is_test, n_classes)?,
    })
}

/// The value or range of each row.
fn bins(column: &Column) -> Vec<u32> {
    match (column.numbers(), &column.values) {
        (Some(numbers), _) => ranges(&numbers),
        (None, Values::Texts { codes, .. }) => codes.clone(),
        (None, Values::Numbers(_)) => unreachable!("numbers are numbers"),
    }
}

fn ranges(numbers: &[f64]) -> Vec<u32> {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|number| !number.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut ends: Vec<f64> = sorted.clone();
    ends.dedup();
    if ends.len() > RANGES {
        ends = (1..=RANGES).map(|range| sorted[(sorted.len() * range / RANGES).max(1) - 1]).collect();
        ends.dedup();
    }
    let range = |number: &f64| {
        if number.is_nan() { MISSING } else { ends.partition_point(|end| end < number) as u32 }
    };
    numbers.iter().map(range).collect()
}

/// Learns for each bin the class of which it has the largest share, from the rows that are not tested; the mean recall
/// of the classes among those that are. A bin that was not learnt says the class of the most rows.
fn balanced_accuracy(bins: &[u32], classes: &[u16], is_test: &[bool], n_classes: usize) -> Option<f64> {
    let mut learnt: FxHashMap<u32, Vec<u64>> = FxHashMap::default();
    let mut totals = vec![0u64; n_classes];
    for ((&bin, &class), _) in bins.iter().zip(classes).zip(is_test).filter(|(_, is_test)| !**is_test) {
        learnt.entry(bin).or_insert_with(|| vec![0; n_classes])[usize::from(class)] += 1;
        totals[usize::from(class)] += 1;
    }
    if totals.iter().filter(|&&total| total > 0).count() < 2 {
        return None;
    }
    let first_largest = |shares: &mut dyn Iterator<Item = f64>| {
        shares
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, (i, share)| if share > best.1 { (i, share) } else { best })
            .0
    };
    let most = first_largest(&mut totals.iter().map(|&total| total as f64));
    let says: FxHashMap<u32, usize> = learnt
        .iter()
        .map(|(&bin, counts)| {
            let share = |(&count, &total): (&u64, &u64)| if total == 0 { 0.0 } else { count as f64 / total as f64 };
            (bin, first_largest(&mut counts.iter().zip(&totals).map(share)))
        })
        .collect();
    let mut tested = vec![(0u64, 0u64); n_classes];
    for ((bin, &class), _) in bins.iter().zip(classes).zip(is_test).filter(|(_, is_test)| **is_test) {
        let (right, all) = &mut tested[usize::from(class)];
        *all += 1;
        *right += u64::from(says.get(bin).copied().unwrap_or(most) == usize::from(class));
    }
    let recalls: Vec<f64> =
        tested.iter().filter(|(_, all)| *all > 0).map(|&(right, all)| right as f64 / all as f64).collect();
    (recalls.len() > 1).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_put_in_ranges_of_equally_many() {
        let numbers: Vec<f64> = (0..10_000).map(|i| f64::from(i * 37 % 10_000)).collect();
        let ranges = ranges(&numbers);
        let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
        for range in ranges {
            *counts.entry(range).or_default() += 1;
        }
        assert_eq!(counts.len(), RANGES);
        assert!(counts.values().all(|n| (38..=41).contains(n)), "{counts:?}");
        assert_eq!(super::ranges(&[3.0, f64::NAN, 1.0, 3.0, f64::INFINITY]), [1, MISSING, 0, 1, 2]);
    }

    #[test]
    fn accuracy_is_that_of_rows_not_learnt_and_balanced() {
        let is_test: Vec<bool> = (0..1_000).map(|i| i % 3 == 0).collect();
        let classes: Vec<u16> = (0..1_000).map(|i| u16::from(i % 10 == 0)).collect();
        let accuracy = |bins: &[u32], classes: &[u16]| balanced_accuracy(bins, classes, &is_test, 2);
        let same: Vec<u32> = classes.iter().map(|&class| class.into()).collect();
        assert_eq!(accuracy(&same, &classes), Some(1.0));
        assert_eq!(accuracy(&vec![4; 1_000], &classes), Some(0.5), "nine in ten are of one class, and it is a guess");
        let unique: Vec<u32> = (0..1_000).collect();
        assert_eq!(accuracy(&unique, &classes), Some(0.5), "what was never learnt is a guess");
        assert_eq!(accuracy(&same, &vec![1; 1_000]), None);
    }
}
