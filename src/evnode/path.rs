//! Keys are slash paths, and pass through Go's `path.Clean` (`ds.NewKey`).

/// Go's `path.Clean` of a path that begins with a slash: no empty elements, no `.`, and `..` takes the element before it along.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut elements: Vec<&[u8]> = Vec::new();
    for element in path.split(|byte| *byte == b'/') {
        match element {
            b"" | b"." => {}
            b".." => {
                elements.pop();
            }
            _ => elements.push(element),
        }
    }
    let mut cleaned = vec![b'/'];
    cleaned.extend_from_slice(&elements.join(&b'/'));
    cleaned
}

/// The key of the metadata under `name`, as the node makes it. The name is part of a path, so that `../h/7` names a header; no name leaves
/// the main store.
///
/// ```
/// use evbackup::evnode::path::metadata;
///
/// assert_eq!(metadata("gdh"), b"/0/m/gdh");
/// assert_eq!(metadata("../../batches/1"), b"/0/batches/1");
/// ```
pub fn metadata(name: &str) -> Vec<u8> {
    [b"/0", &*clean(&[b"/m/", name.as_bytes()].concat())].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cleaned_and_stays_in_the_main_store() {
        for (name, key) in [
            ("d", "/0/m/d"),
            ("rhb/7/h", "/0/m/rhb/7/h"),
            ("../h/7", "/0/h/7"),
            ("../../batches/8000000000000000", "/0/batches/8000000000000000"),
            ("../../../../t", "/0/t"),
            ("a//./b/", "/0/m/a/b"),
            ("", "/0/m"),
        ] {
            assert_eq!(metadata(name), key.as_bytes(), "{name}");
        }
    }
}
