//! Lines to samples: the four ways to take a line apart.

use std::sync::Arc;

use regex::{Captures, Regex};

use super::json::{self, Selection};
use super::value::{Samples, TextNames};
use crate::model::Sample;

/// How a line is taken apart.
#[derive(Debug)]
pub(super) struct Matcher {
    /// The way.
    pub(super) kind: MatchKind,
    /// Values that stay texts.
    pub(super) text: TextNames,
}

/// The ways.
#[derive(Debug)]
pub(super) enum MatchKind {
    /// Named groups are values.
    Regex(Regex),
    /// One document a line.
    Json(Selection),
    /// Columns by position; `None` for a column that is not wanted.
    Csv {
        /// Names of the columns.
        names: Vec<Option<Arc<str>>>,
        /// What stands between them.
        separator: char,
    },
    /// Pairs, each with its name.
    KeyValue {
        /// What stands between name and value.
        sign: String,
        /// What stands between pairs; a space stands for any run of white space.
        separator: char,
    },
}

impl Matcher {
    /// Reads a line. `None` when it is not one of ours.
    ///
    /// # Errors
    /// When it is one of ours and cannot be read.
    pub(super) fn read(&self, line: &str) -> Result<Option<Vec<Sample>>, String> {
        match &self.kind {
            MatchKind::Regex(regex) => regex.captures(line).map(|found| self.read_groups(regex, &found)).transpose(),
            MatchKind::Json(selection) => selection.read(line, &self.text),
            MatchKind::Csv { names, separator } => self.read_csv(names, *separator, line),
            MatchKind::KeyValue { sign, separator } => self.read_pairs(sign, *separator, line),
        }
    }

    /// Names of the values, where they are known before the first line.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        match &self.kind {
            MatchKind::Regex(regex) => regex.capture_names().flatten().map(Into::into).collect(),
            MatchKind::Json(Selection::Pointers(pointers)) => pointers.iter().map(|(name, _)| name.clone()).collect(),
            MatchKind::Csv { names, .. } => names.iter().flatten().cloned().collect(),
            MatchKind::Json(Selection::All) | MatchKind::KeyValue { .. } => Vec::new(),
        }
    }

    /// A line of this kind with `%` in the place of each number. None can be made up for a regular expression.
    pub(super) fn template(&self) -> Option<String> {
        match &self.kind {
            MatchKind::Regex(_) => None,
            MatchKind::Json(Selection::All) => Some("{\"value\":%}".into()),
            MatchKind::Json(Selection::Pointers(pointers)) => json::template(pointers),
            MatchKind::Csv { names, separator } => Some(vec!["%"; names.len()].join(&separator.to_string())),
            MatchKind::KeyValue { sign, .. } => Some(format!("value{sign}%")),
        }
    }

    /// Whether a line that lost its beginning is refused by the match itself: a JSON document without its brace does not begin with one,
    /// and a regular expression that demands a fixed beginning does not find it.
    pub(super) fn knows_a_cut_line(&self) -> bool {
        match &self.kind {
            MatchKind::Json(_) => true,
            MatchKind::Regex(regex) => demands_a_beginning(regex.as_str()),
            MatchKind::Csv { .. } | MatchKind::KeyValue { .. } => false,
        }
    }

    fn read_groups(&self, regex: &Regex, captures: &Captures<'_>) -> Result<Vec<Sample>, String> {
        let mut samples = Samples::default();
        for name in regex.capture_names().flatten() {
            if let Some(found) = captures.name(name) {
                samples.push_text(name.into(), found.as_str(), &self.text)?;
            }
        }
        Ok(samples.into_vec())
    }

    fn read_csv(&self, names: &[Option<Arc<str>>], separator: char, line: &str) -> Result<Option<Vec<Sample>>, String> {
        let fields: Vec<&str> = line.split(separator).map(unquote).collect();
        if fields.len() != names.len() {
            return Err(format!("line has {} columns, expected {}", fields.len(), names.len()));
        }
        let header = fields.iter().zip(names).all(|(field, name)| name.as_deref().is_none_or(|name| name == *field));
        if header {
            return Ok(None);
        }
        let mut samples = Samples::default();
        for (field, name) in fields.into_iter().zip(names) {
            if let Some(name) = name {
                samples.push_text(name.clone(), field, &self.text)?;
            }
        }
        Ok(Some(samples.into_vec()))
    }

    fn read_pairs(&self, sign: &str, separator: char, line: &str) -> Result<Option<Vec<Sample>>, String> {
        let mut samples = Samples::default();
        let mut pairs = 0;
        let words = line.split(|c: char| if separator == ' ' { c.is_whitespace() } else { c == separator });
        for word in words {
            let Some((name, value)) = word.split_once(sign) else { continue };
            let name = name.trim();
            if name.is_empty() {
                return Err(format!("a value stands without a name before `{sign}`"));
            }
            pairs += 1;
            samples.push_text(name.into(), unquote(value), &self.text)?;
        }
        Ok((pairs > 0).then(|| samples.into_vec()))
    }
}

/// A field without the white space and the quotes around it. A separator inside quotes is not looked for: no sensor in sight writes one.
fn unquote(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(field)
}

/// Whether a pattern begins with `^` and a character that must stand there. Conservative: an alternative anywhere says no.
fn demands_a_beginning(pattern: &str) -> bool {
    let Some(rest) = pattern.strip_prefix('^') else { return false };
    if pattern.contains('|') {
        return false;
    }
    let mut rest = rest.chars();
    let fixed = match rest.next() {
        Some('\\') => rest.next().is_some_and(|c| !c.is_ascii_alphanumeric()),
        Some(c) => !"()[]{}.?*+^$".contains(c),
        None => false,
    };
    fixed && !rest.next().is_some_and(|c| "?*{".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value;

    fn matcher(kind: MatchKind) -> Matcher {
        Matcher { kind, text: vec!["id".into()] }
    }

    /// What reading a line of ours comes to.
    #[allow(clippy::unnecessary_wraps)]
    fn samples(values: &[(&str, Value)]) -> Result<Option<Vec<Sample>>, String> {
        Ok(Some(values.iter().map(|(name, value)| Sample { name: (*name).into(), value: value.clone() }).collect()))
    }

    #[test]
    fn named_groups_are_values_and_an_optional_group_may_be_left_out() {
        let matcher =
            matcher(MatchKind::Regex(Regex::new(r"^T(?P<id>\d+)=(?P<t>[-\d.]+)(?: h=(?P<h>\d+))?$").unwrap()));
        assert_eq!(
            matcher.read("T007=21.5 h=48"),
            samples(&[("id", Value::Text("007".into())), ("t", Value::Number(21.5)), ("h", Value::Integer(48))])
        );
        assert_eq!(matcher.read("T007=3"), samples(&[("id", Value::Text("007".into())), ("t", Value::Integer(3))]));
        assert_eq!(matcher.read("boot"), Ok(None));
    }

    #[test]
    fn columns_are_values_by_position() {
        let matcher = matcher(MatchKind::Csv { names: vec![Some("t".into()), None, Some("h".into())], separator: ';' });
        assert_eq!(matcher.read("21.5;x; \"48\""), samples(&[("t", Value::Number(21.5)), ("h", Value::Integer(48))]));
        assert_eq!(matcher.read("21.5;;"), samples(&[("t", Value::Number(21.5))]));
        assert_eq!(matcher.read("t;anything;h"), Ok(None), "a header");
        assert_eq!(matcher.read("21.5;48"), Err("line has 2 columns, expected 3".into()));
        assert_eq!(matcher.read("nan;;48"), Err("`t` is not a number (NaN)".into()));
    }

    #[test]
    fn pairs_are_values_by_name() {
        let spaces = matcher(MatchKind::KeyValue { sign: "=".into(), separator: ' ' });
        assert_eq!(
            spaces.read("OK  t=21.5\tid=07"),
            samples(&[("t", Value::Number(21.5)), ("id", Value::Text("07".into()))])
        );
        assert_eq!(spaces.read("no pair"), Ok(None));
        assert_eq!(spaces.read("=5"), Err("a value stands without a name before `=`".into()));
        assert_eq!(spaces.read("t=1 t=2"), Err("`t` is there twice".into()));

        let colons = matcher(MatchKind::KeyValue { sign: ":".into(), separator: ',' });
        assert_eq!(
            colons.read("t: 21.5, state: all well"),
            samples(&[("t", Value::Number(21.5)), ("state", Value::Text("all well".into()))])
        );
    }

    #[test]
    fn a_fixed_beginning_is_recognised() {
        for pattern in [r"^\$WIMWV,(?P<d>\d+)", "^n=(?P<n>.*)", "^T+(?P<n>.*)"] {
            assert!(demands_a_beginning(pattern), "{pattern}");
        }
        for pattern in [r"^(?P<n>\d+)", r"^\d+(?P<n>.*)", "n=(?P<n>.*)", "^a?(?P<n>.*)", "^a=(?P<n>.*)|b", "^", "^[a]"]
        {
            assert!(!demands_a_beginning(pattern), "{pattern}");
        }
    }
}
