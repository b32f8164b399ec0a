//! Do the systemd unit, its companions and the page about operating say what the program does?

use std::collections::BTreeSet;

use tidegate::{exit, limits};

use crate::source::{files_below, read};

/// All values of a key of the unit, in their order.
fn values(key: &str) -> Vec<String> {
    let text = read("systemd/tidegate.service");
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

/// The value of a key of the unit, which stands there once.
fn unit(key: &str) -> String {
    let values = values(key);
    assert_eq!(values.len(), 1, "{key}= in systemd/tidegate.service: {values:?}");
    values[0].clone()
}

/// The words of the lines of a file that begin with `first`.
fn lines_of(file: &str, first: &str) -> Vec<Vec<String>> {
    let text = read(file);
    let lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|words| words.first().is_some_and(|word| word == first)).collect()
}

#[test]
fn systemd_waits_as_long_as_an_orderly_stop_may_take() {
    assert_eq!(unit("TimeoutStopSec"), limits::STOP_TOTAL.as_secs().to_string());
}

#[test]
fn systemd_waits_as_long_for_the_watchdog_as_the_program_counts_on() {
    assert_eq!(unit("WatchdogSec"), limits::WATCHDOG.as_secs().to_string());
    assert_eq!(unit("Type"), "notify", "without it nobody hears the watchdog fed");
}

#[test]
fn systemd_does_not_start_again_what_a_config_error_ended() {
    assert_eq!(unit("RestartPreventExitStatus"), exit::CONFIG.to_string());
}

/// `char-NAME` is a name of /proc/devices; each kind belongs to a bus, which is a folder of its own.
#[test]
fn the_unit_opens_the_devices_of_our_buses_and_no_others() {
    const KINDS: [(&str, &[&str]); 3] = [
        ("serial", &["char-ttyS", "char-ttyAMA", "char-ttyUSB", "char-ttyACM"]),
        ("gpio", &["char-gpiochip"]),
        ("i2c", &["char-i2c"]),
    ];
    let allowed: BTreeSet<String> = values("DeviceAllow").into_iter().collect();
    let known: BTreeSet<String> =
        KINDS.iter().flat_map(|(_, kinds)| kinds.iter()).map(|kind| format!("{kind} rw")).collect();
    assert_eq!(allowed, known);
    for (bus, kinds) in KINDS {
        let folder = format!("src/bus/{bus}/");
        let there = files_below("src/bus").iter().any(|file| file.to_string_lossy().starts_with(&folder));
        assert!(there, "{kinds:?} are allowed, and there is no {folder}");
    }
}

#[test]
fn every_group_of_the_unit_is_made_by_the_sysusers_file_and_has_the_user_as_its_member() {
    let made: BTreeSet<String> =
        lines_of("systemd/tidegate.sysusers", "g").into_iter().map(|words| words[1].clone()).collect();
    let wanted: BTreeSet<String> = unit("SupplementaryGroups").split_whitespace().map(str::to_owned).collect();
    assert_eq!(made, wanted);
    let joined = lines_of("systemd/tidegate.sysusers", "m");
    assert!(joined.iter().all(|words| words[1] == unit("User")), "{joined:?}");
    assert_eq!(joined.into_iter().map(|words| words[2].clone()).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(lines_of("systemd/tidegate.sysusers", "u")[0][1], unit("User"));
}

#[test]
fn every_group_of_the_udev_rules_is_one_of_the_units_and_no_device_is_left_to_everybody() {
    let groups = unit("SupplementaryGroups");
    for line in read("systemd/99-tidegate.rules").lines().filter(|line| line.starts_with("SUBSYSTEM")) {
        let (_, group) = line.split_once("GROUP=\"").expect("a rule gives a group");
        let group = group.split('"').next().unwrap_or_default();
        assert!(groups.split_whitespace().any(|known| known == group), "{line}");
        assert!(line.contains("MODE=\"0660\""), "{line}");
    }
}

#[test]
fn the_sandbox_leaves_what_the_sensors_need() {
    // /sys for 1-Wire, hwmon and IIO; the device nodes; the clock's own word on whether it is set.
    for key in ["PrivateDevices", "ProtectClock", "ProcSubset", "InaccessiblePaths", "PrivateNetwork"] {
        assert_eq!(values(key), Vec::<String>::new(), "{key}=");
    }
}

#[test]
fn the_unit_the_state_and_the_secrets_are_where_the_page_and_the_program_look_for_them() {
    let page = read("docs/operating.md");
    let start = unit("ExecStart");
    let words: Vec<&str> = start.split_whitespace().collect();
    assert_eq!(words, ["/usr/bin/tidegate", "run", "--config", "/etc/tidegate/tidegate.toml"]);
    for installed in [
        "/usr/bin/tidegate",
        "/etc/systemd/system/tidegate.service",
        "/etc/sysusers.d/tidegate.conf",
        "/etc/tmpfiles.d/tidegate.conf",
        "/etc/udev/rules.d/99-tidegate.rules",
        "/etc/tidegate/tidegate.toml",
        "/etc/tidegate/secrets",
    ] {
        assert!(page.contains(installed), "docs/operating.md says nothing of {installed}");
    }
    for file in files_below("systemd") {
        assert!(page.contains(file.to_str().unwrap()), "docs/operating.md does not install {}", file.display());
    }
    let directories = lines_of("systemd/tidegate.tmpfiles", "d");
    let secrets = directories.iter().find(|words| words[1] == "/etc/tidegate/secrets").expect("made by tmpfiles");
    assert_eq!(secrets[2..5], ["0700", "root", "root"].map(str::to_owned), "secrets are root's alone");
    assert_eq!(unit("ConfigurationDirectory"), "tidegate");
    assert_eq!(unit("StateDirectory"), "tidegate");
}

#[test]
fn the_page_tells_every_exit_code() {
    let page = read("docs/operating.md");
    let rows =
        page.lines().skip_while(|line| *line != "## Exit codes").skip(1).take_while(|line| !line.starts_with("## "));
    let told: BTreeSet<u8> = rows.filter_map(|row| row.split('|').nth(1)?.trim().parse().ok()).collect();
    let known: BTreeSet<u8> = exit::TABLE.iter().map(|(code, _)| *code).collect();
    assert_eq!(told, known);
}

/// Which codes systemd restarts on: all but success and what the unit names (systemd.service(5), Restart=on-failure).
#[test]
fn the_page_says_of_each_exit_code_whether_systemd_starts_it_again() {
    assert_eq!(unit("Restart"), "on-failure");
    for row in read("docs/operating.md").lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (Some(Ok(code)), Some(told)) = (cells.get(1).map(|cell| cell.parse::<u8>()), cells.get(3)) else {
            continue;
        };
        if !told.is_empty() {
            let again = code != exit::OK && code != exit::CONFIG;
            assert_eq!(*told == "yes", again, "{row}");
        }
    }
}
