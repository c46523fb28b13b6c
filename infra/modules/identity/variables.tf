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

variable "namespace" {
  description = "Kubernetes namespace of the service accounts."
  type        = string
}

variable "issuer_url" {
  description = "Issuer of their tokens."
  type        = string
}


variable "containers" {
  description = "Resource ids of its containers, by name."
  type        = map(string)
}

variable "vault_id" {
  description = "Key Vault."
  type        = string
}

variable "cluster_id" {
  description = "Cluster that the pipeline deploys to."
  type        = string
}

variable "registry_id" {
  description = "Registry that the pipeline pushes to."
  type        = string
}

variable "deployer_group_id" {
  description = "Microsoft Entra group that deploys by hand."
  type        = string
}

variable "github_repository" {
  description = "OWNER/NAME whose workflows deploy, or null."
  type        = string
}

variable "environment" {
  description = "Name of the GitHub environment."
  type        = string
}
