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
  description = "Name of the server."
  type        = string
}

variable "sku_name" {
  description = "Size."
  type        = string
}

variable "storage_mb" {
  description = "Storage in MiB; it grows by itself."
  type        = number
}

variable "high_availability" {
  description = "Keep a standby in another zone."
  type        = bool
}

variable "zones" {
  description = "Availability zones."
  type        = list(string)
}

variable "backup_days" {
  description = "Days that backups are kept; any moment of them can be restored."
  type        = number
}

variable "geo_backup" {
  description = "Keep backups in the paired region too."
  type        = bool
}

variable "subnet_id" {
  description = "Delegated subnet."
  type        = string
}

variable "dns_zone_id" {
  description = "Private DNS zone."
  type        = string
}

variable "tenant_id" {
  description = "Microsoft Entra tenant."
  type        = string
}

variable "vault_id" {
  description = "Key Vault that keeps the administrator's password."
  type        = string
}

variable "key_id" {
  description = "Customer-managed key."
  type        = string
}

variable "key_identity_id" {
  description = "Identity that uses the key."
  type        = string
}
