//! Words that depend on a number.

/// A number with what it counts, `1 cell`, `2 cells`, `2 patches` or `2 entries`: `one` is the name of a single one, with a
/// regular plural.
pub fn counted(count: usize, one: &str) -> String {
    if count == 1 {
        return format!("1 {one}");
    }
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        _ if one.ends_with("ch") => format!("{count} {one}es"),
        _ => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "cell")), ["0 cells", "1 cell", "2 cells"]);
        assert_eq!(["patch", "entry", "ray"].map(|one| counted(2, one)), ["2 patches", "2 entries", "2 rays"]);
        assert_eq!(["patch", "entry"].map(|one| counted(1, one)), ["1 patch", "1 entry"]);
    }
}
