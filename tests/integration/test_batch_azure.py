"""A batch from and to a storage account: Azurite, Azure's own emulator, answers.

Needs ``azurite-blob`` on the path: ``npm install --global azurite``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyarrow import fs, parquet

from attrition.cluster.environment import free_ports, is_taken
from attrition.data import addresses
from attrition.data.folders import LocalFolder, StoreFolder
from attrition.data.schema import FeatureSchema
from attrition.governance.privacy import PseudonymKey
from attrition.registry.bundle import BundleRef
from attrition.serving.batch import plan_batch, run_batch
from attrition.serving.batch_execution import in_threads

pytestmark = pytest.mark.slow

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the emulator; published, the same everywhere."""
CONTAINER = f"abfss://people@{ACCOUNT}.dfs.core.windows.net"


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Arrow's file system of the emulated account, with an empty container."""
    emulator = shutil.which("azurite-blob")
    if emulator is None:
        pytest.skip("azurite-blob is not installed")
    (port,) = free_ports(1)
    options = ["--blobPort", str(port), "--silent", "--inMemoryPersistence", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        [emulator, *options, "--disableTelemetry"], cwd=tmp_path_factory.mktemp("azurite"), stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while not is_taken("127.0.0.1", port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        place = f"127.0.0.1:{port}"
        authorities = {"blob_storage_authority": place, "dfs_storage_authority": place}
        schemes = {"blob_storage_scheme": "http", "dfs_storage_scheme": "http"}
        system = fs.AzureFileSystem(ACCOUNT, account_key=KEY, **authorities, **schemes)
        system.create_dir("people")
        variables = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://{place}"}
        os.environ.update(variables)
        yield system
        for name in variables:
            del os.environ[name]
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(autouse=True)
def emulated(account, monkeypatch):
    """The addresses of the account mean the emulator; in production they say where it is."""

    def of(address):
        parts = urlsplit(address)
        return account, f"{parts.username}{parts.path}"

    monkeypatch.setattr(addresses, "filesystem_of", of)


@pytest.fixture
def source(account):
    """Some employees in the container."""
    schema = FeatureSchema.default()
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({name: rng.integers(1, 5, 2_000).astype(float) for name in schema.names})
    frame["age"] += 30
    frame.insert(0, "employee_id", [f"E{i:05d}" for i in range(len(frame))])
    with account.open_output_stream("people/in/employees.csv") as stream:
        stream.write(frame.to_csv(index=False).encode())
    return f"{CONTAINER}/in"


def uploaded(local):
    """A bundle, copied to the container."""
    address = f"{CONTAINER}/bundles/1.0.0"
    here, there = LocalFolder(Path(local.uri)), StoreFolder(address)
    for name in here.files():
        there.write(name, here.read(name))
    return BundleRef(address, local.version, local.manifest_sha256)


@pytest.mark.parametrize(
    ("name", "as_delta"), [("folder", False), ("table", True), ("one.parquet", False), ("one.csv", False)]
)
def test_scores_in_an_account(account, source, make_bundle, name, as_delta):
    """Read there, scored by a version that lies there, and written there; a Delta table is one that others can read."""
    bundle = uploaded(make_bundle("1.0.0", 1.0))
    target = f"{CONTAINER}/out/{name}"
    result = run_batch(
        plan_batch(source, target, bundle, PseudonymKey.from_hex("5a" * 32), as_delta=as_delta), in_threads
    )
    assert result.n_rows == 2_000
    written = [
        each for each in account.get_file_info(fs.FileSelector("people/out", recursive=True)) if name in each.path
    ]
    assert not [each.path for each in written if ".parts" in each.path]
    if as_delta:
        table = DeltaTable(target)
        assert table.version() == 0
        assert table.count() == 2_000
    elif "." in name:
        with account.open_input_file(f"people/out/{name}") as file:
            rows = pd.read_csv(file) if name.endswith(".csv") else parquet.read_table(file).to_pandas()
        assert len(rows) == rows["employee_id"].nunique() == 2_000
    else:
        assert parquet.read_table(f"people/out/{name}", filesystem=account).num_rows == 2_000
        again = run_batch(plan_batch(source, target, bundle, PseudonymKey.from_hex("5a" * 32)), in_threads)
        assert again.n_resumed == again.n_partitions
