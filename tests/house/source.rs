//! Just enough of Rust's grammar to see which paths a file names: tokens without comments and literals, and what a test module holds is left out.

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a directory, sorted, as paths from the top of the repository.
pub(crate) fn files_below(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// The text of a file of the repository.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A path that a file names, and the line it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

/// All paths of two segments and more in the product's part of a file (its `#[cfg(test)]` modules are left out). A group is taken apart:
/// `use crate::{a::B, c}` names `crate::a::B` and `crate::c`.
pub(crate) fn paths(text: &str) -> Vec<Named> {
    let tokens = without_tests(&tokens(text));
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at].is_name() || at > 0 && tokens[at - 1].text == "::" {
            at += 1;
            continue;
        }
        let from = found.len();
        let is_use = at > 0 && tokens[at - 1].text == "use";
        at = walk(&tokens, at, &mut Vec::new(), &mut found);
        // A name alone is a path only in `use tokio;`.
        if !is_use && found[from..].iter().all(|named| named.path.len() == 1) {
            found.truncate(from);
        }
    }
    found
}

/// Reads one path or, behind `::{`, each path of a group. Returns the index of the first token behind it.
fn walk(tokens: &[Token], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Named>) -> usize {
    let depth = prefix.len();
    let line = tokens[at].line;
    loop {
        prefix.push(tokens[at].text.clone());
        at += 1;
        if tokens.get(at).is_none_or(|t| t.text != "::") {
            break;
        }
        match tokens.get(at + 1) {
            Some(next) if next.is_name() || next.text == "*" => at += 1,
            Some(next) if next.text == "{" => {
                at += 2;
                while at < tokens.len() && tokens[at].text != "}" {
                    if tokens[at].is_name() || tokens[at].text == "*" {
                        at = walk(tokens, at, prefix, found);
                    } else {
                        at += 1;
                    }
                }
                prefix.truncate(depth);
                return at + 1;
            }
            _ => break,
        }
    }
    let mut path = prefix.clone();
    // `use crate::bridge::{self, …}` names the room.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    found.push(Named { line, path });
    prefix.truncate(depth);
    at
}

/// A token: a name, `::`, or any other single character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Drops `#[cfg(test)] mod … { … }`: tests may borrow a neighbour's tools.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let is_marker = tokens[at..].iter().map(|t| t.text.as_str()).take(marker.len()).eq(marker);
        if !is_marker {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        at += marker.len();
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(tokens[at - 1].text.as_str(), "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// Takes a source file apart; comments and literals are dropped.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let begin = at;
        let c = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or('\0');
        if c == '/' && next == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && next == '*' {
            at = end_of_block_comment(&chars, at);
        } else if c == '"' {
            at = end_of_string(&chars, at);
        } else if let Some(end) = end_of_raw_string(&chars, at) {
            at = end;
        } else if c == '\'' {
            at = end_of_quote(&chars, at);
        } else if c.is_alphanumeric() || c == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            out.push(Token { line, text: chars[begin..at].iter().collect() });
        } else if c == ':' && next == ':' {
            at += 2;
            out.push(Token { line, text: "::".to_owned() });
        } else {
            at += 1;
            if !c.is_whitespace() {
                out.push(Token { line, text: c.to_string() });
            }
        }
        line += chars[begin..at].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `r"…"`, `r#"…"#`, `br"…"`; `None` where no such literal starts.
fn end_of_raw_string(chars: &[char], begin: usize) -> Option<usize> {
    if begin > 0 && (chars[begin - 1].is_alphanumeric() || chars[begin - 1] == '_') {
        return None;
    }
    let mut at = begin + usize::from(chars[begin] == 'b');
    if chars.get(at) != Some(&'r') {
        return None;
    }
    at += 1;
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    at += hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(at)
}

/// Behind a character literal, or behind the tick of a lifetime.
fn end_of_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            // The character behind the backslash may be a tick itself.
            let mut end = at + 3;
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            end + 1
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        paths(text).into_iter().map(|n| format!("{}:{}", n.line, n.path.join("::"))).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let text = "use crate::{a::B, c::{self, D, e::F}, g};\nuse std::fmt;\nlet x = crate::h::i();";
        assert_eq!(
            named(text),
            [
                "1:crate::a::B",
                "1:crate::c",
                "1:crate::c::D",
                "1:crate::c::e::F",
                "1:crate::g",
                "2:std::fmt",
                "3:crate::h::i"
            ]
        );
    }

    #[test]
    fn comments_literals_and_test_modules_name_nothing() {
        let text = "// crate::a::b\n/* crate::a /* nested */ crate::b */ \"crate::c::d\" r#\"crate::\"e\"#\n\
                    '\\'' 'x' &'static crate::real::Thing\n#[cfg(test)]\nmod tests { use crate::f::G; mod h { } }\ncrate::i::J";
        assert_eq!(named(text), ["3:crate::real::Thing", "6:crate::i::J"]);
    }

    #[test]
    fn a_crate_named_alone_counts() {
        assert_eq!(named("use tokio;\nuse toml as t;\nlet tokio = 1;"), ["1:tokio", "2:toml"]);
    }
}
