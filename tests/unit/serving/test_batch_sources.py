"""Where an input lies: paths, URIs, and addresses of Azure up to the file system that would be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from attrition.data import addresses
from attrition.data.addresses import filesystem_of, local_or_address
from attrition.errors import NotFound, UsageError
from attrition.serving.batch_sources import look_at, open_source

ADDRESS = "abfss://hr@account.dfs.core.windows.net/extracts/2026 07"


@pytest.mark.parametrize("text", ["data/in.csv", "/data/in.csv", Path("in.csv"), "a:b.csv"])
def test_paths_stay_paths(text):
    """Whatever has no scheme."""
    assert local_or_address(text) == Path(text)


@pytest.mark.parametrize("uri", ["file:///data/a%20b.csv", "file:/data/a%20b.csv", "file://localhost/data/a%20b.csv"])
def test_file_uris_are_paths(uri):
    """In every way to write them."""
    assert local_or_address(uri) == Path("/data/a b.csv")


@pytest.mark.parametrize(
    "uri",
    [
        "file://server/data/in.csv",
        "s3://bucket/in.csv",
        "https://example.org/in.csv?sig=s3cret",
        "abfss://hr:s3cret@account.dfs.core.windows.net/in.csv",
        "abfss://hr@account.dfs.core.windows.net/in.csv?sig=s3cret",
    ],
)
def test_other_addresses_are_refused(uri):
    """And a secret is not repeated."""
    with pytest.raises(UsageError) as error:
        local_or_address(uri)
    assert "s3cret" not in str(error.value)


def test_an_address_selects_azure():
    """Container and path as Arrow wants them; nothing is asked over the network."""
    assert local_or_address(ADDRESS + "/") == ADDRESS
    system, path = filesystem_of(ADDRESS.replace(" ", "%20"))
    assert isinstance(system, fs.AzureFileSystem)
    assert path == "hr/extracts/2026 07"
    with pytest.raises(UsageError, match="no address of a storage account"):
        filesystem_of("abfss://nonsense")


def test_a_remote_folder_is_listed_and_read_by_address(tmp_path, monkeypatch):
    """What a listing returns can be opened again; the local disk stands in for the account, nothing else."""
    (tmp_path / "hr" / "extracts" / "part 1").mkdir(parents=True)
    (tmp_path / "hr" / "extracts" / "part 1" / "a.csv").write_text("x\n1\n")
    account = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    real = filesystem_of
    monkeypatch.setattr(addresses, "filesystem_of", lambda address: (account, real(address)[1]))
    tree = look_at("abfss://hr@account.dfs.core.windows.net/extracts")
    (file,) = tree.files
    assert tree.is_folder
    assert file.path == "abfss://hr@account.dfs.core.windows.net/extracts/part%201/a.csv"
    assert (file.relative, file.name, file.size) == ("part 1/a.csv", "a.csv", 4)
    with open_source(file.path) as content:
        assert content.read() == b"x\n1\n"
    with pytest.raises(NotFound):
        look_at("abfss://hr@account.dfs.core.windows.net/nothing")
