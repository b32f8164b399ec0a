//! Does a config that allows all but this do so, with its commands and its judgement saying the same?

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Gateway;
use crate::support::client::Client;

const LIMIT: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
"#;

const ANYONE: &str = r##"
[broker.anyone]
publish = ["#"]
subscribe = ["#"]
deny_publish = ["lock/#"]
deny_subscribe = ["alarm/#", "box/{client}/key", "tidegate/#"]
"##;

/// Exit code, what is said, and what is told of errors. The password is typed where one is asked for.
fn run(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let mut command = gateway.command(arguments);
    command.arg("--config").arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who has ended without a question does not read it.
    let _ = child.stdin.take().unwrap().write_all(b"old horse\n");
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn publish(client: &mut Client, topic: &str) {
    let outcome = client.publish(&[(topic.to_owned(), 1, "x".to_owned())], 1);
    // 3.1.1 has no word for a refusal.
    assert_eq!(outcome.acknowledged, [0], "{topic}: {:?}", outcome.error);
}

fn next(client: &mut Client) -> String {
    client.next_message().unwrap().topic
}

#[test]
fn whoever_comes_without_a_name_may_do_what_the_table_says_and_a_reload_changes_it() {
    let mut gateway = Gateway::new(&format!("{CONFIG}{ANYONE}"), &[]);
    gateway.start();
    let port = gateway.door().port;
    let mut publisher = Client::connect(port, "pub").unwrap().retaining();
    for topic in ["alarm/kept", "lock/kept", "box/sub/key", "box/other/key"] {
        publish(&mut publisher, topic);
    }
    let mut subscriber = Client::connect(port, "sub").unwrap();
    subscriber.subscribe("#", 1).unwrap();
    assert_eq!(next(&mut subscriber), "box/other/key");
    for topic in ["alarm/x", "lock/x", "box/sub/key", "open/x"] {
        publish(&mut publisher, topic);
    }
    assert_eq!(next(&mut subscriber), "open/x");
    for (client, filter, granted) in [
        ("asks", "alarm/+", false),
        ("asks", "+/+", true),
        ("asks", "box/sub/key", true),
        ("sub-2", "box/sub-2/key", false),
        ("asks", "$SYS/#", false),
    ] {
        let (code, said, _) = run(&gateway, &["check", "--acl", "-", filter, "--client", client, "--may", "subscribe"]);
        assert_eq!(code, i32::from(!granted), "{filter}: {said}");
        let told = Client::connect(port, client).unwrap().subscribe(filter, 1);
        assert_eq!(told.is_ok(), granted, "{filter}: {told:?}");
    }
    let before = std::fs::read_to_string(gateway.config_path()).unwrap();
    let mark = gateway.log().len();
    std::fs::write(gateway.config_path(), before.replace("alarm/#", "open/#")).unwrap();
    gateway.reload();
    gateway.wait_for_log(LIMIT, mark, &["config reloaded"]);
    for topic in ["open/x", "alarm/x"] {
        publish(&mut publisher, topic);
    }
    assert_eq!(next(&mut subscriber), "alarm/x");
    let (_, said, _) = run(&gateway, &["user", "list"]);
    assert!(said.contains("and may do what ") && said.contains(".toml:"), "{said}");
}

#[test]
fn a_user_is_added_with_what_it_is_denied_and_the_judgement_names_the_line() {
    let gateway = Gateway::new(CONFIG, &[]);
    let refused = [
        &["user", "add", "bob", "--deny-publish", "a"][..],
        &["user", "add", "bob", "--subscribe", "#", "--deny-publish", "a"],
    ];
    for arguments in refused {
        let (code, _, told) = run(&gateway, arguments);
        assert!(code == 78 && told.contains("`deny_publish` without `publish`"), "{code}: {told}");
    }
    let arguments = [
        "user",
        "add",
        "bob",
        "--publish",
        "#",
        "--deny-publish",
        "lock/#",
        "--subscribe",
        "#",
        "--deny-subscribe",
        "alarm/#",
        "--deny-subscribe",
        "box/{client}/key",
    ];
    let (code, _, told) = run(&gateway, &arguments);
    assert_eq!(code, 0, "{told}");
    let config = std::fs::read_to_string(gateway.config_path()).unwrap();
    let at = |key: &str| {
        let line = 1 + config.lines().position(|line| line.starts_with(key)).unwrap();
        format!("({}:{line})", gateway.config_path().display())
    };
    assert!(
        config.contains("\ndeny_publish = [\"lock/#\"]\ndeny_subscribe = [\"alarm/#\", \"box/{client}/key\"]\n"),
        "{config}"
    );
    let (_, said, _) = run(&gateway, &["user", "list"]);
    assert!(said.contains("#, not lock/#") && said.contains("#, not alarm/#, box/{client}/key"), "{said}");

    let cases = [
        (
            &["lock/front"][..],
            format!(
                "publish    no   `deny_publish` has `lock/#` {}\nsubscribe  yes  by `#` {}\n",
                at("deny_p"),
                at("subscribe")
            ),
        ),
        (
            &["+/x", "--may", "subscribe", "--client", "c"],
            format!("subscribe  yes  by `#` {}, but for `alarm/#` {}\n", at("subscribe"), at("deny_s")),
        ),
        (
            &["alarm/+", "--may", "subscribe"],
            format!("subscribe  no   `deny_subscribe` has `alarm/#` {}\n", at("deny_s")),
        ),
        (
            &["box/#", "--may", "subscribe", "--client", "c"],
            format!(
                "subscribe  yes  by `#` {}, but for `box/{{client}}/key`, here `box/c/key` {}\n",
                at("subscribe"),
                at("deny_s")
            ),
        ),
        (
            &["box/d/key", "--may", "subscribe"],
            format!(
                "subscribe  no   `deny_subscribe` has `box/{{client}}/key`, here `box/#` {}; `{{client}}` denies by the client id: --client\n",
                at("deny_s")
            ),
        ),
    ];
    for (arguments, expected) in cases {
        let (code, said, told) = run(&gateway, &[&["check", "--acl", "bob"], arguments].concat());
        assert_eq!(
            (code, said.as_str()),
            (i32::from(!expected.contains("  yes  ")), expected.as_str()),
            "{arguments:?}: {told}"
        );
    }
    let (_, said, _) = run(&gateway, &["check", "--json", "--client", "c", "--acl", "bob", "#"]);
    let subscribe = &serde_json::from_str::<Value>(&said).unwrap()["subscribe"];
    let except: Vec<&Value> = subscribe["except"].as_array().unwrap().iter().map(|except| &except["means"]).collect();
    assert_eq!((&subscribe["allowed"], except), (&json!(true), vec![&json!("alarm/#"), &json!("box/c/key")]));
    let (_, said, _) = run(&gateway, &["check", "--json", "--acl", "bob", "lock/a"]);
    let publish = &serde_json::from_str::<Value>(&said).unwrap()["publish"];
    assert_eq!(
        (&publish["allowed"], &publish["reason"], &publish["filter"]),
        (&json!(false), &json!("denied"), &json!("lock/#"))
    );
}
