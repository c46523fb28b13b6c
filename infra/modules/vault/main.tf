# The vault: one customer-managed key that encrypts disks, storage, registry and database, and the secrets of the pods.
# Secrets that can be drawn are drawn here and written without passing through the state; the others are set by the
# operator: README.md lists them.

resource "azurerm_key_vault" "this" {
  #checkov:skip=CKV_AZURE_189:closed unless operator_ip_ranges names who may reach it; everybody else is denied
  name                          = var.label
  location                      = var.location
  resource_group_name           = var.resource_group_name
  tenant_id                     = var.tenant_id
  sku_name                      = "premium" # keys in hardware
  rbac_authorization_enabled    = true
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90
  enabled_for_disk_encryption   = true
  public_network_access_enabled = length(var.operator_ip_ranges) > 0
  tags                          = var.tags

  network_acls {
    default_action = "Deny"
    bypass         = "AzureServices"
    ip_rules       = var.operator_ip_ranges
  }
}

resource "azurerm_private_endpoint" "vault" {
  name                = "${var.label}-vault"
  location            = var.location
  resource_group_name = var.resource_group_name
  subnet_id           = var.subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = "vault"
    private_connection_resource_id = azurerm_key_vault.this.id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "vault"
    private_dns_zone_ids = [var.dns_zone_id]
  }
}

resource "azurerm_role_assignment" "operator" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Administrator"
  principal_id         = var.operator_object_id
}

resource "azurerm_key_vault_key" "this" {
  #checkov:skip=CKV_AZURE_40:the rotation policy expires versions after two years
  name         = "encryption"
  key_vault_id = azurerm_key_vault.this.id
  key_type     = "RSA-HSM"
  key_size     = 3072
  key_opts     = ["wrapKey", "unwrapKey"]

  rotation_policy {
    expire_after         = "P2Y"
    notify_before_expiry = "P60D"
    automatic {
      time_before_expiry = "P90D"
    }
  }

  depends_on = [azurerm_role_assignment.operator]
}

resource "azurerm_user_assigned_identity" "key" {
  name                = "${var.label}-key"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_role_assignment" "key" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = azurerm_user_assigned_identity.key.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_disk_encryption_set" "this" {
  name                      = var.label
  location                  = var.location
  resource_group_name       = var.resource_group_name
  key_vault_key_id          = azurerm_key_vault_key.this.versionless_id
  auto_key_rotation_enabled = true
  encryption_type           = "EncryptionAtRestWithPlatformAndCustomerKeys"
  tags                      = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.key.id]
  }

  depends_on = [azurerm_role_assignment.key]
}

ephemeral "random_password" "drawn" {
  for_each = local.drawn

  length  = 48
  special = false
}

locals {
  # Raise a number to draw that secret anew.
  drawn = {
    ray-auth-token    = 1
    tuning-auth-token = 1
    redis-password    = 1
  }
}

resource "azurerm_key_vault_secret" "drawn" {
  #checkov:skip=CKV_AZURE_41:rotated by raising its number, see README.md; an expired token would stop the cluster
  for_each = local.drawn

  name             = each.key
  key_vault_id     = azurerm_key_vault.this.id
  content_type     = "drawn by Terraform"
  value_wo         = ephemeral.random_password.drawn[each.key].result
  value_wo_version = each.value

  depends_on = [azurerm_role_assignment.operator]
}
