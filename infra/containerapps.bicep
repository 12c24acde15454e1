metadata description = 'heart-scorer on Azure Container Apps: an API, a worker that scales on a queue, and everything they need.'

// The first deployment takes two runs: without imageTag it creates everything but the two apps;
// once the images are in the registry, the same command with imageTag adds them. See docs/deploy.md.
targetScope = 'resourceGroup'

import { customDomain, tagMap } from 'types.bicep'

@description('Region for every resource.')
param location string = resourceGroup().location

@description('Prefix of every resource name: lower-case letters, digits and single hyphens; it starts with a letter and does not end with a hyphen.')
@minLength(3)
@maxLength(12)
param namePrefix string = 'heart'

@description('Tag of the images heart-scorer-api and heart-scorer-worker; if empty, the two apps are not deployed.')
@maxLength(128)
param imageTag string = ''

@description('Keys that callers of the API must present, separated by commas, or the word none for an open API. Leave it empty if you set keyVaultName.')
@secure()
param apiKeys string

@description('Existing Key Vault with role-based access that holds these keys; empty for none.')
@maxLength(24)
param keyVaultName string = ''

@description('Resource group of the Key Vault.')
param keyVaultResourceGroup string = resourceGroup().name

@description('Name of the secret that holds the keys.')
@maxLength(127)
param keyVaultSecretName string = 'heart-scorer-api-keys'

@description('Existing registry that holds the images; empty creates one.')
@maxLength(50)
param registryName string = ''

@description('Resource group of the existing registry.')
param registryResourceGroup string = resourceGroup().name

@description('Whether the existing registry grants permissions per repository (role assignment mode ABAC).')
param registryUsesAbac bool = false

@description('Tier of the registry.')
@allowed(['Basic', 'Standard', 'Premium'])
param registrySku string = 'Basic'

@description('Name of the batch queue. The queues for poison messages and for parts of files have this name with -poison and -parts.')
@minLength(3)
@maxLength(56)
param queueName string = 'patient-batches'

@description('Messages that one worker replica processes at the same time.')
@minValue(1)
@maxValue(32)
param slots int = 4

@description('Queue length per worker replica that the scale rule aims for.')
@minValue(1)
@maxValue(10000)
param queueLength int = slots

@description('Maximum number of worker replicas.')
@minValue(1)
@maxValue(1000)
param maxReplicas int = 10

@description('CPU cores of one worker replica; its memory in GiB is twice that number.')
@allowed(['0.5', '1.0', '2.0', '4.0'])
param workerCores string = '1.0'

@description('Minimum number of API replicas: 0 costs nothing when idle, 1 avoids cold starts.')
@minValue(0)
@maxValue(30)
param apiMinReplicas int = 0

@description('Maximum number of API replicas.')
@minValue(1)
@maxValue(300)
param apiMaxReplicas int = 5

@description('Where the API can be reached from: the internet, the virtual network (and networks connected to it), or the environment only.')
@allowed(['internet', 'network', 'environment'])
param apiAccess string = 'internet'

@description('IP address ranges that may call the API, such as 203.0.113.0/24; empty allows all.')
param allowedAddresses string[] = []

@description('Custom domains of the API. Each deployment replaces the existing ones.')
param customDomains customDomain[] = []

@description('URL under which callers reach the API, including a prefix that a proxy strips; default: the first custom domain.')
param publicUrl string = empty(customDomains) ? '' : 'https://${customDomains[0].name}'

@description('Application (client) id whose Microsoft Entra tokens the API requires in addition to its own keys; empty for none.')
@maxLength(36)
param signInClientId string = ''

@description('Redundancy of the storage account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_RAGRS', 'Standard_GZRS', 'Standard_RAGZRS'])
param storageSku string = 'Standard_LRS'

@description('Score every file that is dropped into the container incoming; Event Grid sends the messages.')
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

@description('Log every read, write and delete of a blob.')
param blobAudit bool = false

@description('Daily limit of log ingestion in GB; -1 for no limit. Once it is reached, log alerts see nothing until the next day.')
@minValue(-1)
@maxValue(1000)
param dailyLogLimitGb int = 1

@description('Email address for alerts; if empty, they appear in the portal only.')
param alertEmail string = ''

@description('Create Application Insights and send it the traces of both apps through the environment\'s OpenTelemetry agent.')
param applicationInsights bool = false

@description('Object id of the person or group that may submit batches and read results; empty for none.')
@maxLength(36)
param operatorPrincipalId string = ''

@description('Type of the principal in operatorPrincipalId.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string = 'User'

@description('Give the worker a custom role on its queue instead of Storage Queue Data Contributor. The deployment then needs permission to create role definitions.')
param narrowWorkerRole bool = false

@description('Run the apps in a virtual network and close the storage account to all other networks. Cannot be changed later.')
param privateNetwork bool = false

@description('Address range of the new virtual network, /22 or larger.')
param addressSpace string = '10.100.0.0/22'

@description('Existing subnet for the environment, delegated to Microsoft.App/environments, by resource id; empty creates a network.')
param existingAppsSubnetId string = ''

@description('Existing subnet for the private endpoints of the storage account, by resource id; empty creates a network.')
param existingEndpointsSubnetId string = ''

@description('Create the private DNS zones of the storage account; false if the network already has them.')
param storageDnsZones bool = true

@description('Existing Container Apps environment, by resource id; empty creates one.')
param existingEnvironmentId string = ''

@description('Spread the environment across three availability zones; requires privateNetwork. Cannot be changed later.')
param zoneRedundant bool = false

@description('Domain of Azure Storage in this cloud; the names of the private DNS zones end with it.')
param storageDomain string = az.environment().suffixes.storage

@description('Tags for every resource.')
param tags tagMap = {}

@description('Resource id of a subnet\'s network: the part before /subnets/.')
func networkOf(subnetId string) string => split(subnetId, '/subnets/')[0]

// Values that do not fit together stop the deployment here, before it creates anything.
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

// Every name is computed here, before the deployment starts, and never read from a module's output:
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
  // Event Grid tests its identity against the queue when it creates the subscription.
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
    // Azure chooses the domain when it creates the environment.
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
  // Assign the roles first: an app without them starts, but does not become ready.
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

@description('URL of the API; empty until it is deployed.')
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

@description('Resource id of the Log Analytics workspace.')
output workspaceId string = monitoring.outputs.workspaceId
