//! The Lambda that is tested and shipped is no build with engines that are broken on purpose.

#![allow(clippy::unwrap_used, missing_docs)]

/// Where the text stands that such a build contains.
const MUTANTS: &str = include_str!("../../../shared/engine/src/mutants.rs");

#[test]
fn the_lambda_is_not_broken_on_purpose() {
    let (_, rest) = MUTANTS.split_once("MARKER: &str = \"").unwrap();
    let (marker, _) = rest.split_once('"').unwrap();
    assert!(marker.len() > 20, "{marker:?}");
    let binary = std::fs::read(env!("CARGO_BIN_EXE_orchestrator")).unwrap();
    let contains = |text: &str| binary.windows(text.len()).any(|window| window == text.as_bytes());
    // A text of the engine, so that it is seen that texts are found at all.
    assert!(contains("a start got no answer"));
    assert!(!contains(marker), "it contains {marker:?}");
}
