"""What results promise: frozen, equal, picklable, short in a shell, a table in a notebook, JSON types as a dict."""

import dataclasses
import json
import os
import pickle
from pathlib import Path

import pytest

from evbackup import (
    Applied,
    Backup,
    ChainInfo,
    ChainReport,
    DamagedError,
    DatastoreInfo,
    FamilyCount,
    Finding,
    Mark,
    MismatchError,
    Report,
    Restored,
    Result,
    RuleCount,
    Segment,
)
from evbackup._results import size

BACKUP = Backup(
    path=Path("full.badger"),
    kind="full",
    via="rpc",
    lacks=(),
    bytes=1_500_000,
    entries=1200,
    since_version=0,
    last_version=90,
    complete_version=88,
    next_since=88,
    announced_height=40,
    tip_height=41,
    complete_height=40,
    deletes="derived",
    sha256="00ff",
    elapsed_s=1.5,
    source="node:7331",
    notes=("a <note>",),
)
ERROR = Finding("error", "order", "expected a, found b", Path("full.badger"), 12, "0a", None, "take a new backup")
WARNING = Finding("warning", "undigested", "no manifest", Path("inc.badger"))
REPORT = Report(
    ok=False,
    level="full",
    findings=(WARNING, ERROR),
    segments=(Path("full.badger"),),
    bytes=10,
    entries=None,
    last_version=9,
    complete_version=None,
    announced_height=0,
    tip_height=0,
    complete_height=0,
    deletes="unknown",
    elapsed_s=0.1,
)


def filled(cls: type[Result]) -> Result:
    """One of a class, whatever its fields mean."""
    values = {
        field.name: () if "tuple" in str(field.type) else Path("p") if "Path" in str(field.type) else 1
        for field in dataclasses.fields(cls)
    }
    return cls(**values)


CHAIN = ChainReport(
    chain_id="sample-1",
    generation="F",
    releases="v1.2.0 or later",
    initial_height=1,
    base=12,
    tip=1205,
    complete_height=1203,
    marks=(Mark("lst-prnd-b", 11),),
    families=(FamilyCount("headers", 1194, 270_000),),
    blocks=1194,
    signatures=1194,
    torn=(1204, 1205),
    rules=(RuleCount("block-signature", 9, 3, 0, 0),),
)
OTHERS = (Restored, Applied, Segment, DatastoreInfo, ChainInfo, ChainReport, Mark, FamilyCount, RuleCount)
ALL = [BACKUP, REPORT, ERROR, CHAIN, *map(filled, OTHERS)]


@pytest.mark.parametrize("result", ALL, ids=lambda result: type(result).__name__)
def test_every_result(result: Result) -> None:
    assert pickle.loads(pickle.dumps(result)) == result
    assert len(repr(result)) < 160
    assert "\n" not in repr(result)
    assert result._repr_html_().startswith("<table ")
    json.dumps(result.as_dict(), allow_nan=False)
    assert list(result.as_dict()) == [field.name for field in dataclasses.fields(result)]
    field = dataclasses.fields(result)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, field, None)
    assert result != dataclasses.replace(result, **{field: "another"})


def test_results_come_from_what_the_native_module_gives() -> None:
    assert Backup._of(BACKUP.as_dict()) == BACKUP
    assert Report._of(REPORT.as_dict()) == REPORT
    checked = dataclasses.replace(REPORT, chain=CHAIN)
    assert Report._of(json.loads(json.dumps(checked.as_dict()))) == checked
    with pytest.raises(TypeError):
        Backup._of({**BACKUP.as_dict(), "unheard_of": 1})


def test_a_backup_is_a_path() -> None:
    assert os.fspath(BACKUP) == "full.badger"
    with pytest.raises(TypeError, match="standard output"):
        os.fspath(dataclasses.replace(BACKUP, path=None))


def test_texts() -> None:
    assert repr(BACKUP) == "<Backup full full.badger: 1.5 MB, 1,200 entries, height 40>"
    assert repr(CHAIN) == (
        "<ChainReport sample-1 (v1.2.0 or later): blocks 12 to 1,203 whole, 1,194 signatures verified>"
    )
    assert repr(REPORT) == "<Report 1 error, 1 warning: 1 segment, 10 B>"
    assert str(ERROR) == "full.badger: expected a, found b at byte 12"
    assert "a &lt;note&gt;" in BACKUP._repr_html_()
    assert [size(count) for count in (0, 999, 1000, 999_600, 1_230_000, 5e15)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1 MB",
        "1.23 MB",
        "5 PB",
    ]


def test_a_report_is_neither_true_nor_false() -> None:
    with pytest.raises(TypeError, match=r"\.ok"):
        bool(REPORT)


def test_a_report_raises_for_errors_and_if_asked_for_warnings() -> None:
    with pytest.raises(DamagedError, match="expected a, found b") as caught:
        REPORT.raise_for_findings()
    assert (caught.value.path, caught.value.offset, caught.value.hint) == (Path("full.badger"), 12, "take a new backup")
    sound = dataclasses.replace(REPORT, ok=True, findings=(WARNING,))
    assert sound.raise_for_findings() is sound
    with pytest.raises(DamagedError, match="no manifest"):
        sound.raise_for_findings(strict=True)


def test_what_only_does_not_belong_together_is_a_mismatch() -> None:
    foreign = Finding("error", "genesis", "expected a, found b", Path("full.badger"), kind="mismatch")
    with pytest.raises(MismatchError, match="expected a, found b"):
        dataclasses.replace(REPORT, findings=(foreign,)).raise_for_findings()
    with pytest.raises(DamagedError):
        dataclasses.replace(REPORT, findings=(foreign, ERROR)).raise_for_findings()


def test_a_notebook_shows_the_first_of_many() -> None:
    many = Applied(**{**vars(filled(Applied)), "notes": tuple(f"note {number:04}" for number in range(8760))})
    html = many._repr_html_()
    assert len(html) < 10_000
    assert "note 0019" in html
    assert "and 8,740 more" in html
