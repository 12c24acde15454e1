metadata description = 'A virtual network: one subnet for the apps, one for private endpoints.'

import { tagMap } from '../types.bicep'

@description('Region of the network.')
param location string

@description('Prefix of every resource name.')
param namePrefix string

@description('Tags for every resource.')
param tags tagMap

@description('Address range of the network, /22 or larger.')
param addressSpace string

// Azure's default rules, and no outbound SSH or RDP.
var rules = [
  {
    name: 'deny-remote-consoles'
    properties: {
      priority: 4000
      direction: 'Outbound'
      access: 'Deny'
      protocol: 'Tcp'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRanges: ['22', '3389']
    }
  }
]

resource appsRules 'Microsoft.Network/networkSecurityGroups@2026-01-01' = {
  name: '${namePrefix}-apps'
  location: location
  tags: tags
  properties: { securityRules: rules }
}

resource endpointsRules 'Microsoft.Network/networkSecurityGroups@2026-01-01' = {
  name: '${namePrefix}-endpoints'
  location: location
  tags: tags
  properties: { securityRules: rules }
}

resource network 'Microsoft.Network/virtualNetworks@2026-01-01' = {
  name: '${namePrefix}-network'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressSpace] }
    subnets: [
      {
        // Ten replicas share one address. The environment cannot move to another subnet later.
        name: 'apps'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 23, 0)
          networkSecurityGroup: { id: appsRules.id }
          delegations: [{ name: 'apps', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 27, 16)
          networkSecurityGroup: { id: endpointsRules.id }
          defaultOutboundAccess: false
        }
      }
    ]
  }

  resource apps 'subnets' existing = {
    name: 'apps'
  }

  resource endpoints 'subnets' existing = {
    name: 'endpoints'
  }
}

@description('Resource id of the network.')
output id string = network.id

@description('Resource id of the subnet for the Container Apps environment.')
output appsSubnetId string = network::apps.id

@description('Resource id of the subnet for private endpoints.')
output endpointsSubnetId string = network::endpoints.id
