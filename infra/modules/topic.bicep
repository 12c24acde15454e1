metadata description = 'The Event Grid topic of the storage account.'

import { tagMap } from '../types.bicep'

@description('Region of the storage account.')
param location string

@description('Name of the topic.')
param name string

@description('Tags of the topic.')
param tags tagMap

@description('Name of the storage account that the events come from.')
param storageName string

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageName
}

// System-assigned: no other kind of identity can deliver through a storage firewall.
resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    source: account.id
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

@description('Object id of the topic\'s identity.')
output principalId string = topic.identity.principalId
