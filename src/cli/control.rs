//! Talks to the running gateway by its control socket (docs/http.md): HTTP/1.1, one request a connection.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exit;
use crate::limits::{CONTROL_ANSWER_BYTES_MAX, CONTROL_WAIT};
use crate::model::overview::HealthReport;
use crate::plan::{self, Environment, Plan, Secrets};

/// Where a gateway that systemd runs has its socket (`RuntimeDirectory=` of the unit).
const OF_THE_SERVICE: &str = "/run/tidegate/control.sock";

/// The gateway that runs by a config.
pub(super) struct Daemon {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// Nobody is at any of the sockets.
    #[error("no gateway is running: {}", .0.join("; "))]
    Nobody(Vec<String>),
    /// There is a socket that does not let this user in: whether a gateway runs is not known.
    #[error("the gateway's socket does not let this user in: {}; use sudo", .0.join("; "))]
    NotLetIn(Vec<String>),
    /// Its process takes no signals from this user.
    #[error("the gateway, process {0}, takes no signal from this user; use sudo")]
    NotOurs(libc::pid_t),
    /// The conversation broke off.
    #[error("the gateway at `{}` does not answer: {error}", .socket.display())]
    Broken {
        /// Its socket.
        socket: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// It answered that it cannot.
    #[error("{reason}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// In words.
        reason: String,
    },
}

impl ControlError {
    /// Tells it, and gives the exit code that goes with it.
    pub(super) fn tell(&self) -> ExitCode {
        eprintln!("error: {self}");
        self.code()
    }

    /// The exit code that goes with it.
    pub(super) fn code(&self) -> ExitCode {
        exit::code(match self {
            Self::Nobody(_) | Self::NotLetIn(_) | Self::NotOurs(_) => exit::UNAVAILABLE,
            Self::Broken { .. } => exit::IO,
            Self::Refused { status: 404, .. } => exit::USAGE,
            Self::Refused { .. } => exit::FAILED,
        })
    }
}

/// What a config says, for a command that needs no secrets; `None` when it cannot be read or has mistakes.
pub(super) fn plan_of(config: &Path) -> Option<Plan> {
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    plan::read(config, &environment).ok().map(|(plan, _)| plan)
}

impl Daemon {
    /// Finds the gateway that runs by this config: at the socket that a start from here would have, then at the service's. One that answers by
    /// another id is another gateway. Without a plan, whoever is at the service's socket is taken.
    pub(super) fn find(plan: Option<&Plan>) -> Result<Self, ControlError> {
        let (mut reasons, mut shut) = (Vec::new(), false);
        let own = plan.map(|plan| plan.control_socket.clone());
        let service = PathBuf::from(OF_THE_SERVICE);
        for socket in own.into_iter().filter(|own| *own != service).chain([service.clone()]) {
            let daemon = Self { socket };
            let at = daemon.socket.display();
            match daemon.get::<HealthReport>("/healthz") {
                Ok(health) if plan.is_none_or(|plan| plan.gateway.as_str() == health.gateway) => return Ok(daemon),
                Ok(health) => reasons.push(format!("at `{at}` is gateway `{}`", health.gateway)),
                Err(ControlError::Broken { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    reasons.push(format!("there is no `{at}`"));
                }
                Err(ControlError::Broken { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
                    shut = true;
                    reasons.push(format!("`{at}` is not open to this user, who is not of its group"));
                }
                Err(ControlError::Broken { error, .. }) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    reasons.push(format!("nobody listens at `{at}`"));
                }
                Err(error) => return Err(error),
            }
        }
        Err(if shut { ControlError::NotLetIn(reasons) } else { ControlError::Nobody(reasons) })
    }

    /// Asks for something. An answer that says no in the form of one that says yes (`/healthz`) is taken as it is.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.ask("GET", path, "")
    }

    /// Has something done.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ControlError> {
        self.ask("POST", path, &body.to_string())
    }

    /// Tells it to read its config again, by SIGHUP to the process that opened the socket. Returns that process.
    pub(super) fn reload(&self) -> Result<libc::pid_t, ControlError> {
        let broken = |error| ControlError::Broken { socket: self.socket.clone(), error };
        let process = UnixStream::connect(&self.socket).and_then(|stream| opened_by(&stream)).map_err(broken)?;
        // SAFETY: kill(2) touches no memory of ours. The id is above 0: of one process, never of a group.
        if unsafe { libc::kill(process, libc::SIGHUP) } == 0 {
            return Ok(process);
        }
        let error = io::Error::last_os_error();
        let not_ours = error.kind() == io::ErrorKind::PermissionDenied;
        Err(if not_ours { ControlError::NotOurs(process) } else { broken(error) })
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &str) -> Result<T, ControlError> {
        let broken = |error| ControlError::Broken { socket: self.socket.clone(), error };
        let answer = self.exchange(method, path, body).map_err(broken)?;
        let (status, body) = parse(&answer).ok_or_else(|| broken(io::Error::other("its answer is none of HTTP")))?;
        serde_json::from_slice(body).map_err(|error| {
            let said = serde_json::from_slice::<Value>(body).ok();
            match said.as_ref().and_then(|said| said["error"].as_str()) {
                Some(reason) => ControlError::Refused { status, reason: reason.to_owned() },
                None => broken(io::Error::other(format!("its answer is not understood: {error}"))),
            }
        })
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(CONTROL_WAIT))?;
        stream.set_write_timeout(Some(CONTROL_WAIT))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.take(CONTROL_ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The process that listens at the other end (SO_PEERCRED of unix(7)).
fn opened_by(stream: &UnixStream) -> io::Result<libc::pid_t> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: `peer` is writable for `length` bytes, and any bytes are a ucred.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match outcome {
        0 if peer.pid > 0 => Ok(peer.pid),
        0 => Err(io::Error::other("its process is not to be seen from here")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Status and body of an answer whose length is known: our own server sends no other to these requests.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length?.1.trim().parse().ok()?;
    (body.len() == length).then_some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let whole =
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((503, &b"{}"[..])));
        assert_eq!(parse(&whole[..whole.len() - 1]), None, "broken off");
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n{}"), None, "of unknown length");
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }
}
