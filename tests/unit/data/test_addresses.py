"""Addresses of storage accounts."""

from __future__ import annotations

from attrition.data.addresses import filesystem_of


def test_the_emulator_is_found_as_delta_tables_find_it(monkeypatch):
    """By the same variables; the container and the path stay."""
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10000")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    system, path = filesystem_of("abfss://bundles@account.dfs.core.windows.net/attrition/1.0.0")
    assert (system.type_name, path) == ("abfs", "bundles/attrition/1.0.0")
