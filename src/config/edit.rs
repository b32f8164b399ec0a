//! Changes of the broker's users in a config's text, byte for byte at their place: comments, order and layout stay a person's.
//!
//! The places are the reader's, so nothing is read a second way. A change is only made up here. Whether it does what it is meant to, and nothing
//! else, is seen by reading the whole config again with it: [`Edit::is_what_was_meant`].

use std::ops::Range;
use std::path::PathBuf;

use super::source::{Source, Span};
use super::tree::{Node, Table, Value};
use super::{At, Loaded, file};

/// A user of the broker, as it stands in a config.
#[derive(Clone, PartialEq, Eq)]
pub struct UserText {
    /// User name.
    pub name: String,
    /// Argon2 hash in PHC form.
    pub hash: String,
    /// Topic filters it may publish to.
    pub publish: Vec<String>,
    /// Topic filters it may subscribe to.
    pub subscribe: Vec<String>,
    /// Topic filters it may not publish to all the same.
    pub deny_publish: Vec<String>,
    /// Topic filters it is not sent all the same.
    pub deny_subscribe: Vec<String>,
}

/// One file's text after a change.
pub struct Edit {
    /// The file, as in the sources of the config.
    pub path: PathBuf,
    /// What it must still hold.
    pub before: String,
    /// What it is to hold.
    pub text: String,
    /// The users there are to be, in the order of the files.
    meant: Vec<UserText>,
}

impl From<&At<file::User>> for UserText {
    fn from(user: &At<file::User>) -> Self {
        let filters = |filters: &[At<super::kinds::FilterText>]| filters.iter().map(|text| text.0.clone()).collect();
        Self {
            name: user.name.as_ref().map(|name| name.value.0.clone()).unwrap_or_default(),
            hash: user.hash.as_ref().map(|hash| hash.value.0.clone()).unwrap_or_default(),
            publish: filters(&user.publish.value),
            subscribe: filters(&user.subscribe.value),
            deny_publish: filters(&user.deny_publish.value),
            deny_subscribe: filters(&user.deny_subscribe.value),
        }
    }
}

impl UserText {
    /// Its keys, one a line; empty lists are left out.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("name = {}", quoted(&self.name)), format!("hash = {}", quoted(&self.hash))];
        for (key, filters) in [
            ("publish", &self.publish),
            ("subscribe", &self.subscribe),
            ("deny_publish", &self.deny_publish),
            ("deny_subscribe", &self.deny_subscribe),
        ] {
            if !filters.is_empty() {
                let filters: Vec<String> = filters.iter().map(|filter| quoted(filter)).collect();
                lines.push(format!("{key} = [{}]", filters.join(", ")));
            }
        }
        lines
    }

    /// As a block to paste.
    pub fn block(&self) -> String {
        format!("[[broker.users]]\n{}\n", self.lines().join("\n"))
    }

    fn inline(&self) -> String {
        format!("{{ {} }}", self.lines().join(", "))
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Adds a user after the last one; where there is none, after what is said of the broker. `None` when no file could be read.
pub fn add_user(loaded: &Loaded, user: &UserText) -> Option<Edit> {
    let broker = loaded.root.get("broker");
    let users = broker.and_then(|broker| table(broker)?.get("users"));
    let last = users.and_then(|users| if let Value::List(items) = &users.value { items.last() } else { None });
    let anchor = last.or(users).or(broker).map_or(Span { start: 0, end: 0 }, |node| node.span);
    let source = loaded.sources.find(anchor)?;
    let text = source.text.as_str();
    let place = source.local(anchor);
    let opens = |bracket| text[place.start..].starts_with(bracket);
    let end = |node: &Node| source.local(Span { start: anchor.start, end: end_in(source, node) }).end;
    let insertions = match (last, users, broker) {
        (Some(_), ..) if opens('{') => beside(text, &place, &user.inline()),
        (Some(last), ..) => vec![behind(text, end(last), &user.block())],
        (None, Some(_), _) if opens('[') => vec![within(text, place.start, &user.inline())],
        (None, None, Some(broker)) if opens('{') => {
            let item = format!("users = [{}]", user.inline());
            vec![match end_of_last_value(source, broker) {
                Some(end) => (end, format!(", {item}")),
                None => (place.start + 1, format!(" {item} ")),
            }]
        }
        (None, None, Some(broker)) if opens('[') => vec![behind(text, end(broker), &user.block())],
        // Keys of the form `broker.listen`, or nothing of the broker at all: a block in their midst would take the next keys in.
        _ => vec![behind(text, text.len(), &user.block())],
    };
    let mut meant: Vec<UserText> = loaded.file.broker.users.value.iter().map(UserText::from).collect();
    meant.push(user.clone());
    Some(edit(source, insertions, meant))
}

/// Gives a user another hash. `None` when there is no such user, or none with a hash.
pub fn set_hash(loaded: &Loaded, name: &str, hash: &str) -> Option<Edit> {
    let users = &loaded.file.broker.users.value;
    let nth = users.iter().position(|user| user.name.as_ref().is_some_and(|known| known.value.0 == name))?;
    let span = users[nth].hash.as_ref()?.span;
    let source = loaded.sources.find(span)?;
    let mut meant: Vec<UserText> = users.iter().map(UserText::from).collect();
    hash.clone_into(&mut meant[nth].hash);
    let place = source.local(span);
    let text = format!("{}{}{}", &source.text[..place.start], quoted(hash), &source.text[place.end..]);
    Some(Edit { path: source.path.clone(), before: source.text.clone(), text, meant })
}

impl Edit {
    /// Whether the config as it is read with this change says the users that were meant, and all else as before.
    pub fn is_what_was_meant(&self, before: &Loaded, after: &Loaded) -> bool {
        let users: Vec<UserText> = after.file.broker.users.value.iter().map(UserText::from).collect();
        after.is_readable() && users == self.meant && all_but_users(&before.root) == all_but_users(&after.root)
    }
}

/// A config as one line of text, without the users of the broker.
fn all_but_users(root: &Table) -> String {
    let mut root = root.clone();
    if let Some((_, Node { value: Value::Table(broker), .. })) = root.0.get_mut("broker") {
        broker.0.remove("users");
        if broker.0.is_empty() {
            root.0.remove("broker");
        }
    }
    root.canonical()
}

fn edit(source: &Source, insertions: Vec<(usize, String)>, meant: Vec<UserText>) -> Edit {
    // As the file ends its lines.
    let is_crlf = source.text.contains("\r\n");
    let mut text = String::with_capacity(source.text.len() + 256);
    let mut done = 0;
    for (at, inserted) in insertions {
        text.push_str(&source.text[done..at]);
        text.push_str(&if is_crlf { inserted.replace('\n', "\r\n") } else { inserted });
        done = at;
    }
    text.push_str(&source.text[done..]);
    Edit { path: source.path.clone(), before: source.text.clone(), text, meant }
}

fn table(node: &Node) -> Option<&Table> {
    if let Value::Table(table) = &node.value { Some(table) } else { None }
}

/// Where a value ends with all that belongs to it in this file: the span of a table is that of its header alone.
fn end_in(source: &Source, node: &Node) -> usize {
    let own = if source.holds(node.span) { node.span.end } else { 0 };
    let inner = match &node.value {
        Value::Table(table) => table.0.values().map(|(_, node)| end_in(source, node)).max(),
        Value::List(items) => items.iter().map(|item| end_in(source, item)).max(),
        _ => None,
    };
    own.max(inner.unwrap_or(0))
}

/// Where the last value of a table on one line ends; `None` when it has none.
fn end_of_last_value(source: &Source, node: &Node) -> Option<usize> {
    let ends = table(node)?.0.values().map(|(_, value)| end_in(source, value));
    let end = ends.filter(|end| (node.span.start..node.span.end).contains(end)).max()?;
    Some(source.local(Span { start: node.span.start, end }).end)
}

/// First byte of the line after the one that `at` is on, or the end of the text.
fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

/// A block after one that ends at `end`. Comment lines right below that one belong to it when nothing but a blank line follows them, else to
/// what follows.
fn behind(text: &str, end: usize, block: &str) -> (usize, String) {
    let mut at = next_line(text, end);
    let mut below = at;
    while below < text.len() {
        let line = text[below..next_line(text, below)].trim();
        if !line.starts_with('#') {
            break;
        }
        below = next_line(text, below);
    }
    let is_blank = |from: usize| text[from..next_line(text, from)].trim().is_empty();
    if is_blank(below) {
        at = below;
    }
    let before = match text[..at].chars().rev().filter(|c| *c != '\r').take_while(|c| *c == '\n').count() {
        _ if text[..at].trim().is_empty() => "",
        0 => "\n\n",
        1 => "\n",
        _ => "",
    };
    let after = if is_blank(at) { "" } else { "\n" };
    (at, format!("{before}{block}{after}"))
}

/// The first item of an empty list that opens at `open`, on a line of its own.
fn within(text: &str, open: usize, item: &str) -> (usize, String) {
    let line = &text[text[..open].rfind('\n').map_or(0, |newline| newline + 1)..open];
    let indent: String = line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
    (open + 1, format!("\n{indent}    {item},\n{indent}"))
}

/// An item after the last one of a list: on its line if others share it, else on a line of its own, with a comma as that one has it.
fn beside(text: &str, last: &Range<usize>, item: &str) -> Vec<(usize, String)> {
    let line_start = text[..last.start].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = &text[line_start..last.start];
    if !indent.trim().is_empty() {
        return vec![(last.end, format!(", {item}"))];
    }
    let comma = comma_after(text, last.end);
    let done = comma.map_or(last.end, |comma| comma + 1);
    let rest = text[done..next_line(text, done)].trim_end();
    // A comment at the end of the line stays with the item it is about.
    let place = if rest.trim_start().starts_with('#') { done + rest.len() } else { done };
    match comma {
        Some(_) => vec![(place, format!("\n{indent}{item},"))],
        None => vec![(last.end, ",".into()), (place, format!("\n{indent}{item}"))],
    }
}

/// Where the comma after an item is, comments skipped; `None` when there is none.
fn comma_after(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let next = text[at..].chars().next()?;
        match next {
            ',' => return Some(at),
            '#' => at = next_line(text, at),
            next if next.is_whitespace() => at += next.len_utf8(),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
