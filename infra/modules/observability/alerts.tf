# The rules of infra/alerts in Managed Prometheus. In a file of its own: some scanners cannot read the argument `for`.

locals {
  alerts = "${path.module}/../../alerts"

  groups = merge([
    for file in fileset(local.alerts, "*.rules.yaml") : {
      for group in yamldecode(file("${local.alerts}/${file}")).groups : group.name => group
    }
  ]...)

  severities = { critical = 1, warning = 2, info = 3 }
}

resource "azurerm_monitor_alert_prometheus_rule_group" "this" {
  for_each = local.groups

  name                = "${var.label}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  cluster_name        = var.cluster_name
  scopes              = [azurerm_monitor_workspace.this.id, var.cluster_id]
  interval            = "PT1M"
  tags                = var.tags

  dynamic "rule" {
    for_each = each.value.rules
    content {
      alert       = lookup(rule.value, "alert", null)
      record      = lookup(rule.value, "record", null)
      expression  = rule.value.expr
      for         = contains(keys(rule.value), "for") ? "PT${upper(rule.value.for)}" : null
      labels      = lookup(rule.value, "labels", null)
      annotations = lookup(rule.value, "annotations", null)
      severity    = contains(keys(rule.value), "alert") ? lookup(local.severities, lookup(lookup(rule.value, "labels", {}), "severity", "warning"), 2) : null

      dynamic "action" {
        for_each = contains(keys(rule.value), "alert") ? [1] : []
        content {
          action_group_id = azurerm_monitor_action_group.this.id
        }
      }
    }
  }
}
