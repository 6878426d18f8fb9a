//! Metrics in CloudWatch's embedded format: it reads them from a JSON line of the log with `_aws` in it, so they cost no
//! request and no wait. Which metrics there are is a function's own affair: [`metrics!`](crate::metrics).
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The namespace in CloudWatch.
pub const NAMESPACE: &str = "Jobmill";
/// The dimension that all metrics have: the name of the function.
const FUNCTION: &str = "FunctionName";
/// The second dimension of the metric `Errors`.
const ERROR_TYPE: &str = "ErrorType";
const ERRORS: &str = "Errors";

/// A metric: its name in CloudWatch, its unit there, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// The name.
    pub name: &'static str,
    /// The unit, one of CloudWatch's.
    pub unit: &'static str,
    /// What it counts or measures.
    pub meaning: &'static str,
}

/// Defines the enum `Metric` of a function, one place for names, units and meaning:
///
/// ```
/// jobmill_lambda::metrics! {
///     TasksStarted, "Count", "Tasks that were started.";
///     Errors, "Count", "Invocations that failed, also by `ErrorType`.";
/// }
/// assert_eq!(Metric::ALL[0].name, "TasksStarted");
/// ```
#[macro_export]
macro_rules! metrics {
    ($($name:ident, $unit:literal, $meaning:literal;)*) => {
        /// A metric; its name in CloudWatch is the name of the variant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Metric { $(#[doc = $meaning] $name),* }

        impl Metric {
            /// All of them, in the order of the enum.
            #[allow(dead_code, reason = "for documents and their tests")]
            pub(crate) const ALL: &[&'static $crate::emf::Definition] = &[$(Self::$name.definition()),*];

            /// Name, unit and meaning.
            pub(crate) const fn definition(self) -> &'static $crate::emf::Definition {
                match self {
                    $(Self::$name => &$crate::emf::Definition {
                        name: stringify!($name),
                        unit: $unit,
                        meaning: $meaning,
                    }),*
                }
            }
        }
    };
}

/// What is known of an invocation beside numbers: it stands in each of its lines, to search the log by.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    /// The name of the function, the dimension of all metrics.
    pub function_name: String,
    /// The id of the invocation.
    pub request_id: String,
    /// More, such as the run that it works on.
    pub more: Map<String, Value>,
}

/// The numbers that the next line will have, by name.
#[derive(Debug, Default)]
pub struct Line(BTreeMap<&'static str, (&'static Definition, f64)>);

impl Line {
    /// Counts something.
    pub fn add(&mut self, metric: &'static Definition, value: u64) {
        // As f64: counts are far below 2^53.
        self.0.entry(metric.name).or_insert((metric, 0.0)).1 += value as f64;
    }

    /// Sets a measure.
    pub fn set(&mut self, metric: &'static Definition, value: f64) {
        self.0.insert(metric.name, (metric, value));
    }

    /// Gives the line and begins the next one; nothing if there are no numbers. With an error type the metric `Errors` counts
    /// by it too.
    pub fn take(
        &mut self,
        properties: &Properties,
        wall_ms: i64,
        error_type: Option<&str>,
    ) -> Option<String> {
        let (mut line, definitions) = self.begin()?;
        let mut directives = vec![json!({
            "Namespace": NAMESPACE, "Dimensions": [[FUNCTION]], "Metrics": definitions,
        })];
        if let Some(error_type) = error_type.filter(|_| line.contains_key(ERRORS)) {
            line.insert(ERROR_TYPE.to_owned(), error_type.into());
            directives.push(json!({
                "Namespace": NAMESPACE, "Dimensions": [[FUNCTION, ERROR_TYPE]],
                "Metrics": [{ "Name": ERRORS, "Unit": "Count" }],
            }));
        }
        finish(&mut line, properties, wall_ms, directives);
        Some(Value::Object(line).to_string())
    }

    /// The same for one part of the whole: with a second dimension, its name and its value.
    pub fn take_by(
        &mut self,
        properties: &Properties,
        wall_ms: i64,
        (dimension, value): (&str, &str),
    ) -> Option<String> {
        let (mut line, definitions) = self.begin()?;
        line.insert(dimension.to_owned(), value.into());
        let directives = vec![json!({
            "Namespace": NAMESPACE, "Dimensions": [[FUNCTION, dimension]], "Metrics": definitions,
        })];
        finish(&mut line, properties, wall_ms, directives);
        Some(Value::Object(line).to_string())
    }

    /// The numbers and what they are called; nothing if there are none.
    fn begin(&mut self) -> Option<(Map<String, Value>, Vec<Value>)> {
        let values = std::mem::take(&mut self.0);
        if values.is_empty() {
            return None;
        }
        let mut line = Map::new();
        let mut definitions = Vec::new();
        for (metric, value) in values.into_values() {
            definitions.push(json!({ "Name": metric.name, "Unit": metric.unit }));
            line.insert(metric.name.to_owned(), value.into());
        }
        Some((line, definitions))
    }
}

fn finish(line: &mut Map<String, Value>, properties: &Properties, wall_ms: i64, directives: Vec<Value>) {
    line.insert(FUNCTION.to_owned(), properties.function_name.as_str().into());
    line.insert("request_id".to_owned(), properties.request_id.as_str().into());
    line.extend(properties.more.clone());
    line.insert(
        "_aws".to_owned(),
        json!({ "Timestamp": wall_ms, "CloudWatchMetrics": directives }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::metrics! {
        Started, "Count", "Things that were started.";
        Rate, "Count/Second", "How fast.";
        Errors, "Count", "What failed.";
    }

    fn properties() -> Properties {
        Properties {
            function_name: "orchestrator".to_owned(),
            request_id: "r-1".to_owned(),
            more: Map::from_iter([("run_id".to_owned(), "nightly".into())]),
        }
    }

    /// The specification: each metric and dimension that a directive names is a member of the line.
    fn assert_embedded(line: &Value) {
        assert_eq!(line["_aws"]["Timestamp"], 1_709_700_000_000_u64);
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], NAMESPACE);
            for metric in directive["Metrics"].as_array().unwrap() {
                assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{line}");
            }
            let dimensions = directive["Dimensions"].as_array().unwrap().iter();
            for dimension in dimensions.flat_map(|set| set.as_array().unwrap()) {
                assert!(line[dimension.as_str().unwrap()].is_string(), "{line}");
            }
        }
    }

    fn taken(line: &mut Line, error_type: Option<&str>) -> Value {
        let text = line.take(&properties(), 1_709_700_000_000, error_type).unwrap();
        let line = serde_json::from_str(&text).unwrap();
        assert_embedded(&line);
        line
    }

    #[test]
    fn counts_add_up_measures_replace_and_a_line_begins_anew() {
        let mut line = Line::default();
        line.add(Metric::Started.definition(), 2);
        line.add(Metric::Started.definition(), 3);
        line.set(Metric::Rate.definition(), 7.0);
        line.set(Metric::Rate.definition(), 2.5);
        let first = taken(&mut line, None);
        assert_eq!((&first["Started"], &first["Rate"]), (&json!(5.0), &json!(2.5)));
        assert_eq!(
            (&first["run_id"], &first["request_id"]),
            (&json!("nightly"), &json!("r-1"))
        );
        assert_eq!(
            line.take(&properties(), 0, Some("ServiceRefused")),
            None,
            "nothing is left"
        );
        line.add(Metric::Started.definition(), 1);
        assert_eq!(taken(&mut line, None)["Started"], json!(1.0));
    }

    #[test]
    fn a_part_of_the_whole_has_a_dimension_of_its_own() {
        let mut line = Line::default();
        line.add(Metric::Started.definition(), 4);
        let text = line.take_by(&properties(), 1_709_700_000_000, ("Labourer", "report"));
        let text: Value = serde_json::from_str(&text.unwrap()).unwrap();
        assert_embedded(&text);
        assert_eq!(
            (&text["Labourer"], &text["Started"]),
            (&json!("report"), &json!(4.0))
        );
        assert_eq!(line.take_by(&properties(), 0, ("Labourer", "report")), None);
    }

    #[test]
    fn errors_count_by_their_type_too() {
        let mut line = Line::default();
        line.add(Metric::Errors.definition(), 1);
        let line = taken(&mut line, Some("NoRegion"));
        assert_eq!(line["ErrorType"], "NoRegion");
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().unwrap();
        assert_eq!(
            directives[1]["Dimensions"],
            json!([["FunctionName", "ErrorType"]])
        );
        assert_eq!(Metric::ALL.len(), 3);
    }
}
