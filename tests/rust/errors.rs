#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{
    at, at_address, block_on, into_rocksdb, put, replay, restore_to, serve_store, take, to_file,
};
use bytes::Bytes;
use evbackup::backup::{self, Since};
use evbackup::base::durable::{DirLock, require_space};
use evbackup::base::progress::Progress;
use evbackup::error::{Error, Kind, Result};
use evbackup::flow::sample::{self, Shape};
use evbackup::proto::evnode::BackupRequest;
use evbackup::rpc::{Announced, Handler, Listen, Outlet};
use evbackup::{restore, verify};
use std::path::Path;
use std::sync::Arc;

struct Falls;

impl Handler for Falls {
    fn backup(&self, _: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
        outlet.begin(Announced::default())?;
        outlet.chunk(Bytes::from_static(b"\x0f\0\0"))?;
        Err(Error::io("expected a disk, found none").with_errno(5))
    }
}

/// One error of each kind out of the verbs, with the text it must have; the folder is written as `…`, the port as `PORT`.
async fn examples(folder: &Path) -> Vec<(Kind, Error, &'static str)> {
    let path = |name: &str| folder.join(name);
    let golden = super::golden::folder();
    let stream = std::fs::read(golden.join("deletes/full.badger")).unwrap();
    put(&path("full.badger"), &stream);
    put(&path("cut.badger"), &stream[..50]);
    sample::create(&path("store"), 5, Shape::default()).unwrap();
    sample::create(&path("held"), 5, Shape::default()).unwrap();
    let _held = DirLock::exclusive(&path("held")).unwrap();
    let full = [path("full.badger")];
    let fails = async |options: restore::Options| restore::run(options, Progress::new()).await.unwrap_err();
    let into = |dest: &str| into_rocksdb(&full, &path(dest));

    let node = serve_store(&path("store")).await;
    let broken = evbackup::rpc::listen(Listen::new("127.0.0.1:0"), Arc::new(Falls)).await.unwrap();
    let mut listen = Listen::new("127.0.0.1:0");
    listen.token = Some("secret".into());
    let guarded = evbackup::serve::run(evbackup::serve::Options {
        path: path("store"),
        reading: evbackup::badger::ReadOptions::default(),
        listen,
    })
    .await
    .unwrap();
    let gone = replay(stream.clone(), 0).await;
    let nobody = at(&gone);
    gone.stop().await.unwrap();
    let backup = async |origin, name: &str| take(&origin, &path(name), Since::Version(0)).await.unwrap_err();

    let stopped = Progress::new();
    stopped.cancel();
    let cancelled = restore::run(into("dest"), stopped).await.unwrap_err();
    let chain =
        ["full.badger", "inc1.badger", "inc2-overlap.badger"].map(|name| golden.join("reused").join(name));
    let higher = backup::Options { target_height: Some(9), ..to_file(&at(&node), &path("a")) };
    vec![
        (
            Kind::Invalid,
            fails(restore::Options { engine: Some("bolt".into()), ..into("dest") }).await,
            "expected \"rocksdb\" or \"badger\" as the engine, found \"bolt\"",
        ),
        (
            Kind::Incomplete,
            backup(at(&broken), "a").await,
            "127.0.0.1:PORT: expected the final message, found a cut stream (expected a disk, found none) after 0 bytes and N s",
        ),
        (
            Kind::Missing,
            restore_to(&[path("none")], &path("dest")).await.unwrap_err(),
            "…/none: cannot look at it: no such file or directory",
        ),
        (
            Kind::Locked,
            fails(restore::Options { overwrite: true, ..into("held") }).await,
            "…/held: expected a directory that nobody has open, found one that is locked",
        ),
        (
            Kind::Denied,
            backup(at(&guarded), "a").await,
            "127.0.0.1:PORT: expected the server's token, found none",
        ),
        (Kind::Unavailable, backup(nobody, "a").await, "127.0.0.1:PORT: cannot connect: connection refused"),
        (
            Kind::Unavailable,
            backup::run(higher, Progress::new()).await.unwrap_err(),
            "127.0.0.1:PORT: expected a tip of at least 9, found 5",
        ),
        (Kind::Exists, fails(into("store")).await, "…/store: expected nothing, found a datastore"),
        (
            Kind::Unsupported,
            fails(restore::Options { at_height: Some(3), ..into("dest") }).await,
            "…/full.badger: expected blocks of vN-beta.9 or later to cut at a height, found none",
        ),
        (
            Kind::NoSpace,
            require_space(&path("dest"), 1 << 60).unwrap_err(),
            "…/dest: expected N bytes of free space, found N",
        ),
        (
            Kind::Mismatch,
            restore_to(&chain, &path("dest")).await.unwrap_err(),
            "expected one value for key /x/2 at version 2, found two: in full.badger and in inc2-overlap.badger; the source has reused its versions",
        ),
        (
            Kind::Io,
            restore_to(&[path("full.badger/x")], &path("dest")).await.unwrap_err(),
            "…/full.badger/x: cannot look at it: not a directory",
        ),
        (
            Kind::Damaged,
            restore_to(&[path("cut.badger")], &path("dest")).await.unwrap_err(),
            "…/cut.badger: expected 146 more bytes of frame 2 at byte 50, found the end",
        ),
        (Kind::Cancelled, cancelled, "stopped by the caller"),
        (
            Kind::Exists,
            backup(at_address("127.0.0.1:1"), "").await,
            "…: expected a file or nothing, found a directory",
        ),
    ]
}

#[test]
fn every_kind_has_an_example_whose_text_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let examples = block_on(examples(folder.path()));
    let place = folder.path().to_str().unwrap();
    let mut wrong = Vec::new();
    for (kind, error, expected) in &examples {
        let text = error.to_string().replace(place, "…");
        let text = without_numbers(&text);
        if (error.kind(), text.as_str()) != (*kind, *expected) {
            wrong.push(format!(
                "{kind:?}: expected {expected:?}, found {:?} {text:?}, hint {:?}",
                error.kind(),
                error.hint()
            ));
        }
        let what = error.what();
        let first = what.chars().next().unwrap();
        assert!(!first.is_uppercase() && !what.ends_with('.') && !what.contains('\n'), "{what}");
        let forms = ["expected ", "cannot ", "stopped by the caller"];
        assert!(forms.iter().any(|form| what.starts_with(form)), "{what}");
        assert_eq!(what.starts_with("expected "), what.contains(", found "), "{what}");
        if let Some(hint) = error.hint() {
            let first = hint.chars().next().unwrap();
            assert!(!first.is_uppercase() && !hint.ends_with('.'), "{hint}");
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for kind in Kind::ALL {
        assert!(examples.iter().any(|(other, ..)| *other == kind), "no example of {kind:?}");
    }
}

/// Ports, seconds and free space differ each time.
fn without_numbers(text: &str) -> String {
    let (mut short, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(|sign: char| sign.is_ascii_digit()) {
        let digits = rest[at..].chars().take_while(|sign| sign.is_ascii_digit() || *sign == '.').count();
        let (before, number) = (&rest[..at], &rest[at..at + digits]);
        short.push_str(before);
        short.push_str(match before {
            _ if short.ends_with("127.0.0.1:") => "PORT",
            _ if number.len() > 7 && number != "127.0.0.1" => "N",
            _ if number.contains('.') && number != "127.0.0.1" => "N",
            _ => number,
        });
        rest = &rest[at + digits..];
    }
    short + rest
}

/// Damage says which file and which byte, in the text and as data.
#[test]
fn damage_has_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let stream = std::fs::read(super::golden::folder().join("deletes/full.badger")).unwrap();
    let cut = folder.path().join("cut.badger");
    put(&cut, &stream[..50]);
    let options = verify::Options { paths: vec![cut.clone()], ..Default::default() };
    let report = block_on(verify::run(options, Progress::new())).unwrap();
    let finding = report.findings.iter().find(|finding| finding.level == verify::Severity::Error).unwrap();
    let error = finding.to_error();
    assert_eq!((error.kind(), error.path(), error.offset()), (Kind::Damaged, Some(&*cut), finding.offset));
    assert!(error.offset().is_some_and(|offset| offset <= 50), "{error}");
    assert!(error.to_string().starts_with(&format!("{}: expected ", cut.display())), "{error}");
    assert!(error.to_string().contains(&format!("at byte {}", error.offset().unwrap())), "{error}");
}
