metadata description = 'The worker: scores the batches in the queue; the length of the queue sets the number of replicas.'

import { tagMap } from '../types.bicep'

@description('Region of the app.')
param location string

@description('Name of the app.')
@maxLength(32)
param name string

@description('Tags of the app.')
param tags tagMap

@description('Container Apps environment that the app runs in.')
param environmentId string

@description('Image to run.')
param image string

@description('Host name of the registry that holds the image.')
param registryServer string

@description('Resource id of the identity that the app itself uses.')
param identityId string

@description('Client id of that identity.')
param identityClientId string

@description('Resource id of the identity that pulls the image and reads the queue\'s length.')
param platformIdentityId string

@description('Name of the storage account.')
param storageName string

@description('URL of the blobs.')
param blobEndpoint string

@description('URL of the queues.')
param queueEndpoint string

@description('Name of the batch queue.')
param queueName string

@description('Name of the queue for parts of large files.')
param partsQueueName string

@description('Queue length per replica that the scale rule aims for.')
param queueLength int

@description('Messages that one replica processes at the same time.')
param slots int

@description('CPU cores of one replica.')
param cores string

@description('Maximum number of replicas.')
param maxReplicas int

var healthPort = 9090
// The Consumption plan requires two GiB of memory per core.
var memory = { '0.5': '1Gi', '1.0': '2Gi', '2.0': '4Gi', '4.0': '8Gi' }

var settings = [
  { name: 'AZURE_CLIENT_ID', value: identityClientId }
  { name: 'SCORER_BLOB_ENDPOINT', value: blobEndpoint }
  { name: 'SCORER_QUEUE_ENDPOINT', value: queueEndpoint }
  { name: 'SCORER_QUEUE', value: queueName }
  { name: 'SCORER_SLOTS', value: string(slots) }
]

resource app 'Microsoft.App/containerApps@2026-07-01' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {}, '${platformIdentityId}': {} }
  }
  properties: {
    environmentId: environmentId
    workloadProfileName: 'Consumption'
    configuration: {
      // Two active revisions would both scale on the same queue.
      activeRevisionsMode: 'Single'
      identitySettings: [{ identity: platformIdentityId, lifecycle: 'None' }]
      registries: [{ server: registryServer, identity: platformIdentityId }]
    }
    template: {
      // Longer than SCORER_GRACE_SECONDS (25), after which the worker has released all messages.
      terminationGracePeriodSeconds: 60
      containers: [
        {
          name: 'worker'
          image: image
          resources: { cpu: json(cores), memory: memory[cores] }
          env: settings
          // Without ingress, the platform adds no probes of its own.
          probes: [
            {
              type: 'Startup'
              httpGet: { path: '/livez', port: healthPort }
              periodSeconds: 12
              timeoutSeconds: 5
              failureThreshold: 10
            }
            {
              type: 'Liveness'
              httpGet: { path: '/livez', port: healthPort }
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 6
            }
            {
              // A revision that cannot reach its storage does not replace one that can.
              type: 'Readiness'
              httpGet: { path: '/readyz', port: healthPort }
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 3
            }
          ]
        }
      ]
      scale: {
        minReplicas: 0
        maxReplicas: maxReplicas
        pollingInterval: 15
        cooldownPeriod: 300
        // The rule that requests more replicas wins.
        rules: [
          for queue in [
            { rule: 'batches', name: queueName }
            { rule: 'parts', name: partsQueueName }
          ]: {
            name: queue.rule
            custom: {
              type: 'azure-queue'
              identity: platformIdentityId
              metadata: {
                accountName: storageName
                queueName: queue.name
                // The domain of the account, correct in every cloud: https://ACCOUNT.SUFFIX.
                cloud: 'Private'
                endpointSuffix: replace(split(queueEndpoint, '/')[2], '${storageName}.', '')
                queueLength: string(queueLength)
                // Counts messages in progress, too: a busy replica is not scaled in.
                queueLengthStrategy: 'all'
              }
            }
          }
        ]
      }
    }
  }
}
