//! A strict reader of OpenMetrics 1.0's text form, written from the specification, and what it says of our page.

use std::collections::{BTreeMap, BTreeSet};

use crate::http::metrics::{page, table};
use crate::model::overview::{BridgeOverview, BrokerOverview, BusOverview, DropOverview, Overview, SensorOverview};

/// A family: its type, unit and help, and its samples by name and labels.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    unit: String,
    help: String,
    samples: BTreeMap<String, f64>,
}

/// Reads a page, or says at which line it breaks the form.
fn read(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("does not end in `# EOF`")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for (number, line) in body.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (Some(word), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("a line of a family has three parts"));
            };
            check_name(name).map_err(|what| wrong(&what))?;
            if name != current {
                if families.contains_key(name) {
                    return Err(wrong("a family is interleaved with another"));
                }
                name.clone_into(&mut current);
            }
            let family = families.entry(name.to_owned()).or_default();
            if !family.samples.is_empty() {
                return Err(wrong("described after its samples"));
            }
            let field = match word {
                "HELP" => &mut family.help,
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                _ => return Err(wrong("unknown word")),
            };
            if !field.is_empty() {
                return Err(wrong("said twice"));
            }
            value.clone_into(field);
            if word == "UNIT" && !name.ends_with(&format!("_{value}")) {
                return Err(wrong("the unit must be the end of the name"));
            }
            continue;
        }
        let family = families.get_mut(&current).ok_or_else(|| wrong("a sample before its family"))?;
        let (series, value) = line.rsplit_once(' ').ok_or_else(|| wrong("no value"))?;
        let name = series.split('{').next().unwrap_or_default();
        check_labels(&series[name.len()..]).map_err(|what| wrong(&what))?;
        let expected = match family.kind.as_str() {
            "counter" => format!("{current}_total"),
            "gauge" => current.clone(),
            other => return Err(wrong(&format!("type `{other}`"))),
        };
        if name != expected {
            return Err(wrong(&format!("expected a sample named `{expected}`")));
        }
        let value: f64 = value.parse().map_err(|_| wrong("the value is no number"))?;
        if family.kind == "counter" && (value < 0.0 || !value.is_finite()) {
            return Err(wrong("a counter is never negative"));
        }
        if family.samples.insert(series.to_owned(), value).is_some() {
            return Err(wrong("a series comes twice"));
        }
    }
    Ok(families)
}

fn check_name(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    good.then_some(()).ok_or_else(|| format!("`{name}` is no name"))
}

/// `{a="x",b="y"}`, or nothing.
fn check_labels(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let mut rest = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or("labels without braces")?;
    let mut names = BTreeSet::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").ok_or("a label without a value in quotes")?;
        check_name(name)?;
        if !names.insert(name) {
            return Err(format!("label `{name}` comes twice"));
        }
        let mut escaped = false;
        let end = value.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let end = end.ok_or("a value without end")?.0;
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Ok(())
}

fn overview() -> Overview {
    let sensor = SensorOverview {
        id: "air".into(),
        quality: "good".into(),
        online: Some(true),
        age_ms: Some(1_500),
        good: 7,
        bad: 1,
        ..SensorOverview::default()
    };
    Overview {
        gateway: "g".into(),
        version: "0.1.0".into(),
        now_ms: 1_795_396_500_000,
        uptime_ms: 60_000,
        buses: vec![BusOverview {
            sensors: vec![sensor, SensorOverview { id: "new".into(), ..SensorOverview::default() }],
            ..BusOverview::default()
        }],
        bridges: vec![BridgeOverview {
            id: "cloud".into(),
            state: "online".into(),
            queued: 241,
            bytes: 53_248,
            delivered: 1 << 40,
            dropped: vec![DropOverview { cause: "refused-0x97".into(), count: 3 }],
            ..BridgeOverview::default()
        }],
        broker: BrokerOverview { clients: 2, ..BrokerOverview::default() },
        ..Overview::default()
    }
}

#[test]
fn the_page_is_open_metrics_to_the_letter_and_says_what_the_overview_does() {
    let text = page(&overview());
    let families = read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    for (name, family) in &families {
        assert!(name.starts_with("tidegate_") && !family.help.is_empty() && !family.kind.is_empty(), "{name}");
    }
    for (family, series, value) in [
        ("tidegate_sensor_reads", "tidegate_sensor_reads_total{sensor=\"air\",result=\"bad\"}", 1.0),
        ("tidegate_sensor_age_seconds", "tidegate_sensor_age_seconds{sensor=\"air\"}", 1.5),
        ("tidegate_bridge_published", "tidegate_bridge_published_total{bridge=\"cloud\"}", 1_099_511_627_776.0),
        ("tidegate_bridge_dropped", "tidegate_bridge_dropped_total{bridge=\"cloud\",cause=\"refused-0x97\"}", 3.0),
        ("tidegate_outbox_bytes", "tidegate_outbox_bytes{bridge=\"cloud\"}", 53_248.0),
        ("tidegate_broker_clients", "tidegate_broker_clients", 2.0),
        ("tidegate_start_time_seconds", "tidegate_start_time_seconds", 1_795_396_440.0),
    ] {
        assert_eq!(families[family].samples.get(series), Some(&value), "{series}\n{text}");
    }
    let ages = &families["tidegate_sensor_age_seconds"].samples;
    assert_eq!(ages.len(), 1, "before its first reading a sensor has no age");
}

#[test]
fn the_table_of_the_book_names_every_family() {
    let table = table();
    for (name, family) in read(&page(&overview())).unwrap() {
        let total = if family.kind == "counter" { "_total" } else { "" };
        assert!(table.contains(&format!("| `{name}{total}` |")), "{name}");
    }
}

#[test]
fn the_reader_refuses_what_the_form_forbids() {
    for wrong in [
        "# TYPE a gauge\na 1\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a gauge\na 1\na 2\n# EOF\n",
        "# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n",
        "# TYPE a gauge\n# TYPE b gauge\n# HELP a x\n# EOF\n",
        "# TYPE a gauge\na{b=\"1\",b=\"2\"} 1\n# EOF\n",
        "a 1\n# EOF\n",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
