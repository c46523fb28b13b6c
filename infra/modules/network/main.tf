# One virtual network. Nodes leave it through one known address, and nothing enters but by the gateway's subnet.
# Azure's services are reached by private endpoints.

locals {
  nodes     = cidrsubnet(var.address_space, 4, 0)  # x.x.0.0/20
  endpoints = cidrsubnet(var.address_space, 8, 16) # x.x.16.0/24
  gateway   = cidrsubnet(var.address_space, 8, 17)
  database  = cidrsubnet(var.address_space, 8, 18)

  dns_zones = {
    vault    = "privatelink.vaultcore.azure.net"
    registry = "privatelink.azurecr.io"
    blob     = "privatelink.blob.core.windows.net"
    dfs      = "privatelink.dfs.core.windows.net"
    database = "${var.label}.private.postgres.database.azure.com"
  }
}

resource "azurerm_virtual_network" "this" {
  name                = var.label
  location            = var.location
  resource_group_name = var.resource_group_name
  address_space       = [var.address_space]
  tags                = var.tags
}

resource "azurerm_subnet" "nodes" {
  name                            = "nodes"
  resource_group_name             = var.resource_group_name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.nodes]
  default_outbound_access_enabled = false
}

resource "azurerm_subnet" "endpoints" {
  name                              = "endpoints"
  resource_group_name               = var.resource_group_name
  virtual_network_name              = azurerm_virtual_network.this.name
  address_prefixes                  = [local.endpoints]
  default_outbound_access_enabled   = false
  private_endpoint_network_policies = "Enabled" # the security group counts for endpoints too
}

resource "azurerm_subnet" "gateway" {
  name                            = "gateway"
  resource_group_name             = var.resource_group_name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.gateway]
  default_outbound_access_enabled = false

  delegation {
    name = "application-gateway-for-containers"
    service_delegation {
      name    = "Microsoft.ServiceNetworking/trafficControllers"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

resource "azurerm_subnet" "database" {
  name                            = "database"
  resource_group_name             = var.resource_group_name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.database]
  default_outbound_access_enabled = false

  delegation {
    name = "postgresql"
    service_delegation {
      name    = "Microsoft.DBforPostgreSQL/flexibleServers"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

# Between the subnets; what pods may say to each other is decided by the NetworkPolicies of kuberay/.
resource "azurerm_network_security_group" "nodes" {
  name                = "${var.label}-nodes"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  security_rule {
    name                       = "gateway-to-endpoint"
    description                = "Requests of clients, on Serve's port."
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = local.gateway
    source_port_range          = "*"
    destination_address_prefix = "*" # pods have addresses of an overlay
    destination_port_range     = "8000"
  }
}

resource "azurerm_network_security_group" "endpoints" {
  name                = "${var.label}-endpoints"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  security_rule {
    name                       = "nodes-to-services"
    description                = "Key Vault, storage and registry, by TLS."
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = local.nodes
    source_port_range          = "*"
    destination_address_prefix = local.endpoints
    destination_port_range     = "443"
  }

  security_rule {
    name                       = "nothing-else"
    description                = "Also not from the rest of the network."
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
}

resource "azurerm_network_security_group" "database" {
  name                = "${var.label}-database"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  security_rule {
    name                       = "nodes-to-postgresql"
    description                = "MLflow and the audit log."
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = local.nodes
    source_port_range          = "*"
    destination_address_prefix = local.database
    destination_port_range     = "5432"
  }

  security_rule {
    name                       = "postgresql-to-itself"
    description                = "A standby follows its primary."
    priority                   = 110
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = local.database
    source_port_range          = "*"
    destination_address_prefix = local.database
    destination_port_ranges    = ["5432", "6432"]
  }

  security_rule {
    name                       = "nothing-else"
    description                = "Also not from the rest of the network."
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
}

resource "azurerm_network_security_group" "gateway" {
  name                = "${var.label}-gateway"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  security_rule {
    name                       = "clients"
    description                = "The endpoint, by TLS."
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = "Internet"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "443"
  }
}

resource "azurerm_subnet_network_security_group_association" "this" {
  for_each = {
    nodes     = [azurerm_subnet.nodes.id, azurerm_network_security_group.nodes.id]
    endpoints = [azurerm_subnet.endpoints.id, azurerm_network_security_group.endpoints.id]
    gateway   = [azurerm_subnet.gateway.id, azurerm_network_security_group.gateway.id]
    database  = [azurerm_subnet.database.id, azurerm_network_security_group.database.id]
  }

  subnet_id                 = each.value[0]
  network_security_group_id = each.value[1]
}

resource "azurerm_public_ip" "outgoing" {
  name                = "${var.label}-outgoing"
  location            = var.location
  resource_group_name = var.resource_group_name
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = slice(var.zones, 0, min(1, length(var.zones)))
  tags                = var.tags
}

resource "azurerm_nat_gateway" "this" {
  name                = var.label
  location            = var.location
  resource_group_name = var.resource_group_name
  sku_name            = "Standard"
  zones               = slice(var.zones, 0, min(1, length(var.zones)))
  tags                = var.tags
}

resource "azurerm_nat_gateway_public_ip_association" "this" {
  nat_gateway_id       = azurerm_nat_gateway.this.id
  public_ip_address_id = azurerm_public_ip.outgoing.id
}

resource "azurerm_subnet_nat_gateway_association" "nodes" {
  subnet_id      = azurerm_subnet.nodes.id
  nat_gateway_id = azurerm_nat_gateway.this.id

  depends_on = [azurerm_nat_gateway_public_ip_association.this]
}

resource "azurerm_private_dns_zone" "this" {
  for_each = local.dns_zones

  name                = each.value
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each = azurerm_private_dns_zone.this

  name                  = var.label
  resource_group_name   = var.resource_group_name
  private_dns_zone_name = each.value.name
  virtual_network_id    = azurerm_virtual_network.this.id
  tags                  = var.tags
}
