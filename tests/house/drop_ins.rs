//! Does `tidegate config systemd` ask for what each example needs, and for nothing more?
//!
//! `drop_ins/NAME.conf` is what it says of `config/examples/NAME.toml`. `BLESS=1` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use tidegate::cli::systemd::drop_in;
use tidegate::config;

use crate::examples::{assert_generated, plan_of};
use crate::source::{files_below, read, root};

/// What it says of an example, as of a config that is installed.
fn said_of(example: &Path) -> String {
    let plan = plan_of(&example.display().to_string(), config::load(&root().join(example))).unwrap();
    drop_in(&plan, Path::new("/etc/tidegate/tidegate.toml"))
}

fn examples() -> Vec<std::path::PathBuf> {
    let mut examples = files_below("config/examples");
    examples.retain(|path| path.parent() == Some(Path::new("config/examples")));
    examples
}

#[test]
fn every_example_has_its_drop_in() {
    let mut written: BTreeSet<_> = files_below("tests/house/drop_ins").into_iter().collect();
    for example in examples() {
        let path = Path::new("tests/house/drop_ins").join(example.file_name().unwrap()).with_extension("conf");
        assert_generated(path.to_str().unwrap(), &said_of(&example));
        written.remove(&path);
    }
    assert!(written.is_empty(), "of no example: {written:?}");
}

/// What is allowed beyond the unit would be a hole that nobody asked for.
#[test]
fn every_kind_and_group_is_one_that_the_unit_has_too() {
    let unit = read("systemd/tidegate.service");
    let groups = unit.lines().find_map(|line| line.strip_prefix("SupplementaryGroups=")).unwrap();
    for example in examples() {
        for line in said_of(&example).lines() {
            match line.split_once('=') {
                Some(("DeviceAllow", kind)) if kind.starts_with("char-") => assert!(unit.contains(line), "{line}"),
                Some(("SupplementaryGroups", wanted)) => {
                    assert!(wanted.split(' ').all(|group| group.is_empty() || groups.contains(group)), "{line}");
                }
                _ => {}
            }
        }
    }
}

/// Of a config, beside devices, groups and comments.
fn rest(text: &str) -> Vec<String> {
    let path = Path::new("/etc/tidegate/tidegate.toml");
    let plan = plan_of(text, config::load_text(path, text)).unwrap();
    let said = drop_in(&plan, path);
    let known = ["#", "[Service]", "DeviceAllow=", "SupplementaryGroups="];
    said.lines().filter(|line| !known.iter().any(|known| line.starts_with(known))).map(str::to_owned).collect()
}

#[test]
fn a_low_port_and_a_state_elsewhere_are_allowed_where_the_config_has_them() {
    let gateway = "[gateway]\nid = \"g\"\n";
    let usual = format!("{gateway}state_dir = \"/var/lib/tidegate/here\"\n[broker]\nlisten = \"127.0.0.1:1024\"\n");
    assert_eq!(rest(&usual), [""; 0]);
    let low = ["CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE"];
    assert_eq!(rest(&format!("{gateway}[broker]\nlisten = \"127.0.0.1:1023\"\n")), low);
    assert_eq!(rest(&format!("{gateway}[http]\nlisten = \"127.0.0.1:80\"\n")), low);
    let elsewhere = format!("{gateway}state_dir = \"/data/of %1\"\n");
    assert_eq!(rest(&elsewhere), ["ReadWritePaths=\"-/data/of %%1\""]);
    let above = format!("{gateway}state_dir = \"/var/lib/tidegate/../other\"\n");
    assert_eq!(rest(&above), ["ReadWritePaths=\"-/var/lib/tidegate/../other\""]);
    // What a line would not allow, or would allow elsewhere, is not one.
    let unit = read("systemd/tidegate.service");
    assert!(["StateDirectory=tidegate", "ProtectHome=yes", "PrivateTmp=yes"].iter().all(|line| unit.contains(line)));
    for state in ["/var/tmp/state", "/data/it's"] {
        let text = format!("{gateway}state_dir = \"{state}\"\n");
        assert_eq!(rest(&text), [""; 0]);
    }
    assert_eq!(
        rest(&format!("{gateway}[broker]\nlisten = \"127.0.0.1:0\"\n")),
        [""; 0],
        "a port of the kernel's choice"
    );
}
