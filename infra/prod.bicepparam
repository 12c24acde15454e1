// Production: reached from a private network only, in three zones. See docs/deploy.md.
using 'containerapps.bicep'

param namePrefix = 'heart'

// From the shell, so that no key is in this file. The tag is empty the first time.
param apiKeys = readEnvironmentVariable('API_KEYS')
param imageTag = readEnvironmentVariable('IMAGE_TAG', '')
param operatorPrincipalId = readEnvironmentVariable('OPERATOR_ID', '')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL')

param privateNetwork = true
// Written here so that what-if can show the names of the DNS zones. Other clouds have another.
#disable-next-line no-hardcoded-env-urls
param storageDomain = 'core.windows.net'
param externalIngress = false
param storageSku = 'Standard_ZRS'
param apiMinReplicas = 2
param narrowWorkerRole = true

param tags = { environment: 'prod', application: 'heart-scorer' }
