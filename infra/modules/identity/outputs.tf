output "client_ids" {
  description = "Client ids of the workloads' identities, by name: ray, tuning, mlflow, redis, jobs."
  value       = { for name, identity in azurerm_user_assigned_identity.workload : name => identity.client_id }
}

output "pipeline_client_id" {
  description = "Client id of the pipeline's identity; null without a repository."
  value       = one(azurerm_user_assigned_identity.pipeline[*].client_id)
}
