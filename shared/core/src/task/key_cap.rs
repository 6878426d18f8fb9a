//! Which value of a payload a limit by value counts.

use sha2::{Digest as _, Sha256};

use crate::json::{Kind, View};

/// A key that is longer, in bytes, is a digest.
const LONGEST_KEY: usize = 200;

/// The value at a path of nested objects, as a key: equal values have equal keys. Its JSON text, so that `5` and `"5"`
/// are two; of a list of one element that of the element, since a row that was split has such lists. `None` where there
/// is no value: nothing, null, an empty list.
pub fn key_of(payload: View<'_>, by: &[String]) -> Option<String> {
    let mut value = payload;
    for name in by {
        value = value.get(name)?;
    }
    while value.is_list() && value.len() == 1 {
        value = value.items().next()?;
    }
    if value.is_null() || (value.kind() == Kind::List && value.is_empty()) {
        return None;
    }
    let text = value.to_string();
    if text.len() <= LONGEST_KEY {
        return Some(text);
    }
    let digest = Sha256::digest(text.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256:{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Document;

    fn key(payload: &str, by: &str) -> Option<String> {
        let by: Vec<String> = by.split('.').map(str::to_owned).collect();
        key_of(Document::parse(payload).unwrap().root(), &by)
    }

    #[test]
    fn a_value_is_its_own_key() {
        let payload = r#"{"store": "a", "n": 5, "t": "5", "yes": true, "order": {"customer": {"id": 7}}, "x": [ 1, 2 ]}"#;
        let keys = [
            "store",
            "n",
            "t",
            "yes",
            "order.customer.id",
            "order.customer",
            "x",
        ];
        let keys = keys.map(|by| key(payload, by).unwrap());
        assert_eq!(keys, ["\"a\"", "5", "\"5\"", "true", "7", "{\"id\":7}", "[1,2]"]);
    }

    #[test]
    fn a_list_of_one_is_its_element() {
        for list in [r#"["a"]"#, r#"[["a"]]"#, r#""a""#] {
            assert_eq!(
                key(&format!(r#"{{"stores": {list}}}"#), "stores").unwrap(),
                "\"a\""
            );
        }
    }

    #[test]
    fn without_a_value_there_is_no_key() {
        for payload in [
            "{}",
            r#"{"a": null}"#,
            r#"{"a": []}"#,
            r#"{"a": [null]}"#,
            "[]",
            "5",
            r#"{"a": [[]]}"#,
        ] {
            assert_eq!(key(payload, "a"), None, "{payload}");
        }
        assert_eq!(key(r#"{"a": "text"}"#, "a.b"), None);
        assert_eq!(
            key(r#"{"a": [{"b": 1}]}"#, "a.b"),
            None,
            "only objects are gone through"
        );
    }

    #[test]
    fn a_long_value_is_a_digest() {
        let long = |more: &str| key(&format!(r#"{{"a": "{}{more}"}}"#, "x".repeat(200)), "a").unwrap();
        assert_eq!(long("").len(), "sha256:".len() + 64);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
        assert_eq!(
            key(&format!(r#"{{"a": "{}"}}"#, "x".repeat(198)), "a")
                .unwrap()
                .len(),
            200
        );
    }
}
