# Who may do what on Azure. Every Kubernetes service account of kuberay/ has an identity of its own, federated: a pod
# shows its token, and no secret exists. An identity gets the containers and secrets that its pods use, nothing more.

locals {
  # service account attrition-NAME -> containers that it writes, containers that it reads, secrets that it mounts
  workloads = {
    ray = {
      writes = ["tables", "bundles", "audit"]
      reads  = []
      secrets = [
        "ray-auth-token", "redis-password", "database-url", "person-keys-url", "pseudonym-key", "audit-key",
        "automation-api-key", "certifier-api-key", "alert-urls",
      ]
    }
    tuning = {
      writes  = ["bundles"]
      reads   = ["tables"]
      secrets = ["tuning-auth-token", "tuning-api-key", "database-url"]
    }
    mlflow = { writes = ["mlflow"], reads = [], secrets = ["mlflow-database-url"] }
    redis  = { writes = [], reads = [], secrets = ["redis-password"] }
    jobs   = { writes = [], reads = [], secrets = ["ray-auth-token"] }
  }

  grants = merge(
    merge([for name, work in local.workloads : {
      for container in work.writes : "${name} writes ${container}" => [name, "Storage Blob Data Contributor", var.containers[container]]
    }]...),
    merge([for name, work in local.workloads : {
      for container in work.reads : "${name} reads ${container}" => [name, "Storage Blob Data Reader", var.containers[container]]
    }]...),
    merge([for name, work in local.workloads : {
      for secret in work.secrets : "${name} mounts ${secret}" => [name, "Key Vault Secrets User", "${var.vault_id}/secrets/${secret}"]
    }]...),
  )
}

resource "azurerm_user_assigned_identity" "workload" {
  for_each = local.workloads

  name                = "${var.label}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "workload" {
  for_each = local.workloads

  name                = "kubernetes"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.workload[each.key].id
  issuer              = var.issuer_url
  audience            = ["api://AzureADTokenExchange"]
  subject             = "system:serviceaccount:${var.namespace}:attrition-${each.key}"
}

resource "azurerm_role_assignment" "workload" {
  for_each = local.grants

  principal_id         = azurerm_user_assigned_identity.workload[each.value[0]].principal_id
  principal_type       = "ServicePrincipal"
  role_definition_name = each.value[1]
  scope                = each.value[2]
}

# People deploy to the namespace, and only there.
resource "azurerm_role_assignment" "deployers" {
  for_each = {
    namespace = ["Azure Kubernetes Service RBAC Writer", "${var.cluster_id}/namespaces/${var.namespace}"]
    access    = ["Azure Kubernetes Service Cluster User Role", var.cluster_id]
    images    = ["AcrPush", var.registry_id]
  }

  principal_id         = var.deployer_group_id
  principal_type       = "Group"
  role_definition_name = each.value[0]
  scope                = each.value[1]
}

# The pipeline: the workflows of one GitHub environment, which people must approve there.
resource "azurerm_user_assigned_identity" "pipeline" {
  count = var.github_repository == null ? 0 : 1

  name                = "${var.label}-pipeline"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "pipeline" {
  count = var.github_repository == null ? 0 : 1

  name                = "github"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.pipeline[0].id
  issuer              = "https://token.actions.githubusercontent.com"
  audience            = ["api://AzureADTokenExchange"]
  subject             = "repo:${var.github_repository}:environment:${var.environment}"
}

resource "azurerm_role_assignment" "pipeline" {
  for_each = var.github_repository == null ? {} : {
    namespace = ["Azure Kubernetes Service RBAC Writer", "${var.cluster_id}/namespaces/${var.namespace}"]
    access    = ["Azure Kubernetes Service Cluster User Role", var.cluster_id]
    images    = ["AcrPush", var.registry_id]
  }

  principal_id         = azurerm_user_assigned_identity.pipeline[0].principal_id
  principal_type       = "ServicePrincipal"
  role_definition_name = each.value[0]
  scope                = each.value[1]
}
