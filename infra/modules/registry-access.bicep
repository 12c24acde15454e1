metadata description = 'Lets one identity pull images from a registry.'

@description('Name of the registry.')
param registryName string

@description('Object id of the identity that pulls.')
param principalId string

@description('Whether the registry grants permissions per repository; the role AcrPull has no effect there.')
param usesAbac bool

var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'
var repositoryReader = 'b93aa761-3e63-49ed-ac28-beffa264f7ac'
var role = usesAbac ? repositoryReader : acrPull

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' existing = {
  name: registryName
}

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: registry
  name: guid(registry.id, principalId, role)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}

@description('Host name of the registry.')
output loginServer string = registry.properties.loginServer
