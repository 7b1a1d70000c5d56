//! The part of YAML that descriptions of models use, as values of JSON: blocks and flows of mappings and sequences, plain and
//! quoted texts, literal and folded texts.
//!
//! Source: the YAML 1.2.2 specification, chapters 6 to 8. Anchors, aliases and tags are refused, so that no file grows as it is
//! read.

use serde_json::{Map, Number, Value};

/// Longest text that is read: 1 MiB.
const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 40;

/// Reads a document.
///
/// # Errors
/// A text that says what cannot be read, and in which line.
pub(super) fn read(text: &str) -> Result<Value, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, and {MAX_BYTES} are read at most", text.len()));
    }
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        if content.starts_with("---") || content.starts_with("...") || content.starts_with('%') && indent == 0 {
            continue;
        }
        if content.starts_with('\t') {
            return Err(format!("line {} is indented by tabs", index + 1));
        }
        lines.push(Line { number: index + 1, indent, content: content.trim_end().to_string() });
    }
    let mut reader = Reader { lines, at: 0 };
    let value = reader.block(0, 0)?;
    match reader.next() {
        Some(line) => Err(format!("line {} does not fit those above it", line.number)),
        None => Ok(value),
    }
}

/// Writes a value as a document: one line for each entry of a mapping, texts in quotes.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    put(value, 0, &mut out);
    out
}

fn put(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    let is_flat = |value: &Value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.iter().all(|item| !item.is_object() && !item.is_array()),
        _ => true,
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                if is_flat(value) {
                    out.push_str(&format!("{pad}{key}: {}\n", scalar(value)));
                } else {
                    out.push_str(&format!("{pad}{key}:\n"));
                    put(value, indent + 2, out);
                }
            }
        }
        Value::Array(items) if !is_flat(value) => {
            for item in items {
                if is_flat(item) {
                    out.push_str(&format!("{pad}- {}\n", scalar(item)));
                } else {
                    let begin = out.len();
                    put(item, indent + 2, out);
                    // The first line of the item begins with a hyphen in place of its indentation.
                    out.replace_range(begin + indent..begin + indent + 1, "-");
                }
            }
        }
        flat => out.push_str(&format!("{pad}{}\n", scalar(flat))),
    }
}

/// A value in one line. Readers of YAML 1.1 take a number with an exponent for one only if it has a point.
fn scalar(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Number(_) if text.contains('e') && !text.contains('.') => text.replacen('e', ".0e", 1),
        _ => text,
    }
}

struct Line {
    number: usize,
    indent: usize,
    content: String,
}

struct Reader {
    lines: Vec<Line>,
    at: usize,
}

impl Reader {
    /// The next line with content.
    fn next(&mut self) -> Option<&Line> {
        while self.lines.get(self.at).is_some_and(|line| line.content.is_empty() || line.content.starts_with('#')) {
            self.at += 1;
        }
        self.lines.get(self.at)
    }

    /// The value whose lines are indented by at least `least`.
    fn block(&mut self, least: usize, depth: usize) -> Result<Value, String> {
        let Some(line) = self.next().filter(|line| line.indent >= least) else { return Ok(Value::Null) };
        let (indent, number) = (line.indent, line.number);
        if depth > MAX_DEPTH {
            return Err(format!("line {number} is nested too deeply"));
        }
        if is_item(&line.content) {
            self.sequence(indent, depth)
        } else if key_and_rest(&line.content).is_some() {
            self.mapping(indent, depth)
        } else {
            let content = line.content.clone();
            self.at += 1;
            self.scalar(&content, least, number)
        }
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        while let Some(line) = self.next().filter(|line| line.indent == indent && is_item(&line.content)) {
            let number = line.number;
            let rest = line.content[1..].trim_start().to_string();
            let inner = indent + line.content.len() - rest.len();
            if rest.is_empty() || rest.starts_with('#') {
                self.at += 1;
                items.push(self.block(indent + 1, depth + 1)?);
            } else if is_item(&rest) || key_and_rest(&rest).is_some() {
                self.lines[self.at] = Line { number, indent: inner, content: rest };
                items.push(self.block(inner, depth + 1)?);
            } else {
                self.at += 1;
                items.push(self.scalar(&rest, indent + 1, number)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        while let Some(line) = self.next().filter(|line| line.indent == indent) {
            let number = line.number;
            let Some((key, rest)) = key_and_rest(&line.content) else {
                return Err(format!("line {number} is no entry of the form 'key: value'"));
            };
            let (key, rest) = (key.to_string(), rest.to_string());
            let key = match plain(&key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            self.at += 1;
            let value = if rest.is_empty() || rest.starts_with('#') {
                // The items of a sequence may stand at the indentation of its key.
                let is_level = self.next().is_some_and(|line| line.indent == indent && is_item(&line.content));
                self.block(indent + usize::from(!is_level), depth + 1)?
            } else {
                self.scalar(&rest, indent + 1, number)?
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    /// A value that begins in the middle of a line; its further lines are indented by at least `least`.
    fn scalar(&mut self, first: &str, least: usize, number: usize) -> Result<Value, String> {
        let start = first.chars().next().unwrap_or(' ');
        match start {
            '&' | '*' | '!' => Err(format!("line {number} has an anchor, an alias or a tag, which are not read")),
            '|' | '>' => {
                let mut lines = Vec::new();
                while let Some(line) =
                    self.lines.get(self.at).filter(|line| line.content.is_empty() || line.indent >= least)
                {
                    lines.push(line.content.clone());
                    self.at += 1;
                }
                let text = lines.join(if start == '|' { "\n" } else { " " });
                Ok(Value::String(text.trim_end().to_string()))
            }
            '[' | '{' | '"' | '\'' => {
                let mut text = first.to_string();
                loop {
                    let mut flow = Flow { text: &text, at: 0 };
                    match flow.value(0) {
                        Ok(value) => {
                            let rest = flow.text[flow.at..].trim_start();
                            return match rest.is_empty() || rest.starts_with('#') {
                                true => Ok(value),
                                false => Err(format!("line {number} goes on after its value")),
                            };
                        }
                        Err(Broken::Wrong) => return Err(format!("line {number} has a value that is not YAML")),
                        Err(Broken::Open) => {}
                    }
                    let Some(line) = self.next() else { return Err(format!("the value of line {number} has no end")) };
                    // Each attempt begins anew, so the number of lines is limited.
                    if line.number - number > 1000 {
                        return Err(format!("the value of line {number} has more than 1000 lines"));
                    }
                    text.push(' ');
                    text.push_str(&line.content);
                    self.at += 1;
                }
            }
            _ => {
                let mut text = without_comment(first).to_string();
                while let Some(line) = self.next().filter(|line| line.indent >= least) {
                    text.push(' ');
                    text.push_str(without_comment(&line.content));
                    self.at += 1;
                }
                Ok(plain(&text))
            }
        }
    }
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

/// The key of an entry of a mapping, and what comes after its colon.
fn key_and_rest(content: &str) -> Option<(&str, &str)> {
    if let Some(quote) = content.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        let end = content[1..].find(quote)? + 1;
        let rest = content[end + 1..].trim_start().strip_prefix(':')?;
        return (rest.is_empty() || rest.starts_with(' ')).then_some((&content[..=end], rest.trim_start()));
    }
    if content.starts_with(['[', '{', '#', '|', '>']) {
        return None;
    }
    let at = content.find(": ").or(content.strip_suffix(':').map(str::len))?;
    Some((content[..at].trim_end(), content[at + 1..].trim_start()))
}

fn without_comment(text: &str) -> &str {
    text.split(" #").next().unwrap_or_default().trim_end()
}

/// The value of a text without quotes, or of a key with them.
fn plain(text: &str) -> Value {
    let quoted = text.len() > 1 && ['"', '\''].iter().any(|quote| text.starts_with(*quote) && text.ends_with(*quote));
    if quoted {
        return Value::String(text[1..text.len() - 1].to_string());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => {
            let integer = text.parse::<i64>().ok().map(Number::from);
            let number = integer.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64));
            number.map_or_else(|| Value::String(text.to_string()), Value::Number)
        }
        _ => Value::String(text.to_string()),
    }
}

/// Why a flow cannot be read.
enum Broken {
    /// It ends too early.
    Open,
    Wrong,
}

/// A value in brackets, braces or quotes.
struct Flow<'a> {
    text: &'a str,
    at: usize,
}

impl Flow<'_> {
    fn peek(&mut self) -> Result<char, Broken> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next().ok_or(Broken::Open)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Broken> {
        if depth > MAX_DEPTH {
            return Err(Broken::Wrong);
        }
        match self.peek()? {
            '[' => {
                let mut items = Vec::new();
                self.items(']', |flow| {
                    items.push(flow.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Array(items))
            }
            '{' => {
                let mut map = Map::new();
                self.items('}', |flow| {
                    let key = match flow.value(depth + 1)? {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    let value = match flow.peek()? {
                        ':' => {
                            flow.at += 1;
                            flow.value(depth + 1)?
                        }
                        _ => Value::Null,
                    };
                    map.insert(key, value);
                    Ok(())
                })?;
                Ok(Value::Object(map))
            }
            quote @ ('"' | '\'') => self.quoted(quote).map(Value::String),
            '&' | '*' | '!' => Err(Broken::Wrong),
            _ => {
                let rest = &self.text[self.at..];
                let end = rest
                    .char_indices()
                    .find(|&(at, c)| {
                        ",]}[{".contains(c) || c == ':' && rest[at + 1..].starts_with([' ', ',', ']', '}'])
                    })
                    .map_or(rest.len(), |(at, _)| at);
                if end == rest.len() {
                    return Err(Broken::Open);
                }
                let value = plain(rest[..end].trim());
                self.at += end;
                Ok(value)
            }
        }
    }

    /// Reads what stands between commas up to `close`.
    fn items(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<(), Broken>) -> Result<(), Broken> {
        self.at += 1;
        loop {
            if self.peek()? == close {
                self.at += 1;
                return Ok(());
            }
            item(self)?;
            match self.peek()? {
                ',' => self.at += 1,
                c if c == close => {}
                _ => return Err(Broken::Wrong),
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Broken> {
        let rest = &self.text[self.at + 1..];
        let mut out = String::new();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' if quote == '\'' && rest[at + 1..].starts_with('\'') => {
                    out.push('\'');
                    chars.next();
                }
                c if c == quote => {
                    self.at += at + 2;
                    return Ok(out);
                }
                '\\' if quote == '"' => match chars.next().ok_or(Broken::Open)?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    '0' => out.push('\0'),
                    kind @ ('x' | 'u' | 'U') => {
                        let digits = match kind {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let code: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
                        let code = u32::from_str_radix(&code, 16).map_err(|_| Broken::Wrong)?;
                        // Halves of a pair, as JSON writes what lies beyond 16 bits, do not occur in what is read.
                        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    other => out.push(other),
                },
                c => out.push(c),
            }
        }
        Err(Broken::Open)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_is_read() {
        let text = "---\n# a model\nname: StarDist H&E: nuclei # said so\nsince: 2021-07-01\nauthors:\n- name: 'It''s me'\n  orcid: ~\n\
                    - {name: \"Ö\\u00e4\", github: x}\nconfig:\n  stardist:\n    grid:\n    - 2\n    -   2\n    prob: 1.5e-1\n    flags: [true,\n\
                    \x20     false, 'a, b']\n    empty:\n    text: |\n      one\n      two\n    long: words that\n      go on\n";
        let expected = json!({
            "name": "StarDist H&E: nuclei",
            "since": "2021-07-01",
            "authors": [{"name": "It's me", "orcid": null}, {"name": "Öä", "github": "x"}],
            "config": {"stardist": {
                "grid": [2, 2], "prob": 0.15, "flags": [true, false, "a, b"], "empty": null, "text": "one\ntwo",
                "long": "words that go on",
            }},
        });
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "format_version": "0.5.4", "empty": [], "none": {}, "n": -1.5, "small": 1e-20, "deep": {"a": {"b": [1, 2], "c": "x: y # z"}},
            "items": [{"id": "x", "sides": [{"min": 1}, {"min": 2, "more": [[1], [2, 3]]}]}, "plain", {"id": "\"q\"\n"}],
        });
        let text = write(&value);
        assert_eq!(read(&text).unwrap(), value, "{text}");
        assert_eq!(read(&value.to_string()).unwrap(), value, "JSON is YAML");
    }

    #[test]
    fn what_would_grow_or_never_end_is_refused() {
        let deep = "[".repeat(1000);
        let steps: String = (0..100).map(|step| format!("{}a:\n", " ".repeat(step))).collect();
        for text in
            ["a: &x [1]\nb: *x\n", "a: !!python/object x", "a: [1,", "a: [1 2", &deep, &steps, "\ta: 1", "a: 1\nb"]
        {
            assert!(read(text).is_err(), "{text:.40}");
        }
        assert_eq!(read("").unwrap(), Value::Null);
    }
}
