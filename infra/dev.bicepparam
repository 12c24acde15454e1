// The smallest deployment: reachable from the internet, and nothing runs when idle. See docs/deploy.md.
using 'containerapps.bicep'

param namePrefix = 'heart'

// Read from the shell, so that this file holds no key. The tag is empty the first time.
param apiKeys = readEnvironmentVariable('API_KEYS')
param imageTag = readEnvironmentVariable('IMAGE_TAG', '')
param operatorPrincipalId = readEnvironmentVariable('OPERATOR_ID', '')

param tags = { environment: 'dev', application: 'heart-scorer' }
