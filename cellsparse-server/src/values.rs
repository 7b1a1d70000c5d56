//! Values of fields, read as generously as pydantic 1 reads them.

use std::borrow::Cow;

use super::errors::{FieldError, Location};
use super::json::Json;

/// Reads the fields of one object and collects what is wrong with them.
pub struct Reader<'j, 'a> {
    object: &'j Json<'a>,
    at: Vec<Location>,
    /// What is wrong, in the order of reading.
    pub errors: Vec<FieldError>,
}

impl<'j, 'a> Reader<'j, 'a> {
    /// For the object that stands at `at` of the request.
    pub fn new(object: &'j Json<'a>, at: Vec<Location>) -> Self {
        Self { object, at, errors: Vec::new() }
    }

    /// The place of a field.
    pub fn place(&self, name: &str) -> Vec<Location> {
        self.at.iter().cloned().chain([name.into()]).collect()
    }

    /// Notes that a field cannot be used.
    pub fn refuse(&mut self, name: &str, msg: impl Into<String>, kind: &str) {
        let place = self.place(name);
        self.errors.push(FieldError::new(place, msg, kind));
    }

    /// A text that must be there; `""` after an error.
    pub fn required_text(&mut self, name: &str) -> Cow<'a, str> {
        match self.object.field(name) {
            None => {
                self.refuse(name, "field required", "value_error.missing");
                Cow::Borrowed("")
            }
            Some(Json::Null) => {
                self.refuse(name, NOT_NULL, NOT_NULL_KIND);
                Cow::Borrowed("")
            }
            Some(value) => self.as_text(name, value).unwrap_or_default(),
        }
    }

    /// A text that may be absent or `null`.
    pub fn optional_text(&mut self, name: &str) -> Option<Cow<'a, str>> {
        match self.object.field(name) {
            None | Some(Json::Null) => None,
            Some(value) => self.as_text(name, value),
        }
    }

    /// A flag.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        let Some(value) = self.present(name) else { return default };
        let word = match value {
            Json::Bool(flag) => return *flag,
            Json::Int(0) => "0".into(),
            Json::Int(1) => "1".into(),
            Json::Float(number) if *number == 0.0 => "0".into(),
            Json::Float(number) if *number == 1.0 => "1".into(),
            Json::Text(text) => text.to_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "1" | "on" | "t" | "true" | "y" | "yes" => true,
            "0" | "off" | "f" | "false" | "n" | "no" => false,
            _ => {
                self.refuse(name, "value could not be parsed to a boolean", "type_error.bool");
                default
            }
        }
    }

    /// A whole number; fractions are cut off.
    pub fn integer(&mut self, name: &str) -> Option<i64> {
        let number = match self.present(name)? {
            Json::Int(number) => Some(*number),
            Json::Bool(flag) => Some(i64::from(*flag)),
            Json::Float(number) if number.abs() < 9e18 => Some(number.trunc() as i64),
            Json::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.refuse(name, "value is not a valid integer", "type_error.integer");
        }
        number
    }

    /// A whole number that may be `null`.
    pub fn optional_integer(&mut self, name: &str) -> Option<i64> {
        match self.object.field(name) {
            None | Some(Json::Null) => None,
            Some(_) => self.integer(name),
        }
    }

    /// A finite number.
    pub fn float(&mut self, name: &str) -> Option<f64> {
        let value = self.present(name)?;
        self.as_float(name, value)
    }

    /// A finite number that may be `null`.
    pub fn optional_float(&mut self, name: &str) -> Option<f64> {
        match self.object.field(name) {
            None | Some(Json::Null) => None,
            Some(value) => self.as_float(name, value),
        }
    }

    /// A list of finite numbers that may be absent or `null`; empty after an error.
    pub fn optional_floats(&mut self, name: &str) -> Option<Vec<f64>> {
        let list = self.list(name)?;
        Some(list.iter().map_while(|value| self.as_float(name, value)).collect())
    }

    /// A list that may be absent or `null`.
    pub fn list(&mut self, name: &str) -> Option<&'j [Json<'a>]> {
        match self.object.field(name) {
            None | Some(Json::Null) => None,
            Some(Json::List(values)) => Some(values),
            Some(_) => {
                self.refuse(name, "value is not a valid list", "type_error.list");
                None
            }
        }
    }

    /// A value that is there and not `null`.
    fn present(&mut self, name: &str) -> Option<&'j Json<'a>> {
        match self.object.field(name)? {
            Json::Null => {
                self.refuse(name, NOT_NULL, NOT_NULL_KIND);
                None
            }
            value => Some(value),
        }
    }

    fn as_text(&mut self, name: &str, value: &Json<'a>) -> Option<Cow<'a, str>> {
        match value {
            Json::Text(text) => Some(text.clone()),
            Json::Int(number) => Some(number.to_string().into()),
            Json::Float(number) => Some(format!("{number:?}").into()),
            Json::Bool(true) => Some("True".into()),
            Json::Bool(false) => Some("False".into()),
            _ => {
                self.refuse(name, "str type expected", "type_error.str");
                None
            }
        }
    }

    fn as_float(&mut self, name: &str, value: &Json<'a>) -> Option<f64> {
        let number = match value {
            Json::Int(number) => Some(*number as f64),
            Json::Float(number) => Some(*number),
            Json::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Json::Text(text) => text.trim().parse::<f64>().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            self.refuse(name, "value is not a valid float", "type_error.float");
        }
        number
    }
}

const NOT_NULL: &str = "none is not an allowed value";
const NOT_NULL_KIND: &str = "type_error.none.not_allowed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_pydantic_reads_them() {
        let json = br#"{"t": 5, "b": "Yes", "i": "7", "j": 2.9, "f": "1e-3", "n": null, "bad": "many", "x": []}"#;
        let names = ["t", "b", "i", "j", "f", "n", "bad", "x"];
        let json = Json::read(json, &names).unwrap().unwrap();
        let mut reader = Reader::new(&json, vec!["body".into()]);
        assert_eq!(reader.required_text("t"), "5");
        assert!(reader.flag("b", false) && reader.flag("absent", true));
        assert_eq!((reader.integer("i"), reader.integer("j"), reader.integer("absent")), (Some(7), Some(2), None));
        assert_eq!((reader.float("f"), reader.optional_float("n")), (Some(0.001), None));
        assert_eq!(reader.optional_text("n"), None);
        assert!(reader.errors.is_empty());
        reader.integer("bad");
        reader.float("bad");
        reader.flag("bad", false);
        reader.integer("n");
        reader.required_text("x");
        reader.required_text("absent");
        let kinds: Vec<&str> = reader.errors.iter().map(|error| error.kind.as_str()).collect();
        assert_eq!(
            kinds,
            [
                "type_error.integer",
                "type_error.float",
                "type_error.bool",
                "type_error.none.not_allowed",
                "type_error.str",
                "value_error.missing"
            ]
        );
        assert_eq!(reader.errors[0].loc, ["body".into(), Location::from("bad")]);
    }
}
