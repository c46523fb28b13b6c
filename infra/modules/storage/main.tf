# One account with a hierarchical namespace: the Delta tables, model bundles, MLflow's artifacts and the audit exports.
# Nobody reaches it from the internet, and nobody by a shared key.

locals {
  containers = toset(["tables", "bundles", "mlflow", "audit"])
}

resource "azurerm_storage_account" "this" {
  #checkov:skip=CKV_AZURE_33:no queues: nothing to log
  name                              = var.name
  location                          = var.location
  resource_group_name               = var.resource_group_name
  account_tier                      = "Standard"
  account_kind                      = "StorageV2"
  account_replication_type          = var.replication
  is_hns_enabled                    = true
  infrastructure_encryption_enabled = true
  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  public_network_access_enabled     = false
  shared_access_key_enabled         = false
  default_to_oauth_authentication   = true
  allow_nested_items_to_be_public   = false
  cross_tenant_replication_enabled  = false
  allowed_copy_scope                = "AAD"
  local_user_enabled                = false
  tags                              = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [var.key_identity_id]
  }

  sas_policy {
    expiration_period = "00.01:00:00" # days.hours:minutes:seconds
    expiration_action = "Block"
  }

  # An erased person is gone when vacuum has deleted the files and these days are over: see README.md, erasure.
  blob_properties {
    delete_retention_policy {
      days = 7
    }
    container_delete_retention_policy {
      days = 7
    }
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [customer_managed_key] # the next resource has it
  }
}

resource "azurerm_storage_account_customer_managed_key" "this" {
  storage_account_id        = azurerm_storage_account.this.id
  key_vault_id              = var.vault_id
  key_name                  = var.key_name
  user_assigned_identity_id = var.key_identity_id
}

resource "azurerm_storage_container" "this" {
  #checkov:skip=CKV2_AZURE_21:logged by the diagnostic setting of the blob service, see the module observability
  for_each = local.containers

  name                  = each.key
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

resource "azurerm_storage_container_immutability_policy" "audit" {
  storage_container_resource_manager_id = azurerm_storage_container.this["audit"].resource_manager_id
  immutability_period_in_days           = var.audit_retention_days
  protected_append_writes_all_enabled   = false # an export is a file that is complete
  locked                                = var.audit_retention_locked
}

resource "azurerm_storage_management_policy" "this" {
  storage_account_id = azurerm_storage_account.this.id

  rule {
    name    = "old-audit-is-cold"
    enabled = true
    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["audit/"]
    }
    actions {
      base_blob {
        tier_to_cool_after_days_since_modification_greater_than = 30
        tier_to_cold_after_days_since_modification_greater_than = 180
      }
    }
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each = var.dns_zone_ids

  name                = "${var.name}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  subnet_id           = var.subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = azurerm_storage_account.this.id
    subresource_names              = [each.key]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = each.key
    private_dns_zone_ids = [each.value]
  }
}
