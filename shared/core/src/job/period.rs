//! Dates of a job: the forms of `period`, the as-of moment, the calendar.

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, Weekday};

use crate::error::{Error, excerpt_of, shorten};
use crate::job::zone::Zone;
use crate::json::{Kind, View};
use crate::suggest::nearest;

/// The forms of `period`, for sentences.
pub const FORMS: &str = "last_N_days, previous_N_days, N_days_back, yesterday, today, last_week (N is a whole number, as in last_7_days)";

/// Takes each text that [`expand`] takes.
pub(crate) const PATTERN: &str =
    "^(today|yesterday|last_week|(last|previous)_0*[1-9][0-9]*_days|[0-9]+_days_back)$";

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
        if let Some(date) = civil_date(text) {
            return Some(Self::Date(date));
        }
        // chrono also takes shorter and signed years: the form is checked before the meaning.
        civil_date(text.get(..10)?)?;
        let as_of = Self::Moment(DateTime::parse_from_rfc3339(text).ok()?);
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
pub(crate) fn is_none(period: View<'_>) -> bool {
    match period.kind() {
        Kind::Bool => period.as_bool() == Some(false),
        Kind::Number => period.as_digits().and_then(|digits| digits.parse::<f64>().ok()) == Some(0.0),
        _ => period.is_empty(),
    }
}

/// A date of the form `YYYY-MM-DD` that is in the calendar.
pub(crate) fn civil_date(text: &str) -> Option<NaiveDate> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0, |number: u32, digit| {
            let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
            Some(number * 10 + digit)
        })
    };
    let year = i32::try_from(number(&[y1, y2, y3, y4])?).ok()?;
    in_calendar(NaiveDate::from_ymd_opt(
        year,
        number(&[m1, m2])?,
        number(&[d1, d2])?,
    )?)
}

/// What a period asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// From so many days ago to so many days ago, both included; the first is never smaller.
    Days(u64, u64),
    /// The seven days up to the last Saturday before today, a week earlier on a Sunday.
    LastWeek,
}

/// Reads a period.
///
/// # Errors
/// `InvalidJob` if it is no text, of none of the forms, or names no date.
pub(crate) fn read(period: View<'_>) -> Result<Span, Error> {
    let Some(text) = period.as_text() else {
        return Err(wrong(period, "which is no text"));
    };
    let unknown = || {
        let suggestion = likely(text).map_or_else(String::new, |form| format!(" (did you mean {form:?}?)"));
        wrong(period, &format!("which is none of the forms{suggestion}"))
    };
    let number = |digits: &str| -> Result<u64, Error> {
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(unknown());
        }
        // A number that does not fit names a date before the calendar in any case.
        Ok(digits.parse().unwrap_or(u64::MAX))
    };
    let (from, to) = match text {
        "today" => (0, 0),
        "yesterday" => (1, 1),
        "last_week" => return Ok(Span::LastWeek),
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
        return Err(wrong(period, "which names no date at all"));
    }
    Ok(Span::Days(from, to))
}

/// The dates that a period names, oldest first, never empty.
///
/// # Errors
/// `InvalidJob` if it is no text, of none of the forms, names no date, or one outside the years 1 to 9999.
pub fn expand(period: View<'_>, today: NaiveDate) -> Result<Vec<NaiveDate>, Error> {
    let (from, to) = match read(period)? {
        Span::Days(from, to) => (from, to),
        Span::LastWeek => {
            let back = u64::from(days_since_monday(today.weekday())) + 8;
            (back, back - 6)
        }
    };
    let outside = || wrong(period, "which leaves the years 1 to 9999");
    let first = today
        .checked_sub_days(Days::new(from))
        .and_then(in_calendar)
        .ok_or_else(outside)?;
    let count = usize::try_from(from - to + 1).map_err(|_| outside())?;
    Ok(first.iter_days().take(count).collect())
}

fn wrong(period: View<'_>, why: &str) -> Error {
    Error::job(format!(
        "`period` is {}, {why}: write one of {FORMS}",
        excerpt_of(period)
    ))
}

/// The form that a text was probably meant to have, with the number that stands in it.
fn likely(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .skip_while(|letter| !letter.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    let number = if digits.is_empty() { "N" } else { &digits };
    let forms = [
        format!("last_{number}_days"),
        format!("previous_{number}_days"),
        format!("{number}_days_back"),
        "yesterday".to_owned(),
        "today".to_owned(),
        "last_week".to_owned(),
    ];
    nearest(text, forms.iter().map(String::as_str), 0.9).map(shorten)
}

const fn days_since_monday(weekday: Weekday) -> u32 {
    weekday.num_days_from_monday()
}

#[cfg(test)]
mod tests {
    use crate::json::Document;

    use super::*;

    #[test]
    fn a_date_is_ten_characters_of_the_calendar() {
        for good in ["2024-02-29", "0001-01-01", "9999-12-31"] {
            assert_eq!(civil_date(good).map(iso).as_deref(), Some(good));
        }
        for bad in [
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "0000-01-01",
            "2024-2-3",
            "20240203",
            "+024-01-01",
            "2024-01-01T00:00:00Z",
            "2024/01/01",
            "",
            "today",
        ] {
            assert_eq!(civil_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_likely_form_is_told() {
        for (text, form) in [
            ("last_5_day", "last_5_days"),
            ("last_5_days_ago", "last_5_days"),
            ("last-7-days", "last_7_days"),
            ("Last_7_days", "last_7_days"),
            ("previous_3_day", "previous_3_days"),
            ("3_day_back", "3_days_back"),
            ("yesteday", "yesterday"),
            ("lastweek", "last_week"),
            ("last_days", "last_N_days"),
        ] {
            assert_eq!(likely(text).as_deref(), Some(form), "{text}");
            let error = read(Document::from(&serde_json::Value::from(text)).root()).unwrap_err();
            assert!(
                error.sentence.contains(&format!("(did you mean {form:?}?)")),
                "{error}"
            );
        }
        for text in ["last_month", "tomorrow", "", "2024-03-06", "every day"] {
            assert_eq!(likely(text), None, "{text}");
        }
    }
}
