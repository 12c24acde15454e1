metadata description = 'The DNS zone of an internal environment: without it no name leads to the API.'

import { tagMap } from '../types.bicep'

@description('Domain of the environment, made up by Azure.')
param domain string

@description('Address of the environment in its network.')
param address string

@description('Network that the zone is for.')
param networkId string

@description('Name of the link to that network.')
param linkName string

@description('Tags of every resource.')
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
