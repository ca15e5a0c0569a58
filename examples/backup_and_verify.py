"""Takes a full backup, proves it, and says what it holds.

python examples/backup_and_verify.py node:7331 full.badger
"""
# ruff: noqa: T201, INP001  # a script that people run and read

import sys

import evbackup


def main() -> int:
    """Backs up the first argument into the second."""
    addr, segment = sys.argv[1:]
    try:
        full = evbackup.backup(addr, segment, progress=True)
        report = evbackup.verify(full).raise_for_findings()
    except evbackup.EvbackupError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        if error.hint:
            print(f"what to do: {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"{full.path}: {full.entries} entries, complete to version {full.complete_version}")
    print(f"block {full.complete_height} is whole; deletes are {full.deletes}")
    for warning in report.warnings:
        print(f"warning: {warning}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
