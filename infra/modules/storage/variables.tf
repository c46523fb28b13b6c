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

variable "name" {
  description = "Name of the account: unique in the world."
  type        = string
}

variable "replication" {
  description = "LRS, ZRS, GRS or GZRS."
  type        = string
}

variable "audit_retention_days" {
  description = "Days for which exported audit logs cannot be changed."
  type        = number
}

variable "audit_retention_locked" {
  description = "Whether that can no longer be shortened; cannot be undone."
  type        = bool
}

variable "subnet_id" {
  description = "Subnet of the private endpoints."
  type        = string
}

variable "dns_zone_ids" {
  description = "Private DNS zones of blob and dfs."
  type        = map(string)
}

variable "vault_id" {
  description = "Key Vault of the key."
  type        = string
}

variable "key_name" {
  description = "Customer-managed key."
  type        = string
}

variable "key_identity_id" {
  description = "Identity that uses the key."
  type        = string
}
