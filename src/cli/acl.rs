//! `tidegate check --acl`: what a client of the local broker may do by the config, in the broker's own judgement.

use std::path::Path;
use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};
use serde_json::{Value, json};

use super::{no_user, place};
use crate::broker::Rights;
use crate::broker::judge::{Filter, Judge, Verdict};
use crate::config::file::{Anyone, User};
use crate::config::kinds::FilterText;
use crate::config::{self, At, Sources, Span};
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
    /// The filter that allows or denies it.
    by: Option<Rule>,
    /// Those that deny a part of it.
    except: Vec<Rule>,
}

/// A filter of the config: as it is written, what it means here, and where it stands.
struct Rule {
    written: String,
    means: String,
    span: Span,
}

/// What is written of one kind of client in one direction: what is granted and what is denied.
type Lists<'a> = [&'a [At<FilterText>]; 2];

fn of_user(user: &User, deed: Deed) -> Lists<'_> {
    match deed {
        Deed::Publish => [&user.publish.value, &user.deny_publish.value],
        Deed::Subscribe => [&user.subscribe.value, &user.deny_subscribe.value],
    }
}

fn of_anyone(anyone: &Anyone, deed: Deed) -> Lists<'_> {
    match deed {
        Deed::Publish => [&anyone.publish.value, &anyone.deny_publish.value],
        Deed::Subscribe => [&anyone.subscribe.value, &anyone.deny_subscribe.value],
    }
}

fn rule(list: &[At<FilterText>], filter: &Filter) -> Option<Rule> {
    let written = list.get(filter.nth)?;
    Some(Rule { written: written.value.0.clone(), means: filter.means.as_str().to_owned(), span: written.span })
}

pub(super) fn run(config: &Path, question: &Question<'_>, json: bool) -> ExitCode {
    // Nobody could publish to it, nor subscribe.
    if let Err(error) = TopicFilter::parse(question.topic) {
        eprintln!("error: the topic {error}: `{}`", question.topic.escape_debug());
        return exit::code(exit::USAGE);
    }
    let loaded = config::load(config);
    let written = loaded.file.broker.value.clone();
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
    let rights = nth.map(|nth| &users[nth].rights).or(plan.broker.anyone.as_ref());
    let mut answers = Vec::new();
    for deed in question.deeds.iter().copied() {
        let Some(judge) = &judge else {
            let reason = "clients without a user name are not let in".to_owned();
            answers.push(Answer { deed, allowed: false, reason, by: None, except: Vec::new() });
            continue;
        };
        let verdict = match deed {
            Deed::Publish => judge.publish(question.topic),
            Deed::Subscribe => judge.subscribe(question.topic),
        };
        let lists = match (nth, &written.anyone) {
            (Some(nth), _) => of_user(&written.users.value[nth].value, deed),
            (None, Some(anyone)) => of_anyone(&anyone.value, deed),
            (None, None) => Lists::default(),
        };
        let [granted, denied] = lists;
        let (by, except) = match &verdict {
            Verdict::Granted { by, except } => {
                (rule(granted, by), except.iter().filter_map(|filter| rule(denied, filter)).collect())
            }
            Verdict::Denied(by) => (rule(denied, by), Vec::new()),
            _ => (None, Vec::new()),
        };
        let reason = reason(&verdict, deed, rights, question);
        answers.push(Answer { deed, allowed: verdict.allows(), reason, by, except });
    }
    let allowed = answers.iter().any(|answer| answer.allowed);
    let printed = super::print(&if json {
        format!("{:#}\n", object(question, allowed, &answers, &sources))
    } else {
        answers.iter().map(|answer| line(answer, question, &sources)).collect()
    });
    if allowed { printed } else { exit::code(exit::FAILED) }
}

fn reason(verdict: &Verdict, deed: Deed, rights: Option<&Rights>, question: &Question<'_>) -> String {
    let granted = match (rights, deed) {
        (None, _) => &[][..],
        (Some(rights), Deed::Publish) => &rights.publish[..],
        (Some(rights), Deed::Subscribe) => &rights.subscribe[..],
    };
    match verdict {
        Verdict::Unrestricted if question.user.is_some() => "there are no users: any client may".into(),
        Verdict::Unrestricted => "clients without a user name may".into(),
        Verdict::Granted { .. } => "granted".into(),
        Verdict::Denied(_) => "denied".into(),
        Verdict::OfTheBroker => "`$SYS` is the broker's own".into(),
        Verdict::Malformed(why) => format!("it {why}"),
        Verdict::NotGranted => {
            let by_client = granted.iter().any(|filter| is_by_client(filter.0.as_str()));
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

fn is_by_client(filter: &str) -> bool {
    filter.split('/').any(|level| level == "{client}")
}

fn line(answer: &Answer, question: &Question<'_>, sources: &Sources) -> String {
    let word = if answer.allowed { "yes" } else { "no" };
    let rule = |Rule { written, means, span }: &Rule| {
        let means = if written == means { String::new() } else { format!(", here `{means}`") };
        format!("`{written}`{means} ({})", place(sources, *span).unwrap_or_default())
    };
    let why = match &answer.by {
        Some(by) if answer.allowed => {
            let except: Vec<String> = answer.except.iter().map(rule).collect();
            let but = if except.is_empty() { String::new() } else { format!(", but for {}", except.join(" and ")) };
            format!("by {}{but}", rule(by))
        }
        Some(by) => format!("`deny_{}` has {}", answer.deed.word(), rule(by)),
        None => answer.reason.clone(),
    };
    // Which topics those are that it denies hangs on an id that nobody gave.
    let denying = answer.except.iter().chain(answer.by.iter().filter(|_| !answer.allowed));
    let by_client = question.client.is_none() && denying.into_iter().any(|rule| is_by_client(&rule.written));
    let hint = if by_client { "; `{client}` denies by the client id: --client" } else { "" };
    format!("{:<9}  {word:<3}  {}{hint}\n", answer.deed.word(), super::table::plain(&why))
}

fn object(question: &Question<'_>, allowed: bool, answers: &[Answer], sources: &Sources) -> Value {
    let mut object = json!({
        "user": question.user,
        "client": question.client,
        "topic": question.topic,
        "allowed": allowed,
    });
    let rule = |Rule { written, means, span }: &Rule| {
        let source = sources.find(*span);
        json!({
            "filter": written,
            "means": means,
            "file": source.map(|source| source.path.display().to_string()),
            "line": source.map(|source| source.line_column(span.start).0),
        })
    };
    for answer in answers {
        let mut told = answer.by.as_ref().map_or_else(|| json!({}), rule);
        told["allowed"] = json!(answer.allowed);
        told["reason"] = json!(answer.reason);
        if !answer.except.is_empty() {
            told["except"] = answer.except.iter().map(rule).collect();
        }
        object[answer.deed.word()] = told;
    }
    object
}
