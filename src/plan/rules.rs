//! Rules of bridges: what a rule makes of a topic, which rules overlap, and where messages would run in a circle.
//!
//! A set of topics is written as a filter. Rules map filters to filters, so a flow can be followed through any number of rules
//! without a message: where it comes back to a rule it went through, a message would too.

use crate::config::Span;
use crate::limits::RULE_STEPS_MAX;
use crate::logic::filters::intersect;
use crate::model::TopicFilter;

/// One rule of one bridge, with its holes filled.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Index of its bridge.
    pub bridge: usize,
    /// Its bridge's id.
    pub bridge_id: String,
    /// Whether it carries up.
    pub out: bool,
    /// Host and port of its cloud.
    pub cloud: (String, u16),
    /// Topics it takes.
    pub from: TopicFilter,
    /// Template of the topics it gives; `None`: unchanged.
    pub to: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// Whether every topic of `inner` is one of `outer`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// What a rule makes of a set of topics that it takes as a whole.
fn mapped(from: &str, to: Option<&str>, topics: &str) -> String {
    let Some(to) = to else { return topics.to_owned() };
    let mut captured: Vec<String> = Vec::new();
    let mut rest: Vec<&str> = topics.split('/').collect();
    for level in from.split('/') {
        match level {
            "#" => captured.push(std::mem::take(&mut rest).join("/")),
            level => {
                // A `#` in the topics stands for whatever the rule still asks.
                let head = if rest.first() == Some(&"#") {
                    "+"
                } else if rest.is_empty() {
                    ""
                } else {
                    rest.remove(0)
                };
                if level == "+" {
                    captured.push(head.to_owned());
                }
            }
        }
    }
    let image = replace_holes(to, &captured);
    // A `#` that ended up in the middle: all that can be said is what is before it.
    match image.split('/').position(|level| level == "#") {
        Some(at) => image.split('/').take(at + 1).collect::<Vec<_>>().join("/"),
        None => image,
    }
}

/// Puts the captures into `{1}`, `{2}`, ….
pub(super) fn replace_holes(template: &str, captured: &[impl AsRef<str>]) -> String {
    let mut text = template.to_owned();
    for (index, capture) in captured.iter().enumerate() {
        text = text.replace(&format!("{{{}}}", index + 1), capture.as_ref());
    }
    text
}

/// Finds circles: each as the rules a message would go through. `never_out` are the filters that no `out` rule forwards.
pub(super) fn loops(rules: &[Rule], never_out: &[TopicFilter]) -> Vec<Vec<usize>> {
    let mut search = Search { rules, never_out, steps: 0, found: Vec::new() };
    for (start, rule) in rules.iter().enumerate() {
        if let Some(image) = through(rule, rule.from.as_str(), never_out) {
            search.follow(&mut vec![start], &image);
        }
    }
    // A circle with a detour in it is the same mistake as the one without.
    search.found.sort_by_key(Vec::len);
    let mut least: Vec<Vec<usize>> = Vec::new();
    for circle in search.found {
        if !least.iter().any(|known| known.iter().all(|rule| circle.contains(rule))) {
            least.push(circle);
        }
    }
    least
}

/// What becomes of a set of topics in a rule; `None` when the rule takes none of them.
fn through(rule: &Rule, topics: &str, never_out: &[TopicFilter]) -> Option<String> {
    let taken = intersect(rule.from.as_str(), topics)?;
    if rule.out && never_out.iter().any(|never| covers(never.as_str(), &taken)) {
        return None;
    }
    Some(mapped(rule.from.as_str(), rule.to.as_deref(), &taken))
}

struct Search<'a> {
    rules: &'a [Rule],
    never_out: &'a [TopicFilter],
    steps: usize,
    found: Vec<Vec<usize>>,
}

impl Search<'_> {
    /// Follows topics that came out of the last rule of a path. A circle is found from its least rule alone.
    fn follow(&mut self, path: &mut Vec<usize>, topics: &str) {
        let (Some(start), Some(last)) = (path.first().copied(), path.last().map(|index| &self.rules[*index])) else {
            return;
        };
        for (index, next) in self.rules.iter().enumerate().skip(start) {
            self.steps += 1;
            if self.steps > RULE_STEPS_MAX {
                return;
            }
            if !feeds(last, next) {
                continue;
            }
            let Some(image) = through(next, topics, self.never_out) else { continue };
            if index == start {
                self.found.push(path.clone());
            } else if !path.contains(&index) {
                path.push(index);
                self.follow(path, &image);
                path.pop();
            }
        }
    }
}

/// Whether what comes out of one rule can get to the other at all.
fn feeds(from: &Rule, to: &Rule) -> bool {
    if from.out {
        return !to.out && to.cloud == from.cloud;
    }
    // What a bridge brought down never goes up by it again: the engine sees to that.
    to.out && to.bridge != from.bridge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_what_it_takes() {
        assert!(covers("a/+/set", "a/b/set"));
        assert!(covers("a/#", "a/#"));
        assert!(!covers("a/+", "a/#"));
    }

    fn rule(bridge: usize, out: bool, from: &str, to: &str) -> Rule {
        Rule {
            bridge,
            bridge_id: format!("b{bridge}"),
            out,
            cloud: ("cloud".into(), 1883),
            from: TopicFilter::parse(from).unwrap(),
            to: (!to.is_empty()).then(|| to.to_owned()),
            span: Span { start: 0, end: 0 },
        }
    }

    #[test]
    fn a_circle_through_two_bridges_is_found_once() {
        let rules = [rule(0, false, "down/#", "local/{1}"), rule(1, true, "local/#", "down/{1}")];
        assert_eq!(loops(&rules, &[]), [vec![0, 1]]);
    }

    #[test]
    fn what_a_bridge_brought_down_makes_no_circle_with_itself() {
        assert!(loops(&[rule(0, false, "x/#", ""), rule(0, true, "x/#", "")], &[]).is_empty());
    }

    #[test]
    fn a_flow_that_is_mapped_away_makes_no_circle() {
        let rules = [rule(0, false, "down/#", "local/{1}"), rule(1, true, "local/#", "up/{1}")];
        assert!(loops(&rules, &[]).is_empty());
    }

    #[test]
    fn commands_never_go_out_and_so_make_no_circle() {
        let rules = [rule(0, false, "cmd/+/set", "tidegate/g/{1}/set"), rule(1, true, "tidegate/g/#", "cmd/{1}")];
        assert_eq!(loops(&rules, &[]).len(), 1);
        assert!(loops(&rules, &[TopicFilter::parse("tidegate/g/+/set").unwrap()]).is_empty());
    }
}
