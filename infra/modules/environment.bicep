metadata description = 'The Container Apps environment and where its logs go.'

import { tagMap } from '../types.bicep'

@description('Region of the environment.')
param location string

@description('Name of the environment.')
param name string

@description('Tags of the environment.')
param tags tagMap

@description('Log Analytics workspace that takes the logs.')
param workspaceId string

@description('Subnet of the environment; empty for Azure\'s own network.')
param subnetId string

resource environment 'Microsoft.App/managedEnvironments@2026-01-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    // Through a diagnostic setting, which needs no workspace key.
    appLogsConfiguration: { destination: 'azure-monitor' }
    vnetConfiguration: empty(subnetId) ? null : { infrastructureSubnetId: subnetId, internal: false }
    workloadProfiles: [{ name: 'Consumption', workloadProfileType: 'Consumption' }]
  }
}

// The only version in use: the stable one of 2016 cannot send to a workspace by category.
#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: environment
  name: 'all-logs'
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

@description('Resource id of the environment.')
output id string = environment.id
