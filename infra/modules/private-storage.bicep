metadata description = 'Private endpoints of the storage account, and the DNS zones that resolve to them.'

import { tagMap } from '../types.bicep'

@description('Region of the endpoints.')
param location string

@description('Prefix of every resource name.')
param namePrefix string

@description('Tags for every resource.')
param tags tagMap

@description('Name of the storage account.')
param storageName string

@description('Domain of Azure Storage in this cloud.')
param storageDomain string

@description('Subnet of the endpoints.')
param subnetId string

@description('Network in which the DNS zones resolve.')
param networkId string

@description('Create the DNS zones and link them to the network.')
param createZones bool

var services = ['blob', 'queue']

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageName
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for service in services: if (createZones) {
    name: 'privatelink.${service}.${storageDomain}'
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (service, i) in services: if (createZones) {
    parent: zones[i]
    name: '${namePrefix}-${service}'
    location: 'global'
    tags: tags
    properties: {
      virtualNetwork: { id: networkId }
      registrationEnabled: false
    }
  }
]

resource endpoints 'Microsoft.Network/privateEndpoints@2026-01-01' = [
  for service in services: {
    name: '${namePrefix}-${service}'
    location: location
    tags: tags
    properties: {
      subnet: { id: subnetId }
      privateLinkServiceConnections: [
        {
          name: service
          properties: { privateLinkServiceId: account.id, groupIds: [service] }
        }
      ]
    }
  }
]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2026-01-01' = [
  for (service, i) in services: if (createZones) {
    parent: endpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [{ name: service, properties: { privateDnsZoneId: zones[i].id } }]
    }
  }
]
