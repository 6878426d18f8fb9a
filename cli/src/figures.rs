//! Numbers as people read them: counts, bytes, durations, dollars.

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 task`, `2 tasks`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Bytes in decimal units, as storage is billed: `999 bytes`, `1.5 KB`, `31.2 MB`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return counted(number, "byte", "bytes");
    }
    let mut size = number as f64 / 1000.0;
    let mut unit = UNITS.iter();
    let mut name = unit.next();
    // 999.95 would be shown as 1000.0.
    while size >= 999.95
        && let Some(next) = unit.next()
    {
        size /= 1000.0;
        name = Some(next);
    }
    format!("{size:.1} {}", name.unwrap_or(&"EB"))
}

/// Seconds: `under a second`, `42 s`, `2 min 55 s`, `3 h 10 min`, `2 d 4 h`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie between 1 and 10^15, and shown to the second"
)]
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        return "under a second".to_owned();
    }
    if seconds > 1e15 {
        return "longer than anyone waits".to_owned();
    }
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", count(days), hours % 24),
    }
}

/// Dollars: `under $0.01`, `$0.22`, `$1,250`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie between 100 and 10^15, and shown to the dollar"
)]
pub(crate) fn dollars(amount: f64) -> String {
    if amount < 0.01 {
        "under $0.01".to_owned()
    } else if amount < 100.0 {
        format!("${amount:.2}")
    } else if amount < 1e15 {
        format!("${}", count(amount.round() as u64))
    } else {
        format!("${amount:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_groups_of_three() {
        let texts = [0, 7, 999, 1_000, 123_456, 1_234_567, u64::MAX].map(count);
        assert_eq!(
            texts,
            [
                "0",
                "7",
                "999",
                "1,000",
                "123,456",
                "1,234,567",
                "18,446,744,073,709,551,615"
            ]
            .map(str::to_owned)
        );
        assert_eq!(counted(1, "task", "tasks"), "1 task");
        assert_eq!(counted(0, "task", "tasks"), "0 tasks");
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        let texts = [1, 999, 1_000, 999_949, 999_950, 31_240_000, u64::MAX].map(bytes);
        let expected = [
            "1 byte",
            "999 bytes",
            "1.0 KB",
            "999.9 KB",
            "1.0 MB",
            "31.2 MB",
            "18.4 EB",
        ];
        assert_eq!(texts, expected.map(str::to_owned));
    }

    #[test]
    fn durations_are_shown_in_two_units() {
        let texts = [0.2, 1.0, 59.4, 59.6, 175.2, 3_600.0, 11_400.0, 190_000.0, 1e300].map(duration);
        let expected = [
            "under a second",
            "1 s",
            "59 s",
            "1 min 0 s",
            "2 min 55 s",
            "1 h 0 min",
            "3 h 10 min",
            "2 d 4 h",
            "longer than anyone waits",
        ];
        assert_eq!(texts, expected.map(str::to_owned));
    }

    #[test]
    fn dollars_are_shown_to_the_cent_where_cents_matter() {
        let texts = [0.0, 0.009, 0.2189, 99.994, 1_250.4, 1e20].map(dollars);
        assert_eq!(
            texts,
            [
                "under $0.01",
                "under $0.01",
                "$0.22",
                "$99.99",
                "$1,250",
                "$1.0e20"
            ]
            .map(str::to_owned)
        );
    }
}
