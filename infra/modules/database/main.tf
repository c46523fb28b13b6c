# PostgreSQL for MLflow, the audit log and the personal keys: three databases on one server, reachable from the nodes
# only. Their own roles, which may do no more than they must, are made by the SQL in README.md; the administrator's
# password serves that once.

ephemeral "random_password" "administrator" {
  length  = 40
  special = false
}

locals {
  password_version = 1 # raise it to change the password
}

resource "azurerm_key_vault_secret" "administrator" {
  #checkov:skip=CKV_AZURE_41:rotated by raising password_version; an expired password would lock the administrator out
  name             = "postgresql-administrator"
  key_vault_id     = var.vault_id
  content_type     = "drawn by Terraform"
  value_wo         = ephemeral.random_password.administrator.result
  value_wo_version = local.password_version
}

resource "azurerm_postgresql_flexible_server" "this" {
  #checkov:skip=CKV_AZURE_136:follows the replication of the storage account
  #checkov:skip=CKV2_AZURE_57:in a delegated subnet of its own, which has no public address either
  name                              = var.label
  location                          = var.location
  resource_group_name               = var.resource_group_name
  version                           = "17"
  sku_name                          = var.sku_name
  storage_mb                        = var.storage_mb
  auto_grow_enabled                 = true
  administrator_login               = "attrition_admin"
  administrator_password_wo         = ephemeral.random_password.administrator.result
  administrator_password_wo_version = local.password_version
  backup_retention_days             = var.backup_days
  geo_redundant_backup_enabled      = var.geo_backup
  delegated_subnet_id               = var.subnet_id
  private_dns_zone_id               = var.dns_zone_id
  public_network_access_enabled     = false
  zone                              = length(var.zones) > 0 ? var.zones[0] : null
  tags                              = var.tags

  authentication {
    password_auth_enabled         = true
    active_directory_auth_enabled = true
    tenant_id                     = var.tenant_id
  }

  dynamic "high_availability" {
    for_each = var.high_availability ? [1] : []
    content {
      mode                      = "ZoneRedundant"
      standby_availability_zone = var.zones[1]
    }
  }

  # The paired region needs a key of its own for backups under a customer-managed key: there the platform's key is used.
  dynamic "customer_managed_key" {
    for_each = var.geo_backup ? [] : [1]
    content {
      key_vault_key_id                  = var.key_id
      primary_user_assigned_identity_id = var.key_identity_id
    }
  }

  dynamic "identity" {
    for_each = var.geo_backup ? [] : [1]
    content {
      type         = "UserAssigned"
      identity_ids = [var.key_identity_id]
    }
  }

  maintenance_window {
    day_of_week  = 0
    start_hour   = 3
    start_minute = 0
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [zone, high_availability[0].standby_availability_zone] # a failover swaps them
  }
}

resource "azurerm_postgresql_flexible_server_database" "this" {
  for_each = toset(["mlflow", "governance", "persons"])

  name      = each.key
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = {
    require_secure_transport     = "on"
    ssl_min_protocol_version     = "TLSv1.2"
    log_checkpoints              = "on"
    log_connections              = "on"
    log_disconnections           = "on"
    "connection_throttle.enable" = "on"
  }

  server_id = azurerm_postgresql_flexible_server.this.id
  name      = each.key
  value     = each.value
}
