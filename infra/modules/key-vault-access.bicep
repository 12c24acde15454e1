metadata description = 'Lets one identity read one secret of a Key Vault.'

@description('Name of the Key Vault.')
param keyVaultName string

@description('Name of the secret.')
param secretName string

@description('Object id of the identity that reads it.')
param principalId string

var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2026-05-15' existing = {
  name: keyVaultName

  resource secret 'secrets' existing = {
    name: secretName
  }
}

resource read 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault::secret
  name: guid(vault::secret.id, principalId, secretsUser)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

@description('URL of the secret without a version, so that the app picks up new versions.')
output secretUrl string = '${vault.properties.vaultUri}secrets/${secretName}'
