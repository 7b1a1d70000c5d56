//! Base64 (RFC 4648, standard alphabet), as JSON carries files.

/// The bytes that a text stands for. White space is skipped, as mail programs and some encoders break lines.
///
/// # Errors
/// What was found where, when it is not base64 or was cut off.
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let wanted = text.len() / 4 * 3 + 3;
    bytes.try_reserve_exact(wanted).map_err(|_| format!("not enough free memory for {wanted} bytes"))?;
    let (mut bits, mut count, mut padding) = (0u32, 0usize, 0usize);
    for (position, byte) in text.bytes().enumerate() {
        if byte.is_ascii_whitespace() {
            continue;
        }
        if byte == b'=' {
            padding += 1;
            continue;
        }
        let Some(value) = sextet(byte).filter(|_| padding == 0) else {
            let found = text.get(position..).and_then(|rest| rest.chars().next()).unwrap_or('?');
            return Err(format!("not base64: character {position} is {found:?}"));
        };
        bits = bits << 6 | value;
        count += 1;
        if count.is_multiple_of(4) {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match (count % 4, padding) {
        (0, 0) => {}
        (2, 2) => bytes.push((bits >> 4) as u8),
        (3, 1) => bytes.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => {
            return Err(format!(
                "incorrect padding: {count} characters of base64 and {padding} '='; the text was cut off"
            ));
        }
    }
    Ok(bytes)
}

fn sextet(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_standard() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9v\r\nYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(decode("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        for wrong in ["@@@", "Zm9", "Zg=", "Z", "Zg==Zg==", "Zm9v====", "Zmü="] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
