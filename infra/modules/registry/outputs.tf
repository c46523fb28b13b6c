output "id" {
  description = "The registry."
  value       = azurerm_container_registry.this.id
}

output "login_server" {
  description = "Address of its images."
  value       = azurerm_container_registry.this.login_server
}
