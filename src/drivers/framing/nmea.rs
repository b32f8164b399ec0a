//! The checksum of NMEA 0183: `*` and two hexadecimal digits, the exclusive or of all bytes between `$` (or `!`) and `*`.

/// Checks a sentence; gives it back without its checksum.
///
/// # Errors
/// What is wrong with it.
pub fn verify(line: &str) -> Result<&str, String> {
    let Some(body) = line.strip_prefix(['$', '!']) else {
        return Err("no NMEA sentence: it does not begin with `$` or `!`".into());
    };
    let Some((data, digits)) = body.rsplit_once('*') else {
        return Err("NMEA checksum is missing".into());
    };
    // from_str_radix takes a sign, which is no digit.
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let told = hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten();
    let Some(told) = told else {
        return Err("NMEA checksum is not two hexadecimal digits".into());
    };
    let found = checksum(data);
    if told == found {
        Ok(&line[..=data.len()])
    } else {
        Err(format!("NMEA checksum mismatch: expected {found:02X}, got {told:02X}"))
    }
}

/// The checksum of what stands between `$` and `*`.
pub fn checksum(data: &str) -> u8 {
    data.bytes().fold(0, |sum, byte| sum ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_true_sentence_loses_its_checksum() {
        // GPGGA example of the u-blox protocol description.
        let sentence = "$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B";
        assert_eq!(verify(sentence), Ok(&sentence[..sentence.len() - 3]));
        assert_eq!(verify("!A*41"), Ok("!A"));
    }

    #[test]
    fn every_other_sentence_is_told_why() {
        assert_eq!(verify("A*41"), Err("no NMEA sentence: it does not begin with `$` or `!`".into()));
        assert_eq!(verify("$A"), Err("NMEA checksum is missing".into()));
        assert_eq!(verify("$A*4"), Err("NMEA checksum is not two hexadecimal digits".into()));
        assert_eq!(verify("$A*+1"), Err("NMEA checksum is not two hexadecimal digits".into()));
        assert_eq!(verify("$A*42"), Err("NMEA checksum mismatch: expected 41, got 42".into()));
        assert_eq!(verify("$A*é"), Err("NMEA checksum is not two hexadecimal digits".into()));
    }
}
