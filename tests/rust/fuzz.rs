#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

/// The files of a Badger directory.
mod directory;
/// The bytes of a reply on the wire: decoded, and through the client.
mod message;
/// Changes bytes, runs a target on them for a while, and keeps what was new.
mod mutate;
/// Streams, manifests, keys files and requests.
mod parse;

use mutate::Fuzz;

/// What a target has seen in its input, coarsely: an input that shows something new is kept and changed further.
type Feature = String;

/// A function that takes any bytes and may not panic, with where its first inputs come from.
struct Target {
    name: &'static str,
    run: fn(&[u8]) -> Feature,
    /// Inputs besides those of the kept corpus.
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: [Target; 10] = [
    Target { name: "stream", run: parse::stream, seeds: parse::stream_seeds },
    Target { name: "manifest", run: parse::manifest, seeds: parse::manifest_seeds },
    Target { name: "keys", run: parse::keys, seeds: parse::keys_seeds },
    Target { name: "request", run: parse::request, seeds: parse::request_seeds },
    Target { name: "message", run: message::decoded, seeds: message::seeds },
    Target { name: "reply", run: message::through_the_client, seeds: message::reply_seeds },
    Target { name: "badger-manifest", run: directory::manifest, seeds: directory::manifest_seeds },
    Target { name: "badger-table", run: directory::table, seeds: directory::table_seeds },
    Target { name: "badger-log", run: directory::log, seeds: directory::log_seeds },
    Target { name: "badger-value-log", run: directory::value_log, seeds: directory::value_log_seeds },
];

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap()
}

/// What was kept, and a moment of what `make fuzz` does for longer.
#[test]
fn the_kept_corpus_holds() {
    for target in &TARGETS {
        let fuzz = Fuzz::new(target);
        let kept = fuzz.kept();
        assert!(kept > 0, "no corpus for {}", target.name);
    }
}

#[test]
fn a_short_run_of_each_target_holds() {
    for target in &TARGETS {
        Fuzz::new(target).run(std::time::Duration::from_millis(400), false);
    }
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_stream() {
    Fuzz::new(target("stream")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_manifest() {
    Fuzz::new(target("manifest")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_keys() {
    Fuzz::new(target("keys")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_request() {
    Fuzz::new(target("request")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_message() {
    Fuzz::new(target("message")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_reply() {
    Fuzz::new(target("reply")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_badger_manifest() {
    Fuzz::new(target("badger-manifest")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_badger_table() {
    Fuzz::new(target("badger-table")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_badger_log() {
    Fuzz::new(target("badger-log")).run_as_told();
}

#[test]
#[ignore = "make fuzz"]
fn fuzz_badger_value_log() {
    Fuzz::new(target("badger-value-log")).run_as_told();
}
