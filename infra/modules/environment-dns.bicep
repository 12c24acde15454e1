metadata description = 'The DNS zone of an internal environment: without it, the name of the API does not resolve.'

import { tagMap } from '../types.bicep'

@description('Domain of the environment, chosen by Azure.')
param domain string

@description('IP address of the environment in its network.')
param address string

@description('Network in which the zone resolves.')
param networkId string

@description('Name of the link to that network.')
param linkName string

@description('Tags for every resource.')
param tags tagMap

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: domain
  location: 'global'
  tags: tags

  resource everyApp 'A' = {
    name: '*'
    properties: {
      ttl: 300
      aRecords: [{ ipv4Address: address }]
    }
  }

  resource link 'virtualNetworkLinks' = {
    name: linkName
    location: 'global'
    tags: tags
    properties: {
      virtualNetwork: { id: networkId }
      registrationEnabled: false
    }
  }
}
