output "log_workspace_id" {
  description = "Log Analytics workspace."
  value       = azurerm_log_analytics_workspace.this.id
}

output "prometheus_query_url" {
  description = "Where Prometheus is asked."
  value       = azurerm_monitor_workspace.this.query_endpoint
}

output "grafana_url" {
  description = "Grafana."
  value       = azurerm_dashboard_grafana.this.endpoint
}
