metadata description = 'All role assignments in the storage account, in one table.'

import { principalIds } from '../types.bicep'

@description('Name of the storage account.')
param storageName string

@description('Name of the batch queue.')
param queueName string

@description('Name of its poison queue.')
param poisonQueueName string

@description('Name of the queue for parts of large files.')
param partsQueueName string

@description('Object ids of the principals that get the roles.')
param principals principalIds

@description('Whether an Event Grid topic delivers to the queue.')
param hasTopic bool

@description('Whether a person or group operates the service.')
param hasOperator bool

@description('Type of the operator\'s principal.')
param operatorPrincipalType string

@description('Give the worker the custom role below instead of Storage Queue Data Contributor.')
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
// Processor may not do. The next wider built-in role is Contributor.
var workerQueueRole = narrowWorkerRole ? queueWorkerRole : roles.queueContributor

// Principals have names here, not object ids: what-if can only show role assignments whose number
// and scopes are known before the deployment starts.
var queueGrants = [
  { to: 'api', role: roles.queueSender, queue: queueName }
  { to: 'worker', role: workerQueueRole, queue: queueName }
  { to: 'worker', role: roles.queueSender, queue: poisonQueueName }
  // The metrics of the queue include its length.
  { to: 'worker', role: roles.queueReader, queue: poisonQueueName }
  { to: 'worker', role: workerQueueRole, queue: partsQueueName }
  { to: 'worker', role: roles.queueSender, queue: partsQueueName }
  { to: 'platform', role: roles.queueReader, queue: queueName }
  { to: 'platform', role: roles.queueReader, queue: partsQueueName }
]

var appContainerGrants = [
  { to: 'api', role: roles.blobContributor, container: 'uploads' }
  { to: 'api', role: roles.blobContributor, container: 'scores' } // cancels batches
  { to: 'worker', role: roles.blobReader, container: 'incoming' }
  { to: 'worker', role: roles.blobReader, container: 'uploads' }
  { to: 'worker', role: roles.blobContributor, container: 'scores' }
  { to: 'worker', role: roles.blobContributor, container: 'workers' }
]

var topicContainerGrants = hasTopic ? [{ to: 'topic', role: roles.blobContributor, container: 'dead-letters' }] : []

// Event Grid refused its identity when it had this role on the queue only.
var topicAccountGrants = hasTopic ? [{ to: 'topic', type: 'ServicePrincipal', role: roles.queueSender }] : []

var operatorAccountGrants = hasOperator
  ? [
      { to: 'operator', type: operatorPrincipalType, role: roles.blobContributor }
      { to: 'operator', type: operatorPrincipalType, role: roles.queueContributor }
    ]
  : []

var containerGrants = concat(appContainerGrants, topicContainerGrants)
var accountGrants = concat(topicAccountGrants, operatorAccountGrants)

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageName

  resource queueService 'queueServices' existing = {
    name: 'default'
  }

  resource blobService 'blobServices' existing = {
    name: 'default'
  }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' existing = [
  for grant in queueGrants: {
    parent: account::queueService
    name: grant.queue
  }
]

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' existing = [
  for grant in containerGrants: {
    parent: account::blobService
    name: grant.container
  }
]

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

// The names contain the object id, so an identity that was deleted and created again gets a new
// assignment: Azure does not allow the principal of an existing one to change.
resource queueRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in queueGrants: {
    scope: queues[i]
    name: guid(queues[i].id, principals[grant.to], grant.role)
    properties: {
      principalId: principals[grant.to]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
    }
    dependsOn: [queueWorker]
  }
]

resource containerRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in containerGrants: {
    scope: containers[i]
    name: guid(containers[i].id, principals[grant.to], grant.role)
    properties: {
      principalId: principals[grant.to]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
    }
  }
]

resource accountRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in accountGrants: {
    scope: account
    name: guid(account.id, principals[grant.to], grant.role)
    properties: {
      principalId: principals[grant.to]
      principalType: grant.type
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
    }
  }
]
