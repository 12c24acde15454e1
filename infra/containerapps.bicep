metadata description = 'heart-scorer on Azure Container Apps: an API, a worker that scales on a queue, and all they need.'

// Deployed twice by a first-time user: without imageTag everything but the two apps, then,
// once the images are in the registry, the same command with imageTag. See docs/deploy.md.
targetScope = 'resourceGroup'

import { tagMap } from 'types.bicep'

@description('Region of every resource.')
param location string = resourceGroup().location

@description('Start of every resource name: lower-case letters, digits and hyphens, a letter first.')
@minLength(3)
@maxLength(12)
param namePrefix string = 'heart'

@description('Tag of the images heart-scorer-api and heart-scorer-worker; empty leaves the two apps out.')
@maxLength(128)
param imageTag string = ''

@description('Keys that callers of the API must present, separated by commas, or the word none for an open API.')
@minLength(4)
@secure()
param apiKeys string

@description('Existing registry that holds the images; empty creates one.')
@maxLength(50)
param registryName string = ''

@description('Resource group of the existing registry.')
param registryResourceGroup string = resourceGroup().name

@description('Queue of the batches; its poison queue has the same name with -poison.')
@minLength(3)
@maxLength(56)
param queueName string = 'patient-batches'

@description('Messages one replica of the worker works on at once.')
@minValue(1)
@maxValue(32)
param slots int = 4

@description('Messages in the queue for each replica that the scale rule asks for.')
@minValue(1)
@maxValue(10000)
param queueLength int = slots

@description('Replicas of the worker at most.')
@minValue(1)
@maxValue(1000)
param maxReplicas int = 10

@description('Cores of one replica of the worker; its memory in GiB is twice that.')
@allowed(['0.5', '1.0', '2.0', '4.0'])
param workerCores string = '1.0'

@description('Replicas of the API at least: 0 costs nothing when idle, 1 answers without a cold start.')
@minValue(0)
@maxValue(30)
param apiMinReplicas int = 0

@description('Replicas of the API at most.')
@minValue(1)
@maxValue(300)
param apiMaxReplicas int = 5

@description('Publish the API on the internet; false keeps it inside the environment.')
param externalIngress bool = true

@description('Application (client) id whose Microsoft Entra tokens the API demands before its own keys; empty for none.')
@maxLength(36)
param signInClientId string = ''

@description('Redundancy of the storage account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_RAGRS', 'Standard_GZRS', 'Standard_RAGZRS'])
param storageSku string = 'Standard_LRS'

@description('Score every file that is dropped into the container incoming, by Event Grid.')
param watchIncoming bool = true

@description('Days after which inputs, results and dead letters are deleted.')
@minValue(30)
@maxValue(3650)
param retentionDays int = 30

@description('Gigabytes of logs taken in a day at most; -1 for no limit. Beyond it, log alerts are blind until the next day.')
@minValue(-1)
@maxValue(1000)
param dailyLogLimitGb int = 1

@description('Address that alerts are mailed to; empty shows them in the portal only.')
param alertEmail string = ''

@description('Create Application Insights and hand its address to both apps.')
param applicationInsights bool = false

@description('Object id of the person or group that may submit batches and read results; empty for none.')
@maxLength(36)
param operatorPrincipalId string = ''

@description('What operatorPrincipalId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string = 'User'

@description('Give the worker a custom role on its queue in place of Storage Queue Data Contributor. Whoever deploys must be allowed to write role definitions.')
param narrowWorkerRole bool = false

@description('Run the apps in a virtual network and close the storage account to all others. Cannot be changed later.')
param privateNetwork bool = false

@description('Domain of Azure Storage in this cloud; the names of the private DNS zones end with it.')
param storageDomain string = az.environment().suffixes.storage

@description('Tags of every resource.')
param tags tagMap = {}

var deployApps = !empty(imageTag)
var createRegistry = empty(registryName)
var hasOperator = !empty(operatorPrincipalId)
var unique = uniqueString(resourceGroup().id, namePrefix)
var compactName = '${toLower(replace(namePrefix, '-', ''))}${unique}'
var poisonQueueName = '${queueName}-poison'

// Every name is made here, before the deployment starts, and never taken from a module's output:
// what-if shows only resources whose names and conditions are known at the start.
var names = {
  api: '${namePrefix}-api'
  worker: '${namePrefix}-worker'
  environment: '${namePrefix}-env'
  insights: '${namePrefix}-insights'
  registry: createRegistry ? compactName : registryName
  storage: take(compactName, 24)
  topic: '${namePrefix}-blobs'
}

module identities 'modules/identities.bicep' = {
  params: {
    location: location
    namePrefix: namePrefix
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    location: location
    namePrefix: namePrefix
    tags: tags
    dailyLogLimitGb: dailyLogLimitGb
    insightsName: names.insights
    applicationInsights: applicationInsights
    // Object ids are part of the names of role assignments.
    #disable-next-line what-if-short-circuiting
    publishers: { api: identities.outputs.apiPrincipalId, worker: identities.outputs.workerPrincipalId }
  }
}

module storage 'modules/storage.bicep' = {
  params: {
    location: location
    name: names.storage
    tags: tags
    skuName: storageSku
    queueNames: [queueName, poisonQueueName]
    retentionDays: retentionDays
    closed: privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

module registry 'modules/registry.bicep' = if (createRegistry) {
  params: {
    location: location
    name: names.registry
    tags: tags
  }
}

module registryAccess 'modules/registry-access.bicep' = {
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: names.registry
    // Object ids are part of the names of role assignments.
    #disable-next-line what-if-short-circuiting
    principalId: identities.outputs.platformPrincipalId
  }
  dependsOn: [registry]
}

module topic 'modules/topic.bicep' = if (watchIncoming) {
  params: {
    location: location
    name: names.topic
    tags: tags
    storageName: names.storage
  }
  dependsOn: [storage]
}

module access 'modules/access.bicep' = {
  params: {
    storageName: names.storage
    queueName: queueName
    poisonQueueName: poisonQueueName
    // Object ids are part of the names of role assignments.
    #disable-next-line what-if-short-circuiting
    principals: {
      api: identities.outputs.apiPrincipalId
      worker: identities.outputs.workerPrincipalId
      platform: identities.outputs.platformPrincipalId
      topic: watchIncoming ? topic!.outputs.principalId : ''
      operator: operatorPrincipalId
    }
    hasTopic: watchIncoming
    hasOperator: hasOperator
    operatorPrincipalType: operatorPrincipalType
    narrowWorkerRole: narrowWorkerRole
  }
  dependsOn: [storage]
}

module subscription 'modules/subscription.bicep' = if (watchIncoming) {
  params: {
    topicName: names.topic
    storageName: names.storage
    queueName: queueName
  }
  // Event Grid tries its identity on the queue when the subscription is created.
  dependsOn: [access]
}

module network 'modules/network.bicep' = if (privateNetwork) {
  params: {
    location: location
    namePrefix: namePrefix
    tags: tags
    storageName: names.storage
    storageDomain: storageDomain
  }
  dependsOn: [storage]
}

module environment 'modules/environment.bicep' = {
  params: {
    location: location
    name: names.environment
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    subnetId: privateNetwork ? network!.outputs.appsSubnetId : ''
  }
}

module api 'modules/api.bicep' = if (deployApps) {
  params: {
    location: location
    name: names.api
    tags: tags
    environmentId: environment.outputs.id
    image: '${registryAccess.outputs.loginServer}/heart-scorer-api:${imageTag}'
    registryServer: registryAccess.outputs.loginServer
    identityId: identities.outputs.apiId
    identityClientId: identities.outputs.apiClientId
    platformIdentityId: identities.outputs.platformId
    storageName: names.storage
    queueName: queueName
    apiKeys: apiKeys
    insightsName: applicationInsights ? names.insights : ''
    minReplicas: apiMinReplicas
    maxReplicas: apiMaxReplicas
    external: externalIngress
    signInClientId: signInClientId
  }
  // The roles first: an app that finds them missing starts, but not ready.
  dependsOn: [access]
}

module worker 'modules/worker.bicep' = if (deployApps) {
  params: {
    location: location
    name: names.worker
    tags: tags
    environmentId: environment.outputs.id
    image: '${registryAccess.outputs.loginServer}/heart-scorer-worker:${imageTag}'
    registryServer: registryAccess.outputs.loginServer
    identityId: identities.outputs.workerId
    identityClientId: identities.outputs.workerClientId
    platformIdentityId: identities.outputs.platformId
    storageName: names.storage
    queueName: queueName
    queueLength: queueLength
    slots: slots
    cores: workerCores
    insightsName: applicationInsights ? names.insights : ''
    maxReplicas: maxReplicas
  }
  // A scale rule that cannot read its queue fails without a word and stays at 0 replicas.
  dependsOn: [access]
}

module alerts 'modules/alerts.bicep' = if (deployApps) {
  params: {
    location: location
    namePrefix: namePrefix
    tags: tags
    email: alertEmail
    workspaceId: monitoring.outputs.workspaceId
    poisonQueueName: poisonQueueName
    apiName: names.api
    workerName: names.worker
    workerMaxReplicas: maxReplicas
    topicName: watchIncoming ? names.topic : ''
  }
  dependsOn: [api, worker, topic]
}

@description('Address of the API; empty until it is deployed.')
output apiUrl string = deployApps ? api!.outputs.url : ''

@description('Name of the API\'s container app.')
output apiName string = names.api

@description('Name of the worker\'s container app.')
output workerName string = names.worker

@description('Name of the registry that holds the images.')
output registryName string = names.registry

@description('Host name of the registry.')
output registryServer string = registryAccess.outputs.loginServer

@description('Name of the storage account.')
output storageAccount string = names.storage

@description('Name of the queue of the batches.')
output queueName string = queueName

@description('Id by which az monitor log-analytics query knows the workspace.')
output workspaceId string = monitoring.outputs.workspaceCustomerId
