metadata description = 'The worker: takes batches from the queue, from 0 replicas to as many as the queue asks for.'

import { tagMap } from '../types.bicep'

@description('Region of the app.')
param location string

@description('Name of the app.')
@maxLength(32)
param name string

@description('Tags of the app.')
param tags tagMap

@description('Container Apps environment it runs in.')
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

@description('Queue of the batches.')
param queueName string

@description('Its queue of parts of large files.')
param partsQueueName string

@description('Messages in the queue for each replica.')
param queueLength int

@description('Messages one replica works on at once.')
param slots int

@description('Cores of one replica.')
param cores string

@description('Replicas at most.')
param maxReplicas int

var healthPort = 9090
// The Consumption plan couples them: two GiB for each core.
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
      // Two active revisions would both scale on the one queue.
      activeRevisionsMode: 'Single'
      identitySettings: [{ identity: platformIdentityId, lifecycle: 'None' }]
      registries: [{ server: registryServer, identity: platformIdentityId }]
    }
    template: {
      // Longer than the worker's own drain (SCORER_GRACE_SECONDS, 25), which ends with all
      // messages given back.
      terminationGracePeriodSeconds: 60
      containers: [
        {
          name: 'worker'
          image: image
          resources: { cpu: json(cores), memory: memory[cores] }
          env: settings
          // Without ingress the platform adds none of its own.
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
        // The rule that asks for more replicas wins.
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
                // The account's own domain, right in every cloud: https://ACCOUNT.SUFFIX.
                cloud: 'Private'
                endpointSuffix: replace(split(queueEndpoint, '/')[2], '${storageName}.', '')
                queueLength: string(queueLength)
                // Counts messages being worked on too: a busy replica keeps its reason to exist.
                queueLengthStrategy: 'all'
              }
            }
          }
        ]
      }
    }
  }
}
