//! Fetches a secret from where the config says it is kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::kinds::SecretRef;
use crate::model::Secret;

/// Longest secret: a key of any kind in PEM form is a tenth of it. A longer file is refused rather than read.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// A secret that was found.
pub struct Found {
    /// The secret.
    pub secret: Secret,
    /// Its file, when others than its owner may read that.
    pub exposed: Option<PathBuf>,
}

/// Fetches it. `directory` is where a relative path starts, `variable` looks into the environment.
///
/// # Errors
/// Why it cannot be had, as a fragment that names the place and never the secret.
pub fn fetch(
    reference: &SecretRef,
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Found, String> {
    match reference {
        SecretRef::Env(name) => match variable(name) {
            Some(text) if text.is_empty() => Err(format!("the variable `{name}` is empty")),
            Some(text) => Ok(Found { secret: Secret::new(text), exposed: None }),
            None => Err(format!("the environment has no variable `{name}`")),
        },
        SecretRef::File(path) => from_file(&directory.join(path), true),
        SecretRef::Credential(name) => match variable("CREDENTIALS_DIRECTORY") {
            // systemd keeps credentials in a directory of the unit's own, whatever the bits of the file say.
            Some(credentials) => from_file(&Path::new(&credentials).join(name), false),
            None => Err(format!(
                "no credential `{name}`: systemd sets $CREDENTIALS_DIRECTORY for units with LoadCredential="
            )),
        },
    }
}

fn from_file(path: &Path, check_mode: bool) -> Result<Found, String> {
    let failed = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(format!("`{}` is larger than {} KiB", path.display(), SECRET_BYTES_MAX >> 10));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    // Editors end a file with a newline; no password ends with one.
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(format!("`{}` is empty", path.display()));
    }
    let exposed = check_mode && metadata.permissions().mode() & 0o077 != 0;
    Ok(Found { secret: Secret::new(text.to_owned()), exposed: exposed.then(|| path.to_path_buf()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_newline_and_tells_when_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("p"), "secret\r\n").unwrap();
        fs::set_permissions(dir.path().join("p"), fs::Permissions::from_mode(0o644)).unwrap();
        let found = fetch(&SecretRef::File("p".into()), dir.path(), &none).ok().unwrap();
        assert_eq!(found.secret.expose(), "secret");
        assert_eq!(found.exposed, Some(dir.path().join("p")));
        fs::set_permissions(dir.path().join("p"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fetch(&SecretRef::File("p".into()), dir.path(), &none).ok().unwrap().exposed, None);
    }

    #[test]
    fn a_credential_comes_from_the_directory_that_systemd_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cloud"), "x").unwrap();
        let root = dir.path().display().to_string();
        let variable = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| root.clone());
        let reference = SecretRef::Credential("cloud".into());
        assert_eq!(fetch(&reference, Path::new(""), &variable).ok().unwrap().secret.expose(), "x");
        assert!(fetch(&reference, Path::new(""), &none).is_err());
    }
}
