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
  description = "Name of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version."
  type        = string
}

variable "zones" {
  description = "Availability zones of the nodes."
  type        = list(string)
}

variable "system_pool" {
  description = "Nodes of Kubernetes' own services."
  type        = object({ vm_size = string, min_count = number, max_count = number })
}

variable "serving_pool" {
  description = "Nodes that answer requests."
  type        = object({ vm_size = string, min_count = number, max_count = number })
}

variable "tuning_pool" {
  description = "Spot nodes that search; none when idle."
  type        = object({ vm_size = string, max_count = number, spot_max_price = number })
}

variable "subnet_id" {
  description = "Subnet of the nodes."
  type        = string
}

variable "operator_ip_ranges" {
  description = "Public ranges that may reach the Kubernetes API; none makes it private."
  type        = list(string)
}

variable "admin_group_id" {
  description = "Microsoft Entra group of administrators."
  type        = string
}

variable "disk_encryption_set_id" {
  description = "Encrypts the disks."
  type        = string
}

variable "registry_id" {
  description = "Registry that nodes pull from."
  type        = string
}

variable "log_workspace_id" {
  description = "Log Analytics workspace."
  type        = string
}
