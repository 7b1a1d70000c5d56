//! Where Python's `json` module would stop in a text, and what it would say there.
//!
//! The original server answers malformed JSON with these words and positions, and clients show them.

/// The complaint and its position in bytes; `None` for a text that Python accepts.
pub fn complaint(text: &str) -> Option<(&'static str, usize)> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, depth: 0 };
    scanner.document().err()
}

/// Nesting beyond which Python gives up.
const DEEPEST: usize = 900;

type Scan = Result<(), (&'static str, usize)>;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Scanner<'_> {
    fn document(&mut self) -> Scan {
        self.skip_space();
        self.value()?;
        self.skip_space();
        if self.at < self.bytes.len() { Err(("Extra data", self.at)) } else { Ok(()) }
    }

    fn value(&mut self) -> Scan {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') if self.depth >= DEEPEST => Err(("Expecting value", start)),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'-' | b'0'..=b'9') if self.number() => Ok(()),
            _ => {
                let words: [&[u8]; 6] = [b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity"];
                let rest = self.bytes.get(start..).unwrap_or_default();
                let word = words.iter().find(|word| rest.starts_with(word)).ok_or(("Expecting value", start))?;
                self.at = start + word.len();
                Ok(())
            }
        }
    }

    fn nested(&mut self, scan: impl Fn(&mut Self) -> Scan) -> Scan {
        self.at += 1;
        self.depth += 1;
        self.skip_space();
        let result = scan(self);
        self.depth -= 1;
        result
    }

    fn object(&mut self) -> Scan {
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(("Expecting property name enclosed in double quotes", self.at));
            }
            self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(("Expecting ':' delimiter", self.at));
            }
            self.skip_space();
            self.value()?;
            self.skip_space();
            if self.take(b'}') {
                return Ok(());
            }
            self.comma()?;
        }
    }

    fn list(&mut self) -> Scan {
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value()?;
            self.skip_space();
            if self.take(b']') {
                return Ok(());
            }
            self.comma()?;
        }
    }

    fn comma(&mut self) -> Scan {
        if !self.take(b',') {
            return Err(("Expecting ',' delimiter", self.at));
        }
        self.skip_space();
        Ok(())
    }

    fn string(&mut self) -> Scan {
        let begin = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(("Unterminated string starting at", begin)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    let escape = self.at;
                    match self.bytes.get(escape + 1) {
                        None => return Err(("Unterminated string starting at", begin)),
                        Some(b'u') => {
                            let digits = self.bytes.get(escape + 2..escape + 6).unwrap_or_default();
                            if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(("Invalid \\uXXXX escape", escape + 1));
                            }
                            self.at += 6;
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                        Some(_) => return Err(("Invalid \\escape", escape)),
                    }
                }
                Some(byte) if byte < 0x20 => return Err(("Invalid control character at", self.at)),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Takes the longest number; stays where it is when there is none.
    fn number(&mut self) -> bool {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            self.at = start;
            return false;
        }
        let whole = self.at;
        if self.take(b'.') && self.digits() == 0 {
            self.at = whole;
            return true;
        }
        let mantissa = self.at;
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'-') || self.take(b'+');
            if self.digits() == 0 {
                self.at = mantissa;
            }
        }
        true
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_pythons() {
        let cases = [
            ("{not json", "Expecting property name enclosed in double quotes", 1),
            ("{\"a\" 1}", "Expecting ':' delimiter", 5),
            ("{\"a\": 1 \"b\"}", "Expecting ',' delimiter", 8),
            ("[1, ]", "Expecting value", 4),
            ("{\"a\": \"x", "Unterminated string starting at", 6),
            ("[\"a\nb\"]", "Invalid control character at", 3),
            ("[\"\\x\"]", "Invalid \\escape", 2),
            ("1.", "Extra data", 1),
            ("{} x", "Extra data", 3),
            ("  ", "Expecting value", 2),
        ];
        for (text, message, at) in cases {
            assert_eq!(complaint(text), Some((message, at)), "{text}");
        }
        for text in ["{\"a\": [1, -2.5e3, true, null, \"\\u00e9\"]} ", "0", "NaN"] {
            assert_eq!(complaint(text), None, "{text}");
        }
        assert!(complaint(&"[".repeat(100_000)).is_some());
    }
}
