//! `tidegate user list`: who may come, and what each may do.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::place;
use crate::cli::table::Table;
use crate::config::edit::UserText;
use crate::config::file::Anonymous;
use crate::config::{self, Sources, Span};
use crate::exit;
use crate::plan::{self, Environment, Secrets};

pub(super) fn run(config: &Path, json: bool) -> ExitCode {
    let loaded = config::load(config);
    let broker = loaded.file.broker.value.clone();
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    let sources = match plan::plan(loaded, &environment) {
        Ok((plan::Plan { external: Some(external), .. }, _)) => {
            eprintln!("error: {}", crate::cli::elsewhere(&external.url.to_string()));
            return exit::code(exit::USAGE);
        }
        Ok((_, report)) => report.sources,
        Err(report) => {
            crate::cli::tell(&report);
            return exit::code(exit::CONFIG);
        }
    };
    let listed =
        broker.users.iter().map(|user| Listed { text: user.into(), by_password: user.hash.is_some(), span: user.span });
    let users: Vec<Listed> = listed.collect();
    if json {
        let listed: Vec<Value> = users.iter().map(|user| object(user, &sources)).collect();
        let anonymous = broker.anonymous.value != Anonymous::WithoutUsers || users.is_empty();
        return crate::cli::print(&format!("{:#}\n", json!({ "users": listed, "anonymous": anonymous })));
    }
    let mut table = Table::new(&["user", "comes in by", "may publish to", "may subscribe to", "at"]);
    for Listed { text: user, by_password, span } in &users {
        let filters = |granted: &[String], denied: &[String]| match (granted, denied) {
            ([], _) => "-".into(),
            (granted, []) => granted.join(", "),
            (granted, denied) => format!("{}, not {}", granted.join(", "), denied.join(", ")),
        };
        let at = place(&sources, *span).unwrap_or_default();
        let by = if *by_password { "password" } else { "certificate alone" };
        let (publish, subscribe) =
            (filters(&user.publish, &user.deny_publish), filters(&user.subscribe, &user.deny_subscribe));
        table.row([user.name.clone(), by.into(), publish, subscribe, at]);
    }
    let table = if table.is_empty() { String::new() } else { table.to_string() };
    let who = match (broker.anonymous.value, users.is_empty()) {
        (Anonymous::WithoutUsers, true) => {
            "there are no users: clients on this machine, and those with a certificate where one is demanded, are let in"
        }
        (Anonymous::WithoutUsers, false) => "clients without a user name are not let in",
        (Anonymous::Loopback, _) => "clients without a user name are let in from this machine",
        (Anonymous::BeyondLoopback, _) => "clients without a user name are let in from anywhere",
    };
    let what = match &broker.anyone {
        _ if broker.anonymous.value == Anonymous::WithoutUsers && !users.is_empty() => String::new(),
        None => " and may do everything".to_owned(),
        Some(anyone) => format!(" and may do what {} says", place(&sources, anyone.span).unwrap_or_default()),
    };
    let others = format!("{who}{what}");
    crate::cli::print(&format!("{table}{others}\n"))
}

/// A user and where it stands.
struct Listed {
    text: UserText,
    by_password: bool,
    span: Span,
}

fn object(user: &Listed, sources: &Sources) -> Value {
    let Listed { text: user, by_password, span } = user;
    let source = sources.find(*span);
    json!({
        "name": user.name,
        "password": by_password,
        "publish": user.publish,
        "subscribe": user.subscribe,
        "deny_publish": user.deny_publish,
        "deny_subscribe": user.deny_subscribe,
        "file": source.map(|source| source.path.display().to_string()),
        "line": source.map(|source| source.line_column(span.start).0),
    })
}
