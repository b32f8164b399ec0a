//! Can `cross` read cross.toml? It only warns of a key that it does not know, and builds without it.

use crate::source::read;

/// What `cross` 0.2.5 knows (its docs/cross_toml.md and src/cross_toml.rs), as paths; `*` stands for a target.
const KNOWN: [&str; 22] = [
    "build.env.volumes",
    "build.env.passthrough",
    "build.xargo",
    "build.build-std",
    "build.default-target",
    "build.pre-build",
    "build.dockerfile",
    "build.dockerfile.file",
    "build.dockerfile.context",
    "build.dockerfile.build-args",
    "target.*.xargo",
    "target.*.build-std",
    "target.*.image",
    "target.*.dockerfile",
    "target.*.dockerfile.file",
    "target.*.dockerfile.context",
    "target.*.dockerfile.build-args",
    "target.*.pre-build",
    "target.*.runner",
    "target.*.env.volumes",
    "target.*.env.passthrough",
    "target.*",
];

/// The targets that tools/build-arm builds too.
const TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

/// Paths of the keys that `cross` would not know.
fn unknown(text: &str) -> Vec<String> {
    fn walk(path: &[&str], table: &toml::Table, unknown: &mut Vec<String>) {
        for (key, value) in table {
            let mut path = path.to_vec();
            // Any target is one.
            path.push(if path == ["target"] { "*" } else { key });
            let spelled = path.join(".");
            let is_known = KNOWN.contains(&spelled.as_str());
            let leads_on = KNOWN.iter().any(|known| known.starts_with(&format!("{spelled}.")));
            match value {
                toml::Value::Table(_) if spelled.ends_with("build-args") && is_known => {}
                toml::Value::Table(table) if leads_on => walk(&path, table, unknown),
                toml::Value::Table(_) => unknown.push(spelled),
                _ if is_known && spelled != "target.*" => {}
                _ => unknown.push(spelled),
            }
        }
    }
    let mut found = Vec::new();
    walk(&[], &toml::from_str(text).expect("cross.toml is TOML"), &mut found);
    found
}

#[test]
fn cross_knows_every_key_of_cross_toml() {
    assert_eq!(unknown(&read("cross.toml")), Vec::<String>::new());
}

#[test]
fn a_key_that_cross_does_not_know_is_found() {
    let text = "[build]\nzig = true\n[build.env]\nvolume = []\n[target.x]\nimag = \"a\"\n[target.x.dockerfile]\nfile = \"D\"\n[other]\na = 1";
    assert_eq!(unknown(text), ["build.env.volume", "build.zig", "other", "target.*.imag"]);
}

#[test]
fn cross_builds_for_what_the_page_and_the_script_name() {
    let config: toml::Table = toml::from_str(&read("cross.toml")).unwrap();
    let targets: Vec<&str> = config["target"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(targets, TARGETS);
    assert!(TARGETS.contains(&config["build"]["default-target"].as_str().unwrap()));
    let (page, readme, script) = (read("docs/operating.md"), read("README.md"), read("tools/build-arm"));
    for target in TARGETS {
        assert!(page.contains(target) && script.contains(target), "{target}");
    }
    // By its own name `cross` would not find the file.
    for text in [page, readme] {
        assert!(text.contains("CROSS_CONFIG=cross.toml cross build"), "it is not told to name the file");
    }
}
