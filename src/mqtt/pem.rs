//! What is wrong with a text in PEM form, in words that repeat nothing of it: the library's own quote whole lines, and a private key whose line ends got
//! lost is one line.

use rustls::pki_types::pem::Error;

/// The mistake, for a sentence that names the file.
pub fn in_words(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { .. } => "a section does not end: no line `-----END ...-----`".into(),
        Error::IllegalSectionStart { .. } => "a line `-----BEGIN ...-----` is broken off".into(),
        Error::Base64Decode(_) => "what stands between BEGIN and END is no base64".into(),
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "it holds none in PEM form".into(),
        _ => "it is damaged".into(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn no_mistake_is_told_with_a_part_of_the_text() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let body = key.lines().nth(1).unwrap().to_owned();
        let broken = [
            key.replace('\n', ""),
            key.replace("-----\n", ""),
            key.replace("-----END PRIVATE KEY-----", ""),
            key.replace("-----END", "----END"),
            key.replace(&body[..8], "!!!!!!!!"),
            body.clone(),
        ];
        for text in broken {
            let error = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap_err();
            let told = in_words(&error);
            // As text, and as the numbers that the library prints.
            let numbers = body.bytes().skip(8).take(8).map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
            assert!(!told.contains(&body[8..16]) && !told.contains(&numbers), "{told}");
        }
    }
}
