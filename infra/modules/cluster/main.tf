# AKS: workload identities instead of secrets, Microsoft Entra instead of local accounts, network policies by Cilium, and
# three pools. The pool's names and labels are those that kuberay/ selects by.

resource "azurerm_user_assigned_identity" "control_plane" {
  name                = "${var.label}-control-plane"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_user_assigned_identity" "kubelet" {
  name                = "${var.label}-kubelet"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_role_assignment" "control_plane" {
  for_each = {
    network = ["Network Contributor", var.subnet_id]
    kubelet = ["Managed Identity Operator", azurerm_user_assigned_identity.kubelet.id]
    disks   = ["Reader", var.disk_encryption_set_id]
  }

  role_definition_name = each.value[0]
  scope                = each.value[1]
  principal_id         = azurerm_user_assigned_identity.control_plane.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "pull" {
  scope                = var.registry_id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.kubelet.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_kubernetes_cluster" "this" {
  #checkov:skip=CKV_AZURE_115:private unless operator_ip_ranges names who may reach the API
  name                              = var.label
  location                          = var.location
  resource_group_name               = var.resource_group_name
  node_resource_group               = "${var.label}-nodes"
  dns_prefix                        = var.label
  kubernetes_version                = var.kubernetes_version
  sku_tier                          = "Standard" # an SLA for the API
  automatic_upgrade_channel         = "patch"
  node_os_upgrade_channel           = "SecurityPatch"
  private_cluster_enabled           = length(var.operator_ip_ranges) == 0
  role_based_access_control_enabled = true
  local_account_disabled            = true
  run_command_enabled               = false
  oidc_issuer_enabled               = true
  workload_identity_enabled         = true
  azure_policy_enabled              = true
  image_cleaner_enabled             = true
  image_cleaner_interval_hours      = 168
  disk_encryption_set_id            = var.disk_encryption_set_id
  tags                              = var.tags

  default_node_pool {
    name                         = "system"
    vm_size                      = var.system_pool.vm_size
    auto_scaling_enabled         = true
    min_count                    = var.system_pool.min_count
    max_count                    = var.system_pool.max_count
    only_critical_addons_enabled = true
    zones                        = var.zones
    vnet_subnet_id               = var.subnet_id
    os_sku                       = "AzureLinux"
    os_disk_type                 = "Ephemeral"
    host_encryption_enabled      = true
    max_pods                     = 60
    temporary_name_for_rotation  = "systemnext"
    tags                         = var.tags

    upgrade_settings {
      max_surge                     = "33%"
      drain_timeout_in_minutes      = 30
      node_soak_duration_in_minutes = 5
    }
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.control_plane.id]
  }

  kubelet_identity {
    client_id                 = azurerm_user_assigned_identity.kubelet.client_id
    object_id                 = azurerm_user_assigned_identity.kubelet.principal_id
    user_assigned_identity_id = azurerm_user_assigned_identity.kubelet.id
  }

  azure_active_directory_role_based_access_control {
    azure_rbac_enabled     = true
    admin_group_object_ids = [var.admin_group_id]
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_policy      = "cilium"
    network_data_plane  = "cilium"
    load_balancer_sku   = "standard"
    outbound_type       = "userAssignedNATGateway"
    pod_cidr            = "192.168.0.0/16"
    service_cidr        = "172.20.0.0/16"
    dns_service_ip      = "172.20.0.10"
  }

  dynamic "api_server_access_profile" {
    for_each = length(var.operator_ip_ranges) > 0 ? [1] : []
    content {
      authorized_ip_ranges = var.operator_ip_ranges
    }
  }

  key_vault_secrets_provider {
    secret_rotation_enabled  = true
    secret_rotation_interval = "10m"
  }

  auto_scaler_profile {
    balance_similar_node_groups      = true
    expander                         = "least-waste"
    max_graceful_termination_sec     = "900" # a Ray worker drains, a spot trial saves
    scale_down_delay_after_add       = "10m"
    scale_down_unneeded              = "10m"
    scale_down_utilization_threshold = "0.5"
    scan_interval                    = "10s"
    skip_nodes_with_local_storage    = false # every Ray pod has an emptyDir; its spool is adopted or drained
    skip_nodes_with_system_pods      = true
  }

  maintenance_window_auto_upgrade {
    frequency   = "Weekly"
    interval    = 1
    day_of_week = "Sunday"
    start_time  = "01:00"
    utc_offset  = "+00:00"
    duration    = 6
  }

  maintenance_window_node_os {
    frequency   = "Weekly"
    interval    = 1
    day_of_week = "Sunday"
    start_time  = "01:00"
    utc_offset  = "+00:00"
    duration    = 6
  }

  monitor_metrics {
    labels_allowed = "pods=[app.kubernetes.io/part-of,ray.io/cluster,ray.io/node-type]"
  }

  oms_agent {
    log_analytics_workspace_id      = var.log_workspace_id
    msi_auth_for_monitoring_enabled = true
  }

  microsoft_defender {
    log_analytics_workspace_id = var.log_workspace_id
  }

  storage_profile {
    blob_driver_enabled = false
    disk_driver_enabled = true
    file_driver_enabled = false
  }

  lifecycle {
    ignore_changes = [kubernetes_version] # patches come by themselves
  }

  depends_on = [azurerm_role_assignment.control_plane]
}

resource "azurerm_kubernetes_cluster_node_pool" "serving" {
  name                        = "serving"
  kubernetes_cluster_id       = azurerm_kubernetes_cluster.this.id
  vm_size                     = var.serving_pool.vm_size
  auto_scaling_enabled        = true
  min_count                   = var.serving_pool.min_count
  max_count                   = var.serving_pool.max_count
  zones                       = var.zones
  vnet_subnet_id              = var.subnet_id
  os_sku                      = "AzureLinux"
  os_disk_type                = "Ephemeral"
  host_encryption_enabled     = true
  max_pods                    = 60
  node_labels                 = { "attrition/pool" = "serving" }
  temporary_name_for_rotation = "servingnext"
  tags                        = var.tags

  upgrade_settings {
    max_surge                     = "1"
    drain_timeout_in_minutes      = 30
    node_soak_duration_in_minutes = 5
  }
}

resource "azurerm_kubernetes_cluster_node_pool" "tuning" {
  name                    = "tuning"
  kubernetes_cluster_id   = azurerm_kubernetes_cluster.this.id
  vm_size                 = var.tuning_pool.vm_size
  priority                = "Spot"
  eviction_policy         = "Delete"
  spot_max_price          = var.tuning_pool.spot_max_price
  auto_scaling_enabled    = true
  min_count               = 0
  max_count               = var.tuning_pool.max_count
  zones                   = var.zones
  vnet_subnet_id          = var.subnet_id
  os_sku                  = "AzureLinux"
  os_disk_type            = "Ephemeral"
  host_encryption_enabled = true
  max_pods                = 60
  node_labels             = { "attrition/pool" = "tuning", "kubernetes.azure.com/scalesetpriority" = "spot" }
  node_taints             = ["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"]
  tags                    = var.tags
}
