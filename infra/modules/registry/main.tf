# Images: pulled by the nodes over the private endpoint, pushed by the pipeline.

resource "azurerm_container_registry" "this" {
  #checkov:skip=CKV_AZURE_233:follows the zones of the region
  #checkov:skip=CKV_AZURE_164:content trust is deprecated by Azure; the pipeline deploys by digest
  #checkov:skip=CKV_AZURE_165:one region is one environment; a second region has its own registry
  #checkov:skip=CKV_AZURE_166:quarantine needs a subscriber that releases images; the pipeline scans before it pushes
  name                          = var.name
  location                      = var.location
  resource_group_name           = var.resource_group_name
  sku                           = "Premium"
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  data_endpoint_enabled         = true
  export_policy_enabled         = length(var.operator_ip_ranges) > 0 # may be closed only together with the public address
  public_network_access_enabled = length(var.operator_ip_ranges) > 0
  network_rule_bypass_option    = "AzureServices"
  retention_policy_in_days      = 30
  zone_redundancy_enabled       = var.zone_redundant
  tags                          = var.tags

  network_rule_set {
    default_action = "Deny"

    dynamic "ip_rule" {
      for_each = var.operator_ip_ranges
      content {
        action   = "Allow"
        ip_range = ip_rule.value
      }
    }
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [var.key_identity_id]
  }

  encryption {
    key_vault_key_id   = var.key_id
    identity_client_id = var.key_client_id
  }
}

resource "azurerm_private_endpoint" "this" {
  name                = "${var.name}-registry"
  location            = var.location
  resource_group_name = var.resource_group_name
  subnet_id           = var.subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = "registry"
    private_connection_resource_id = azurerm_container_registry.this.id
    subresource_names              = ["registry"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "registry"
    private_dns_zone_ids = [var.dns_zone_id]
  }
}
