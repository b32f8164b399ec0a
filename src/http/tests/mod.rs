//! The page as a stranger meets it: raw bytes on a real socket.

mod harness;
mod limits;
mod openmetrics;

use std::time::Duration;

use self::harness::{Page, open, page, with_token};
use crate::model::Outcome;

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn the_page_brings_all_it_needs_and_lets_nothing_else_in() {
    let page = page().await;
    let index = page.get("/").await;
    assert_eq!(index.status, 200);
    let policy = index.field("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && policy.contains("frame-ancestors 'none'"));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(index.field(name), value, "{name}");
    }
    // What it names is there, and on this server.
    for named in ["src=\"", "href=\""] {
        for rest in index.body.split(named).skip(1) {
            let path = rest.split('"').next().unwrap();
            assert!(!path.contains("//"), "`{path}` leads elsewhere");
            assert_eq!(page.get(&format!("/{path}")).await.status, 200, "{path}");
        }
    }
    for inline in ["<script>", "<style", " style=", " onclick="] {
        assert!(!index.body.contains(inline), "`{inline}` would be refused by the policy");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_asked_wrongly_is_told_apart() {
    let page = page().await;
    assert_eq!(page.get("/nothing").await.status, 404);
    assert_eq!(page.get("/style.css/").await.status, 404);
    assert_eq!(page.get("/../Cargo.toml").await.status, 404);
    let put = page.ask("PUT", "/api/overview", "", "").await;
    assert_eq!((put.status, put.field("allow")), (405, "GET, HEAD, POST"));
    assert_eq!(page.ask("POST", "/metrics", JSON, "{}").await.status, 405);
    assert_eq!(page.get("/api/actuators/pump/set").await.status, 405);
    let head = page.ask("HEAD", "/api/overview", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_name_that_leads_here_from_elsewhere_is_not_answered() {
    let page = page().await;
    let rebound = page.raw("GET /api/overview HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(rebound.status, 421);
    assert!(!rebound.body.contains("gateway\":"), "{}", rebound.body);
    assert_eq!(page.raw("GET / HTTP/1.0\r\n\r\n").await.status, 421, "no name at all");
}

#[tokio::test]
async fn a_form_or_a_script_of_another_page_moves_nothing() {
    let page = page().await;
    let set = "/api/actuators/pump/set";
    let foreign = format!("{JSON}Origin: http://evil.example\r\n");
    assert_eq!(page.ask("POST", set, &foreign, "\"on\"").await.status, 403);
    let cross = format!("{JSON}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(page.ask("POST", set, &cross, "\"on\"").await.status, 403);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(page.ask("POST", set, form, "\"on\"").await.status, 415);
    assert_eq!(page.ask("POST", set, "Content-Type: text/plain\r\n", "\"on\"").await.status, 415);
    assert_eq!(page.given(), Vec::<String>::new());
}

#[tokio::test]
async fn a_command_is_handed_in_as_it_is_and_its_answer_comes_back() {
    let page = page().await;
    let set = "/api/actuators/pump/set";
    let done = page.ask("POST", set, JSON, "\"on\"").await;
    assert_eq!((done.status, done.body.as_str()), (200, "{\"result\":\"done\"}\n"));
    page.answer_with(Outcome::Refused, "off for 30 s yet");
    let refused = page.ask("POST", set, JSON, r#"{"id":"7","value":"on"}"#).await;
    assert_eq!(refused.body, "{\"result\":\"refused\",\"reason\":\"off for 30 s yet\"}\n");
    page.ask("POST", set, JSON, "55").await;
    assert_eq!(page.given(), ["on", r#"{"id":"7","value":"on"}"#, "55"]);
    assert_eq!(page.ask("POST", "/api/actuators/fan/set", JSON, "\"on\"").await.status, 404);
    assert_eq!(page.ask("POST", set, JSON, "").await.status, 400);
    assert_eq!(page.ask("POST", set, JSON, "{on}").await.status, 400);
}

#[tokio::test]
async fn a_page_that_only_shows_commands_nothing_and_says_so() {
    let page = Page::start(|settings| settings.commands = false).await;
    assert!(page.get("/api/overview").await.body.contains("\"commands\":false"));
    let set = page.ask("POST", "/api/actuators/pump/set", JSON, "\"on\"").await;
    assert_eq!((set.status, page.given().len()), (403, 0));
    assert_eq!(page.ask("POST", "/api/bridges/cloud/reconnect", JSON, "").await.status, 403);
}

#[tokio::test]
async fn the_control_socket_needs_no_token_and_may_command() {
    let page = Page::start(|settings| {
        with_token(settings);
        settings.commands = false;
    })
    .await;
    let overview = page.control("GET", "/api/overview", "").await;
    assert!(overview.status == 200 && overview.body.contains("\"commands\":true"), "{}", overview.body);
    let done = page.control("POST", "/api/actuators/pump/set", "\"on\"").await;
    assert_eq!((done.body.as_str(), page.given()), ("{\"result\":\"done\"}\n", vec!["on".to_owned()]));
}

#[tokio::test]
async fn whoever_has_the_token_comes_in_and_nobody_else() {
    let page = Page::start(with_token).await;
    let nobody = page.get("/").await;
    assert_eq!(nobody.status, 401);
    assert!(nobody.field("www-authenticate").starts_with("Basic realm="));
    for path in ["/api/overview", "/metrics", "/healthz", "/readyz", "/api/stream"] {
        assert_eq!(page.get(path).await.status, 401, "{path}");
    }
    // "me:open sesame" and "me:open"
    let right = "Authorization: Basic bWU6b3BlbiBzZXNhbWU=\r\n";
    assert_eq!(page.ask("GET", "/metrics", right, "").await.status, 200);
    let wrong = "Authorization: Basic bWU6b3Blbg==\r\n";
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(page.ask("GET", "/metrics", wrong, "").await.status, 401);
    }
    assert!(began.elapsed() >= crate::limits::LOGIN_DELAY_MIN * 7, "guessing is slowed down");
    assert_eq!(page.ask("GET", "/metrics", right, "").await.status, 200, "and the right one is not kept waiting");
}

#[tokio::test]
async fn a_gateway_that_is_not_ready_says_why_and_one_that_lives_says_that() {
    let page = page().await;
    let ready = page.get("/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "{\"gateway\":\"g\",\"ok\":true,\"reasons\":[]}\n"));
    page.break_down("the local broker does not listen");
    let ready = page.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("the local broker does not listen"), "{}", ready.body);
    assert_eq!(page.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_open_page_is_told_everything_once_and_then_what_changed() {
    let page = page().await;
    let mut stream = page.stream("").await;
    let first = stream.next("overview").await;
    assert!(first.contains("\"id\":\"air\"") && first.contains("\"commands\":true"), "{first}");
    page.measure(22.5);
    let change = stream.next("change").await;
    assert!(change.contains("22.5") && !change.contains("soil"), "{change}");
}

#[tokio::test]
async fn a_reload_that_brings_a_token_ends_the_pages_that_have_none() {
    let mut page = page().await;
    let mut stream = page.stream("Connection: close\r\n").await;
    stream.next("overview").await;
    page.apply(with_token).await;
    tokio::time::timeout(Duration::from_secs(10), stream.end()).await.expect("the stream ends");
    assert_eq!(page.get("/").await.status, 401);
}

#[tokio::test]
async fn a_reload_moves_the_page_and_a_port_that_is_taken_changes_nothing() {
    let mut page = page().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    assert!(page.try_apply(|settings| settings.listen = address).await.is_err());
    assert_eq!(page.get("/").await.status, 200);
    drop(taken);
    let before = page.address;
    page.apply(|settings| settings.listen = address).await;
    assert_eq!((page.address, page.get("/").await.status), (address, 200));
    assert!(open(before).await.is_err(), "the old one is closed");
}

#[tokio::test]
async fn the_control_socket_is_gone_after_the_stop() {
    let page = page().await;
    let path = page.socket();
    assert!(path.exists());
    page.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn clients_are_told_of_and_shown_out_by_the_control_socket_alone() {
    let mut page = page().await;
    let kick = |client: &str| format!("{{\"client\":\"{client}\",\"forget\":true}}");
    for with in [false, true] {
        if with {
            page.apply(with_token).await;
        }
        let token = if with { "Authorization: Bearer open sesame\r\n" } else { "" };
        assert_eq!(page.ask("GET", "/api/clients", token, "").await.status, 403);
        let tried = page.ask("POST", "/api/clients/kick", &format!("{JSON}{token}"), &kick("here")).await;
        assert_eq!(tried.status, 403, "{}", tried.body);
    }
    assert!(page.given().is_empty());
    for (query, pattern) in [("", "*"), ("?match=a%2A%c3%b6", "a*ö"), ("?x=1&match=", "")] {
        let told = page.control("GET", &format!("/api/clients{query}"), "").await;
        assert!(told.status == 200 && told.body.contains(&format!("\"id\":\"{pattern}\"")), "{query}: {}", told.body);
    }
    let long = format!("?match={}", "a".repeat(2_000));
    for query in ["?match=%", "?match=%ff", &long] {
        assert_eq!(page.control("GET", &format!("/api/clients{query}"), "").await.status, 400, "{query}");
    }
    let done = page.control("POST", "/api/clients/kick", &kick("here")).await;
    assert_eq!((done.status, done.body.trim()), (200, "{\"was_connected\":true,\"is_forgotten\":true}"));
    assert_eq!(page.control("POST", "/api/clients/kick", &kick("away")).await.status, 409);
    assert_eq!(page.control("POST", "/api/clients/kick", &kick("none")).await.status, 404);
    assert_eq!(page.control("POST", "/api/clients/kick", "{\"id\":\"here\"}").await.status, 400);
    assert_eq!(page.control("GET", "/api/clients/kick", "").await.status, 405);
    assert_eq!(page.control("POST", "/api/clients", "{}").await.status, 405);
    assert_eq!(page.given(), ["kick here true", "kick away true", "kick none true"]);
    page.stop().await;
}
