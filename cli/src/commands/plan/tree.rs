//! The plan for people: counts per level and date, first and last rows, sizes, time and cost.

use std::io::{self, Write};

use jobmill_core::job::chunk::Level;

use super::Forecast;
use crate::figures::{bytes, count, counted, dollars, duration};
use crate::terminal::{FAINT, STRONG, cut, printable};

/// Rows from each end of the plan.
const ROWS_SHOWN: u64 = 3;
/// Characters of a row.
const ROW_CHARACTERS: usize = 400;
/// More dates are shown as a range.
const DATES_SHOWN: usize = 7;

pub(super) fn write(forecast: &Forecast, out: &mut impl Write) -> io::Result<()> {
    let plan = &forecast.plan;
    let rows = plan.chunks.row_count();
    writeln!(
        out,
        "{STRONG}{}{STRONG:#} for {}",
        counted(rows, "task", "tasks"),
        plan.labourer_id
    )?;
    let zone = if forecast.timezone == "UTC" {
        String::new()
    } else {
        format!(" in {}", forecast.timezone)
    };
    writeln!(
        out,
        "{FAINT}schema {}, today is {}{zone}{FAINT:#}\n",
        printable(&plan.schema),
        forecast.today
    )?;
    write_levels(forecast, out)?;
    if rows == 0 {
        return out.flush();
    }
    writeln!(out)?;
    write_figures(forecast, out)?;
    let (first, last) = forecast.ends(ROWS_SHOWN);
    write_rows(if last.is_empty() { "rows" } else { "first rows" }, &first, out)?;
    write_rows("last rows", &last, out)?;
    out.flush()
}

fn write_levels(forecast: &Forecast, out: &mut impl Write) -> io::Result<()> {
    let plan = &forecast.plan;
    let mut lines: Vec<(String, String)> = Vec::new();
    let per_date = plan.chunks.rows_per_date();
    if !plan.dates.is_empty() {
        let each = if plan.dates_apart {
            format!("{} each", counted(per_date, "task", "tasks"))
        } else {
            "all in every task".to_owned()
        };
        lines.push((
            counted(plan.dates.len() as u64, "date", "dates"),
            format!("{}; {each}", dates(&plan.dates)),
        ));
    }
    if plan.split {
        let levels = plan.chunks.levels();
        let deepest = levels
            .iter()
            .rposition(|level| level.values > 0)
            .map_or(0, |at| at + 1);
        for (at, (attribute, level)) in plan.attributes.iter().zip(levels).take(deepest).enumerate() {
            let note = ending(level, at + 1 == deepest);
            lines.push((format!("{} {}", count(level.values), printable(attribute)), note));
        }
    } else {
        let what = if plan.dates.is_empty() {
            "the job as it stands"
        } else {
            "attributes as they stand"
        };
        lines.push(("not split".to_owned(), what.to_owned()));
    }
    let indents = (0..lines.len()).map(|depth| {
        if depth == 0 {
            String::new()
        } else {
            "   ".repeat(depth - 1) + "└─ "
        }
    });
    let heads: Vec<String> = indents
        .zip(&lines)
        .map(|(indent, (what, _))| indent + what)
        .collect();
    let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or(0);
    for (head, (_, note)) in heads.iter().zip(&lines) {
        writeln!(out, "{}", format!("  {head:<width$}   {note}").trim_end())?;
    }
    Ok(())
}

/// Rows that end at a level: each names one value of it, or a batch, and none of a deeper level.
fn ending(level: &Level, is_deepest: bool) -> String {
    let tasks = counted(level.rows, "task", "tasks");
    match level.rows {
        0 => String::new(),
        rows if is_deepest && rows < level.values => format!("{tasks}, in batches"),
        _ if is_deepest => tasks,
        1 => format!("{tasks} ends here"),
        _ => format!("{tasks} end here"),
    }
}

fn dates(dates: &[String]) -> String {
    let shown = |date: &String| printable(&cut(date, 40)).into_owned();
    let list = |dates: &[String]| dates.iter().map(shown).collect::<Vec<_>>().join(", ");
    match dates {
        _ if dates.len() <= DATES_SHOWN => list(dates),
        // Only dates in order have a range.
        [first, .., last] if dates.is_sorted() => format!("{} to {}", shown(first), shown(last)),
        [first, second, third, .., last] => {
            format!(
                "{}, {}, {}, … {}",
                shown(first),
                shown(second),
                shown(third),
                shown(last)
            )
        }
        _ => list(dates),
    }
}

fn write_figures(forecast: &Forecast, out: &mut impl Write) -> io::Result<()> {
    let Forecast { plan, estimate, .. } = forecast;
    let mut line = |what: &str, figure: String, note: &str| {
        let note = if note.is_empty() {
            String::new()
        } else {
            format!(" {FAINT}{note}{FAINT:#}")
        };
        writeln!(
            out,
            "{}",
            format!("  {FAINT}{what:<11}{FAINT:#} {figure:<16}{note}").trim_end()
        )
    };
    let longest = format!("longest row {}", bytes(plan.chunks.longest_row()));
    line("queue file", bytes(plan.chunks.byte_count()), &longest)?;
    let units = count(estimate.write_units());
    let units = if estimate.exact { units } else { about(units) };
    line("write units", units, "table and greenfield index")?;
    line(
        "time",
        about(duration(estimate.seconds())),
        "at 1,000 write units a second for one labourer",
    )?;
    if estimate.invocations > 1 {
        let hops = estimate.invocations - 1;
        let chain = u64::from(forecast.max_hops);
        let note = if hops > chain {
            format!("more than max_hops, {chain}: the sweep goes on")
        } else {
            String::new()
        };
        line("invocations", count(estimate.invocations), &note)?;
    }
    line("cost", about(dollars(estimate.usd())), "on demand, us-east-1")
}

fn about(figure: String) -> String {
    // "under a second" says it already.
    if figure.starts_with("under") {
        figure
    } else {
        format!("about {figure}")
    }
}

fn write_rows(title: &str, rows: &[Vec<u8>], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  {FAINT}{title}{FAINT:#}")?;
    for row in rows {
        let text = String::from_utf8_lossy(row);
        writeln!(out, "  {}", printable(&cut(&text, ROW_CHARACTERS)))?;
    }
    Ok(())
}
