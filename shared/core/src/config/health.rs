//! Reading `health_metrics`: what is measured of a labourer, and what that means. The structure is sosw's.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::section::{DECIMAL, NAME, OwnForm, Section, decimal, is_name};
use crate::error::{excerpt, shorten};
use crate::json::kind;
use crate::task::health::{BEST, Coefficients, disorder};
use crate::task::labourer::{Comparison, HealthMetric, MetricSource, Statistic};
use crate::warning::Step;

/// More metrics of one labourer are refused: each is a request.
const MOST_METRICS: usize = 20;
/// What CloudWatch takes.
const MOST_DIMENSIONS: usize = 30;
const MOST_DATAPOINTS: u32 = 1_440;

/// What counts where a metric does not say: sosw's `default_metric_values`.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricDefaults {
    statistic: Statistic,
    period: u32,
    window: u32,
}

impl MetricDefaults {
    const OF_SOSW: Self = Self {
        statistic: Statistic::Average,
        period: 60,
        window: 300,
    };
}

static STATISTICS: OwnForm = OwnForm {
    default: "`[\"Average\"]`",
    bounds: "a list of one: `Average`, `Maximum` or `Minimum`",
    schema: || {
        json!({
            "type": ["array", "null"],
            "minItems": 1,
            "maxItems": 1,
            "items": { "enum": STATISTIC_NAMES.map(|(name, _)| name) },
        })
    },
};

static DIMENSIONS: OwnForm = OwnForm {
    default: "`[]`",
    bounds: "at most 30 of `{\"Name\": ..., \"Value\": ...}`",
    schema: || {
        let name = json!({ "type": "string", "minLength": 1, "maxLength": 255 });
        json!({
            "type": ["array", "null"],
            "maxItems": MOST_DIMENSIONS,
            "items": {
                "type": "object",
                "properties": { "Name": name, "Value": name },
                "required": ["Name", "Value"],
                "additionalProperties": false,
            },
        })
    },
};

static FEELINGS: OwnForm = OwnForm {
    default: "required",
    bounds: "numbers by status, `\"0\"` to `\"4\"`, in order",
    schema: || {
        let target = json!({ "type": ["number", "string"], "pattern": DECIMAL });
        json!({
            "type": "object",
            "minProperties": 1,
            "patternProperties": { "^[0-4]$": target },
            "additionalProperties": false,
        })
    },
};

static COEFFICIENTS: OwnForm = OwnForm {
    default: "`{\"0\": 0, \"1\": 0, \"2\": 0.5, \"3\": 0.75, \"4\": 1}`",
    bounds: "numbers from 0 to 100 by status, `\"0\"` to `\"4\"`",
    schema: || {
        let share = json!({ "type": ["number", "string"], "pattern": DECIMAL, "minimum": 0, "maximum": 100 });
        json!({
            "type": ["object", "null"],
            "patternProperties": { "^[0-4]$": share },
            "additionalProperties": false,
        })
    },
};

static OPERATOR: OwnForm = OwnForm {
    default: "required",
    bounds: "`<=`, `<`, `>=`, `>`, or as `le`, `lt`, `ge`, `gt`",
    schema: || json!({ "enum": OPERATORS.map(|(name, _)| name) }),
};

const STATISTIC_NAMES: [(&str, Statistic); 3] = [
    ("Average", Statistic::Average),
    ("Maximum", Statistic::Maximum),
    ("Minimum", Statistic::Minimum),
];

/// As sosw's documentation writes them, and as its code reads them.
const OPERATORS: [(&str, Comparison); 8] = [
    ("<=", Comparison::Le),
    ("<", Comparison::Lt),
    (">=", Comparison::Ge),
    (">", Comparison::Gt),
    ("le", Comparison::Le),
    ("lt", Comparison::Lt),
    ("ge", Comparison::Ge),
    ("gt", Comparison::Gt),
];

/// `task_config.ecology_config`.
pub(super) fn ecology_config(at: &mut Section<'_, '_>) -> MetricDefaults {
    at.of_sosw("init_clients", "which clients sosw makes");
    at.object(
        "default_metric_values",
        "what counts where a metric does not say",
        |at| source_values(at, MetricDefaults::OF_SOSW),
    )
}

/// `health_metrics` of a labourer.
pub(super) fn metrics(at: &mut Section<'_, '_>, defaults: &MetricDefaults) -> Vec<HealthMetric> {
    const KEY: &str = "health_metrics";
    let count = at.get(KEY).and_then(Value::as_object).map_or(0, Map::len);
    if count > MOST_METRICS {
        at.refuse(
            &[Step::Key(KEY)],
            format_args!("has {count} metrics, and at most {MOST_METRICS} are allowed"),
        );
    }
    let metrics = at.by_name(
        KEY,
        "what is measured of it: the worst status says how much of its limit counts",
        |name, at| metric(name, at, defaults),
    );
    metrics.into_values().collect()
}

fn metric(name: &str, at: &mut Section<'_, '_>, defaults: &MetricDefaults) -> Option<HealthMetric> {
    let source = at.object("details", "the metric in CloudWatch", |at| source(at, defaults));
    if at.lacks("details") {
        at.refuse(
            &[Step::Key("details")],
            "is missing: write the `Namespace` and the `MetricName` of a metric of CloudWatch",
        );
    }
    let feelings = feelings(at);
    let operator = operator(at);
    let status_without_data = at.number(
        "status_without_data",
        BEST,
        0..=u64::from(BEST),
        "the status where nothing was measured",
    );
    let (feelings, operator) = (feelings?, operator?);
    if let Some((higher, lower)) = disorder(operator, &feelings) {
        at.refuse(
            &[Step::Key("feelings")],
            format_args!(
                "has the targets of {higher} and {lower} in the wrong order: what reaches the latter reaches the former \
                 too; correct them, or `feeling_comparison_operator`"
            ),
        );
    }
    Some(HealthMetric {
        name: name.to_owned(),
        source: source?,
        feelings,
        operator,
        status_without_data,
    })
}

fn source(at: &mut Section<'_, '_>, defaults: &MetricDefaults) -> Option<MetricSource> {
    let metric = at.optional_text("MetricName", &NAME, "its name: required, here or as `Name`");
    let other = at.optional_text("Name", &NAME, "another name of `MetricName`");
    match (&metric, &other) {
        (Some(one), Some(other)) if one != other => at.refuse(
            &[Step::Key("Name")],
            format_args!(
                "is {:?}, and `MetricName`, which is the same, is {:?}: keep one of the two",
                shorten(other),
                shorten(one)
            ),
        ),
        // What is there and wrong was said.
        (None, None) if at.lacks("MetricName") && at.lacks("Name") => at.refuse(
            &[Step::Key("MetricName")],
            "is missing: write the name of a metric of CloudWatch",
        ),
        _ => {}
    }
    let namespace = at.required_text("Namespace", &NAME, "its namespace, such as `AWS/RDS`");
    let dimensions = dimensions(at);
    let MetricDefaults {
        statistic,
        period,
        window,
    } = source_values(at, *defaults);
    Some(MetricSource {
        namespace,
        metric: metric.or(other)?,
        dimensions,
        statistic,
        period,
        window,
    })
}

fn source_values(at: &mut Section<'_, '_>, defaults: MetricDefaults) -> MetricDefaults {
    let statistic = statistic(at).unwrap_or(defaults.statistic);
    let period = at.optional_number("Period", 1..=86_400, "seconds a datapoint; not set: 60");
    let window = at.optional_number(
        "MetricAggregationTimeSlice",
        1..=864_000,
        "the last so many seconds are looked at; not set: 300",
    );
    let said = period.is_some() || window.is_some();
    let period = period.unwrap_or(defaults.period);
    let window = window.unwrap_or(defaults.window);
    if !period.is_multiple_of(60) && ![1, 5, 10, 20, 30].contains(&period) {
        at.refuse(
            &[Step::Key("Period")],
            format_args!(
                "is {period}: CloudWatch has periods of 1, 5, 10, 20, 30 and multiples of 60 seconds"
            ),
        );
    } else if said && !(period..=period.saturating_mul(MOST_DATAPOINTS)).contains(&window) {
        at.refuse(
            &[Step::Key("MetricAggregationTimeSlice")],
            format_args!(
                "is {window}, with a `Period` of {period}: look at 1 to {MOST_DATAPOINTS} periods, which is what \
                 CloudWatch answers"
            ),
        );
    }
    MetricDefaults {
        statistic,
        period,
        window,
    }
}

fn statistic(at: &mut Section<'_, '_>) -> Option<Statistic> {
    let value = at.own(
        "Statistics",
        &STATISTICS,
        "what is made of the values of a period",
    )?;
    let named = match value.as_array().map(Vec::as_slice) {
        Some([Value::String(name)]) => STATISTIC_NAMES.iter().find(|(known, _)| known == name),
        _ => None,
    };
    if named.is_none() {
        at.refuse(
            &[Step::Key("Statistics")],
            format_args!(
                "is {}: write [\"Average\"], [\"Maximum\"] or [\"Minimum\"]",
                excerpt(value)
            ),
        );
    }
    named.map(|(_, statistic)| *statistic)
}

fn dimensions(at: &mut Section<'_, '_>) -> BTreeMap<String, String> {
    const LIST: &str = "Dimensions";
    let Some(value) = at.own(LIST, &DIMENSIONS, "its dimensions") else {
        return BTreeMap::new();
    };
    let Some(entries) = value
        .as_array()
        .filter(|entries| entries.len() <= MOST_DIMENSIONS)
    else {
        at.refuse(
            &[Step::Key(LIST)],
            format_args!(
                "is {}: write a list of at most {MOST_DIMENSIONS} of {{\"Name\": ..., \"Value\": ...}}",
                excerpt(value)
            ),
        );
        return BTreeMap::new();
    };
    let mut dimensions = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let steps = [Step::Key(LIST), Step::Index(index)];
        let text = |key| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| is_name(text))
        };
        let known = entry.as_object().is_some_and(|map| map.len() == 2);
        let (Some(name), Some(value), true) = (text("Name"), text("Value"), known) else {
            at.refuse(
                &steps,
                format_args!("is {}: write {{\"Name\": ..., \"Value\": ...}}", excerpt(entry)),
            );
            continue;
        };
        if dimensions.insert(name.to_owned(), value.to_owned()).is_some() {
            at.refuse(
                &steps,
                format_args!("gives the name {:?} twice: keep one of the two", shorten(name)),
            );
        }
    }
    dimensions
}

fn operator(at: &mut Section<'_, '_>) -> Option<Comparison> {
    const KEY: &str = "feeling_comparison_operator";
    let Some(value) = at.own(
        KEY,
        &OPERATOR,
        "a status is reached if the value `operator` its target",
    ) else {
        if at.lacks(KEY) {
            at.refuse(
                &[Step::Key(KEY)],
                "is missing: write \"<=\" where less is better, or \">=\"",
            );
        }
        return None;
    };
    let named = OPERATORS.iter().find(|(name, _)| value.as_str() == Some(*name));
    if named.is_none() {
        let shown = excerpt(value);
        at.refuse(
            &[Step::Key(KEY)],
            format_args!("is {shown}: write \"<=\", \"<\", \">=\" or \">\""),
        );
    }
    named.map(|(_, operator)| *operator)
}

fn feelings(at: &mut Section<'_, '_>) -> Option<Vec<(u8, f64)>> {
    const KEY: &str = "feelings";
    let meaning =
        "the target of each status; the first one reached from `\"4\"` down is the status, and 0 if none is";
    let Some(value) = at.own(KEY, &FEELINGS, meaning) else {
        if at.lacks(KEY) {
            at.refuse(
                &[Step::Key(KEY)],
                "is missing: write targets by status, such as {\"4\": 25, \"3\": 50, \"2\": 75}",
            );
        }
        return None;
    };
    let mut feelings = by_status(at, KEY, value)?;
    if value.as_object().is_some_and(Map::is_empty) {
        at.refuse(
            &[Step::Key(KEY)],
            "is empty: write targets by status, such as {\"4\": 25, \"3\": 50, \"2\": 75}",
        );
    }
    feelings.sort_by_key(|(status, _)| std::cmp::Reverse(*status));
    Some(feelings)
}

/// `invocation_number_coefficient`. Statuses that it does not name keep their default.
pub(super) fn coefficients(at: &mut Section<'_, '_>) -> Coefficients {
    const KEY: &str = "invocation_number_coefficient";
    let meaning = "the share of its limit that a labourer may use at each health status";
    let mut coefficients = Coefficients::default();
    let Some(value) = at.own(KEY, &COEFFICIENTS, meaning) else {
        return coefficients;
    };
    for (status, share) in by_status(at, KEY, value).unwrap_or_default() {
        if !(0.0..=100.0).contains(&share) {
            at.refuse(
                &[Step::Key(KEY)],
                format_args!("has {share} at status {status}: write a number from 0 to 100"),
            );
        }
        if let Some(place) = coefficients.0.get_mut(usize::from(status)) {
            *place = share;
        }
    }
    coefficients
}

/// Numbers by status, as they stand.
fn by_status<'a>(at: &mut Section<'a, '_>, key: &'static str, value: &'a Value) -> Option<Vec<(u8, f64)>> {
    let Some(map) = value.as_object() else {
        at.refuse(
            &[Step::Key(key)],
            format_args!("is {}, not an object", kind(value)),
        );
        return None;
    };
    let mut numbers = Vec::new();
    for (name, value) in map {
        let status = match name.as_bytes() {
            [digit @ b'0'..=b'4'] => digit - b'0',
            _ => {
                at.refuse(
                    &[Step::Key(key), Step::Key(name)],
                    "is no status: statuses are \"0\" (bad) to \"4\" (high)",
                );
                continue;
            }
        };
        match decimal(value) {
            Some(number) => numbers.push((status, number)),
            None => at.refuse(
                &[Step::Key(key), Step::Key(name)],
                format_args!("is {}: write a number", excerpt(value)),
            ),
        }
    }
    Some(numbers)
}
