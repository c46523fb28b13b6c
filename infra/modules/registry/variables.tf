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
  description = "Name of the registry: unique in the world."
  type        = string
}

variable "operator_ip_ranges" {
  description = "Public ranges that images are pushed from."
  type        = list(string)
}

variable "subnet_id" {
  description = "Subnet of the private endpoint."
  type        = string
}

variable "dns_zone_id" {
  description = "Private DNS zone of the registry."
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

variable "key_client_id" {
  description = "Client id of that identity."
  type        = string
}

variable "zone_redundant" {
  description = "Spread over the zones of the region."
  type        = bool
}
