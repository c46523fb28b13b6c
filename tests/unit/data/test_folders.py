"""What lies at an address, on this machine for as long as it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from attrition.data import addresses
from attrition.data.folders import StoreFolder, fetched

PLACE = "abfss://extracts@account.dfs.core.windows.net"


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A folder that stands for a container, whatever the account."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    system = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(addresses, "filesystem_of", lambda address: (system, address.removeprefix(PLACE).lstrip("/")))
    return tmp_path


def test_a_path_is_itself(tmp_path):
    """Nothing is copied, and nothing deleted."""
    with fetched(tmp_path) as here:
        assert here == tmp_path
    assert tmp_path.exists()


def test_a_file_at_an_address(container):
    """A copy under its name, which the message about a bad row needs; gone afterwards."""
    (container / "in").mkdir()
    (container / "in" / "hr.csv").write_bytes(b"a,b\n1,2\n")
    with fetched(f"{PLACE}/in/hr.csv") as here:
        assert here.name == "hr.csv"
        assert here.read_bytes() == b"a,b\n1,2\n"
        assert here.parent.stat().st_mode & 0o077 == 0
    assert not here.exists()


def test_a_folder_at_an_address(container):
    """With everything below it."""
    (container / "in" / "part").mkdir(parents=True)
    (container / "in" / "0.parquet").write_bytes(b"0")
    (container / "in" / "part" / "1.parquet").write_bytes(b"1")
    with fetched(f"{PLACE}/in") as here:
        found = {str(path.relative_to(here)): path.read_bytes() for path in here.rglob("*.parquet")}
    assert found == {"0.parquet": b"0", str(Path("part") / "1.parquet"): b"1"}


def test_nothing_at_an_address(container):
    """Nothing at the path, either: whoever reads it says so."""
    with fetched(f"{PLACE}/in") as here:
        assert not here.exists()


def test_what_is_uploaded_is_readable_for_its_owner_only(container):
    """While it is made, and it is gone when it was uploaded."""
    folder = StoreFolder(f"{PLACE}")
    scratch = folder.scratch()
    assert not scratch.exists()
    assert scratch.parent.stat().st_mode & 0o077 == 0
    scratch.write_bytes(b"scores")
    folder.adopt(scratch, "out.csv")
    assert ((container / "out.csv").read_bytes(), scratch.exists()) == (b"scores", False)
