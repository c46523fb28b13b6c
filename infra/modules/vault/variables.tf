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

variable "tenant_id" {
  description = "Microsoft Entra tenant."
  type        = string
}

variable "operator_object_id" {
  description = "Who applies this configuration: may make keys and secrets."
  type        = string
}

variable "operator_ip_ranges" {
  description = "Public ranges that may reach the vault."
  type        = list(string)
}

variable "subnet_id" {
  description = "Subnet of the private endpoint."
  type        = string
}

variable "dns_zone_id" {
  description = "Private DNS zone of Key Vault."
  type        = string
}
