output "id" {
  description = "The account."
  value       = azurerm_storage_account.this.id
}

output "name" {
  description = "Its name."
  value       = azurerm_storage_account.this.name
}

output "containers" {
  description = "Resource ids of the containers, by name."
  value       = { for name, container in azurerm_storage_container.this : name => container.resource_manager_id }
}
