output "nodes_subnet_id" {
  description = "Subnet of the nodes; it has its way out."
  value       = azurerm_subnet_nat_gateway_association.nodes.subnet_id
}

output "endpoints_subnet_id" {
  description = "Subnet of private endpoints."
  value       = azurerm_subnet.endpoints.id
}

output "gateway_subnet_id" {
  description = "Subnet of the application gateway."
  value       = azurerm_subnet.gateway.id
}

output "database_subnet_id" {
  description = "Subnet delegated to PostgreSQL."
  value       = azurerm_subnet.database.id
}

output "endpoints_cidr" {
  description = "Range of the private endpoints."
  value       = local.endpoints
}

output "gateway_cidr" {
  description = "Range that clients' requests come from."
  value       = local.gateway
}

output "dns_zone_ids" {
  description = "Private DNS zones by service: vault, registry, blob, dfs, database."
  value       = { for name, zone in azurerm_private_dns_zone.this : name => zone.id }
}
