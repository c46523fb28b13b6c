# One environment: everything that the manifests in kuberay/ find on Azure. Read top to bottom, a module per concern.

data "azurerm_client_config" "current" {}

locals {
  label     = "${var.name}-${var.environment}"
  compact   = "${var.name}${var.environment}" # storage accounts and registries take letters and digits only
  namespace = "attrition-${var.environment}"
  tags      = merge(var.tags, { application = "attrition", environment = var.environment })
}

resource "azurerm_resource_group" "this" {
  name     = local.label
  location = var.location
  tags     = local.tags
}

module "network" {
  source = "./modules/network"

  label               = local.label
  location            = var.location
  resource_group_name = azurerm_resource_group.this.name
  address_space       = var.address_space
  zones               = var.zones
  tags                = local.tags
}

module "observability" {
  source = "./modules/observability"

  label               = local.label
  location            = var.location
  resource_group_name = azurerm_resource_group.this.name
  resource_group_id   = azurerm_resource_group.this.id
  log_retention_days  = var.log_retention_days
  alert_emails        = var.alert_emails
  monthly_budget      = var.monthly_budget
  budget_start        = var.budget_start
  grafana_admin_group = var.admin_group_id
  cluster_id          = module.cluster.id
  cluster_name        = module.cluster.name
  diagnosed = {
    cluster  = module.cluster.id
    vault    = module.vault.id
    database = module.database.id
    registry = module.registry.id
    blobs    = "${module.storage.id}/blobServices/default"
  }
  tags = local.tags
}

module "vault" {
  source = "./modules/vault"

  label               = local.label
  location            = var.location
  resource_group_name = azurerm_resource_group.this.name
  tenant_id           = data.azurerm_client_config.current.tenant_id
  operator_object_id  = data.azurerm_client_config.current.object_id
  operator_ip_ranges  = var.operator_ip_ranges
  subnet_id           = module.network.endpoints_subnet_id
  dns_zone_id         = module.network.dns_zone_ids["vault"]
  tags                = local.tags
}

module "registry" {
  source = "./modules/registry"

  name                = local.compact
  location            = var.location
  resource_group_name = azurerm_resource_group.this.name
  operator_ip_ranges  = var.operator_ip_ranges
  subnet_id           = module.network.endpoints_subnet_id
  dns_zone_id         = module.network.dns_zone_ids["registry"]
  key_id              = module.vault.key_id
  key_identity_id     = module.vault.key_identity_id
  key_client_id       = module.vault.key_client_id
  zone_redundant      = length(var.zones) > 1
  tags                = local.tags
}

module "storage" {
  source = "./modules/storage"

  name                   = local.compact
  location               = var.location
  resource_group_name    = azurerm_resource_group.this.name
  replication            = var.replication
  audit_retention_days   = var.audit_retention_days
  audit_retention_locked = var.audit_retention_locked
  subnet_id              = module.network.endpoints_subnet_id
  dns_zone_ids           = { blob = module.network.dns_zone_ids["blob"], dfs = module.network.dns_zone_ids["dfs"] }
  vault_id               = module.vault.id
  key_name               = module.vault.key_name
  key_identity_id        = module.vault.key_identity_id
  tags                   = local.tags
}

module "database" {
  source = "./modules/database"

  label               = local.label
  location            = var.location
  resource_group_name = azurerm_resource_group.this.name
  sku_name            = var.database.sku_name
  storage_mb          = var.database.storage_mb
  high_availability   = var.database.high_availability && length(var.zones) > 1
  zones               = var.zones
  backup_days         = var.database.backup_days
  geo_backup          = startswith(var.replication, "G")
  subnet_id           = module.network.database_subnet_id
  dns_zone_id         = module.network.dns_zone_ids["database"]
  tenant_id           = data.azurerm_client_config.current.tenant_id
  vault_id            = module.vault.id
  key_id              = module.vault.key_id
  key_identity_id     = module.vault.key_identity_id
  tags                = local.tags

  depends_on = [module.vault, module.network]
}

module "cluster" {
  source = "./modules/cluster"

  label                  = local.label
  location               = var.location
  resource_group_name    = azurerm_resource_group.this.name
  kubernetes_version     = var.kubernetes_version
  zones                  = var.zones
  system_pool            = var.system_pool
  serving_pool           = var.serving_pool
  tuning_pool            = var.tuning_pool
  subnet_id              = module.network.nodes_subnet_id
  operator_ip_ranges     = var.operator_ip_ranges
  admin_group_id         = var.admin_group_id
  disk_encryption_set_id = module.vault.disk_encryption_set_id
  registry_id            = module.registry.id
  log_workspace_id       = module.observability.log_workspace_id
  tags                   = local.tags

  depends_on = [module.network]
}

module "identity" {
  source = "./modules/identity"

  label               = local.label
  location            = var.location
  resource_group_name = azurerm_resource_group.this.name
  namespace           = local.namespace
  issuer_url          = module.cluster.oidc_issuer_url
  containers          = module.storage.containers
  vault_id            = module.vault.id
  cluster_id          = module.cluster.id
  registry_id         = module.registry.id
  deployer_group_id   = var.deployer_group_id
  github_repository   = var.github_repository
  environment         = var.environment
  tags                = local.tags
}

module "addons" {
  source = "./modules/addons"

  label                  = local.label
  location               = var.location
  resource_group_name    = azurerm_resource_group.this.name
  node_resource_group_id = module.cluster.node_resource_group_id
  issuer_url             = module.cluster.oidc_issuer_url
  gateway_subnet_id      = module.network.gateway_subnet_id
  tags                   = local.tags

  depends_on = [module.cluster]
}
