//! Text in the query of a request's target, percent-encoded (RFC 3986, section 2.1).

/// Writes a text with all that is not unreserved encoded.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            for digit in [byte >> 4, byte & 0x0f] {
                out.extend(char::from_digit(digit.into(), 16));
            }
            // The sign goes before its two digits.
            out.insert(out.len() - 2, '%');
        }
    }
    out
}

/// Reads one back; `None` when a sign is not followed by two digits, or the bytes are no UTF-8. A plus is a plus.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_reads_back_as_it_was_written() {
        for text in ["", "a-b_c.d~1", "h*?/#&=+% ö\u{1}"] {
            let encoded = encode(text);
            assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(text));
        }
        assert_eq!(encode("a*ö"), "a%2a%c3%b6");
    }

    #[test]
    fn what_is_broken_off_or_no_text_is_none() {
        for text in ["%", "%4", "%4g", "%+1", "%c3"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode("a+b%2B").as_deref(), Some("a+b+"));
    }
}
