metadata description = 'Alerts: poisoned, waiting and lost messages, errors, restarts, failing scale rules and image pulls.'

import { tagMap } from '../types.bicep'

@description('Region of the log alert.')
param location string

@description('Prefix of every resource name.')
param namePrefix string

@description('Tags for every resource.')
param tags tagMap

@description('Email address for alerts; empty for none.')
param email string

@description('Log Analytics workspace that holds the logs.')
param workspaceId string

@description('Name of the batch queue.')
param queueName string

@description('Name of its poison queue.')
param poisonQueueName string

@description('Name of the API\'s app.')
param apiName string

@description('Name of the worker\'s app.')
param workerName string

@description('Maximum number of worker replicas.')
param workerMaxReplicas int

@description('Name of the Event Grid topic; empty without one.')
param topicName string

resource api 'Microsoft.App/containerApps@2026-07-01' existing = {
  name: apiName
}

resource worker 'Microsoft.App/containerApps@2026-07-01' existing = {
  name: workerName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = if (!empty(topicName)) {
  name: topicName
}

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: '${namePrefix}-alerts'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: namePrefix
    emailReceivers: [{ name: 'operator', emailAddress: email, useCommonAlertSchema: true }]
  }
}

// A table does not exist before its first row, and Azure disables a rule whose table is missing.
// A union with an empty table of the same columns always works.
var queueLog = 'union isfuzzy=true (datatable(TimeGenerated:datetime, OperationName:string, StatusCode:string, Uri:string)[]), StorageQueueLogs | where StatusCode startswith "2"'
var systemLog = 'union isfuzzy=true (datatable(TimeGenerated:datetime, ContainerAppName:string, Reason:string, Log:string)[]), ContainerAppSystemLogs | where ContainerAppName in ("${apiName}", "${workerName}")'
var operationLog = 'union isfuzzy=true (datatable(TimeGenerated:datetime, Category:string, Detail:string)[]), _LogOperation'

// No platform metric has the length of one queue: the account's metric counts all its queues, once a
// day. The storage log has each message that is sent or deleted, no matter by whom.
var logAlerts = [
  {
    name: 'message-poisoned'
    title: 'A message was moved to ${poisonQueueName}'
    description: 'A batch failed for good. Its summary says why: heart-scorer poison list.'
    query: '${queueLog} | where OperationName == "PutMessage" and Uri contains "/${poisonQueueName}/messages"'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
  }
  {
    name: 'messages-waiting'
    title: 'Messages wait in ${queueName}, and none was finished for an hour'
    description: 'The worker does not start, cannot reach its storage, or works on one very large file. See its log and the alert scale-rule-failed.'
    query: '${queueLog} | where Uri contains "/${queueName}/messages" | summarize waiting = countif(OperationName == "PutMessage" and TimeGenerated < ago(45m)), finished = countif(OperationName == "DeleteMessage") | where waiting > 0 and finished == 0'
    threshold: 0
    window: 'PT1H'
    frequency: 'PT15M'
  }
  {
    name: 'scale-rule-failed'
    title: 'The scale rule of ${workerName} cannot read its queue'
    description: 'The worker does not scale while this lasts: the rule lacks its identity, its role or its queue.'
    query: '${systemLog} | where Reason == "KEDAScalerFailed"'
    threshold: 3
    window: 'PT15M'
    frequency: 'PT5M'
  }
  {
    name: 'image-pull-failed'
    title: 'An image cannot be pulled'
    description: 'The tag is not in the registry, or the registry cannot be reached or refuses the identity.'
    query: '${systemLog} | where Reason startswith "ImagePull" or Log has_any ("Image Pull Errors", "ImagePullBackOff", "ImagePullFailure", "ErrImagePull", "Failed to pull image")'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
  }
  {
    name: 'log-limit-reached'
    title: 'The daily limit of the log workspace is reached'
    description: 'No log is taken until tomorrow, and the alerts on logs see nothing. Raise dailyLogLimitGb.'
    query: '${operationLog} | where Category =~ "Ingestion" and Detail has "OverQuota"'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT5M'
  }
]

resource logRules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in logAlerts: {
    name: '${namePrefix}-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.title
      description: alert.description
      severity: 2
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: alert.frequency
      windowSize: alert.window
      autoMitigate: false
      muteActionsDuration: 'PT1H'
      // A new workspace does not have the tables yet.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: alert.threshold
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: empty(email) ? [] : [actionGroup.id] }
    }
  }
]

var appMetrics = 'Microsoft.App/containerApps'

var appAlerts = [
  {
    name: 'api-errors'
    description: 'The API answered more than 5 requests with a server error in 15 minutes.'
    scope: api.id
    namespace: appMetrics
    metric: 'Requests'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 5
    window: 'PT15M'
    dimensions: [{ name: 'statusCodeCategory', operator: 'Include', values: ['5xx'] }]
  }
  {
    name: 'api-restarts'
    description: 'A replica of the API restarted more than 3 times.'
    scope: api.id
    namespace: appMetrics
    metric: 'RestartCount'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 3
    window: 'PT15M'
    dimensions: []
  }
  {
    name: 'worker-restarts'
    description: 'A replica of the worker restarted more than 3 times.'
    scope: worker.id
    namespace: appMetrics
    metric: 'RestartCount'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 3
    window: 'PT15M'
    dimensions: []
  }
  {
    name: 'worker-at-maximum'
    description: 'The worker ran at maxReplicas for an hour: the queue may be growing.'
    scope: worker.id
    namespace: appMetrics
    metric: 'Replicas'
    aggregation: 'Minimum'
    operator: 'GreaterThanOrEqual'
    threshold: workerMaxReplicas
    window: 'PT1H'
    dimensions: []
  }
]

var topicAlerts = empty(topicName)
  ? []
  : [
      {
        name: 'event-dead-letters'
        description: 'Event Grid gave up on an event: a file in incoming is not being scored. See the container dead-letters.'
        scope: topic!.id
        namespace: 'Microsoft.EventGrid/systemTopics'
        metric: 'DeadLetteredCount'
        aggregation: 'Total'
        operator: 'GreaterThan'
        threshold: 0
        window: 'PT15M'
        dimensions: []
      }
    ]

resource metricAlerts 'Microsoft.Insights/metricAlerts@2026-01-01' = [
  for alert in concat(appAlerts, topicAlerts): {
    name: '${namePrefix}-${alert.name}'
    location: 'global'
    tags: tags
    properties: {
      description: alert.description
      severity: 2
      enabled: true
      scopes: [alert.scope]
      evaluationFrequency: 'PT5M'
      windowSize: alert.window
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: alert.name
            metricNamespace: alert.namespace
            metricName: alert.metric
            timeAggregation: alert.aggregation
            operator: alert.operator
            threshold: alert.threshold
            dimensions: alert.dimensions
          }
        ]
      }
      actions: empty(email) ? [] : [{ actionGroupId: actionGroup.id }]
    }
  }
]
