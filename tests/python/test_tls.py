"""TLS: own roots, client certificates, names; a token only where nobody can read it."""

from pathlib import Path

import pytest
import trustme

import evbackup
from evbackup import Tls
from support import TOKEN


class Files:
    """A certificate authority, a server's certificate and a client's, as files."""

    def __init__(self, folder: Path) -> None:
        authority, foreign = trustme.CA(), trustme.CA()
        self.ca, self.foreign_ca = folder / "ca.pem", folder / "foreign.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        foreign.cert_pem.write_to_path(str(self.foreign_ca))
        self.server = self.issued(folder, "server", authority.issue_cert("127.0.0.1", "node.example"))
        self.client = self.issued(folder, "client", authority.issue_cert("client@node.example"))
        self.foreign = self.issued(folder, "foreign", foreign.issue_cert("client@node.example"))

    @staticmethod
    def issued(folder: Path, name: str, made: trustme.LeafCert) -> tuple[Path, Path]:
        cert, key = folder / f"{name}.cert", folder / f"{name}.key"
        for blob in made.cert_chain_pems:
            blob.write_to_path(str(cert), append=True)
        made.private_key_pem.write_to_path(str(key))
        return cert, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


def test_own_roots_and_a_token(files: Files, sample: Path, tmp_path: Path) -> None:
    with evbackup.serve(
        sample, "127.0.0.1:0", tls=Tls(cert=files.server[0], key=files.server[1]), token=TOKEN
    ) as server:
        addr = f"https://{server.address}"
        assert evbackup.backup(addr, tmp_path / "a", tls=Tls(ca=files.ca), token=TOKEN).entries
        named = Tls(ca=files.ca, server_name="node.example")
        assert evbackup.backup(server.address, tmp_path / "b", tls=named, token=TOKEN).entries
        for wrong in (Tls(ca=files.foreign_ca), Tls(ca=files.ca, server_name="other.example"), None):
            with pytest.raises(evbackup.DeniedError) as caught:
                evbackup.backup(addr, tmp_path / "c", tls=wrong, token=TOKEN)
            assert TOKEN not in f"{caught.value} {caught.value.hint}"
        with pytest.raises(evbackup.EvbackupError):
            evbackup.backup(f"http://{server.address}", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_client_certificates(files: Files, sample: Path, tmp_path: Path) -> None:
    with evbackup.serve(sample, "127.0.0.1:0", tls=Tls(files.ca, *files.server)) as server:
        addr = f"https://{server.address}"
        assert evbackup.backup(addr, tmp_path / "a", tls=Tls(files.ca, *files.client)).entries
        for wrong in (Tls(files.ca), Tls(files.ca, *files.foreign)):
            with pytest.raises(evbackup.EvbackupError) as caught:
                evbackup.backup(addr, tmp_path / "b", tls=wrong)
            assert caught.value.exit_code in {12, 13}


def test_files_that_are_not_there(files: Files, tmp_path: Path) -> None:
    with pytest.raises(evbackup.EvbackupError, match="nowhere.pem"):
        evbackup.backup("https://127.0.0.1:1", tmp_path / "a", tls=Tls(ca=tmp_path / "nowhere.pem"))
    with pytest.raises(evbackup.EvbackupError):
        evbackup.backup("https://127.0.0.1:1", tmp_path / "a", tls=Tls(ca=files.server[1]))


def test_a_token_in_plain_text_stays_at_home(tmp_path: Path) -> None:
    with pytest.raises(evbackup.EvbackupError) as caught:
        evbackup.backup("http://192.0.2.1:7331", tmp_path / "a", token=TOKEN, connect_timeout_s=1)
    assert caught.value.exit_code in {2, 12}
    assert TOKEN not in f"{caught.value} {caught.value.hint}"
