#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules by layer; a module may import those of earlier rows only.
const LAYERS: [&[&str]; 7] = [
    &["error"],
    &["base"],
    &["proto", "entry"],
    &["format", "badger", "store", "evnode", "rpc", "repo"],
    &["flow"],
    &["align", "apply", "backup", "digest", "inspect", "open", "restore", "serve", "verify"],
    &["python"],
];

const VERBS: [&str; 9] =
    ["align", "apply", "backup", "digest", "inspect", "open", "restore", "serve", "verify"];

/// Third-party crates and the only places that may know them: modules, or files of one; `*` is everywhere.
const ROOMS: [(&str, &[&str]); 38] = [
    ("arrow_array", &["flow", "python"]),
    ("arrow_schema", &["flow", "python"]),
    ("bytes", &["rpc", "proto", "flow", "backup"]),
    ("crc32c", &["base"]),
    ("data_encoding", &["*"]),
    ("ed25519_zebra", &["evnode"]),
    ("getrandom", &["badger", "base", "store", "evnode", "backup"]),
    ("http_body_util", &["rpc"]),
    ("hyper_util", &["rpc"]),
    ("jiff", &["*"]),
    ("log", &["python"]),
    ("object_store", &["repo"]),
    ("prost", &["rpc", "proto"]),
    ("prost_reflect", &["rpc"]),
    ("prost_types", &["proto"]),
    ("pyo3", &["python"]),
    ("pyo3_async_runtimes", &["python"]),
    ("pyo3_log", &["python"]),
    ("rand_core", &["evnode"]),
    ("rocksdb", &["store"]),
    // The pair names the error number of what is there.
    ("rustix", &["base", "repo/pair.rs"]),
    ("serde", &["*"]),
    // Connect is spoken in JSON.
    ("serde_json", &["repo", "evnode", "rpc/connect.rs", "python"]),
    ("sha2", &["base"]),
    ("snap", &["badger"]),
    ("tempfile", &["base"]),
    ("thiserror", &["error"]),
    (
        "tokio",
        &[
            "rpc",
            "repo",
            "flow/work.rs",
            "python",
            "apply",
            "backup",
            "digest",
            "inspect",
            "open",
            "restore",
            "serve",
            "verify",
        ],
    ),
    ("tokio_stream", &["rpc"]),
    ("tokio_util", &["rpc", "python"]),
    ("tonic", &["rpc", "proto"]),
    ("tonic_health", &["rpc"]),
    ("tonic_prost", &["rpc", "proto"]),
    ("tonic_reflection", &["rpc"]),
    ("tonic_web", &["rpc"]),
    ("tracing", &["*"]),
    ("twox_hash", &["base"]),
    ("zstd", &["badger"]),
];

const MAX_LINES: usize = 600;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Why a module may not import another one.
fn forbidden(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let (Some(own), Some(other)) = (layer(from), layer(to)) else {
        return Some(format!("{from} and {to} must both be in the table of layers"));
    };
    if own > other {
        return None;
    }
    let way = if own == other { "beside" } else { "above" };
    // What a layer shares within itself is named in the design; nothing else is.
    (!(from == "entry" && to == "proto")).then(|| format!("{from} imports {to}, which is {way} it"))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Path,
    Sign(char),
}

/// The words and signs of Rust code, without comments, strings and characters: enough to follow paths.
fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &code[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, b'"')
        } else if rest.starts_with('\'') && is_character(rest) {
            quoted(rest, b'\'')
        } else if rest.starts_with("::") {
            tokens.push((line, Token::Path));
            2
        } else if bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push((line, Token::Word(&rest[..length])));
            length
        } else {
            let sign = rest.chars().next().unwrap_or(' ');
            if !sign.is_whitespace() {
                tokens.push((line, Token::Sign(sign)));
            }
            sign.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

fn raw_string(rest: &str) -> Option<usize> {
    let start = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = start.len() - start.trim_start_matches('#').len();
    start[hashes..].starts_with('"').then_some(())?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body = rest.len() - start.len() + hashes + 1;
    rest[body..].find(&end).map(|at| body + at + end.len())
}

fn quoted(rest: &str, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// A character, not a lifetime?
fn is_character(rest: &str) -> bool {
    let mut signs = rest.chars().skip(1);
    match (signs.next(), signs.next()) {
        (Some('\\'), _) => true,
        (Some(_), Some(next)) => next == '\'',
        _ => false,
    }
}

/// What one file breaks; `name` is its path below `src`.
fn violations(name: &str, code: &str) -> Vec<String> {
    let mut path: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    if path.last() == Some(&"mod") {
        path.pop();
    }
    let own = path[0];
    let tokens = tokens(code);
    let word = |at: usize| match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(*word),
        _ => None,
    };
    let is = |at: usize, token: Token<'_>| tokens.get(at).is_some_and(|(_, other)| *other == token);
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("src/{name}:{line}: {what}"));
    // Names of the inline modules around, each with the depth of braces inside it.
    let mut inside: Vec<usize> = Vec::new();
    let mut depth = 0;
    for (at, (line, token)) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{') => {
                depth += 1;
                if at >= 2 && word(at - 2) == Some("mod") {
                    inside.push(depth);
                }
            }
            Token::Sign('}') => {
                if inside.last() == Some(&depth) {
                    inside.pop();
                }
                depth -= 1;
            }
            Token::Word(first) => {
                let starts = at == 0 || !matches!(tokens[at - 1].1, Token::Path | Token::Sign('.' | '$'));
                let begins_path = starts && is(at + 1, Token::Path);
                if begins_path && (*first == "crate" || *first == "super") {
                    let supers =
                        (0..path.len() + 9).take_while(|n| word(at + 2 * n) == Some("super")).count();
                    let at_root = *first == "crate" || supers == path.len() + inside.len();
                    let next = at + 2 * supers.max(1);
                    for module in heads(&tokens, next).into_iter().filter(|_| at_root) {
                        if let Some(why) = forbidden(own, module).filter(|_| own != "lib") {
                            say(*line, why);
                        }
                    }
                }
                let used = starts && at > 0 && word(at - 1) == Some("use") && !is(at + 1, Token::Path);
                if begins_path || used {
                    let room = ROOMS.iter().find(|(krate, _)| krate == first);
                    if let Some((krate, rooms)) = room
                        && !rooms.iter().any(|room| *room == "*" || *room == own || *room == name)
                    {
                        say(*line, format!("{own} uses {krate}, which belongs in {}", rooms.join(", ")));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The first names of a path's end: `a::…`, or each of `{a, b::c}`.
fn heads<'a>(tokens: &[(usize, Token<'a>)], at: usize) -> Vec<&'a str> {
    match tokens.get(at) {
        Some((_, Token::Word(word))) => vec![*word],
        Some((_, Token::Sign('{'))) => {
            let (mut heads, mut depth, mut fresh) = (Vec::new(), 0, true);
            for (_, token) in &tokens[at..] {
                match token {
                    Token::Sign('{') => depth += 1,
                    Token::Sign('}') => depth -= 1,
                    Token::Sign(',') if depth == 1 => fresh = true,
                    Token::Word(word) if depth == 1 && fresh => {
                        heads.push(*word);
                        fresh = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            heads
        }
        _ => Vec::new(),
    }
}

/// The code without the unit tests at its end, or in a file of their own, which may use what the tests have.
fn without_tests<'a>(name: &str, code: &'a str) -> &'a str {
    if name.ends_with("/tests.rs") {
        return "";
    }
    code.split_once("\n#[cfg(test)]\nmod ").map_or(code, |(code, _)| code)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn imports_point_down_and_crates_stay_in_their_rooms() {
    let files = all("src");
    assert!(files.len() > 50, "found only {} files", files.len());
    let found: Vec<_> =
        files.iter().flat_map(|(name, code)| violations(name, without_tests(name, code))).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Unit tests see what their module sees, but they may use every crate that makes a test easier.
#[test]
fn unit_tests_keep_to_the_layers_too() {
    let rooms = |violation: &String| violation.contains(" uses ");
    let found = all("src").iter().flat_map(|(name, code)| violations(name, code)).collect::<Vec<_>>();
    let found: Vec<_> = found.into_iter().filter(|violation| !rooms(violation)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_and_every_dependency_has_its_place() {
    let files = all("src");
    let top: BTreeSet<_> = files.iter().map(|(name, _)| name.split(['/', '.']).next().unwrap()).collect();
    for module in top.iter().filter(|module| **module != "lib") {
        assert!(layer(module).is_some(), "src/{module} is in no layer");
    }
    let cargo = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let section = cargo.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    for line in section.lines().filter(|line| !line.starts_with('#') && line.contains('=')) {
        let name = line.split([' ', '=']).next().unwrap().replace('-', "_");
        assert!(ROOMS.iter().any(|(krate, _)| *krate == name), "{name} has no room in tests/rust/layers.rs");
    }
    assert_eq!(LAYERS[5], VERBS);
}

#[test]
fn files_are_short_enough_to_be_read() {
    for (name, code) in all("src").into_iter().chain(all("tests/rust")) {
        let lines = code.lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines: cut it where its subject divides");
    }
}

/// The checker itself: it must see what it forbids, however it is written, and nothing else.
#[test]
fn the_checker_sees_made_up_violations() {
    let bad = [
        ("format/reader.rs", "use crate::store::Store;", "format imports store, which is beside it"),
        ("format/reader.rs", "fn f() { crate::flow::merge::f() }", "format imports flow, which is above it"),
        (
            "base/progress.rs",
            "use crate::{error::Error, entry::Entry};",
            "base imports entry, which is above it",
        ),
        (
            "restore.rs",
            "use crate::{\n    error,\n    verify::{self, Level},\n};",
            "restore imports verify, which is beside it",
        ),
        ("backup/record.rs", "use super::super::restore;", "backup imports restore, which is beside it"),
        (
            "flow/chain.rs",
            "mod tests { use super::super::super::backup::run; }",
            "flow imports backup, which is above it",
        ),
        ("flow/chain.rs", "pub use crate::python::job;", "flow imports python, which is above it"),
        ("error.rs", "use crate::unheard::of;", "error and unheard must both be in the table of layers"),
        ("flow/chain.rs", "fn f() -> tonic::Status { x }", "flow uses tonic, which belongs in rpc, proto"),
        ("rpc/client.rs", "use rocksdb::DB;", "rpc uses rocksdb, which belongs in store"),
        ("flow/merge.rs", "use tokio;", "flow uses tokio, which belongs in rpc, repo, flow/work.rs"),
        ("verify.rs", "use pyo3::prelude::*;", "verify uses pyo3, which belongs in python"),
    ];
    for (name, code, expected) in bad {
        let found = violations(name, code);
        assert!(found.len() == 1 && found[0].contains(expected), "{name}: {code}: {found:?}");
    }
    let good = [
        (
            "flow/chain.rs",
            "use crate::store::Store; use super::merge::Merge; use crate::{base, error::{Error, Result}};",
        ),
        (
            "flow/chain.rs",
            "// use crate::backup;\n/* crate::verify::x */ const S: &str = \"crate::backup::x\"; fn f<'a>(x: &'a u8) {}",
        ),
        (
            "flow/chain.rs",
            "const S: &str = r#\"crate::\"backup::x\"#; const C: char = '\"'; const D: char = '\\'';",
        ),
        ("flow/work.rs", "fn f() { tokio::task::spawn_blocking(f) }"),
        (
            "backup/record.rs",
            "use super::session::Question; use super::Options; mod tests { use super::super::session; }",
        ),
        ("store/open.rs", "fn f() { x.tonic::<u8>() }"),
    ];
    for (name, code) in good {
        assert_eq!(violations(name, code), Vec::<String>::new(), "{code}");
    }
    assert_eq!(violations("a/../base/x.rs", ""), Vec::<String>::new());
    let line = violations("format/a.rs", "\n\n/* a\n b */ use crate::rpc;");
    assert!(line[0].starts_with("src/format/a.rs:4: "), "{line:?}");
}
