// Production: reached from a private network only, in three zones. See docs/deploy.md.
using 'containerapps.bicep'

param namePrefix = 'heart'

// Read from the shell. The tag is empty the first time.
param imageTag = readEnvironmentVariable('IMAGE_TAG', '')
param operatorPrincipalId = readEnvironmentVariable('OPERATOR_ID', '')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL')

// The keys of the API are in a Key Vault.
param apiKeys = ''
param keyVaultName = readEnvironmentVariable('KEY_VAULT')

// The API can be reached from the network and networks connected to it, not from the internet.
param privateNetwork = true
param apiAccess = 'network'
param addressSpace = '10.100.0.0/22'
// Private addresses only. Add the hospital's own ranges if they are public.
param allowedAddresses = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16']
// Given here so that what-if can show the names of the DNS zones. Other clouds have another domain.
#disable-next-line no-hardcoded-env-urls
param storageDomain = 'core.windows.net'

// One availability zone may fail.
param zoneRedundant = true
param storageSku = 'Standard_ZRS'
param apiMinReplicas = 2

param registrySku = 'Standard'
param narrowWorkerRole = true
param blobAudit = true
param logRetentionDays = 90
param dailyLogLimitGb = 5

param tags = { environment: 'prod', application: 'heart-scorer' }
