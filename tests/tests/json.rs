//! A document is read in place by a reader of its own: here it is held against `serde_json`, which is slower and needs
//! more memory, and is right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use jobmill_core::json::{Document, Kind, MAX_DEPTH, View, parse};
use proptest::prelude::*;
use serde_json::Value;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The same texts are read, as the same values, which are written in the same way; the same texts are refused, in the
/// same words.
fn agree(text: &str) {
    match (serde_json::from_str::<Value>(text), Document::parse(text)) {
        (Ok(value), Ok(document)) => {
            assert_eq!(document.root().to_string(), value.to_string(), "{text:?}");
            assert_eq!(document.root().to_value(), value, "{text:?}");
            same(document.root(), &value);
        }
        (Err(error), Err(why)) if error.to_string().starts_with("recursion limit") => {
            assert_eq!(
                why,
                format!("is nested deeper than {MAX_DEPTH} levels: flatten it")
            );
        }
        (Err(error), Err(why)) => assert_eq!(why, format!("is not JSON: {error}"), "{text:?}"),
        (Ok(value), Err(why)) => panic!("{text:?} is {value}, and was refused: it {why}"),
        (Err(error), Ok(document)) => panic!("{text:?} was read as {document:?}: {error}"),
    }
}

/// What a view says of a value, and of all that is inside.
fn same(view: View<'_>, value: &Value) {
    assert_eq!(view.as_text(), value.as_str());
    assert_eq!(view.as_bool(), value.as_bool());
    assert_eq!(view.is_null(), value.is_null());
    assert_eq!(
        view.is_scalar(),
        value.is_string() || value.is_number() || value.is_boolean()
    );
    assert_eq!(view.as_digits().is_some(), value.is_number());
    let empty = value.is_null()
        || value == ""
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(|map| map.is_empty());
    assert_eq!(view.is_empty(), empty);
    match value {
        Value::Array(items) => {
            assert_eq!((view.kind(), view.len()), (Kind::List, items.len()));
            assert_eq!(view.items().len(), items.len());
            view.items().zip(items).for_each(|(view, item)| same(view, item));
            let scalars = view.items().all(|item| item.is_scalar());
            assert_eq!(view.is_list_of_scalars(), scalars);
        }
        Value::Object(map) => {
            assert_eq!((view.kind(), view.len()), (Kind::Object, map.len()));
            assert_eq!(view.members().len(), map.len());
            for ((name, member), (key, value)) in view.members().zip(map) {
                assert_eq!(name, key);
                assert_eq!(view.get(key).unwrap().to_string(), value.to_string());
                same(member, value);
            }
            assert!(view.get("nobody is called so").is_none());
        }
        _ => assert_eq!((view.items().len(), view.members().len(), view.len()), (0, 0, 0)),
    }
}

/// Text that is mostly JSON, with everything that is awkward in it: space, names that come twice or are written with
/// escapes, numbers in all forms, characters of one to four bytes. Here and there something that is none.
fn json() -> impl Strategy<Value = String> {
    let space = prop_oneof![5 => Just(String::new()), 1 => "[ \n\t\r]{1,3}"];
    let scalar = prop_oneof![
        8 => string(),
        4 => "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,5})?",
        1 => prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned),
    ];
    let padded = (space.clone(), scalar, space.clone()).prop_map(|(a, scalar, b)| a + &scalar + &b);
    padded.prop_recursive(6, 120, 14, move |inner| {
        let item = inner.clone();
        let member = (space.clone(), name(), space.clone(), inner);
        let member = member.prop_map(|(a, name, b, value)| format!("{a}{name}{b}:{value}"));
        prop_oneof![
            prop::collection::vec(item, 0..14).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..14).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// A text in quotation marks.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        20 => "[a-z0-9 .:,{}\\[\\]-]{1,12}",
        4 => "[é€😀\u{7f}\u{80}\u{2028}]{1,3}",
        4 => prop_oneof![
            Just("\\\""), Just("\\\\"), Just("\\/"), Just("\\b"), Just("\\f"), Just("\\n"), Just("\\r"), Just("\\t"),
            Just("\\u0000"), Just("\\u001f"), Just("\\u0041"), Just("\\u00e9"), Just("\\u20AC"), Just("\\uD83D\\uDE00"),
        ]
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Few names, so that they come twice.
fn name() -> impl Strategy<Value = String> {
    let few = [
        "\"\"",
        "\"a\"",
        "\"\\u0061\"",
        "\"b\"",
        "\"b\\n\"",
        "\"é\"",
        "\"\\u00e9\"",
    ];
    prop_oneof![3 => "\"[a-l]\"", 2 => prop::sample::select(few.to_vec()).prop_map(str::to_owned), 1 => string()]
}

/// What a damaged text has in place of something else.
fn damage() -> impl Strategy<Value = String> {
    let bits = [
        "", "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud83d", "\\ude00", "\\x", "0", "1", "-", "+",
        ".", "e", "E5", "1e", "t", "tru", "null", "NaN", "\n", "\t", " ", "\u{0}", "\u{1f}", "é", "\u{feff}",
        "//", "''",
    ];
    prop::sample::select(bits.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_document_is_what_serde_json_reads(text in json()) {
        agree(&text);
    }

    #[test]
    fn what_is_no_json_is_refused_as_serde_json_does(
        text in json(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, damage()), 1..4),
    ) {
        let mut text = text;
        for (place, length, damage) in damages {
            let mut start = place.index(text.len() + 1);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + length).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, &damage);
        }
        agree(&text);
    }

    #[test]
    fn what_was_written_is_read_again_as_it_is(text in json()) {
        let document = Document::parse(text).unwrap();
        let written = document.root().to_string();
        let again = Document::parse(written.as_str()).unwrap();
        prop_assert_eq!(again.root().to_string(), written);
    }
}

#[test]
fn awkward_texts_are_read_or_refused_as_serde_json_does() {
    let many = |extra: &str| {
        let members: Vec<String> = (0..50).map(|number| format!("\"k{number}\":{number}")).collect();
        format!("{{{},{extra}}}", members.join(","))
    };
    for text in [
        "",
        " ",
        "null",
        " true ",
        "nul",
        "truex",
        "tru",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{,}",
        "{1:2}",
        "{\"a\":}",
        "{\"a\"}",
        "{\"a\":1 \"b\":2}",
        "01",
        "-01",
        "1.",
        ".5",
        "-",
        "--1",
        "+1",
        "1e",
        "1e+",
        "1E5",
        "1e5",
        "1E-05",
        "1e+05",
        "-0",
        "-0.0",
        "0e0",
        "1.50e10",
        "00",
        "0x1",
        "123456789012345678901234567890",
        "\"a",
        "\"",
        "\"\\",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\\ud83d\\ude00\"",
        "\"\t\"",
        "\"\u{0}\"",
        "\"\u{7f}\"",
        "[",
        "]",
        "[]]",
        "{",
        "}",
        "{}}",
        "[[],{},[[]]]",
        "\u{feff}1",
        "NaN",
        "Infinity",
        "1 2",
        "1,2",
        "//",
        "[1]//",
        "{\"a\":1,\"b\":2,\"a\":{\"c\":[1,\"x\"]},\"b\":3}",
        "{\"a\":1,\"a\":1,\"a\":2}",
        "{\"\\u0061\":[1,2],\"a\":[3]}",
        "{\"a\":{\"b\":1,\"b\":[2]},\"c\":{\"a\":1},\"a\":{\"x\":[],\"x\":{}}}",
        "{\"\":1,\"\":2}",
        "[\"a\\u007fb\\/c\\\\\",\"é\",\"\\u0001\\n\\\"\",\"\"]",
        "[ \"a\" , \"b\" ,1 , true,false , null ]",
    ] {
        agree(text);
    }
    agree(&many("\"k7\":[1,{\"x\":2}],\"k49\":\"last\",\"\\u006b0\":{}"));
    agree(&many("\"new\":1"));
    agree(&many("\"k7\":"));
    for depth in [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 100_000] {
        agree(&("[".repeat(depth) + &"]".repeat(depth)));
        agree(&("{\"a\":".repeat(depth) + "1" + &"}".repeat(depth)));
        agree(&"[{\"a\":".repeat(depth / 2));
    }
}

/// The one difference: `serde_json` would take such an object for a number.
#[test]
fn a_key_that_serde_json_uses_itself_is_a_key_like_any_other() {
    let text = r#"{"a":{"$serde_json::private::Number":"1"},"$serde_json::private::RawValue":"[1]"}"#;
    let document = Document::parse(text).unwrap();
    assert_eq!(document.root().to_string(), text);
    assert_eq!(document.root().to_value().to_string(), text);
    assert_eq!(parse(text).unwrap().to_string(), text);
}
