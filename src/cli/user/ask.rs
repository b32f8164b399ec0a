//! Asks for a password: at a terminal without showing it, else as it comes.

use std::io::{self, BufRead, IsTerminal as _};
use std::process::ExitCode;

use crate::exit;
use crate::model::Secret;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// The person took the question back.
    #[error("interrupted")]
    TakenBack,
    /// Nothing was typed.
    #[error("the password is empty")]
    Empty,
    /// It was typed in two ways.
    #[error("the two passwords are not the same")]
    Differ,
    /// Reading failed.
    #[error("the password cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Unanswered {
    /// Tells it, and gives the exit code that goes with it.
    pub(super) fn tell(&self) -> ExitCode {
        if !matches!(self, Self::TakenBack) {
            eprintln!("error: {self}");
        }
        exit::code(match self {
            Self::TakenBack => exit::INTERRUPTED,
            Self::Empty | Self::Differ => exit::USAGE,
            Self::Read(_) => exit::IO,
        })
    }
}

/// How often a person types it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// Once.
    Once,
    /// Twice, since nobody sees a slip.
    Twice,
}

/// The password; of what is no terminal (`tidegate user hash < file`) the first line, once.
pub(super) fn password(times: Times) -> Result<Secret, Unanswered> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(stdin.lock(), &[]);
    }
    // One for both questions: another one would throw away what was typed ahead.
    let _hidden = Hidden::start()?;
    let password = question("password: ")?;
    if times == Times::Twice && question("again: ")? != password {
        return Err(Unanswered::Differ);
    }
    Ok(password)
}

fn question(words: &str) -> Result<Secret, Unanswered> {
    eprint!("{words}");
    let answer = line(io::stdin().lock(), &TAKEN_BACK);
    eprintln!();
    answer
}

fn line(input: impl BufRead, taken_back: &[u8]) -> Result<Secret, Unanswered> {
    let line = read_line(input, taken_back)?.ok_or(Unanswered::TakenBack)?;
    let line =
        String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() { Err(Unanswered::Empty) } else { Ok(Secret::new(password.to_owned())) }
}

const CTRL_C: u8 = 0x03;
const CTRL_BACKSLASH: u8 = 0x1c;
const CTRL_Z: u8 = 0x1a;
/// What a person types to get out, and means as no part of a password.
const TAKEN_BACK: [u8; 3] = [CTRL_C, CTRL_BACKSLASH, CTRL_Z];

/// Reads up to the end of a line or of the input; `None` when one of `taken_back` comes before.
fn read_line(input: impl BufRead, taken_back: &[u8]) -> io::Result<Option<Vec<u8>>> {
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
    fn start() -> io::Result<Self> {
        // SAFETY: termios is plain data, written whole by tcgetattr when that succeeds.
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(libc::STDIN_FILENO, &raw mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            before
        };
        let mut hidden = before;
        hidden.c_lflag &= !(libc::ECHO | libc::ISIG);
        hidden.c_cc[libc::VEOL] = CTRL_C;
        hidden.c_cc[libc::VEOL2] = CTRL_BACKSLASH;
        // SAFETY: `hidden` is a valid termios for the length of the call.
        if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &raw const hidden) } != 0 {
            return Err(io::Error::last_os_error());
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
