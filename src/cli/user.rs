//! `tidegate user`: password hashes for `[[broker.users]]`.

use std::io::{BufRead, IsTerminal as _};
use std::process::ExitCode;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use clap::Subcommand;

use crate::exit;
use crate::model::Secret;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask for a password and print its hash, for `hash` of a user in the config
    Hash,
}

impl Command {
    pub(super) fn run(&self) -> ExitCode {
        match self {
            Self::Hash => hash(),
        }
    }
}

fn hash() -> ExitCode {
    let password = match read_password() {
        Ok(Some(password)) if !password.expose().is_empty() => password,
        Ok(None) => return exit::code(exit::INTERRUPTED),
        Ok(Some(_)) => {
            eprintln!("error: the password is empty");
            return exit::code(exit::USAGE);
        }
        Err(error) => {
            eprintln!("error: the password cannot be read: {error}");
            return exit::code(exit::IO);
        }
    };
    match Argon2::default().hash_password(password.expose().as_bytes()) {
        Ok(hash) => super::print(&format!("{hash}\n")),
        Err(error) => {
            eprintln!("error: the password cannot be hashed: {error}");
            exit::code(exit::UNAVAILABLE)
        }
    }
}

/// Reads one line: from a terminal without showing it, else as it comes (`tidegate user hash < file`). `None` when the person took it back.
fn read_password() -> std::io::Result<Option<Secret>> {
    let stdin = std::io::stdin();
    let hidden = stdin.is_terminal().then(Hidden::start).transpose()?;
    if hidden.is_some() {
        eprint!("password: ");
    }
    let line = read_line(stdin.lock(), if hidden.is_some() { &TAKEN_BACK } else { &[] })?;
    if hidden.is_some() {
        eprintln!();
    }
    let Some(line) = line else { return Ok(None) };
    let line = String::from_utf8(line)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()))?;
    Ok(Some(Secret::new(line.trim_end_matches(['\n', '\r']).to_owned())))
}

const CTRL_C: u8 = 0x03;
const CTRL_BACKSLASH: u8 = 0x1c;
const CTRL_Z: u8 = 0x1a;
/// What a person types to get out, and means as no part of a password.
const TAKEN_BACK: [u8; 3] = [CTRL_C, CTRL_BACKSLASH, CTRL_Z];

/// Reads up to the end of a line or of the input; `None` when one of `taken_back` comes before.
fn read_line(input: impl BufRead, taken_back: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    for byte in input.bytes() {
        match byte? {
            byte if taken_back.contains(&byte) => return Ok(None),
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(Some(line))
}

/// A terminal that does not show what is typed, until dropped. Its keys raise no signals meanwhile: one would end the process with the
/// terminal still blind. Ctrl-C and Ctrl-\ end the line instead, so that they are heard at once.
struct Hidden(libc::termios);

impl Hidden {
    fn start() -> std::io::Result<Self> {
        // SAFETY: termios is plain data, written whole by tcgetattr when that succeeds.
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(libc::STDIN_FILENO, &raw mut before) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            before
        };
        let mut hidden = before;
        hidden.c_lflag &= !(libc::ECHO | libc::ISIG);
        hidden.c_cc[libc::VEOL] = CTRL_C;
        hidden.c_cc[libc::VEOL2] = CTRL_BACKSLASH;
        // SAFETY: `hidden` is a valid termios for the length of the call.
        if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &raw const hidden) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // SAFETY: the termios is the one tcgetattr gave.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &raw const self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_end_and_is_taken_back_only_where_a_person_types() {
        let read = |text: &str, taken_back: &[u8]| read_line(text.as_bytes(), taken_back).unwrap();
        assert_eq!(read("correct horse\nbattery", &TAKEN_BACK), Some(b"correct horse".to_vec()));
        assert_eq!(read("correct horse", &[]), Some(b"correct horse".to_vec()));
        assert_eq!(read("corr\u{3}", &TAKEN_BACK), None);
        assert_eq!(read("corr\u{3}", &[]), Some(b"corr\x03".to_vec()));
    }
}
