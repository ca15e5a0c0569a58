use super::*;
use evbackup::error::{Error, Kind};
use std::path::PathBuf;

/// A small store with an increment in it, closed.
fn sample(path: &Path) -> Vec<OwnedEntry> {
    let first: Vec<_> = (0..200).map(|number| entry(format!("key {number:03}"), 1, [number; 30])).collect();
    let second = vec![entry("key 007", 2, "again"), tombstone("key 100", 2)];
    load(path, &first, pinned(1)).unwrap();
    let mut store = Store::open_for_writing(path).unwrap();
    apply(&mut store, &second, pinned(2)).unwrap();
    sort([first, second].concat())
}

fn files(path: &Path, matches: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|name| name.unwrap().path())
        .filter(|file| matches(file.file_name().unwrap().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

/// Opens the store and reads it in each way.
fn read(path: &Path) -> Result<(Vec<OwnedEntry>, Vec<OwnedEntry>)> {
    let store = Store::open(path)?;
    let snapshot = store.snapshot()?;
    snapshot.get(b"key 150")?;
    Ok((since(&*snapshot, 0)?, since(&*snapshot, 1)?))
}

fn is_plain(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("expected") && !text.ends_with('.') && !text.contains('\n')
}

#[test]
fn a_flipped_byte_gives_an_error_or_the_same_entries() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let entries = sample(&path);
    let sound = read(&path).unwrap();
    assert_eq!(sound.0, entries);
    let mut errors = 0;
    for file in
        files(&path, |name| name.ends_with(".sst") || name == "CURRENT" || name.starts_with("MANIFEST"))
    {
        let bytes = std::fs::read(&file).unwrap();
        let step = (bytes.len() / 400).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x41;
            std::fs::write(&file, &flipped).unwrap();
            match read(&path) {
                Ok(found) => assert_eq!(found, sound, "{} at {at}", file.display()),
                Err(error) => {
                    errors += 1;
                    assert!(
                        matches!(error.kind(), Kind::Damaged | Kind::Unsupported) && is_plain(&error),
                        "{} at {at}: {error:?}",
                        file.display()
                    );
                }
            }
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    assert!(errors > 100, "{errors} errors");
    assert_eq!(read(&path).unwrap(), sound);
}

#[test]
fn a_damaged_block_is_named_by_file_and_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my store");
    sample(&path);
    let table = files(&path, |name| name.ends_with(".sst")).remove(0);
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let error = read(&path).map(drop).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Damaged, Some(&*table)), "{error:?}");
    assert_eq!(error.offset(), Some(0));
    assert!(error.to_string().contains("checksum mismatch"), "{error}");
    let error = Store::open_for_writing(&path).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Damaged, Some(&*table)), "{error:?}");
}

#[test]
fn a_file_that_was_cut_or_is_gone_is_an_error_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    sample(&path);
    let sound = read(&path).unwrap();
    for file in
        files(&path, |name| name.ends_with(".sst") || name == "CURRENT" || name.starts_with("MANIFEST"))
    {
        let bytes = std::fs::read(&file).unwrap();
        let step = (bytes.len() / 60).max(1);
        for length in (0..bytes.len()).step_by(step) {
            std::fs::write(&file, &bytes[..length]).unwrap();
            match read(&path) {
                Ok(found) => assert_eq!(found, sound, "{} cut to {length}", file.display()),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Damaged, "{} cut to {length}: {error:?}", file.display());
                }
            }
        }
        std::fs::remove_file(&file).unwrap();
        let error = read(&path).map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{} gone: {error:?}", file.display());
        std::fs::write(&file, &bytes).unwrap();
    }
    assert_eq!(read(&path).unwrap(), sound);
}

#[test]
fn a_newer_store_is_unsupported_and_other_directories_are_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert_eq!(Store::open(&path).unwrap_err().kind(), Kind::Missing);
    std::fs::create_dir(&path).unwrap();
    assert!(!Store::is_store(&path));
    assert_eq!(Store::open(&path).unwrap_err().kind(), Kind::Missing);
    std::fs::remove_dir(&path).unwrap();
    sample(&path);
    let marker = path.join("EVBACKUP-STORE");
    let text = std::fs::read_to_string(&marker).unwrap();
    assert_eq!(text, "evbackup store\nformat 1\ngeneration 2\n");
    std::fs::write(&marker, text.replace("format 1", "format 2")).unwrap();
    for error in [Store::open(&path).unwrap_err(), Store::open_for_writing(&path).unwrap_err()] {
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().ends_with("expected a store of format 1 or lower, found format 2"));
        assert_eq!(error.hint(), Some("a newer evbackup wrote it: upgrade this one"));
    }
    assert!(Store::is_store(&path));
    std::fs::write(&marker, text.replace("generation 2", "generation 3")).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().ends_with("expected a store of generation 3, found generation 2"), "{error}");
}
