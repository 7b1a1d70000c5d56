//! JSON as programs write it: QuPath (Gson), Python and others write numbers that are not finite, which JSON does not have.

use serde_json::Value;

/// Names of numbers that are not finite, the longest first of those that begin alike.
const NOT_FINITE: [&[u8]; 4] = [b"-Infinity", b"Infinity", b"-NaN", b"NaN"];

/// Reads JSON; numbers that are not finite become `null`.
///
/// # Errors
/// As of `serde_json`.
pub(crate) fn read_json(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).or_else(|error| match with_nulls(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    })
}

/// The text with `null` for numbers that are not finite; nothing where there are none.
fn with_nulls(text: &[u8]) -> Option<Vec<u8>> {
    let mut clean = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = text.get(at) {
        if *byte == b'"' {
            at = end_of_string(text, at);
        } else if let Some(name) = NOT_FINITE.iter().find(|name| text[at..].starts_with(name)) {
            clean.extend_from_slice(&text[copied..at]);
            clean.extend_from_slice(b"null");
            at += name.len();
            copied = at;
        } else {
            at += 1;
        }
    }
    (copied > 0).then(|| {
        clean.extend_from_slice(&text[copied..]);
        clean
    })
}

/// The place behind the string that begins at `at`.
fn end_of_string(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'\\' => 2,
            b'"' => return at + 1,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_null() {
        let text = br#"{"a NaN \" Infinity": [NaN, -Infinity, 1e3, Infinity,-NaN], "b\\": "NaN"}"#;
        let expected = json!({"a NaN \" Infinity": [null, null, 1e3, null, null], "b\\": "NaN"});
        assert_eq!(read_json(text).unwrap(), expected);
        for wrong in ["", "{\"a", "[NaN", "[Nan]", "[\"NaN\\", "NaNNaN", "[1, NaN] \"", "{\"a\": \\NaN}"] {
            assert!(read_json(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
