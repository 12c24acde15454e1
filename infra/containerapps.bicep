metadata description = 'heart-scorer on Azure Container Apps: an API, a worker that scales on a queue, and all they need.'

// Deployed twice by a first-time user: without imageTag everything but the two apps, then,
// once the images are in the registry, the same command with imageTag. See docs/deploy.md.
targetScope = 'resourceGroup'

import { customDomain, tagMap } from 'types.bicep'

@description('Region of every resource.')
param location string = resourceGroup().location

@description('Start of every resource name: lower-case letters, digits and single hyphens, a letter first, no hyphen last.')
@minLength(3)
@maxLength(12)
param namePrefix string = 'heart'

@description('Tag of the images heart-scorer-api and heart-scorer-worker; empty leaves the two apps out.')
@maxLength(128)
param imageTag string = ''

@description('Keys that callers of the API must present, separated by commas, or the word none for an open API. Empty with keyVaultName.')
@secure()
param apiKeys string

@description('Existing Key Vault, with role-based access, that holds those keys; empty for none.')
@maxLength(24)
param keyVaultName string = ''

@description('Resource group of the Key Vault.')
param keyVaultResourceGroup string = resourceGroup().name

@description('Secret of the Key Vault that holds the keys.')
@maxLength(127)
param keyVaultSecretName string = 'heart-scorer-api-keys'

@description('Existing registry that holds the images; empty creates one.')
@maxLength(50)
param registryName string = ''

@description('Resource group of the existing registry.')
param registryResourceGroup string = resourceGroup().name

@description('The existing registry gives out rights by repository (role assignment mode ABAC).')
param registryUsesAbac bool = false

@description('Tier of the registry.')
@allowed(['Basic', 'Standard', 'Premium'])
param registrySku string = 'Basic'

@description('Queue of the batches; those of poison and of parts have the same name with -poison and -parts.')
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

@description('From where the API can be reached: the internet, the virtual network (and what is connected to it), or the environment alone.')
@allowed(['internet', 'network', 'environment'])
param apiAccess string = 'internet'

@description('Address ranges that may call the API, such as 203.0.113.0/24; empty for all.')
param allowedAddresses string[] = []

@description('Custom domains of the API. Each deployment replaces those that it has.')
param customDomains customDomain[] = []

@description('URL under which callers reach the API, with the prefix that a proxy strips; by default the first custom domain.')
param publicUrl string = empty(customDomains) ? '' : 'https://${customDomains[0].name}'

@description('Application (client) id whose Microsoft Entra tokens the API demands before its own keys; empty for none.')
@maxLength(36)
param signInClientId string = ''

@description('Redundancy of the storage account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_RAGRS', 'Standard_GZRS', 'Standard_RAGZRS'])
param storageSku string = 'Standard_LRS'

@description('Score every file that is dropped into the container incoming, by Event Grid.')
param watchIncoming bool = true

@description('Name of the storage account\'s Event Grid topic. An account can have only one: if Microsoft Defender created it, give its name.')
@maxLength(50)
param topicName string = '${namePrefix}-blobs'

@description('Days after which inputs, results and dead letters are deleted.')
@minValue(30)
@maxValue(3650)
param retentionDays int = 30

@description('Existing Log Analytics workspace in the same region, by resource id; empty creates one.')
param existingWorkspaceId string = ''

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Log every HTTP request to the API: method, path, status and address of the caller.')
param httpLogs bool = false

@description('Log every read, write and deletion of a blob.')
param blobAudit bool = false

@description('Gigabytes of logs taken in a day at most; -1 for no limit. Beyond it, log alerts are blind until the next day.')
@minValue(-1)
@maxValue(1000)
param dailyLogLimitGb int = 1

@description('Address that alerts are mailed to; empty shows them in the portal only.')
param alertEmail string = ''

@description('Create Application Insights and send it the traces of both apps, by the environment\'s OpenTelemetry agent.')
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

@description('Address range of the new virtual network, /22 or larger.')
param addressSpace string = '10.100.0.0/22'

@description('Existing subnet for the environment, delegated to Microsoft.App/environments, by resource id; empty creates a network.')
param existingAppsSubnetId string = ''

@description('Existing subnet for the private endpoints of the storage account, by resource id; empty creates a network.')
param existingEndpointsSubnetId string = ''

@description('Create the private DNS zones of the storage account; false where the network has them already.')
param storageDnsZones bool = true

@description('Existing Container Apps environment, by resource id; empty creates one.')
param existingEnvironmentId string = ''

@description('Spread the environment over three zones; needs privateNetwork. Cannot be changed later.')
param zoneRedundant bool = false

@description('Domain of Azure Storage in this cloud; the names of the private DNS zones end with it.')
param storageDomain string = az.environment().suffixes.storage

@description('Tags of every resource.')
param tags tagMap = {}

@description('Resource id of the network of a subnet: what comes before /subnets/.')
func networkOf(subnetId string) string => split(subnetId, '/subnets/')[0]

// The deployment stops here, before it creates anything, where values do not fit together.
var letters = 'abcdefghijklmnopqrstuvwxyz'
var nameCharacters = map(range(0, length(namePrefix)), i => substring(namePrefix, i, 1))
var nameIsValid = contains(letters, first(namePrefix)) && !endsWith(namePrefix, '-') && !contains(namePrefix, '--') && empty(filter(
  nameCharacters,
  c => !contains('${letters}0123456789-', c)
))
var createNetwork = privateNetwork && empty(existingEndpointsSubnetId)
var createEnvironment = empty(existingEnvironmentId)
var faults = filter(
  [
    nameIsValid ? '' : 'namePrefix: lower-case letters, digits and single hyphens only, a letter first, no hyphen last.'
    apiAccess == 'network' && !privateNetwork && createEnvironment
      ? 'apiAccess: network needs privateNetwork or an existing environment.'
      : ''
    zoneRedundant && !privateNetwork ? 'zoneRedundant: needs privateNetwork.' : ''
    createEnvironment && empty(existingAppsSubnetId) != empty(existingEndpointsSubnetId)
      ? 'existingAppsSubnetId and existingEndpointsSubnetId: give both or neither.'
      : ''
    privateNetwork && !createEnvironment && empty(existingEndpointsSubnetId)
      ? 'existingEndpointsSubnetId: an existing environment reaches a private storage account through its own network.'
      : ''
    applicationInsights && !createEnvironment
      ? 'applicationInsights: an existing environment has its own OpenTelemetry agent.'
      : ''
  ],
  fault => !empty(fault)
)
var prefix = empty(faults) ? namePrefix : fail(join(faults, ' '))

var deployApps = !empty(imageTag)
var createRegistry = empty(registryName)
var useKeyVault = !empty(keyVaultName)
var hasOperator = !empty(operatorPrincipalId)
var unique = uniqueString(resourceGroup().id, prefix)
var compactName = '${replace(prefix, '-', '')}${unique}'
var poisonQueueName = '${queueName}-poison'
var partsQueueName = '${queueName}-parts'

// Every name is made here, before the deployment starts, and never taken from a module's output:
// what-if shows only resources whose names and conditions are known at the start.
var names = {
  api: '${prefix}-api'
  worker: '${prefix}-worker'
  environment: '${prefix}-env'
  insights: '${prefix}-insights'
  registry: createRegistry ? compactName : registryName
  storage: take(compactName, 24)
}

module identities 'modules/identities.bicep' = {
  params: {
    location: location
    namePrefix: prefix
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    location: location
    namePrefix: prefix
    tags: tags
    existingWorkspaceId: existingWorkspaceId
    retentionDays: logRetentionDays
    dailyLogLimitGb: dailyLogLimitGb
    insightsName: names.insights
    applicationInsights: applicationInsights
  }
}

module storage 'modules/storage.bicep' = {
  params: {
    location: location
    name: names.storage
    tags: tags
    skuName: storageSku
    queueNames: [queueName, poisonQueueName, partsQueueName]
    retentionDays: retentionDays
    closed: privateNetwork
    blobAudit: blobAudit
    workspaceId: monitoring.outputs.workspaceId
  }
}

module registry 'modules/registry.bicep' = if (createRegistry) {
  params: {
    location: location
    name: names.registry
    tags: tags
    skuName: registrySku
    workspaceId: monitoring.outputs.workspaceId
  }
}

module registryAccess 'modules/registry-access.bicep' = {
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: names.registry
    usesAbac: !createRegistry && registryUsesAbac
    // Object ids are part of the names of role assignments.
    #disable-next-line what-if-short-circuiting
    principalId: identities.outputs.platformPrincipalId
  }
  dependsOn: [registry]
}

module keyVaultAccess 'modules/key-vault-access.bicep' = if (useKeyVault) {
  scope: resourceGroup(keyVaultResourceGroup)
  params: {
    keyVaultName: keyVaultName
    secretName: keyVaultSecretName
    // Object ids are part of the names of role assignments.
    #disable-next-line what-if-short-circuiting
    principalId: identities.outputs.platformPrincipalId
  }
}

module topic 'modules/topic.bicep' = if (watchIncoming) {
  params: {
    location: location
    name: topicName
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
    partsQueueName: partsQueueName
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
    topicName: topicName
    storageName: names.storage
    queueName: queueName
  }
  // Event Grid tries its identity on the queue when the subscription is created.
  dependsOn: [access]
}

module network 'modules/network.bicep' = if (createNetwork) {
  params: {
    location: location
    namePrefix: prefix
    tags: tags
    addressSpace: addressSpace
  }
}

module privateStorage 'modules/private-storage.bicep' = if (privateNetwork) {
  params: {
    location: location
    namePrefix: prefix
    tags: tags
    storageName: names.storage
    storageDomain: storageDomain
    subnetId: createNetwork ? network!.outputs.endpointsSubnetId : existingEndpointsSubnetId
    networkId: createNetwork ? network!.outputs.id : networkOf(existingEndpointsSubnetId)
    createZones: storageDnsZones
  }
  dependsOn: [storage]
}

module environment 'modules/environment.bicep' = if (createEnvironment) {
  params: {
    location: location
    name: names.environment
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    httpLogs: httpLogs
    insightsName: applicationInsights ? names.insights : ''
    subnetId: createNetwork ? network!.outputs.appsSubnetId : existingAppsSubnetId
    internal: apiAccess == 'network'
    zoneRedundant: zoneRedundant
  }
}

module environmentDns 'modules/environment-dns.bicep' = if (createEnvironment && apiAccess == 'network') {
  params: {
    // Azure makes up the domain when it creates the environment.
    #disable-next-line what-if-short-circuiting
    domain: environment!.outputs.domain
    address: environment!.outputs.address
    networkId: createNetwork ? network!.outputs.id : networkOf(existingAppsSubnetId)
    linkName: prefix
    tags: tags
  }
}

module api 'modules/api.bicep' = if (deployApps) {
  params: {
    location: location
    name: names.api
    tags: tags
    environmentId: createEnvironment ? environment!.outputs.id : existingEnvironmentId
    image: '${registryAccess.outputs.loginServer}/heart-scorer-api:${imageTag}'
    registryServer: registryAccess.outputs.loginServer
    identityId: identities.outputs.apiId
    identityClientId: identities.outputs.apiClientId
    platformIdentityId: identities.outputs.platformId
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    queueName: queueName
    apiKeys: useKeyVault || !empty(apiKeys)
      ? apiKeys
      : fail('apiKeys: give the keys of the API, the word none, or a keyVaultName.')
    apiKeysUrl: useKeyVault ? keyVaultAccess!.outputs.secretUrl : ''
    useKeyVault: useKeyVault
    minReplicas: apiMinReplicas
    maxReplicas: apiMaxReplicas
    external: apiAccess != 'environment'
    allowedAddresses: allowedAddresses
    customDomains: customDomains
    publicUrl: publicUrl
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
    environmentId: createEnvironment ? environment!.outputs.id : existingEnvironmentId
    image: '${registryAccess.outputs.loginServer}/heart-scorer-worker:${imageTag}'
    registryServer: registryAccess.outputs.loginServer
    identityId: identities.outputs.workerId
    identityClientId: identities.outputs.workerClientId
    platformIdentityId: identities.outputs.platformId
    storageName: names.storage
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    queueName: queueName
    partsQueueName: partsQueueName
    queueLength: queueLength
    slots: slots
    cores: workerCores
    maxReplicas: maxReplicas
  }
  // A scale rule that cannot read its queue stays at 0 replicas.
  dependsOn: [access]
}

module alerts 'modules/alerts.bicep' = if (deployApps) {
  params: {
    location: location
    namePrefix: prefix
    tags: tags
    email: alertEmail
    workspaceId: monitoring.outputs.workspaceId
    queueName: queueName
    poisonQueueName: poisonQueueName
    apiName: names.api
    workerName: names.worker
    workerMaxReplicas: maxReplicas
    topicName: watchIncoming ? topicName : ''
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

@description('URL of the account\'s blobs.')
output blobEndpoint string = storage.outputs.blobEndpoint

@description('URL of the account\'s queues.')
output queueEndpoint string = storage.outputs.queueEndpoint

@description('Name of the queue of the batches.')
output queueName string = queueName

@description('Resource id of the log workspace.')
output workspaceId string = monitoring.outputs.workspaceId
