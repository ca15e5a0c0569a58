"""The sources as they lie there."""

from support import ROOT

# What is longer is two things.
LINES = 600


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    files = [
        file
        for folder in ("src", "proto", "python", "tests", "docs", "examples")
        for suffix in ("*.py", "*.pyi", "*.rs")
        for file in (ROOT / folder).rglob(suffix)
    ]
    assert len(files) > 200
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {file: length for file, length in lengths.items() if length > LINES} == {}
