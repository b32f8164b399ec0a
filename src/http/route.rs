//! What is answered: a match on method and path.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::answer::{self, Answer, Content};
use super::guard::{self, Refusal};
use super::listener::Visitor;
use super::{Settings, Shared, assets, metrics, stream};
use crate::limits::{CLIENT_PATTERN_BYTES_MAX, HTTP_ANSWER_WAIT, HTTP_BODY_BYTES_MAX};
use crate::model::chore::Chore;
use crate::model::clients::{Kick, KickRefusal};
use crate::model::overview::{Answered, HealthReport};
use crate::model::{ActuatorId, Command, percent};
use crate::ports::Watch;

/// Answers one request.
pub(super) async fn answer<B>(shared: &Arc<Shared>, visitor: Visitor, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let settings = match visitor {
        Visitor::Control => None,
        Visitor::Page(peer) => match shared.settings() {
            Some(settings) => {
                if let Err(refusal) = guard::may_see(&settings, request.headers()) {
                    return refuse(shared, peer, refusal).await;
                }
                Some(settings)
            }
            // The page was taken away while the connection was open.
            None => return answer::busy("the page is being closed"),
        },
    };
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match *request.method() {
        Method::GET | Method::HEAD
            if parts[..] == ["api", "stream"]
                && settings.is_some()
                && guard::may_follow(request.headers()).is_err() =>
        {
            foreign()
        }
        Method::GET | Method::HEAD if parts[..] == ["api", "clients"] => {
            // Names and addresses of people's devices: for who looks after the gateway, not for who looks at its page.
            if settings.is_some() { keepers_alone() } else { clients(shared, request.uri().query()) }
        }
        Method::GET | Method::HEAD => look(shared, settings.as_ref(), &path, &parts),
        Method::POST if settings.is_none() || guard::may_change(request.headers()) == Ok(()) => {
            if settings.as_ref().is_some_and(|settings| !settings.commands) && parts[..] != ["api", "stage", "link"] {
                return answer::error(StatusCode::FORBIDDEN, "`[http] commands = false`: this page only shows");
            }
            // What takes records away is for who looks after the gateway, not for who looks at its page.
            let keeper = settings.is_none();
            act(shared, &parts, keeper, request.into_body()).await
        }
        Method::POST => match guard::may_change(request.headers()) {
            Err(Refusal::NotJson) => {
                answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected a body of the type application/json")
            }
            _ => foreign(),
        },
        _ => answer::wrong_method("GET, HEAD, POST"),
    }
}

fn keepers_alone() -> Answer {
    answer::error(StatusCode::FORBIDDEN, "clients are told of, and shown out, by the control socket alone")
}

fn foreign() -> Answer {
    answer::error(StatusCode::FORBIDDEN, "another page sent this; it is not answered")
}

/// What a visitor sees who may not see anything.
async fn refuse(shared: &Shared, peer: IpAddr, refusal: Refusal) -> Answer {
    match refusal {
        Refusal::NoToken => answer::unauthorized("expected the token of `[http]` as password, with any user name"),
        Refusal::WrongToken => {
            let now = shared.clock.now();
            let (wait, first) = shared.failures.lock().unwrap_or_else(PoisonError::into_inner).failed(peer, now);
            if first {
                warn!(%peer, "a visitor of the page showed a wrong token");
            }
            tokio::time::sleep(wait).await;
            answer::unauthorized("this is not the token of `[http]`")
        }
        _ => answer::error(
            StatusCode::MISDIRECTED_REQUEST,
            "asked under a name that is none of this machine's own: use localhost or 127.0.0.1, or set `token` under [http]",
        ),
    }
}

/// Requests that change nothing.
fn look(shared: &Arc<Shared>, settings: Option<&Arc<Settings>>, path: &str, parts: &[&str]) -> Answer {
    let watch = &shared.watch;
    match parts {
        ["api", "overview"] => answer::json(StatusCode::OK, &overview(watch.as_ref(), settings)),
        ["api", "outbox"] => answer::json(StatusCode::OK, &watch.overview().bridges),
        ["api", "stream"] => stream::open(shared, settings),
        ["metrics"] => answer::text(metrics::CONTENT_TYPE, metrics::page(&watch.overview())),
        ["healthz"] => health(&watch.alive()),
        ["readyz"] => health(&watch.ready()),
        ["api", "actuators", _, "set"]
        | ["api", "bridges", _, "reconnect" | "outbox"]
        | ["api", "clients", "kick"]
        | ["api", "stage", "link"] => answer::wrong_method("POST"),
        _ => assets::find(path).unwrap_or_else(nothing),
    }
}

fn nothing() -> Answer {
    answer::error(StatusCode::NOT_FOUND, "there is nothing of that name")
}

fn health(health: &HealthReport) -> Answer {
    answer::json(if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, health)
}

/// The overview as JSON, with whether its reader may command.
pub(super) fn overview(watch: &dyn Watch, settings: Option<&Arc<Settings>>) -> Value {
    // A value of ours has text keys and finite numbers alone, so it can be written.
    let mut overview = serde_json::to_value(watch.overview()).unwrap_or_default();
    overview["commands"] = settings.is_none_or(|settings| settings.commands).into();
    overview
}

/// Requests that change something.
async fn act<B>(shared: &Shared, parts: &[&str], keeper: bool, body: B) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    #[derive(Deserialize)]
    struct Link {
        whole: bool,
    }

    let value = match read(body, shared.patience.body).await {
        Ok(value) => value,
        Err(refused) => return refused,
    };
    match parts {
        ["api", "actuators", id, "set"] => command(shared, id, value).await,
        ["api", "bridges", id, "reconnect"] => {
            if shared.watch.reconnect(id) {
                answer::json(StatusCode::OK, &json!({}))
            } else {
                answer::error(StatusCode::NOT_FOUND, "there is no bridge of that id")
            }
        }
        ["api", "clients", "kick"] if !keeper => keepers_alone(),
        ["api", "clients", "kick"] => kick(shared, value),
        ["api", "bridges", _, "outbox"] if !keeper => {
            answer::error(StatusCode::FORBIDDEN, "a store is worked on by the control socket alone")
        }
        ["api", "bridges", id, "outbox"] => chore(shared, id, value).await,
        ["api", "stage", "link"] => match (shared.watch.stage(), serde_json::from_value::<Link>(value)) {
            (None, _) => answer::error(StatusCode::NOT_FOUND, "only the demo has a link to cut"),
            (Some(_), Err(_)) => answer::error(StatusCode::BAD_REQUEST, "expected {\"whole\": true} or false"),
            (Some(stage), Ok(link)) => {
                stage.set_link(link.whole);
                answer::json(StatusCode::OK, &json!({}))
            }
        },
        ["api", "overview" | "outbox" | "clients" | "stream"] | ["metrics" | "healthz" | "readyz" | ""] => {
            answer::wrong_method("GET, HEAD")
        }
        _ => nothing(),
    }
}

/// The body as JSON; an empty one is `null`.
async fn read<B>(body: B, limit: Duration) -> Result<Value, Answer>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = std::pin::pin!(Limited::new(body, HTTP_BODY_BYTES_MAX).collect());
    let bytes = match tokio::time::timeout(limit, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let reason = format!("a body has at most {HTTP_BODY_BYTES_MAX} bytes");
            return Err(answer::error(StatusCode::PAYLOAD_TOO_LARGE, &reason));
        }
        Ok(Err(_)) => return Err(answer::error(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => return Err(answer::error(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| answer::error(StatusCode::BAD_REQUEST, &format!("the body is not JSON: {error}")))
}

/// Gives a command and waits for its answer. A text or a number is the payload as it is; an object is one with an id and the like
/// (docs/topics.md).
async fn command(shared: &Shared, id: &str, value: Value) -> Answer {
    let payload = match value {
        Value::Null => return answer::error(StatusCode::BAD_REQUEST, "expected what to set it to, such as \"on\""),
        Value::String(text) => text,
        other => other.to_string(),
    };
    let answered = ActuatorId::parse(id)
        .ok()
        .and_then(|id| shared.watch.commands()?.command(&id, Command::of_page(payload.into_bytes())));
    let Some(answered) = answered else {
        return answer::error(StatusCode::NOT_FOUND, "there is no actuator of that id");
    };
    match tokio::time::timeout(HTTP_ANSWER_WAIT, answered).await {
        Ok(ack) => answer::json(StatusCode::OK, &Answered::of(&ack, None)),
        Err(_) => answer::error(
            StatusCode::GATEWAY_TIMEOUT,
            "the actuator has not answered yet; its answer will be told on its topic",
        ),
    }
}

/// Has a piece of work done on a store, and tells what came of it.
async fn chore(shared: &Shared, id: &str, value: Value) -> Answer {
    let chore = match serde_json::from_value::<Chore>(value) {
        Ok(chore) => chore,
        Err(error) => return answer::error(StatusCode::BAD_REQUEST, &format!("this is no work on a store: {error}")),
    };
    let Some(done) = shared.watch.chore(id, chore) else {
        return answer::error(StatusCode::NOT_FOUND, "there is no bridge of that id");
    };
    match tokio::time::timeout(HTTP_ANSWER_WAIT, done).await {
        Ok(Ok(report)) => answer::json(StatusCode::OK, &report),
        Ok(Err(reason)) => answer::error(StatusCode::CONFLICT, &reason),
        Err(_) => answer::error(StatusCode::GATEWAY_TIMEOUT, "the store has not answered yet: its disk is slow"),
    }
}

/// The clients whose id fits the pattern of `?match=`; without one all of them.
fn clients(shared: &Shared, query: Option<&str>) -> Answer {
    let asked = query.unwrap_or_default().split('&').find_map(|field| field.strip_prefix("match="));
    let pattern = match asked.map(percent::decode) {
        None => "*".to_owned(),
        Some(Some(pattern)) if pattern.len() <= CLIENT_PATTERN_BYTES_MAX => pattern,
        Some(_) => {
            let reason = format!("expected a pattern of at most {CLIENT_PATTERN_BYTES_MAX} bytes of UTF-8");
            return answer::error(StatusCode::BAD_REQUEST, &reason);
        }
    };
    match shared.watch.clients(&pattern) {
        Some(clients) => answer::json(StatusCode::OK, &clients),
        None => answer::error(StatusCode::CONFLICT, &KickRefusal::NoBroker.to_string()),
    }
}

/// Shows a client out.
fn kick(shared: &Shared, value: Value) -> Answer {
    let kick = match serde_json::from_value::<Kick>(value) {
        Ok(kick) => kick,
        Err(error) => return answer::error(StatusCode::BAD_REQUEST, &format!("this names no client: {error}")),
    };
    match shared.watch.kick(&kick) {
        Ok(report) => answer::json(StatusCode::OK, &report),
        Err(refusal) => {
            let unknown = matches!(refusal, KickRefusal::Unknown(_));
            answer::error(if unknown { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT }, &refusal.to_string())
        }
    }
}

/// An answer that is told bit by bit.
pub(super) fn updates(content: Content) -> Answer {
    answer::with(StatusCode::OK, "text/event-stream", content)
}
