//! Names from files in messages.

/// A name from a file, fit for one line of a message: at most 80 characters, nothing that a terminal would obey.
pub(super) fn shortened(name: &str) -> String {
    let mut text: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(shortened("a\n\u{1b}[31mé"), "a\\n\\u{1b}[31mé");
        assert_eq!(shortened(&"x".repeat(90)), "x".repeat(80) + "...");
    }
}
