metadata description = 'What wakes somebody: a poisoned message, errors, restarts, too few replicas, lost events.'

import { tagMap } from '../types.bicep'

@description('Region of the log alert.')
param location string

@description('Start of every name.')
param namePrefix string

@description('Tags of every resource.')
param tags tagMap

@description('Address that alerts are mailed to; empty for none.')
param email string

@description('Log Analytics workspace that holds the queue\'s log.')
param workspaceId string

@description('Queue whose messages are alerted on.')
param poisonQueueName string

@description('Name of the API\'s app.')
param apiName string

@description('Name of the worker\'s app.')
param workerName string

@description('Replicas of the worker at most.')
param workerMaxReplicas int

@description('Name of the Event Grid topic; empty without one.')
param topicName string

resource api 'Microsoft.App/containerApps@2026-01-01' existing = {
  name: apiName
}

resource worker 'Microsoft.App/containerApps@2026-01-01' existing = {
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

// No platform metric knows the length of one queue: the metric of the account counts all its
// queues, once a day. The storage log sees each message that arrives, whoever sends it.
resource poisoned 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = {
  name: '${namePrefix}-message-poisoned'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'A message was moved to ${poisonQueueName}'
    description: 'A batch failed for good. Its summary says why: heart-scorer poison list.'
    severity: 2
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: false
    muteActionsDuration: 'PT1H'
    // A fresh workspace does not know the table yet.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: 'StorageQueueLogs | where OperationName == "PutMessage" and StatusCode startswith "2" and Uri contains "/${poisonQueueName}/messages"'
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: empty(email) ? [] : [actionGroup.id] }
  }
}

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
