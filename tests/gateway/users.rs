//! Do users get into the config by commands, with all that a person wrote left as it was, and does `check --acl` say what the broker does?

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::need_mosquitto;
use crate::support::{Certificates, Gateway, Subscriber, publish};

const LIMIT: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"# The shed: do not touch the pump.
[gateway]
id   = "box"      # as on the lid
state_dir = "@state@"

[broker]
listen = "@listen@"
# max_queued = 10

# Nothing below here yet.
"#;

/// The hash is of: old horse
const USERS: &str = r#"
[[broker.users]]
name = "ha"
hash = "$argon2id$v=19$m=19456,t=2,p=1$uAhhaZt1E7HF4yDVfS+Vpw$yLP/x9CYh6K8zT0g9SNpe/ZlbUIkzCGaNewkjMNajx8" # until May
publish = ["house/{client}/#", "tidegate/{gateway}/+/set"]
subscribe = ["house/#"]
"#;

/// Exit code, what is said, and what is told of errors.
fn run(gateway: &Gateway, arguments: &[&str], typed: &str) -> (i32, String, String) {
    let mut command = gateway.command(arguments);
    command.arg("--config").arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who has ended without a question does not read it.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn config(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.config_path()).unwrap()
}

/// Exit code of a publication: that of the CONNACK when the login is refused.
fn login(gateway: &Gateway, name: &str, password: &str) -> Option<i32> {
    publish(&gateway.door().login(name, password), "house/x", "", &["-V", "mqttv311"]).status.code()
}

#[test]
fn a_user_is_added_and_gets_another_password_beside_a_running_gateway_and_the_file_stays_a_persons() {
    need_mosquitto!();
    let mut gateway = Gateway::new(CONFIG, &[]);
    gateway.start();
    std::fs::set_permissions(gateway.config_path(), PermissionsExt::from_mode(0o640)).unwrap();
    let before = config(&gateway);
    assert_eq!(publish(&gateway.door(), "house/x", "", &["-V", "mqttv311"]).status.code(), Some(0), "anyone may");

    let mark = gateway.log().len();
    let arguments = ["user", "add", "ha", "--publish", "house/#", "--publish", "x/{user}/+", "--subscribe", "house/#"];
    let (code, said, told) = run(&gateway, &[&arguments[..], &["--reload"]].concat(), "old horse\n");
    assert_eq!((code, told.as_str()), (0, ""), "{said}");
    let process = gateway.process().pid();
    assert!(said.contains("clients without a user name are not let in any more"), "{said}");
    assert!(said.contains(&format!("process {process}, was told")), "{said}");
    gateway.wait_for_log(LIMIT, mark, &["config reloaded"]);

    let after = config(&gateway);
    let (above, below) = before.split_at(before.find("\n# Nothing below").unwrap());
    let added = after.strip_prefix(above).and_then(|rest| rest.strip_suffix(below)).expect("the rest is as it was");
    let lines: Vec<&str> = added.lines().collect();
    assert_eq!(lines[..3], ["", "[[broker.users]]", "name = \"ha\""], "{after}");
    assert!(lines[3].starts_with("hash = \"$argon2id$"), "{after}");
    assert_eq!(lines[4..], ["publish = [\"house/#\", \"x/{user}/+\"]", "subscribe = [\"house/#\"]"], "{after}");
    assert_eq!(gateway.config_path().metadata().unwrap().mode() & 0o7777, 0o640);
    assert_eq!(login(&gateway, "ha", "old horse"), Some(0));
    assert_eq!(
        publish(&gateway.door(), "house/x", "", &["-V", "mqttv311"]).status.code(),
        Some(5),
        "nobody without a name"
    );

    // Not told to the gateway yet.
    let (code, said, _) = run(&gateway, &["user", "passwd", "ha"], "new horse\n");
    assert_eq!(code, 0);
    assert!(said.contains("systemctl reload tidegate") && !said.contains("horse"), "{said}");
    assert_eq!(login(&gateway, "ha", "old horse"), Some(0));
    let mark = gateway.log().len();
    gateway.reload();
    gateway.wait_for_log(LIMIT, mark, &["config reloaded"]);
    assert_eq!(login(&gateway, "ha", "old horse"), Some(5));
    assert_eq!(login(&gateway, "ha", "new horse"), Some(0));
    let changed = config(&gateway);
    let differing = after.lines().zip(changed.lines()).filter(|(before, after)| before != after).count();
    assert_eq!((differing, changed.lines().count()), (1, after.lines().count()), "{changed}");
}

#[test]
fn a_user_is_written_into_the_included_file_where_the_others_are() {
    let gateway = Gateway::new(&format!("include = [\"conf.d/*.toml\"]\n{CONFIG}"), &[]);
    let conf = gateway.dir().join("conf.d");
    std::fs::create_dir(&conf).unwrap();
    std::fs::write(conf.join("users.toml"), USERS).unwrap();
    let main = config(&gateway);
    for arguments in [&["user", "add", "bob", "--subscribe", "#"][..], &["user", "passwd", "ha"]] {
        let (code, said, told) = run(&gateway, arguments, "new horse\n");
        assert_eq!(code, 0, "{told}");
        assert!(said.contains("conf.d/users.toml:"), "{said}");
        // At the line that `user list` tells.
        let (_, list, _) = run(&gateway, &["user", "list"], "");
        let listed = list.lines().find(|line| line.starts_with(arguments[2])).unwrap();
        let at = listed.split_whitespace().last().unwrap();
        assert!(said.contains(&format!("{at}\n")), "{listed}: {said}");
    }
    assert_eq!(config(&gateway), main);
    assert!(std::fs::read_to_string(conf.join("users.toml")).unwrap().contains(" # until May\n"));
    assert_eq!(std::fs::read_dir(&conf).unwrap().count(), 1, "nothing is left beside it");

    let (code, said, _) = run(&gateway, &["user", "list", "--json"], "");
    let list: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &list["anonymous"]), (0, &Value::from(false)));
    let names: Vec<&str> =
        list["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ha", "bob"]);
    assert_eq!(list["users"][0]["publish"], serde_json::json!(["house/{client}/#", "tidegate/{gateway}/+/set"]));
    assert_eq!(list["users"][0]["line"], 2);
    assert_eq!(list["users"][0]["password"], true);
    assert!(!said.contains("argon2"), "{said}");
    let (_, said, _) = run(&gateway, &["user", "list"], "");
    assert!(said.contains("house/{client}/#, tidegate/{gateway}/+/set") && said.contains("users.toml:2"), "{said}");
    assert!(said.ends_with("clients without a user name are not let in\n"), "{said}");
}

#[test]
fn what_would_not_pass_is_refused_before_the_question_and_the_file_is_left_as_it_is() {
    let gateway = Gateway::new(&format!("{CONFIG}{USERS}"), &[]);
    let before = config(&gateway);
    let line = 1 + before.lines().position(|line| line == "[[broker.users]]").unwrap();
    let there = format!("user `ha` is there already, at {}:{line}", gateway.config_path().display());
    let cases = [
        (&["user", "add", "bob", "--publish", "a/#/b"][..], 78, "`publish` has a `#` that is not its whole last level"),
        (&["user", "add", "bob", "--publish", "a/{usr}"], 78, "a hole that nothing fills: `{usr}`"),
        (&["user", "add", "bob", "--print", "--publish", "a+"], 78, "the block:"),
        (&["user", "add", "ha"], 64, there.as_str()),
        (&["user", "add", ""], 64, "not empty"),
        (&["user", "passwd", "haa"], 64, "there is no user `haa`; did you mean `ha`?"),
        // Here the question is what ends it.
        (&["user", "add", "bob"], 64, "the password is empty"),
    ];
    for (arguments, expected, words) in cases {
        let (code, said, told) = run(&gateway, arguments, "");
        assert_eq!((code, said.as_str()), (expected, ""), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
        assert_eq!(config(&gateway), before, "{arguments:?}");
    }
    std::fs::write(gateway.config_path(), format!("{before}\n[oops\n")).unwrap();
    for arguments in [&["user", "add", "bob"][..], &["user", "passwd", "ha"], &["check", "--acl", "ha", "x"]] {
        let (code, _, told) = run(&gateway, arguments, "horse\n");
        assert_eq!(code, 78, "{arguments:?}: {told}");
    }
    assert_eq!(config(&gateway), format!("{before}\n[oops\n"));
}

#[test]
fn a_user_who_comes_by_certificate_has_no_password_to_change() {
    let users = "[broker.tls]\nlisten = []\ncert = \"server.pem\"\nkey = \"file:server.key\"\nclient_ca = \"ca.pem\"\n\
                 user_from_cert = true\n[[broker.users]]\nname = \"pump\"\nsubscribe = [\"#\"]\n";
    let gateway = Gateway::new(&format!("{CONFIG}{users}"), &[]);
    Certificates::make(gateway.dir());
    let before = config(&gateway);
    let (code, _, told) = run(&gateway, &["user", "passwd", "pump"], "new horse\n");
    assert!(code == 64 && told.starts_with("error: user `pump` has no password: "), "{code}: {told}");
    assert_eq!(config(&gateway), before);
    // One more is added beside it all the same.
    let (code, _, told) = run(&gateway, &["user", "add", "ha", "--subscribe", "#"], "old horse\n");
    assert_eq!(code, 0, "{told}");
}

#[test]
fn what_was_changed_for_a_gateway_that_is_not_there_is_changed_all_the_same() {
    let gateway = Gateway::new(CONFIG, &[]);
    let (code, said, told) = run(&gateway, &["user", "add", "ha", "--reload"], "old horse\n");
    assert_eq!(code, 69, "{told}");
    assert!(told.contains("the file is changed, but no gateway is running"), "{told}");
    assert!(said.contains("it may do nothing yet"), "{said}");
    assert!(config(&gateway).contains("name = \"ha\"\n"));
}

#[test]
fn a_printed_block_is_one_that_the_config_takes() {
    let gateway = Gateway::new(CONFIG, &[]);
    let before = config(&gateway);
    let (code, block, told) =
        run(&gateway, &["user", "add", "it's me", "--print", "--publish", "x/{gateway}/#"], "old horse\n");
    assert_eq!((code, told.as_str()), (0, ""));
    assert_eq!(config(&gateway), before);
    std::fs::write(gateway.config_path(), format!("{before}\n{block}")).unwrap();
    let (code, said, told) = run(&gateway, &["check", "--acl", "it's me", "x/box/1"], "");
    assert_eq!(code, 0, "{said}{told}");
}

#[test]
fn the_config_says_what_the_broker_does() {
    need_mosquitto!();
    let mut gateway = Gateway::new(&format!("{CONFIG}{USERS}"), &[]);
    let (code, ..) = run(&gateway, &["user", "passwd", "ha"], "old horse\n");
    assert_eq!(code, 0);
    gateway.start();
    let door = gateway.door().login("ha", "old horse");
    for (filter, granted) in [("house/+/x", true), ("$share/g/house/#", true), ("+/x", false)] {
        let (code, said, _) = run(&gateway, &["check", "--acl", "ha", filter, "--may", "subscribe"], "");
        assert_eq!(code, i32::from(!granted), "{filter}: {said}");
        let subscriber = Subscriber::unconfirmed(&door, filter, &["-V", "mqttv5"]);
        subscriber.log().wait_for_line(LIMIT, 0, &["Subscribed (mid", if granted { ": 0" } else { ": 135" }]);
    }
    for (client, granted) in [("mine", true), ("other", false)] {
        let (code, said, _) =
            run(&gateway, &["check", "--acl", "ha", "house/mine/x", "--may", "publish", "--client", client], "");
        assert_eq!(code, i32::from(!granted), "{client}: {said}");
        let output = publish(&door, "house/mine/x", "1", &["-V", "mqttv5", "-q", "1", "-i", client, "-d"]);
        let answered = String::from_utf8_lossy(&output.stdout).contains("RC:135");
        assert_eq!(answered, !granted, "{client}: {output:?}");
    }
}

#[test]
fn a_judgement_tells_the_filter_its_line_and_why_not() {
    let gateway = Gateway::new(&format!("{CONFIG}{USERS}"), &[]);
    let path = gateway.config_path();
    let line = |words: &str| 1 + config(&gateway).lines().position(|line| line.starts_with(words)).unwrap();
    let (publish_at, subscribe_at) =
        (format!("({}:{})", path.display(), line("publish")), format!("({}:{})", path.display(), line("subscribe")));
    let cases = [
        (
            &["ha", "house/c/x", "--client", "c"][..],
            0,
            format!(
                "publish    yes  by `house/{{client}}/#`, here `house/c/#` {publish_at}\nsubscribe  yes  by `house/#` {subscribe_at}\n"
            ),
        ),
        (
            &["ha", "tidegate/box/pump/set"],
            0,
            format!(
                "publish    yes  by `tidegate/{{gateway}}/+/set`, here `tidegate/box/+/set` {publish_at}\n\
             subscribe  no   its filter does not cover it\n"
            ),
        ),
        (
            &["ha", "house/c/x", "--may", "publish"],
            1,
            "publish    no   none of its 2 filters covers it; `{client}` grants by the client id: --client\n".into(),
        ),
        (
            &["ha", "house/#"],
            0,
            format!(
                "publish    no   it contains a wildcard; a topic to publish to cannot\nsubscribe  yes  by `house/#` {subscribe_at}\n"
            ),
        ),
        (
            &["ha", "other"],
            1,
            "publish    no   none of its 2 filters covers it; `{client}` grants by the client id: --client\n\
             subscribe  no   its filter does not cover it\n"
                .into(),
        ),
        (
            &["-", "house/x"],
            1,
            "publish    no   clients without a user name are not let in\n\
             subscribe  no   clients without a user name are not let in\n"
                .into(),
        ),
    ];
    for (arguments, expected, words) in cases {
        let (code, said, told) = run(&gateway, &[&["check", "--acl"][..], arguments].concat(), "");
        assert_eq!((code, said), (expected, words), "{arguments:?}: {told}");
    }
    let (code, said, _) = run(&gateway, &["check", "--json", "--acl", "ha", "house/c/x", "--client", "c"], "");
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &answer["allowed"], &answer["publish"]["filter"]), (0, &true.into(), &"house/{client}/#".into()));
    assert_eq!(answer["publish"]["line"], line("publish"));
    assert_eq!(answer["subscribe"]["means"], "house/#");
    for (arguments, words) in
        [(["hq", "x"], "did you mean `ha`?"), (["ha", "a+"], "a `+` that does not fill its level")]
    {
        let (code, said, told) = run(&gateway, &[&["check", "--acl"][..], &arguments].concat(), "");
        assert_eq!((code, said.as_str()), (64, ""), "{told}");
        assert!(told.contains(words), "{told}");
    }

    let open = Gateway::new(CONFIG, &[]);
    for user in ["-", "anyone"] {
        assert_eq!(run(&open, &["check", "--acl", user, "x"], "").0, 0, "{user}");
        assert_eq!(run(&open, &["check", "--acl", user, "$SYS/x", "--may", "publish"], "").0, 1, "{user}");
    }
}
