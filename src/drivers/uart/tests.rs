use proptest::prelude::*;
use toml::de::DeTable;

use super::*;
use crate::drivers::{Factory, OptionsError};
use crate::model::{Sample, Value};

fn build(text: &str) -> Result<Arc<dyn StreamFactory>, Vec<OptionsError>> {
    match SPEC.build(DeTable::parse(text).unwrap().into_inner())? {
        Factory::Stream(factory) => Ok(factory),
        Factory::I2c(_) | Factory::Files(_) | Factory::Line(_) => panic!("a serial port is a stream"),
    }
}

fn driver(text: &str) -> Box<dyn StreamDriver> {
    build(text).unwrap_or_else(|errors| panic!("{errors:?}")).make()
}

/// Each mistake as the offending words and what is said of them.
fn mistakes(text: &str) -> Vec<(&str, String)> {
    let Err(errors) = build(text) else { panic!("was accepted: {text}") };
    errors.into_iter().map(|error| (&text[error.span], error.message)).collect()
}

fn feed(driver: &mut dyn StreamDriver, bytes: &[u8]) -> Vec<Outcome> {
    let mut out = Vec::new();
    driver.feed(bytes, &mut out);
    out
}

fn one(name: &str, value: Value) -> Outcome {
    Outcome::Samples(vec![Sample { name: name.into(), value }])
}

#[test]
fn the_example_of_the_spec_builds() {
    assert_eq!(build(SPEC.example).unwrap().channels(), [] as [Arc<str>; 0]);
}

#[test]
fn a_template_is_a_line_that_the_driver_takes_once_its_holes_are_numbers() {
    for options in [
        "match = { json = true }",
        "match = { json = { t = '/air/t', h = '/air/h', n = '/n' } }",
        "match = { csv = ['level', '', 't'], separator = ';' }",
        "match = { kv = ':' }",
    ] {
        let factory = build(options).unwrap();
        let line = factory.template().unwrap().replace('%', "21.5") + "\n";
        let taken = feed(&mut *factory.make(), line.as_bytes());
        assert!(
            matches!(&taken[..], [Outcome::Samples(samples)] if !samples.is_empty()),
            "{options}: {line}: {taken:?}"
        );
    }
    for options in ["match = { regex = '(?P<t>.*)' }", "match = { csv = ['a'] }\nframe = { check = 'nmea' }"] {
        assert_eq!(build(options).unwrap().template(), None);
    }
}

#[test]
fn lines_become_samples() {
    let mut driver = driver("match = { json = true }");
    assert_eq!(
        feed(&mut *driver, b"{\"t\":21.5}\r\nhello\n{\"t\":\n{}\n"),
        [
            one("t", Value::Number(21.5)),
            Outcome::Ignored,
            Outcome::Bad("JSON: EOF while parsing a value at column 5".into()),
            Outcome::Bad("line holds no value".into()),
        ]
    );
}

#[test]
fn a_checksum_is_verified_before_the_match() {
    let mut driver = driver(
        r"
        frame = { check = 'nmea' }
        match = { regex = '^\$WIMWV,(?P<dir>[\d.]+),R,(?P<speed>[\d.]+),M,A$' }
        ",
    );
    let samples = vec![
        Sample { name: "dir".into(), value: Value::Integer(84) },
        Sample { name: "speed".into(), value: Value::Number(10.4) },
    ];
    assert_eq!(
        feed(&mut *driver, b"$WIMWV,084,R,10.4,M,A*07\n$WIMWV,085,R,10.4,M,A*07\n"),
        [Outcome::Samples(samples), Outcome::Bad("NMEA checksum mismatch: expected 06, got 07".into())]
    );
}

#[test]
fn a_line_that_may_be_cut_is_dropped_where_the_match_cannot_tell() {
    let mut csv = driver("match = { csv = ['t'] }");
    csv.join_midway();
    assert_eq!(feed(&mut *csv, b"1.5\n21.5\n"), [Outcome::Ignored, one("t", Value::Number(21.5))]);

    let mut json = driver("match = { json = true }");
    json.join_midway();
    assert_eq!(feed(&mut *json, b"{\"n\":1}\n"), [one("n", Value::Integer(1))]);
    json.join_midway();
    assert_eq!(feed(&mut *json, b"{\"n\":1}}\n"), [Outcome::Ignored], "a cut line is nobody's fault");

    let mut nmea = driver("match = { kv = '=' }\nframe = { check = 'nmea' }");
    nmea.join_midway();
    assert_eq!(feed(&mut *nmea, b"a=1*6D\n$a=1*6D\n"), [Outcome::Ignored, one("$a", Value::Integer(1))]);
}

#[test]
fn names_are_known_where_the_options_tell() {
    let channels = |text: &str| build(text).unwrap().channels().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(channels("match = { regex = '(?P<b>.)(?P<a>.)' }"), ["b", "a"]);
    assert_eq!(channels("match = { csv = ['t', '', 'h'] }"), ["t", "h"]);
    assert_eq!(channels("match = { json = { z = '/z', a = '/a' } }"), ["z", "a"]);
    assert_eq!(channels("match = { kv = '=' }"), [""; 0]);
}

#[test]
fn every_mistake_is_told_at_its_place() {
    assert_eq!(
        mistakes("frame = { kind = 'slip', mx = 5, max = 0, end = '', check = 'crc' }\nmatch = 7\ntxt = []"),
        [
            ("'slip'", "unknown frame kind `slip`".into()),
            ("mx", "unknown key `mx`".into()),
            ("0", "`max` must be 1 to 65536".into()),
            ("''", "`end` must be 1 to 8 bytes long".into()),
            ("'crc'", "unknown check `crc`".into()),
            ("7", "`match` must be a table, not a whole number".into()),
            ("txt", "unknown key `txt`".into()),
        ]
    );
}

#[test]
fn a_missing_match_is_told_with_what_to_write() {
    let Err(errors) = build("text = ['id']") else { panic!("was accepted") };
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].message, "missing key `match`");
    assert_eq!(errors[0].span, 0..0);
    assert!(errors[0].help.as_deref().unwrap().contains("json = true"));
}

#[test]
fn a_match_takes_exactly_one_way() {
    assert_eq!(mistakes("match = {}"), [("{}", "`match` says no way to find values".into())]);
    assert_eq!(
        mistakes("match = { csv = ['a'], json = true }"),
        [("json = true", "`match` takes one of `regex`, `json`, `csv`, `kv`; `csv` is there already".into())]
    );
    assert_eq!(
        mistakes("match = { json = true, separator = ';' }"),
        [("separator = ';'", "`separator` has no meaning with `json`".into())]
    );
}

#[test]
fn a_broken_regular_expression_is_told_at_its_broken_part() {
    assert_eq!(mistakes(r"match = { regex = 'é(?P<t>\d+' }"), [("(", "regular expression: unclosed group".into())]);
    assert_eq!(
        mistakes(r"match = { regex = 'a{5,2}(?P<t>.)' }"),
        [("{5,2}", "regular expression: invalid repetition count range, the start must be <= the end".into())]
    );
    // Escapes hide the way back to the source: the whole text is pointed at.
    assert_eq!(mistakes(r#"match = { regex = "\\d(" }"#), [(r#""\\d(""#, "regular expression: unclosed group".into())]);
    assert_eq!(
        mistakes(r"match = { regex = '\d+' }"),
        [(r"'\d+'", "the regular expression has no named group".into())]
    );
    let long = format!("match = {{ regex = '(?P<t>\\w{{{}}})' }}", 900);
    assert!(mistakes(&long)[0].1.starts_with("the regular expression needs more than"), "{:?}", mistakes(&long));
}

#[test]
fn names_that_would_break_a_payload_or_a_topic_are_refused() {
    assert_eq!(
        mistakes("match = { csv = ['ts', 'a/b', 'x', 'x'] }"),
        [
            ("'ts'", "a value cannot be named `ts`".into()),
            ("'a/b'", "a value's name cannot contain `/`".into()),
            ("'x'", "column `x` is there twice".into()),
        ]
    );
    assert_eq!(mistakes("match = { csv = ['', ''] }"), [("csv = ['', '']", "`csv` names no column".into())]);
    assert_eq!(
        mistakes("match = { json = { t = 'd.t' } }"),
        [("'d.t'", "`d.t` is no JSON pointer: it does not begin with `/`".into())]
    );
    assert_eq!(mistakes("match = { csv = ['t'] }\ntext = ['id']"), [("'id'", "no value is named `id`".into())]);
}

#[test]
fn the_schema_knows_the_same_keys_as_the_decoder() {
    let schema = serde_json::to_value((SPEC.schema)()).unwrap();
    let keys = |object: &serde_json::Value| {
        object["properties"].as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
    };
    let known = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(keys(&schema), known(options::KEYS));
    assert_eq!(keys(&schema["$defs"]["FrameOptions"]), known(options::FRAME_KEYS));
    assert_eq!(keys(&schema["$defs"]["MatchOptions"]), known(options::MATCH_KEYS));
}

const STREAMS: &[&str] = &[
    "match = { json = true }",
    "match = { csv = ['a', 'b'] }\nframe = { max = 12 }",
    "match = { kv = '=' }\nframe = { end = '<>' }",
    "match = { regex = '(?P<a>[a-z]+)(?P<b>\\d*)' }",
    "match = { kv = '=' }\nframe = { check = 'nmea' }",
];

/// Bytes that are often nearly a frame.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[ -~]{0,20}".prop_map(String::into_bytes),
        Just(b"{\"a\":[1,2.5,null]}".to_vec()),
        Just(b"$a=1*6D".to_vec()),
        Just(b"a=1 b=nan".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"<>".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_the_stream_yields_the_same(
        stream in stream(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        which in 0..STREAMS.len(),
    ) {
        let whole = feed(&mut *driver(STREAMS[which]), &stream);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut split = driver(STREAMS[which]);
        let mut outcomes = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            split.feed(&stream[from..cut], &mut outcomes);
            from = cut;
        }
        prop_assert_eq!(outcomes, whole);
    }

    #[test]
    fn after_any_garbage_the_next_whole_line_is_read(garbage in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut driver = driver("match = { json = true }");
        feed(&mut *driver, &garbage);
        feed(&mut *driver, b"\n");
        prop_assert_eq!(feed(&mut *driver, b"{\"t\":1}\n"), [one("t", Value::Integer(1))]);
    }

    #[test]
    fn options_of_any_kind_are_decoded_or_refused_without_a_panic(
        key in "(frame|match|text|[a-z]{1,6})",
        inner in "(kind|max|end|check|regex|json|csv|kv|separator|[a-z]{1,6})",
        value in prop_oneof!["'[^'\n]{0,12}'", "-?[0-9]{1,20}", "true|false", "\\[('a',?)?\\]", "\\{ a = '[^'\n]{0,5}' \\}", "[0-9]\\.5"],
    ) {
        for text in [format!("{key} = {{ {inner} = {value} }}"), format!("{key} = {value}")] {
            if let Ok(table) = DeTable::parse(&text)
                && let Err(errors) = SPEC.build(table.into_inner())
            {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {:?}", error, text);
                }
            }
        }
    }
}
