//! `tidegate user`: password hashes for `[[broker.users]]`.

use std::io::{BufRead as _, IsTerminal as _};
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
        Ok(password) if !password.expose().is_empty() => password,
        Ok(_) => {
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

/// Reads one line: from a terminal without showing it, else as it comes (`tidegate user hash < file`).
fn read_password() -> std::io::Result<Secret> {
    let stdin = std::io::stdin();
    let hidden = stdin.is_terminal().then(Hidden::start).transpose()?;
    if hidden.is_some() {
        eprint!("password: ");
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    if hidden.is_some() {
        eprintln!();
    }
    Ok(Secret::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// A terminal that does not show what is typed, until dropped.
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
        hidden.c_lflag &= !libc::ECHO;
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
