//! JSON as it came, without copying long texts.

use std::borrow::Cow;
use std::fmt;

use axum::http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::errors::{Context, FieldError, Location, Refusal};
use super::python_json;

/// A JSON value that borrows from the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// Names and values, of equal names the last one.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Most characters of a text that an error repeats.
const REPEATED: usize = 2000;

/// Most elements of a list that are kept.
const KEPT: usize = 1 << 16;

/// A body is an object whose fields are plain values or lists of such objects. Objects and lists on other levels are read as
/// empty.
const OBJECTS: [usize; 2] = [0, 2];
const LISTS: [usize; 1] = [1];

impl<'a> Json<'a> {
    /// Reads a body, of its objects the fields in `names` only: so the value takes little more memory than the body, whatever
    /// that holds. `None` for an empty body.
    ///
    /// # Errors
    /// 422 in the words of Python's `json` module, 400 for a body that is not UTF-8.
    pub fn read(body: &'a [u8], names: &[&str]) -> Result<Option<Self>, Refusal> {
        if body.is_empty() {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)) else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "There was an error parsing the body"));
        };
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Value { names, level: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map(Some).map_err(|error| {
            let (msg, at) = python_json::complaint(text).unwrap_or_else(|| {
                let at = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
                ("Expecting value", (at + error.column().saturating_sub(1)).min(text.len()))
            });
            syntax_error(text, msg, at)
        })
    }

    /// The value of a name, if this is an object that has it.
    pub fn field(&self, name: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// `at` is a position in bytes.
fn syntax_error(text: &str, msg: &str, at: usize) -> Refusal {
    let before = text.get(..at).unwrap_or(text);
    let pos = before.chars().count();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let doc: String = text.chars().take(REPEATED).collect();
    Refusal::fields(vec![FieldError {
        loc: vec!["body".into(), Location::Index(pos)],
        msg: format!("{msg}: line {line} column {column} (char {pos})"),
        kind: "value_error.jsondecode".into(),
        ctx: Some(Context::Syntax { msg: msg.to_owned(), doc, pos, lineno: line, colno: column }),
    }])
}

/// Reads a value, at a depth of nesting.
#[derive(Clone, Copy)]
struct Value<'n> {
    names: &'n [&'n str],
    level: usize,
}

impl Value<'_> {
    fn inner(self) -> Self {
        Self { level: self.level + 1, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while LISTS.contains(&self.level) && values.len() < KEPT {
            match list.next_element_seed(self.inner())? {
                Some(value) => values.push(value),
                None => return Ok(Json::List(values)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some(name) = map.next_key_seed(Name(self))? {
            if !(OBJECTS.contains(&self.level) && self.names.contains(&name.as_ref())) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value_seed(self.inner())?;
            fields.retain(|(earlier, _)| *earlier != name);
            fields.push((name, value));
        }
        Ok(Json::Object(fields))
    }
}

/// A name, borrowed where it holds no escapes.
struct Name<'n>(Value<'n>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        match from.deserialize_str(self.0)? {
            Json::Text(text) => Ok(text),
            _ => Err(serde::de::Error::custom("a name must be a text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_long_texts_borrowed() {
        let text = br#"{"a": "x", "b": [1, -2.5, true, null], "a": "y\u003d", "c": 18446744073709551615}"#;
        let value = Json::read(text, &["a", "b", "c"]).unwrap().unwrap();
        assert_eq!(value.field("a"), Some(&Json::Text("y=".into())));
        let list = vec![Json::Int(1), Json::Float(-2.5), Json::Bool(true), Json::Null];
        assert_eq!(value.field("b"), Some(&Json::List(list)));
        assert_eq!(value.field("c"), Some(&Json::Float(18446744073709551615.0)));
        let marked = Json::read(b"\xef\xbb\xbf{\"a\": \"x\"}", &["a"]).unwrap().unwrap();
        let Json::Object(fields) = &marked else { panic!("{marked:?}") };
        assert!(matches!(&fields[0].1, Json::Text(Cow::Borrowed("x"))));
        assert!(Json::read(b"", &[]).unwrap().is_none());
        assert_eq!(Json::read(b"\xff\xfe", &[]).unwrap_err().status(), 400);
    }

    #[test]
    fn what_nobody_asks_for_takes_no_memory() {
        let numbers = format!("[{}0]", "0,".repeat(100_000));
        let text = format!(r#"{{"x": {numbers}, "a": {numbers}, "b": [{numbers}, {{"a": [1], "x": 2}}]}}"#);
        let value = Json::read(text.as_bytes(), &["a", "b"]).unwrap().unwrap();
        assert_eq!(value.field("x"), None);
        assert!(matches!(value.field("a"), Some(Json::List(kept)) if kept.len() == KEPT));
        let Some(Json::List(elements)) = value.field("b") else { panic!("a list") };
        assert_eq!(elements[0], Json::List(Vec::new()));
        assert_eq!(elements[1], Json::Object(vec![("a".into(), Json::List(Vec::new()))]));
        assert!(Json::read(b"{\"x\": [1, 2}", &[]).is_err() && Json::read(b"{} x", &[]).is_err());
    }

    #[test]
    fn syntax_errors_are_those_of_the_recorded_server() {
        let error = Json::read(b"{not json", &[]).unwrap_err();
        assert_eq!(error.reason(), "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)");
        let error = Json::read("{\"ä\": 1,\n \"b\": }".as_bytes(), &["b"]).unwrap_err();
        assert_eq!(error.reason(), "Expecting value: line 2 column 7 (char 15)");
        assert!(Json::read("[".repeat(100_000).as_bytes(), &[]).is_err());
        assert!(Json::read(b"1e999", &[]).is_err());
    }
}
