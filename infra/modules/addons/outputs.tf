output "gateway_fqdn" {
  description = "DNS name of the way in."
  value       = azurerm_application_load_balancer_frontend.this.fully_qualified_domain_name
}

output "gateway_id" {
  description = "The load balancer, for the annotation of Ingress objects."
  value       = azurerm_application_load_balancer.this.id
}
