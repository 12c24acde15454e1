metadata description = 'The Log Analytics workspace and, on request, Application Insights.'

import { tagMap } from '../types.bicep'

@description('Region of the workspace.')
param location string

@description('Prefix of every resource name.')
param namePrefix string

@description('Tags for every resource.')
param tags tagMap

@description('Existing workspace, by resource id; empty creates one.')
param existingWorkspaceId string

@description('Days for which logs are kept.')
param retentionDays int

@description('Daily limit of log ingestion in GB; -1 for no limit.')
param dailyLogLimitGb int

@description('Name of the Application Insights component.')
param insightsName string

@description('Create Application Insights.')
param applicationInsights bool

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' = if (empty(existingWorkspaceId)) {
  name: '${namePrefix}-logs'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyLogLimitGb }
  }
}

var workspaceId = empty(existingWorkspaceId) ? workspace.id : existingWorkspaceId

resource insights 'Microsoft.Insights/components@2020-02-02' = if (applicationInsights) {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspaceId
    // The environment's agent authenticates by connection string; it cannot use an identity.
    DisableLocalAuth: false
  }
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, namePrefix, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: '${namePrefix}: messages, replicas and errors'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: replace(loadTextContent('../workbook.json'), 'WORKSPACE_ID', workspaceId)
  }
}

@description('Resource id of the workspace.')
output workspaceId string = workspaceId
