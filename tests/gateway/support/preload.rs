//! Small libraries in C that stand between the gateway and the system (LD_PRELOAD), compiled where they are not yet.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::program::{always, compiler};

/// The library made of this file of `tests/gateway/support/`.
///
/// # Panics
/// When there is no C compiler.
pub(crate) fn library(source: &'static str) -> PathBuf {
    static LIBRARIES: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());

    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    libraries.entry(source).or_insert_with(|| compile(source)).clone()
}

/// The value of `LD_PRELOAD` with which a program has it, beside what it has always ([`always`]).
pub(crate) fn preloaded(source: &'static str) -> PathBuf {
    let mut libraries = library(source).into_os_string();
    if let Some(always) = always() {
        libraries.push(":");
        libraries.push(always);
    }
    libraries.into()
}

fn compile(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/support").join(name);
    let mut hasher = DefaultHasher::new();
    compiler().hash(&mut hasher);
    std::fs::read(&source).expect("read the source").hash(&mut hasher);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = directory.join(format!("{name}-{:016x}.so", hasher.finish()));
    if library.exists() {
        return library;
    }
    // Another run of tests may be compiling it too: whoever is done last puts the same in its place.
    let made = directory.join(format!("{name}-{}.so", std::process::id()));
    let output = Command::new(compiler())
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
        .args([&made, &source])
        .args(["-ldl", "-lpthread"])
        .output()
        .expect("run the C compiler: the tests need a C compiler, as the build does");
    assert!(output.status.success(), "compile {name}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(made, &library).expect("put the library in its place");
    library
}
