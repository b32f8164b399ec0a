//! `tidegate check --acl`: what a client of the local broker may do by the config, in the broker's own judgement.

use std::path::Path;
use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};
use serde_json::{Value, json};

use super::{no_user, place};
use crate::broker::User;
use crate::broker::judge::{Judge, Verdict};
use crate::config::{self, Sources, Span};
use crate::exit;
use crate::model::TopicFilter;
use crate::plan::{self, Environment, Secrets};

#[derive(Debug, Args)]
pub(super) struct Acl {
    /// Tell instead whether USER may publish and subscribe to TOPIC, and by which filter. USER `-` is a client without a user name; TOPIC with
    /// wildcards is a filter to subscribe with. Ends with 0 if the client may do one of the two, with 1 if neither
    #[arg(long = "acl", num_args = 2, value_names = ["USER", "TOPIC"], action = ArgAction::Set)]
    asked: Option<Vec<String>>,
    /// The client id, for filters with {client}
    #[arg(long, value_name = "ID", requires = "asked")]
    client: Option<String>,
    /// Ask for one of the two alone: it ends with 0 if the client may do that
    #[arg(long, value_name = "WHAT", requires = "asked")]
    may: Option<Deed>,
}

/// What a client does with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// Send messages to it
    Publish,
    /// Be sent its messages
    Subscribe,
}

impl Deed {
    const ALL: [Self; 2] = [Self::Publish, Self::Subscribe];

    fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// `None`: a client without a name.
    user: Option<&'a str>,
    topic: &'a str,
    client: Option<&'a str>,
    deeds: Vec<Deed>,
}

impl Acl {
    /// What is asked, if anything is.
    pub(super) fn question(&self) -> Option<Question<'_>> {
        let [user, topic] = self.asked.as_deref()? else { return None };
        Some(Question {
            user: Some(user.as_str()).filter(|user| *user != NAMELESS),
            topic,
            client: self.client.as_deref(),
            deeds: self.may.map_or(Deed::ALL.to_vec(), |deed| vec![deed]),
        })
    }
}

/// A client without a user name.
const NAMELESS: &str = "-";

/// One answer.
struct Answer {
    deed: Deed,
    allowed: bool,
    reason: String,
    /// The filter that allows it, as it is written, what it means here, and where it stands.
    grant: Option<(String, String, Span)>,
}

pub(super) fn run(config: &Path, question: &Question<'_>, json: bool) -> ExitCode {
    // Nobody could publish to it, nor subscribe.
    if let Err(error) = TopicFilter::parse(question.topic) {
        eprintln!("error: the topic {error}: `{}`", question.topic.escape_debug());
        return exit::code(exit::USAGE);
    }
    let loaded = config::load(config);
    let written = loaded.file.broker.users.value.clone();
    // Who may do what hangs on no secret.
    let environment = Environment { secrets: Secrets::Ignored, ..Environment::of_process() };
    let (plan, sources) = match plan::plan(loaded, &environment) {
        Ok((plan, report)) => (plan, report.sources),
        Err(report) => {
            super::tell(&report);
            return exit::code(exit::CONFIG);
        }
    };
    if let Some(external) = &plan.external {
        eprintln!("error: {}", super::elsewhere(&external.url.to_string()));
        return exit::code(exit::USAGE);
    }
    let users = &plan.broker.users;
    let judge = Judge::of(&plan.broker, question.user, question.client.unwrap_or_default());
    if let (None, Some(name)) = (&judge, question.user) {
        eprintln!("error: {}", no_user(name, users.iter().map(|user| user.name.as_str())));
        return exit::code(exit::USAGE);
    }
    // A plan has all the users of its file, in their order.
    let nth = users.iter().position(|user| Some(user.name.as_str()) == question.user);
    let mut answers = Vec::new();
    for deed in question.deeds.iter().copied() {
        let Some(judge) = &judge else {
            let reason = "clients without a user name are not let in".to_owned();
            answers.push(Answer { deed, allowed: false, reason, grant: None });
            continue;
        };
        let verdict = match deed {
            Deed::Publish => judge.publish(question.topic),
            Deed::Subscribe => judge.subscribe(question.topic),
        };
        let mut answer = Answer {
            deed,
            allowed: verdict.allows(),
            reason: reason(&verdict, deed, nth.map(|nth| &users[nth]), question),
            grant: None,
        };
        if let (Verdict::Granted { nth: grant, means }, Some(nth)) = (&verdict, nth) {
            let (publish, subscribe) = (&written[nth].publish, &written[nth].subscribe);
            let filters = if deed == Deed::Publish { publish } else { subscribe };
            answer.grant =
                filters.get(*grant).map(|filter| (filter.value.0.clone(), means.as_str().to_owned(), filter.span));
        }
        answers.push(answer);
    }
    let allowed = answers.iter().any(|answer| answer.allowed);
    let printed = super::print(&if json {
        format!("{:#}\n", object(question, allowed, &answers, &sources))
    } else {
        answers.iter().map(|answer| line(answer, &sources)).collect()
    });
    if allowed { printed } else { exit::code(exit::FAILED) }
}

fn reason(verdict: &Verdict, deed: Deed, user: Option<&User>, question: &Question<'_>) -> String {
    match verdict {
        Verdict::Unrestricted if question.user.is_some() => "there are no users: any client may".into(),
        Verdict::Unrestricted => "clients without a user name may".into(),
        Verdict::Granted { .. } => "granted".into(),
        Verdict::OfTheBroker => "`$SYS` is the broker's own".into(),
        Verdict::Malformed(why) => format!("it {why}"),
        Verdict::NotGranted => {
            let granted = match (user, deed) {
                (None, _) => &[][..],
                (Some(user), Deed::Publish) => &user.publish[..],
                (Some(user), Deed::Subscribe) => &user.subscribe[..],
            };
            let by_client = granted.iter().any(|filter| filter.0.as_str().split('/').any(|level| level == "{client}"));
            let hint = if by_client && question.client.is_none() {
                "; `{client}` grants by the client id: --client"
            } else {
                ""
            };
            match granted.len() {
                0 => format!("`{}` grants nothing", deed.word()),
                1 => format!("its filter does not cover it{hint}"),
                count => format!("none of its {count} filters covers it{hint}"),
            }
        }
    }
}

fn line(answer: &Answer, sources: &Sources) -> String {
    let word = if answer.allowed { "yes" } else { "no" };
    let why = match &answer.grant {
        Some((written, means, span)) => {
            let means = if written == means { String::new() } else { format!(", here `{means}`") };
            format!("by `{written}`{means} ({})", place(sources, *span).unwrap_or_default())
        }
        None => answer.reason.clone(),
    };
    format!("{:<9}  {word:<3}  {}\n", answer.deed.word(), super::table::plain(&why))
}

fn object(question: &Question<'_>, allowed: bool, answers: &[Answer], sources: &Sources) -> Value {
    let mut object = json!({
        "user": question.user,
        "client": question.client,
        "topic": question.topic,
        "allowed": allowed,
    });
    for answer in answers {
        let mut told = json!({ "allowed": answer.allowed, "reason": answer.reason });
        if let Some((written, means, span)) = &answer.grant {
            let source = sources.find(*span);
            told["filter"] = json!(written);
            told["means"] = json!(means);
            told["file"] = json!(source.map(|source| source.path.display().to_string()));
            told["line"] = json!(source.map(|source| source.line_column(span.start).0));
        }
        object[answer.deed.word()] = told;
    }
    object
}
