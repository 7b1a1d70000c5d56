//! Names and texts from files in messages.

/// A name from a file, fit for one line of a message: at most 80 characters, nothing that a terminal would obey.
pub(super) fn shortened(name: &str) -> String {
    let mut text = on_one_line(name, 80);
    if name.chars().nth(80).is_some() {
        text.push_str("...");
    }
    text
}

/// The first `most` characters of a text without line breaks and what a terminal would obey. Quotes and backslashes stay, so that
/// the text may hold names that were made so before.
pub(super) fn on_one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for character in text.chars().take(most) {
        match character {
            '\'' | '"' | '\\' => line.push(character),
            other => line.extend(other.escape_debug()),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(shortened("a\n\u{1b}[31mé"), "a\\n\\u{1b}[31mé");
        assert_eq!(on_one_line(&format!("its array '{}'\r", shortened("a\n")), 100), "its array 'a\\n'\\r");
        assert_eq!(shortened(&"x".repeat(90)), "x".repeat(80) + "...");
    }
}
