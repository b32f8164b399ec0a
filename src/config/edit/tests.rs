//! Is a user written where a person would write it, and is nothing else touched, however the file is laid out?

use std::path::Path;

use super::*;
use crate::config::{load, load_text, load_with};

fn bob() -> UserText {
    let (publish, deny_publish) = (vec!["b/#".into()], vec!["b/c".into()]);
    UserText {
        name: "bob".into(),
        hash: "$h".into(),
        publish,
        subscribe: Vec::new(),
        deny_publish,
        deny_subscribe: Vec::new(),
    }
}

const BLOCK: &str = "[[broker.users]]\nname = \"bob\"\nhash = \"$h\"\npublish = [\"b/#\"]\ndeny_publish = [\"b/c\"]\n";
const INLINE: &str = "{ name = \"bob\", hash = \"$h\", publish = [\"b/#\"], deny_publish = [\"b/c\"] }";
/// A user that is there already, without the end of its last line.
const ANN: &str = "[[broker.users]]\nname = 'ann'\nhash = 'h' # hers";

/// What stands between « and » is what is written; BLOCK and INLINE are bob, ANN is one who is there already.
#[track_caller]
fn is_written(marked: &str) {
    let marked = marked.replace("ANN", ANN);
    let (mut before, mut after) = (String::new(), String::new());
    for (nth, piece) in marked.split(['«', '»']).enumerate() {
        if nth % 2 == 0 {
            before.push_str(piece);
        }
        after.push_str(piece);
    }
    let ending = if marked.contains("\r\n") { "\r\n" } else { "\n" };
    let after = after.replace("BLOCK", BLOCK.replace('\n', ending).as_str()).replace("INLINE", INLINE);
    let loaded = load_text(Path::new("x.toml"), &before);
    let edit = add_user(&loaded, &bob()).unwrap();
    assert_eq!(edit.text, after);
    assert_eq!(edit.before, before);
    let again = load_text(Path::new("x.toml"), &edit.text);
    assert!(edit.is_what_was_meant(&loaded, &again), "{:?}", again.problems.sorted());
}

#[test]
fn the_first_user_stands_below_what_is_said_of_the_broker() {
    is_written("«BLOCK»");
    is_written("[gateway]\nid = 'x'«\n\nBLOCK»");
    is_written("[gateway]\nid = 'x'\n\n«BLOCK»");
    is_written("[broker]\n«\nBLOCK»");
    is_written(
        "[broker] # mine\nlisten = [\n  '127.0.0.1:1',\n] # here\n#routing = 'trie'\n«\nBLOCK»\n# a bus\n[bus.x]\n",
    );
    is_written("[broker]\r\nmax_queued = 7\r\n«\r\nBLOCK\r\n»[gateway]\r\nid = 'x'\r\n");
    // The next key would become the user's.
    is_written("broker.max_queued = 7\nbroker.routing = 'trie'\n«\nBLOCK»");
    is_written("broker = { max_queued = 7«, users = [INLINE]» } # short\n[gateway]\nid = 'x'\n");
    is_written("broker = {« users = [INLINE] »}\n");
}

#[test]
fn the_next_user_stands_below_the_last_one_and_the_comments_that_are_its_own() {
    is_written("ANN«\n\nBLOCK»");
    is_written("ANN\n# publish = []\n«\nBLOCK»\n# of the bus\n[bus.x]\n");
    is_written("ANN\n«\nBLOCK\n»# of the bus\n[bus.x]\n");
    is_written("ANN\n«\nBLOCK\n»[gateway]\nid = 'x'\n[broker]\nmax_queued = 7\n");
    is_written("ANN\n# last words«\n\nBLOCK»");
}

#[test]
fn in_a_list_the_next_user_stands_beside_the_last_one() {
    is_written("[broker]\nusers = [«\n    INLINE,\n»]\nmax_queued = 7\n");
    is_written("  broker.users = [«\n      INLINE,\n  » # none\n ]\n");
    is_written("[broker]\nusers = [{ name = 'a', hash = 'h' }«, INLINE»] # all\n");
    is_written("[broker]\nusers = [{ name = 'a', hash = 'h' }«, INLINE»,]\n");
    is_written("[broker]\nusers = [\n\t{ name = 'a', hash = 'h' }, # ann«\n\tINLINE,»\n]\n");
    is_written("[broker]\nusers = [\n  { name = 'a', hash = 'h' }«,» # ann«\n  INLINE»\n]\n");
    is_written("[broker]\nusers = [\n  { name = 'a', hash = 'h' }\n  # so\n  ,«\n  INLINE,»\n]\n");
    is_written("[broker]\r\nusers = [\r\n  { name = 'a', hash = 'h' },«\r\n  INLINE,»\r\n]\r\n");
}

#[test]
fn a_user_goes_into_the_file_where_the_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("main.toml");
    let users = dir.path().join("users.toml");
    std::fs::write(&main, "include = ['users.toml']\n[broker]\nmax_queued = 7\n").unwrap();
    std::fs::write(&users, format!("{ANN}\n")).unwrap();
    let before = load(&main);
    for edit in [add_user(&before, &bob()).unwrap(), set_hash(&before, "ann", "$new").unwrap()] {
        assert_eq!(edit.path, users);
        let after = load_with(&main, &edit.path, &edit.text);
        assert!(edit.is_what_was_meant(&before, &after), "{:?}", after.problems.sorted());
        assert!(!edit.is_what_was_meant(&before, &before), "unchanged");
    }
    assert_eq!(std::fs::read_to_string(&users).unwrap(), format!("{ANN}\n"), "nothing is written yet");
}

#[test]
fn a_hash_is_exchanged_where_it_stands() {
    let text = "[broker]\nusers = [{ name = 'a', hash = 'h' }, { hash = '''\nold''', name = \"b\" }] # all\n";
    let before = load_text(Path::new("x.toml"), text);
    let edit = set_hash(&before, "b", "$new").unwrap();
    assert_eq!(edit.text, text.replace("'''\nold'''", "\"$new\""));
    assert!(edit.is_what_was_meant(&before, &load_text(Path::new("x.toml"), &edit.text)));
    assert!(set_hash(&before, "c", "$new").is_none());
}

#[test]
fn a_change_that_does_more_than_it_should_is_noticed() {
    let text = "[broker]\nmax_queued = 7\n";
    let before = load_text(Path::new("x.toml"), text);
    let edit = add_user(&before, &bob()).unwrap();
    for spoilt in [
        edit.text.replace('7', "8"),
        edit.text.replace("b/#", "#"),
        edit.text.replace("b/c", "b/d"),
        format!("{}]", edit.text),
        text.to_owned(),
    ] {
        assert!(!edit.is_what_was_meant(&before, &load_text(Path::new("x.toml"), &spoilt)), "{spoilt}");
    }
}

#[test]
fn any_name_is_written_so_that_it_is_read_again() {
    for name in ["a\"b", "a'b", "a\\b", "'\"\\", "ü {x}", "a]}", "#"] {
        for text in ["", "[broker]\nusers = []\n"] {
            let user = UserText { name: name.into(), ..bob() };
            let before = load_text(Path::new("x.toml"), text);
            let edit = add_user(&before, &user).unwrap();
            assert!(
                edit.is_what_was_meant(&before, &load_text(Path::new("x.toml"), &edit.text)),
                "{name}: {}",
                edit.text
            );
        }
    }
}
