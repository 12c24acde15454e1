metadata description = 'The Container Apps environment, its network, and the destinations of its logs and traces.'

import { tagMap } from '../types.bicep'

@description('Region of the environment.')
param location string

@description('Name of the environment.')
param name string

@description('Tags of the environment.')
param tags tagMap

@description('Log Analytics workspace that receives the logs.')
param workspaceId string

@description('Log every HTTP request.')
param httpLogs bool

@description('Application Insights component that receives the traces; empty for none.')
param insightsName string

@description('Subnet of the environment; empty for Azure\'s own network.')
param subnetId string

@description('Whether the environment can be reached from its network only.')
param internal bool

@description('Spread the environment across three availability zones.')
param zoneRedundant bool

resource insights 'Microsoft.Insights/components@2020-02-02' existing = if (!empty(insightsName)) {
  name: insightsName
}

// The agent gives its address to every container as OTEL_EXPORTER_OTLP_ENDPOINT.
var telemetry = empty(insightsName)
  ? {}
  : {
      appInsightsConfiguration: { connectionString: insights!.properties.ConnectionString }
      openTelemetryConfiguration: { tracesConfiguration: { destinations: ['appInsights'] } }
    }

resource environment 'Microsoft.App/managedEnvironments@2026-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    // Through a diagnostic setting, which needs no workspace key.
    appLogsConfiguration: { destination: 'azure-monitor' }
    vnetConfiguration: empty(subnetId) ? null : { infrastructureSubnetId: subnetId, internal: internal }
    workloadProfiles: [{ name: 'Consumption', workloadProfileType: 'Consumption' }]
    zoneRedundant: zoneRedundant
    ...telemetry
  }
}

// Only the categories that are used: all of them fill the daily limit, and then no log alert works.
// The newest version; the stable one of 2016 cannot send to a workspace by category.
#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: environment
  name: 'apps'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'ContainerAppConsoleLogs', enabled: true }
      { category: 'ContainerAppSystemLogs', enabled: true }
      { category: 'ContainerAppHTTPLogs', enabled: httpLogs }
    ]
  }
}

@description('Resource id of the environment.')
output id string = environment.id

@description('Domain of the environment.')
output domain string = environment.properties.defaultDomain

@description('IP address of the environment.')
output address string = environment.properties.staticIp
