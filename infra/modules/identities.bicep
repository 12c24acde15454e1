metadata description = 'Three identities: one for each app, and one for the platform only.'

import { tagMap } from '../types.bicep'

@description('Region of the identities.')
param location string

@description('Prefix of every resource name.')
param namePrefix string

@description('Tags for every resource.')
param tags tagMap

// User-assigned, so that they exist, and have their roles, before the apps that need them.
resource api 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${namePrefix}-api'
  location: location
  tags: tags
}

resource worker 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${namePrefix}-worker'
  location: location
  tags: tags
}

// Pulls images and reads the length of the queue; the containers cannot use it.
resource platform 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${namePrefix}-platform'
  location: location
  tags: tags
}

@description('Resource id of the API\'s identity.')
output apiId string = api.id

@description('Client id of the API\'s identity.')
output apiClientId string = api.properties.clientId

@description('Object id of the API\'s identity.')
output apiPrincipalId string = api.properties.principalId

@description('Resource id of the worker\'s identity.')
output workerId string = worker.id

@description('Client id of the worker\'s identity.')
output workerClientId string = worker.properties.clientId

@description('Object id of the worker\'s identity.')
output workerPrincipalId string = worker.properties.principalId

@description('Resource id of the platform\'s identity.')
output platformId string = platform.id

@description('Object id of the platform\'s identity.')
output platformPrincipalId string = platform.properties.principalId
