metadata description = 'The storage account: queues, containers, and how long blobs are kept.'

import { tagMap } from '../types.bicep'

@description('Region of the account.')
param location string

@description('Name of the account.')
@minLength(3)
@maxLength(24)
param name string

@description('Tags of the account.')
param tags tagMap

@description('Redundancy of the account.')
param skuName string

@description('Queues to create.')
param queueNames string[]

@description('Days after which inputs, results and dead letters are deleted.')
param retentionDays int

@description('Refuse access from all networks except private endpoints and trusted Azure services.')
param closed bool

@description('Log every read, write and delete of a blob.')
param blobAudit bool

@description('Log Analytics workspace that receives the logs.')
param workspaceId string

// incoming: files dropped here are scored; uploads: what the API and the command line upload;
// scores: results; workers: presence of workers, and retries; dead-letters: events that Event Grid
// could not deliver.
var containerNames = ['incoming', 'uploads', 'scores', 'workers', 'dead-letters']

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' = {
  // checkov:skip=CKV_AZURE_35: denied with privateNetwork; otherwise people and apps use the public endpoint, with roles
  // checkov:skip=CKV_AZURE_206: set by the parameter storageSku; results can be computed again
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: skuName }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    // Event Grid delivers to a closed account only as a trusted service.
    networkAcls: { bypass: 'AzureServices', defaultAction: closed ? 'Deny' : 'Allow' }
  }

  resource queueService 'queueServices' = {
    name: 'default'
  }

  resource blobService 'blobServices' = {
    name: 'default'
    properties: {
      deleteRetentionPolicy: { enabled: true, days: 7 }
      containerDeleteRetentionPolicy: { enabled: true, days: 7 }
    }
  }

  // Inputs and results of a batch are kept equally long. A message never expires, so one that waited
  // longer than its file was kept would have nothing to score.
  resource lifecycle 'managementPolicies' = {
    name: 'default'
    properties: {
      policy: {
        rules: [
          {
            name: 'delete-old-blobs'
            type: 'Lifecycle'
            enabled: true
            definition: {
              filters: {
                blobTypes: ['blockBlob', 'appendBlob']
                prefixMatch: ['incoming/', 'uploads/', 'scores/', 'workers/', 'dead-letters/']
              }
              actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: retentionDays } } }
            }
          }
        ]
      }
    }
    dependsOn: [blobService]
  }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' = [
  for queue in queueNames: {
    parent: account::queueService
    name: queue
  }
]

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' = [
  for container in containerNames: {
    parent: account::blobService
    name: container
    properties: { publicAccess: 'None' }
  }
]

// The alerts on messages read these logs: messages sent, and messages deleted when done.
// The newest version; the stable one of 2016 cannot send to a workspace by category.
#disable-next-line use-recent-api-versions
resource queueLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: account::queueService
  name: 'messages'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

#disable-next-line use-recent-api-versions // as above
resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (blobAudit) {
  scope: account::blobService
  name: 'audit'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageRead', enabled: true }
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

@description('URL of the blobs.')
output blobEndpoint string = account.properties.primaryEndpoints.blob

@description('URL of the queues.')
output queueEndpoint string = account.properties.primaryEndpoints.queue
