//! Dates of a job: the forms of `period`, the as-of moment, the calendar.

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, Weekday};
use serde_json::Value;

use crate::error::{Error, excerpt};
use crate::job::zone::Zone;

/// The forms of `period`, for sentences.
pub const FORMS: &str = "last_N_days, previous_N_days, N_days_back, yesterday, today, last_week (N is a whole number, as in last_7_days)";

/// The moment from which "yesterday" is counted: the same in every attempt of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// A civil date: it is "today", in every time zone.
    Date(NaiveDate),
    /// A moment: "today" is its date in the schema's time zone.
    Moment(DateTime<FixedOffset>),
}

impl AsOf {
    /// Reads `YYYY-MM-DD` or an RFC 3339 time. `None` if it is neither, or lies outside the years 1 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // chrono also takes shorter and signed years: the form is checked before the meaning.
        let shaped = bytes.len() >= 10
            && bytes.iter().take(10).enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return None;
        }
        let as_of = if bytes.len() == 10 {
            Self::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?)
        } else {
            Self::Moment(DateTime::parse_from_rfc3339(text).ok()?)
        };
        in_calendar(as_of.date_in(&Zone::UTC)).map(|_| as_of)
    }

    /// From milliseconds since 1970 (UTC); `None` outside the calendar.
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(|moment| Self::Moment(moment.fixed_offset()))
    }

    /// "Today" in that time zone.
    pub fn date_in(&self, timezone: &Zone) -> NaiveDate {
        match self {
            Self::Date(date) => *date,
            Self::Moment(moment) => timezone.date_of(moment),
        }
    }

    /// As text: `YYYY-MM-DD` or RFC 3339.
    pub fn to_text(self) -> String {
        match self {
            Self::Date(date) => iso(date),
            Self::Moment(moment) => moment.to_rfc3339(),
        }
    }
}

/// A date as jobs and rows write it.
pub fn iso(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

fn in_calendar(date: NaiveDate) -> Option<NaiveDate> {
    (1..=9999).contains(&date.year()).then_some(date)
}

/// Whether a value of `period` means that there is none: null, "", false, 0, [] and {}.
pub(crate) fn is_none(period: &Value) -> bool {
    match period {
        Value::Bool(set) => !*set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        other => crate::json::is_empty(other),
    }
}

/// The dates that a period names, oldest first, never empty.
///
/// # Errors
/// `InvalidJob` if it is no text, of none of the forms, names no date, or one outside the years 1 to 9999.
pub fn expand(period: &Value, today: NaiveDate) -> Result<Vec<NaiveDate>, Error> {
    let wrong = |why: &str| {
        Error::job(format!(
            "`period` is {}, {why}: write one of {FORMS}",
            excerpt(period)
        ))
    };
    let Value::String(text) = period else {
        return Err(wrong("which is no text"));
    };
    let unknown = || wrong("which is none of the forms");
    let number = |digits: &str| -> Result<u64, Error> {
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(unknown());
        }
        // A number that does not fit names a date before the calendar in any case.
        Ok(digits.parse().unwrap_or(u64::MAX))
    };
    // From `from` days ago to `to` days ago, both included.
    let (from, to) = match text.as_str() {
        "today" => (0, 0),
        "yesterday" => (1, 1),
        "last_week" => {
            let back = u64::from(days_since_monday(today.weekday())) + 8;
            (back, back - 6)
        }
        other => {
            if let Some(digits) = other.strip_suffix("_days_back") {
                let days = number(digits)?;
                (days, days)
            } else if let Some(rest) = other.strip_suffix("_days") {
                if let Some(digits) = rest.strip_prefix("last_") {
                    (number(digits)?, 1)
                } else if let Some(digits) = rest.strip_prefix("previous_") {
                    let days = number(digits)?;
                    (days.saturating_mul(2), days.saturating_add(1))
                } else {
                    return Err(unknown());
                }
            } else {
                return Err(unknown());
            }
        }
    };
    if from < to {
        return Err(wrong("which names no date at all"));
    }
    let outside = || wrong("which leaves the years 1 to 9999");
    let first = today
        .checked_sub_days(Days::new(from))
        .and_then(in_calendar)
        .ok_or_else(outside)?;
    let count = usize::try_from(from - to + 1).map_err(|_| outside())?;
    Ok(first.iter_days().take(count).collect())
}

const fn days_since_monday(weekday: Weekday) -> u32 {
    weekday.num_days_from_monday()
}
