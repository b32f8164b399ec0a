//! Does `tidegate clients` tell who is at the running gateway's local broker, and show one out?

use std::time::Duration;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::{Gateway, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
"#;

/// Exit code, what is said, and what is told of errors.
fn run(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let mut command = gateway.command(&[&["clients"][..], arguments].concat());
    command.arg("--config").arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn list(gateway: &Gateway, pattern: &str) -> Vec<Value> {
    let (code, said, told) = run(gateway, &[pattern, "--json"]);
    assert_eq!(code, 0, "{told}");
    serde_json::from_str::<Value>(&said).unwrap()["clients"].as_array().unwrap().clone()
}

#[test]
fn clients_are_listed_shown_out_and_forgotten_beside_the_running_gateway() {
    let mut gateway = Gateway::new(CONFIG, &[]);
    let (code, _, told) = run(&gateway, &[]);
    assert!(code == 69 && told.starts_with("error: no gateway is running"), "{code} {told}");
    gateway.start();
    let mut stays = Client::resume(gateway.door().port, "stays").unwrap();
    stays.subscribe("data/#", 1).unwrap();
    let _clean = Client::connect(gateway.door().port, "a/clean one*").unwrap();

    let (code, page, told) = run(&gateway, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(page.starts_with("2 connected, 0 away\n"), "{page}");
    let row: Vec<&str> = page.lines().find(|line| line.starts_with("stays ")).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[2], row[4], row[5]), ("-", "tcp", "3.1.1", "connected"), "{page}");
    assert_eq!(list(&gateway, "a/clean one\\*").len(), 0, "there is no escaping in a pattern");
    assert_eq!(list(&gateway, "a/clean*")[0]["id"], "a/clean one*");

    let (code, said, told) = run(&gateway, &["--kick", "stays"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "stays: its connection is ended; its session waits for it to come back\n"),
        "{told}"
    );
    assert_eq!(list(&gateway, "stays")[0]["connected"], false);
    wait_for(LIMIT, "the connection's end", || match stays.subscribe("more/#", 1) {
        Ok(()) => Err("it is still served".to_owned()),
        Err(_) => Ok(()),
    });
    let (code, _, told) = run(&gateway, &["--kick", "stays"]);
    assert!(code == 1 && told.contains("`--forget` ends that"), "{code} {told}");
    let (code, said, told) = run(&gateway, &["--kick", "stays", "--forget", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, report), (0, serde_json::json!({"was_connected": false, "is_forgotten": true})), "{told}");
    assert!(list(&gateway, "stays").is_empty());
    let (code, _, told) = run(&gateway, &["--kick", "stays"]);
    assert!(code == 64 && told.contains("there is no client `stays`"), "{code} {told}");
    assert_eq!(run(&gateway, &["--forget"]).0, 64, "whom?");
    gateway.stop();
    assert_eq!(run(&gateway, &["--kick", "stays"]).0, 69);
}
