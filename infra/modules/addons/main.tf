# What the manifests expect in the cluster: the KubeRay operator with its CRDs, the way in (Application Gateway for
# Containers with its controller), and certificates.

locals {
  alb_namespace       = "azure-alb-system"
  alb_service_account = "alb-controller-sa"
}

resource "helm_release" "kuberay_operator" {
  name             = "kuberay-operator"
  repository       = "https://ray-project.github.io/kuberay-helm/"
  chart            = "kuberay-operator"
  version          = "1.7.0" # the CRDs come with the chart
  namespace        = "kuberay-system"
  create_namespace = true
  atomic           = true
  wait             = true

  values = [yamlencode({
    replicas              = 2
    leaderElectionEnabled = true
    nodeSelector          = { "kubernetes.azure.com/mode" = "system" }
    tolerations           = [{ key = "CriticalAddonsOnly", operator = "Exists" }]
    resources             = { requests = { cpu = "200m", memory = "512Mi" }, limits = { cpu = "1", memory = "512Mi" } }
    podSecurityContext    = { runAsNonRoot = true, seccompProfile = { type = "RuntimeDefault" } }
    securityContext       = { allowPrivilegeEscalation = false, readOnlyRootFilesystem = true, capabilities = { drop = ["ALL"] } }
  })]
}

resource "helm_release" "cert_manager" {
  name             = "cert-manager"
  repository       = "https://charts.jetstack.io"
  chart            = "cert-manager"
  version          = "v1.18.2"
  namespace        = "cert-manager"
  create_namespace = true
  atomic           = true

  values = [yamlencode({
    crds         = { enabled = true, keep = true }
    config       = { enableGatewayAPI = true }
    replicaCount = 2
    nodeSelector = { "kubernetes.azure.com/mode" = "system" }
    tolerations  = [{ key = "CriticalAddonsOnly", operator = "Exists" }]
  })]
}

resource "azurerm_application_load_balancer" "this" {
  name                = var.label
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_application_load_balancer_frontend" "this" {
  name                         = "endpoint"
  application_load_balancer_id = azurerm_application_load_balancer.this.id
  tags                         = var.tags
}

resource "azurerm_application_load_balancer_subnet_association" "this" {
  name                         = "gateway"
  application_load_balancer_id = azurerm_application_load_balancer.this.id
  subnet_id                    = var.gateway_subnet_id
  tags                         = var.tags
}

resource "azurerm_user_assigned_identity" "alb" {
  name                = "${var.label}-alb"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "alb" {
  name                = "kubernetes"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.alb.id
  issuer              = var.issuer_url
  audience            = ["api://AzureADTokenExchange"]
  subject             = "system:serviceaccount:${local.alb_namespace}:${local.alb_service_account}"
}

resource "azurerm_role_assignment" "alb" {
  for_each = {
    nodes   = ["Reader", var.node_resource_group_id]
    gateway = ["AppGw for Containers Configuration Manager", azurerm_application_load_balancer.this.id]
    subnet  = ["Network Contributor", var.gateway_subnet_id]
  }

  role_definition_name = each.value[0]
  scope                = each.value[1]
  principal_id         = azurerm_user_assigned_identity.alb.principal_id
  principal_type       = "ServicePrincipal"
}

resource "helm_release" "alb_controller" {
  name             = "alb-controller"
  repository       = "oci://mcr.microsoft.com/application-lb/charts"
  chart            = "alb-controller"
  version          = "1.7.9"
  namespace        = local.alb_namespace
  create_namespace = true
  atomic           = true

  values = [yamlencode({
    albController = {
      namespace   = local.alb_namespace
      podIdentity = { clientID = azurerm_user_assigned_identity.alb.client_id }
    }
  })]

  depends_on = [azurerm_role_assignment.alb, azurerm_federated_identity_credential.alb]
}
