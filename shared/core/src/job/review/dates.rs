//! Dates that are not what a worker takes them for.

use super::{Planned, Reviewer, not_a_list};
use crate::error::{excerpt_of, shorten};
use crate::job::period;
use crate::json::{Kind, View};
use crate::warning::{Step, WarningKind};

/// Why a period is not expanded, at the root and in a branch.
const UNSPLIT: &str = "only a job that is split has dates";
const IN_BRANCH: &str = "only the period at the root of a job is read";
/// What to do about it at the root.
const FLAG: &str = " (set a flag such as `isolate_days`, or \"expand_period\": \"always\" in the schema)";

impl<'a> Reviewer<'a, '_> {
    pub(super) fn dates_of_root(&mut self, planned: &Planned<'a>) {
        let job = planned.job;
        let list = job.get("date_list");
        let period = job.get("period").filter(|period| !period::is_none(*period));
        if planned.isolate_days && !planned.has_dates {
            self.warn(WarningKind::NoDates, "isolate_days", || match list {
                Some(list) => format!(
                    "`isolate_days` isolates nothing: `date_list` is {}, write a list of dates such as \
                     [\"2024-03-06\"], or a `period`",
                    not_a_list(list)
                ),
                None => {
                    "`isolate_days` isolates nothing: the job has no `period` and no `date_list`".to_owned()
                }
            });
        }
        match (period, list) {
            (Some(period), _) if !planned.dates_read => {
                self.period_as_payload(period);
            }
            (Some(_), Some(list)) if !list.is_empty() => {
                self.warn(WarningKind::ReplacedDateList, "date_list", || {
                    "`period` replaces the `date_list` of the job: keep one of the two".to_owned()
                });
            }
            _ => {}
        }
        if let Some(list) = list
            && (period.is_none() || !planned.dates_read)
        {
            self.list_of_dates(list);
        }
    }

    /// A period that the worker gets as it is.
    pub(super) fn period_as_payload(&mut self, period: View<'a>) {
        if period::is_none(period) {
            return;
        }
        let at_root = self.path.is_empty();
        let why = if at_root { UNSPLIT } else { IN_BRANCH };
        match period::read(period) {
            Ok(_) => self.warn(WarningKind::UnexpandedPeriod, "period", || {
                format!(
                    "`period` is not expanded, the worker gets {} as it is: {why}{}",
                    excerpt_of(period),
                    if at_root { FLAG } else { "" },
                )
            }),
            Err(error) => self.warn(WarningKind::InvalidPeriod, "period", || {
                format!("{} (the worker gets it as it is, since {why})", error.sentence)
            }),
        }
    }

    /// A `date_list` in the branch where the reviewer is.
    pub(super) fn list_of_dates(&mut self, list: View<'a>) {
        if list.kind() != Kind::List {
            return;
        }
        let good = |item: View<'_>| {
            item.as_text()
                .is_some_and(|text| period::civil_date(text).is_some())
        };
        if let Some((index, first)) = list.items().enumerate().find(|(_, item)| !good(*item)) {
            let others = list.items().filter(|item| !good(*item)).count() - 1;
            self.path.push(Step::Key("date_list"));
            self.warn_at(WarningKind::InvalidDate, "date_list", Some(Step::Index(index)), || {
                let others = match others {
                    0 => String::new(),
                    count => format!(" (and {count} more)"),
                };
                let shown = first.as_text().map_or_else(|| excerpt_of(first), |text| format!("{:?}", shorten(text)));
                format!("{shown} in `date_list` is no date of the form YYYY-MM-DD in the calendar{others}: correct it")
            });
            self.path.pop();
        }
        self.duplicates(WarningKind::DuplicateDate, "date_list", list);
    }
}
