output "id" {
  description = "The vault."
  value       = azurerm_key_vault.this.id
}

output "name" {
  description = "Its name."
  value       = azurerm_key_vault.this.name
}

output "key_id" {
  description = "The customer-managed key, without a version: services follow its rotation."
  value       = azurerm_key_vault_key.this.versionless_id
}

output "key_name" {
  description = "Name of that key."
  value       = azurerm_key_vault_key.this.name
}

output "key_identity_id" {
  description = "Identity by which services use the key; known once it may."
  value       = azurerm_user_assigned_identity.key.id

  depends_on = [azurerm_role_assignment.key]
}

output "key_client_id" {
  description = "Client id of that identity."
  value       = azurerm_user_assigned_identity.key.client_id
}

output "disk_encryption_set_id" {
  description = "Encrypts the disks of nodes and volumes."
  value       = azurerm_disk_encryption_set.this.id
}
