//! Times of flows as data sets write them, made numbers that order them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::refused;
use crate::error::Result;

/// Reads the times of one column.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    column: String,
    form: Option<Form>,
    /// The first time whose hour is from 1 to 12 without AM or PM, and its row.
    maybe_twelve: Option<(u64, String)>,
    /// Whether an hour was beyond 12, or 0.
    has_24_hours: bool,
}

/// What times look like: one column has one form, for numbers and dates cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Number,
    Date,
}

/// `%I` is an hour of 12. The meter writes the day first.
const TWELVE: [&str; 2] = ["%d/%m/%Y %I:%M:%S%.f %p", "%d/%m/%Y %I:%M %p"];
const TWENTY_FOUR: [&str; 2] = ["%d/%m/%Y %H:%M:%S%.f", "%d/%m/%Y %H:%M"];

impl Clock {
    /// A clock for the column of that name.
    pub(super) fn new(column: &str) -> Self {
        Self { column: column.to_owned(), form: None, maybe_twelve: None, has_24_hours: false }
    }

    /// The column.
    pub(super) fn column(&self) -> &str {
        &self.column
    }

    /// The time in the field of `row`, as a number: of dates, microseconds since 1970-01-01 UTC, which a double holds
    /// exactly; NaN where the field is blank. A time without an offset is taken as UTC.
    pub(super) fn read(&mut self, row: u64, text: &str) -> Result<f64> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(f64::NAN);
        }
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        let (form, time) = match (number, self.date(row, text)) {
            (Some(number), _) => (Form::Number, number),
            (None, Some(at)) => (Form::Date, at.as_microsecond() as f64),
            (None, None) => {
                let forms = "2017-07-06 15:30:00, 2017-07-06T15:30:00Z, 6/7/2017 3:30:00 PM (day first) or a number";
                return Err(refused(format!("row {row}: `{text}` in `{}` is no time such as {forms}", self.column)));
            }
        };
        if *self.form.get_or_insert(form) != form {
            let detail = "times before it are dates and it is a number, or the reverse: they cannot be compared";
            return Err(refused(format!("row {row}: `{text}` in `{}`: {detail}", self.column)));
        }
        Ok(time)
    }

    fn date(&mut self, row: u64, text: &str) -> Option<Timestamp> {
        let utc = |at: DateTime| Offset::UTC.to_timestamp(at).ok();
        if let Ok(at) = text.parse::<Timestamp>() {
            return Some(at);
        }
        if let Ok(at) = text.parse::<DateTime>() {
            return utc(at);
        }
        let read = |forms: [&str; 2]| forms.into_iter().find_map(|form| DateTime::strptime(form, text).ok());
        if let Some(at) = read(TWELVE) {
            return utc(at);
        }
        let at = read(TWENTY_FOUR)?;
        if (1..=12).contains(&at.hour()) {
            self.maybe_twelve.get_or_insert_with(|| (row, text.to_owned()));
        } else {
            self.has_24_hours = true;
        }
        utc(at)
    }

    /// Whether the times read can be ordered.
    pub(super) fn check(&self) -> Result<()> {
        match &self.maybe_twelve {
            Some((row, text)) if !self.has_24_hours => Err(refused(format!(
                "row {row}: `{text}` in `{}`: no time of the column is after 12:59 or has the hour 0, so that it may be of \
                 a 12-hour clock without AM and PM, as in CIC-IDS2017, and afternoons cannot be told from mornings; \
                 split by another column, or write times of 24 hours",
                self.column
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_data_sets_are_read() {
        let mut clock = Clock::new("at");
        let mut read = |text: &str| clock.read(1, text).unwrap_or_else(|error| panic!("{error}"));
        let noon = read("2017-07-06 12:00:00");
        for same in [
            "2017-07-06T12:00:00Z",
            "2017-07-06 14:00:00+02:00",
            "06/07/2017 12:00:00 PM",
            " 6/7/2017 12:00 ",
            "6/7/2017 12:00:00",
        ] {
            assert_eq!(read(same), noon, "{same}");
        }
        assert_eq!(read("2017-07-06 12:00:00.000001"), noon + 1.0);
        assert_eq!(read("06/07/2017 01:02:03 AM"), noon - (10.0 * 3600.0 + 57.0 * 60.0 + 57.0) * 1e6);
        assert!(read("  ").is_nan());
        clock.check().expect_err("no hour is of a 24-hour clock");
        clock.read(2, "6/7/2017 0:00").expect("a time");
        clock.check().expect("the hour 0 is");
        for wrong in ["13/13/2017 10:00", "6/7/2017", "noon", "1499342400", "NaN"] {
            clock.read(3, wrong).expect_err(wrong);
        }
        assert_eq!(Clock::new("stime").read(1, "1421927414").expect("a number"), 1_421_927_414.0);
    }
}
