output "id" {
  description = "The server."
  value       = azurerm_postgresql_flexible_server.this.id
}

output "host" {
  description = "Its host name."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}
