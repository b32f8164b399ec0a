//! Sets of topics, written as filters: whether one lies in another, and what two have in common.

/// Whether every topic that `inner` means is meant by `outer` too. A topic name is a filter that means itself.
pub fn covers(outer: &str, inner: &str) -> bool {
    if is_hidden(outer, inner) {
        return false;
    }
    let mut outer = outer.split('/');
    let mut inner = inner.split('/');
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other && one != "#" => {}
            _ => return false,
        }
    }
}

/// The topics both filters mean; `None` when there are none.
pub fn intersect(a: &str, b: &str) -> Option<String> {
    if is_hidden(a, b) || is_hidden(b, a) {
        return None;
    }
    let (mut a, mut b) = (a.split('/').peekable(), b.split('/').peekable());
    let mut levels = Vec::new();
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (None, None) => break,
            // `#` stands for what the other has left, nothing included.
            (Some("#"), _) => {
                levels.extend(b);
                break;
            }
            (_, Some("#")) => {
                levels.extend(a);
                break;
            }
            (Some(one), Some("+")) => levels.push(one),
            (Some("+"), Some(other)) => levels.push(other),
            (Some(one), Some(other)) if one == other => levels.push(one),
            _ => return None,
        }
        a.next();
        b.next();
    }
    Some(levels.join("/"))
}

/// A leading wildcard does not see topics that begin with `$` [MQTT-4.7.2-1].
fn is_hidden(wild: &str, other: &str) -> bool {
    other.starts_with('$') && wild.starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_what_it_means_and_no_more() {
        for (outer, inner, expected) in [
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/+", "a/#", false),
            ("a/+", "a/+", true),
            ("a/b", "a/+", false),
            ("a/+", "a/b/c", false),
            ("a/+/set", "a/b/set", true),
            ("#", "#", true),
            ("#", "$SYS/#", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/broker/uptime", true),
            ("a/b", "a", false),
            ("a", "a/#", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} covers {inner}");
        }
    }

    #[test]
    fn filters_intersect_as_sets_of_topics() {
        for (one, other, expected) in [
            ("a/#", "a/b/+", Some("a/b/+")),
            ("a/#", "a", Some("a")),
            ("+/b", "a/+", Some("a/b")),
            ("a/+", "a/b/c", None),
            ("#", "$SYS/x", None),
            ("#", "#", Some("#")),
        ] {
            assert_eq!(intersect(one, other).as_deref(), expected, "{one} and {other}");
            assert_eq!(intersect(other, one).as_deref(), expected, "{other} and {one}");
        }
    }
}
