output "kustomize_azure_env" {
  description = "Content of kuberay/environments/ENVIRONMENT/azure.env; nothing in it is secret."
  value = join("\n", [
    "TENANT_ID=${data.azurerm_client_config.current.tenant_id}",
    "KEY_VAULT=${module.vault.name}",
    "RAY_CLIENT_ID=${module.identity.client_ids["ray"]}",
    "TUNING_CLIENT_ID=${module.identity.client_ids["tuning"]}",
    "MLFLOW_CLIENT_ID=${module.identity.client_ids["mlflow"]}",
    "REDIS_CLIENT_ID=${module.identity.client_ids["redis"]}",
    "JOBS_CLIENT_ID=${module.identity.client_ids["jobs"]}",
    "DEPLOYERS_GROUP_ID=${var.deployer_group_id}",
    "PRIVATE_ENDPOINTS_CIDR=${module.network.endpoints_cidr}",
    "GATEWAY_CIDR=${module.network.gateway_cidr}",
    "HOST=${var.host}",
  ])
}

output "kustomize_addresses_env" {
  description = "Content of kuberay/environments/ENVIRONMENT/addresses.env; nothing in it is secret."
  value = join("\n", [
    "ATTRITION_TABLES=abfss://tables@${module.storage.name}.dfs.core.windows.net/attrition",
    "ATTRITION_BUNDLES=abfss://bundles@${module.storage.name}.dfs.core.windows.net/attrition",
    "ATTRITION_AUDIT_EXPORT=abfss://audit@${module.storage.name}.dfs.core.windows.net/attrition",
    "AZURE_STORAGE_ACCOUNT_NAME=${module.storage.name}",
    "AZURE_STORAGE_ANON=false",
    "RAY_PROMETHEUS_HOST=${module.observability.prometheus_query_url}",
    "RAY_GRAFANA_HOST=${module.observability.grafana_url}",
    "RAY_GRAFANA_IFRAME_HOST=${module.observability.grafana_url}",
  ])
}

output "kustomize_mlflow_env" {
  description = "Content of kuberay/environments/ENVIRONMENT/mlflow.env; nothing in it is secret."
  value       = "MLFLOW_ARTIFACTS_DESTINATION=wasbs://mlflow@${module.storage.name}.blob.core.windows.net/artifacts"
}

output "registry" {
  description = "Address that images are pushed to."
  value       = module.registry.login_server
}

output "cluster" {
  description = "Name of the cluster, for az aks get-credentials."
  value       = module.cluster.name
}

output "database_host" {
  description = "Host of the PostgreSQL server, reachable inside the network."
  value       = module.database.host
}

output "key_vault" {
  description = "Name of the Key Vault whose secrets the pods mount."
  value       = module.vault.name
}

output "gateway_frontend" {
  description = "DNS name of the load balancer; point a CNAME record of the host at it."
  value       = module.addons.gateway_fqdn
}

output "pipeline_client_id" {
  description = "AZURE_CLIENT_ID of the GitHub environment; null without a repository."
  value       = module.identity.pipeline_client_id
}
