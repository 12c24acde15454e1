metadata description = 'The Container Apps environment and where its logs go.'

@description('Region of the environment.')
param location string

@description('Start of every name.')
param namePrefix string

@description('Tags of the environment.')
param tags object

@description('Log Analytics workspace that takes the logs.')
param workspaceId string

@description('Subnet of the environment; empty for Azure\'s own network.')
param subnetId string

resource environment 'Microsoft.App/managedEnvironments@2025-01-01' = {
  name: '${namePrefix}-env'
  location: location
  tags: tags
  properties: {
    // Through a diagnostic setting, which needs no workspace key.
    appLogsConfiguration: { destination: 'azure-monitor' }
    vnetConfiguration: empty(subnetId) ? null : { infrastructureSubnetId: subnetId, internal: false }
    workloadProfiles: [{ name: 'Consumption', workloadProfileType: 'Consumption' }]
  }
}

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
