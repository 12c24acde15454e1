metadata description = 'Types that several modules share.'

@export()
@description('Tags of a resource.')
type tagMap = {
  @description('Value of one tag.')
  *: string
}

@export()
@description('Object ids of all principals that get a role. Azure chooses them when it creates the identities.')
type principalIds = {
  @description('The API\'s identity.')
  api: string

  @description('The worker\'s identity.')
  worker: string

  @description('The identity that pulls images and reads the length of the queue.')
  platform: string

  @description('The Event Grid topic\'s identity; empty without a topic.')
  topic: string

  @description('The person or group that operates the service; empty for none.')
  operator: string
}

@export()
@description('A custom domain of the API.')
type customDomain = {
  @description('Host name, such as scores.example.org.')
  name: string

  @description('Resource id of its certificate in the environment; leave it out until the domain is bound.')
  certificateId: string?

  @description('How the certificate is used.')
  bindingType: 'Auto' | 'Disabled' | 'SniEnabled'
}
