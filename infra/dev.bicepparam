// The smallest deployment: on the internet, nothing runs when idle. See docs/deploy.md.
using 'containerapps.bicep'

param namePrefix = 'heart'

// From the shell, so that no key is in this file. The tag is empty the first time.
param apiKeys = readEnvironmentVariable('API_KEYS')
param imageTag = readEnvironmentVariable('IMAGE_TAG', '')
param operatorPrincipalId = readEnvironmentVariable('OPERATOR_ID', '')

param tags = { environment: 'dev', application: 'heart-scorer' }
