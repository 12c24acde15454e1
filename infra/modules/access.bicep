metadata description = 'Who may do what in the storage account: the whole table, on one page.'

@description('Name of the storage account.')
param storageName string

@description('Queue of the batches.')
param queueName string

@description('Its poison queue.')
param poisonQueueName string

@description('Object id of the API\'s identity.')
param apiPrincipalId string

@description('Object id of the worker\'s identity.')
param workerPrincipalId string

@description('Object id of the identity that the scale rule uses.')
param platformPrincipalId string

@description('Object id of the Event Grid topic\'s identity; empty without a topic.')
param topicPrincipalId string

@description('Object id of the person or group that operates the service; empty for none.')
param operatorPrincipalId string

@description('What operatorPrincipalId is.')
param operatorPrincipalType string

@description('Give the worker the custom role below in place of Storage Queue Data Contributor.')
param narrowWorkerRole bool

var roles = {
  blobContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  blobReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  queueReader: '19e7f393-937e-4f77-808e-94535e297925'
  queueSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
}
var queueWorkerRole = guid(resourceGroup().id, storageName, 'queue-worker')

// The worker renews a message's visibility by updating it, which Storage Queue Data Message
// Processor may not do: the next wider built-in role is Contributor.
var workerQueueRole = narrowWorkerRole ? queueWorkerRole : roles.queueContributor

var queueGrants = [
  { to: apiPrincipalId, role: roles.queueSender, queue: queueName }
  { to: workerPrincipalId, role: workerQueueRole, queue: queueName }
  { to: workerPrincipalId, role: roles.queueSender, queue: poisonQueueName }
  { to: platformPrincipalId, role: roles.queueReader, queue: queueName }
]

var containerGrants = [
  { to: apiPrincipalId, role: roles.blobContributor, container: 'uploads' }
  { to: apiPrincipalId, role: roles.blobReader, container: 'scores' }
  { to: workerPrincipalId, role: roles.blobReader, container: 'incoming' }
  { to: workerPrincipalId, role: roles.blobReader, container: 'uploads' }
  { to: workerPrincipalId, role: roles.blobContributor, container: 'scores' }
]

var topicContainerGrants = empty(topicPrincipalId) ? [] : [
  { to: topicPrincipalId, role: roles.blobContributor, container: 'dead-letters' }
]

// Event Grid has refused its identity where it held this role on the queue alone.
var topicAccountGrants = empty(topicPrincipalId) ? [] : [
  { to: topicPrincipalId, type: 'ServicePrincipal', role: roles.queueSender }
]

var operatorAccountGrants = empty(operatorPrincipalId) ? [] : [
  { to: operatorPrincipalId, type: operatorPrincipalType, role: roles.blobContributor }
  { to: operatorPrincipalId, type: operatorPrincipalType, role: roles.queueContributor }
]

var allContainerGrants = concat(containerGrants, topicContainerGrants)
var accountGrants = concat(topicAccountGrants, operatorAccountGrants)

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageName

  resource queueService 'queueServices' existing = {
    name: 'default'
  }

  resource blobService 'blobServices' existing = {
    name: 'default'
  }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' existing = [for grant in queueGrants: {
  parent: account::queueService
  name: grant.queue
}]

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' existing = [for grant in allContainerGrants: {
  parent: account::blobService
  name: grant.container
}]

resource queueWorker 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (narrowWorkerRole) {
  name: queueWorkerRole
  properties: {
    roleName: 'heart-scorer queue worker ${uniqueString(queueWorkerRole)}'
    description: 'Receives, renews and deletes messages, and reads the length of the queue.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: ['Microsoft.Storage/storageAccounts/queueServices/queues/read']
        dataActions: [
          'Microsoft.Storage/storageAccounts/queueServices/queues/messages/read'
          'Microsoft.Storage/storageAccounts/queueServices/queues/messages/write'
          'Microsoft.Storage/storageAccounts/queueServices/queues/messages/process/action'
        ]
      }
    ]
  }
}

resource queueRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (grant, i) in queueGrants: {
  scope: queues[i]
  name: guid(queues[i].id, grant.to, grant.role)
  properties: {
    principalId: grant.to
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
  }
  dependsOn: [queueWorker]
}]

resource containerRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (grant, i) in allContainerGrants: {
  scope: containers[i]
  name: guid(containers[i].id, grant.to, grant.role)
  properties: {
    principalId: grant.to
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
  }
}]

resource accountRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for grant in accountGrants: {
  scope: account
  name: guid(account.id, grant.to, grant.role)
  properties: {
    principalId: grant.to
    principalType: grant.type
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
  }
}]
