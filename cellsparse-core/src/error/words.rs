//! Words that depend on a number.

/// A number with what it counts, `1 cell` or `2 cells`: `one` is the name of a single one, whose plural takes an s.
pub fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "cell")), ["0 cells", "1 cell", "2 cells"]);
    }
}
