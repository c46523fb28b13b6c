# Metrics go to Managed Prometheus, whose rules are the very files of infra/alerts; logs go to Log Analytics; Grafana
# shows both. A budget warns.

resource "azurerm_log_analytics_workspace" "this" {
  name                         = var.label
  location                     = var.location
  resource_group_name          = var.resource_group_name
  sku                          = "PerGB2018"
  retention_in_days            = var.log_retention_days
  local_authentication_enabled = false
  tags                         = var.tags
}

resource "azurerm_monitor_workspace" "this" {
  name                = var.label
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_monitor_data_collection_endpoint" "this" {
  name                = "${var.label}-metrics"
  location            = var.location
  resource_group_name = var.resource_group_name
  kind                = "Linux"
  tags                = var.tags
}

resource "azurerm_monitor_data_collection_rule" "this" {
  name                        = "${var.label}-metrics"
  location                    = var.location
  resource_group_name         = var.resource_group_name
  kind                        = "Linux"
  data_collection_endpoint_id = azurerm_monitor_data_collection_endpoint.this.id
  tags                        = var.tags

  data_sources {
    prometheus_forwarder {
      name    = "prometheus"
      streams = ["Microsoft-PrometheusMetrics"]
    }
  }

  destinations {
    monitor_account {
      name               = "prometheus"
      monitor_account_id = azurerm_monitor_workspace.this.id
    }
  }

  data_flow {
    streams      = ["Microsoft-PrometheusMetrics"]
    destinations = ["prometheus"]
  }
}

resource "azurerm_monitor_data_collection_rule_association" "rule" {
  name                    = "prometheus"
  target_resource_id      = var.cluster_id
  data_collection_rule_id = azurerm_monitor_data_collection_rule.this.id
}

resource "azurerm_monitor_data_collection_rule_association" "endpoint" {
  # this name means: the endpoint of the target
  name                        = "configurationAccessEndpoint"
  target_resource_id          = var.cluster_id
  data_collection_endpoint_id = azurerm_monitor_data_collection_endpoint.this.id
}

resource "azurerm_monitor_action_group" "this" {
  name                = var.label
  resource_group_name = var.resource_group_name
  short_name          = substr(var.label, 0, 12)
  tags                = var.tags

  dynamic "email_receiver" {
    for_each = toset(var.alert_emails)
    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
}

resource "azurerm_dashboard_grafana" "this" {
  name                              = substr(var.label, 0, 23)
  location                          = var.location
  resource_group_name               = var.resource_group_name
  grafana_major_version             = "11"
  sku                               = "Standard"
  api_key_enabled                   = false
  deterministic_outbound_ip_enabled = true
  zone_redundancy_enabled           = true
  tags                              = var.tags

  identity {
    type = "SystemAssigned"
  }

  azure_monitor_workspace_integrations {
    resource_id = azurerm_monitor_workspace.this.id
  }
}

resource "azurerm_role_assignment" "grafana" {
  for_each = {
    metrics = ["Monitoring Data Reader", azurerm_monitor_workspace.this.id]
    logs    = ["Log Analytics Reader", azurerm_log_analytics_workspace.this.id]
  }

  role_definition_name = each.value[0]
  scope                = each.value[1]
  principal_id         = azurerm_dashboard_grafana.this.identity[0].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "grafana_admins" {
  scope                = azurerm_dashboard_grafana.this.id
  role_definition_name = "Grafana Admin"
  principal_id         = var.grafana_admin_group
  principal_type       = "Group"
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  for_each = var.diagnosed

  name                       = "logs"
  target_resource_id         = each.value
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id

  dynamic "enabled_log" {
    # of the cluster only what says who did what: the rest is loud
    for_each = each.key == "cluster" ? ["kube-audit-admin", "guard"] : []
    content {
      category = enabled_log.value
    }
  }

  dynamic "enabled_log" {
    for_each = each.key == "cluster" ? [] : ["allLogs"]
    content {
      category_group = enabled_log.value
    }
  }
}

resource "azurerm_consumption_budget_resource_group" "this" {
  name              = var.label
  resource_group_id = var.resource_group_id
  amount            = var.monthly_budget
  time_grain        = "Monthly"

  time_period {
    start_date = "${var.budget_start}T00:00:00Z"
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 80
    threshold_type = "Actual"
    contact_emails = var.alert_emails
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 100
    threshold_type = "Forecasted"
    contact_emails = var.alert_emails
  }
}
