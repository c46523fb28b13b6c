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

variable "node_resource_group_id" {
  description = "Resource group of the nodes."
  type        = string
}

variable "issuer_url" {
  description = "Issuer of the service accounts' tokens."
  type        = string
}

variable "gateway_subnet_id" {
  description = "Subnet of the application gateway."
  type        = string
}
