variable "subscription_id" {
  description = "Subscription that everything is made in."
  type        = string
}

variable "environment" {
  description = "Name of the environment: part of every resource's name, and of the Kubernetes namespace attrition-ENVIRONMENT."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,10}$", var.environment))
    error_message = "3 to 11 lower-case letters and digits, a letter first: storage accounts take no other names."
  }
}

variable "name" {
  description = "What the names begin with; change it when somebody else in the world has taken the storage account's or the registry's."
  type        = string
  default     = "attrition"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,11}$", var.name))
    error_message = "3 to 12 lower-case letters and digits, a letter first."
  }
}

variable "location" {
  description = "Region, such as westeurope. A second region is this configuration with another location, environment and state: see README.md."
  type        = string
}

variable "address_space" {
  description = "IPv4 range of the virtual network, a /16; the subnets are cut from it. Choose ranges that do not overlap when environments are peered."
  type        = string

  validation {
    condition     = can(cidrhost(var.address_space, 0)) && endswith(var.address_space, "/16")
    error_message = "A /16 in CIDR notation, such as 10.40.0.0/16."
  }
}

variable "operator_ip_ranges" {
  description = "Public IPv4 ranges that may reach the Kubernetes API, the Key Vault and the registry: those of the people and runners who apply this configuration. Empty closes all of them to the internet; apply from inside the network then."
  type        = list(string)
  default     = []
}

variable "admin_group_id" {
  description = "Object id of the Microsoft Entra group that administers the cluster."
  type        = string
}

variable "deployer_group_id" {
  description = "Object id of the Microsoft Entra group that deploys to the namespace; also the owner of the identity that pipelines use."
  type        = string
}

variable "kubelogin_mode" {
  description = "How Helm signs in to the cluster: azurecli on a laptop, workloadidentity or msi on a runner."
  type        = string
  default     = "azurecli"
}

variable "github_repository" {
  description = "OWNER/NAME of the repository whose workflows deploy; null makes no identity for it."
  type        = string
  default     = null
}

variable "host" {
  description = "DNS name of the endpoint, such as attrition.example.com."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes, such as 1.34; patches come by themselves."
  type        = string
  default     = "1.34"
}

variable "zones" {
  description = "Availability zones of the nodes and of the database's standby; empty in regions that have none."
  type        = list(string)
  default     = ["1", "2", "3"]
}

variable "system_pool" {
  description = "Size and number of the nodes of Kubernetes' own services."
  type        = object({ vm_size = string, min_count = number, max_count = number })
  default     = { vm_size = "Standard_D4ds_v5", min_count = 2, max_count = 4 }
}

variable "serving_pool" {
  description = "Size and number of the nodes that answer requests, and that hold Ray's head, Redis and MLflow."
  type        = object({ vm_size = string, min_count = number, max_count = number })
  default     = { vm_size = "Standard_D8ds_v5", min_count = 3, max_count = 10 }
}

variable "tuning_pool" {
  description = "Size and number of the spot nodes that search hyper-parameters; none are kept when nothing is searched."
  type        = object({ vm_size = string, max_count = number, spot_max_price = number })
  default     = { vm_size = "Standard_D8ds_v5", max_count = 8, spot_max_price = -1 }
}

variable "database" {
  description = "Size of the PostgreSQL server of MLflow and of the audit log; high_availability keeps a standby in another zone."
  type        = object({ sku_name = string, storage_mb = number, high_availability = bool, backup_days = number })
  default     = { sku_name = "GP_Standard_D2ds_v5", storage_mb = 65536, high_availability = true, backup_days = 35 }
}

variable "replication" {
  description = "Replication of the storage account: ZRS within the region, GZRS also to its pair. The database's backups follow."
  type        = string
  default     = "GZRS"

  validation {
    condition     = contains(["LRS", "ZRS", "GRS", "GZRS"], var.replication)
    error_message = "LRS, ZRS, GRS or GZRS."
  }
}

variable "audit_retention_days" {
  description = "Days for which nobody can change or delete an exported audit log: 7 years."
  type        = number
  default     = 2557
}

variable "audit_retention_locked" {
  description = "Lock the retention: it can then be prolonged, and never shortened or removed, by nobody, and neither can the storage account be deleted. Cannot be undone."
  type        = bool
  default     = false
}

variable "alert_emails" {
  description = "Addresses that alerts and budget warnings go to."
  type        = list(string)
}

variable "monthly_budget" {
  description = "Budget per month in the subscription's currency; warnings at 80 % spent and 100 % forecast."
  type        = number
}

variable "budget_start" {
  description = "First day of the budget, the first of a month: YYYY-MM-01."
  type        = string
  default     = "2026-01-01"
}

variable "log_retention_days" {
  description = "Days that logs are kept in Log Analytics."
  type        = number
  default     = 90
}

variable "tags" {
  description = "Tags of every resource, besides application and environment."
  type        = map(string)
  default     = {}
}
