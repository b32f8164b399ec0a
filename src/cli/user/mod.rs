//! `tidegate user`: who may come to the local broker.

mod ask;
mod change;
mod list;
mod replace;

use std::process::ExitCode;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use clap::Subcommand;

use self::ask::Times;
use super::ConfigFile;
use crate::exit;
use crate::model::Secret;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask for a password and add a user to the config
    Add(change::Add),
    /// Ask for a password and give it to a user of the config
    Passwd(change::Passwd),
    /// List the users of the config and what they may do
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask for a password and print its hash, for `hash` of a user in the config
    Hash,
}

impl Command {
    pub(super) fn run(&self) -> ExitCode {
        match self {
            Self::Add(add) => change::add(add),
            Self::Passwd(passwd) => change::passwd(passwd),
            Self::List { file, json } => list::run(&file.path, *json),
            Self::Hash => match ask::password(Times::Once) {
                Ok(password) => match hash(&password) {
                    Ok(hash) => super::print(&format!("{hash}\n")),
                    Err(error) => {
                        eprintln!("error: {error}");
                        exit::code(exit::UNAVAILABLE)
                    }
                },
                Err(unanswered) => unanswered.tell(),
            },
        }
    }
}

/// The argon2 hash of a password in PHC form.
fn hash(password: &Secret) -> Result<String, String> {
    let hash = Argon2::default().hash_password(password.expose().as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| format!("the password cannot be hashed: {error}"))
}
