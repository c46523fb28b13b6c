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

variable "address_space" {
  description = "IPv4 range of the network, a /16."
  type        = string
}

variable "zones" {
  description = "Availability zones of the outgoing address; the first one is taken."
  type        = list(string)
}
