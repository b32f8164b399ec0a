//! The page.

use std::path::PathBuf;

use super::Planner;
use super::brokers::{listeners_of, same_port};
use crate::config::code::Code;
use crate::http;

/// Name of the control socket in its directory.
const CONTROL_SOCKET: &str = "control.sock";

impl Planner<'_> {
    /// The page's settings; `None` without a block `[http]`.
    pub(super) fn page(&mut self) -> Option<http::Settings> {
        let written = self.file.http.as_ref()?;
        let (page, listen) = (&written.value, written.value.listen.value.0);
        let at = if page.listen.span == page.span { written.span } else { page.listen.span };
        let token = page.token.as_ref().map(|token| self.secret("token", &token.value, token.span));
        if !listen.ip().is_loopback() {
            match &page.token {
                None => {
                    self.problems
                        .error(Code::OpenPage, at, format!("anyone who reaches `{listen}` could see everything"))
                        .label("beyond loopback, and no token is asked for")
                        .help("declare `token` under [http], or listen on 127.0.0.1 and come by `ssh -L`");
                }
                Some(token) => {
                    self.problems
                        .warning(Code::ClearPassword, token.span, "the token goes over the network in clear text")
                        .help("listen on 127.0.0.1 and come by `ssh -L`, or by a proxy that speaks TLS");
                }
            }
        }
        let brokers = listeners_of(&self.file.broker.value);
        if let Some((_, taken)) = brokers.into_iter().find(|(_, broker)| same_port(broker.value.0, listen)) {
            self.problems
                .error(Code::Duplicate, at, format!("`{listen}` is taken already"))
                .label("the page would listen here")
                .and(taken.span, "the broker listens here");
        }
        Some(http::Settings { listen, token: token.flatten(), commands: page.commands.value })
    }

    /// Where the control socket is: systemd's `$RUNTIME_DIRECTORY`, else beside the databases.
    pub(super) fn control_socket(&self) -> PathBuf {
        let runtime = (self.environment.variable)("RUNTIME_DIRECTORY");
        // systemd lists several directories with colons; the first is the unit's own.
        let runtime = runtime.as_deref().and_then(|dirs| dirs.split(':').next()).filter(|dir| !dir.is_empty());
        runtime.map_or_else(|| self.state_dir.clone(), PathBuf::from).join(CONTROL_SOCKET)
    }
}
