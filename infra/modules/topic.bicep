metadata description = 'The Event Grid topic of the storage account.'

@description('Region of the storage account.')
param location string

@description('Start of every name.')
param namePrefix string

@description('Tags of the topic.')
param tags object

@description('Name of the storage account whose events it carries.')
param storageName string

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageName
}

// System-assigned: the only kind of identity that delivers through a storage firewall.
resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: '${namePrefix}-blobs'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    source: account.id
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

@description('Name of the topic.')
output name string = topic.name

@description('Object id of the topic\'s identity.')
output principalId string = topic.identity.principalId
