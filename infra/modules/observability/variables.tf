variable "location" {
  description = "Region."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
}

variable "label" {
  description = "What the names begin with."
  type        = string
}

variable "resource_group_id" {
  description = "Resource group that the budget watches."
  type        = string
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "alert_emails" {
  description = "Addresses of alerts and budget warnings."
  type        = list(string)
}

variable "monthly_budget" {
  description = "Budget per month."
  type        = number
}

variable "budget_start" {
  description = "First of a month, YYYY-MM-01."
  type        = string
}

variable "grafana_admin_group" {
  description = "Microsoft Entra group that administers Grafana."
  type        = string
}

variable "cluster_id" {
  description = "Cluster that metrics are collected from."
  type        = string
}

variable "cluster_name" {
  description = "Its name."
  type        = string
}

variable "diagnosed" {
  description = "Resources whose logs are kept, by name."
  type        = map(string)
}
