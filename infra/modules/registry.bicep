metadata description = 'A registry for the two images.'

import { tagMap } from '../types.bicep'

@description('Region of the registry.')
param location string

@description('Name of the registry.')
@minLength(5)
@maxLength(50)
param name string

@description('Tags of the registry.')
param tags tagMap

@description('Tier of the registry.')
param skuName string

@description('Log Analytics workspace that receives the logs.')
param workspaceId string

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' = {
  // checkov:skip=CKV_AZURE_139: az acr build and a developer's docker push need the public endpoint
  // checkov:skip=CKV_AZURE_163: scanning is a setting of Microsoft Defender on the subscription
  // checkov:skip=CKV_AZURE_166: quarantine needs a Premium registry
  name: name
  location: location
  tags: tags
  sku: { name: skuName }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    // The other mode, announced as the future default, does not honour the role AcrPull.
    roleAssignmentMode: 'LegacyRegistryPermissions'
  }
}

// Who pushed an image, and who signed in. On the API version, see storage.bicep.
#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: registry
  name: 'images'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'ContainerRegistryRepositoryEvents', enabled: true }
      { category: 'ContainerRegistryLoginEvents', enabled: true }
    ]
  }
}
