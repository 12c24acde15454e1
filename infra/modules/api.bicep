metadata description = 'The API: scores records while the caller waits, and accepts batches for the worker.'

import { customDomain, tagMap } from '../types.bicep'

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

@description('Resource id of the identity that pulls the image.')
param platformIdentityId string

@description('URL of the blobs.')
param blobEndpoint string

@description('URL of the queues.')
param queueEndpoint string

@description('Name of the batch queue.')
param queueName string

@description('Keys that callers must present, or none. Not used with a Key Vault.')
@secure()
param apiKeys string

@description('Read the keys from a Key Vault.')
param useKeyVault bool

@description('URL of the keys in that Key Vault.')
param apiKeysUrl string

@description('Minimum number of replicas.')
param minReplicas int

@description('Maximum number of replicas.')
param maxReplicas int

@description('Whether the API can be reached from outside the environment.')
param external bool

@description('IP address ranges that may call the API; empty allows all.')
param allowedAddresses string[]

@description('Custom domains.')
param customDomains customDomain[]

@description('URL under which callers reach the API; empty for links without a host.')
param publicUrl string

@description('Application (client) id whose Microsoft Entra tokens are required; empty for none.')
param signInClientId string

var port = 8000

var settings = [
  { name: 'AZURE_CLIENT_ID', value: identityClientId }
  { name: 'SCORER_BLOB_ENDPOINT', value: blobEndpoint }
  { name: 'SCORER_QUEUE_ENDPOINT', value: queueEndpoint }
  { name: 'SCORER_QUEUE', value: queueName }
  { name: 'SCORER_API_KEYS', secretRef: 'api-keys' }
  ...(empty(publicUrl) ? [] : [{ name: 'SCORER_PUBLIC_URL', value: publicUrl }])
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
      activeRevisionsMode: 'Single'
      identitySettings: [{ identity: platformIdentityId, lifecycle: 'None' }]
      ingress: {
        external: external
        targetPort: port
        transport: 'auto'
        allowInsecure: false
        ipSecurityRestrictions: map(range(0, length(allowedAddresses)), i => {
          name: 'allowed-${i}'
          ipAddressRange: allowedAddresses[i]
          action: 'Allow'
        })
        customDomains: customDomains
        traffic: [{ latestRevision: true, weight: 100 }]
      }
      registries: [{ server: registryServer, identity: platformIdentityId }]
      // With a Key Vault, a new version of the secret is used within half an hour; the replicas restart.
      secrets: [
        useKeyVault
          ? { name: 'api-keys', keyVaultUrl: apiKeysUrl, identity: platformIdentityId }
          : { name: 'api-keys', value: apiKeys }
      ]
    }
    template: {
      terminationGracePeriodSeconds: 30
      containers: [
        {
          name: 'api'
          image: image
          resources: { cpu: json('0.5'), memory: '1Gi' }
          env: settings
          probes: [
            {
              // The port opens once the model is loaded and checked. That takes seconds for ONNX; two
              // minutes are allowed, since a scikit-learn model first imports scikit-learn.
              type: 'Startup'
              httpGet: { path: '/livez', port: port }
              periodSeconds: 12
              timeoutSeconds: 5
              failureThreshold: 10
            }
            {
              type: 'Liveness'
              httpGet: { path: '/livez', port: port }
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 3
            }
            {
              type: 'Readiness'
              httpGet: { path: '/readyz', port: port }
              periodSeconds: 5
              timeoutSeconds: 5
              failureThreshold: 3
            }
          ]
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
        rules: [{ name: 'http', http: { metadata: { concurrentRequests: '50' } } }]
      }
    }
  }
}

// The platform checks this before a request reaches the container; probes are not affected.
resource signIn 'Microsoft.App/containerApps/authConfigs@2026-07-01' = if (!empty(signInClientId)) {
  parent: app
  name: 'current'
  properties: {
    platform: { enabled: true }
    globalValidation: { unauthenticatedClientAction: 'Return401' }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: signInClientId
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
        validation: { allowedAudiences: [signInClientId, 'api://${signInClientId}'] }
      }
    }
  }
}

@description('URL of the API.')
output url string = 'https://${app.properties.configuration.ingress.fqdn}'
