output "id" {
  description = "The cluster."
  value       = azurerm_kubernetes_cluster.this.id
}

output "name" {
  description = "Its name."
  value       = azurerm_kubernetes_cluster.this.name
}

output "oidc_issuer_url" {
  description = "Issuer of the service accounts' tokens."
  value       = azurerm_kubernetes_cluster.this.oidc_issuer_url
}

output "node_resource_group_id" {
  description = "Resource group of the nodes."
  value       = azurerm_kubernetes_cluster.this.node_resource_group_id
}

output "host" {
  description = "Address of the Kubernetes API."
  value       = azurerm_kubernetes_cluster.this.kube_config[0].host
}

output "ca_certificate" {
  description = "Its certificate authority, Base64."
  value       = azurerm_kubernetes_cluster.this.kube_config[0].cluster_ca_certificate
}
