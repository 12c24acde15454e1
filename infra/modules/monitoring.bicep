metadata description = 'The log workspace and, if wanted, Application Insights.'

import { tagMap } from '../types.bicep'

@description('Region of the workspace.')
param location string

@description('Start of every name.')
param namePrefix string

@description('Tags of every resource.')
param tags tagMap

@description('Gigabytes of logs taken in a day at most; -1 for no limit.')
param dailyLogLimitGb int

@description('Create Application Insights.')
param applicationInsights bool

@description('Name of the Application Insights component.')
param insightsName string

@description('Object ids of the identities that may send telemetry.')
param publishers { api: string, worker: string }

var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' = {
  name: '${namePrefix}-logs'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
    workspaceCapping: { dailyQuotaGb: dailyLogLimitGb }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = if (applicationInsights) {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    // Telemetry is taken from the identities below only: its address alone opens nothing.
    DisableLocalAuth: true
  }
}

resource publisherRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for app in ['api', 'worker']: if (applicationInsights) {
    scope: insights
    name: guid(insights.id, publishers[app], metricsPublisher)
    properties: {
      principalId: publishers[app]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
    }
  }
]

@description('Resource id of the workspace.')
output workspaceId string = workspace.id

@description('Id by which queries name the workspace.')
output workspaceCustomerId string = workspace.properties.customerId
