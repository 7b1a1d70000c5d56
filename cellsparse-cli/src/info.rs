//! `cellsparse info`: what a model file holds.

use cellsparse_core::error::counted;
use cellsparse_core::model::Model;
use cellsparse_core::{Error, Result};
use serde_json::Value;

use crate::args::InfoArgs;
use crate::{print_json, print_out};

/// Prints what the header of a model file says.
pub fn run(args: &InfoArgs) -> Result<()> {
    let facts = serde_json::to_value(Model::peek(&args.file)?)
        .map_err(|error| Error::Internal(format!("model facts could not be written as JSON: {error}")))?;
    if args.json {
        print_json(&facts);
        return Ok(());
    }
    let lines = lines(&facts);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in lines {
        print_out(&format!("{name:<width$}  {value}"));
    }
    Ok(())
}

/// Name and value of every fact, nested names joined by points.
pub fn lines(facts: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    flatten("", facts, &mut lines);
    lines
}

/// One line for each value; lists of more than eight values are only counted.
fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, lines);
            }
        }
        Value::Array(values) if values.len() > 8 || values.iter().any(|value| value.is_object()) => {
            lines.push((name.to_owned(), counted(values.len(), "entry")));
        }
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(word).collect();
            lines.push((name.to_owned(), words.join(" x ")));
        }
        other if !name.is_empty() => lines.push((name.to_owned(), word(other))),
        _ => {}
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        // Most numbers of a model are 32-bit, whose short form people expect: 0.3, not 0.30000001192092896.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| (number as f32).to_string())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_facts_become_lines() {
        let facts = serde_json::json!({"config": {"grid": [2, 2], "rays": 32, "nms": 0.3f32}, "history": [{"loss": 1.0}], "x": null});
        let text: Vec<String> = lines(&facts).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["config.grid=2 x 2", "config.nms=0.3", "config.rays=32", "history=1 entries", "x=-"]);
    }
}
